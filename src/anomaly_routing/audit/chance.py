"""What luck does: hits of blind alarms, intervals of counts, tests of which only the margins are known (A17-A21)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binom, hypergeom

from anomaly_routing.evaluation.placebo import chance_hit_rate
from anomaly_routing.evaluation.statistics import clopper_pearson, paired_exact


def some_stock_exceeds(n_stocks: int, share: float) -> float:
    """Chance that at least one of `n_stocks` independent stocks exceeds a cut that each exceeds on `share` of days."""
    return 1 - (1 - share) ** n_stocks


def two_channels(rate: float, window: int = 5) -> float:
    """Chance that a window holds an alarm of either of two independent channels of the same alarm rate."""
    return chance_hit_rate(1 - (1 - rate) ** 2, window)


def at_least(hits: int, n: int, rate: float, window: int = 5) -> float:
    """Chance that blind alarms hit at least `hits` of `n` events whose windows are independent."""
    return float(binom.sf(hits - 1, n, chance_hit_rate(rate, window)))


def mean_lead(rate: float, window: int = 5) -> float:
    """Mean lead in sessions of a blind alarm's hits: the first alarm of the window counts."""
    leads = np.arange(window, 0, -1)
    return float(np.average(leads, weights=(1 - rate) ** np.arange(window)))


def median_lead(rate: float, hits: int, window: int = 5) -> float:
    """Expected median lead in sessions over so many hits of a blind alarm, independent of each other: from the order
    statistics of the lead of one."""
    leads = np.arange(window, 0, -1)
    share = (1 - rate) ** np.arange(window)
    reach = np.cumsum(share) / share.sum()  # chance that a lead is at least 5, 4, ... sessions
    middle = sorted({(hits - 1) // 2, hits // 2})  # places of the median in ascending order
    # the lead at place j is at least v when at most j of the leads are below v
    steps = [binom.cdf(j, hits, 1 - reach[leads == v][0]) for j in middle for v in leads]
    return float(np.sum(steps) / len(middle))


def paired_range(hits_a: int, hits_b: int, n: int) -> tuple[float, float, float]:
    """Lowest, chance-weighted mean and highest p of the exact paired test when only both counts of `n` are known.

    The events that both hit may number from max(0, a + b - n) to min(a, b); the mean weighs them as if the two had hit
    independently of each other (hypergeometric).
    """
    overlaps = np.arange(max(0, hits_a + hits_b - n), min(hits_a, hits_b) + 1)
    p = np.array([paired_exact(hits_a - both, hits_b - both) for both in overlaps])
    weights = hypergeom.pmf(overlaps, n, hits_a, hits_b)
    return float(p.min()), float(np.average(p, weights=weights)), float(p.max())


def all_pairs(hits: dict[str, int], n: int) -> pd.DataFrame:
    """Every pair of methods: counts, the p of `paired_range`, and the events between them."""
    names, rows = list(hits), []
    for place, a in enumerate(names):
        for b in names[place + 1 :]:
            low, middle, high = paired_range(hits[a], hits[b], n)
            line = {"method": a, "against": b, "hits": hits[a], "hits of the other": hits[b]}
            rows.append(
                line | {"difference": hits[a] - hits[b], "p, best case": low, "p, mean": middle, "p, worst": high}
            )
    return pd.DataFrame(rows)


def intervals(hits: dict[str, int], n: int) -> pd.DataFrame:
    """Exact 95% interval of every count, in percent of n."""
    bounds = {name: clopper_pearson(k, n) for name, k in hits.items()}
    rows = [(name, k, 100 * bounds[name][0], 100 * bounds[name][1]) for name, k in hits.items()]
    return pd.DataFrame(rows, columns=["method", "hits", "low, %", "high, %"])


def least_difference(n: int, level: float = 0.05) -> int:
    """Fewest events by which one method must beat another, missing none that it hits, for p < level."""
    return next(d for d in range(1, n + 1) if paired_exact(d, 0) < level)


def falls_on_a_multiple(percent: float, n: int, step: int) -> float:
    """Chance that a count of `n` independent trials with this share is a multiple of `step` (A100)."""
    return float(binom.pmf(np.arange(0, n + 1, step), n, percent / 100).sum())
