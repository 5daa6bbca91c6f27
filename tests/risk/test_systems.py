"""Whole systems: coverage where the truth is known, no look ahead, stored units, and what the scoreboard gets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted_assets import altered, planted_asset

from anomaly_routing.evaluation.protocols import evaluate_daily
from anomaly_routing.panel import Splits
from anomaly_routing.risk import systems
from anomaly_routing.risk.convergence import convergence
from anomaly_routing.risk.forecasts import Forecast, constant, har, yearly_spans
from anomaly_routing.risk.lstm import LstmSettings
from anomaly_routing.risk.systems import (
    alarm_series,
    all_systems,
    backtest,
    backtest_all,
    lstm_forecasts,
    plain_forecasts,
    publish,
    rolling_historical,
    value_at_risk,
)
from anomaly_routing.runs import RunStore, read_run
from anomaly_routing.scoreboard import channels

P, QUICK, FIRST = 0.01, LstmSettings(first_epochs=2, more_epochs=1, hidden=4), "2020-07-01"
SPLITS = Splits("2018-06-01", "2020-12-31", "2021-12-31", "2022-08-01")


@pytest.fixture(scope="module")
def spans(asset):
    return yearly_spans(asset.sessions, FIRST)


def test_the_true_sigma_with_any_tail_covers_one_percent():
    """Returns are sigma times a normal, sigma known: every tail must come near 1% over many sessions."""
    asset = planted_asset(n=12_000, noise=0.0, seed=0)
    spans, truth = [slice(6000, 12_000)], Forecast(np.sqrt(asset.variance), asset.variance)
    for tail in ("gaussian", "student", "filtered historical", "evt"):
        var, shortfall = value_at_risk(asset, truth, spans, tail, P)
        line = backtest(asset.returns[6000:], var[6000:], shortfall[6000:], P)
        assert line["low"] < P < line["high"] and line["p Kupiec"] > 0.05, tail
        assert line["loss over shortfall"] == pytest.approx(1, abs=0.15), tail


def test_a_var_that_ignores_volatility_has_its_violations_in_clusters():
    asset = planted_asset(n=6000, phi=0.98, seed=5)  # a seed whose rate of violations comes out near the nominal one
    spans = [slice(3000, 6000)]
    lines = []
    for make in (constant, har):
        var, shortfall = value_at_risk(asset, make(asset, spans), spans, "evt", 0.05)
        lines.append(backtest(asset.returns[3000:], var[3000:], shortfall[3000:], 0.05))
    assert lines[0]["p independence"] < 0.01 and lines[0]["p duration"] < 0.01
    assert lines[0]["ratio"] == pytest.approx(0.05, abs=0.01)  # so that what is rejected is the clusters
    assert lines[0]["quantile loss"] > lines[1]["quantile loss"]


@pytest.mark.parametrize("tail", ["gaussian", "student", "filtered historical", "evt"])
def test_rows_after_t_change_no_value_at_risk_up_to_the_session_after_t(asset, spans, tail):
    after = spans[1].stop - 10
    one, other = (value_at_risk(a, har(a, spans), spans, tail, P)[0] for a in (asset, altered(asset, after)))
    assert np.array_equal(one[: after + 2], other[: after + 2], equal_nan=True)
    assert not np.allclose(one[after + 2 :], other[after + 2 :])
    rolled = [rolling_historical(a.returns, P)[0] for a in (asset, altered(asset, after))]
    assert np.array_equal(rolled[0][: after + 2], rolled[1][: after + 2], equal_nan=True)


def test_rolling_historical_is_a_slow_loop(asset):
    var, shortfall = rolling_historical(asset.returns, P, 250)
    for t in (250, 611, len(var) - 1):
        past = -asset.returns[t - 250 : t]
        assert var[t] == pytest.approx(np.quantile(past, 0.99))
        assert shortfall[t] == pytest.approx(past[past >= var[t]].mean())
    assert np.isnan(var[:250]).all()


def test_a_stored_unit_is_not_trained_again_and_gives_the_same(asset, index, spans, tmp_path, monkeypatch):
    arguments = ([index, asset], spans, RunStore(tmp_path), "simulated", "abc", [0, 1], QUICK)
    first, seconds = lstm_forecasts(*arguments)
    assert set(first) == {(m, s) for m in ("lstm", "lstm_volume") for s in (0, 1)} == set(seconds)
    bytes_of = {path.name: path.read_bytes() for path in tmp_path.glob("*.npz")}
    assert len(bytes_of) == 4 and not (tmp_path / "index.json").exists()

    def never(*_):
        raise AssertionError("trained again")

    with monkeypatch.context() as patched:
        patched.setattr(systems, "lstm_outputs", never)
        again, _ = lstm_forecasts(*arguments)
        assert all(np.array_equal(a.sigma, b.sigma, equal_nan=True)
                   for key in first for a, b in zip(first[key], again[key], strict=True))  # fmt: skip
        with pytest.raises(AssertionError, match="trained again"):
            lstm_forecasts(*arguments[:4], "other data", *arguments[5:])
    next(tmp_path.glob("*seed1*")).unlink()
    lstm_forecasts(*arguments)
    kept = {name: read_run(tmp_path / name).score for name in bytes_of}
    assert len(kept) == 4 and all(np.isfinite(score).all() for score in kept.values())


def test_the_check_of_convergence_trains_as_the_units_do(asset, index, spans, tmp_path):
    """Times one gives the forecasts of the stored unit; times four has four times the cap, and never a worse loss."""
    arguments = ([index, asset], spans, RunStore(tmp_path), "simulated", "abc")
    made, _ = lstm_forecasts(*arguments, [1], QUICK)
    log, forecasts = convergence(*arguments, 1, QUICK)
    for a, b in zip(made["lstm_volume", 1], forecasts[1], strict=True):
        np.testing.assert_array_equal(a.variance, b.variance)
    assert not np.array_equal(forecasts[1][0].variance, forecasts[4][0].variance, equal_nan=True)
    assert len(log) == 2 * 2 * len(spans) and (log["epochs"] <= log["cap"]).all()
    caps = (
        log[log.times == 4].set_index(["asset", "span"])["cap"]
        / log[log.times == 1].set_index(["asset", "span"])["cap"]
    )
    assert (caps == 4).all() and (log["held-out loss"] <= log["loss before"]).all()
    first = log[log.span == 0].pivot_table(index="asset", columns="times", values="held-out loss")
    assert (first[4] <= first[1]).all()  # the same start and batches, longer
    again, _ = convergence(*arguments, 1, QUICK)
    pd.testing.assert_frame_equal(log, again)


def test_what_is_stored_says_nothing_of_the_level(asset, index, spans, tmp_path):
    """Returns ten times as large, a variance a hundred times: the stored outputs are the same."""
    loud = [dataclasses.replace(a, returns=10 * a.returns, variance=100 * a.variance) for a in (index, asset)]
    stored = []
    for folder, assets in (("a", [index, asset]), ("b", loud)):
        lstm_forecasts(assets, spans, RunStore(tmp_path / folder), "m", "h", [0], QUICK)
        stored.append([read_run(p).score for p in sorted((tmp_path / folder).glob("*.npz"))])
    assert np.allclose(stored[0], stored[1], atol=0.011)


@pytest.fixture(scope="module")
def everything(asset, index, spans, tmp_path_factory):
    assets, folder = [index, asset], tmp_path_factory.mktemp("units")
    made, seconds = lstm_forecasts(assets, spans, RunStore(folder), "simulated", "abc", [0, 1], QUICK)
    return assets, all_systems(assets, plain_forecasts(assets, spans) | made, spans, P), seconds


def test_every_system_is_backtested_on_the_same_sessions(everything, spans):
    assets, made, _ = everything
    table = backtest_all(assets, made, slice(spans[0].start, None), P)
    assert len(made) == 4 * 3 + 1 + 2 * 2 * 3 + 1 and len(table) == 2 * len(made)
    assert (
        set(table.sessions) == {len(assets[0].sessions) - spans[0].start}
        and (table.ratio == table.violations / table.sessions).all()
    )
    assert ((table.low <= table.ratio) & (table.ratio <= table.high)).all()


def test_the_scoreboard_gets_the_order_of_days_and_can_judge_it(everything, spans, tmp_path):
    assets, made, seconds = everything
    store, settings = RunStore(tmp_path), {"p": P}
    arguments = (assets, made, spans, SPLITS, store, "simulated", "abc", "quick", settings, seconds)
    keys = publish(*arguments)
    assert [(k.method, k.seed) for k in keys] == [
        ("lstm_rv_evt", 0),
        ("lstm_rv_evt", 1),
        ("har_rv_evt", 0),
        ("garch_t_evt", 0),
    ]
    assert store.current() == sorted(store.path(k) for k in keys)
    run = store.load(keys[0])
    own = alarm_series(assets, made["lstm_volume", "evt", 0][0])[SPLITS.scored(assets[0].sessions)]
    assert np.array_equal(run.daily["mean"], own["mean"].rank()) and run.daily["mean"].is_unique
    assert run.score.shape[0] == 0 and run.daily["banks"].isna().all()
    violated = own["mean"] > 1
    assert run.daily.loc[violated, "mean"].min() > run.daily.loc[~violated, "mean"].max()
    day = assets[0].sessions[SPLITS.test(assets[0].sessions)][60]
    rest = {"split": ["test"], "alternatives": [[]], "exogenous": [False], "collapse_with": [None]}
    events = pd.DataFrame({"id": ["E"], "date": [day]} | rest)
    line = evaluate_daily(channels(run, "paper"), events, splits=SPLITS)["paper"]
    assert line["n_events"] == 1
    before = store.path(keys[0]).read_bytes()
    assert publish(*arguments) == keys and store.path(keys[0]).read_bytes() == before


def test_the_index_must_come_first(everything):
    assets, made, _ = everything
    with pytest.raises(ValueError, match="not the index"):
        alarm_series(assets[::-1], made["har", "evt", 0][0])
