"""Cuts and budgets against plain loops, and the promise that nothing looks ahead."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from anomaly_routing.evaluation.thresholds import (
    BUDGETS,
    Budget,
    TrailingWindows,
    alert_levels,
    equal_counts,
    joint_rank,
    matched_budget,
    or_budget_cuts,
    quantile_cuts,
)

RNG = np.random.default_rng(11)


def _everything(n):
    return np.ones(n, dtype=bool)


def _matched(values, budget, *, scored=None, wanted=None, history=250):
    n = len(values)
    scored = _everything(n) if scored is None else scored
    return matched_budget(
        TrailingWindows(values, scored, _everything(n) if wanted is None else wanted, history), budget
    )


def _clustered(n, channels, seed):
    """Autocorrelated scores: alarms that come in runs, as real ones do."""
    noise = np.random.default_rng(seed).normal(size=(n, channels))
    out = noise.copy()
    for t in range(1, n):
        out[t] = 0.9 * out[t - 1] + noise[t]
    return out


def _matched_by_hand(values, t, allowed, start, history=250):
    """SPEC 9.6 as it is written, one session and one quantile at a time."""
    past = values[t - history : t]
    for thousandth in range(start, 1000):
        cuts = [np.quantile(past[:, c], thousandth / 1000) for c in range(values.shape[1])]
        if sum(any(row[c] > cuts[c] for c in range(len(cuts))) for row in past) <= allowed:
            break
    return thousandth / 1000, cuts, [values[t, c] > cuts[c] for c in range(len(cuts))]


@pytest.mark.parametrize("name, allowed, start", [("02", 5, 980), ("05", 12, 950), ("10", 25, 900), ("20", 50, 800)])
@pytest.mark.parametrize("channels, decimals", [(1, 8), (2, 8), (2, 0)])
def test_matched_budget_is_the_slow_rule(name, allowed, start, channels, decimals):
    values = np.round(_clustered(270, channels, seed=channels), decimals)
    got = _matched(values, BUDGETS[name])
    assert not got.judged[:250].any() and got.judged[250:].all()
    for t in range(250, 270, 3):
        quantile, cuts, alarms = _matched_by_hand(values, t, allowed, start)
        assert got.quantile[t] == quantile
        np.testing.assert_allclose(got.cuts[t], cuts, rtol=1e-12)
        assert got.alarms[t].tolist() == alarms
    assert not got.alarms[:250].any()


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_matched_budget_with_many_ties(data):
    channels = data.draw(st.integers(1, 2))
    values = data.draw(arrays(np.int64, (26, channels), elements=st.integers(0, 4))).astype(float)
    got = _matched(values, Budget(3, 0.800), history=20)
    for t in range(20, 26):
        quantile, _, alarms = _matched_by_hand(values, t, 3, 800, history=20)
        assert got.quantile[t] == quantile and got.alarms[t].tolist() == alarms


@pytest.mark.parametrize("name, allowed", [("02", 5), ("05", 12), ("10", 25), ("20", 50)])
@pytest.mark.parametrize("channels", [1, 2])
def test_no_past_window_exceeds_its_allowance(name, allowed, channels):
    values = _clustered(900, channels, seed=5)
    got = _matched(values, BUDGETS[name])
    for t in range(250, 900):
        assert (values[t - 250 : t] > got.cuts[t]).any(axis=1).sum() <= allowed


@pytest.mark.parametrize("t", [250, 400, 520])
def test_matched_cuts_and_earlier_alarms_ignore_what_follows(t):
    values = _clustered(600, 2, seed=6)
    changed = values.copy()
    changed[t:] = np.random.default_rng(8).normal(50, 30, size=changed[t:].shape)
    before, after = _matched(values, BUDGETS["05"]), _matched(changed, BUDGETS["05"])
    np.testing.assert_array_equal(before.cuts[: t + 1], after.cuts[: t + 1])  # the cuts of t itself included
    np.testing.assert_array_equal(before.alarms[:t], after.alarms[:t])
    assert t == 600 or not np.array_equal(before.cuts[t + 1 :], after.cuts[t + 1 :])


@pytest.mark.parametrize("name", BUDGETS)
def test_a_constant_score_never_alarms(name):
    values = np.full((400, 2), 3.14)
    assert not _matched(values, BUDGETS[name]).alarms.any()
    assert not (values > quantile_cuts(values, _everything(400))).any()
    assert not (values > or_budget_cuts(values, _everything(400))[1]).any()
    assert not equal_counts(values, 25).any()


def test_sessions_without_a_score_are_as_if_absent():
    values = _clustered(330, 2, seed=9)
    holes = np.isin(np.arange(330), [3, 100, 101, 270, 300])
    wanted = np.arange(330) >= 260
    pierced = np.where(holes[:, None], np.nan, values)
    got = _matched(pierced, BUDGETS["05"], scored=~holes, wanted=wanted)
    want = _matched(values[~holes], BUDGETS["05"], wanted=wanted[~holes])
    np.testing.assert_array_equal(got.alarms[~holes], want.alarms)
    np.testing.assert_array_equal(got.judged, wanted & ~holes)
    assert not got.alarms[holes].any()


def test_too_short_a_past_gives_no_verdict():
    got = _matched(RNG.normal(size=(200, 1)), BUDGETS["05"])
    assert not got.judged.any() and not got.alarms.any() and np.isnan(got.quantile).all()


def test_the_first_verdict_is_session_290(nyse):
    """40 sessions before the first sample and 250 scored ones (SPEC 9.6)."""
    scored = np.arange(len(nyse)) >= 40
    values = np.where(scored, 1.0, np.nan)[:, None]
    assert TrailingWindows(values, scored, _everything(len(nyse))).judged.argmax() == 290


def test_more_channels_than_the_allowance_are_refused():
    with pytest.raises(ValueError, match="6 channels cannot share"):
        _matched(RNG.normal(size=(260, 6)), BUDGETS["02"])


def test_thirteen_of_251_lie_above_the_validation_cut():
    values = RNG.normal(size=(400, 3))
    year = np.arange(400) < 251
    cuts = quantile_cuts(values, year)
    assert ((values > cuts) & year[:, None]).sum(axis=0).tolist() == [13, 13, 13]
    for channel, cut in enumerate(cuts):  # position 0.95 * 250 = 237.5 of the sorted year
        ordered = sorted(values[year, channel])
        assert cut == pytest.approx((ordered[237] + ordered[238]) / 2)
    with pytest.raises(ValueError, match="no scored session"):
        quantile_cuts(values, ~_everything(400))


@pytest.mark.parametrize("seed", range(4))
def test_or_budget_is_the_smallest_quiet_quantile(seed):
    values = _clustered(251, 2, seed)
    quantile, cuts = or_budget_cuts(values, _everything(251))
    loud = {
        k: int((values > [np.quantile(values[:, c], k / 1000) for c in (0, 1)]).any(axis=1).sum())
        for k in range(950, 1000)
    }
    smallest = min(k for k, count in loud.items() if count <= 12)
    assert quantile == smallest / 1000
    assert (values > cuts).any(axis=1).sum() == loud[smallest]


def test_one_channel_or_budget_allows_twelve():
    values = RNG.normal(size=(251, 1))
    quantile, cuts = or_budget_cuts(values, _everything(251))
    assert (values > cuts).sum() == 12
    assert quantile == 0.952  # position 238 of 0..250 leaves 12 above, 0.951 leaves 13


def test_joint_rank_takes_the_larger_mid_rank():
    values = np.array([[1.0, 9.0], [2.0, 1.0], [2.0, 2.0], [5.0, 3.0]])
    assert joint_rank(values).tolist() == [4.0, 2.5, 2.5, 4.0]


def test_equal_counts_and_their_ties():
    values = RNG.normal(size=(502, 1))
    marked = equal_counts(values, 25)
    assert marked.sum() == 25 and values[marked].min() > values[~marked].max()
    tied = np.array([9.0, 8.0, 7.0, 7.0, 7.0, 1.0])[:, None]
    assert equal_counts(tied, 3).tolist() == [True, True, False, False, False, False]
    assert equal_counts(tied, 5).tolist() == [True] * 5 + [False]
    assert equal_counts(np.array([[1.0, 9.0], [2.0, 1.0], [9.0, 2.0], [5.0, 3.0]]), 2).tolist() == [1, 0, 1, 0]


def test_alert_levels_split_the_validation_year():
    values = np.r_[np.arange(101.0), np.nan, -5.0, 75.0, 85.0, 95.0, 99.0, 1e6]
    levels = alert_levels(values, np.arange(len(values)) < 101)  # cuts at 75, 85, 95 and 99
    assert np.bincount(levels[:101]).tolist() == [75, 10, 10, 4, 2]
    assert levels[101:].tolist() == [0, 0, 1, 2, 3, 4, 4]
