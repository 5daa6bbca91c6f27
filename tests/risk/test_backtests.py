"""Tests of a VaR against vartests, closed forms, slow definitions and simulated truth."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import vartests
from scipy.stats import chi2

from anomaly_routing.risk.backtests import (
    accepted_counts,
    block_draws,
    block_interval,
    christoffersen,
    conditional_coverage,
    confidence_set,
    diebold_mariano,
    duration,
    kupiec,
    kupiec_power,
    looks_closer,
    null_statistics,
    qlike,
    quantile_loss,
    simulated_p,
    violations,
)

SERIES = [np.random.default_rng(seed).random(n) < rate for seed, n, rate in
          ((0, 500, 0.01), (1, 1500, 0.02), (2, 250, 0.05), (3, 2000, 0.01))]  # fmt: skip


@pytest.mark.parametrize(
    "x, n, p", [(2, 502, 0.01), (0, 250, 0.01), (13, 502, 0.01), (30, 2012, 0.01), (250, 250, 0.05)]
)
def test_kupiec_is_that_of_vartests(x, n, p):
    theirs = vartests.kupiec_test(x=x, n=n, risk_conf_level=1 - p)
    ours = kupiec(x, n, p)
    assert ours.statistic == pytest.approx(theirs["statistic"], abs=1e-9) and ours.p == pytest.approx(theirs["p-value"])


def test_the_accepted_region_of_the_audit():
    """B06: 2-9 violations in 502 days, 13-29 in 2012."""
    assert accepted_counts(502, 0.01) == (2, 9)
    assert accepted_counts(2012, 0.01) == (13, 29)
    slow = [x for x in range(253) if kupiec(x, 252, 0.05).p >= 0.05]
    assert accepted_counts(252, 0.05) == (slow[0], slow[-1])


def test_the_power_is_what_simulation_finds():
    rng = np.random.default_rng(0)
    for rate in (0.01, 0.02):
        counts = rng.binomial(502, rate, 20_000)
        rejected = np.mean([kupiec(x, 502, 0.01).p < 0.05 for x in counts])
        assert kupiec_power(502, 0.01, rate) == pytest.approx(rejected, abs=0.012)


def test_how_often_the_right_one_looks_closer_is_what_simulation_finds():
    rng = np.random.default_rng(1)
    for n, wrong in ((250, 0.02), (502, 0.005)):
        a, b = rng.binomial(n, [[0.01], [wrong]], (2, 200_000))
        simulated = np.mean(np.abs(a / n - 0.01) < np.abs(b / n - 0.01) - 1e-9)
        assert looks_closer(n, 0.01, wrong) == pytest.approx(simulated, abs=0.005)


def test_independence_by_hand():
    """0 0 1 1 0 0 0 1: n00 3, n01 2, n10 1, n11 1."""
    hits = np.array([0, 0, 1, 1, 0, 0, 0, 1])
    free = 3 * np.log(3 / 5) + 2 * np.log(2 / 5) + 2 * np.log(1 / 2)
    tied = 4 * np.log(4 / 7) + 3 * np.log(3 / 7)
    assert christoffersen(hits).statistic == pytest.approx(2 * (free - tied))
    lr = christoffersen(hits).statistic + kupiec(3, 8, 0.1).statistic
    assert conditional_coverage(hits, 0.1).p == pytest.approx(chi2.sf(lr, 2))


@pytest.mark.parametrize("hits", [*SERIES, np.r_[True, SERIES[1], True]])
def test_the_duration_test_is_that_of_vartests(hits):
    theirs = vartests.duration_test(hits.astype(int))
    assert duration(hits).statistic == pytest.approx(theirs["statistic"], abs=1e-4)
    assert duration(hits).p == pytest.approx(theirs["p-value"], abs=1e-4)


def test_clusters_are_found_and_independence_is_left_alone():
    rng, found = np.random.default_rng(4), {"free": [], "clustered": []}
    for _ in range(300):
        free = rng.random(1500) < 0.02
        state, clustered = False, []
        for u in rng.random(1500):
            state = u < (0.4 if state else 0.012)
            clustered.append(state)
        for name, hits in (("free", free), ("clustered", np.array(clustered))):
            found[name].append([christoffersen(hits).p < 0.05, duration(hits).p < 0.05])
    free, clustered = (np.mean(found[name], axis=0) for name in ("free", "clustered"))
    assert (free < 0.12).all() and (clustered > 0.8).all()


def test_too_few_violations_make_no_test():
    none, one = np.zeros(100, bool), np.arange(100) == 50
    assert np.isnan(christoffersen(none).p) and np.isnan(duration(none).p) and np.isnan(duration(one).p)
    assert kupiec(0, 100, 0.01).p == pytest.approx(chi2.sf(-200 * np.log(0.99), 1))
    with pytest.raises(ValueError, match="other than 0 and 1"):
        christoffersen(np.array([0, 1, np.nan]))
    with pytest.raises(ValueError, match="one series"):
        duration(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="hold NaN"):
        violations(np.array([0.1]), np.array([np.nan]))
    with pytest.raises(ValueError, match="make no test"):
        kupiec(5, 4, 0.01)


def test_a_loss_as_large_as_the_var_is_no_violation():
    assert violations(np.array([-0.02, -0.021, 0.5]), np.full(3, 0.02)).tolist() == [False, True, False]


def test_the_quantile_loss_is_least_at_the_quantile():
    r = np.random.default_rng(0).standard_normal(200_000)
    grid = np.arange(1.5, 3.5, 0.05)
    best = grid[np.argmin([quantile_loss(r, np.full_like(r, v), 0.01).mean() for v in grid])]
    assert best == pytest.approx(2.326, abs=0.06)


def test_qlike_is_least_at_the_mean_under_a_noisy_proxy():
    proxy = 2.0 * np.random.default_rng(0).chisquare(3, 200_000) / 3
    grid = np.arange(1.5, 2.5, 0.05)
    assert grid[np.argmin([qlike(proxy, v).mean() for v in grid])] == pytest.approx(2.0, abs=0.06)
    assert qlike(np.array([3.0]), np.array([3.0])) == 0


def test_diebold_mariano_is_its_formula():
    rng = np.random.default_rng(0)
    a, b, lags = rng.standard_normal(400), rng.standard_normal(400) - 0.1, 5
    d = a - b
    e = d - d.mean()
    long_run = e @ e + 2 * sum((1 - k / (lags + 1)) * e[k:] @ e[:-k] for k in range(1, lags + 1))
    found = diebold_mariano(a, b, lags)
    assert found.mean == pytest.approx(d.mean()) and found.statistic == pytest.approx(d.sum() / np.sqrt(long_run))
    assert found.low == pytest.approx(d.mean() - 1.959964 * np.sqrt(long_run) / 400)
    assert diebold_mariano(b, a, lags).statistic == pytest.approx(-found.statistic)


def test_pooling_counts_a_common_day_once():
    """Ten copies of one series hold no more evidence than one."""
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 500))
    one, many = diebold_mariano(a, b), diebold_mariano(np.tile(a, (10, 1)).T, np.tile(b, (10, 1)).T)
    assert many.statistic == pytest.approx(one.statistic)


def test_diebold_mariano_keeps_its_size_and_refuses():
    rng = np.random.default_rng(2)
    shocks = rng.standard_normal((400, 600))
    d = shocks.copy()
    for i in range(1, 600):
        d[:, i] += 0.4 * d[:, i - 1]  # autocorrelated, mean zero
    rejected = np.mean([diebold_mariano(row, np.zeros(600), lags=12).p < 0.05 for row in d])
    assert 0.02 < rejected < 0.11
    with pytest.raises(ValueError, match="two forecasts are one"):
        diebold_mariano(np.ones(50), np.ones(50))
    with pytest.raises(ValueError, match="at least 30"):
        diebold_mariano(np.ones(10), np.zeros(10))


def test_the_confidence_set_drops_the_worst_and_is_repeatable():
    rng = np.random.default_rng(3)
    common = rng.standard_normal((600, 1))
    losses = pd.DataFrame(common + 0.3 * rng.standard_normal((600, 3)) + [0, 0, 0.3], columns=["a", "b", "bad"])
    found = confidence_set(losses, reps=300)
    assert found["bad"] < 0.05 and found[["a", "b"]].max() == 1 and (found[["a", "b"]] > 0.1).all()
    assert list(found.index) == ["a", "b", "bad"] and found.equals(confidence_set(losses, reps=300))


def test_blocks_keep_neighbours_together():
    drawn = block_draws(100, 50, seed=1)
    assert drawn.shape == (50, 100) and drawn.min() >= 0 and drawn.max() < 100
    assert ((np.diff(drawn, axis=1) % 100) == 1).mean() > 0.9


def test_the_interval_of_blocks_is_that_of_the_mean():
    """Independent days: the textbook interval; spells of twenty equal days: wider by the root of their length."""
    rng = np.random.default_rng(5)
    for spell, tolerance in ((1, 0.15), (20, 0.35)):
        daily = np.repeat(rng.standard_normal(4000 // spell), spell)
        low, high = block_interval(daily)
        expected = 2 * 1.96 * daily.std() / np.sqrt(4000 / spell)
        assert low < daily.mean() < high and high - low == pytest.approx(expected, rel=tolerance)


# --- p-values by simulation ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["independence", "conditional", "duration"])
def test_a_simulated_p_is_a_count_and_keeps_its_level(name):
    """1,500 sessions at 1%: of fresh independent series at most about 5% are rejected; a cluster always is."""
    null = null_statistics(name, 1500, 0.01, draws=199)
    assert len(null) > 150 and (np.diff(null) >= 0).all()
    rng, rejected = np.random.default_rng(77), []
    for _ in range(200):
        p = simulated_p(name, rng.random(1500) < 0.01, 0.01, 199)
        rejected.append(p < 0.05)
    assert np.mean(rejected) < 0.095  # 5% and three standard errors
    cluster = (np.arange(1500) >= 500) & (np.arange(1500) < 515)
    given = {} if name == "conditional" else {"x": 15}
    null = null_statistics(name, 1500, 0.01, **given, draws=199)
    assert simulated_p(name, cluster, 0.01, 199) == pytest.approx(1 / (1 + len(null)))
    test = {
        "independence": christoffersen,
        "duration": duration,
        "conditional": lambda h: conditional_coverage(h, 0.01),
    }
    hits = rng.random(1500) < 0.012
    given = {} if name == "conditional" else {"x": int(hits.sum())}
    null = null_statistics(name, 1500, 0.01, **given, draws=199)
    as_large = sum(value >= test[name](hits).statistic - 1e-9 for value in null)
    assert simulated_p(name, hits, 0.01, 199) == pytest.approx((1 + as_large) / (1 + len(null)))


@pytest.mark.parametrize("name", ["independence", "duration"])
def test_independent_violations_of_another_rate_are_not_called_dependent(name):
    """1,510 sessions at 2.5% against a nominal 1%: draws at 1% would reject far more than the level."""
    rng, n = np.random.default_rng(5), 1510
    series = [rng.random(n) < 0.025 for _ in range(400)]
    rejected = np.mean([simulated_p(name, hits, 0.01, 199) < 0.05 for hits in series])
    assert 0.015 < rejected < 0.085  # 5% and three standard errors
    wrong = null_statistics(name, n, 0.01, draws=199)
    test = {"independence": christoffersen, "duration": duration}[name]
    at_nominal = np.mean([np.mean(wrong >= test(hits).statistic) < 0.05 for hits in series])
    if name == "independence":
        assert at_nominal > 2 * rejected


def test_a_shuffle_of_few_violations_is_the_exact_law():
    """Two violations in eight sessions have 28 orders: the drawn statistics are those, each as often."""
    orders = [np.isin(np.arange(8), pair) for pair in itertools.combinations(range(8), 2)]
    exact = np.array([christoffersen(hits).statistic for hits in orders])
    drawn = null_statistics("independence", 8, 0.01, x=2, draws=4000)
    for value in np.unique(np.round(exact, 9)):
        share = np.mean(np.abs(exact - value) < 1e-6)
        assert np.mean(np.abs(drawn - value) < 1e-6) == pytest.approx(share, abs=0.03)


def test_no_violations_no_p():
    assert np.isnan(simulated_p("duration", np.arange(500) == 3, 0.01, 19))
    assert np.isnan(simulated_p("independence", np.zeros(500, bool), 0.01, 19))


def test_with_many_violations_the_simulated_p_is_near_the_asymptotic_one():
    hits = np.random.default_rng(8).random(3000) < 0.1
    assert simulated_p("independence", hits, 0.1, 499) == pytest.approx(christoffersen(hits).p, abs=0.08)
