"""Printed figures against what whole numbers can give (AUDIT A03-A06, A10, A29)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np

SLACK = 1e-9  # a figure exactly halfway may be rounded either way


def rounds_to(exact: float, printed: float, digits: int = 1) -> bool:
    """Whether `exact`, rounded to `digits` decimals in either way of rounding a half, can be printed as `printed`."""
    return abs(exact - printed) <= 0.5 * 10.0**-digits + SLACK


def median_is_possible(printed: float, k: int, digits: int = 1) -> bool:
    """Whether the median of `k` whole numbers can be printed so: a whole number for odd k, a half for even k."""
    step = 2 if k % 2 == 0 else 1
    return rounds_to(round(step * printed) / step, printed, digits)


def totals_of_mean(printed: float, k: int, digits: int = 1) -> list[int]:
    """The sums of `k` whole numbers whose mean can be printed so; empty if there is none."""
    half = 0.5 * 10.0**-digits + SLACK
    return list(range(int(np.ceil(k * (printed - half))), int(np.floor(k * (printed + half))) + 1))


def counts_of_rate(percent: float, n: int, digits: int = 1) -> list[int]:
    """The k for which k of n can be printed as this percentage."""
    half = 0.5 * 10.0**-digits + SLACK
    low, high = n * (percent - half) / 100, n * (percent + half) / 100
    return [k for k in range(max(0, int(np.ceil(low))), min(n, int(np.floor(high))) + 1)]


def common_denominators(percents: Iterable[float], candidates: Iterable[int], digits: int = 1) -> list[int]:
    """The n of `candidates` of which every one of the percentages is a whole count."""
    percents = list(percents)
    return [n for n in candidates if all(counts_of_rate(p, n, digits) for p in percents)]


def session_counts(percents: Sequence[float], candidates: Iterable[int], digits: int = 1) -> dict[int, list[tuple]]:
    """n -> the splits of n sessions into whole counts that print as these shares and sum to n; only n with one."""
    found = {}
    for n in candidates:
        fitting = [c for c in product(*(counts_of_rate(p, n, digits) for p in percents)) if sum(c) == n]
        if fitting:
            found[n] = fitting
    return found


def baseline_behind(
    baseline: float, levels: Sequence[float], rises: Sequence[float], digits: int = 2
) -> tuple[float, float] | None:
    """The unrounded baselines that print as `baseline` while each level prints as given and each rise, in whole
    percent of the baseline, too. None when the printed figures exclude each other.
    """
    half = 0.5 * 10.0**-digits
    low, high = baseline - half, baseline + half
    for level, rise in zip(levels, rises, strict=True):
        low = max(low, (level - half) / (1 + (rise + 0.5) / 100))
        high = min(high, (level + half) / (1 + (rise - 0.5) / 100))
    return (low, high) if low <= high else None
