"""Reports are those of the present inputs; code-only changes are listed, and accepted only on purpose."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import yaml

from anomaly_routing import fresh
from anomaly_routing.baselines.registry import detectors
from anomaly_routing.detect import run_key
from anomaly_routing.features.panel import FEATURES_NUMERICS
from anomaly_routing.files import read_json
from anomaly_routing.ledger.registry import decider_of, deciders
from anomaly_routing.ledger.summary import read_ledger
from anomaly_routing.panel import Splits
from anomaly_routing.risk.lstm import LSTM_NUMERICS, LstmSettings
from anomaly_routing.risk.systems import SYSTEMS_NUMERICS
from anomaly_routing.runs import INDEX, RunKey, RunStore, read_meta
from anomaly_routing.train import expand
from tests.conftest import ROOT


def explained(kind: str) -> list[str]:
    return [f"{d.market} {d.stage}: {d.path}" for d in fresh.differences(ROOT) if d.kind == kind]


def test_every_report_is_the_one_that_its_lock_names():
    assert explained("report") == [], "run these stages again: make reproduce, make us100"


def test_no_parameter_and_no_input_has_moved_since():
    assert explained("inputs") == [], "run these stages again: make reproduce, make us100"


def test_the_committed_ledger_names_the_present_lines():
    """A link of the page leads to the code that computes the claim, not to where it stood when the page was made."""
    known = deciders()
    for market in _markets():
        table = read_ledger(ROOT / "reports" / market / "tables" / "claims.csv")
        now = [decider_of(name, known) for name in table.id]
        moved = [
            d.pattern
            for d, row in zip(now, table.itertuples(), strict=True)
            if (d.file, d.line) != (row.file, row.line)
        ]
        assert not moved, f"run notebook 12 of {market} again: {', '.join(moved[:5])}"


def test_every_accepted_change_has_a_reason():
    table = fresh.accepted(ROOT)
    assert list(table.columns) == list(fresh.COLUMNS)
    assert (table.reason.fillna("").str.len() > 10).all()


def _markets() -> list[str]:
    return [p.name for p in sorted((ROOT / "reports").iterdir()) if (p / "runs").is_dir()]


def _current(market: str, stage: str) -> list[dict]:
    """What the current runs of a stage recorded."""
    return [read_meta(path) for path in RunStore(ROOT / "reports" / market / "runs" / stage).current()]


def asked_for(stage: str, params: dict, metas: list[dict]) -> set[str]:
    """Names of the run files that the parameter file asks for now, from the keys that the stage itself would make.

    What lies in the data alone (their hash, which assets trade) is taken from the runs.
    """
    own, market, data = params[stage], params["market"]["name"], metas[0]["key"]["data_hash"]
    splits = Splits(**params["market"]["splits"])
    if stage in ("model", "deep_baselines"):
        tensors = SimpleNamespace(market=market, splits=splits, data_hash=data, features_numerics=FEATURES_NUMERICS)
        return {job.key(tensors).filename for job in expand(own["jobs"], own["training"])}
    names = set()
    for key in (meta["key"] for meta in metas):
        if stage == "baselines":
            entry = detectors()[key["method"]]
            given = {k: own[k] for k in ("epochs", "max_rows") if k in entry.parameters}
            assert key["seed"] in own["seeds"] and key["variant"] in entry.modes, key["method"]
            names.add(run_key(entry, key["variant"], key["seed"], given, market, data, splits).filename)
        else:
            assert stage == "value_at_risk", f"say here what the runs of {stage} are asked for with"
            settings = {name: own[name] for name in ("p", "threshold_quantile")} | asdict(LstmSettings(**own["lstm"]))
            config = key["config"] | settings | {"splits": asdict(splits)}
            numerics = 100 * LSTM_NUMERICS + SYSTEMS_NUMERICS
            names.add(RunKey(market, key["method"], "causal", key["seed"], config, data, numerics).filename)
    return names


RUNS = [
    (market, index.parent.name)
    for market in _markets()
    for index in sorted((ROOT / "reports" / market / "runs").glob(f"*/{INDEX}"))
]


@pytest.mark.parametrize(("market", "stage"), RUNS)
def test_the_runs_are_those_that_the_parameters_ask_for(market, stage):
    """Every current run of every stage has the key that the present parameters and code give it."""
    file = ROOT / ("params.yaml" if market == "simulated" else f"markets/{market}/params.yaml")
    params, metas = yaml.safe_load(file.read_text()), _current(market, stage)
    assert metas
    found = {path.name for path in RunStore(ROOT / "reports" / market / "runs" / stage).current()}
    assert found == asked_for(stage, params, metas), "run the stage again"


def test_another_parameter_asks_for_other_runs():
    """The same check sees a changed epoch limit, seed, split or quantile."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage, change in {
        "model": {"training": {"epochs": 7}},
        "deep_baselines": {"training": {"epochs": 7}},
        "baselines": {"epochs": 21},
        "value_at_risk": {"threshold_quantile": 0.8},
    }.items():
        metas = _current("simulated", stage)
        now = asked_for(stage, params, metas)
        assert asked_for(stage, params | {stage: params[stage] | change}, metas) != now, stage
        moved = params["market"] | {"splits": params["market"]["splits"] | {"val_end": "2021-12-30"}}
        assert not asked_for(stage, params | {"market": moved}, metas) & now, stage


@pytest.mark.parametrize("market", _markets())
def test_the_runs_are_of_one_market_and_its_data(market):
    """Data of the market's interim folder, where it is there; every tier that the stage asks for."""
    metas = [meta for own, stage in RUNS if own == market for meta in _current(market, stage)]
    assert metas and len({m["key"]["data_hash"] for m in metas}) == 1
    assert {m["key"]["market"] for m in metas} == {market}
    data = ROOT / "data" / "interim" / market / "market" / "data.json"
    if data.exists():
        assert read_json(data)["sha256"] in {m["key"]["data_hash"] for m in metas}


# --- the command, on a small pipeline of its own -----------------------------------------------------
@pytest.fixture
def house(tmp_path):
    """One stage with a code file, a folder, an input, a parameter and a report, as DVC itself locks it."""
    stage = """
stages:
  own:
    cmd: mkdir -p reports && cp src/a.py reports/out
    deps: [src/a.py, src/pack, paper/p.txt]
    params: [own]
    outs:
    - reports/out: {cache: false}
"""
    files = {"src/a.py": "x = 1\n", "src/pack/b.py": "y = 2\n", "src/pack/deep/c.py": "z = 3\n", "paper/p.txt": "p\n"}
    files |= {"params.yaml": "params_file: params.yaml\nown: {k: 1}\n", "dvc.yaml": stage}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "notebooks").mkdir()
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "repro", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def kinds(root) -> list[tuple[str, str]]:
    return [(d.kind, d.path) for d in fresh.differences(root)]


def test_digests_are_dvcs_own(house):
    assert kinds(house) == []
    lock = yaml.safe_load((house / "dvc.lock").read_text())["stages"]["own"]
    locked = {entry["path"]: entry["md5"] for entry in lock["deps"]}
    assert locked == {path: fresh.digest(house / path) for path in ("paper/p.txt", "src/a.py", "src/pack")}


def test_each_kind_of_difference_is_seen(house):
    (house / "src/pack/deep/c.py").write_text("z = 4\n")
    assert kinds(house) == [("code", "src/pack")] and [d.path for d in fresh.code_only(house)] == ["src/pack"]
    (house / "paper/p.txt").write_text("q\n")
    (house / "params.yaml").write_text("params_file: params.yaml\nown: {k: 2}\n")
    (house / "reports/out").write_text("by hand\n")
    assert {kind for kind, _ in kinds(house)} == {"code", "inputs", "report"}
    assert ("inputs", "params.yaml: own") in kinds(house) and ("report", "reports/out") in kinds(house)
    with pytest.raises(ValueError, match="not code alone"):
        fresh.accept(house, "simulated", "own", "a comment")


def test_a_pipeline_that_is_not_the_locks_is_seen(house):
    """Names of stages, commands and dependencies, each way round; `${...}` is filled as DVC fills it."""
    text = (house / "dvc.yaml").read_text()

    def after(old: str, new: str) -> list[tuple[str, str]]:
        assert old in text
        (house / "dvc.yaml").write_text(text.replace(old, new))
        return kinds(house)

    assert after("paper/p.txt]", "paper/p.txt, paper/q.txt]") == [("inputs", "paper/q.txt")]
    assert after(", paper/p.txt]", "]") == [("inputs", "paper/p.txt")]
    assert after("cp src/a.py", "cp -f src/a.py") == [("inputs", "dvc.yaml: cmd")]
    assert after("cp src/a.py", "cp src/${own.k}.py") == [("inputs", "dvc.yaml: cmd")]
    assert fresh.pipeline(house / "dvc.yaml")["own"]["cmd"].endswith("cp src/1.py reports/out")
    both = [("inputs", "dvc.yaml: stage not in the lock"), ("inputs", "dvc.yaml: stage not in the dvc.yaml")]
    assert after("  own:\n", "  other:\n") == both
    with pytest.raises(ValueError, match="not code alone"):
        fresh.accept(house, "simulated", "own", "a comment")


def test_accepting_needs_a_reason_and_lasts_until_the_next_edit(house):
    with pytest.raises(ValueError, match="no code change"):
        fresh.accept(house, "simulated", "own", "nothing happened")
    (house / "src/a.py").write_text("x = 1  # said\n")
    with pytest.raises(ValueError, match="say why"):
        fresh.accept(house, "simulated", "own", "  ")
    fresh.accept(house, "simulated", "own", "a comment only", commit=False)
    assert fresh.code_only(house) == [] and kinds(house) == [("code", "src/a.py")]
    assert fresh.accepted(house).reason.tolist() == ["a comment only"]
    (house / "src/a.py").write_text("x = 2\n")
    assert [d.path for d in fresh.code_only(house)] == ["src/a.py"]


def test_what_git_does_not_keep_may_be_absent(house):
    lock = yaml.safe_load((house / "dvc.lock").read_text())
    lock["stages"]["own"]["deps"].append({"path": "data/interim/x", "hash": "md5", "md5": "0" * 32})
    (house / "dvc.yaml").write_text(
        (house / "dvc.yaml").read_text().replace("paper/p.txt]", "paper/p.txt, data/interim/x]")
    )
    (house / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert kinds(house) == []
    (house / "data/interim").mkdir(parents=True)
    (house / "data/interim/x").write_text("here")
    assert kinds(house) == [("inputs", "data/interim/x")]
    assert json.dumps(fresh.digest(house / "data/interim/x")) == json.dumps(hashlib.md5(b"here").hexdigest())
