"""Planted anomalies, graded: was the stock-day seen, how soon, and was its mechanism named (SPEC 9.5).

Speaks of ranks. The rank of a planted stock-day is the share of calm stock-days of the undisturbed market that score
below it, ties counted half: then the mean rank is the AUROC, and a rank above 0.95 is an alarm at 5% false alarms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from anomaly_routing.evaluation.statistics import clopper_pearson

FALSE_ALARMS = 0.05
BINS = 5  # of the reliability table
STILL = 1e-6  # SD, as a share of the largest value, up to which a value counts as constant


def ranks(planted: np.ndarray, calm: np.ndarray) -> np.ndarray:
    """Share of `calm` scores below each planted score, ties half; float64, the shape of `planted`.

    Raises ValueError for a score that is not a number, or without calm scores.
    """
    if not len(calm) or not (np.isfinite(calm).all() and np.isfinite(planted).all()):
        raise ValueError("scores of planted and calm stock-days must be numbers, and some calm ones are needed")
    order = np.sort(calm)
    below, upto = (np.searchsorted(order, planted, side=side) for side in ("left", "right"))
    return (below + upto) / (2 * len(order))


def average_precision(rank: np.ndarray, n_calm: int) -> float:
    """Average precision of the planted stock-days among `n_calm` calm ones, from their ranks.

    Precision at a planted stock-day counts the calm ones that score above it, (1 - rank) n_calm. Planted ones of the
    same rank have no calm one between them; they count one after the other.
    """
    rank = np.sort(rank)[::-1]
    found = np.arange(1, len(rank) + 1)
    return float(np.mean(found / (found + (1 - rank) * n_calm)))


def detection(rank: np.ndarray, n_calm: int) -> dict[str, Any]:
    """auroc, ap and recall at 5% false alarms of planted stock-days."""
    return {
        "n_stock_days": len(rank),
        "auroc": float(rank.mean()),
        "ap": average_precision(rank, n_calm),
        "recall_at_5": float((rank > 1 - FALSE_ALARMS).mean()),
    }


def delays(rank: list[np.ndarray], planted: list[np.ndarray]) -> tuple[float | None, float, float]:
    """Mean sessions from the hit to the first alarm, over the planted stocks that alarm; the share that does; the share
    that does on the very session of the hit.

    rank, planted : one [D, N] a plant; `planted` is True on its stock-days. A stock that raises no alarm before the
    plant ends is missed.
    """
    waited, stocks = [], 0
    for r, mine in zip(rank, planted, strict=True):
        for stock in np.flatnonzero(mine.any(0)):
            stocks += 1
            alarm = np.flatnonzero(r[mine[:, stock], stock] > 1 - FALSE_ALARMS)
            if len(alarm):
                waited.append(int(alarm[0]))
    at_once = sum(wait == 0 for wait in waited)
    return (float(np.mean(waited)) if waited else None), len(waited) / max(stocks, 1), at_once / max(stocks, 1)


def top1(values: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Accuracy of the largest of K values against the planted mechanism, with its exact 95% interval.

    values : [P, K]; truth : int [P]. A tie names the first of the largest. Raises ValueError for values that are not
    numbers.
    """
    if not np.isfinite(values).all():
        raise ValueError("an attribution is not a number")
    right = int((values.argmax(1) == truth).sum())
    return {
        "top1": right / len(truth),
        "top1_interval": list(clopper_pearson(right, len(truth))),
        "n_plants": len(truth),
    }


def by_block(right: np.ndarray, block: np.ndarray, draws: int = 2000, seed: int = 0) -> list[float]:
    """95% bootstrap interval of the mean of `right`, bool [P], drawing whole blocks with replacement.

    block : [P]; plants of one block (the same onset) share their sessions and are not independent of each other.
    """
    names, index = np.unique(block, return_inverse=True)
    size, hits = np.bincount(index), np.bincount(index, right)
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    return [float(q) for q in np.quantile(hits[drawn].sum(1) / size[drawn].sum(1), [0.025, 0.975])]


def paired(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Two methods on the same plants, bool [P] each, named right: exact test of McNemar, two-sided."""
    first, second = int((one & ~other).sum()), int((other & ~one).sum())
    p = binomtest(first, first + second).pvalue if first + second else 1.0
    return {"only the first": first, "only the second": second, "both": int((one & other).sum()), "p": float(p)}


def confusion(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Int [M, K], M >= K: planted mechanism by named mechanism; those that have no column come last."""
    k = values.shape[1]
    rows = max(k, int(truth.max(initial=0)) + 1)
    return np.bincount(truth * k + values.argmax(1), minlength=rows * k).reshape(rows, k)


def calibration(weights: np.ndarray, truth: np.ndarray) -> tuple[pd.DataFrame, float]:
    """Are weights probabilities? Reliability of the largest weight, and the expected calibration error.

    weights : [P, K], rows sum to 1. The table: bins of the largest weight between 1/K and 1, n, mean weight, accuracy.
    The error is the mean |weight - accuracy| over the bins, weighted by n (Guo et al. 2017).
    """
    largest, right = weights.max(1), weights.argmax(1) == truth
    low = 1 / weights.shape[1]
    bin_ = np.clip(((largest - low) / (1 - low) * BINS).astype(int), 0, BINS - 1)
    rows = [
        {
            "bin": b,
            "n": int((bin_ == b).sum()),
            "weight": largest[bin_ == b].mean(),
            "accuracy": right[bin_ == b].mean(),
        }
        for b in np.unique(bin_)
    ]
    table = pd.DataFrame(rows)
    return table, float((table["n"] * (table["weight"] - table["accuracy"]).abs()).sum() / len(truth))


def agreement(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Two attributions [P, K] of the same plants, or sessions: share with the same largest value, and the correlation
    over the P, mean over those of the K that move in both (NaN if none does)."""
    same = float((one.argmax(1) == other.argmax(1)).mean())
    least = [
        STILL * np.abs(values).max(initial=0) for values in (one, other)
    ]  # a collapsed gate moves in rounding alone
    moving = [(a, b) for a, b in zip(one.T, other.T, strict=True) if a.std() > least[0] and b.std() > least[1]]
    paths = [np.corrcoef(a, b)[0, 1] for a, b in moving]
    return {"same_argmax": same, "correlation": float(np.mean(paths)) if paths else np.nan}
