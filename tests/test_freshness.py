"""Reports are those of the present inputs; code-only changes are listed, and accepted only on purpose."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest
import yaml

from anomaly_routing import fresh
from anomaly_routing.files import read_json
from anomaly_routing.ledger.registry import decider_of, deciders
from anomaly_routing.ledger.summary import read_ledger
from anomaly_routing.runs import INDEX, RunStore, read_meta
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


@pytest.mark.parametrize("market", _markets())
def test_the_runs_recorded_the_present_parameters_and_data(market):
    """Splits and training settings of the market's parameter file; data of its interim folder, where it is there."""
    file = ROOT / ("params.yaml" if market == "simulated" else f"markets/{market}/params.yaml")
    params = yaml.safe_load(file.read_text())
    metas = [
        read_meta(path)
        for index in sorted((ROOT / "reports" / market / "runs").rglob(INDEX))
        for path in RunStore(index.parent).current()
    ]
    assert metas and len({m["key"]["data_hash"] for m in metas}) == 1
    for meta in metas:
        key = meta["key"]
        assert key["market"] == market
        if "splits" in key["config"]:
            assert key["config"]["splits"] == params["market"]["splits"], key["method"]
        if (key["method"], key["variant"]) == ("intended", "full") and "training" in key["config"]:
            asked = params["model"]["training"]
            assert {k: key["config"]["training"][k] for k in asked} == asked
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
