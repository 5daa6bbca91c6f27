"""The sweep: order, skipping, killed workers and machines, budget, Dask, shards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from anomaly_routing import sweep
from anomaly_routing.runs import RunStore, read_run
from anomaly_routing.sweep import NO_TIME, Plan, Task, lacking, merge, tasks, work
from anomaly_routing.tensors import Tensors
from anomaly_routing.variants import read_catalogue
from tests.conftest import ROOT
from tests.model.small_networks import SMALL, small_tensors

NAMES = ["full", "no_mpi", "no_moe", "fast_scalars"]


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    """A folder with a tiny market and a catalogue of three trainings."""
    folder = tmp_path_factory.mktemp("market")
    small_tensors().save(folder / "tensors.npz")
    content = yaml.safe_load((ROOT / "variants.yaml").read_text())
    content["variants"] = {name: content["variants"][name] for name in NAMES}
    content["tables"] = {"table2": {"T2.full": "full", "T2.no_mpi": "no_mpi", "T2.no_moe": "no_moe"}}
    content["tiers"] = {"tiny": {"model": SMALL, "training": {"epochs": 3}}}
    (folder / "variants.yaml").write_text(yaml.safe_dump(content))
    return folder


def plan(market: Path, out: Path, **changes) -> Plan:
    files = market / "tensors.npz", market / "variants.yaml", out, out / "unfinished"
    return Plan(*files, "tiny", "cpu", **changes)


def command(market: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--market", "m", "--tensors", str(market / "tensors.npz"), "--tier", "tiny", "--device", "cpu"),
        *("--variants-file", str(market / "variants.yaml"), "--out", str(out), *more),
    ]


def content(out: Path) -> dict[str, bytes]:
    """File name -> the scores of the run: what two stores with the same runs have in common."""
    return {path.name: read_run(path).daily.to_numpy().tobytes() for path in sorted(out.glob("*.npz"))}


@pytest.fixture(scope="module")
def undisturbed(market, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    sweep.main(command(market, out, "--seeds", "2"))
    return out


# --- what is run -----------------------------------------------------------------------------------------------------
def test_first_seeds_come_first_and_shared_runs_once(market):
    found = tasks(read_catalogue(market / "variants.yaml"), NAMES, 2)
    assert found == [Task(n, seed) for seed in (0, 1) for n in ("full", "no_moe", "fast_scalars")]


def test_an_unknown_variant_is_refused(market):
    with pytest.raises(ValueError, match=r"no variant no_mo; there are: full, no_mpi"):
        tasks(read_catalogue(market / "variants.yaml"), ["no_mo"], 1)


def test_what_is_stored_is_skipped(market, undisturbed, capsys):
    catalogue, tensors = read_catalogue(market / "variants.yaml"), Tensors.load(market / "tensors.npz")
    plan_of_two = tasks(catalogue, NAMES, 3)
    left = lacking(plan_of_two, catalogue, tensors, "tiny", [RunStore(undisturbed)])
    assert left == [Task(n, 2) for n in ("full", "no_moe", "fast_scalars")]
    before = {p: p.stat().st_mtime_ns for p in undisturbed.glob("*.npz")}
    sweep.main(command(market, undisturbed, "--seeds", "2"))
    assert "0 trainings to do" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in undisturbed.glob("*.npz")} == before


def test_a_variant_trains_what_it_says(undisturbed):
    runs = {p.name.split("--")[1]: read_run(p) for p in undisturbed.glob("*seed0*.npz")}
    assert set(runs) == {"full", "no_moe", "fast_scalars"}
    assert "w4" in runs["full"].daily and "w2" not in runs["no_moe"].daily
    assert not np.allclose(runs["full"].daily["mean"], runs["fast_scalars"].daily["mean"])


# --- faults ----------------------------------------------------------------------------------------------------------
def test_killed_at_random_and_started_again_it_ends_as_undisturbed(market, undisturbed, tmp_path):
    """The whole process group: sweep and workers, as when the machine goes down."""
    rng, kills = random.Random(0), 0
    start = [
        sys.executable,
        "-m",
        "anomaly_routing.sweep",
        *command(market, tmp_path, "--seeds", "2", "--workers", "2"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for _ in range(3):
        going = subprocess.Popen(start, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(4, 9))
        if going.poll() is None:
            os.killpg(going.pid, signal.SIGKILL)
            kills += 1
        going.wait()
    assert kills
    assert subprocess.run(start, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL).returncode == 0
    assert content(tmp_path) == content(undisturbed)
    assert not list((tmp_path / "unfinished").glob("*")) and not list(tmp_path.glob(".*"))


def test_a_worker_that_dies_costs_nobody_a_finished_run(market, undisturbed, tmp_path, monkeypatch):
    (tmp_path / "die").touch()
    monkeypatch.setenv("SWEEP_TEST_DIE", str(tmp_path / "die"))
    monkeypatch.setattr(sweep, "work", dies_once)
    pending = tasks(read_catalogue(market / "variants.yaml"), NAMES, 2)
    out = tmp_path / "out"
    assert sweep.run(plan(market, out), pending, workers=2) == {}
    assert content(out) == content(undisturbed) and not (tmp_path / "die").exists()


def dies_once(task, plan, seconds=0.0):
    flag = Path(os.environ["SWEEP_TEST_DIE"])
    if task == Task("no_moe", 0) and flag.exists():
        flag.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return work(task, plan, seconds)


def test_workers_that_always_die_end_the_sweep(market, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "work", dies)
    with pytest.raises(RuntimeError, match=r"died 3 times without finishing a run.*fewer --workers"):
        sweep.run(plan(market, tmp_path), [Task("full", 0)], workers=2)


def dies(task, plan, seconds=0.0):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_full_disk_stops_the_sweep_and_nothing_is_torn(market, tmp_path, monkeypatch):
    monkeypatch.setattr(RunStore, "save", no_space)
    with pytest.raises(OSError, match=r"No space left.*free some space"):
        sweep.run(plan(market, tmp_path), [Task("full", 0), Task("no_moe", 0)], workers=1)
    assert not list(tmp_path.glob("*.npz"))


def no_space(self, key, run):
    raise OSError(28, "No space left on device")


def test_a_training_that_fails_is_named_and_the_others_run(market, tmp_path, capsys):
    content = yaml.safe_load((market / "variants.yaml").read_text())
    content["variants"]["too_long"] = {"model": {"window": 900}}
    (market / "with_fault.yaml").write_text(yaml.safe_dump(content))
    order = command(market, tmp_path, "--variants", "too_long", "full")
    order[order.index("--variants-file") + 1] = str(market / "with_fault.yaml")
    with pytest.raises(SystemExit) as stopped:
        sweep.main(order)
    assert stopped.value.code == 1 and "too_long, seed 0" in capsys.readouterr().err
    assert len(list(tmp_path.glob("*.npz"))) == 1


def test_no_training_starts_that_would_not_end_in_time(market, tmp_path):
    late = plan(market, tmp_path, deadline=time.time() + 50)
    assert work(Task("full", 0), late, seconds=60)[1] == NO_TIME
    assert not list(tmp_path.glob("*.npz"))


# --- a cluster, shards -----------------------------------------------------------------------------------------------
def test_two_dask_workers_give_the_same_runs(market, undisturbed, tmp_path):
    pending = tasks(read_catalogue(market / "variants.yaml"), NAMES, 2)
    assert sweep.run(plan(market, tmp_path), pending, workers=2, backend="dask") == {}
    assert content(tmp_path) == content(undisturbed)


def test_shards_are_merged_once_and_never_from_other_data(market, undisturbed, tmp_path):
    tensors, store = Tensors.load(market / "tensors.npz"), RunStore(tmp_path / "store")
    assert len(merge(undisturbed, store, tensors)) == 6 and merge(undisturbed, store, tensors) == []
    assert content(store.folder) == content(undisturbed)
    from dataclasses import replace

    other = RunStore(tmp_path / "other")
    with pytest.raises(ValueError, match="is a run on m with data hash, not on m with x: nothing was merged"):
        merge(undisturbed, other, replace(tensors, data_hash="x"))
    assert not other.folder.exists()
