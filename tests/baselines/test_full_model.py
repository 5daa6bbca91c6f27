"""The full model as a detector: which sessions it trains on and scores, and what it refuses."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from planted_panel import SESSIONS, TRAIN_END, fitted, planted_panel, quick, scored

from anomaly_routing.baselines.registry import detectors
from anomaly_routing.detect import run_key
from anomaly_routing.panel import BURN_IN, Panel, Splits

BY_SESSION = ("sessions", "x", "active", "returns", "log_volume", "stress", "benchmarks")


def rows(panel: Panel, kept) -> Panel:
    """Some sessions of a panel."""
    assert {*BY_SESSION, "tickers", "features", "sector", "is_bank", "group", "prior"} == {
        f.name for f in fields(Panel)
    }
    return replace(panel, **{name: getattr(panel, name)[kept] for name in BY_SESSION})


def test_it_trains_on_the_marked_sessions_and_halves_the_rest():
    panel, splits = planted_panel().panel, fitted("intended", "causal")._splits
    np.testing.assert_array_equal(np.flatnonzero(splits.train(panel.sessions)), np.arange(BURN_IN, TRAIN_END))
    half = (SESSIONS - TRAIN_END) // 2
    assert splits.val(panel.sessions).sum() == half and splits.test(panel.sessions).sum() == SESSIONS - TRAIN_END - half
    assert not np.isfinite(scored("intended", "causal")[:BURN_IN]).any()


@pytest.mark.parametrize(("name", "mode"), [("intended", "causal"), ("literal", "printed")])
def test_a_session_without_active_stocks_is_no_session(name, mode):
    panel, closed = planted_panel().panel, TRAIN_END + 5
    active = panel.active.copy()
    active[closed] = False
    shut, kept = replace(panel, active=active), np.arange(SESSIONS) != closed
    scores = fitted(name, mode).decision_function(shut)
    assert np.isnan(scores[closed]).all()
    np.testing.assert_array_equal(scores[kept], fitted(name, mode).decision_function(rows(panel, kept)))
    active[TRAIN_END - 5] = False  # in training too
    scores = quick(name, mode, epochs=1).fit(replace(panel, active=active), planted_panel().train)
    assert np.isfinite(scores.decision_function(panel)[BURN_IN + 20 :]).any(axis=1).all()


def test_sessions_that_came_after_the_fit_are_scored():
    planted, early = planted_panel(), np.arange(SESSIONS) < SESSIONS - 30
    detector = quick("intended", "causal").fit(rows(planted.panel, early), planted.train[early])
    np.testing.assert_allclose(
        detector.decision_function(planted.panel), scored("intended", "causal"), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("marked", [slice(0, SESSIONS), slice(0, SESSIONS - 1), slice(0, TRAIN_END, 2)])
def test_training_sessions_that_leave_nothing_or_gaps_are_refused(marked):
    train = np.zeros(SESSIONS, bool)
    train[marked] = True
    with pytest.raises(ValueError, match="must follow each other and leave at least two sessions to score"):
        quick("intended", "causal").fit(planted_panel().panel, train)


def test_no_session_is_no_panel():
    empty = rows(planted_panel().panel, slice(0, 0))
    with pytest.raises(ValueError, match="none of 0 sessions is marked for training"):
        quick("intended", "causal").fit(empty, np.zeros(0, bool))
    with pytest.raises(ValueError, match="the panel has no session: give the ones to score"):
        fitted("intended", "causal").decision_function(empty)


@pytest.mark.parametrize(
    ("field", "at", "value", "message"),
    [
        ("prior", (0, 1), np.nan, "prior is nan between S0 and S1: an edge is 1"),
        ("prior", (0, 1), 0.5, "prior is 0.5 between S0 and S1: an edge is 1"),
        ("returns", (9, 1), np.inf, "returns is inf, first of S1 on 2020-01-14: give NaN"),
        ("active", (slice(None), 2), False, "S2 is never active in this panel: leave it out"),
    ],
)
def test_a_panel_that_no_neural_detector_takes_is_refused(field, at, value, message):
    spoilt = getattr(planted_panel().panel, field).copy()
    spoilt[at] = value
    panel = replace(planted_panel().panel, **{field: spoilt})
    with pytest.raises(ValueError, match=message):
        quick("intended", "causal").fit(panel, planted_panel().train)
    with pytest.raises(ValueError, match=message):
        fitted("intended", "causal").decision_function(panel)


def test_unknown_keys_are_refused():
    planted = planted_panel()
    with pytest.raises(ValueError, match=r"the model has no key depth; it has: .*window"):
        quick("intended", "causal", overrides={"depth": 3}).fit(planted.panel, planted.train)
    with pytest.raises(ValueError, match=r"training has no key rate; it has: epochs"):
        quick("intended", "causal", training={"rate": 3}).fit(planted.panel, planted.train)


def test_it_can_be_named_in_a_run_key():
    keys = {run_key(detectors()["intended"], "causal", seed, {}, "m", "hash", Splits()).digest for seed in (0, 0, 1)}
    assert len(keys) == 2
