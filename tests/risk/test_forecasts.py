"""Forecasts against statsmodels, a hand-written recursion and planted processes; and no look ahead, for any of them."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from arch import arch_model
from planted_assets import altered, planted_asset

from anomaly_routing.risk.forecasts import (
    LAGS,
    constant,
    from_log_variance,
    garch_t,
    har,
    har_design,
    har_log_variance,
    stretches,
    yearly_spans,
)
from anomaly_routing.risk.lstm import LstmSettings, lstm_outputs, unscale, windows
from anomaly_routing.risk.realised_variance import Asset

QUICK = LstmSettings(first_epochs=3, more_epochs=1, hidden=8)
FIRST = "2020-07-01"


@pytest.fixture(scope="module")
def spans(asset):
    return yearly_spans(asset.sessions, FIRST)


def test_spans_cover_every_session_once_year_by_year(asset, spans):
    days = asset.sessions
    assert spans[-1].stop == len(days) and all(a.stop == b.start for a, b in pairwise(spans))
    assert days[spans[0].start] == pd.Timestamp(FIRST) and days[spans[0].start - 1] < pd.Timestamp(FIRST)
    assert all(len(set(days[s].year)) == 1 for s in spans) and len(spans) == days[-1].year - 2020 + 1
    served = [np.arange(len(days))[rows] for _, rows in stretches(spans)]
    assert np.array_equal(np.concatenate(served), np.arange(len(days)))


def test_a_span_that_begins_too_early_or_after_the_end_is_refused(asset):
    with pytest.raises(ValueError, match="too few to fit on"):
        yearly_spans(asset.sessions, "2018-06-01")
    with pytest.raises(ValueError, match="no session on or after 2050"):
        yearly_spans(asset.sessions, "2050-01-01")


@pytest.mark.parametrize("with_volume", [False, True])
def test_har_is_ordinary_least_squares(asset, spans, with_volume):
    log_rv, end = np.log(asset.variance), spans[1].start
    rows = []
    for t in range(LAGS, len(log_rv)):
        row = [log_rv[t - k : t].mean() for k in (1, 5, 22)]
        rows.append(row + ([asset.log_volume[t - k : t].mean() for k in (1, 5, 22)] if with_volume else []))
    design = sm.add_constant(np.array(rows))
    fit = sm.OLS(log_rv[LAGS:end], design[: end - LAGS]).fit()
    ours = har_log_variance(asset, spans, with_volume)
    assert np.allclose(ours[spans[1]], fit.predict(design)[spans[1].start - LAGS : spans[1].stop - LAGS])
    assert np.isnan(ours[:LAGS]).all() and np.isfinite(ours[LAGS:]).all()
    assert har_design(asset, with_volume).shape[1] == design.shape[1]


def test_garch_is_its_recursion_with_the_parameters_of_arch(asset, spans):
    span = spans[1]
    fit = arch_model(100 * asset.returns[: span.start], dist="t").fit(disp="off")
    mu, omega, alpha, beta, _ = fit.params
    residual = 100 * asset.returns - mu
    weights = 0.94 ** np.arange(75)
    variance = [weights / weights.sum() @ residual[:75] ** 2]
    variance[0] = omega + (alpha + beta) * variance[0]
    for t in range(1, span.stop):
        variance.append(omega + alpha * residual[t - 1] ** 2 + beta * variance[-1])
    ours = garch_t(asset, spans)
    assert np.allclose(ours.sigma[span], np.sqrt(variance[span.start :]) / 100, rtol=1e-3)
    level = asset.variance[LAGS : span.start].mean() / np.mean(variance[LAGS : span.start])
    assert np.allclose(ours.variance[span], level * np.array(variance[span.start :]), rtol=2e-3)


def test_log_normal_means_are_unbiased():
    """ln RV = f + noise of variance v: E RV = exp(f + v/2), E sqrt(RV) = exp(f/2 + v/8)."""
    rng, n = np.random.default_rng(0), 40_000
    expected = rng.standard_normal(n) - 9
    actual = np.exp(expected + 0.7 * rng.standard_normal(n))
    asset = Asset("A", pd.bdate_range("1900-01-01", periods=n), rng.standard_normal(n), actual, rng.standard_normal(n))
    made = from_log_variance(asset, expected, [slice(n // 2, n)])
    assert made.variance.mean() == pytest.approx(actual.mean(), rel=0.03)
    assert made.sigma.mean() == pytest.approx(np.sqrt(actual).mean(), rel=0.01)


def test_a_constant_is_the_past(asset, spans):
    made = constant(asset, spans)
    assert np.ptp(made.sigma[spans[2]]) == 0
    assert made.sigma[spans[2].start] == pytest.approx(asset.returns[LAGS : spans[2].start].std())
    assert made.variance[spans[2].start] == pytest.approx(asset.variance[LAGS : spans[2].start].mean())


# --- the LSTM ---------------------------------------------------------------------------------------------------------
def test_windows_hold_the_last_22_sessions_and_the_next_target(asset, spans):
    x, y = windows(asset, spans[0].start, with_volume=True)
    log_rv, end = np.log(asset.variance), spans[0].start
    scaled = (log_rv - log_rv[:end].mean()) / log_rv[:end].std()
    assert x.shape == (len(log_rv) - LAGS, LAGS, 4) and y.shape == (len(log_rv) - LAGS,)
    assert np.allclose(y, scaled[LAGS:], atol=1e-5) and np.allclose(x[100, :, 0], scaled[100:122], atol=1e-5)
    without, _ = windows(asset, end, with_volume=False)
    assert (without[..., 3] == 0).all() and np.array_equal(without[..., :3], x[..., :3])


def test_the_lstm_recovers_a_planted_autoregression():
    """AR(1) with phi 0.9 seen with noise: far better than the mean, and near the best linear forecast."""
    asset = planted_asset(n=1600, phi=0.9, noise=0.1, seed=4)
    spans = [slice(1200, 1600)]
    outputs = lstm_outputs(asset, spans, 0, False, LstmSettings(first_epochs=60))
    log_rv, out = np.log(asset.variance), spans[0]
    expected = log_rv[:1200].mean() + log_rv[:1200].std() * outputs
    error = np.mean((log_rv - expected)[out] ** 2)
    mean_error = np.mean((log_rv[out] - log_rv[:1200].mean()) ** 2)
    best = np.mean((log_rv - har_log_variance(asset, spans, False))[out] ** 2)
    assert error < 0.5 * mean_error and error < 1.25 * best
    assert np.corrcoef(expected[out], log_rv[out])[0, 1] > 0.8


def test_the_lstm_uses_a_volume_that_tells_tomorrow():
    asset = planted_asset(n=1200, phi=0.0, noise=0.0, seed=5)
    told = dataclasses.replace(asset, log_volume=np.r_[np.log(asset.variance)[1:], 0.0] - 3)
    spans, settings = [slice(900, 1200)], LstmSettings(first_epochs=60)
    missed = []
    for with_volume in (True, False):
        made = unscale(told, lstm_outputs(told, spans, 0, with_volume, settings), spans)
        missed.append(np.var(np.log(told.variance / made.variance)[spans[0]]))
    assert missed[0] < 0.3 * missed[1]


def test_the_lstm_is_repeatable_and_leaves_torch_as_it_was(asset, spans):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = lstm_outputs(asset, spans, 1, True, QUICK)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(first, lstm_outputs(asset, spans, 1, True, QUICK), equal_nan=True)
    assert not np.array_equal(first, lstm_outputs(asset, spans, 2, True, QUICK), equal_nan=True)
    assert np.isnan(first[:LAGS]).all() and np.isfinite(first[LAGS:]).all()
    assert np.allclose(first[LAGS:], np.round(first[LAGS:], 2))


def test_a_dead_channel_is_named(asset, spans):
    flat = dataclasses.replace(asset, log_volume=np.full(len(asset.sessions), 3.0))
    with pytest.raises(ValueError, match="PLANTED: ln volume does not move"):
        lstm_outputs(flat, spans, 0, True, QUICK)


# --- no look ahead ----------------------------------------------------------------------------------------------------
MAKERS = {
    "constant": constant,
    "garch_t": garch_t,
    "har": har,
    "har_volume": lambda a, s: har(a, s, True),
    "lstm": lambda a, s: unscale(a, lstm_outputs(a, s, 0, True, QUICK), s),
}


@pytest.mark.parametrize("name", MAKERS)
def test_rows_after_t_change_no_forecast_up_to_the_session_after_t(asset, spans, name):
    """Also at a refit: t is one year's last session but ten."""
    after = spans[1].stop - 10
    before, later = (MAKERS[name](a, spans) for a in (asset, altered(asset, after)))
    for field in ("sigma", "variance"):
        one, other = (getattr(made, field) for made in (before, later))
        assert np.array_equal(one[: after + 2], other[: after + 2], equal_nan=True), name
        assert not np.allclose(one[after + 2 :], other[after + 2 :])
