"""Liquidity features, 7-14 of SPEC 2: what trading costs and how much of it there is, from daily bars."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtr

from anomaly_routing.features.catalogue import feature
from anomaly_routing.features.inputs import Inputs
from anomaly_routing.features.rolling import (
    MIN_VALID,
    WINDOW,
    enough,
    lag,
    rolling_count,
    rolling_cross_sum,
    rolling_mean,
    rolling_slope,
    rolling_sum,
    together,
)

GROUP = "liquidity"
BPS = 1e4
VOLUME_HISTORY, MIN_VOLUME_HISTORY = 250, 60


@feature(GROUP, unit="basis points", sign="+", source="Abdi & Ranaldo 2017, two-day form; SPEC 2.7")
def spread(w: Inputs) -> np.ndarray:
    """Mean over j in t-19..t of sqrt(max(0, 4 (p_{j-1} - eta_{j-1})(p_{j-1} - eta_j))), eta = (ln H + ln L) / 2.

    The pair is dated by its later day, so nothing looks ahead. A pair with a day of H = L is dropped. The level is
    biased upwards (negative pairs are set to 0): use its changes.
    """
    return BPS * rolling_mean(_abdi_ranaldo_pairs(w))


def _abdi_ranaldo_pairs(w: Inputs) -> np.ndarray:
    ranged = w.traded & (w.high > w.low)
    eta = np.where(ranged, (np.log(w.high) + np.log(w.low)) / 2, np.nan)
    before_p, before_eta = lag(np.where(ranged, w.traded_p, np.nan), 1), lag(eta, 1)
    return np.sqrt(np.maximum(4.0 * (before_p - before_eta) * (before_p - eta), 0.0))


def corwin_schultz(w: Inputs) -> np.ndarray:
    """Corwin & Schultz 2012 high-low spread, mean over the pairs of t-19..t, in basis points (`spread_alt=cs`).

    The later day's range is first shifted by the overnight gap. Negative pairs are set to 0. A missing day drops both
    of its pairs.
    """
    high, low, before = np.log(w.high), np.log(w.low), lag(w.traded_p, 1)
    high_1, low_1 = lag(high, 1), lag(low, 1)
    gap = np.where(low > before, low - before, np.where(high < before, high - before, 0.0))
    high_2, low_2 = high - gap, low - gap
    beta = (high_1 - low_1) ** 2 + (high_2 - low_2) ** 2
    gamma = (np.fmax(high_1, high_2) - np.fmin(low_1, low_2)) ** 2
    k = 3.0 - 2.0 * np.sqrt(2.0)
    alpha = (np.sqrt(2.0 * beta) - np.sqrt(beta)) / k - np.sqrt(gamma / k)
    pair = np.maximum(0.0, 2.0 * np.expm1(alpha) / (1.0 + np.exp(alpha)))
    return BPS * rolling_mean(np.where(w.traded & lag(w.traded.astype(float), 1).astype(bool), pair, np.nan))


def edge(w: Inputs, window: int = WINDOW) -> np.ndarray:
    """EDGE of Ardia, Guidotti & Kroencke 2024 over the last `window` sessions, in basis points (`spread_alt=edge`).

    Computed by the authors' package `bidask`, stock by stock; NaN where it declines (too few price changes).
    """
    from bidask import edge_rolling

    out = np.full(w.p.shape, np.nan)
    open_ = w.open
    for i in range(w.p.shape[1]):
        frame = pd.DataFrame({"Open": open_[:, i], "High": w.high[:, i], "Low": w.low[:, i], "Close": w.close[:, i]})
        out[:, i] = BPS * edge_rolling(frame, window=window).to_numpy()
    return out


@feature(GROUP, unit="ln of (1e-6 + return per billion dollars)", sign="+", source="Amihud 2002; SPEC 2.8")
def amihud(w: Inputs) -> np.ndarray:
    """ln(1e-6 + mean(|r| / DV) * 1e9) over t-19..t, DV = dollar volume.

    Days without dollar volume are dropped.
    """
    ratio = np.abs(w.r) / np.where(w.dollar_volume > 0, w.dollar_volume, np.nan)
    return np.log(1e-6 + 1e9 * rolling_mean(ratio))


@feature(GROUP, unit="basis points", sign="+", source="Roll 1984; SPEC 2.9")
def roll(w: Inputs) -> np.ndarray:
    """2 sqrt(max(0, -cov(r_j, r_{j-1}))) over j in t-19..t (sample covariance).

    A positive autocovariance gives 0.
    """
    now, before = together(w.r, lag(w.r, 1))
    count = rolling_count(now)
    cov = rolling_cross_sum(now, before) / np.maximum(count - 1, 1)
    return enough(2.0 * BPS * np.sqrt(np.maximum(-cov, 0.0)), count)


@feature(GROUP, unit="natural log", sign="two-sided", source="Datar, Naik & Radcliffe 1998; SPEC 2.10")
def turnover(w: Inputs) -> np.ndarray:
    """ln(V_t / shares outstanding); without shares ln(V_t / median V over t-250..t-1).

    At least 60 earlier sessions with trade, otherwise NaN; no volume gives NaN. A median over the training period would
    look ahead.
    """
    volume = np.where(w.traded, w.volume, np.nan)
    if w.shares is not None:
        return np.log(volume / w.shares)
    usual = pd.DataFrame(volume).rolling(VOLUME_HISTORY, min_periods=MIN_VOLUME_HISTORY).median().shift(1)
    return np.log(volume / usual.to_numpy())


@feature(GROUP, unit="natural log", sign="two-sided", source="relative volume; SPEC 2.11")
def intensity(w: Inputs) -> np.ndarray:
    """ln(V_t / mean V over t-20..t-1).

    Days without trade are left out of the mean; no volume gives NaN.
    """
    volume = np.where(w.traded, w.volume, np.nan)
    return np.log(volume / lag(rolling_mean(volume), 1))


@feature(GROUP, unit="basis points per square root of a million dollars", sign="+", source="Hasbrouck 2009; SPEC 2.12")
def impact(w: Inputs) -> np.ndarray:
    """Least-squares slope of r on sign(r) sqrt(DV / 1e6) over t-19..t.

    sign(r) stands in for the sign of the trades, so the slope is positive by construction and close to amihud.
    A regressor without variance gives 0.
    """
    return BPS * rolling_slope(w.r, np.sign(w.r) * np.sqrt(w.dollar_volume / 1e6))


@feature(GROUP, unit="return per log unit", sign="+", source="Acharya & Pedersen 2005; SPEC 2.13")
def liq_prem(w: Inputs) -> np.ndarray:
    """Minus the slope of r on the change of ln ILLIQ_M over t-19..t, ILLIQ_M = median over stocks of |r| / DV.

    A regressor without variance gives 0.
    """
    return -rolling_slope(w.r, np.broadcast_to(w.illiquidity_shock, w.r.shape))


@feature(
    GROUP,
    unit="share of volume, in [-1, 1]",
    sign="two-sided",
    source="Easley, Lopez de Prado & O'Hara 2012; SPEC 2.14",
)
def imbalance(w: Inputs) -> np.ndarray:
    """sum V_j (2 Phi(r_j / sd) - 1) / sum V_j over j in t-19..t, sd of the returns of t-20..t-1.

    Bulk volume classification: the share bought minus the share sold. sd = 0 gives 0.
    """
    r, volume = together(w.r, np.where(w.traded, w.volume, np.nan))
    flat = w.prev_sd < 1e-8
    sd = np.where(flat, 1.0, w.prev_sd)
    signed = np.zeros_like(r)
    for k in range(min(WINDOW, len(r))):
        term = volume[: len(r) - k] * (2.0 * ndtr(r[: len(r) - k] / sd[k:]) - 1.0)
        signed[k:] += np.where(np.isfinite(term), term, 0.0)
    total = rolling_sum(volume)
    share = signed / np.where(total > 0, total, 1.0)
    known = np.isfinite(w.prev_sd) & (rolling_count(r) >= MIN_VALID)
    return np.where(known, np.where(flat, 0.0, share), np.nan)
