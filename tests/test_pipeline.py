"""`dvc repro` as a reader meets it: in a fresh copy, twice, and with a stage that fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from anomaly_routing.data.simulate import default_splits
from tests.conftest import ROOT
from tests.test_notebooks import SESSIONS, SMALL

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The files that git has or would take, without real prices, made small."""
    target = tmp_path_factory.mktemp("fresh") / "clone"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, names):
        source = ROOT / name
        if source.exists() and not name.startswith("reports/simulated/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)
    params = yaml.safe_load((target / "params.yaml").read_text())
    params["market"]["splits"] = dict(default_splits(SESSIONS).__dict__)
    for stage, own in SMALL.items():
        params[stage] |= own
    (target / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run(["git", "init", "--quiet"], cwd=target, check=True)
    return target


def repro(clone: Path) -> subprocess.CompletedProcess:
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PATH": tools, "PYTHONPATH": str(clone / "src")}
    return subprocess.run(["dvc", "repro"], cwd=clone, env=env, capture_output=True, text=True)


def reports(clone: Path) -> dict[str, bytes]:
    files = (clone / "reports" / "simulated").rglob("*")
    return {str(p.relative_to(clone)): p.read_bytes() for p in files if p.is_file()}


@pytest.fixture(scope="module")
def first(clone):
    done = repro(clone)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return reports(clone)


def test_a_fresh_copy_without_real_prices_runs(clone, first):
    assert not (clone / "data" / "raw").exists()
    assert {"reports/simulated/metrics.json", "reports/simulated/notebooks/12_scorecard.ipynb"} <= set(first)
    for report in (clone / "reports" / "simulated" / "notebooks").glob("*.ipynb"):
        assert all(o.output_type != "error" for c in nbformat.read(report, 4).cells for o in c.get("outputs", []))


def test_a_second_run_does_nothing_and_says_so(clone, first):
    done = repro(clone)
    assert done.returncode == 0 and "up to date" in done.stdout
    assert done.stdout.count("didn't change, skipping") == len(STAGES)
    assert reports(clone) == first


def test_the_same_data_give_the_same_bytes(clone, first):
    """A stage that is forced to run again writes the same report, so nothing after it has to run."""
    shutil.rmtree(clone / "data")
    shutil.rmtree(clone / ".dvc" / "cache")
    done = repro(clone)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("didn't change, skipping") == len(STAGES) - 2  # all but data and features
    assert reports(clone) == first


def test_a_failed_stage_leaves_the_old_report(clone, first):
    path = clone / "notebooks" / "02_features.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells[-1].source += "\nassert False, 'broken on purpose'"
    nbformat.write(nb, path)
    done = repro(clone)
    assert done.returncode != 0 and "broken on purpose" in done.stdout + done.stderr
    assert "the last report is untouched" in done.stderr
    assert reports(clone) == first
    assert not list((clone / "reports").rglob("*.partial*"))
