"""The volume case: a new unit is no anomaly, spikes are; base rates; nothing is flagged in training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomaly_routing.chapter import volume_case
from anomaly_routing.chapter.volume_case import WAYS
from anomaly_routing.panel import Panel, plain_panel

N, STOCKS, SPLIT, SPIKE = 900, 6, 450, 700


def market(unit: float = 0.0) -> Panel:
    """Volumes of one level with a spike on one late day; from session SPLIT on, `unit` is added to their logarithm."""
    rng = np.random.default_rng(0)
    log_volume = 9 + 0.4 * rng.standard_normal((N, STOCKS))
    log_volume[SPLIT:] += unit
    log_volume[SPIKE, 0] += 6
    return plain_panel(0.01 * rng.standard_normal((N, STOCKS)), log_volume)


def alone(panel: Panel) -> Panel:
    fields = {name: getattr(panel, name)[:, :1] for name in ("active", "returns", "log_volume")}
    return replace(panel, tickers=panel.tickers[:1], x=panel.x[:, :1], sector=panel.sector[:1],
                   is_bank=panel.is_bank[:1], **fields)  # fmt: skip


TRAIN = np.arange(N) < 0.5 * N  # the unit changes with the first day after training


def test_volume_against_usual_is_a_slow_loop_and_sees_no_later_day():
    panel = market(2.0)
    panel.log_volume[100:130, 2] = np.nan
    seen = volume_case.against_usual(panel)
    for t, i in ((60, 0), (131, 2), (500, 1), (899, 5), (30, 3)):
        before = panel.log_volume[max(0, t - 60) : t, i]
        assert seen.log_volume[t, i] == pytest.approx(panel.log_volume[t, i] - np.nanmedian(before))
    assert not seen.active[:20].any() and seen.active[20:100].all() and not seen.active[100:130, 2].any()
    later = market(2.0)
    later.log_volume[600:] += 5
    np.testing.assert_array_equal(volume_case.against_usual(later).log_volume[:600, 0], seen.log_volume[:600, 0])


def test_a_new_unit_is_taken_for_anomalies_unless_volume_is_seen_against_usual():
    flags = volume_case.volume_flags(alone(market(3.0)), TRAIN)
    late, settled = ~TRAIN, np.arange(N) >= SPLIT + volume_case.USUAL
    assert flags["IQR", "causal"][late].mean() > 0.9  # the unit, not the market
    own = flags["IQR", WAYS[2]]
    assert own[SPIKE] and own[settled].sum() == 1
    assert flags["forest", WAYS[2]][SPIKE]


def test_causal_ways_flag_no_day_of_training():
    panel = market()
    panel.log_volume[200, 0] += 8  # an anomaly in training
    flags = volume_case.volume_flags(alone(panel), TRAIN)
    assert flags["IQR", "chapter"][200] and flags["forest", "chapter"][200]
    for rule in ("IQR", "forest"):
        for way in WAYS[1:]:
            assert not flags[rule, way][TRAIN].any()
    table = volume_case.overlap(alone(panel), TRAIN, flags).set_index("mode")
    assert table.loc["causal", "days"] == (~TRAIN).sum() and table.loc["chapter", "days"] == N
    for way in WAYS:
        a, b = flags["IQR", way], flags["forest", way]
        assert table.loc[way, "both"] == (a & b).sum()
        assert table.loc[way, "both, by chance"] == pytest.approx(a.sum() * b.sum() / table.loc[way, "days"])


def test_market_wide_has_its_base_rate():
    """All stocks far out on every tenth later day; and, with a new unit, on all of them in the causal way."""
    panel = market()
    panel.log_volume[SPLIT::10] += 5
    base = volume_case.market_wide(panel, TRAIN).set_index("mode")
    assert base.loc["causal", "later days"] == pytest.approx(0.1, abs=0.01) and base.loc["causal", "training days"] == 0
    assert base.loc[WAYS[2], "later days"] == pytest.approx(0.1, abs=0.01)
    drifted = volume_case.market_wide(market(3.0), TRAIN).set_index("mode")
    assert drifted.loc["causal", "later days"] > 0.9 and drifted.loc[WAYS[2], "later days"] < 0.1
    assert not volume_case.moved_away(base.reset_index()) and volume_case.moved_away(drifted.reset_index())
    flags = volume_case.volume_flags(alone(panel), TRAIN)
    days = volume_case.flagged_days(panel, TRAIN, flags, "S0")
    wide = days[(days["mode"] == "causal") & (days.circumstance == "market-wide")]
    assert set(wide.index) <= set(panel.sessions[SPLIT::10]) and len(wide) > 10


def test_days_at_the_limit_are_counted():
    panel = alone(market())
    panel.returns[:] = 0.01
    flags = np.zeros((N, 1), bool)
    flags[:10] = True
    panel.returns[:4, 0] = np.log([1.10, 0.90, 1.0955, 1.0944])
    assert volume_case.at_limit(panel, flags) == (0.3, 0.0)
    assert np.isnan(volume_case.at_limit(panel, ~np.ones((N, 1), bool))[0])


def test_the_drift_is_split_into_unit_and_trade():
    one = replace(alone(market(3.0)), tickers=["NABIL"])
    found = volume_case.drift(one)
    assert found["total"] == pytest.approx(3, abs=0.2) and abs(found["usual"]) < 0.2
    assert found["unit"] == pytest.approx(2.354, abs=1e-3)
    assert np.isnan(volume_case.drift(alone(market()))["unit"])


def test_a_moving_level_widens_the_fences_until_nothing_can_be_outside():
    """A spike of 6 stands out of a level that stays, and out of the usual; not of one that has moved by 8."""
    for unit, inside in ((0.0, False), (8.0, True)):
        one = alone(market(unit))
        fences = volume_case.in_sample_fences(one)
        v = one.log_volume[:, 0]
        low, high = np.percentile(v, [25, 75])
        expected = [low - 2.5 * (high - low), v.min(), v.max(), high + 2.5 * (high - low), high - low]
        np.testing.assert_allclose(fences.iloc[0, 1:].to_numpy(float), expected)
        assert fences["IQR"][1] < 0.7  # SD 0.4: 1.35 * 0.4 * sqrt(1 + noise of the median)
        overlap = volume_case.overlap(one, TRAIN, volume_case.volume_flags(one, TRAIN))
        words = volume_case.about_fences(fences, overlap)
        assert (overlap["IQR"][0] == 0) == inside == ("can flag no day at all" in words)
        assert ("the moving level widens" in words) == inside == ("looks at return" not in words)


def test_flagged_days_of_years_with_less_trade_are_told_from_days_with_less_than_usual():
    """Bursts in the early half lie below the all-time median and above their usual."""
    panel = market(6.0)
    panel.log_volume[100:400:50, 0] += 2
    panel.log_volume[[600, 650], 0] -= 2
    mark = np.zeros(N, bool)
    mark[[*range(100, 400, 50), 600, 650]] = True
    flags = {(rule, way): mark & (way == WAYS[0]) for rule in ("IQR", "forest") for way in WAYS}
    days = volume_case.flagged_days(panel, TRAIN, flags, "S0")
    assert len(days) == 8 and (days["circumstance"] == "low volume").sum() == 2
    words = volume_case.about_low_volume(days)
    early = days[days["times usual"] > 1]
    assert "Of 8 days flagged in sample 2 have less" in words
    assert "6 lie below the all-time median, and 6 of these have *more*" in words
    assert f"{early['times usual'].median():.1f} times" in words and 5 < early["times usual"].median() < 11
    assert volume_case.about_low_volume(days.iloc[:0]).startswith("Of 0 days")
    told = volume_case.in_words(days.assign(**{"sessions since": 2.0, "closed days": 51.0}).iloc[:1])
    assert "session 2 after 51 days without one" in told and f"{days.index[0]:%Y-%m-%d}" in told
    assert "session" not in volume_case.in_words(days) and volume_case.in_words(days.iloc[:0]) == "none"
