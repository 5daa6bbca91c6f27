"""What came first? Every method's first alarm before an event, each with the same allowance of alarms (SPEC 9.6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_routing.evaluation.inputs import scored_days
from anomaly_routing.evaluation.protocols import HEADLINE_BUDGET
from anomaly_routing.evaluation.thresholds import BUDGETS, TrailingWindows, matched_budget
from anomaly_routing.panel import Splits
from anomaly_routing.runs import read_run
from anomaly_routing.scoreboard import channels

LOOK_BACK = 10  # sessions before the event that are searched: twice the paper's window


def alarm_table(stored: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """Alarms under the protocol `matched` of every causal method's runs (`scoreboard.collect`).

    Index: sessions of the test split; columns (label, seed); values True, False, or missing where there is no verdict.
    """
    found = {}
    causal = stored[~stored["lookahead"]].sort_values(["label", "seed"])
    for row in tqdm(causal.itertuples(), total=len(causal), desc="alarms", unit="run"):
        days = scored_days(channels(read_run(row.path), "matched", second=row.second), splits)
        windows = TrailingWindows(days.score, days.scored, wanted=days.evaluated)
        outcome = matched_budget(windows, BUDGETS[HEADLINE_BUDGET])
        alarm = pd.Series(outcome.alarms.any(1), days.sessions, dtype=object)
        found[row.label, row.seed] = alarm.where(outcome.judged, None)[days.test]
    table = pd.DataFrame(found)
    table.columns.names = ["method", "seed"]
    return table


def first_alarms(alarms: pd.DataFrame, date: pd.Timestamp, back: int = LOOK_BACK) -> pd.DataFrame:
    """One row a method and seed: its first alarm in the `back` sessions before `date`, and what chance gives.

    first : session of that alarm; sessions_ahead : how many sessions before the event, at least 1.
    in_window : an alarm in the paper's five sessions. on_the_day : an alarm on the event's session, which warns of
    nothing. alarm_rate : share of the test sessions. by_chance : share of the rotations of the method's own alarms
    within the test split that have an alarm in the same five sessions.

    Raises ValueError when `date` is no session of the table or has fewer than `back` before it.
    """
    if date not in alarms.index:
        raise ValueError(
            f"{date:%Y-%m-%d} is no test session: {alarms.index[0]:%Y-%m-%d} to {alarms.index[-1]:%Y-%m-%d}"
        )
    at = int(alarms.index.get_loc(date))
    if at < back:
        raise ValueError(f"only {at} test sessions lie before {date:%Y-%m-%d}: ask for at most that many, not {back}")
    rows = []
    for (method, seed), column in alarms.items():
        raised = column.fillna(False).to_numpy(bool)
        early = np.flatnonzero(raised[at - back : at])
        shifted = np.array([np.roll(raised, k)[at - 5 : at].any() for k in range(1, len(raised))])
        line: dict[str, Any] = {"method": method, "seed": seed}
        line["first"] = alarms.index[at - back + early[0]] if len(early) else pd.NaT
        line["sessions_ahead"] = back - early[0] if len(early) else np.nan
        line |= {"in_window": bool(raised[at - 5 : at].any()), "on_the_day": bool(raised[at])}
        line |= {"alarm_rate": raised.mean(), "by_chance": shifted.mean() if len(shifted) else np.nan}
        rows.append(line)
    return pd.DataFrame(rows)


def alarmed_methods(alarms: pd.DataFrame) -> pd.Series:
    """Share of the methods (mean over their seeds) that alarm, by session."""
    numbers = alarms.astype(float)
    return numbers.T.groupby(level="method").mean().mean()
