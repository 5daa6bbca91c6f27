"""Alarms against events: windows, hits, leads, episodes, alarm rates (SPEC 9.2-9.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

SESSIONS_PER_YEAR = 252
LABEL = (-5, 0)  # sessions relative to t_E that a day-level label or a good alarm episode may touch
AFTERMATH = (-5, 10)  # outside this of every event an alarm is a false one
FRESH_GUARD = (-10, -6)
QUIET_GAP = 2  # quiet sessions that an alarm episode may contain in a row

# Detection windows by name: sessions relative to t_E, or calendar days where so named
WINDOWS: dict[str, tuple[int, int]] = {
    "sessions_5": (-5, -1),
    "calendar_5": (-5, -1),
    "with_event": (-5, 0),
    "lookback_10": (-10, -1),
}


@dataclass(frozen=True)
class Detection:
    """What became of each event, arrays [E].

    judged : some session of its window has a verdict; without one there is neither a hit nor a miss.
    hit : an alarm in the window (False where not judged).
    first : position of the first alarm in the window, -1 without a hit.
    lead : sessions from that alarm to t_E, 5..1 in the five-session window; NaN without a hit.
    """

    judged: np.ndarray
    hit: np.ndarray
    first: np.ndarray
    lead: np.ndarray


def relative_window(positions: np.ndarray, n_sessions: int, first: int, last: int) -> np.ndarray:
    """Sessions from `first` to `last` (inclusive) relative to each position, cut at the ends; bool [E, S]."""
    offset = np.arange(n_sessions)[None] - np.asarray(positions, dtype=int)[:, None]
    return (offset >= first) & (offset <= last)


def detection_windows(sessions: pd.DatetimeIndex, positions: np.ndarray, kind: str = "sessions_5") -> np.ndarray:
    """Sessions in which an alarm counts as a hit; bool [E, S] (SPEC 9.2, AUDIT A15, A16).

    positions int [E] are those of t_E in `sessions`. `sessions_5` is t_E-5..t_E-1; `calendar_5` the sessions in the
    five calendar days before t_E (three of them for a Monday event); `with_event` adds t_E itself, lead 0;
    `lookback_10` is t_E-10..t_E-1. Raises ValueError for another kind.
    """
    if kind not in WINDOWS:
        raise ValueError(f"window {kind!r} is unknown; use one of {', '.join(WINDOWS)}")
    first, last = WINDOWS[kind]
    if kind == "calendar_5":
        days, dates, day = sessions.to_numpy(), sessions.to_numpy()[positions][:, None], np.timedelta64(1, "D")
        return (days >= dates + first * day) & (days <= dates + last * day)
    return relative_window(positions, len(sessions), first, last)


def detect(
    alarms: np.ndarray,
    judged: np.ndarray,
    positions: np.ndarray,
    windows: np.ndarray,
    guards: np.ndarray | None = None,
) -> Detection:
    """Hits and leads of the events at `positions` int [E].

    alarms, judged : bool [S], or alarms [E, S] where each event has its own; a session without a verdict has no alarm.
    windows : bool [E, S]. guards : bool [E, S], sessions in which an alarm spoils the hit: with t_E-10..t_E-6 only
    fresh alarms count.
    """
    seen = windows & alarms
    judged = (windows & judged).any(axis=1)
    hit = seen.any(axis=1)
    if guards is not None:
        hit &= ~(guards & alarms).any(axis=1)
    first = np.where(hit, seen.argmax(axis=1), -1)
    return Detection(judged, hit, first, np.where(hit, positions - first, np.nan))


def day_labels(positions: np.ndarray, n_sessions: int) -> np.ndarray:
    """True on the sessions in [t_E-5, t_E] of any event; bool [S] (SPEC 9.0)."""
    return relative_window(positions, n_sessions, *LABEL).any(axis=0)


def false_alarm_rate(alarms: np.ndarray, sessions: np.ndarray, positions: np.ndarray) -> float | None:
    """Share of the marked sessions outside [t_E-5, t_E+10] of every event that alarm (SPEC 9.4 ii).

    alarms, sessions: bool [S]. None when no marked session is outside.
    """
    quiet = sessions & ~relative_window(positions, len(alarms), *AFTERMATH).any(axis=0)
    return float(alarms[quiet].mean()) if quiet.any() else None


def alarm_episodes(alarms: np.ndarray) -> np.ndarray:
    """First and last position of each episode; int [K, 2]. Two quiet sessions do not end one, three do (9.4 iii)."""
    days = np.flatnonzero(alarms)
    if not len(days):
        return np.empty((0, 2), dtype=int)
    breaks = np.flatnonzero(np.diff(days) > QUIET_GAP + 1)
    return np.column_stack([days[np.r_[0, breaks + 1]], days[np.r_[breaks, len(days) - 1]]])


def episode_precision(alarms: np.ndarray, positions: np.ndarray) -> float | None:
    """Share of the episodes with an alarm session in [t_E-5, t_E] of any event; None without an episode or event."""
    episodes = alarm_episodes(alarms)
    if not len(episodes) or not len(positions):
        return None
    good = alarms & day_labels(positions, len(alarms))
    return float(np.mean([good[first : last + 1].any() for first, last in episodes]))


def hit_range(hits: np.ndarray, judged: np.ndarray, groups: np.ndarray, n_events: int) -> tuple[int, int]:
    """Fewest and most hits over the dates that each event may have (SPEC 9.4 vii).

    hits, judged: bool [D] for every candidate date, groups: int [D] its event. Events are separable: the extremes are
    the sums of each event's own. Dates that are not judged have no say.
    """
    never = np.ones(n_events, dtype=bool)
    ever = np.zeros(n_events, dtype=bool)
    np.logical_and.at(never, groups[judged], hits[judged])
    np.logical_or.at(ever, groups[judged], hits[judged])
    return int((never & ever).sum()), int(ever.sum())
