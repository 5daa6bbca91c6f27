"""The four market stress indicators behind psi, one value a session (paper, equations 4 and 32; SPEC 5.1, AUDIT A44).

The paper names them and gives no formula; these are our definitions, from daily bars alone.
"""

from __future__ import annotations

import numpy as np

from anomaly_routing.features.rolling import WINDOW, ZERO_VARIANCE, enough, rolling_count, rolling_mean, rolling_sd

STRESS_NAMES = ("volatility_stress", "extreme_ratio", "correlation_spike", "liquidity_stress")
EXTREME_SIGMAS = 2.0
SESSIONS_A_YEAR = 252


def stress_indicators(
    returns: np.ndarray, active: np.ndarray, ext_z: np.ndarray, spread: np.ndarray, amihud: np.ndarray
) -> np.ndarray:
    """I1..I4 of every session, float64 [session, 4]; at t a function of the rows up to t, and larger is more stressed.

    I1 volatility stress: SD over t-19..t of the mean return of each session's active stocks, times sqrt(252); per year.
    I2 extreme ratio: share of the active stocks with |ext_z| > 2, among those where it is defined; 0 to 1.
    I3 correlation spike: mean pairwise correlation over t-19..t, active stocks with all 20 returns and a variance.
    I4 liquidity stress: median over the active stocks of (x_spread + x_amihud) / 2; robust SDs.

    Parameters
    ----------
    returns : log returns [session, stock], NaN on a day without trade.
    active : bool [session, stock].
    ext_z : the raw feature, NaN where undefined.
    spread, amihud : the scaled features, 0 where undefined.

    NaN: no active stock (I2, I4), none on some session of t-19..t (I1), fewer than two stocks to correlate (I3).
    """
    return np.column_stack(
        [
            _volatility(np.where(active, returns, np.nan)),
            _row_mean(np.where(active & np.isfinite(ext_z), np.abs(ext_z) > EXTREME_SIGMAS, np.nan)),
            mean_correlation(returns, active),
            _row_median(np.where(active, (spread.astype(float) + amihud) / 2, np.nan)),
        ]
    )


def mean_correlation(returns: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Mean of the off-diagonal correlations of the last 20 returns, float64 [session]; NaN below two stocks.

    Standardise each stock within the window: the variance v of the mean of the N standardised series holds all N^2
    correlations, hence (N v - 1) / (N - 1), without an N x N matrix.
    """
    full = active & (rolling_count(returns) == WINDOW)
    mean, sd = rolling_mean(returns), rolling_sd(returns) * np.sqrt((WINDOW - 1) / WINDOW)  # population SD
    used = full & (sd**2 > ZERO_VARIANCE)
    n, scale = used.sum(1), np.where(used, sd, 1.0)
    variance = np.zeros(len(returns))
    for k in range(min(WINDOW, len(returns))):
        z = (returns[: len(returns) - k] - mean[k:]) / scale[k:]
        index = np.where(used[k:], z, 0.0).sum(1) / np.maximum(n[k:], 1)
        variance[k:] += index**2 / WINDOW  # the index has mean 0
    return enough((n * variance - 1) / np.maximum(n - 1, 1), n, 2)


def _volatility(returns: np.ndarray) -> np.ndarray:
    """Annualised sample SD of the cross-section mean, on full windows only."""
    index = _row_mean(returns)[:, None]
    return enough(rolling_sd(index), rolling_count(index), WINDOW)[:, 0] * np.sqrt(SESSIONS_A_YEAR)


def _row_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the points present in each row; NaN without one."""
    present = np.isfinite(values)
    n = present.sum(1)
    return enough(np.where(present, values, 0.0).sum(1) / np.maximum(n, 1), n, 1)


def _row_median(values: np.ndarray) -> np.ndarray:
    """Median of the points present in each row; NaN without one."""
    some = np.isfinite(values).any(1)
    out = np.full(len(values), np.nan)
    out[some] = np.nanmedian(values[some], axis=1)
    return out
