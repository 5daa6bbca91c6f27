"""95% intervals: of a mean over seeds, over stocks and over sessions in blocks, of any figure over events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import t

DRAWS = 1000
FEW = 5  # below so many seeds a t-interval says more of the law than of the seeds, and leaves [0, 1] with ease
BLOCK = 20  # sessions (verdict rules: direction)


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


def over_events(
    values: Sequence[float] | np.ndarray, statistic: Callable[..., np.ndarray] = np.nanmean
) -> tuple[float | None, float | None]:
    """Low and high of a figure over events, from a bootstrap that draws events. NaN where an event has no value, such
    as the lead of one that is missed; draws without any value are left out. (None, None) without any value at all.

    statistic : takes an array [draws, n] and `axis`, and leaves NaN out.
    """
    v = np.asarray(values, float)
    if not np.isfinite(v).any():
        return None, None
    drawn = v[np.random.default_rng(0).integers(0, len(v), (DRAWS, len(v)))]
    found = statistic(drawn[np.isfinite(drawn).any(axis=1)], axis=1)
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def over_seeds(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """`low`, `high` and `ranged` of `Finding`: Student's interval from five seeds on, the range over fewer; `by_seed`
    where there are several."""
    found = [float(v) for v in values]
    if len(found) < 2:
        return {}
    ranged = len(found) < FEW
    low, high = (min(found), max(found)) if ranged else t_interval(found)
    return {"low": low, "high": high, "ranged": ranged, "by_seed": tuple(found)}


def blocks(n: int) -> np.ndarray:
    """Positions of `DRAWS` draws of n sessions in circular blocks of `BLOCK`; int [draws, n]."""
    starts = np.random.default_rng(0).integers(0, n, (DRAWS, -(-n // BLOCK)))
    return (starts[:, :, None] + np.arange(BLOCK)).reshape(DRAWS, -1)[:, :n] % n


def block_weights(n: int) -> np.ndarray:
    """How often each of n sessions stands in each draw of `blocks`; float [draws, n], rows sum to n."""
    return np.stack([np.bincount(rows, minlength=n) for rows in blocks(n)]).astype(float)
