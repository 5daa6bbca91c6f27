"""What the evaluation is given, checked at the door: daily scores on sessions, and events placed on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from anomaly_routing.panel import Splits


@dataclass(frozen=True)
class ScoredDays:
    """Daily scores of one method: S sessions, C channels.

    score : float64 [S, C]. scored : bool [S], every channel has a value. split : str [S], the calendar's split of each
    session: train (all before the validation split), val, test, outside.
    """

    sessions: pd.DatetimeIndex
    channels: tuple[str, ...]
    score: np.ndarray
    scored: np.ndarray
    split: np.ndarray

    @cached_property
    def val(self) -> np.ndarray:
        """Scored validation sessions; bool [S]."""
        return self.scored & (self.split == "val")

    @cached_property
    def test(self) -> np.ndarray:
        """Scored test sessions; bool [S]."""
        return self.scored & (self.split == "test")

    @cached_property
    def evaluated(self) -> np.ndarray:
        """Scored validation and test sessions; bool [S]."""
        return self.val | self.test


@dataclass(frozen=True)
class PlacedEvents:
    """The events of the validation and test splits, as positions among the sessions; arrays [E].

    collapsed : bool, another event's window stands for this one. candidate_positions, candidate_groups : int [D], every
    date that an event may have (the primary one first) and the row of its event. left_out : ids in the training split.
    """

    ids: tuple[str, ...]
    positions: np.ndarray
    split: np.ndarray
    exogenous: np.ndarray
    collapsed: np.ndarray
    candidate_positions: np.ndarray
    candidate_groups: np.ndarray
    left_out: tuple[str, ...] = ()

    def subset(self, mask: np.ndarray) -> PlacedEvents:
        """The events marked in bool [E]."""
        rows = np.flatnonzero(mask)
        own = np.isin(self.candidate_groups, rows)
        return PlacedEvents(
            tuple(self.ids[row] for row in rows),
            self.positions[rows],
            self.split[rows],
            self.exogenous[rows],
            self.collapsed[rows],
            self.candidate_positions[own],
            np.searchsorted(rows, self.candidate_groups[own]),
        )


def scored_days(scores: pd.Series | pd.DataFrame, splits: Splits) -> ScoredDays:
    """Check a Series (channel I) or a DataFrame (one column a channel) of daily scores; see `evaluate_daily`."""
    if isinstance(scores, pd.Series):
        scores = scores.to_frame("I")
    if not isinstance(scores, pd.DataFrame) or scores.shape[1] == 0:
        raise ValueError("scores must be a pandas Series, or a DataFrame with one column a channel")
    sessions = scores.index
    if not isinstance(sessions, pd.DatetimeIndex) or sessions.tz is not None:
        raise ValueError("the index of the scores must be a DatetimeIndex of sessions without a time zone")
    if sessions.has_duplicates:
        raise ValueError(f"the session {sessions[sessions.duplicated()][0]:%Y-%m-%d} occurs twice in the scores")
    if not sessions.is_monotonic_increasing:
        raise ValueError("the sessions of the scores are not in time order; sort the index")
    for channel, kind in scores.dtypes.items():
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
            raise ValueError(f"channel {channel!r} holds {kind} values; scores must be real numbers")
    values = scores.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any():
        raise ValueError(f"infinite score on {sessions[np.isinf(values).any(axis=1)][0]:%Y-%m-%d}")
    scored = ~np.isnan(values).any(axis=1)
    if not scored.any():
        raise ValueError("no session is scored: every score is missing in some channel")
    split = np.select(
        [splits.val(sessions), splits.test(sessions), sessions <= pd.Timestamp(splits.train_end)],
        ["val", "test", "train"],
        "outside",
    )
    days = ScoredDays(sessions, tuple(map(str, scores.columns)), values, scored, split)
    for name, mask in (("validation", days.val), ("test", days.test)):
        if not mask.any():
            raise ValueError(f"the {name} split has no scored session; check the dates of the scores against {splits}")
    return days


def place_events(events: pd.DataFrame, days: ScoredDays, splits: Splits) -> PlacedEvents:
    """Find the events' dates among the scored sessions; see `evaluate_daily` for what is refused."""
    if missing := {"id", "date"} - set(events.columns):
        raise ValueError(f"the event table has no column {', '.join(sorted(missing))}")
    if events["id"].astype(str).duplicated().any():
        raise ValueError("the event table has an id twice")
    dates = pd.to_datetime(events["date"])
    early = (dates < days.sessions[days.scored][0]) & (dates <= pd.Timestamp(splits.train_end))
    before = [str(event) for event in events["id"][early]]  # of the training split, before the scores begin
    events = events[~early]
    n, ids = len(events), np.array([str(event) for event in events["id"]], dtype=object)
    alternatives = list(events["alternatives"]) if "alternatives" in events else [[]] * n
    exogenous = events["exogenous"].eq(True).to_numpy() if "exogenous" in events else np.zeros(n, dtype=bool)
    positions = np.array([_position(days, *pair) for pair in zip(ids, events["date"], strict=True)], dtype=int)
    split = days.split[positions]
    kept = np.flatnonzero(split != "train")
    candidates = [(positions[row], event) for event, row in enumerate(kept)]
    for event, row in enumerate(kept):
        dates = alternatives[row] if pd.api.types.is_list_like(alternatives[row]) else []
        candidates += [(_position(days, ids[row], date), event) for date in dates if _within(days, date)]
    places = np.array(candidates, dtype=int).reshape(-1, 2)
    partners = events["collapse_with"].isin(ids[kept]).to_numpy() if "collapse_with" in events else np.zeros(n, bool)
    return PlacedEvents(
        tuple(ids[kept]),
        positions[kept],
        split[kept],
        exogenous[kept],
        partners[kept],
        places[:, 0],
        places[:, 1],
        (*before, *ids[split == "train"]),
    )


def _within(days: ScoredDays, date: object) -> bool:
    """Whether an alternative date can be judged at all; those before the first or after the last score are skipped."""
    scored = days.sessions[days.scored]
    return bool(scored[0] <= pd.Timestamp(date) <= scored[-1])


def _position(days: ScoredDays, event: str, date: object) -> int:
    """Where a date of an event lies among the sessions of the scores."""
    date = pd.Timestamp(date)
    scored = days.sessions[days.scored]
    if not scored[0] <= date <= scored[-1] or (days.split[days.sessions <= date][-1] == "outside"):
        span = f"{scored[0]:%Y-%m-%d} to {scored[-1]:%Y-%m-%d}"
        raise ValueError(f"event {event} on {date:%Y-%m-%d} is outside the scored and split sessions, {span}")
    if date not in days.sessions:
        raise ValueError(f"event {event}: {date:%Y-%m-%d} is not a session of the scores")
    return int(days.sessions.get_loc(date))
