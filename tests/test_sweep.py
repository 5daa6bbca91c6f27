"""The sweep: order, skipping, killed workers and machines, a full disk, Dask, bytes; its shards, its budget and bad
input are in `test_sweep_carried.py`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from joblib.externals.loky import get_reusable_executor

from anomaly_routing import dispatch, sweep
from anomaly_routing.dispatch import Task, run, work
from anomaly_routing.packing import WATCHED, lean
from anomaly_routing.runs import RunKey, RunStore, read_meta, read_run
from anomaly_routing.sweep import remaining, tasks
from anomaly_routing.tensors import Tensors
from anomaly_routing.train import train_one
from anomaly_routing.variants import read_catalogue
from tests.conftest import ROOT
from tests.sweeps import NAMES, RUNS, command, content, plan, small_market
from tests.test_tensors import bare

KILLS = 10


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums in another order are other sums; the process gets its own number of threads back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    return small_market(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="module")
def undisturbed(market, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    sweep.main(command(market, out))
    return out


@pytest.fixture(scope="module")
def pending(market) -> list[Task]:
    return tasks(read_catalogue(market / "variants.yaml"), NAMES, 2, "tiny")


# --- what is run -----------------------------------------------------------------------------------------------------
def test_first_seeds_come_first_and_shared_runs_once(pending):
    assert pending == [Task(n, seed) for seed in (0, 1) for n in RUNS]


def test_an_unknown_variant_is_refused(market, tmp_path):
    with pytest.raises(SystemExit, match=r"no variant no_mo; there are: full, no_mpi"):
        sweep.main(command(market, tmp_path, "--variants", "no_mo"))
    with pytest.raises(SystemExit, match="no table table3; there are: table2"):
        sweep.main(command(market, tmp_path, "--tables", "table3"))
    assert not list(tmp_path.iterdir())


def test_what_is_stored_is_skipped(market, undisturbed, capsys):
    catalogue, tensors = read_catalogue(market / "variants.yaml"), Tensors.load(market / "tensors.npz")
    left = remaining(tasks(catalogue, NAMES, 3, "tiny"), catalogue, tensors, "tiny", [RunStore(undisturbed)])
    assert left == [Task(n, 2) for n in RUNS]
    before = {p: p.stat().st_mtime_ns for p in undisturbed.glob("*.npz")}
    sweep.main(command(market, undisturbed))
    assert "0 of 6 trainings to do" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in undisturbed.glob("*.npz")} == before
    assert not (ROOT / "reports" / "m").exists()  # a market that was only asked about gets no folder


def test_a_variant_trains_what_it_says(undisturbed):
    runs = {p.name.split("--")[1]: read_run(p) for p in undisturbed.glob("*seed0*.npz")}
    assert set(runs) == set(RUNS)
    assert len(runs["full"].info["history"][0]["mean_w"]) == 4 and len(runs["no_moe"].info["history"][0]["mean_w"]) == 1
    assert not np.allclose(runs["full"].daily["mean"], runs["fast_scalars"].daily["mean"])


def test_one_bar_and_no_other(market, tmp_path, capfd):
    sweep.main(command(market, tmp_path, "--variants", "full", "--seeds", "1"))
    err = capfd.readouterr().err
    assert "trainings" in err and "1/1" in err and "epoch" not in err


def test_a_bare_machine_sweeps_with_one_worker(market, undisturbed, tmp_path):
    """It has torch, numpy, pandas, tqdm and safetensors; the variants come as JSON."""
    listed = tmp_path / "variants.json"
    listed.write_text(json.dumps(yaml.safe_load((market / "variants.yaml").read_text())))
    order = command(market, tmp_path / "store", "--variants", "full", "--seeds", "1", "--workers", "1")
    order[order.index("--variants-file") + 1] = str(listed)
    done = bare(f"import anomaly_routing.sweep as command\ncommand.main({order!r})")
    assert done.returncode == 0, done.stderr
    ((name, series),) = content(tmp_path / "store").items()
    assert content(undisturbed)[name] == series


# --- what is stored --------------------------------------------------------------------------------------------------
def test_a_run_of_a_sweep_is_the_run_without_what_no_table_needs(market, undisturbed, tmp_path):
    tensors, catalogue = Tensors.load(market / "tensors.npz"), read_catalogue(market / "variants.yaml")
    torch.set_num_threads(1)
    store, job = RunStore(tmp_path), catalogue.job("full", 0, "tiny")
    key = train_one(tensors, job, store, device="cpu", tier="tiny", scratch=tmp_path, keep=None)
    whole, kept = store.load(key), read_run(undisturbed / key.filename)
    parts = ["dispersion", "consensus", "dispersion@val", "consensus@val"]
    assert list(kept.daily) == ["mean", "mpi", "mean@val", "mpi@val", "max@val", "banks@val", "share@val", *parts]
    assert len(kept.daily) == (tensors.val | tensors.test).sum() and not kept.score.size and not kept.extras
    for name, series in kept.daily.items():
        exact = "mean" in name or "mpi" in name
        np.testing.assert_allclose(series, whole.daily[name][series.index], rtol=0 if exact else 2**-12)
    assert kept.info["channels"] == whole.info["channels"] and kept.info["best"] == whole.info["best"]
    assert len(kept.info["losses"]["val"]) == 4 and len(kept.info["history"]) <= 2
    assert {line["epoch"] for line in kept.info["history"]} == {b["epoch"] for b in kept.info["best"].values()}


def test_a_real_run_of_a_sweep_takes_15_kilobytes(tmp_path):
    """Of the real market's size: its second seed, made lean."""
    path = next((ROOT / "reports" / "us100" / "runs" / "model").glob("intended--full--seed1--*.npz"))
    key = RunKey(**read_meta(path)["key"])
    saved = RunStore(tmp_path).save(key, lean(read_run(path), key.config["splits"]["train_end"]))
    assert saved.stat().st_size < 15_000


def test_a_lean_run_keeps_the_errors_of_the_stock_that_is_asked_for():
    """Of the real market's first seed, which keeps every stock's: those of one stock in one span."""
    path = next((ROOT / "reports" / "us100" / "runs" / "model").glob("intended--full--seed0--*.npz"))
    whole = read_run(path)
    kept = lean(whole, "2021-12-31")
    assert kept.tickers == [WATCHED[0]] and not kept.score.size and set(kept.extras) == {"days", "expert_error"}
    days = pd.DatetimeIndex(whole.extras["days"])
    assert pd.DatetimeIndex(kept.extras["days"]).equals(days[(days >= WATCHED[1]) & (days <= WATCHED[2])])
    for day, errors in zip(kept.extras["days"], kept.extras["expert_error"], strict=True):
        own = whole.extras["expert_error"][days.get_loc(day), whole.tickers.index(WATCHED[0])]
        assert errors.shape == (1, 4) and (errors[0] == own).all() and (own > 0).all()
    assert lean(replace(whole, tickers=["A"] * 100), "2021-12-31").extras == {}


# --- faults ----------------------------------------------------------------------------------------------------------
def test_killed_ten_times_at_random_it_ends_as_undisturbed(market, undisturbed, tmp_path):
    """The whole process group, sweep and workers, as when the machine goes down."""
    rng, left = random.Random(0), 0
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def begin(workers: int) -> subprocess.Popen:
        start = [sys.executable, "-u", "-m", "anomaly_routing.sweep", *command(market, tmp_path)]
        return subprocess.Popen(
            [*start, "--workers", str(workers)],
            cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    for kill in range(KILLS):
        going = begin(workers := 2 if kill % 5 == 4 else 1)
        assert b"trainings to do" in going.stdout.readline()
        time.sleep(rng.uniform(0, 4.0 if workers == 2 else 0.7))
        left += going.poll() is None
        os.killpg(going.pid, signal.SIGKILL)
        going.communicate()
    assert left == KILLS, "some sweep ended before it was killed: make its trainings longer"
    last = begin(1)
    last.communicate()
    assert last.returncode == 0 and content(tmp_path) == content(undisturbed)
    assert not list((tmp_path / "unfinished").glob("*")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_a_worker_that_is_killed_costs_nobody_a_finished_run(
    market, undisturbed, pending, tmp_path, monkeypatch, backend
):
    """Two local workers, one of which is killed in the middle of the second task."""
    (tmp_path / "die").touch()
    monkeypatch.setenv("SWEEP_TEST_DIE", str(tmp_path / "die"))
    get_reusable_executor().shutdown(wait=True)  # workers of an earlier test lack the variable
    monkeypatch.setattr(dispatch, "work", dies_once)
    out = tmp_path / "out"
    assert run(plan(market, out), pending[:3], workers=2, backend=backend) == {}
    first = {name: series for name, series in content(undisturbed).items() if "seed0" in name}
    assert content(out) == first and len(first) == 3 and not (tmp_path / "die").exists()


def dies_once(task, plan, seconds=0.0):
    flag = Path(os.environ["SWEEP_TEST_DIE"])
    if task == Task("no_moe", 0) and flag.exists():
        flag.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return work(task, plan, seconds)


def dies_in_one(task, plan, seconds=0.0):
    if task == Task("no_moe", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    return work(task, plan, seconds)


def test_workers_that_always_die_end_the_sweep(market, tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "work", dies)
    with pytest.raises(RuntimeError, match=r"died 3 times without finishing a run.*fewer --workers"):
        run(plan(market, tmp_path), [Task("full", 0)], workers=2)


def dies(task, plan, seconds=0.0):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_uses_the_threads_it_was_given(market, tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "train_one", counts_threads)
    for threads in (1, 2):
        assert work(Task("full", 0), plan(market, tmp_path, threads=threads))[1] == f"RuntimeError: {threads} threads"


def counts_threads(*args, **kwargs):
    raise RuntimeError(f"{torch.get_num_threads()} threads")


@pytest.mark.parametrize("where", ["the run", "the state of the training"])
def test_a_full_disk_stops_the_sweep_and_nothing_is_torn(market, tmp_path, monkeypatch, where):
    owner, name = (RunStore, "save") if where == "the run" else (Path, "write_bytes")
    monkeypatch.setattr(owner, name, no_space)
    with pytest.raises(OSError, match=r"No space left.*free some space"):
        run(plan(market, tmp_path), [Task("full", 0), Task("no_moe", 0)], workers=1)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and "unfinished" not in p.parts]
    assert not list(tmp_path.rglob("*.partial*"))


def no_space(self, *args):
    raise OSError(28, "No space left on device")


def test_a_training_that_fails_is_named_and_the_others_run(market, tmp_path, capsys):
    content = yaml.safe_load((market / "variants.yaml").read_text())
    content["variants"]["too_large"] = {"training": {"batch_sessions": 900}}
    (market / "with_fault.yaml").write_text(yaml.safe_dump(content))
    order = command(market, tmp_path, "--variants", "too_large", "full", "--seeds", "1")
    order[order.index("--variants-file") + 1] = str(market / "with_fault.yaml")
    with pytest.raises(SystemExit) as stopped:
        sweep.main(order)
    assert stopped.value.code == 1 and "too_large, seed 0" in capsys.readouterr().err
    assert len(list(tmp_path.glob("*.npz"))) == 1
