"""One method's daily scores against the events, under the two protocols of SPEC 9.0.

`paper`   cuts are the 95th percentiles of 2022, the validation year, in which four of the 13 events lie.
`matched` every session gets cuts from the 250 scored sessions before it, with one allowance of alarms for every method.

Which stop rule the scores were trained under is the caller's affair: this module sees scores, never a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.evaluation.detection import (
    AFTERMATH,
    FRESH_GUARD,
    SESSIONS_PER_YEAR,
    WINDOWS,
    Detection,
    alarm_episodes,
    day_labels,
    detect,
    detection_windows,
    episode_precision,
    false_alarm_rate,
    hit_range,
    relative_window,
)
from anomaly_routing.evaluation.inputs import PlacedEvents, ScoredDays, place_events, scored_days
from anomaly_routing.evaluation.placebo import circular_shift
from anomaly_routing.evaluation.statistics import clopper_pearson, noise_to_signal, ranking_scores
from anomaly_routing.evaluation.thresholds import (
    BUDGETS,
    TrailingWindows,
    alert_levels,
    equal_counts,
    joint_rank,
    matched_budget,
    or_budget_cuts,
    quantile_cuts,
)
from anomaly_routing.panel import FEATURE_WINDOW, Splits

HEADLINE_BUDGET = "05"
EQUAL_SHARE = 0.05  # the non-causal companion marks 25 of the paper's 502 test sessions


def evaluate_daily(
    scores: pd.Series | pd.DataFrame,
    events: pd.DataFrame,
    *,
    splits: Splits | None = None,
    cuts: Mapping[str, float] | None = None,
) -> dict[str, dict[str, Any]]:
    """Score one method under both protocols (SPEC 9.0-9.4, 9.6).

    Parameters
    ----------
    scores : a Series (channel `I`) or a DataFrame with one column a channel (`I`, `M`), one row a session, higher is
        more anomalous. A session with a NaN in some channel is not scored: it never alarms and enters no rate, quantile
        or rotation. Scores before the validation split are used only as past by the matched budget.
    events : at least `id` and `date`; `alternatives`, `exogenous` and `collapse_with` if there are any (`load_events`).
        Events of the training split are left out and listed.
    splits : default the paper's.
    cuts : fixed cuts for the paper's protocol, by channel, instead of the validation percentiles.

    Returns
    -------
    {"paper": {...}, "matched": {...}} of plain Python values, ready for JSON; what cannot be defined is None. Shares
    are in [0, 1], leads in sessions, `hits_low` and `hits_high` (exact 95%) and `expected_hits_by_chance` in events.
    Counts run over the judged events of both splits; the endings `_test` and `_val` mean the events, or the sessions,
    of one split. Episodes and false alarms are those of the test split; AUC, average precision, VUS-PR and the
    noise-to-signal ratio are over the sessions of both.
    `per_event` maps an id to `hit` (None when no session of its window has a verdict), `lead`, `channel`, `level`,
    `first_alarm`, `date`, `split` and `flagged` (under `matched`, validation events: their past reaches into the
    training years). `variants` holds the other windows, `fresh` alarms, the look-back, and the other thresholds of the
    protocol; `budgets` (under `matched`) the allowances of 2, 5, 10 and 20%.

    Raises ValueError for scores that are not numbers, infinite, all missing, or whose index is not a sorted, unique
    DatetimeIndex; for a validation or test split without a scored session; for an event outside the scored sessions, a
    duplicate id, or `cuts` that do not name the channels.
    """
    days = scored_days(scores, splits or Splits())
    placed = place_events(events, days, splits or Splits())
    if cuts is not None and set(cuts) != set(days.channels):
        raise ValueError(f"cuts are given for {sorted(cuts)}, the channels are {list(days.channels)}")
    shared = _threshold_free(days, placed)
    return {"paper": _paper(days, placed, cuts) | shared, "matched": _matched(days, placed) | shared}


def _paper(days: ScoredDays, events: PlacedEvents, cuts: Mapping[str, float] | None) -> dict[str, Any]:
    judged = days.evaluated
    fixed = None if cuts is None else np.array([float(cuts[channel]) for channel in days.channels])
    used = quantile_cuts(days.score, days.val) if fixed is None else fixed
    alarms = _above(days, used)
    quantile, budget_cuts = or_budget_cuts(days.score, days.val)
    result = _report(days, events, alarms, judged, flag_validation=False)
    levels = _levels(days)
    windowed = days.test.copy()
    windowed[np.flatnonzero(days.test)[: FEATURE_WINDOW - 1]] = False  # A10: a test split windowed on its own
    result["threshold"] = "validation quantile" if fixed is None else "fixed"
    result["cuts"] = dict(zip(days.channels, used.tolist(), strict=True))
    result["alert_shares"] = {"test": _shares(levels[days.test]), "test_windowed": _shares(levels[windowed])}
    result["alarm_rate_test_windowed"] = _rate(alarms.any(axis=1), windowed)
    result["variants"]["or_budget"] = {"quantile": quantile} | _counts(
        days, events, _above(days, budget_cuts).any(axis=1), judged
    )
    result["variants"]["cross_fitted"] = _cross_fitted(days, events, alarms) if fixed is None else None
    return result


def _matched(days: ScoredDays, events: PlacedEvents) -> dict[str, Any]:
    windows = TrailingWindows(days.score, days.scored, wanted=days.evaluated)
    outcomes = {name: matched_budget(windows, budget) for name, budget in BUDGETS.items()}
    headline = outcomes[HEADLINE_BUDGET]
    result = _report(days, events, headline.alarms, headline.judged, flag_validation=True)
    result["threshold"] = f"matched_{HEADLINE_BUDGET}"
    result["budgets"] = {
        name: _counts(days, events, outcome.alarms.any(axis=1), outcome.judged) for name, outcome in outcomes.items()
    }
    highest = np.zeros(len(days.sessions), dtype=bool)
    highest[days.test] = equal_counts(days.score[days.test], int(EQUAL_SHARE * days.test.sum()))
    result["variants"]["equal_counts"] = {"causal": False, "alarms": int(highest.sum())} | _counts(
        days, events.subset(events.split == "test"), highest, days.test
    )
    return result


def _report(
    days: ScoredDays, events: PlacedEvents, alarms: np.ndarray, judged: np.ndarray, *, flag_validation: bool
) -> dict[str, Any]:
    """Everything that both protocols say of a matrix of alarms [S, C]."""
    alarm, n = alarms.any(axis=1), len(days.sessions)
    found = detect(alarm, judged, events.positions, detection_windows(days.sessions, events.positions))
    counts = _counts(days, events, alarm, judged)
    low, high = clopper_pearson(counts["hits"], counts["n_events"])
    dates = events.candidate_positions
    candidates = detect(alarm, judged, dates, detection_windows(days.sessions, dates))
    fewest, most = hit_range(candidates.hit, candidates.judged, events.candidate_groups, len(events.ids))
    warning = relative_window(events.positions, n, *WINDOWS["sessions_5"]).any(axis=0)
    in_test = alarm & days.test
    return counts | {
        "per_event": _per_event(days, events, alarms, found, flag_validation),
        "events_left_out": list(events.left_out),
        "hit_rate": counts["hits"] / counts["n_events"] if counts["n_events"] else None,
        "hits_low": None if low is None else counts["n_events"] * low,
        "hits_high": None if high is None else counts["n_events"] * high,
        "hits_min": fewest,
        "hits_max": most,
        **_part(days, events.subset(~events.exogenous), alarm, judged, "without_exogenous"),
        **_part(days, events.subset(~events.collapsed), alarm, judged, "march_collapsed"),
        **_part(
            days, events.subset(~events.collapsed & (events.split == "test")), alarm, judged, "test_march_collapsed"
        ),
        "false_alarm_rate": false_alarm_rate(alarm, days.test & judged, events.positions),
        "episodes": len(alarm_episodes(in_test)),
        "episode_precision": episode_precision(in_test, events.positions),
        "noise_to_signal": noise_to_signal(alarm[judged], warning[judged]),
        "variants": _variants(days, events, alarm, judged),
    }


def _counts(days: ScoredDays, events: PlacedEvents, alarm: np.ndarray, judged: np.ndarray) -> dict[str, Any]:
    """Hits, leads, alarm rates and chance, for all events and for those of the test split."""
    everything = _outcome(days, events, alarm, judged, "sessions_5")
    result = dict(everything)
    for split in ("test", "val"):
        part = _outcome(days, events.subset(events.split == split), alarm, judged, "sessions_5")
        result |= {f"{key}_{split}": value for key, value in part.items()}
        result[f"alarm_rate_{split}"] = _rate(alarm, getattr(days, split) & judged)
    rate = result["alarm_rate_test"]
    result["alarm_days_per_year"] = None if rate is None else rate * SESSIONS_PER_YEAR
    return result


def _part(days: ScoredDays, events: PlacedEvents, alarm: np.ndarray, judged: np.ndarray, name: str) -> dict[str, Any]:
    """Hits and chance for some of the events, as `hits_<name>` and so on."""
    outcome = _outcome(days, events, alarm, judged, "sessions_5")
    return {f"{key}_{name}": outcome[key] for key in ("hits", "n_events", "chance_p", "expected_hits_by_chance")}


def _outcome(
    days: ScoredDays, events: PlacedEvents, alarm: np.ndarray, judged: np.ndarray, window: str, *, fresh: bool = False
) -> dict[str, Any]:
    windows = detection_windows(days.sessions, events.positions, window)
    guards = relative_window(events.positions, len(days.sessions), *FRESH_GUARD) if fresh else None
    found = detect(alarm, judged, events.positions, windows, guards)
    placebo = circular_shift(
        alarm,
        windows[found.judged] & judged,
        [days.val & judged, days.test & judged],
        None if guards is None else guards[found.judged] & judged,
    )
    return _lead_summary(found) | {
        "chance_p": placebo.p if placebo else None,
        "expected_hits_by_chance": placebo.expected if placebo else None,
    }


def _lead_summary(found: Detection) -> dict[str, Any]:
    leads = found.lead[found.hit]
    return {
        "hits": int(found.hit.sum()),
        "n_events": int(found.judged.sum()),
        "lead_median": float(np.median(leads)) if len(leads) else None,
        "lead_mean": float(np.mean(leads)) if len(leads) else None,
    }


def _variants(days: ScoredDays, events: PlacedEvents, alarm: np.ndarray, judged: np.ndarray) -> dict[str, Any]:
    others = {kind: _outcome(days, events, alarm, judged, kind) for kind in WINDOWS if kind != "sessions_5"}
    return others | {"fresh": _outcome(days, events, alarm, judged, "sessions_5", fresh=True)}


def _cross_fitted(days: ScoredDays, events: PlacedEvents, alarms: np.ndarray) -> dict[str, Any] | None:
    """Hits when each validation event meets cuts that its own days had no part in (SPEC 9.4 ix).

    None when the days of some event are the whole validation split.
    """
    near = relative_window(events.positions, len(days.sessions), *AFTERMATH)
    own = np.tile(alarms.any(axis=1), (len(events.ids), 1))
    for row in np.flatnonzero(events.split == "val"):
        fitting = days.val & ~near[row]
        if not fitting.any():
            return None
        own[row] = _above(days, quantile_cuts(days.score, fitting)).any(axis=1)
    windows = detection_windows(days.sessions, events.positions)
    return _lead_summary(detect(own, days.evaluated, events.positions, windows))


def _per_event(
    days: ScoredDays, events: PlacedEvents, alarms: np.ndarray, found: Detection, flag_validation: bool
) -> dict[str, dict[str, Any]]:
    levels, report = _levels(days), {}
    for row, event in enumerate(events.ids):
        hit, first = bool(found.hit[row]), found.first[row]
        channels = [name for name, on in zip(days.channels, alarms[first], strict=True) if on]
        report[event] = {
            "hit": hit if found.judged[row] else None,
            "lead": int(found.lead[row]) if hit else None,
            "channel": "+".join(channels) if hit else None,
            "level": int(levels[first]) if hit else None,
            "first_alarm": f"{days.sessions[first]:%Y-%m-%d}" if hit else None,
            "date": f"{days.sessions[events.positions[row]]:%Y-%m-%d}",
            "split": str(events.split[row]),
            "flagged": bool(flag_validation and events.split[row] == "val"),
        }
    return report


def _threshold_free(days: ScoredDays, events: PlacedEvents) -> dict[str, Any]:
    """AUC, AP and VUS-PR of the daily score; several channels are ranked together by `joint_rank`."""
    result: dict[str, Any] = {}
    for ending, sessions, chosen in (
        ("", days.evaluated, events),
        ("_test", days.test, events.subset(events.split == "test")),
    ):
        result |= {key + ending: v for key, v in ranking_scores(*ranked_days(days, chosen, sessions)).items()}
    return result


def ranked_days(days: ScoredDays, events: PlacedEvents, sessions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of some sessions: bool, before an event; and the daily score, several channels ranked together."""
    values = days.score[sessions]
    score = values[:, 0] if values.shape[1] == 1 else joint_rank(values)
    return day_labels(events.positions, len(days.sessions))[sessions], score


def _above(days: ScoredDays, cuts: np.ndarray) -> np.ndarray:
    return (days.score > cuts) & days.evaluated[:, None]


def _levels(days: ScoredDays) -> np.ndarray:
    """Alert levels of the pressure index, or of the only score there is."""
    channel = days.channels.index("M") if "M" in days.channels else 0
    return alert_levels(days.score[:, channel], days.val)


def _shares(levels: np.ndarray) -> list[float] | None:
    return (np.bincount(levels, minlength=5) / len(levels)).tolist() if len(levels) else None


def _rate(alarm: np.ndarray, sessions: np.ndarray) -> float | None:
    return float(alarm[sessions].mean()) if sessions.any() else None
