"""Hits, leads, episodes and rates on alarms that are made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.evaluation.detection import (
    AFTERMATH,
    FRESH_GUARD,
    LABEL,
    WINDOWS,
    alarm_episodes,
    day_labels,
    detect,
    detection_windows,
    episode_precision,
    false_alarm_rate,
    hit_range,
    relative_window,
)

ALL = np.ones(60, dtype=bool)


def _on(*days, n=60):
    alarms = np.zeros(n, dtype=bool)
    alarms[list(days)] = True
    return alarms


@pytest.mark.parametrize(
    "days, hit, lead",
    [
        ([25], True, 5),
        ([29], True, 1),
        ([27, 26, 29], True, 4),
        ([24], False, None),  # six sessions before: too early
        ([30], False, None),  # the event day itself is lead 0, no detection
        ([31, 24], False, None),
        ([], False, None),
    ],
)
def test_the_first_alarm_of_the_window_gives_the_lead(days, hit, lead):
    positions = np.array([30])
    found = detect(_on(*days), ALL, positions, relative_window(positions, 60, -5, -1))
    assert found.hit.tolist() == [hit]
    assert found.first.tolist() == [30 - lead if hit else -1]
    np.testing.assert_array_equal(found.lead, [lead if hit else np.nan])


def test_a_guard_asks_for_fresh_alarms():
    positions = np.array([30, 45])
    windows, guards = relative_window(positions, 60, -5, -1), relative_window(positions, 60, -10, -6)
    found = detect(_on(22, 27, 41), ALL, positions, windows, guards)
    assert found.hit.tolist() == [False, True] and found.lead[1] == 4


@pytest.mark.parametrize("earlier, fresh", [(19, True), (20, False), (24, False)])
def test_the_guard_reaches_from_ten_to_six_sessions_before(earlier, fresh):
    positions = np.array([30])
    windows, guards = relative_window(positions, 60, -5, -1), relative_window(positions, 60, *FRESH_GUARD)
    assert detect(_on(earlier, 27), ALL, positions, windows, guards).hit.tolist() == [fresh]


@pytest.mark.parametrize("lead, hit", [(5, True), (6, False), (1, True), (0, False)])
def test_an_alarm_on_the_windows_own_edge_is_a_hit_not_a_guard(lead, hit):
    positions = np.array([30])
    windows, guards = (
        relative_window(positions, 60, *WINDOWS["sessions_5"]),
        relative_window(positions, 60, *FRESH_GUARD),
    )
    assert detect(_on(30 - lead), ALL, positions, windows, guards).hit.tolist() == [hit]


@pytest.mark.parametrize(
    "edges, first, last",
    [(AFTERMATH, 25, 40), (LABEL, 25, 30), (FRESH_GUARD, 20, 24)]
    + [(WINDOWS[kind], *ends) for kind, ends in {"with_event": (25, 30), "lookback_10": (20, 29)}.items()],
)
def test_windows_around_session_30_to_the_session(edges, first, last):
    assert np.flatnonzero(relative_window(np.array([30]), 60, *edges)[0]).tolist() == list(range(first, last + 1))


def test_an_event_without_verdicts_is_neither_hit_nor_missed():
    positions = np.array([8, 12, 30])
    found = detect(_on(9, 27), np.arange(60) >= 10, positions, relative_window(positions, 60, -5, -1))
    assert found.judged.tolist() == [False, True, True]


@pytest.mark.parametrize(
    "date, five, calendar",
    [
        ("2023-05-01", 5, ["2023-04-26", "2023-04-27", "2023-04-28"]),  # a Monday: three of five days are sessions
        ("2024-07-19", 5, ["2024-07-15", "2024-07-16", "2024-07-17", "2024-07-18"]),  # a Friday: four
        ("2023-07-06", 5, ["2023-07-03", "2023-07-05"]),  # a Thursday after a holiday
    ],
)
def test_windows_by_sessions_and_by_days(nyse, date, five, calendar):
    positions = nyse.get_indexer([pd.Timestamp(date)])
    by_kind = {
        kind: nyse[detection_windows(nyse, positions, kind)[0]]
        for kind in ("sessions_5", "calendar_5", "with_event", "lookback_10")
    }
    assert by_kind["calendar_5"].strftime("%Y-%m-%d").tolist() == calendar
    assert len(by_kind["sessions_5"]) == five and by_kind["sessions_5"][-1] < pd.Timestamp(date)
    assert by_kind["with_event"].tolist() == [*by_kind["sessions_5"], pd.Timestamp(date)]
    assert len(by_kind["lookback_10"]) == 10 and set(by_kind["sessions_5"]) < set(by_kind["lookback_10"])
    with pytest.raises(ValueError, match="unknown"):
        detection_windows(nyse, positions, "days_7")


@pytest.mark.parametrize("kind", ["sessions_5", "calendar_5"])
def test_no_event_no_window(nyse, kind):
    assert detection_windows(nyse, np.zeros(0, dtype=int), kind).shape == (0, len(nyse))


def test_two_quiet_sessions_join_an_episode_and_three_part_it():
    assert alarm_episodes(_on(3, 6, 10, 11, 20)).tolist() == [[3, 6], [10, 11], [20, 20]]
    assert alarm_episodes(_on()).shape == (0, 2)
    assert alarm_episodes(_on(59)).tolist() == [[59, 59]]


def test_episode_precision_needs_an_alarm_on_a_labelled_day():
    """Event at 30: labels 25..30. The episode 23-31 spans them with alarms only at 23, 31: gaps part it into two."""
    alarms, positions = _on(3, 28, 45, 50), np.array([30])
    assert episode_precision(alarms, positions) == pytest.approx(1 / 4)
    assert episode_precision(_on(24, 27), positions) == 1.0
    assert episode_precision(_on(24, 31), positions) == 0.0
    assert episode_precision(_on(), positions) is None
    assert episode_precision(alarms, positions[:0]) is None


def test_labels_and_false_alarms_around_an_event():
    positions = np.array([30, 33])
    assert np.flatnonzero(day_labels(positions, 60)).tolist() == list(range(25, 34))
    # outside [25, 43] of 60 sessions lie 41, of which three alarm
    assert false_alarm_rate(_on(0, 24, 25, 43, 44), ALL, positions) == pytest.approx(3 / 41)
    assert false_alarm_rate(_on(0, 24), np.arange(60) == 30, positions) is None


def test_extremes_over_alternative_dates_are_sums_over_events():
    """Event 0 hit on one date of two, event 1 on both, event 2 on neither, event 3 on the only date with a verdict."""
    groups = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    hits = np.array([1, 1, 0, 1, 0, 1, 0, 0], dtype=bool)
    judged = np.array([1, 1, 1, 1, 1, 1, 1, 0], dtype=bool)
    assert hit_range(hits, judged, groups, 4) == (2, 3)
    assert hit_range(hits[:0], judged[:0], groups[:0], 0) == (0, 0)
