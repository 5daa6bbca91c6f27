"""Intervals, paired tests and threshold-free scores for a few events among many sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

VUS_BUFFER = 10  # sessions; the label of SPEC 9.0 spans six, so its ramps reach at most five to either side


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Exact binomial interval of a rate, both ends in [0, 1] (Clopper & Pearson 1934). (None, None) when n is 0."""
    if n == 0:
        return None, None
    interval = binomtest(successes, n).proportion_ci(confidence_level=level, method="exact")
    return float(interval.low), float(interval.high)


def paired_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar p-value from the two discordant counts; 1 when nothing is discordant (McNemar 1947)."""
    return float(binomtest(min(only_a, only_b), only_a + only_b).pvalue) if only_a + only_b else 1.0


def paired_comparison(per_event_a: Mapping[str, Mapping], per_event_b: Mapping[str, Mapping]) -> dict[str, Any]:
    """Two methods on the events that both were judged on (SPEC 9.4 x).

    The arguments are the `per_event` parts of two `evaluate_daily` protocols. Out: `n_events`, `both`, `only_a`,
    `only_b`, `neither` (counts) and `p`, the exact paired test; p is None when no event is shared.
    """
    shared = [event for event in per_event_a if event in per_event_b]
    pairs = [(per_event_a[event]["hit"], per_event_b[event]["hit"]) for event in shared]
    pairs = [pair for pair in pairs if None not in pair]
    only_a, only_b = pairs.count((True, False)), pairs.count((False, True))
    return {
        "n_events": len(pairs),
        "both": pairs.count((True, True)),
        "only_a": only_a,
        "only_b": only_b,
        "neither": pairs.count((False, False)),
        "p": paired_exact(only_a, only_b) if pairs else None,
    }


def ranking_scores(labels: np.ndarray, score: np.ndarray) -> dict[str, float | None]:
    """Day-level `auc`, `ap` (average precision) and `vus_pr`; each None unless both classes occur.

    labels bool [S], score float [S], finite, higher is more anomalous; sessions in time order (only VUS-PR minds).
    """
    if labels.all() or not labels.any():
        return {"auc": None, "ap": None, "vus_pr": None}
    return {
        "auc": float(roc_auc_score(labels, score)),
        "ap": float(average_precision_score(labels, score)),
        "vus_pr": vus_pr(labels, score),
    }


def vus_pr(labels: np.ndarray, score: np.ndarray, buffer: int = VUS_BUFFER, n_thresholds: int = 250) -> float:
    """Volume under the precision-recall surface (Paparrizos et al., VLDB 2022; Boniol et al., VLDB Journal 2025).

    For each length l = 0..`buffer`, every labelled range gets ramps of l // 2 sessions on either side, of height
    sqrt(1 - d / l) at distance d (ramps add up, at most 1). At a threshold, with P labelled sessions, T the label mass
    on predicted sessions and B its part on the ramps:

        precision = T / predicted sessions,  recall = min(1, T / (P + B / 2)) * share of the ranges touched,

    where ranges whose ramps meet count as one. The area is the step sum of precision over recall, the volume its mean
    over l. At l = 0 and with a single range this is close to average precision. Thresholds are `n_thresholds` evenly
    spaced order statistics of the score. These are the conventions of the authors' package, whose figures the test
    repeats: the 2022 text takes the whole ramp mass instead of 2B in (P + P + mass) / 2.

    labels bool [S] with at least one True, score float [S], both in time order; the result lies in [0, 1].
    """
    labels, score = np.asarray(labels, dtype=bool), np.asarray(score, dtype=float)
    n = len(score)
    chosen = np.linspace(0, n - 1, n_thresholds).astype(int)
    predicted = score[:, None] >= np.sort(score)[::-1][chosen]  # [S, thresholds], from few alarms to many
    n_predicted = predicted.sum(axis=0)
    starts, ends = _ranges(labels)
    areas = []
    for length in range(buffer + 1):
        mass = _ramped(labels, starts, ends, length)
        found, on_ramps = mass @ predicted, np.where(labels, 0.0, mass) @ predicted
        touched = _touched(predicted, starts, ends, length // 2)
        recall = np.minimum(found / (labels.sum() + on_ramps / 2), 1) * touched
        areas.append(np.sum(np.diff(recall, prepend=0) * found / n_predicted))
    return float(np.mean(areas))


def _ranges(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of every run of True."""
    edges = np.diff(labels.astype(int), prepend=0, append=0)
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1


def _ramped(labels: np.ndarray, starts: np.ndarray, ends: np.ndarray, length: int) -> np.ndarray:
    mass, place = labels.astype(float), np.arange(len(labels))
    for start, end in zip(starts, ends, strict=True):
        distance = np.maximum(start - place, place - end)
        ramp = (distance > 0) & (distance <= length // 2)
        mass[ramp] += np.sqrt(1 - distance[ramp] / length)
    return np.minimum(mass, 1)


def _touched(predicted: np.ndarray, starts: np.ndarray, ends: np.ndarray, reach: int) -> np.ndarray:
    """Share of the ranges, widened by `reach` and merged where they meet, with a predicted session; [thresholds]."""
    apart = ends[:-1] + reach < starts[1:] - reach
    first = np.maximum(starts[np.r_[True, apart]] - reach, 0)
    last = np.minimum(ends[np.r_[apart, True]] + reach, len(predicted) - 1)
    before = np.vstack([np.zeros(predicted.shape[1], dtype=int), predicted.cumsum(axis=0)])
    return (before[last + 1] > before[first]).mean(axis=0)


def noise_to_signal(alarms: np.ndarray, warning: np.ndarray) -> float | None:
    """Share of the quiet sessions that alarm over the share of the warning sessions that alarm.

    alarms, warning: bool [S]; `warning` marks the sessions within the horizon before an event. Below 1 the alarms carry
    information, 1 is what random alarms give (Kaminsky, Lizondo & Reinhart 1998; Kaminsky & Reinhart 1999). None when
    no warning session alarms or one of the two kinds is missing.
    """
    if not warning.any() or warning.all() or not alarms[warning].any():
        return None
    return float(alarms[~warning].mean() / alarms[warning].mean())
