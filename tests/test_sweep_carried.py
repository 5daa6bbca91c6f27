"""What a sweep brings home, when it stops, trainings that share a process, and what it refuses."""

from __future__ import annotations

import contextlib
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from anomaly_routing import dispatch, shards, sweep, variants
from anomaly_routing.dispatch import NO_TIME, Task, run, work
from anomaly_routing.model.config import make_config
from anomaly_routing.model.errors import OutOfTimeError, TrainingError
from anomaly_routing.model.network import Network
from anomaly_routing.model.training import fit, make_training
from anomaly_routing.runs import RunStore
from anomaly_routing.tensors import Tensors
from tests.conftest import ROOT
from tests.model.small_networks import SMALL, small_tensors
from tests.sweeps import command, content, plan, small_market
from tests.test_tensors import bare


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    return small_market(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="module")
def tensors(market) -> Tensors:
    return Tensors.load(market / "tensors.npz")


@pytest.fixture(scope="module")
def undisturbed(market, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    sweep.main(command(market, out))
    return out


def refused(order: list[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        sweep.main(order)
    return str(stopped.value)


# --- trainings that share a process ----------------------------------------------------------------------------------
def test_trainings_in_one_process_wait_for_each_other(market, tmp_path, monkeypatch):
    """Two threads, as a Dask worker may have them: each network starts from its own seed's weights.

    At full size; each waits between its seed and its weights, which is when the other one would draw.
    """
    drawn, meeting = {}, threading.Barrier(2)

    def draws(tensors, job, store, **how):
        torch.manual_seed(job.seed)
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(timeout=0.5)  # both are here only if nothing keeps them apart
        net = Network(len(tensors.features), tensors.categories, make_config("intended"))
        drawn[job.seed] = torch.cat([p.detach().flatten() for p in net.parameters()])

    monkeypatch.setattr(dispatch, "train_one", draws)
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda seed: work(Task("full", seed), plan(market, tmp_path)), (0, 1)))
    assert [problem for _, problem, _ in done] == ["", ""]
    for seed in (0, 1):
        torch.manual_seed(seed)
        groups = small_tensors().categories
        net = Network(len(groups), groups, make_config("intended"))
        assert torch.equal(drawn[seed], torch.cat([p.detach().flatten() for p in net.parameters()]))


def test_a_cluster_whose_workers_have_two_threads_is_refused(market, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        order = command(market, tmp_path, "--backend", "dask", "--scheduler", cluster.scheduler_address)
        assert "several trainings in one process" in refused(order)
    assert not list(tmp_path.glob("*.npz"))


def test_a_cluster_gets_one_thread_a_worker_whatever_cores_are_here(market, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr(sweep, "run", lambda plan, *rest: seen.append(plan.threads) or {})
    order = command(market, tmp_path)
    del order[order.index("--threads") : order.index("--threads") + 2]
    sweep.main([*order, "--backend", "dask", "--scheduler", "tcp://there:8786", "--workers", "4"])
    sweep.main([*order, "--workers", "4"])
    assert seen == [1, 16]


def test_local_workers_have_their_threads_capped(market, tmp_path, monkeypatch):
    """Beside torch's own number, that of the libraries below numpy."""
    monkeypatch.setattr(dispatch, "work", reports_environment)
    for joblib in (True, False):
        monkeypatch.setattr(dispatch, "find_spec", lambda name, there=joblib: there)
        for threads in (1, 3):
            found = run(plan(market, tmp_path, threads=threads), [Task("full", 0)], workers=2)
            assert found == {Task("full", 0): f"{threads}"}, joblib


def reports_environment(task, plan, seconds=0.0):
    import os

    return task, os.environ.get("OMP_NUM_THREADS", "none"), 0.0


# --- a machine that has little ---------------------------------------------------------------------------------------
def test_a_bare_machine_sweeps_with_two_workers(market, undisturbed, tmp_path):
    """No joblib, no PyYAML: the variants come as the JSON that the command writes, the workers from the library."""
    listed = tmp_path / "variants.json"
    variants.main(["--json", str(listed), "--file", str(market / "variants.yaml")])
    order = command(market, tmp_path / "store", "--seeds", "1", "--workers", "2")
    order[order.index("--variants-file") + 1] = str(listed)
    done = bare(f"import anomaly_routing.sweep as command\ncommand.main({order!r})")
    assert done.returncode == 0, done.stderr
    first = {name: series for name, series in content(undisturbed).items() if "seed0" in name}
    assert content(tmp_path / "store") == first and len(first) == 3


def test_what_a_bare_machine_lacks_is_said_in_a_sentence(market, tmp_path):
    lacking = {"yaml": [], "joblib": ["--backend", "dask"]}
    variants.main(["--json", str(tmp_path / "v.json"), "--file", str(market / "variants.yaml")])
    for name, more in lacking.items():
        order = command(market, tmp_path / "store", *more)
        if name != "yaml":
            order[order.index("--variants-file") + 1] = str(tmp_path / "v.json")
        done = bare(f"import anomaly_routing.sweep as command\ncommand.main({order!r})")
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "is not installed here: " in done.stderr.splitlines()[-1], name
    assert "anomaly_routing.variants --json" in sweep.REMEDIES["yaml"]


def test_the_variants_as_json_are_the_same_catalogue(tmp_path):
    variants.main(["--json", str(tmp_path / "v.json")])
    assert variants.read_catalogue(tmp_path / "v.json") == variants.read_catalogue(ROOT / "variants.yaml")


# --- budget ----------------------------------------------------------------------------------------------------------
def test_no_training_starts_that_would_not_end_in_time(market, tmp_path, capsys):
    late = plan(market, tmp_path, deadline=time.time() + 50)
    assert work(Task("full", 0), late, seconds=60)[1] == NO_TIME
    for minutes in ("0.00001", "0"):
        sweep.main(command(market, tmp_path, "--budget-minutes", minutes))
        assert "6 trainings did not fit into the budget" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.npz"))


def test_a_training_is_expected_to_take_the_median_of_those_before(market, tmp_path, monkeypatch):
    took, expected = iter([10.0, 90.0, 30.0, 20.0]), []
    monkeypatch.setattr(dispatch, "work", lambda task, plan, s: expected.append(s) or (task, "", next(took)))
    assert run(plan(market, tmp_path), [Task("full", seed) for seed in range(4)], workers=1) == {}
    assert expected == [0.0, 10.0, 50.0, 30.0]


def test_a_training_stops_at_the_deadline_and_goes_on_later(market, undisturbed, tmp_path, monkeypatch):
    """A clock that stands still but for one second an epoch; the budget ends in the middle of the third."""
    ticks = [0.0]
    monkeypatch.setattr("anomaly_routing.model.training.train_epoch", ticking(ticks))
    monkeypatch.setattr(time, "time", lambda: ticks[0])
    monkeypatch.setattr(time, "perf_counter", lambda: ticks[0])
    task, out = Task("full", 0), tmp_path / "out"
    assert work(task, plan(market, out, deadline=2.5))[1] == NO_TIME and ticks == [2.0]
    assert len(list((out / "unfinished").glob("*.safetensors"))) == 1 and not list(out.glob("*.npz"))
    assert work(task, plan(market, out, deadline=3.0))[1] == NO_TIME and ticks == [3.0], "one epoch was left to do"
    assert work(task, plan(market, out, deadline=4.0))[1] == "" and ticks == [4.0]
    ((name, series),) = content(out).items()
    assert content(undisturbed)[name] == series and not list((out / "unfinished").glob("*"))


def ticking(ticks):
    from anomaly_routing.model.training import train_epoch

    def one_second(*args):
        ticks[0] += 1
        return train_epoch(*args)

    return one_second


def test_a_fit_without_a_deadline_is_as_before_and_the_last_epoch_needs_no_more_time(tmp_path):
    tensors = small_tensors()
    training = make_training(epochs=2, batch_sessions=8)

    def fitted(**how):
        torch.manual_seed(0)
        net = Network(len(tensors.features), tensors.categories, make_config("intended", **SMALL))
        return fit(net, tensors, training, 0, torch.device("cpu"), **how)

    assert len(fitted(deadline=time.time() + 600).history) == len(fitted().history) == 2
    with pytest.raises(OutOfTimeError, match="after 0 of at most 2 epochs"):
        fitted(deadline=time.time() - 1)
    assert issubclass(OutOfTimeError, TrainingError)


# --- shards ----------------------------------------------------------------------------------------------------------
def test_shards_hold_what_was_asked_for_and_are_merged_once(market, tensors, undisturbed, tmp_path):
    store, out, other = tmp_path / "store", tmp_path / "out", RunStore(tmp_path / "other")
    sweep.main(command(market, store, "--seeds", "1", "--variants", "full"))
    sweep.main(command(market, store, "--out", str(out)))
    assert [p.name for p in out.iterdir()] == ["shard-1.tar"]
    assert len(shards.merge(out, other, tensors)) == 6 and shards.merge(out, other, tensors) == []
    assert content(other.folder) == content(undisturbed)
    loose = RunStore(tmp_path / "loose")
    assert len(shards.merge(undisturbed, loose, tensors)) == 6, "loose runs merge too"


def test_a_second_call_with_the_same_folder_keeps_what_the_first_brought(market, tensors, undisturbed, tmp_path):
    """From stores that know nothing of each other, as on machines that are taken away; the third trains nothing."""
    out, last = tmp_path / "out", tmp_path / "c"
    sweep.main(command(market, tmp_path / "a", "--out", str(out), "--variants", "full"))
    sweep.main(command(market, tmp_path / "b", "--out", str(out), "--variants", "no_moe"))
    sweep.main(command(market, last, "--variants", "fast_scalars"))
    sweep.main(command(market, last, "--variants", "fast_scalars", "--out", str(out)))
    got = RunStore(tmp_path / "merged")
    assert len(shards.merge(out, got, tensors)) == 6 and content(got.folder) == content(undisturbed)


def test_a_run_that_was_stored_but_not_yet_brought_is_brought_at_the_next_start(market, tmp_path, monkeypatch):
    """Killed between the store and the shard."""
    export = sweep.export
    monkeypatch.setattr(sweep, "export", dies_at_the_second(export))
    order = command(market, tmp_path / "store", "--out", str(tmp_path / "out"), "--seeds", "1", "--variants", "full")
    with pytest.raises(KeyboardInterrupt):
        sweep.main(order)
    assert len(list((tmp_path / "store").glob("*.npz"))) == 1 and not (tmp_path / "out").exists()
    monkeypatch.setattr(sweep, "export", export)
    sweep.main(order)
    assert len(names_in(tmp_path / "out" / "shard-1.tar")) == 1


def dies_at_the_second(export):
    calls = []

    def dying(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return export(*args)

    return dying


def test_shards_are_few_and_small_and_a_full_one_stays_as_it_is(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 21_000)
    runs = sorted(undisturbed.glob("*.npz"))
    written = shards.export(runs[2:], tmp_path)
    before = {path: path.read_bytes() for path in written[:-1]}
    written += shards.export(runs, tmp_path)
    assert len(set(written)) > 2 and all(p.stat().st_size <= 21_000 for p in written)
    assert {path: path.read_bytes() for path in before} == before and shards.export(runs, tmp_path) == []
    inside = [name for path in set(written) for name in names_in(path)]
    assert sorted(inside) == sorted(p.name for p in runs)
    monkeypatch.setattr(shards, "SHARDS", 1)
    with pytest.raises(ValueError, match="more than 1: merge some first"):
        shards.export(runs, tmp_path / "other")


def names_in(path: Path) -> list[str]:
    with tarfile.open(path) as shard:
        return shard.getnames()


# --- what is refused -------------------------------------------------------------------------------------------------
def test_runs_of_other_data_or_arithmetic_are_named_and_never_mixed(
    market, tensors, undisturbed, tmp_path, monkeypatch, capsys
):
    with pytest.raises(ValueError, match="a run on m with data hash, not on m with x: nothing was merged"):
        shards.merge(undisturbed, RunStore(tmp_path / "other"), replace(tensors, data_hash="x"))
    assert not (tmp_path / "other").exists()
    assert shards.foreign(undisturbed, tensors) == {}
    changed = replace(tensors, data_hash="x")
    changed.save(tmp_path / "tensors.npz")
    order = command(market, undisturbed, "--budget-minutes", "0.00001")
    order[order.index("--tensors") + 1] = str(tmp_path / "tensors.npz")
    sweep.main(order)
    said = capsys.readouterr()
    assert "6 of 6 trainings to do" in said.out and said.err.count("left alone: intended--") == 6
    shards.export(undisturbed.glob("*.npz"), tmp_path / "out")
    assert "a run on m with data hash" in refused([*order, "--out", str(tmp_path / "out")])
    monkeypatch.setattr(shards, "MODEL_NUMERICS", 2)
    assert set(shards.foreign(undisturbed, tensors).values()) == {"a run of numerics 1, not 2"}
    with pytest.raises(ValueError, match="a run of numerics 1, not 2: nothing was merged"):
        shards.merge(undisturbed, RunStore(tmp_path / "other"), tensors)


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--seeds", "0", "--seeds is 0"),
        ("--seeds", "-1", "--seeds is -1"),
        ("--workers", "0", "--workers is 0"),
        ("--threads", "0", "--threads is 0"),
        ("--budget-minutes", "-3", "--budget-minutes is -3"),
        ("--budget-minutes", "nan", "--budget-minutes is nan"),
        ("--merge", "nowhere", "nowhere is no folder"),
    ],
)
def test_a_flag_that_cannot_be_is_refused_at_once(market, tmp_path, flag, value, said):
    assert said in refused(command(market, tmp_path, flag, value)) and not list(tmp_path.iterdir())


def test_a_variant_whose_samples_the_market_has_not_is_left_out_or_refused(market, tmp_path, capsys):
    content = yaml.safe_load((market / "variants.yaml").read_text())
    content["variants"]["later_crisis"] = {"data": {"without": ["2030-01-01", "2030-02-01"]}}
    (tmp_path / "v.yaml").write_text(yaml.safe_dump(content))
    order = command(market, tmp_path / "store", "--budget-minutes", "0")
    order[order.index("--variants-file") + 1] = str(tmp_path / "v.yaml")
    sweep.main(order)
    said = capsys.readouterr()
    assert "left out: later_crisis, without: 2030-01-01 to 2030-02-01 holds no" in said.err
    assert "6 of 6 trainings to do" in said.out
    assert "variant later_crisis: without: 2030-01-01" in refused([*order, "--variants", "full", "later_crisis"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_is_refused_once(market, tmp_path, capsys):
    order = command(market, tmp_path)
    order[order.index("--device") + 1] = "cuda"
    assert "torch sees no GPU" in refused(order) and capsys.readouterr().out == ""


def test_what_is_torn_is_named(market, undisturbed, tmp_path):
    run = next(undisturbed.glob("*.npz"))
    store, out, empty = tmp_path / "store", tmp_path / "out", tmp_path / "empty"
    for folder in (store, out, empty):
        folder.mkdir()
    assert "holds no run" in refused(command(market, tmp_path / "s", "--merge", str(empty)))
    (store / run.name).write_bytes(run.read_bytes()[:-2000])
    assert f"{run.name} is torn" in refused(command(market, store))
    assert f"{run.name} is torn" in refused(command(market, tmp_path / "s", "--merge", str(store)))
    content = run.read_bytes()
    for at in (len(content) // 4, len(content) // 2):  # bytes of a member, not of the directory at the end
        (store / run.name).write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
        assert f"{run.name} is torn" in refused(command(market, tmp_path / "s", "--merge", str(store))), at
        assert f"{run.name} is torn" in refused(command(market, store)), at
    (shard,) = shards.export([run], out)
    for kept in (100, 600, 3000):
        shard.write_bytes(shard.read_bytes()[:kept])
        assert "shard-1.tar is torn" in refused(command(market, tmp_path / "s", "--merge", str(out))), kept
        assert "shard-1.tar is torn" in refused(command(market, tmp_path / "s", "--out", str(out))), kept
        shard.unlink()
        shards.export([run], out)
    assert not list((tmp_path / "s").glob("*"))


def test_a_run_under_the_name_of_another_is_named(market, undisturbed, tmp_path):
    """It would be taken for the run that it is called."""
    one, other = sorted(undisturbed.glob("*.npz"))[:2]
    store = tmp_path / "store"
    store.mkdir()
    (store / other.name).write_bytes(one.read_bytes())
    for order in (command(market, tmp_path / "s", "--merge", str(store)), command(market, store)):
        assert f"{other.name} holds the run {one.name}" in refused(order)
    assert not (tmp_path / "s").exists()


def test_a_full_disk_is_named_where_runs_are_carried(market, undisturbed, tmp_path, monkeypatch):
    def no_space(self, *args):
        raise OSError(28, "No space left on device")

    shards.export(undisturbed.glob("*.npz"), tmp_path / "out")
    monkeypatch.setattr(Path, "write_bytes", no_space)
    assert f"free some space for {tmp_path / 's'}" in refused(
        command(market, tmp_path / "s", "--merge", str(tmp_path / "out"))
    )
    monkeypatch.setattr(tarfile.TarFile, "addfile", no_space)
    assert f"free some space for {tmp_path / 'o'}" in refused(
        command(market, undisturbed, "--out", str(tmp_path / "o"))
    )
    assert not [path for name in "so" for path in (tmp_path / name).glob("*")]
