"""The four stress indicators against a slow reading of SPEC 5.1 and numpy's correlations, and at the edges."""

from __future__ import annotations

import statistics

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.data.prior_graph import prior_graph
from anomaly_routing.features.panel import FEATURES_NUMERICS, build_panel, compute_features, fit_scaler
from anomaly_routing.features.stress import mean_correlation, stress_indicators
from anomaly_routing.panel import Splits
from anomaly_routing.tensors import Tensors
from tests.markets import nasty_prices, random_prices, universe

DAYS, STOCKS = 70, 8


def slow(returns, active, ext_z, spread, amihud, t) -> list[float]:
    """One session, stock by stock and day by day."""
    here = np.flatnonzero(active[t])
    index = []
    for j in range(t - 19, t + 1):
        on_the_day = [returns[j, i] for i in range(returns.shape[1]) if j >= 0 and active[j, i]]
        if on_the_day:
            index.append(sum(on_the_day) / len(on_the_day))
    volatility = statistics.stdev(index) * 252**0.5 if len(index) == 20 else np.nan
    moves = [abs(ext_z[t, i]) > 2 for i in here if not np.isnan(ext_z[t, i])]
    window = returns[max(t - 19, 0) : t + 1]
    whole = [i for i in here if np.isfinite(window[:, i]).sum() == 20 and window[:, i].std() > 1e-8]
    correlation = np.nan
    if len(whole) > 1:
        matrix = np.corrcoef(window[:, whole].T)
        correlation = matrix[~np.eye(len(whole), dtype=bool)].mean()
    middle = [(float(spread[t, i]) + float(amihud[t, i])) / 2 for i in here]
    return [
        volatility,
        sum(moves) / len(moves) if moves else np.nan,
        correlation,
        statistics.median(middle) if middle else np.nan,
    ]


def drawn(seed: int = 0) -> dict[str, np.ndarray]:
    """Correlated returns with gaps, stocks that come and go."""
    rng = np.random.default_rng(seed)
    shape = (DAYS, STOCKS)
    returns = 0.01 * (rng.standard_t(4, (DAYS, 1)) * rng.uniform(0, 1.5, STOCKS) + rng.standard_t(4, shape))
    active = rng.random(shape) < 0.97
    active[:30, 0], active[45:, 1] = False, False
    returns[~active] = np.nan
    ext_z = np.where(rng.random(shape) < 0.02, np.nan, 1.5 * rng.standard_normal(shape))
    spread, amihud = rng.standard_normal((2, *shape)).astype(np.float32)
    return {"returns": returns, "active": active, "ext_z": ext_z, "spread": spread, "amihud": amihud}


@pytest.mark.parametrize("seed", range(3))
def test_indicators_equal_the_slow_reading(seed):
    given = drawn(seed)
    got = stress_indicators(**given)
    expected = np.array([slow(**given, t=t) for t in range(DAYS)])
    assert got.dtype == np.float64 and np.isfinite(expected).mean(0).min() > 0.5
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [random_prices, nasty_prices])
def test_the_panel_holds_the_indicators_of_its_market(make):
    prices, members = make(), universe()
    features = compute_features(prices, members)
    scaler = fit_scaler(features, np.arange(120) >= 40, members["sector"].to_numpy(object))
    panel = build_panel(features, scaler, prices, members, prior=prior_graph(members))
    spread, amihud = (panel.x[:, :, panel.features.index(name)] for name in ("spread", "amihud"))
    ext_z = features.sel(feature="ext_z").to_numpy()
    expected = [slow(panel.returns, panel.active, ext_z, spread, amihud, t) for t in range(120)]
    np.testing.assert_allclose(panel.stress, expected, rtol=1e-9, atol=1e-12)
    assert panel.group == features["group"].to_numpy().tolist() and panel.prior.dtype == np.float32
    assert np.isnan(panel.stress[:20]).all(1).sum() >= 15 and np.isfinite(panel.stress[60:]).all()


@pytest.mark.parametrize("n", [2, 3, 40])
def test_mean_correlation_is_that_of_the_correlation_matrix(n):
    rng = np.random.default_rng(n)
    returns = rng.standard_normal((25, 1)) * rng.uniform(-1, 2, n) + rng.standard_normal((25, n)) + 5
    matrix = np.corrcoef(returns[-20:].T)
    expected = matrix[np.triu_indices(n, 1)].mean()
    got = mean_correlation(returns, np.ones((25, n), bool))
    assert got[-1] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(got[:19]).all() and np.isfinite(got[19:]).all()


def test_bounds_of_the_mean_correlation():
    rng = np.random.default_rng(0)
    one = rng.standard_normal((20, 1))
    everything = np.ones((20, 4), bool)
    assert mean_correlation(one * [1, 2, 3, 4] + 1, everything)[-1] == pytest.approx(1)
    assert mean_correlation(one * [1, -1], everything[:, :2])[-1] == pytest.approx(-1)


def test_one_stock_has_volatility_but_no_correlation():
    given = {k: v[:, :1].copy() for k, v in drawn().items()}
    given["active"][:], given["returns"][:] = True, np.random.default_rng(1).normal(size=(DAYS, 1))
    got = stress_indicators(**given)
    assert got[-1, 0] == pytest.approx(given["returns"][-20:].std(ddof=1) * 252**0.5)
    assert np.isnan(got[:, 2]).all() and np.isfinite(got[19:, [0, 3]]).all()


def test_no_active_stock_leaves_everything_undefined_and_the_next_windows_short():
    given = drawn()
    given["active"][40] = False
    got = stress_indicators(**given)
    assert np.isnan(got[40]).all()
    assert np.isnan(got[40:60, 0]).all() and np.isfinite(got[60:, 0]).all()
    assert np.isfinite(got[41:, [1, 3]]).all()


def test_constant_returns_have_no_volatility_and_no_correlation():
    given = drawn()
    given["active"][:], given["returns"][:] = True, 0.01
    got = stress_indicators(**given)
    np.testing.assert_allclose(got[19:, 0], 0, atol=1e-12)
    assert np.isnan(got[:, 2]).all()
    moving = np.random.default_rng(2).normal(size=(DAYS, 2))
    given["returns"][:, :2] = moving  # the six flat stocks take no part
    expected = np.corrcoef(moving[-20:].T)[0, 1]
    assert stress_indicators(**given)[-1, 2] == pytest.approx(expected)


def test_a_market_shorter_than_a_window():
    got = stress_indicators(**{k: v[:7] for k, v in drawn().items()})
    assert got.shape == (7, 4) and np.isnan(got[:, [0, 2]]).all() and np.isfinite(got[:, [1, 3]]).all()


@pytest.mark.real_data
def test_real_panel_indicators_match_the_specification(us100_folder):
    """SPEC 5.1: every training maximum falls in March-June 2020; normalised maxima and psi before any training."""
    members = pd.read_csv(us100_folder / "universe.csv").query("in_us100").rename(columns={"gics_sector": "sector"})
    prices = pd.read_parquet(us100_folder / "prices.parquet")
    prices = prices[prices["ticker"].isin(members["ticker"])].reset_index(drop=True)
    features, splits = compute_features(prices, members), Splits()
    train = splits.train(pd.DatetimeIndex(features["session"].to_numpy()))
    scaler = fit_scaler(features, train, members["sector"].to_numpy(object))
    panel = build_panel(features, scaler, prices, members, prior=prior_graph(members))
    t = Tensors.from_panel(panel, splits, "us100", "", FEATURES_NUMERICS)
    peaks = t.sessions[t.train][t.stress[t.train].argmax(0)]
    assert (peaks >= "2020-03-01").all() and (peaks <= "2020-06-30").all()
    level = t.normalised_stress().astype(float)
    assert level[t.test].max(0) == pytest.approx([0.25, 0.63, 0.56, 0.19], abs=0.006)
    intended, literal = (1 / (1 + np.exp(bias - level.sum(1))) for bias in (2, 0))
    medians = [(np.median(intended[m]), np.median(literal[m])) for m in (t.train, t.val, t.test)]
    assert np.ravel(medians) == pytest.approx([0.19, 0.64, 0.27, 0.73, 0.18, 0.62], abs=0.006)
    assert (intended[t.test].max(), literal[t.test].max()) == pytest.approx((0.31, 0.77), abs=0.006)
    march = (t.sessions >= "2023-03-08") & (t.sessions <= "2023-03-17")
    assert (intended[march].max(), literal[march].max()) == pytest.approx((0.29, 0.75), abs=0.006)
