"""Intervals, tests and ranking scores against closed forms, slow definitions and the authors' own figures."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy.stats import binom
from sklearn.metrics import average_precision_score

from anomaly_routing.evaluation.statistics import (
    clopper_pearson,
    noise_to_signal,
    paired_comparison,
    paired_exact,
    ranking_scores,
    vus_pr,
)


@pytest.mark.parametrize("hits, low, high", [(12, 64.0, 99.8), (10, 46.2, 95.0)])
def test_exact_interval_of_the_audit(hits, low, high):
    assert [round(100 * end, 1) for end in clopper_pearson(hits, 13)] == [low, high]


@pytest.mark.parametrize("k, n", [(0, 9), (3, 9), (9, 9), (1, 1)])
def test_exact_interval_solves_its_tail_equations(k, n):
    low, high = clopper_pearson(k, n)
    assert low == 0 if k == 0 else binom.sf(k - 1, n, low) == pytest.approx(0.025)
    assert high == 1 if k == n else binom.cdf(k, n, high) == pytest.approx(0.025)
    assert clopper_pearson(0, 0) == (None, None)


def test_paired_test_of_twelve_against_ten():
    """At best the ten are among the twelve: two discordant events, p = 2 / 2^2 (AUDIT A21)."""
    assert paired_exact(2, 0) == pytest.approx(0.5)
    assert paired_exact(0, 0) == 1.0
    assert paired_exact(6, 0) == pytest.approx(2 / 2**6)
    assert paired_exact(5, 1) == paired_exact(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)


def test_paired_comparison_skips_events_that_one_was_not_judged_on():
    a = {e: {"hit": h} for e, h in zip("ABCDEF", [True, True, False, False, None, True], strict=True)}
    b = {e: {"hit": h} for e, h in zip("ABCDEG", [True, False, True, False, True, True], strict=True)}
    assert paired_comparison(a, b) == {"n_events": 4, "both": 1, "only_a": 1, "only_b": 1, "neither": 1, "p": 1.0}
    assert paired_comparison(a, {})["p"] is None


def test_auc_is_the_share_of_ordered_pairs():
    rng = np.random.default_rng(1)
    labels, score = rng.random(90) < 0.2, rng.integers(0, 12, 90).astype(float)
    pairs = [(p > n) + 0.5 * (p == n) for p in score[labels] for n in score[~labels]]
    assert ranking_scores(labels, score)["auc"] == pytest.approx(np.mean(pairs))


def test_average_precision_of_a_hand_made_order():
    labels = np.array([True, False, True, False, False])
    result = ranking_scores(labels, np.array([5.0, 4.0, 3.0, 2.0, 1.0]))
    assert result["ap"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert result["auc"] == pytest.approx(5 / 6)
    assert set(ranking_scores(np.zeros(5, bool), np.arange(5.0)).values()) == {None}
    assert set(ranking_scores(np.ones(5, bool), np.arange(5.0)).values()) == {None}


def test_noise_to_signal_closed_form():
    """3 of 12 quiet sessions and 2 of 4 warning sessions alarm: (3/12) / (2/4) = 0.5."""
    alarms, warning = np.zeros(16, bool), np.zeros(16, bool)
    warning[:4], alarms[[0, 1, 9, 10, 11]] = True, True
    assert noise_to_signal(alarms, warning) == pytest.approx(0.5)
    assert noise_to_signal(np.ones(16, bool), warning) == 1.0
    assert noise_to_signal(~warning, warning) is None
    assert noise_to_signal(alarms, np.zeros(16, bool)) is None
    assert noise_to_signal(alarms, np.ones(16, bool)) is None


def _recipe(n, ranges, lift):
    """Labels and a score without a random generator: golden-ratio fractions, raised on the labels, on a slow wave."""
    labels = np.zeros(n, dtype=bool)
    for first, last in ranges:
        labels[first : last + 1] = True
    place = np.arange(n)
    return labels, (place * 0.6180339887498949) % 1 + lift * labels + 0.2 * np.sin(place / 7)


THREE = [(20, 25), (60, 65), (70, 72)]
FOUR = [(0, 4), (90, 95), (99, 104), (394, 399)]
THIRTEEN = [(57 * k + 11, 57 * k + 16) for k in range(13)]


@pytest.mark.parametrize(
    "recipe, buffer, decimals, official",
    [
        ((120, THREE, 0.5), 10, None, 0.6472932771390755),
        ((400, FOUR, 0.3), 10, None, 0.39105665895705516),
        ((400, FOUR, 0.3), 10, 1, 0.31235140269488326),
        ((400, FOUR, 0.3), 7, None, 0.3764164038744911),
        ((753, THIRTEEN, 0.2), 10, None, 0.2582765570908675),
        ((753, THIRTEEN, 0.2), 10, 1, 0.2344135983816238),
        ((753, THIRTEEN, 0.2), 0, None, 0.1930047781500318),
        ((753, THIRTEEN, 0.2), 20, None, 0.332792194271844),
    ],
)
def test_vus_pr_repeats_the_authors_figures(recipe, buffer, decimals, official):
    """Figures of `generate_curve(labels, score, buffer)` in TheDatumOrg/TSB-AD at 8763009, run beside this code;
    `RangeAUC_volume_opt` of TheDatumOrg/VUS at d0f2a44 gives the same to 12 digits. `decimals` makes ties."""
    labels, score = _recipe(*recipe)
    score = score if decimals is None else np.round(score, decimals)
    assert vus_pr(labels, score, buffer) == pytest.approx(official, rel=1e-9)


def _vus_pr_by_definition(labels, score, buffer, n_thresholds):
    n, volume = len(labels), 0.0
    ranges, t = [], 0
    while t < n:
        if labels[t]:
            first = t
            while t + 1 < n and labels[t + 1]:
                t += 1
            ranges.append((first, t))
        t += 1
    thresholds = sorted(score, reverse=True)
    thresholds = [thresholds[int(k * (n - 1) / (n_thresholds - 1))] for k in range(n_thresholds)]
    for length in range(buffer + 1):
        weight = [0.0] * n
        for t in range(n):
            for first, last in ranges:
                distance = first - t if t < first else t - last if t > last else 0
                if distance == 0:
                    weight[t] += 1
                elif distance <= length // 2:
                    weight[t] += (1 - distance / length) ** 0.5
            weight[t] = min(weight[t], 1.0)
        zones = []
        for first, last in ranges:
            zone = [max(first - length // 2, 0), min(last + length // 2, n - 1)]
            if zones and zones[-1][1] >= first - length // 2:
                zones[-1][1] = zone[1]
            else:
                zones.append(zone)
        area, recall_before = 0.0, 0.0
        for threshold in thresholds:
            predicted = [t for t in range(n) if score[t] >= threshold]
            mass = sum(weight[t] for t in predicted)
            ramp = sum(weight[t] for t in predicted if not labels[t])
            touched = sum(any(first <= t <= last for t in predicted) for first, last in zones) / len(zones)
            recall = min(1.0, mass / (sum(labels) + ramp / 2)) * touched
            area += (recall - recall_before) * mass / len(predicted)
            recall_before = recall
        volume += area / (buffer + 1)
    return volume


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_vus_pr_is_its_definition(data):
    n = data.draw(st.integers(2, 40))
    labels = data.draw(arrays(bool, n).filter(lambda x: x.any()))
    score = data.draw(arrays(np.int64, n, elements=st.integers(-5, 5))).astype(float)
    buffer = data.draw(st.integers(0, 8))
    slow = _vus_pr_by_definition(labels.tolist(), score.tolist(), buffer, 50)
    assert vus_pr(labels, score, buffer, n_thresholds=50) == pytest.approx(slow, rel=1e-9, abs=1e-12)
    assert 0 <= slow <= 1 + 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_without_buffer_and_with_one_range_it_is_average_precision(seed):
    rng = np.random.default_rng(seed)
    labels, score = np.zeros(200, bool), rng.normal(size=200)
    labels[80:95] = True
    assert vus_pr(labels, score, buffer=0, n_thresholds=200) == pytest.approx(average_precision_score(labels, score))
