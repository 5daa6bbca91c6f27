"""From a score for every stock to one number a session (SPEC 9.2, AUDIT A18)."""

from __future__ import annotations

from typing import Any

import numpy as np

from anomaly_routing.panel import Panel, Splits

AGGREGATIONS = ("mean", "max", "share", "banks", "any")


def daily_statistic(
    score: np.ndarray,
    active: np.ndarray,
    agg: str = "mean",
    *,
    threshold: float | None = None,
    is_bank: np.ndarray | None = None,
) -> np.ndarray:
    """One value a session over its active stocks; float64 [S], in the score's units, larger is more anomalous.

    Parameters
    ----------
    score : float [S, N]; a NaN takes no part, whatever `active` says.
    active : bool [S, N].
    agg : `mean`; `max`; `share` of active stocks above `threshold` (0 to 1); `banks`, the mean over the active banks;
        `any`, 1 where some active stock is above `threshold` and 0 elsewhere: the literal reading of the paper's alarm,
        a null demonstration (with 100 stocks and a 5% cut nearly every session is 1). Give `any` a cut of 0 in
        `evaluate_daily`, since its validation quantile means nothing.
    threshold : theta_s for `share` and `any` (`stock_day_cut`); the comparison is strict.
    is_bank : bool [N] for `banks`.

    A session without an active stock (or bank) gives NaN. Raises ValueError for an unknown `agg`, shapes that differ,
    or a missing `threshold` or `is_bank`.
    """
    if agg not in AGGREGATIONS:
        raise ValueError(f"agg {agg!r} is unknown; use one of {', '.join(AGGREGATIONS)}")
    if agg in ("share", "any") and threshold is None:
        raise ValueError(f"agg {agg!r} needs a threshold for the single stock's score")
    if agg == "banks" and is_bank is None:
        raise ValueError("agg 'banks' needs is_bank, a mask of the tickers")
    score, counted = np.asarray(score, dtype=np.float64), _counted(score, active)
    if agg == "banks":
        counted = counted & np.asarray(is_bank, dtype=bool)
    if agg == "max":
        highest = np.where(counted, score, -np.inf).max(axis=1, initial=-np.inf)
        return np.where(counted.any(axis=1), highest, np.nan)
    values = score > threshold if agg in ("share", "any") else score
    total, n = np.where(counted, values, 0.0).sum(axis=1), counted.sum(axis=1)
    mean = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
    return np.where(np.isnan(mean), np.nan, (mean > 0).astype(float)) if agg == "any" else mean


def stock_day_cut(score: np.ndarray, active: np.ndarray, sessions: np.ndarray, quantile: float = 0.95) -> float:
    """theta_s: the linear `quantile` of the score over the active stock-days of the marked sessions (SPEC 9.2).

    score float [S, N], active bool [S, N], sessions bool [S] (the validation split). Raises ValueError when no
    stock-day is active there.
    """
    pool = np.asarray(score, dtype=np.float64)[_counted(score, active) & np.asarray(sessions, dtype=bool)[:, None]]
    if not len(pool):
        raise ValueError("no active stock-day in the sessions that fix the cut")
    return float(np.quantile(pool, quantile))


def _counted(score: np.ndarray, active: np.ndarray) -> np.ndarray:
    score, active = np.asarray(score), np.asarray(active, dtype=bool)
    if score.shape != active.shape or score.ndim != 2:
        raise ValueError(f"score {score.shape} and active {active.shape} must be one [session, ticker] shape")
    return active & ~np.isnan(score)


def flagged_shares(score: np.ndarray, panel: Panel, splits: Splits, cut: Any) -> dict[str, float] | None:
    """Share of the active, scored stock-days of each split above the detector's own cut (one, or one a stock)."""
    if cut is None:
        return None
    shares = {}
    for part in ("train", "val", "test"):
        chosen = panel.active & np.isfinite(score) & getattr(splits, part)(panel.sessions)[:, None]
        shares[part] = float((score > np.asarray(cut))[chosen].mean()) if chosen.any() else None
    return shares
