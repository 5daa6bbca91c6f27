"""The streaming rolling z-score against a batch oracle, and against streams that break running sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_panel import planted_panel, quick, scored

from anomaly_routing.baselines.streaming.rolling_z import RollingZScore


def oracle(values: list[float], window: int, min_periods: int, include_current: bool) -> list[float]:
    """Every score from scratch, in two passes."""
    scores = []
    for t, value in enumerate(values):
        seen = np.array(values[max(0, t - window + 1) : t + 1] if include_current else values[max(0, t - window) : t])
        ddof = 0 if include_current else 1
        if len(seen) < max(min_periods, ddof + 1):
            scores.append(np.nan)
            continue
        mean, sd = seen.mean(), seen.std(ddof=ddof)
        scores.append(abs(value - mean) / sd if sd > 1e-10 * abs(mean) else 0.0)
    return scores


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-50, 50).map(lambda k: k / 8), min_size=1, max_size=80),
    st.integers(2, 30),
    st.integers(1, 12),
    st.booleans(),
)
def test_stream_equals_batch(values, window, min_periods, include_current):
    stream = RollingZScore(window=window, min_periods=min_periods, include_current=include_current)
    scores = [stream.update(value) for value in values]
    np.testing.assert_allclose(scores, oracle(values, window, min_periods, include_current), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("include_current", [False, True])
def test_a_huge_value_leaves_nothing_behind(include_current):
    rng = np.random.default_rng(0)
    values = [*rng.normal(size=150), 1e14, *rng.normal(size=400)]
    stream = RollingZScore(include_current=include_current)
    scores = [stream.update(value) for value in values]
    np.testing.assert_allclose(scores[300:], oracle(values, 100, 20, include_current)[300:], rtol=1e-9)


def test_a_large_level_with_a_small_spread():
    values = list(1e8 + np.random.default_rng(1).normal(size=500))
    stream = RollingZScore(window=50)
    np.testing.assert_allclose([stream.update(v) for v in values], oracle(values, 50, 20, False), rtol=1e-5)


def test_missing_and_constant_values():
    stream = RollingZScore(window=10, min_periods=3)
    assert all(np.isnan(stream.update(v)) for v in (1.0, np.nan, 1.0, np.nan, 1.0))
    assert np.isnan(stream.update(np.nan))
    assert stream.update(1.0) == 0.0
    assert stream.update(2.0) == 0.0  # a window without spread is no yardstick
    assert stream.update(2.0) > 0.0


@pytest.mark.parametrize("mode", ["chapter", "causal"])
def test_the_panel_detector_equals_the_stream(mode):
    panel = planted_panel().panel
    for stock in (0, 1, 2, 3):
        stream = quick("rolling_z", mode).stream()
        returns = np.where(panel.active[:, stock], panel.returns[:, stock], np.nan)
        expected = [stream.update(value) for value in returns]
        np.testing.assert_allclose(scored("rolling_z", mode)[:, stock], expected, rtol=1e-5, atol=1e-6)
