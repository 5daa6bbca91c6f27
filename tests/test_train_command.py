"""`python -m anomaly_routing.train`: on a bare machine, killed and started again, refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from anomaly_routing import train
from anomaly_routing.baselines.registry import detectors
from anomaly_routing.model.training import TrainingConfig
from anomaly_routing.runs import MAX_BYTES, RunStore, read_meta, read_run
from anomaly_routing.tensors import Tensors
from anomaly_routing.train import Job, expand, main
from tests.conftest import ROOT
from tests.model.small_networks import SMALL, small_tensors
from tests.test_tensors import bare

EPOCHS = 5
MINUTE = 60.0


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the command is told here; the process gets its own number back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tensor_file(tmp_path_factory):
    return small_tensors().save(tmp_path_factory.mktemp("interim") / "tensors.npz")


def arguments(tensor_file, out, *more, epochs=EPOCHS) -> list[str]:
    """Of a training of a few seconds; small batches make its epochs long enough to be killed in."""
    small = [f"{key}={value}" for key, value in SMALL.items()]
    command = ["--market", "m", "--tensors", str(tensor_file), "--out", str(out), "--device", "cpu", "--threads", "1"]
    command += ["--tier", "quick", "--epochs", str(epochs), "--training", "batch_sessions=8", "learning_rate=0.003"]
    return [*command, "--set", *small, *more]


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def timeless(meta: dict) -> dict:
    """Key and info of a run without what depends on the clock."""
    info = {k: v for k, v in meta["info"].items() if k not in ("seconds", "seconds_of_scoring")}
    info["history"] = [{k: v for k, v in line.items() if "seconds" not in k} for line in info["history"]]
    return {"key": meta["key"], "info": info}


# --- a machine with torch and little else -----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def uninterrupted(tensor_file, tmp_path_factory):
    """The stored run of a training that nothing disturbed."""
    out = tmp_path_factory.mktemp("uninterrupted")
    main(arguments(tensor_file, out))
    return next(out.glob("*.npz"))


def test_a_bare_machine_trains_once_and_not_again(tensor_file, uninterrupted, tmp_path):
    command = arguments(tensor_file, tmp_path)
    done = bare(
        "import anomaly_routing.train as command\n"
        f"command.main({command!r})\n"
        "command.fit = None\n"
        f"command.main({command!r})\n"
        "print(*sorted({'scipy', 'sklearn', 'matplotlib', 'yaml'} & set(sys.modules)), 'loaded')"
    )
    assert done.returncode == 0, done.stderr
    path, again, loaded = done.stdout.splitlines()
    assert path == again == str(tmp_path / uninterrupted.name) and loaded == "loaded"
    assert "intended, seed 0" in done.stderr and f"{EPOCHS}/{EPOCHS}" in done.stderr  # the progress
    assert files(tmp_path) == [uninterrupted.name]
    assert_same_run(Path(path), uninterrupted)


def test_the_stored_run(tensor_file, uninterrupted):
    tensors, run = Tensors.load(tensor_file), read_run(uninterrupted)
    assert uninterrupted.stat().st_size <= MAX_BYTES
    assert run.score.shape == (0, 7) and not run.extras  # only the first seed of a stage keeps single stocks
    assert run.info["device"] == "cpu" and run.info["tier"] == "quick" and run.info["epochs"] == EPOCHS
    named = {column for channels in run.info["channels"].values() for column in channels.values()}
    assert named == {"mean", "mpi", "mean@val", "mpi@val"} <= set(run.daily)
    assert len(run.daily) == tensors.scored.sum() and np.isfinite(run.daily.to_numpy()).all()


def test_another_python_can_import_the_command():
    """The package promises 3.11 and 3.12; a machine may have only one of them with torch."""
    other = shutil.which("python3.12" if sys.version_info[:2] == (3, 11) else "python3.11")
    have = other and subprocess.run([other, "-c", "import torch, pandas, safetensors, tqdm"], capture_output=True)
    if not have or have.returncode:
        pytest.skip("no second Python with torch here")
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); import anomaly_routing.train"
    done = subprocess.run([other, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_usual_places(tensor_file, tmp_path, monkeypatch):
    """Without --tensors and --out: the market's own files, from any folder of the repository."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "dvc.yaml").touch()
    interim = tmp_path / "data" / "interim" / "m"
    interim.mkdir(parents=True)
    shutil.copy(tensor_file, interim)
    monkeypatch.chdir(tmp_path / "notebooks")
    command = arguments(tensor_file, "", epochs=1)
    del command[2:6]
    assert "--out" not in command
    main(command)
    (name,) = files(tmp_path / "reports")
    assert name.startswith("m/runs/model/intended--full--seed0--") and files(interim) == ["tensors.npz"]


def test_the_first_seed_of_the_command_is_not_trained_again_by_the_notebook(tensor_file, tmp_path, monkeypatch):
    """The market's file lists it, so the command keeps its weights; what else the notebook wants comes from them."""
    small = {"epochs": 1, "batch_sessions": 8}
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "dvc.yaml").touch()
    tensors = Tensors.load(tensor_file)
    spans = [[str(tensors.sessions[-20].date()), str(tensors.sessions[-11].date())]]
    jobs = [{"method": "intended", "seeds": [1, 2], "overrides": SMALL}]
    section = {"jobs": jobs, "training": small, "case_spans": spans, "tier": "quick"}
    (tmp_path / "params.yaml").write_text(json.dumps({"market": {"name": "m"}, "model": section}, indent=1))
    (tmp_path / "markets" / "m").mkdir(parents=True)
    shutil.move(tmp_path / "params.yaml", tmp_path / "markets" / "m" / "params.yaml")
    monkeypatch.chdir(tmp_path)
    base = ["--market", "m", "--tensors", str(tensor_file), "--device", "cpu", "--threads", "1", "--seed"]
    for seed, more in (("1", []), ("2", []), ("1", ["--training", "clip=0.5"])):
        main([*base, seed, *more])
    weights = tmp_path / "reports" / "m" / "checkpoints" / "intended.safetensors"
    store = RunStore(tmp_path / "reports" / "m" / "runs" / "model")
    first, second = expand(jobs, small)
    with safe_open(weights, framework="pt") as stored:  # not those of the third training
        assert json.loads(stored.metadata()["info"])["run"] == first.key(tensors).filename
    run = store.load(first.key(tensors))
    kept = tensors.sessions[-20:-10].to_numpy("datetime64[D]")
    np.testing.assert_array_equal(run.extras["days"], kept)
    np.testing.assert_array_equal(run.extras["graph_days"], kept[:6])
    assert not store.load(second.key(tensors)).extras
    monkeypatch.setattr(train, "fit", None)
    other = train.keep_of(tensors, spans, [kept[3]], weights)
    train.train_one(tensors, first, store, device="cpu", tier="quick", scratch=tmp_path / "scratch", keep=other)
    np.testing.assert_array_equal(store.load(first.key(tensors)).extras["graph_days"], kept[3:4])
    alone = train.keep_of(tensors, [], [], weights)
    assert not len(alone.days) and not len(alone.graphs) and alone.checkpoint == weights


# --- killed -----------------------------------------------------------------------------------------------------------
def assert_same_run(one: Path, other: Path) -> None:
    """Every array, the log included, but not the times."""
    with np.load(one) as a, np.load(other) as b:
        assert a.files == b.files
        for name in set(a.files) - {"meta"}:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert timeless(read_meta(one)) == timeless(read_meta(other))


def started(command: list[str], first: str = "") -> subprocess.Popen:
    """The command in a process of its own, after some lines of Python."""
    how = ["-c", f"{first}\nfrom anomaly_routing.train import main\nmain({command!r})"] if first else ["-m", MODULE]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *how, *([] if first else command)], env=environment, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


MODULE = "anomaly_routing.train"
DIE_BEFORE_RENAMING = """
import os, signal
real = os.replace
def stopping(partial, path):
    if str(path).endswith({ending!r}):
        os.kill(os.getpid(), signal.SIGKILL)
    real(partial, path)
os.replace = stopping
"""


def killed_after(process: subprocess.Popen, state: Path, writes: int, delay: float) -> None:
    """SIGKILL when the state has been written so many times, and some seconds more."""
    seen, last, give_up = 0, state.stat().st_mtime_ns if state.exists() else None, time.monotonic() + 2 * MINUTE
    while seen < writes:
        now = state.stat().st_mtime_ns if state.exists() else None
        if now != last:
            seen, last = seen + 1, now
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def epochs_in(state: Path) -> int:
    with safe_open(state, framework="pt") as stored:
        return len(json.loads(stored.metadata()["history"]))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_training_that_was_killed_again_and_again_ends_where_an_uninterrupted_one_does(
    tensor_file, uninterrupted, tmp_path, monkeypatch
):
    command, run = arguments(tensor_file, tmp_path), uninterrupted.name
    state = tmp_path / "unfinished" / f"{uninterrupted.stem}.safetensors"
    killed_after(started(command), state, 1, 0.0)  # as soon as the first epoch is on disk
    first = epochs_in(state)
    killed_after(started(command), state, 1, 0.1)  # in the middle of a later epoch
    second = epochs_in(state)
    assert 1 <= first < second < EPOCHS and state.name in {p.name for p in state.parent.iterdir()}
    for ending in (".safetensors", ".npz"):  # before a new state takes the old one's name, and before the run does
        process = started(command, DIE_BEFORE_RENAMING.format(ending=ending))
        assert process.wait(2 * MINUTE) == -signal.SIGKILL
        assert [p for p in tmp_path.rglob(f".*partial{ending}")], "it died elsewhere"
        assert not (tmp_path / run).exists()
    assert epochs_in(state) == EPOCHS  # the last of them had trained to the end
    with monkeypatch.context() as patch:
        patch.setattr(train, "_tidy", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):  # the run is stored, what it left is not yet cleared away
            main(command)
    assert (tmp_path / run).exists() and state.exists()
    monkeypatch.setattr(train, "fit", None)
    main(command)
    assert files(tmp_path) == [run]
    assert_same_run(tmp_path / run, uninterrupted)


# --- refused ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tensors", "nowhere/tensors.npz"], r"nowhere/tensors\.npz is not there: run the features stage"),
        (["--market", "n"], "the tensor file is of market m, not n: name the right one"),
        (["--set", "depth=3"], r"the model has no key depth; it has: psi_rule, .*gamma2"),
        (["--set", "top_k=0"], "top_k is 0; it must be an integer from 1 up"),
        (["--set", "top_k"], "top_k is ''; it must be an integer from 1 up"),
        (["--set", "psi_rule=mean"], "psi_rule is 'mean'; it can be 'free', 'positive', 'rank'"),
        (["--training", "rate=3"], "training has no key rate; it has: epochs, patience, .*memory_gib"),
        (["--epochs", "0"], "epochs is 0; it must be an integer from 1 up"),
        (["--training", "batch_sessions=500"], "lower batch_sessions, or move market.splits in params.yaml"),
        (["--training", "learning_rate=1e30"], r"epoch 0: .* is not a number: lower learning_rate \(1e\+30\)"),
        (["--threads", "0"], "--threads is 0; it must be an integer from 1 up: leave it out for all cores"),
        (["--threads", "-2"], "--threads is -2; it must be an integer from 1 up"),
        (["--seed", "-1"], "--seed is -1; it must be an integer from 0 up, such as 0, 1, 2"),
        (["--device", "cuda"], "device cuda: torch sees no GPU here; use device cpu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_refusal_says_what_to_change(tensor_file, tmp_path, monkeypatch, more, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as refused:
        main([*arguments(tensor_file, tmp_path), *more])
    assert isinstance(refused.value.code, str) and re.search(message, refused.value.code)
    assert files(tmp_path) == []


def test_a_refusal_is_one_line_and_code_1(tensor_file, tmp_path):
    """What a user sees; a spoilt state of an earlier training is the example."""
    command = arguments(tensor_file, tmp_path)
    key = Job("intended", "full", 0, SMALL, {"epochs": EPOCHS, "batch_sessions": 8, "learning_rate": 0.003}).key(
        Tensors.load(tensor_file)
    )
    state = tmp_path / "unfinished" / f"{Path(key.filename).stem}.safetensors"
    state.parent.mkdir()
    state.write_bytes(b"spoilt")
    done = subprocess.run(
        [sys.executable, "-m", MODULE, *command], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(rf"{re.escape(str(state))} cannot be read \(.*\): delete it\n", done.stderr)
    assert state.read_bytes() == b"spoilt"  # the user decides


# --- settings and jobs ------------------------------------------------------------------------------------------------
def test_settings_become_numbers_truth_values_or_words():
    read = dict(map(train._setting, ["top_k=10", "gamma1=2e-2", "gcn_loops=False", "psi_rule=rank", "a=b=c"]))
    assert read == {"top_k": 10, "gamma1": 0.02, "gcn_loops": False, "psi_rule": "rank", "a": "b=c"}
    assert isinstance(read["top_k"], int) and read["gcn_loops"] is False
    for text in ("weight=nan", "weight=-inf"):
        with pytest.raises(ValueError, match=f"{text}: give a finite number"):
            train._setting(text)


def test_settings_and_method_reach_the_run(tensor_file, tmp_path):
    more = [
        "--method",
        "literal",
        "--variant",
        "other",
        "--seed",
        "3",
        "--set",
        *(f"{k}={v}" for k, v in SMALL.items()),
    ]
    main([*arguments(tensor_file, tmp_path, epochs=1), *more, "gamma1=0.5", "--training", "patience=2", "memory_gib=1"])
    (path,) = RunStore(tmp_path).folder.glob("literal--other--seed3--*.npz")
    meta = read_meta(path)
    assert meta["key"]["config"]["model"]["gamma1"] == 0.5 and meta["key"]["config"]["model"]["topk_rule"] == "soft"
    training = meta["key"]["config"]["training"]
    assert (training["patience"], training["epochs"]) == (2, 1)
    assert training["memory_gib"] == TrainingConfig.memory_gib  # of the machine, so not of the key
    assert meta["info"]["tier"] == "quick"
    assert meta["info"]["lookahead"] and meta["info"]["title"] == "Full model, printed equations, other"


def test_a_parameter_file_lists_jobs():
    listed = [
        {"method": "intended", "seeds": [0, 1], "training": {"epochs": 3}},
        {"method": "literal", "variant": "x", "seeds": [5], "overrides": {"top_k": 2}},
    ]
    assert expand(listed, {"epochs": 9, "patience": 2}) == [
        *(Job("intended", "full", seed, {}, {"epochs": 3, "patience": 2}) for seed in (0, 1)),
        Job("literal", "x", 5, {"top_k": 2}, {"epochs": 9, "patience": 2}),
    ]


def test_the_golden_test_of_the_detectors_watches_over_stored_runs_too():
    """One integer for the arithmetic of the model, wherever it is called."""
    assert detectors()["intended"].numerics == detectors()["literal"].numerics == train.MODEL_NUMERICS
