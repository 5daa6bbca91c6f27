"""Rolling statistics over sessions, for all stocks at once.

Arrays are float64 [session, stock]. A window is walked lag by lag: each step is one vectorised operation on the whole
array, so the cost is linear in stocks and sessions, memory stays at a few arrays, and, unlike with running sums, the
value at t is a function of the rows of its own window alone. NaN marks a missing point. A statistic needs at least
`MIN_VALID` points, otherwise it is NaN (SPEC 2).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

WINDOW = 20
MIN_VALID = 15
ZERO_VARIANCE = 1e-16  # a standard deviation of 1e-8: far below a tick, far above rounding


def lag(a: np.ndarray, k: int) -> np.ndarray:
    """The array k sessions earlier; NaN before the first row. k >= 0, so never a look ahead."""
    if k < 0:
        raise ValueError("a negative lag would look ahead")
    out = np.full_like(a, np.nan)
    out[k:] = a[: len(a) - k] if k else a
    return out


def _lags(a: np.ndarray, window: int) -> Iterator[tuple[int, np.ndarray]]:
    """(k, rows 0..S-k-1): the view whose row s belongs to the window of session s + k."""
    for k in range(min(window, len(a))):
        yield k, a[: len(a) - k]


def enough(values: np.ndarray, count: np.ndarray, min_valid: int = MIN_VALID) -> np.ndarray:
    """`values` where the window holds at least `min_valid` points, NaN elsewhere."""
    return np.where(count >= min_valid, values, np.nan)


def rolling_count(a: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Number of points that are not NaN in t-window+1..t."""
    return rolling_sum(np.isfinite(a).astype(float), window)


def rolling_sum(a: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Sum over t-window+1..t, missing points as 0."""
    filled = np.where(np.isfinite(a), a, 0.0)
    total = np.zeros_like(filled)
    for k, rows in _lags(filled, window):
        total[k:] += rows
    return total


def rolling_mean(a: np.ndarray, window: int = WINDOW, min_valid: int = MIN_VALID) -> np.ndarray:
    """Mean of the points present."""
    count = rolling_count(a, window)
    return enough(rolling_sum(a, window) / np.maximum(count, 1), count, min_valid)


def rolling_central_sum(a: np.ndarray, power: int, window: int = WINDOW) -> np.ndarray:
    """Sum of (a - window mean)^power over the points present; two passes, so that a large mean costs no accuracy."""
    mean = rolling_mean(a, window, min_valid=1)
    total = np.zeros_like(a)
    for k, rows in _lags(a, window):
        step = (rows - mean[k:]) ** power
        total[k:] += np.where(np.isfinite(step), step, 0.0)
    return total


def rolling_cross_sum(a: np.ndarray, b: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Sum of (a - mean a)(b - mean b) over the points present; a and b must be missing at the same places."""
    mean_a, mean_b = rolling_mean(a, window, 1), rolling_mean(b, window, 1)
    total = np.zeros_like(a)
    for k, rows in _lags(a, window):
        step = (rows - mean_a[k:]) * (b[: len(b) - k] - mean_b[k:])
        total[k:] += np.where(np.isfinite(step), step, 0.0)
    return total


def rolling_sd(a: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Sample standard deviation (ddof 1)."""
    count = rolling_count(a, window)
    return enough(np.sqrt(rolling_central_sum(a, 2, window) / np.maximum(count - 1, 1)), count)


def rolling_max(a: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Largest point present."""
    best = np.full_like(a, -np.inf)
    for k, rows in _lags(np.where(np.isfinite(a), a, -np.inf), window):
        np.maximum(best[k:], rows, out=best[k:])
    return enough(best, rolling_count(a, window))


def rolling_min(a: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Smallest point present."""
    return -rolling_max(-a, window)


def rolling_drawdown(log_price: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Largest fall of the log price from an earlier (or the same) point of the window, as a positive number."""
    count = rolling_count(log_price, window)
    peak = np.full_like(log_price, -np.inf)
    fall = np.zeros_like(log_price)
    for k, rows in reversed(list(_lags(log_price, window))):  # oldest first
        peak[k:] = np.fmax(peak[k:], rows)
        drop = peak[k:] - rows
        fall[k:] = np.fmax(fall[k:], drop)
    return enough(fall, count)


def together(*arrays: np.ndarray) -> list[np.ndarray]:
    """The same arrays with a point kept only where all of them have one."""
    present = np.logical_and.reduce([np.isfinite(a) for a in arrays])
    return [np.where(present, a, np.nan) for a in arrays]


def rolling_corr(a: np.ndarray, b: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Pearson correlation over the common points; 0 where either variance vanishes."""
    a, b = together(a, b)
    count = rolling_count(a, window)
    var_a, var_b = rolling_central_sum(a, 2, window), rolling_central_sum(b, 2, window)
    flat = np.minimum(var_a, var_b) <= ZERO_VARIANCE * np.maximum(count, 1)
    corr = rolling_cross_sum(a, b, window) / np.sqrt(np.where(flat, 1.0, var_a * var_b))
    return enough(np.where(flat, 0.0, np.clip(corr, -1.0, 1.0)), count)


def rolling_slope(y: np.ndarray, x: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Slope of the least-squares line of y on x with intercept; 0 where x does not vary."""
    y, x = together(y, x)
    count = rolling_count(x, window)
    var_x = rolling_central_sum(x, 2, window)
    flat = var_x <= ZERO_VARIANCE * np.maximum(count, 1)
    return enough(np.where(flat, 0.0, rolling_cross_sum(y, x, window) / np.where(flat, 1.0, var_x)), count)


def rolling_r2(y: np.ndarray, regressors: list[np.ndarray], window: int = WINDOW) -> list[np.ndarray]:
    """R^2 of y on the first 1, 2 ... regressors (with intercept), one array each.

    Elimination on the window covariances, one regressor after the other; a regressor that the earlier ones explain up
    to 1e-8 of its variance adds nothing (so s = m counts once). 0 where y does not vary.
    """
    *xs, y = series = together(*regressors, y)
    count, last = rolling_count(y, window), len(xs)
    cov = {(i, j): rolling_cross_sum(series[i], series[j], window) for i in range(last + 1) for j in range(i, last + 1)}
    negligible = ZERO_VARIANCE * np.maximum(count, 1)
    total, floor = cov[last, last].copy(), [np.maximum(1e-8 * cov[i, i], negligible) for i in range(last)]
    flat, out = total <= negligible, []
    for i in range(last):
        usable = cov[i, i] > floor[i]
        for j in range(i + 1, last + 1):
            slope = np.where(usable, cov[i, j] / np.where(usable, cov[i, i], 1.0), 0.0)
            for k in range(j, last + 1):
                cov[j, k] = cov[j, k] - slope * cov[i, k]
        share = 1.0 - cov[last, last] / np.where(flat, 1.0, total)
        out.append(enough(np.where(flat, 0.0, np.clip(share, 0.0, 1.0)), count))
    return out
