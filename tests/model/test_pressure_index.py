"""Scores, theta_s, the market pressure index and its alert cuts (SPEC 7.2-7.5)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anomaly_routing.model.config import PRESETS, make_config
from anomaly_routing.model.pressure_index import (
    EXPANDING_FROM,
    LEVELS,
    alert_cuts,
    alert_levels,
    components,
    other_reading,
    pressure_index,
    theta,
)
from anomaly_routing.model.scoring import block_scores, score_statistics, scores
from tests.oracles import pressure_oracle as oracle

SESSIONS, STOCKS, BLOCK = 110, 7, 32
CONFIGS = {
    "literal": make_config("literal"),
    "intended": make_config("intended"),
    "mpi_c3=std": make_config("intended", mpi_c3="std"),
    "mpi_c4=std": make_config("intended", mpi_c4="std"),
}


def market(stocks=STOCKS, sessions=SESSIONS, seed=3):
    """Errors with a fat tail, activity with holes, and the masks of train, validation and test after a warm-up."""
    rng = np.random.default_rng(seed)
    errors = rng.gamma(2.0, 1.5, (sessions, stocks))
    active = rng.random((sessions, stocks)) > 0.2
    active[~active.any(axis=1), 0] = True
    place = np.arange(sessions)
    splits = [(place >= 5) & (place < 60), (place >= 60) & (place < 75), place >= 75]
    return np.where(active, errors, 0.0), active, splits


# --- scores ----------------------------------------------------------------------------------------------------------
def test_frozen_scores():
    """7.2, `intended`."""
    errors, active, (train, *_) = market()
    mean, spread = score_statistics(errors, active, train)
    assert (mean, spread) == pytest.approx(oracle.score_statistics(errors, active, train), rel=1e-12)
    got = scores(errors, active, mean, spread)
    np.testing.assert_array_equal(np.isnan(got), ~active)
    np.testing.assert_allclose(got, oracle.scores(errors, active, range(SESSIONS), mean, spread), rtol=1e-12)


def test_block_scores():
    """7.2, `literal`: blocks are counted from the first session of a split; the last one is short."""
    errors, active, splits = market()
    got = block_scores(errors, active, splits)
    np.testing.assert_allclose(got, oracle.block_scores(errors, active, splits, BLOCK), rtol=1e-10)
    np.testing.assert_array_equal(np.isnan(got), ~(active & np.any(splits, axis=0)[:, None]))
    short = block_scores(errors, active, splits, block=10)
    np.testing.assert_allclose(short, oracle.block_scores(errors, active, splits, 10), rtol=1e-10)


def test_a_market_without_spread_scores_one_half():
    _, active, splits = market()
    errors = np.where(active, 2.5, 0.0)
    for got in (scores(errors, active, 2.5, 0.0), block_scores(errors, active, splits)):
        np.testing.assert_allclose(got[np.isfinite(got)], 0.5, atol=1e-6)


@pytest.mark.parametrize("last", [80, 95, 107])
def test_later_sessions_change_literal_scores_only(last):
    """SPEC 15, test 10: the score of a test session when all sessions after it are removed."""
    errors, active, splits = market()
    statistics = score_statistics(errors, active, splits[0])
    whole, cut = scores(errors, active, *statistics), scores(errors[: last + 1], active[: last + 1], *statistics)
    np.testing.assert_array_equal(whole[: last + 1], cut)
    whole = block_scores(errors, active, splits)[: last + 1]
    cut = block_scores(errors[: last + 1], active[: last + 1], [s[: last + 1] for s in splits])
    np.testing.assert_array_equal(whole[:75], cut[:75])  # earlier splits have their own blocks
    moved = (np.abs(whole - cut) > 1e-6).any(axis=1)
    assert moved[last]
    first_of_block = 75 + BLOCK * ((last - 75) // BLOCK)
    assert not moved[:first_of_block].any()


# --- theta_s and the components --------------------------------------------------------------------------------------
def case(config, stocks=STOCKS, seed=3):
    """Everything that the index is made of."""
    errors, active, splits = market(stocks, seed=seed)
    rng = np.random.default_rng(seed + 100)
    s = scores(errors, active, *score_statistics(errors, active, splits[0]))
    routing = rng.dirichlet([0.4] * 4, active.shape) * active[:, :, None]
    cut = theta(s, active, splits[1])
    return s, active, routing, rng.random(len(s)), cut, splits[1], config


def test_theta():
    """7.3."""
    s, active, *_, cut, val, _ = case(CONFIGS["intended"])
    assert cut == pytest.approx(oracle.quantile(oracle.pooled(s, active, np.flatnonzero(val)), 0.95), rel=1e-12)
    assert cut == pytest.approx(np.quantile(s[val][active[val]], 0.95))


@pytest.mark.parametrize("stocks", [1, 2, STOCKS, 40, 100], ids="{} stocks".format)
@pytest.mark.parametrize("name", CONFIGS)
def test_components(name, stocks):
    """7.4; with 40 stocks and more the upper twentieth is more than one stock."""
    s, active, routing, psi, cut, _, config = case(CONFIGS[name], stocks)
    if stocks == 100:
        active = np.ones_like(active)
        s = np.where(np.isnan(s), 0.3, s)
        routing[routing.sum(axis=2) == 0] = 0.25
    got = components(s, active, routing, psi, cut, config)
    expected = oracle.components(s, active, routing, psi, cut, config)
    for k in range(5):
        np.testing.assert_allclose(got[:, k], expected[:, k], rtol=1e-9, atol=1e-12, err_msg=f"7.4 c{k + 1}")
    np.testing.assert_allclose(pressure_index(got), oracle.pressure(expected), rtol=1e-9)
    assert got.min() >= 0 and got.max() <= 1


def day(values, weights=None, config="intended", psi=0.0, cut=0.5):
    """Components of one session."""
    s = np.array([values], float)
    routing = np.full((1, len(values), 4), 0.25) if weights is None else np.array([weights], float)
    return components(s, ~np.isnan(s), routing, np.array([psi]), cut, CONFIGS[config])[0]


def test_components_by_hand():
    half = [0.0, 0.0, 1.0, 1.0]
    np.testing.assert_allclose(day(half, psi=0.3), [0.5, 1, 1, 1, 0.3])  # two alarmed stocks routed alike
    np.testing.assert_allclose(day(half, config="literal"), [0.5, 1, 0.5, 0, 0])
    apart = [[1, 0, 0, 0]] * 3 + [[0, 1, 0, 0]]
    assert day(half, apart)[3] == pytest.approx(0.5)  # two of four weights have an SD of 1/2
    assert day(half, apart, "literal")[3] == pytest.approx(0.25)
    for config in ("literal", "intended"):
        assert day([0.2, 0.4, 0.9], config=config)[3] == 0  # one alarmed stock agrees with nobody
        assert day([0.5, 0.5, 0.5], config=config)[0] == 0  # at theta_s is not above it
    np.testing.assert_allclose(day([np.nan, 0.8, np.nan, 0.6])[:3], [1, 0.8, 0.2])


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_index_is_between_zero_and_one(name, data):
    """SPEC 15, test 9."""
    stocks = data.draw(st.integers(1, 25))
    unit = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 1e-12]), st.floats(0, 1))
    s = data.draw(arrays(float, (3, stocks), elements=unit))
    active = data.draw(arrays(bool, (3, stocks)))
    active[:, 0] = True
    raw = data.draw(arrays(float, (3, stocks, 4), elements=unit)) + 1e-9
    routing = np.where(active[:, :, None], raw / raw.sum(axis=2, keepdims=True), 0)
    psi = data.draw(arrays(float, 3, elements=unit))
    s = np.where(active, s, np.nan)
    config = CONFIGS[name]
    cut = data.draw(unit)
    got = components(s, active, routing, psi, cut, config)
    assert (got >= 0).all() and (got <= 1).all()
    index = pressure_index(got)
    assert (index >= 0).all() and (index <= 1).all()
    np.testing.assert_allclose(got, oracle.components(s, active, routing, psi, cut, config), rtol=1e-9, atol=1e-9)


def test_weights_of_the_index():
    np.testing.assert_allclose(pressure_index(np.eye(5)), [0.30, 0.25, 0.20, 0.15, 0.10])


@pytest.mark.parametrize("wrong", [-0.01, 1.01])
def test_a_component_outside_its_range_is_an_error(wrong):
    """7.4: each component is asserted."""
    parts = np.full((3, 5), 0.5)
    parts[1, 2] = wrong
    with pytest.raises(ValueError, match="outside"):
        pressure_index(parts)


# --- alert levels ----------------------------------------------------------------------------------------------------
def test_alert_cuts_and_levels():
    """7.5: L0 < q75 <= L1 < q85 <= L2 < q95 <= L3 < q99 <= L4."""
    rng = np.random.default_rng(1)
    index, val = rng.random(200), np.arange(200) < 120
    cuts = alert_cuts(index, val)
    expected = [oracle.quantile(index[val], q) for q in (0.75, 0.85, 0.95, 0.99)]
    np.testing.assert_allclose(cuts, expected, rtol=1e-12)
    levels = alert_levels(index, cuts)
    assert np.issubdtype(np.asarray(levels).dtype, np.integer)
    np.testing.assert_array_equal(levels, oracle.alert_levels(index, cuts))
    edges = np.concatenate([[cuts[0] - 1e-9], cuts, [1.0]])
    np.testing.assert_array_equal(alert_levels(edges, cuts), [0, 1, 2, 3, 4, 4])


def wandering_index(sessions=420):
    """An index with trend and gaps, so that a cut taken one session early or late is another number."""
    rng = np.random.default_rng(2)
    index = np.linspace(0.3, 0.4, sessions) + 0.3 * rng.random(sessions)
    index[rng.random(sessions) < 0.05] = np.nan
    return index, rng.random(sessions) > 0.1


def test_cuts_of_the_training_sessions():
    index, counted = wandering_index()
    train = counted & (np.arange(len(index)) < 200)
    expected = [oracle.quantile([v for v, own in zip(index, train, strict=True) if own and v == v], q) for q in LEVELS]
    np.testing.assert_allclose(alert_cuts(index, train, "train"), expected, rtol=1e-12)


def test_expanding_cuts_are_those_of_a_plain_loop():
    """7.5: each session is judged by the marked ones before it, from the 251st of them on."""
    index, counted = wandering_index()
    cuts, past, ready = alert_cuts(index, counted, "expanding"), [], 0
    for t, value in enumerate(index):
        if len(past) < EXPANDING_FROM:
            assert np.isnan(cuts[t]).all()
        else:
            np.testing.assert_allclose(cuts[t], [oracle.quantile(past, q) for q in LEVELS], rtol=1e-12)
            ready += 1
        if counted[t] and value == value:
            past.append(value)
    assert 80 < ready < 200
    levels = alert_levels(index, cuts)
    for t, value in enumerate(index):
        known = value == value and np.isfinite(cuts[t]).all()
        assert levels[t] == (oracle.alert_levels([value], cuts[t])[0] if known else -1)
    assert set(levels) >= {-1, 0, 4}


@pytest.mark.parametrize("t", [300, 350, 419])
def test_expanding_cuts_do_not_see_their_own_session_or_later_ones(t):
    index, counted = wandering_index()
    index[t], counted[t] = 0.0, True
    before, spoilt = alert_cuts(index, counted, "expanding"), index.copy()
    spoilt[t:] = 5.0 - spoilt[t:]  # from the lowest value to the highest: every quantile that counts it moves
    after = alert_cuts(spoilt, counted, "expanding")
    np.testing.assert_array_equal(after[: t + 1], before[: t + 1])
    np.testing.assert_array_equal(alert_cuts(index[: t + 1], counted[: t + 1], "expanding"), before[: t + 1])
    if t < 400:
        assert not np.allclose(after[t + 20 :], before[t + 20 :])


def test_another_source_of_cuts_is_refused():
    index, counted = wandering_index()
    with pytest.raises(ValueError, match="no cut source 'test'; there are: val, train, expanding"):
        alert_cuts(index, counted, "test")


@pytest.mark.parametrize("key", ["mpi_c3", "mpi_c4"])
def test_another_reading_of_a_part_is_the_index_made_with_it(key):
    """From the intended index and its parts alone, on sessions with many, one and no stock above the cut."""
    rng = np.random.default_rng(0)
    score = rng.random((40, 30)) * rng.choice([0.5, 1.0], (40, 1))
    active = rng.random(score.shape) < 0.9
    routing = rng.dirichlet(0.1 * np.ones(4), score.shape)
    rest = active, routing, rng.random(40), 0.93
    own, literal = (
        components(score, *rest, make_config("intended", **change)) for change in ({}, {key: PRESETS["literal"][key]})
    )
    assert (own[:, 3] == 0).any() and (own[:, 3] > 0).any()
    got = other_reading(pressure_index(own), own[:, 2], own[:, 3], key)
    np.testing.assert_allclose(got, pressure_index(literal), atol=1e-12)
    assert not np.allclose(got, pressure_index(own))
