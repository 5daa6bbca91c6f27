"""Shift p-values against enumeration by hand, and what random scores are expected to hit."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from anomaly_routing.evaluation.detection import detection_windows
from anomaly_routing.evaluation.placebo import chance_hit_rate, circular_shift
from anomaly_routing.evaluation.thresholds import quantile_cuts
from anomaly_routing.panel import Splits


def _hits(alarms, windows, guards):
    return sum(
        bool(alarms[window].any()) and not alarms[guard].any() for window, guard in zip(windows, guards, strict=True)
    )


def _enumerated(alarms, windows, splits, guards):
    """Every pair of rotations, one at a time."""
    still = alarms & np.logical_or.reduce(splits)
    reached = [split for split in splits if (windows | guards)[:, split].any()]
    series = [still]
    for split in reached:
        n, longer = int(split.sum()), []
        for base in series:
            for offset in range(1, n) if n > 1 else [0]:
                moved = base.copy()
                moved[split] = np.roll(still[split], offset)
                longer.append(moved)
        series = longer
    counts = [_hits(one, windows, guards) for one in series]
    observed = _hits(still, windows, guards)
    return (1 + sum(count >= observed for count in counts)) / (1 + len(counts)), float(np.mean(counts)), len(counts)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_placebo_is_the_enumeration(data):
    """Two splits with a gap before them, windows anywhere, also across the border, with and without guards."""
    n, first, second = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 8)), data.draw(st.integers(2, 9))
    total = n + first + second
    place = np.arange(total)
    splits = [(place >= n) & (place < n + first), place >= n + first]
    alarms = data.draw(arrays(bool, total))
    starts = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=4))
    windows = np.array([(place >= start) & (place < start + 3) for start in starts])
    guarded = data.draw(st.booleans())
    guards = np.array([(place >= start - 2) & (place < start) for start in starts]) & guarded
    got = circular_shift(alarms, windows, splits, guards if guarded else None)
    used = [split for split in splits if (windows | guards)[:, split].any()]
    if not any(split.sum() > 1 for split in used):
        assert got is None
    else:
        assert (got.p, got.expected, got.shifts) == pytest.approx(_enumerated(alarms, windows, splits, guards))


def test_one_alarm_one_window():
    """Of 20 sessions, one alarms inside a window of five: four other rotations also hit, so p = (1 + 4) / 20."""
    alarms, windows = np.arange(20) == 9, (np.arange(20) >= 7)[None] & (np.arange(20) < 12)
    got = circular_shift(alarms, windows, [np.ones(20, bool)])
    assert got.p == pytest.approx(5 / 20) and got.shifts == 19 and got.expected == pytest.approx(4 / 19)


def test_counts_of_shifts_and_the_finest_p():
    place = np.arange(753)
    val, test = place < 251, place >= 251
    windows = np.array([(place >= 20) & (place < 25), (place >= 300) & (place < 305)])
    hit_all = (place == 22) | (place == 302)
    assert circular_shift(hit_all, windows, [val, test]).shifts == 250 * 501
    assert circular_shift(hit_all, windows[1:], [val, test]).shifts == 501
    only = circular_shift(hit_all, windows[1:, :] & (place == 302), [val, test])
    assert only.p == pytest.approx(1 / 502)
    assert circular_shift(np.zeros(753, bool), windows, [val, test]).p == 1.0


def test_random_draws_agree_with_the_exhaustive_count():
    """10,000 drawn pairs of offsets, as SPEC 9.4 (iv) has it, land within their own sampling error."""
    rng = np.random.default_rng(4)
    place = np.arange(300)
    val, test = place < 100, place >= 100
    alarms = rng.random(300) < 0.12
    windows = np.array([(place >= start) & (place < start + 5) for start in (10, 50, 130, 170, 222, 280)])
    got = circular_shift(alarms, windows, [val, test])
    observed, at_least = sum(alarms[w].any() for w in windows), 0
    for _ in range(10_000):
        moved = np.r_[np.roll(alarms[:100], rng.integers(1, 100)), np.roll(alarms[100:], rng.integers(1, 200))]
        at_least += sum(moved[w].any() for w in windows) >= observed
    assert got.p == pytest.approx((1 + at_least) / 10_001, abs=4 * np.sqrt(got.p * (1 - got.p) / 10_000))


def test_nothing_to_shift():
    alarms, everything = np.ones(10, bool), np.ones(10, bool)
    assert circular_shift(alarms, np.zeros((0, 10), bool), [everything]) is None
    assert circular_shift(alarms, everything[None], [np.arange(10) == 3]) is None
    assert circular_shift(alarms, np.arange(10)[None] == 9, [np.arange(10) < 5]) is None


@pytest.mark.parametrize(
    "rate, window, chance", [(0.05, 5, 22.6), (1 - 0.95**2, 5, 40.1), (0.115, 5, 45.7), (0.268, 5, 79.0)]
)
def test_chance_level_of_the_audit(rate, window, chance):
    assert round(100 * chance_hit_rate(rate, window), 1) == chance
    assert chance_hit_rate(0.0) == 0 and chance_hit_rate(1.0) == 1


def test_random_scores_hit_at_the_audits_rates(nyse, paper_events):
    """SPEC 15, test 12, 6,000 replicates: 22.6% of the events with the cut at 0.95, 23.8% with it estimated on 2022."""
    scored = Splits().val(nyse) | Splits().test(nyse)
    sessions = nyse[scored]
    windows = detection_windows(sessions, sessions.get_indexer(paper_events["date"])).astype(np.float32)
    validation = Splits().val(sessions)
    rng, fixed, estimated, rates, spread = np.random.default_rng(12), [], [], [], []
    for _ in range(6):
        scores = rng.random((len(sessions), 1000))
        fixed.append((windows @ (scores > 0.95) > 0).mean())
        alarms = scores > quantile_cuts(scores, validation)
        hits = windows @ alarms > 0
        estimated.append(hits.mean())
        rates.append(alarms[~validation].mean())
        spread.append(hits.sum(axis=0).std())
    assert np.mean(fixed) == pytest.approx(0.226, abs=0.01)
    assert np.mean(estimated) == pytest.approx(0.238, abs=0.01)
    assert np.mean(rates) == pytest.approx(0.0535, abs=0.002)
    assert np.mean(spread) == pytest.approx(1.7, abs=0.1)  # events, in one replicate
