"""One-day-ahead variance forecasts, refitted yearly on an expanding window: HAR-RV, HAR-RV-V, GARCH-t, a constant.

A forecast for session t uses rows up to t-1 and parameters fitted on targets before the first session of t's span. Up
to the first span there is no forecast, so the fit itself stands there (in sample) and only feeds the tail's residuals.
The LSTM is in `lstm.py`; the same functions turn its path into sigma and variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from arch import arch_model

from anomaly_routing.risk.realised_variance import Asset

LAGS = 22  # sessions in a month: the memory of HAR and the input length of the LSTM
MIN_WINDOW = 250  # sessions before the first forecast
PERCENT = 100.0  # arch wants returns of the order of one


@dataclass(frozen=True)
class Forecast:
    """What was expected for each session, [S]; NaN in the first `LAGS` sessions.

    From the first span on, what was known the evening before. In the first estimation window it is the fit itself, in
    sample: its residuals feed the tail of the first span and are smaller than those that the forecasts leave, so the
    first span's tail is too short rather than too long.

    sigma : standard deviation of the return, up to a constant that the tail takes out (AUDIT 6).
    variance : of the realised-variance proxy, per day.
    """

    sigma: np.ndarray
    variance: np.ndarray


def yearly_spans(sessions: pd.DatetimeIndex, first: str) -> list[slice]:
    """Positions of each span with parameters of its own: from `first` (ISO date) to the year's end, then year by year.

    Raises ValueError if `first` leaves fewer than 250 sessions to fit on, or none to forecast.
    """
    start = int(sessions.searchsorted(pd.Timestamp(first)))
    if start < MIN_WINDOW:
        raise ValueError(f"{start} sessions before {first} are too few to fit on: {MIN_WINDOW} at least, move it later")
    if start == len(sessions):
        raise ValueError(f"no session on or after {first}: the market ends on {sessions[-1]:%Y-%m-%d}")
    years = sessions[start:].year
    edges = [start, *(start + np.flatnonzero(np.diff(years)) + 1), len(sessions)]
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def stretches(spans: list[slice]) -> list[tuple[int, slice]]:
    """(end of the estimation window, rows that its parameters serve): the first fit also serves its own window."""
    return [(span.start, slice(0 if k == 0 else span.start, span.stop)) for k, span in enumerate(spans)]


def har_design(asset: Asset, with_volume: bool) -> np.ndarray:
    """Regressors of ln RV_t, all known at t-1, [S, 4 or 7]: 1, and the means of ln RV (and of ln volume) over the last
    1, 5 and 22 sessions; NaN in the first 22 rows (Corsi 2009, in logs).
    """
    series = [np.log(asset.variance)] + ([asset.log_volume] if with_volume else [])
    means = [pd.Series(s).rolling(k).mean().shift(1).to_numpy() for s in series for k in (1, 5, LAGS)]
    return np.column_stack([np.ones(len(asset.sessions)), *means])


def har_log_variance(asset: Asset, spans: list[slice], with_volume: bool) -> np.ndarray:
    """Expected ln RV of each session, [S]: ordinary least squares on the sessions before each span."""
    design, target = har_design(asset, with_volume), np.log(asset.variance)
    expected = np.full(len(target), np.nan)
    for end, served in stretches(spans):
        beta = np.linalg.lstsq(design[LAGS:end], target[LAGS:end], rcond=None)[0]
        expected[served] = design[served] @ beta
    return expected


def from_log_variance(asset: Asset, expected: np.ndarray, spans: list[slice]) -> Forecast:
    """sigma = exp(f/2 + v/8) and variance = exp(f + v/2), the log-normal means, with v the variance of ln RV - f over
    the sessions before the span. expected : f [S], NaN in the first `LAGS` rows.
    """
    missed = np.log(asset.variance) - expected
    sigma, variance = np.full((2, len(expected)), np.nan)
    for end, served in stretches(spans):
        v = missed[LAGS:end].var()
        sigma[served], variance[served] = np.exp(expected[served] / 2 + v / 8), np.exp(expected[served] + v / 2)
    return Forecast(sigma, variance)


def har(asset: Asset, spans: list[slice], with_volume: bool = False) -> Forecast:
    """HAR-RV, or HAR-RV-V with the same three means of ln volume."""
    return from_log_variance(asset, har_log_variance(asset, spans, with_volume), spans)


def garch_t(asset: Asset, spans: list[slice]) -> Forecast:
    """GARCH(1,1) with Student-t innovations and a constant mean, on returns (Bollerslev 1987), fitted by `arch`.

    It forecasts the variance of returns; `variance` is rescaled by mean RV over mean forecast of the sessions before
    the span, so that it is judged on the proxy's level like the others.
    """
    sigma, variance = np.full((2, len(asset.returns)), np.nan)
    returns = PERCENT * asset.returns
    for end, served in stretches(spans):
        fitted = arch_model(returns[:end], mean="Constant", vol="GARCH", p=1, q=1, dist="t").fit(disp="off")
        # arch sees no row of the span itself: its own filter would set bounds by them
        path = garch_filter(returns[: served.stop], fitted.params.to_numpy(), fitted.conditional_volatility**2)
        level = asset.variance[LAGS:end].mean() / path[LAGS:end].mean()
        sigma[served], variance[served] = np.sqrt(path[served]) / PERCENT, level * path[served]
    sigma[:LAGS] = variance[:LAGS] = np.nan
    return Forecast(sigma, variance)


def garch_filter(returns: np.ndarray, params: np.ndarray, known: np.ndarray) -> np.ndarray:
    """sigma^2_t = omega + alpha (r_{t-1} - mu)^2 + beta sigma^2_{t-1}, [S], going on where `known` ends.

    params : mu, omega, alpha, beta, in the unit of the returns; further ones are ignored.
    """
    mu, omega, alpha, beta = params[:4]
    path = np.r_[known, np.empty(len(returns) - len(known))]
    for t in range(len(known), len(returns)):
        path[t] = omega + alpha * (returns[t - 1] - mu) ** 2 + beta * path[t - 1]
    return path


def constant(asset: Asset, spans: list[slice]) -> Forecast:
    """The past's own standard deviation and mean RV: a forecast that never moves within a year."""
    sigma, variance = np.full((2, len(asset.returns)), np.nan)
    for end, served in stretches(spans):
        sigma[served], variance[served] = asset.returns[LAGS:end].std(), asset.variance[LAGS:end].mean()
    sigma[:LAGS] = variance[:LAGS] = np.nan
    return Forecast(sigma, variance)
