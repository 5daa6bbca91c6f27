"""What came first? Every method's first alarm before an event, each with the same allowance of alarms (SPEC 9.6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_routing.evaluation.detection import LABEL
from anomaly_routing.evaluation.inputs import scored_days
from anomaly_routing.evaluation.protocols import HEADLINE_BUDGET
from anomaly_routing.evaluation.thresholds import BUDGETS, TrailingWindows, matched_budget
from anomaly_routing.panel import Splits
from anomaly_routing.runs import read_run
from anomaly_routing.scoreboard import channels

LOOK_BACK = 10  # sessions before the event that are searched: twice the paper's window
WINDOW = -LABEL[0]  # sessions before an event in which an alarm counts


def alarm_table(stored: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """Alarms under the protocol `matched` of every causal method's runs (`scoreboard.collect`).

    Index: sessions of the test split; columns (label, seed); values True, False, or missing where there is no verdict.
    """
    found = {}
    causal = stored[~stored["lookahead"]].sort_values(["label", "seed"])
    for row in tqdm(causal.itertuples(), total=len(causal), desc="alarms", unit="run"):
        days = scored_days(channels(read_run(row.path), "matched", judged_by=row.judged_by), splits)
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
    in_window : an alarm in the paper's five sessions; before_eve : in the first four of them. on_the_day : an alarm on
    the event's session, which warns of nothing. alarm_rate : share of the test sessions. by_chance : share of the
    rotations of the method's own alarms within the test split that have an alarm in the same five sessions.

    Raises ValueError when `date` is no session of the table or has fewer than `back` before it.
    """
    at = _place(alarms, date, back)
    rows = []
    for (method, seed), column in alarms.items():
        raised = column.fillna(False).to_numpy(bool)
        early = np.flatnonzero(raised[at - back : at])
        line: dict[str, Any] = {"method": method, "seed": seed}
        line["first"] = alarms.index[at - back + early[0]] if len(early) else pd.NaT
        line["sessions_ahead"] = back - early[0] if len(early) else np.nan
        inside = raised[max(at - WINDOW, 0) : at]
        line |= {"in_window": bool(inside.any()), "before_eve": bool(inside[:-1].any()), "on_the_day": bool(raised[at])}
        turned = _windows_of_rotations(raised, at)[1:]
        line |= {"alarm_rate": raised.mean(), "by_chance": turned.mean() if len(turned) else np.nan}
        rows.append(line)
    return pd.DataFrame(rows)


def window_rate(alarms: pd.DataFrame, date: pd.Timestamp) -> dict[str, float]:
    """How many methods alarm in the paper's window, and what one rotation of all alarms together gives.

    A method counts as the share of its seeds that alarm in the five sessions before `date`. found : the sum over the
    methods; expected : its mean over the rotations 1 .. n-1 of the whole table, in which all methods turn by the same
    number of sessions, so that what they have in common stays; p : (1 + rotations with at least as many) / n.
    """
    at = _place(alarms, date, 1)
    by_run = pd.DataFrame({run: _windows_of_rotations(c.fillna(False).to_numpy(bool), at) for run, c in alarms.items()})
    by_run.columns.names = ["method", "seed"]
    sums = by_run.astype(float).T.groupby(level="method").mean().sum().to_numpy()
    found, turned = sums[0], sums[1:]
    reached = int((turned >= found - 1e-9).sum())
    return {"found": float(found), "expected": float(turned.mean()), "p": (1 + reached) / len(sums)}


def _place(alarms: pd.DataFrame, date: pd.Timestamp, back: int) -> int:
    if date not in alarms.index:
        raise ValueError(
            f"{date:%Y-%m-%d} is no test session: {alarms.index[0]:%Y-%m-%d} to {alarms.index[-1]:%Y-%m-%d}"
        )
    at = int(alarms.index.get_loc(date))
    if at < back:
        raise ValueError(f"only {at} test sessions lie before {date:%Y-%m-%d}: ask for at most that many, not {back}")
    return at


def _windows_of_rotations(raised: np.ndarray, at: int) -> np.ndarray:
    """Whether the window before position `at` holds an alarm, for rotations by 0, 1 .. n-1 of the series."""
    return np.array([np.roll(raised, k)[max(at - WINDOW, 0) : at].any() for k in range(len(raised))])


def distinct_methods(alarms: pd.DataFrame) -> int:
    """Number of methods that alarm differently: those with the same alarms in the same seeds count once."""
    columns = alarms.fillna(False).astype(bool)
    return len({
        tuple(sorted((seed, own[method, seed].to_numpy().tobytes()) for _, seed in own))
        for method, own in ((m, columns[[c for c in columns if c[0] == m]]) for m in {c[0] for c in columns})
    })  # fmt: skip


def alarmed_methods(alarms: pd.DataFrame) -> pd.Series:
    """Share of the methods (mean over their seeds) that alarm, by session."""
    numbers = alarms.astype(float)
    return numbers.T.groupby(level="method").mean().mean()
