"""Seasonal-trend decomposition by loess (STL), whole series and trailing windows.

STL without its robustness iterations is a linear map of the series. So its last residual in a trailing window is one
fixed filter, and a refit at every session costs a matrix product; the result equals that of the library's refits.

Reference: Cleveland, Cleveland, McRae and Terpenning 1990; statsmodels `STL`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from statsmodels.tsa.seasonal import STL

PERIOD = 5  # sessions in a trading week


def stl(values: np.ndarray, period: int, robust: bool, periodic: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Seasonal component and residual of a series without gaps, each [n]; n >= 2 period.

    periodic : one fixed seasonal pattern (R's s.window="periodic") in place of one that drifts over 7 periods.
    """
    n = len(values)
    options = {"seasonal": 10 * n + 1, "seasonal_deg": 0, "seasonal_jump": max(1, n // period)} if periodic else {}
    fitted = STL(np.ascontiguousarray(values, float), period=period, robust=robust, **options).fit()
    return fitted.seasonal, fitted.resid


@lru_cache(maxsize=8)
def trailing_maps(window: int, period: int, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Matrices [window, window] that give the seasonal component and the residual of non-robust STL: S @ y, R @ y."""
    columns = [stl(unit, period, robust=False, periodic=periodic) for unit in np.eye(window)]
    return np.array([c[0] for c in columns]).T, np.array([c[1] for c in columns]).T
