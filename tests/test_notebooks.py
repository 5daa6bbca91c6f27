"""Every notebook, run with small parameters; and seen to go red when a function of the package breaks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
import yaml

from anomaly_routing.data.simulate import default_splits
from anomaly_routing.runner import clean, notebook_of, parameters_for
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SESSIONS = 700
SMALL = {
    "audit": {"sessions_tried": [470, 500]},
    "data": {"n_stocks": 16, "n_sessions": SESSIONS},
    "features": {"spread_stocks": 2},
    "baselines": {"seeds": [0], "epochs": 1, "max_rows": 300},
    "deep_baselines": {
        "jobs": [{"method": m, "seeds": [0]} for m in ("dominant", "memstream")],
        "training": {"epochs": 1},
        "toy_epochs": 1,
    },
    "model": {
        "jobs": [{"method": "intended", "seeds": [0]}, {"method": "literal", "seeds": [0]}],
        "training": {"epochs": 2},
    },
    "ablations": {"tiers": ["quick"], "training": {"epochs": 2}},
    "case_studies": {"cases": []},
    "attribution": {
        "plants": {"medium": 2, "strong": 2},
        "twin_plants": 1,
        "fresh_plants": 1,
        "chapter_plants": 1,
        "lesson_seeds": [201, 202],
        "lesson_sessions": SESSIONS,
        "choice_seeds": [101],
        "choice_plants": 1,
        "shrinkages": [2000],
        "variants": [],
        "repair": {
            "designs": [{"name": "printed", "overrides": {}}, {"name": "taught_3", "overrides": {"teach": 3.0}}],
            "trial": {"overrides": {"lstm_hidden": 8}, "training": {"epochs": 1}},
            "design": {"name": "taught_3", "overrides": {"teach": 3.0}},
            "final": {"overrides": {"lstm_hidden": 8}, "training": {"epochs": 1}},
            "seeds": [],
        },
        "detectors": ["l2_norm", "rolling_z"],
        "neural": ["gcn_ae"],
        "steady_plants": 1,
        "shap_plants": 1,
    },
    "value_at_risk": {
        "out_of_sample": "2019-07-01",
        "n_stocks": 2,
        "seeds": [0],
        "lstm": {"first_epochs": 2, "more_epochs": 1, "hidden": 4},
        "replicates": 100,
    },
    "chapter": {
        "stocks": 3,
        "each": 5,
        "draws": 2,
        "epochs": 1,
        "max_rows": 300,
        "methods": [
            "zscore",
            "modified_zscore",
            "iqr",
            "isolation_forest",
            "one_class_svm",
            "lof",
            "dense_autoencoder",
        ],
    },
    "real_time": {"sessions": 30, "epochs": 1},
    "scorecard": {"replicates": 200},
}
BREAKS = {  # stage -> what is broken before the notebook's own imports
    "audit": "import anomaly_routing.audit.counts as m\nm.median_is_possible = lambda printed, k, digits=1: k % 2 == 0",
    "data": "import anomaly_routing.data.prior_graph as m\n"
    "old = m.prior_graph\nm.prior_graph = lambda universe: old(universe) + 1",
    "features": "import anomaly_routing.features.panel as m\n"
    "old = m.compute_features\nm.compute_features = lambda *a: old(*a).copy(data=old(*a).shift(session=-1).to_numpy())",
    "baselines": "import anomaly_routing.detect as m\nold = m.daily_statistic\n"
    "m.daily_statistic = lambda *a, **k: 0 * old(*a, **k)",
    "deep_baselines": "import dataclasses, anomaly_routing.runs as m\nold = m.read_run\ndef backwards(path):\n"
    "    run = old(path)\n    return dataclasses.replace(run, daily=run.daily[::-1].set_axis(run.daily.index))\n"
    "m.read_run = backwards",
    "model": "import anomaly_routing.model.experts as m\nold = m.Gate.temperature\n"
    "m.Gate.temperature = lambda self, psi: 3 * old(self, psi)",
    "ablations": "import anomaly_routing.evaluation.readings as m\nold = m.quantile_cuts\n"
    "m.quantile_cuts = lambda *a, **k: old(*a, **k) - 1",
    "case_studies": "import anomaly_routing.case_network as m\nold = m.scores\nm.scores = lambda *a: 0.9 * old(*a)",
    "attribution": "import dataclasses, anomaly_routing.planting as m\nold = m.plant_and_recompute\n"
    "def backwards(*a):\n    planted = old(*a)\n    return dataclasses.replace(planted, x=planted.x[::-1].copy())\n"
    "m.plant_and_recompute = backwards",
    "value_at_risk": "import anomaly_routing.risk.backtests as m\nold = m.violations\n"
    "m.violations = lambda returns, var: ~old(returns, var)",
    "chapter": "import anomaly_routing.evaluation.classification as m\nold = m.flags_against_labels\n"
    "m.flags_against_labels = lambda a, b: (lambda f: f | {'f1': f['f1'] + 0.1})(old(a, b))",
    "real_time": "import anomaly_routing.realtime.methods as m\nold = m.StreamingZScore.advance\n"
    "def late(self, state, row):\n    now, reading = old(self, state, row)\n"
    "    return now, reading._replace(raw=reading.raw * 1.001)\n"
    "m.StreamingZScore.advance = late",
    "scorecard": "import anomaly_routing.scoreboard as m\nold = m.evaluate_daily\n"
    "m.evaluate_daily = lambda *a, **k: {p: r | {'hits': r['hits'] + 1} for p, r in old(*a, **k).items()}",
}


def stage_of(path: Path) -> str:
    return path.stem.split("_", 1)[1]


def prepare(stage: str, root: Path, target: Path, first_cell: str = "") -> Path:
    """The notebook with small parameters, not run yet (what `papermill --prepare-only` writes)."""
    path = notebook_of(stage, ROOT)
    own = SMALL[stage] | {"splits": dict(default_splits(SESSIONS).__dict__), "root": str(root)}
    declared = papermill.inspect_notebook(str(path))
    values = {k: v for k, v in own.items() if k in declared}
    papermill.execute_notebook(str(path), str(target), values, prepare_only=True, progress_bar=False)
    if first_cell:
        nb = nbformat.read(target, as_version=4)
        nb.cells.insert(0, nbformat.v4.new_code_cell(first_cell))
        nbformat.write(nb, target)
    return target


def nbval(path: Path) -> subprocess.CompletedProcess:
    """Run every cell of a notebook under nbval, in the notebook's folder."""
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=600", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-c", "/dev/null", "-x", path.name], cwd=path.parent, capture_output=True, text=True
    )


@pytest.fixture(scope="session")
def small_market(tmp_path_factory) -> Path:
    """A folder in which all notebooks before the one under test have run."""
    return tmp_path_factory.mktemp("market")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_with_small_parameters(path, small_market, tmp_path):
    assert stage_of(path) in SMALL, "give the new notebook small parameters in SMALL and a fault in BREAKS"
    done = nbval(prepare(stage_of(path), small_market, tmp_path / path.name))
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_goes_red_when_the_package_breaks(path, small_market, tmp_path):
    """Runs after the test above has filled `small_market`, on a copy of it without the stage's own runs."""
    stage, market = stage_of(path), tmp_path / "market"
    if not (small_market / "reports" / "simulated" / "metrics.json").exists():
        pytest.fail("the notebooks have not run (do not deselect test_notebook_runs_with_small_parameters)")
    shutil.copytree(small_market, market)
    shutil.rmtree(market / "reports" / "simulated" / "runs" / stage, ignore_errors=True)
    done = nbval(prepare(stage, market, tmp_path / path.name, first_cell=BREAKS[stage]))
    assert done.returncode == 1, f"{path.name} did not notice:\n{done.stdout[-2000:]}"
    assert "AssertionError" in done.stdout, done.stdout[-2000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_form_of_a_notebook(path):
    """DESIGN 6: the question first, one parameters cell, assertions last, of a size that a reader finishes."""
    nb = nbformat.read(path, as_version=4)
    code = [c for c in nb.cells if c.cell_type == "code"]
    opening, last = nb.cells[0].source, code[-1].source
    assert all(part in opening for part in ("**Question.**", "**You will learn**", "**Paper.**", "**Needs**"))
    assert "**Exercises.**" in "".join(c.source for c in nb.cells if c.cell_type == "markdown")
    assert sum("parameters" in c.metadata.get("tags", []) for c in code) == 1
    assert last.startswith(("assert", "for")) and "assert" in last
    assert len(code) <= 25
    assert not any(c.outputs or c.execution_count for c in code), "stored with outputs: run nbstripout"
    assert "filterwarnings" not in "".join(c.source for c in code)


def _params_files() -> list[Path]:
    return [ROOT / "params.yaml", *sorted((ROOT / "markets").glob("*/params.yaml"))]


@pytest.mark.parametrize("params_file", _params_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_parameter_is_declared_by_its_notebook(params_file):
    """papermill would only warn."""
    params = yaml.safe_load(params_file.read_text())
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(params) == {"params_file", "market", *stages}
    used = {key for stage in stages for key in parameters_for(notebook_of(stage, ROOT), params, stage)}
    assert set(params["market"]) <= used
    assert all(isinstance(v, int | float | str | list | dict) for stage in stages for v in params[stage].values())


def test_an_unknown_parameter_is_refused():
    params = {"market": {"name": "simulated"}, "data": {"n_stoks": 5}}
    with pytest.raises(KeyError, match="has no parameter n_stoks"):
        parameters_for(notebook_of("data", ROOT), params, "data")


def test_the_default_split_is_that_of_the_simulated_market():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert params["market"]["splits"] == default_splits(params["data"]["n_sessions"]).__dict__


# --- committed reports -----------------------------------------------------------------------------------------------
REPORTS = sorted((ROOT / "reports").glob("*/notebooks/*.ipynb"))


@pytest.mark.parametrize("report", REPORTS, ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_a_committed_report_is_that_of_the_present_notebook(report):
    """A stale executed notebook is a lie; so is one with a failed cell, a machine's path or a progress bar in it."""
    ran = nbformat.read(report, as_version=4)
    now = nbformat.read(ROOT / "notebooks" / report.name, as_version=4)
    own = [c.source for c in ran.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    assert own == [c.source for c in now.cells], "run its stage again"
    assert all(name not in json.dumps(ran.metadata) for name in ("papermill", "start_time"))
    for cell in ran.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            text = json.dumps(
                {k: v for k, v in output.items() if k != "data"} | {"t": output.get("data", {}).get("text/html", "")}
            )
            assert "\\r" not in text
            assert not re.search(r"/(home|root|tmp|Users)/", text) and str(ROOT) not in text, text[:500]


def test_cleaning_removes_what_changes_between_runs():
    nb = nbformat.v4.new_notebook()
    nb.metadata["papermill"] = {"start_time": "now"}
    metadata = {"tags": ["injected-parameters"], "execution": {"iopub.status.busy": "now"}}
    cell = nbformat.v4.new_code_cell("x = 1", metadata=metadata)
    bar = nbformat.v4.new_output("stream", name="stderr", text="\r 50%|#####")
    warning = nbformat.v4.new_output("stream", name="stderr", text="UserWarning: look here")
    cell.outputs = [bar, warning]
    nb.cells = [cell]
    cleaned = clean(nb)
    assert "papermill" not in cleaned.metadata and "execution" not in cleaned.cells[0].metadata
    assert cleaned.cells[0].id == "injected-parameters"
    assert [o.text for o in cleaned.cells[0].outputs] == ["UserWarning: look here"]


def test_cleaning_takes_a_tables_indentation_and_nothing_else():
    table = pd.DataFrame({"a b": ["one", "<b>x</b> <i>y</i>"], "c": [1.5, 2.0]})
    html = f"<p>before</p>\n  <p>kept</p>\n{table.to_html(escape=False)}"
    cell = nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("display_data", data={"text/html": html})])
    nb = clean(nbformat.v4.new_notebook(cells=[cell]))
    lean = nb.cells[0].outputs[0].data["text/html"]
    assert len(lean) < 0.75 * len(html) and lean.startswith("<p>before</p>\n  <p>kept</p><table")
    assert "<b>x</b> <i>y</i>" in lean
    cells = re.compile(r"<t[dh](?: [^>]*)?>.*?</t[dh]>", re.DOTALL)
    assert cells.findall(lean) == cells.findall(html) and len(cells.findall(html)) == 9
