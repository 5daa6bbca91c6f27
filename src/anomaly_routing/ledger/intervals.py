"""95% intervals of a mean: over seeds, and over stocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t

DRAWS = 1000


def t_interval(values: Sequence[float] | np.ndarray) -> tuple[float | None, float | None]:
    """Of a mean over seeds, Student's; (None, None) for fewer than two."""
    found, n = np.asarray(values, float), len(values)
    if n < 2:
        return None, None
    half = t.ppf(0.975, n - 1) * found.std(ddof=1) / np.sqrt(n)
    return float(found.mean() - half), float(found.mean() + half)


def over_stocks(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Mean over stocks, low, high, from a bootstrap that draws stocks."""
    rng, v = np.random.default_rng(0), np.asarray(values, float)
    draws = v[rng.integers(0, len(v), (DRAWS, len(v)))].mean(axis=1)
    return float(v.mean()), float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))
