"""Daily statistics against a loop over stocks."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_routing.evaluation.aggregate import daily_statistic, stock_day_cut

RNG = np.random.default_rng(3)
SCORE = RNG.normal(size=(40, 7))
ACTIVE = RNG.random((40, 7)) < 0.7
ACTIVE[5] = False
ACTIVE[6] = [True] + [False] * 6
ACTIVE[8, 2], SCORE[8, 2] = True, np.nan
BANK = np.array([False, True, True, False, False, False, True])


def _by_hand(agg, threshold):
    out = []
    for t in range(len(SCORE)):
        stocks = [i for i in range(7) if ACTIVE[t, i] and SCORE[t, i] == SCORE[t, i] and (agg != "banks" or BANK[i])]
        values = [SCORE[t, i] for i in stocks]
        above = sum(v > threshold for v in values)
        if not values:
            out.append(np.nan)
        elif agg in ("mean", "banks"):
            out.append(sum(values) / len(values))
        else:
            out.append({"max": max(values), "share": above / len(values), "any": float(above > 0)}[agg])
    return out


@pytest.mark.parametrize("agg", ["mean", "max", "share", "banks", "any"])
def test_every_aggregation_is_the_plain_loop(agg):
    got = daily_statistic(SCORE.astype(np.float32), ACTIVE, agg, threshold=0.8, is_bank=BANK)
    np.testing.assert_allclose(got, _by_hand(agg, 0.8), rtol=1e-6)
    assert got.dtype == np.float64 and np.isnan(got[5])


def test_what_an_inactive_stock_scores_changes_nothing():
    wild = np.where(ACTIVE, SCORE, 1e9)
    for agg in ("mean", "max", "share", "banks", "any"):
        options = {"threshold": 0.8, "is_bank": BANK}
        np.testing.assert_array_equal(
            daily_statistic(wild, ACTIVE, agg, **options), daily_statistic(SCORE, ACTIVE, agg, **options)
        )


def test_the_stock_day_cut_pools_active_stock_days_of_the_split():
    split = np.arange(40) < 20
    pool = [SCORE[t, i] for t in range(20) for i in range(7) if ACTIVE[t, i] and SCORE[t, i] == SCORE[t, i]]
    assert stock_day_cut(SCORE, ACTIVE, split) == pytest.approx(np.quantile(pool, 0.95))
    with pytest.raises(ValueError, match="no active stock-day"):
        stock_day_cut(SCORE, ACTIVE, np.arange(40) == 5)


def test_the_literal_alarm_rings_nearly_every_day():
    """With 100 independent stocks and a 5% cut some stock is above on 1 - 0.95^100 = 99.4% of days (AUDIT A18)."""
    score = np.random.default_rng(0).random((20_000, 100))
    share = daily_statistic(score, np.ones_like(score, dtype=bool), "any", threshold=0.95).mean()
    assert share == pytest.approx(1 - 0.95**100, abs=0.002)


@pytest.mark.parametrize(
    "agg, options, message",
    [
        ("median", {}, "unknown"),
        ("share", {}, "threshold"),
        ("any", {}, "threshold"),
        ("banks", {}, "is_bank"),
    ],
)
def test_wrong_requests(agg, options, message):
    with pytest.raises(ValueError, match=message):
        daily_statistic(SCORE, ACTIVE, agg, **options)
    with pytest.raises(ValueError, match="shape"):
        daily_statistic(SCORE, ACTIVE[:, :3])
