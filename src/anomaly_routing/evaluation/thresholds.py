"""Where an alarm begins: the paper's validation cut, the causal matched budget, and the companions of both.

Every comparison in this module is strict: a score equal to its cut is no alarm, so a constant score never alarms.
Arrays are [S, C]: S sessions in time order, C channels (I, the daily score; M, the market pressure index).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

PAPER_QUANTILE = 0.95
OR_BUDGET_SHARE = 0.05
HISTORY = 250  # sessions in the causal window of the matched budget: about a year
LEVEL_QUANTILES = (0.75, 0.85, 0.95, 0.99)  # L0 < q75 <= L1 < q85 <= L2 < q95 <= L3 < q99 <= L4


@dataclass(frozen=True)
class Budget:
    """An alarm allowance: at most `allowed` alarm sessions in the past `HISTORY`, cuts no lower than `lowest`."""

    allowed: int
    lowest: float

    @property
    def grid(self) -> np.ndarray:
        """Quantiles that may be used: `lowest`, `lowest` + 0.001, ..., 0.999."""
        return np.arange(round(self.lowest * 1000), 1000) / 1000


BUDGETS = {"02": Budget(5, 0.980), "05": Budget(12, 0.950), "10": Budget(25, 0.900), "20": Budget(50, 0.800)}


@dataclass(frozen=True)
class MatchedAlarms:
    """What the matched budget decides for each session.

    judged : bool [S], `HISTORY` earlier scored sessions exist, so there is a verdict.
    quantile : float [S], the common quantile q_t; NaN where not judged.
    cuts : float [S, C], theta_c(q_t); NaN where not judged.
    alarms : bool [S, C], the channel exceeds its cut.
    """

    judged: np.ndarray
    quantile: np.ndarray
    cuts: np.ndarray
    alarms: np.ndarray


def quantile_cuts(values: np.ndarray, sessions: np.ndarray, quantile: float = PAPER_QUANTILE) -> np.ndarray:
    """theta_S and theta_M: each channel's linear quantile over the marked sessions; [C] (SPEC 9.2).

    values float [S, C]; sessions bool [S], all of them scored: in the paper's protocol the validation year, of whose
    251 sessions 13 lie above a 95% cut. Raises ValueError when none is marked.
    """
    if not sessions.any():
        raise ValueError("no scored session to take the cut from")
    return np.quantile(values[sessions], quantile, axis=0)


def or_budget_cuts(values: np.ndarray, sessions: np.ndarray) -> tuple[float, np.ndarray]:
    """One allowance for all channels, on the validation split: the common quantile and the cuts [C] (SPEC 9.4 viii).

    sessions bool [S], scored ones. The quantile is the smallest of 0.950, 0.951, ..., 0.999 at which at most 5% of the
    sessions (12 of 251) exceed the cut of some channel; the highest of them if none is that quiet (a very short split).
    """
    chosen = values[sessions]
    allowed = int(OR_BUDGET_SHARE * len(chosen))
    grid = BUDGETS["05"].grid
    cuts = np.quantile(chosen, grid, axis=0)
    above = (chosen[None] > cuts[:, None]).any(axis=2).sum(axis=1)
    best = int(np.argmax(above <= allowed)) if (above <= allowed).any() else len(grid) - 1
    return float(grid[best]), cuts[best]


class TrailingWindows:
    """For each marked session the `HISTORY` scored sessions before it, kept sorted so that every budget reuses them.

    values : float [S, C], finite on scored sessions. scored, wanted : bool [S]; a wanted session is judged when it is
    scored and has enough scored sessions before it. The session itself is never in its own window.
    """

    def __init__(self, values: np.ndarray, scored: np.ndarray, wanted: np.ndarray, history: int = HISTORY) -> None:
        self.values, self.history = values, history
        order = np.cumsum(scored) - 1
        self.judged = wanted & scored & (order >= history)
        compact = values[scored]
        if self.judged.any():
            windows = np.lib.stride_tricks.sliding_window_view(compact, history, axis=0)
            self.past = np.ascontiguousarray(windows[order[self.judged] - history])  # [judged, C, history]
        else:
            self.past = np.empty((0, values.shape[1], history))
        self.ordered = np.sort(self.past, axis=2)

    def cuts(self, quantile: np.ndarray) -> np.ndarray:
        """Linear quantile of every window, each row its own `quantile` [judged]; [judged, C]."""
        place = quantile * (self.history - 1)
        below = np.floor(place).astype(int)
        rows = np.arange(len(quantile))
        low, high = self.ordered[rows, :, below], self.ordered[rows, :, np.minimum(below + 1, self.history - 1)]
        return low + (high - low) * (place - below)[:, None]

    def count_above(self, cuts: np.ndarray) -> np.ndarray:
        """Sessions of every window on which some channel exceeds its cut; int [judged]."""
        return (self.past > cuts[:, :, None]).any(axis=1).sum(axis=1)


def matched_budget(windows: TrailingWindows, budget: Budget) -> MatchedAlarms:
    """The causal budget of SPEC 9.6: the same allowance for every method, whether it has one channel or two.

    For session t, theta_c(q) is channel c's linear quantile over the 250 scored sessions before t. q_t is the smallest
    quantile of the budget's grid at which at most `budget.allowed` of those 250 sessions exceed theta_c(q) in some
    channel; t alarms in a channel that exceeds theta_c(q_t). Nothing at or after t moves the cuts of t.

    The count falls as q rises, so q_t is found by bisection, all sessions at once. Raises ValueError for more channels
    than the allowance, where even the highest quantile might not be quiet enough.
    """
    if windows.values.shape[1] > budget.allowed:
        raise ValueError(f"{windows.values.shape[1]} channels cannot share an allowance of {budget.allowed} sessions")
    grid = budget.grid
    low, high = np.zeros(len(windows.past), dtype=int), np.full(len(windows.past), len(grid) - 1)
    while (low < high).any():
        middle = (low + high) // 2
        quiet = windows.count_above(windows.cuts(grid[middle])) <= budget.allowed
        low, high = np.where(quiet, low, middle + 1), np.where(quiet, middle, high)
    n_sessions, n_channels = windows.values.shape
    quantile, cuts = np.full(n_sessions, np.nan), np.full((n_sessions, n_channels), np.nan)
    quantile[windows.judged], cuts[windows.judged] = grid[high], windows.cuts(grid[high])
    return MatchedAlarms(windows.judged, quantile, cuts, windows.values > cuts)


def joint_rank(values: np.ndarray) -> np.ndarray:
    """One order for several channels: the larger of the mid-ranks that a session has in each; float [S].

    values float [S, C], finite. Ties share the mean of their ranks. With one channel the order is the score's own.
    """
    return rankdata(values, method="average", axis=0).max(axis=1)


def equal_counts(values: np.ndarray, count: int) -> np.ndarray:
    """The `count` highest sessions by `joint_rank`; bool [S]. Looks at the whole span: not causal (SPEC 9.6).

    A tie across the cut alarms for none of the tied, so fewer than `count` may alarm.
    """
    if count >= len(values):
        return np.ones(len(values), dtype=bool)
    rank = joint_rank(values)
    return rank > np.sort(rank)[::-1][count]


def alert_levels(values: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """Alert level 0 to 4 of each session by the validation quantiles 75, 85, 95 and 99; int [S] (SPEC 7.5).

    values float [S], a NaN has level 0; sessions bool [S], the scored sessions that fix the cuts. A value equal to a
    cut has the level that begins there; alarms stay strict.
    """
    cuts = np.quantile(values[sessions], LEVEL_QUANTILES)
    return np.where(np.isnan(values), 0, np.searchsorted(cuts, values, side="right"))
