"""One method's alarms under many readings of the same words: where the cut comes from, the window, the event dates.

`evaluate_daily` says everything of one reading; here are the counts alone, fast enough for thousands (SPEC 9.2, 9.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.evaluation.detection import (
    FRESH_GUARD,
    WINDOWS,
    detect,
    detection_windows,
    hit_range,
    relative_window,
)
from anomaly_routing.evaluation.inputs import PlacedEvents, ScoredDays, place_events, scored_days
from anomaly_routing.evaluation.placebo import circular_shift
from anomaly_routing.evaluation.statistics import ranking_scores
from anomaly_routing.evaluation.thresholds import (
    BUDGETS,
    TrailingWindows,
    matched_budget,
    or_budget_cuts,
    quantile_cuts,
)
from anomaly_routing.panel import Splits

CUTS = ("validation", "shared budget", "matched")  # P95 of each channel; both together 5%; 12 of the last 250 sessions
OTHER_BUDGETS = {f"matched_{name}": budget for name, budget in BUDGETS.items() if name != "05"}  # 5, 25, 50 of the 250
DATES = ("primary", "least lucky", "luckiest")  # of each event's alternatives
FRESH = "fresh_5"  # five sessions, no alarm in the five before them
EVENTS = ("all", "test")  # events of both splits, or those that no threshold has seen


@dataclass(frozen=True)
class Alarms:
    """A method's alarm sessions. alarm, judged : bool [S]; a session without a verdict has no alarm."""

    days: ScoredDays
    events: PlacedEvents
    alarm: np.ndarray
    judged: np.ndarray

    @property
    def rate(self) -> float | None:
        """Share of the judged test sessions that alarm; None when there is none."""
        sessions = self.days.test & self.judged
        return float(self.alarm[sessions].mean()) if sessions.any() else None


def raise_alarms(
    scores: pd.Series | pd.DataFrame,
    events: pd.DataFrame,
    splits: Splits,
    cuts: str = "validation",
    fixed: Mapping[str, float] | None = None,
) -> Alarms:
    """Alarms of daily scores (as for `evaluate_daily`) by one of `CUTS`. fixed : the cut of a channel that has its own.

    Raises ValueError for another name, or `fixed` together with the matched budget.
    """
    days = scored_days(scores, splits)
    return alarms_of(days, place_events(events, days, splits), cuts, fixed)


def alarms_of(
    days: ScoredDays,
    placed: PlacedEvents,
    cuts: str = "validation",
    fixed: Mapping[str, float] | None = None,
    past: TrailingWindows | None = None,
) -> Alarms:
    """`raise_alarms` for scores and events that are checked already, by one of `CUTS` or `OTHER_BUDGETS`.

    past : the trailing windows of the same days, where several budgets share them.
    """
    budget = BUDGETS["05"] if cuts == "matched" else OTHER_BUDGETS.get(cuts)
    if (cuts not in CUTS and not budget) or (fixed and budget):
        raise ValueError(f"cuts {cuts!r} with fixed {fixed}; use one of {', '.join(CUTS)}, the last without fixed")
    if budget:
        found = matched_budget(past or trailing(days), budget)
        return Alarms(days, placed, found.alarms.any(axis=1), found.judged)
    if cuts == "validation":
        used = quantile_cuts(days.score, days.val)
    else:
        _, used = or_budget_cuts(days.score, days.val)
    for channel, cut in (fixed or {}).items():
        used[days.channels.index(channel)] = cut
    alarm = ((days.score > used) & days.evaluated[:, None]).any(axis=1)
    return Alarms(days, placed, alarm, days.evaluated)


def trailing(days: ScoredDays) -> TrailingWindows:
    """What the matched budget looks back on, of every validation and test session."""
    return TrailingWindows(days.score, days.scored, wanted=days.evaluated)


def count_hits(alarms: Alarms, window: str = "sessions_5", dates: str = "primary") -> dict[str, Any]:
    """`hits`, `n_events` that have a verdict, and for the primary dates `lead` (median, sessions) and `per_event`.

    window : of `detection_windows`. dates : of `DATES`; the extremes over each event's alternatives (A12).
    """
    if dates not in DATES:
        raise ValueError(f"dates {dates!r}; use one of {', '.join(DATES)}")
    days, events = alarms.days, alarms.events
    found = detect(
        alarms.alarm, alarms.judged, events.positions, detection_windows(days.sessions, events.positions, window)
    )
    n = int(found.judged.sum())
    if dates != "primary":
        places = events.candidate_positions
        other = detect(alarms.alarm, alarms.judged, places, detection_windows(days.sessions, places, window))
        own = np.isin(events.candidate_groups, np.flatnonzero(found.judged))
        fewest, most = hit_range(other.hit, other.judged & own, events.candidate_groups, len(events.ids))
        return {"hits": most if dates == "luckiest" else fewest, "n_events": n}
    leads = found.lead[found.hit]
    pairs = zip(events.ids, found.hit, found.judged, strict=True)
    return {
        "hits": int(found.hit.sum()),
        "n_events": n,
        "lead": float(np.median(leads)) if len(leads) else None,
        "per_event": {event: {"hit": bool(hit) if judged else None} for event, hit, judged in pairs},
    }


def by_chance(alarms: Alarms) -> dict[str, float | None]:
    """`chance`: hits of these alarms when they are moved in time, on average; `p`: of at least as many hits then.

    Both None without an event that has a verdict (`circular_shift`; five sessions, primary dates).
    """
    days, judged, positions = alarms.days, alarms.judged, alarms.events.positions
    windows = detection_windows(days.sessions, positions)
    known = detect(alarms.alarm, judged, positions, windows).judged
    placebo = circular_shift(alarms.alarm, windows[known] & judged, [days.val & judged, days.test & judged])
    return {"chance": placebo.expected if placebo else None, "p": placebo.p if placebo else None}


@dataclass(frozen=True)
class Windows:
    """The sessions in which an alarm counts for each date that an event may have: D dates, the primary ones first.

    inside : bool [W, D, S], of `kinds`. guards : bool [D, S], where an alarm spoils a fresh one.
    """

    kinds: tuple[str, ...]
    inside: np.ndarray
    guards: np.ndarray


def windows_of(days: ScoredDays, events: PlacedEvents) -> Windows:
    """All `WINDOWS`, and the fresh alarms of SPEC 9.2."""
    places, n = events.candidate_positions, len(days.sessions)
    inside = [detection_windows(days.sessions, places, kind) for kind in (*WINDOWS, "sessions_5")]
    return Windows((*WINDOWS, FRESH), np.stack(inside), relative_window(places, n, *FRESH_GUARD))


def count_readings(alarms: Alarms, windows: Windows) -> Iterator[dict[str, Any]]:
    """`hits` and `n_events` by window, dates and events: what `count_hits` says of each, all at once."""
    events = alarms.events
    n, groups = len(events.ids), events.candidate_groups
    seen = windows.inside[:, :, alarms.alarm].any(axis=2)
    known = windows.inside[:, :, alarms.judged].any(axis=2)
    seen[windows.kinds.index(FRESH)] &= ~windows.guards[:, alarms.alarm].any(axis=1)
    for kind, hit, judged in zip(windows.kinds, seen, known, strict=True):
        for which in EVENTS:
            counted = judged[:n] & ((events.split == "test") | (which == "all"))
            fewest, most = hit_range(hit, judged & counted[groups], groups, n)
            hits = {"primary": int((hit[:n] & counted).sum()), "least lucky": fewest, "luckiest": most}
            for dates in DATES:
                reading = {"window": kind, "dates": dates, "events": which}
                yield reading | {"hits": hits[dates], "n_events": int(counted.sum())}


def of_split(alarms: Alarms, split: str) -> Alarms:
    """The same alarms, judged on the events of one split alone."""
    return Alarms(alarms.days, alarms.events.subset(alarms.events.split == split), alarms.alarm, alarms.judged)


def smooth_companions(alarms: Alarms, index: pd.Series) -> dict[str, float | None]:
    """What moves less in jumps than a count of events (A06): shares in [0, 1].

    recall : of the judged sessions in some event's window, those that alarm. auc_val : AUROC of a daily `index` (the
    pressure index) for the window sessions of the validation events against the split's other sessions.
    """
    days, events = alarms.days, alarms.events
    inside = detection_windows(days.sessions, events.positions).any(axis=0) & alarms.judged
    own = events.subset(events.split == "val")
    labels = detection_windows(days.sessions, own.positions).any(axis=0)[days.val]
    values = index.reindex(days.sessions).to_numpy(float)[days.val]
    return {
        "recall": float(alarms.alarm[inside].mean()) if inside.any() else None,
        "auc_val": ranking_scores(labels, values)["auc"],
    }
