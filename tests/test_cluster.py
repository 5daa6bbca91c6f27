"""A Dask cluster whose workers come late, or never."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import dask
import pytest
import torch
from distributed import Client, LocalCluster

from anomaly_routing import cluster, sweep
from anomaly_routing.dispatch import NO_TIME, Task, inputs, run
from tests.sweeps import RUNS, command, content, plan, small_market

NOBODY = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": None}
MEETING = threading.Barrier(2)
GOING, LOCK = set(), threading.Lock()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    return small_market(tmp_path_factory.mktemp("market"))


@pytest.fixture
def empty():
    """A scheduler without a worker; those that join are threads of this process."""
    with LocalCluster(**NOBODY, processes=False) as there:
        yield there


def found(there, function, calls, most=None, deadline=float("inf"), show=lambda said: None) -> dict:
    with Client(there) as client:
        return dict(cluster.results(client, function, iter(calls), most, deadline, show))


def meets(number: int) -> int:
    """Ends only if another one runs at the same time."""
    MEETING.wait(timeout=20)
    return -number


def test_a_sweep_waits_for_its_first_worker(market, tmp_path):
    sweep.main(command(market, tmp_path / "alone"))
    with LocalCluster(**NOBODY) as there:
        joining = threading.Timer(3, there.scale, [1])
        joining.start()
        sweep.main(command(market, tmp_path / "waited", "--backend", "dask", "--scheduler", there.scheduler_address))
        joining.join()
    assert content(tmp_path / "waited") == content(tmp_path / "alone") != {}


def test_who_joins_later_gets_work(empty):
    """With the one worker that is there at the start no call would ever end."""
    empty.scale(1)
    said = []
    threading.Timer(1, empty.scale, [2]).start()
    assert found(empty, meets, [(n,) for n in range(4)], show=said.append) == {(n,): -n for n in range(4)}
    assert {"1 workers", "2 workers"} <= set(said)


def counts(number: int) -> int:
    """How many run at this moment."""
    with LOCK:
        GOING.add(number)
    time.sleep(0.2)
    with LOCK:
        there = len(GOING)
        GOING.remove(number)
    return there


@pytest.mark.parametrize(("most", "expected"), [(2, 2), (None, 3)])
def test_no_more_calls_are_out_than_were_asked_for(empty, most, expected):
    empty.scale(3)
    with Client(empty) as client:
        client.wait_for_workers(3)
    at_once = found(empty, counts, [(n,) for n in range(6)], most)
    assert max(at_once.values()) == expected and len(at_once) == 6


def test_past_the_deadline_nobody_waits_for_a_worker(empty, market, tmp_path):
    tasks = [Task(name, 0) for name in RUNS]
    where = plan(market, tmp_path, deadline=time.time() + 1)
    assert run(where, tasks, None, "dask", empty.scheduler_address) == dict.fromkeys(tasks, NO_TIME)


def test_a_call_that_fails_is_returned_with_its_error_and_the_others_run(empty):
    empty.scale(1)
    ended = found(empty, divmod, [(6, 0), (6, 3)])
    assert ended[6, 3] == (2, 0) and isinstance(ended[6, 0], ZeroDivisionError)


def test_a_training_that_kills_every_worker_is_named_and_the_others_run(market, tmp_path, monkeypatch):
    from anomaly_routing import dispatch
    from tests.test_sweep import dies_in_one

    monkeypatch.setattr(dispatch, "work", dies_in_one)
    tasks = [Task(name, 0) for name in RUNS]
    problems = run(plan(market, tmp_path), tasks, 2, "dask")
    assert list(problems) == [Task("no_moe", 0)] and "KilledWorker" in problems[Task("no_moe", 0)]
    assert len(content(tmp_path)) == 2


def test_a_scheduler_that_is_not_there_and_one_without_dask_are_refused(market, tmp_path):
    for more, said in ((["--backend", "dask"], "127.0.0.1:9"), ([], "needs --backend dask")):
        with pytest.raises(SystemExit, match=said), dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
            sweep.main(command(market, tmp_path, "--scheduler", "tcp://127.0.0.1:9", *more))


def test_a_file_that_was_written_again_is_read_again(market, tmp_path):
    """Workers of a cluster outlive the sweep that started them."""
    folder = small_market(tmp_path)
    first, again = (inputs(folder / "tensors.npz", folder / "variants.yaml")[1] for _ in range(2))
    text = (folder / "variants.yaml").read_text()
    (folder / "variants.yaml").write_text(text.replace("epochs: 4", "epochs: 5"))
    other = inputs(folder / "tensors.npz", folder / "variants.yaml")[1]
    assert first is again and [c.job("full", 0, "tiny").training["epochs"] for c in (first, other)] == [4, 5]
