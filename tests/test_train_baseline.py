"""A neural baseline trained into the run store: bare machine, both stop rules, what is packed, no look-ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomaly_routing import packing, train
from anomaly_routing.paths import MarketPaths
from anomaly_routing.runs import RunStore, read_run
from anomaly_routing.tensors import Tensors
from anomaly_routing.train import Job, Keep, main, train_one
from anomaly_routing.train_baseline import as_run, baseline_key, generic_pressure, trainable
from tests.model.small_networks import altered, small_tensors
from tests.oracles import pressure_oracle
from tests.test_tensors import bare
from tests.test_train_command import files

SMALL = {"hidden": 4, "window": 5, "share": 1.0}
EPOCHS = 3


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return small_tensors()


@pytest.fixture(scope="module")
def tensor_file(tensors, tmp_path_factory):
    return tensors.save(tmp_path_factory.mktemp("interim") / "tensors.npz")


def arguments(tensor_file, out, *more) -> list[str]:
    command = ["--market", "m", "--tensors", str(tensor_file), "--out", str(out), "--device", "cpu", "--threads", "1"]
    command += ["--tier", "quick", "--epochs", str(EPOCHS), "--method", "lstm_ae"]
    return [*command, "--set", *(f"{key}={value}" for key, value in SMALL.items()), *more]


@pytest.fixture(scope="module")
def stored(tensors, tmp_path_factory):
    """The first seed's run, in memory again."""
    store = RunStore(tmp_path_factory.mktemp("runs"))
    job = Job("lstm_ae", seed=3, overrides=SMALL, training={"epochs": EPOCHS})
    key = train_one(tensors, job, store, device="cpu", tier="quick", scratch=store.folder, keep=Keep())
    assert files(store.folder) == [key.filename] and key == job.key(tensors)
    return read_run(store.path(key))


def test_a_run_goes_to_the_store_of_its_stage(tensor_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "MarketPaths", lambda market: MarketPaths(market, tmp_path))
    command = arguments(tensor_file, "left out")
    del command[command.index("--out") : command.index("--out") + 2]
    main(command)
    assert Path(capsys.readouterr().out.strip()).parent == tmp_path / "reports" / "m" / "runs" / "deep_baselines"


def test_a_bare_machine_trains_a_baseline_once_and_not_again(tensor_file, tmp_path):
    command = arguments(tensor_file, tmp_path)
    done = bare(
        "import anomaly_routing.train as command, anomaly_routing.train_baseline as baseline\n"
        f"command.main({command!r})\n"
        "baseline.as_run = None\n"
        f"command.main({command!r})\n"
        "print(*sorted({'scipy', 'sklearn', 'matplotlib', 'yaml', 'statsmodels'} & set(sys.modules)), 'loaded')"
    )
    assert done.returncode == 0, done.stderr
    path, again, loaded = done.stdout.splitlines()
    assert path == again and loaded == "loaded" and len(files(tmp_path)) == 1
    assert f"{EPOCHS}/{EPOCHS}" in done.stderr  # the progress


def test_what_a_stored_run_says(stored, tensors):
    info = stored.info
    assert info["flagged"] is None  # an autoencoder of this kind has no cut of its own
    assert info["family"] == "temporal" and info["tier"] == "quick" and info["device"] == "cpu"
    assert info["epochs"] == EPOCHS and set(info["best"]) == {"tail", "val"} and info["parameters"] > 0
    assert [line["epoch"] for line in info["history"]] == list(range(EPOCHS))
    assert {"loss", "tail", "val", "seconds"} <= set(info["history"][0]) and info["milliseconds_a_session"] > 0
    for named in (info["channels"], info["second_channel"]):
        assert {column for one in named.values() for column in one.values()} <= set(stored.daily.columns)
    assert list(stored.daily.index) == list(tensors.sessions[tensors.scored])
    late = tensors.val | tensors.test
    assert list(stored.score_sessions) == list(tensors.sessions[late])
    assert (np.isfinite(stored.score) == tensors.active[late]).all()


@pytest.mark.parametrize(("method", "own"), [("robust_autoencoder", {}), ("metric_vmf", {"window": 5})])
def test_a_cut_of_its_own_is_reported(method, own, tensors, tmp_path):
    panel, store = tensors.panel(), RunStore(tmp_path)
    job = Job(method, seed=1, overrides=own, training={"epochs": 2})
    key = train_one(tensors, job, store, device="cpu", tier="quick", scratch=tmp_path, keep=Keep())
    detector = trainable()[method].factory(seed=1, device="cpu", epochs=2, **own)
    score = detector.fit(panel, tensors.train, tensors.val).use("tail").decision_function(panel)
    for part in ("train", "val", "test"):
        days = np.flatnonzero(getattr(tensors, part))
        above = [score[t, i] > detector.flag_threshold for t in days for i in np.flatnonzero(panel.active[t])]
        assert len(above) > 0 and store.load(key).info["flagged"][part] == pytest.approx(np.mean(above))


def test_a_later_seed_keeps_no_single_stock(tensors, monkeypatch):
    raw = {"tail": np.random.default_rng(0).random(tensors.active.shape)}
    monkeypatch.setattr(packing, "PAST", 12)
    run = as_run(tensors, raw, {}, keep_stocks=False)
    assert run.score.shape == (0, len(tensors.tickers)) and len(run.daily) == 12 + (tensors.val | tensors.test).sum()
    assert not [c for c in run.daily if c.endswith("@val")]  # one stop rule, one set of columns
    assert run.info["channels"] == {"paper": {"I": "mean"}, "matched": {"I": "mean"}}


def test_scores_and_pressure_equal_the_slow_computation(tensors):
    rng = np.random.default_rng(1)
    raw = rng.gamma(2.0, size=tensors.active.shape)
    run = as_run(tensors, {"tail": np.where(tensors.active, raw, np.nan)}, {}, keep_stocks=True)
    rows = np.flatnonzero(tensors.scored)
    active, late = tensors.active[rows], (tensors.val | tensors.test)[rows]
    statistics = pressure_oracle.score_statistics(raw[rows], active, tensors.train[rows])
    s = pressure_oracle.scores(raw[rows], active, range(len(rows)), *statistics)
    np.testing.assert_allclose(run.score, s[late], rtol=1e-3)
    np.testing.assert_allclose(run.daily["mean"], np.nanmean(s, axis=1), rtol=1e-4)
    cut = pressure_oracle.quantile(pressure_oracle.pooled(s, active, np.flatnonzero(tensors.val[rows])), 0.95)
    pressure = []
    for t in range(len(rows)):
        on = s[t, active[t]]
        top = np.sort(on)[::-1][: -(-len(on) // 20)]
        pressure.append(0.30 * np.mean(on > cut) + 0.25 * np.sqrt(np.mean(top**2)) + 0.20 * 2 * np.std(on))
    np.testing.assert_allclose(run.daily["mpi"], np.array(pressure) / 0.75, rtol=1e-4)
    np.testing.assert_allclose(generic_pressure(s, active, cut), np.array(pressure) / 0.75, rtol=1e-9)


def test_no_daily_series_sees_later_sessions(tensors):
    """Weights, statistics and cuts come from training and validation; everything after session t is altered."""
    detector = lstm().fit(tensors.panel(), tensors.train, tensors.val)

    def daily(market):
        raw = {rule: detector.use(rule).decision_function(market.panel()) for rule in ("tail", "val")}
        return as_run(market, raw, {}, True).daily

    before, rows = daily(tensors), np.flatnonzero(tensors.scored)
    for t in np.flatnonzero(tensors.test[rows])[[0, 10, -2]]:
        after = daily(altered(tensors, rows[t] + 1))
        np.testing.assert_allclose(after[: t + 1], before[: t + 1], rtol=1e-4, atol=1e-6)
        assert not np.allclose(after[t + 1 :], before[t + 1 :], rtol=1e-3)


def lstm():
    from anomaly_routing.baselines.temporal.lstm_autoencoder import LSTMAutoencoder

    return LSTMAutoencoder(epochs=EPOCHS, **SMALL)


def test_the_weights_of_the_paper_rule_stop_on_the_validation_sessions(tensors):
    both = lstm().fit(tensors.panel(), tensors.train, tensors.val)
    one = lstm().fit(tensors.panel(), tensors.train)
    assert set(both.weights) == {"tail", "val"} and set(one.weights) == {"tail"}
    for name, value in one.weights["tail"].items():
        np.testing.assert_array_equal(value, both.weights["tail"][name])
    spoilt = replace(tensors, x=np.where(tensors.val[:, None, None], 8 - tensors.x, tensors.x).astype(np.float32))
    other = lstm().fit(spoilt.panel(), spoilt.train, spoilt.val)
    np.testing.assert_array_equal(other.weights["tail"]["out.bias"], both.weights["tail"]["out.bias"])


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("lstm", {}, "no method 'lstm'; there are: intended, literal, .*lstm_ae"),
        ("lstm_ae", {"hiden": 3}, "lstm_ae has no parameter hiden; it has: epochs, .*hidden"),
    ],
)
def test_a_refusal_comes_before_any_training(tensors, method, params, message):
    with pytest.raises(ValueError, match=message):
        baseline_key(method, 0, params, tensors)
    with pytest.raises(ValueError, match=message):
        Job(method, overrides=params).key(tensors)


def test_where_it_runs_is_no_part_of_the_key(tensors):
    assert baseline_key("lstm_ae", 0, {}, tensors) == baseline_key("lstm_ae", 0, {"device": "cuda"}, tensors)
    assert baseline_key("lstm_ae", 0, {}, tensors) != baseline_key("lstm_ae", 0, {"hidden": 3}, tensors)


def test_the_command_refuses_what_cannot_be(tensor_file, tmp_path):
    with pytest.raises(SystemExit, match="lstm_ae has no parameter depth"):
        main(arguments(tensor_file, tmp_path, "depth=3"))
    assert not files(tmp_path)
