"""Momentum-reversal features, 22-29 of SPEC 2: trends, their exhaustion and their turns."""

from __future__ import annotations

import numpy as np

from anomaly_routing.features.catalogue import feature
from anomaly_routing.features.inputs import Inputs
from anomaly_routing.features.rolling import lag, rolling_corr, rolling_max, rolling_min

GROUP = "momentum"
RSI_PERIOD = 14


@feature(GROUP, unit="log return", sign="two-sided", source="Jegadeesh 1990; SPEC 2.22")
def mom5(w: Inputs) -> np.ndarray:
    """p_t - p_{t-5}."""
    return w.p - lag(w.p, 5)


@feature(GROUP, unit="log return", sign="two-sided", source="Jegadeesh & Titman 1993; SPEC 2.23")
def mom20(w: Inputs) -> np.ndarray:
    """p_t - p_{t-20}."""
    return w.p - lag(w.p, 20)


@feature(GROUP, unit="0 or 1", sign="+", source="our choice; SPEC 2.24", binary=True)
def reversal(w: Inputs) -> np.ndarray:
    """1 if mom5 and mom20 differ in sign and |mom5| > sd sqrt(5), sd of the returns of t-19..t."""
    short, long = mom5(w), mom20(w)
    turned = (np.sign(short) != np.sign(long)) & (np.abs(short) > w.sd * np.sqrt(5.0))
    return np.where(np.isfinite(short + long + w.sd), turned.astype(float), np.nan)


@feature(GROUP, unit="(RSI - 50) / 50, in [-1, 1]", sign="two-sided", source="Wilder 1978; SPEC 2.25")
def rsi(w: Inputs) -> np.ndarray:
    """(RSI14 - 50) / 50 with Wilder's averages: the mean of the first 14 changes, then (13 a + x) / 14.

    No losses give 1, no moves 0. A recursion from the stock's first row; days without trade leave it unchanged.
    """
    change = np.where(w.traded, w.close - lag(w.carried_close, 1), np.nan)
    up = down = np.zeros(change.shape[1])
    seen = np.zeros(change.shape[1], int)
    out = np.full(change.shape, np.nan)
    for t, move in enumerate(change):
        new = np.isfinite(move)
        seen = seen + new
        keep = np.where(seen <= RSI_PERIOD, (seen - 1) / np.maximum(seen, 1), (RSI_PERIOD - 1) / RSI_PERIOD)
        up = np.where(new, keep * up + (1 - keep) * np.maximum(move, 0.0), up)
        down = np.where(new, keep * down + (1 - keep) * np.maximum(-move, 0.0), down)
        both = up + down
        value = np.where(both > 0, (up - down) / np.where(both > 0, both, 1.0), 0.0)
        out[t] = np.where(new & (seen >= RSI_PERIOD), value, np.nan)
    return out


@feature(GROUP, unit="share of the price", sign="two-sided", source="Appel's MACD signal line; SPEC 2.26")
def macd(w: Inputs) -> np.ndarray:
    """EMA9 of (EMA12 - EMA26 of adj_close), divided by adj_close; EMA_n has weight 2 / (n + 1).

    Each average starts at the stock's first row; days without trade leave it unchanged.
    """
    out = np.full(w.close.shape, np.nan)
    fast = slow = signal = np.full(w.close.shape[1], np.nan)
    for t in range(len(out)):
        price, new = w.close[t], w.traded[t]
        first = new & np.isnan(fast)
        fast = np.where(first, price, np.where(new, fast + 2 / 13 * (price - fast), fast))
        slow = np.where(first, price, np.where(new, slow + 2 / 27 * (price - slow), slow))
        line = fast - slow
        signal = np.where(first, line, np.where(new, signal + 2 / 10 * (line - signal), signal))
        out[t] = np.where(new, signal / price, np.nan)
    return out


@feature(GROUP, unit="minus a correlation", sign="+", source="our choice; SPEC 2.27")
def vp_div(w: Inputs) -> np.ndarray:
    """-corr(p, ln V) over t-19..t: price and volume part ways.

    No variance gives 0.
    """
    return -rolling_corr(w.traded_p, np.log(np.where(w.traded, w.volume, np.nan)))


@feature(GROUP, unit="place in the range, in [-1, 1]", sign="two-sided", source="stochastic oscillator; SPEC 2.28")
def sup_res(w: Inputs) -> np.ndarray:
    """2 (C - min L) / (max H - min L) - 1 over t-19..t: -1 at support, +1 at resistance.

    No range gives 0.
    """
    floor = rolling_min(np.where(w.traded, w.low, np.nan))
    span = rolling_max(np.where(w.traded, w.high, np.nan)) - floor
    flat = span <= 1e-12 * w.close
    place = 2.0 * (w.close - floor) / np.where(flat, 1.0, span) - 1.0
    return np.where(np.isfinite(span), np.where(flat, 0.0, np.clip(place, -1.0, 1.0)), np.nan)


@feature(GROUP, unit="log return", sign="two-sided", source="our choice; SPEC 2.29")
def accel(w: Inputs) -> np.ndarray:
    """mom5_t - mom5_{t-5}."""
    return mom5(w) - lag(mom5(w), 5)
