"""Price-shock features, 1-6 of SPEC 2: sudden, large, heavy-tailed moves of the stock itself."""

from __future__ import annotations

import numpy as np

from anomaly_routing.features.catalogue import feature
from anomaly_routing.features.inputs import Inputs
from anomaly_routing.features.rolling import (
    WINDOW,
    ZERO_VARIANCE,
    enough,
    lag,
    rolling_central_sum,
    rolling_count,
    rolling_drawdown,
    rolling_mean,
    rolling_min,
)

GROUP = "price_shock"
JUMP_SIGMAS = 4.0
EXT_Z_CLIP = 15.0


@feature(
    GROUP,
    unit="0 or 1",
    sign="+",
    source="Barndorff-Nielsen & Shephard 2004; Lee & Mykland 2008; SPEC 2.1",
    binary=True,
)
def jump(w: Inputs) -> np.ndarray:
    """1 if |r_t| > 4 sigma_bv, sigma_bv^2 = (pi/2) mean |r_j r_{j-1}| over the 19 adjacent pairs in t-20..t-1.

    Bipower variation ignores isolated jumps, so one earlier jump does not hide the next. sigma_bv = 0 gives 0.
    """
    pair = np.abs(w.r * lag(w.r, 1))
    sigma = np.sqrt(np.pi / 2 * lag(rolling_mean(pair, WINDOW - 1), 1))
    hit = (np.abs(w.r) > JUMP_SIGMAS * sigma) & (sigma > 0)
    return np.where(np.isfinite(sigma), hit.astype(float), np.nan)


@feature(GROUP, unit="standard deviations, clipped to +-15", sign="two-sided", source="Cont 2001; SPEC 2.2")
def ext_z(w: Inputs) -> np.ndarray:
    """(r_t - mean) / sd, mean and sample sd of t-20..t-1.

    A standard deviation below 1e-6 gives 0.
    """
    flat = w.prev_sd < 1e-6
    z = (w.r - w.prev_mean) / np.where(flat, 1.0, w.prev_sd)
    return np.clip(np.where(flat, 0.0, z), -EXT_Z_CLIP, EXT_Z_CLIP)


@feature(GROUP, unit="none, at most 20", sign="+", source="bias-corrected sample excess kurtosis G2; SPEC 2.3")
def kurt(w: Inputs) -> np.ndarray:
    """Bias-corrected excess kurtosis of r over t-19..t.

    With n = 20 one outlier among equal values gives 20, the largest value possible (AUDIT A84). No variance gives 0.
    """
    n = rolling_count(w.r)
    m2, m4 = (rolling_central_sum(w.r, power) / np.maximum(n, 1) for power in (2, 4))
    flat = m2 <= ZERO_VARIANCE
    g2 = m4 / np.where(flat, 1.0, m2) ** 2 - 3.0
    corrected = (n - 1) / np.maximum((n - 2) * (n - 3), 1) * ((n + 1) * g2 + 6.0)
    return enough(np.where(flat, 0.0, corrected), n)


@feature(GROUP, unit="share of the price, in [0, 1)", sign="+", source="maximum drawdown; SPEC 2.4")
def mdd(w: Inputs) -> np.ndarray:
    """max over u <= v in t-19..t of 1 - exp(p_v - p_u).

    A window that only rises gives 0.
    """
    return 1.0 - np.exp(-rolling_drawdown(w.traded_p))


@feature(GROUP, unit="log return", sign="+", source="Rockafellar & Uryasev 2000; SPEC 2.5")
def cvar95(w: Inputs) -> np.ndarray:
    """Minus the mean of the ceil(0.05 * 20) = 1 worst r of t-19..t.

    With twenty sessions the 5% tail is one day, so this is minus the minimum (AUDIT A84).
    """
    return -rolling_min(w.r)


@feature(GROUP, unit="annualised volatility", sign="+", source="upside semi-deviation; SPEC 2.6")
def upvol(w: Inputs) -> np.ndarray:
    """sqrt(252 mean(max(r, 0)^2)) over t-19..t.

    No gains give 0.
    """
    return np.sqrt(252.0 * rolling_mean(np.maximum(w.r, 0.0) ** 2))
