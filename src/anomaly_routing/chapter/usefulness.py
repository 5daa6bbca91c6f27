"""What a flag is good for (58.8): the move after it, and known faults of the source."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anomaly_routing.panel import Panel

AHEAD = 5  # sessions
TURNS = 200
FAULTS_BEFORE = 2018  # year; later the source has its opens (data/nepse/PROVENANCE.md)


def moves_ahead(returns: np.ndarray, sessions: int = AHEAD) -> np.ndarray:
    """Mean |return| of the next sessions, [S, N]; NaN where there is none."""
    ahead = np.full((sessions, *returns.shape), np.nan)
    for k in range(1, sessions + 1):
        ahead[k - 1, :-k] = np.abs(returns[k:])
    known = np.isfinite(ahead)
    total, count = np.where(known, ahead, 0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, count, out=np.full(returns.shape, np.nan), where=count > 0)


def after_flags(panel: Panel, late: np.ndarray, flags: dict[str, np.ndarray], seed: int = 0) -> pd.DataFrame:
    """Do the next five days move more after a flag than after any day? And after the same flags moved in time?

    flags : method -> bool [S, N]; late : bool [S], the sessions that count. A row a method: number of flags, both
    ratios (the second a median over 200 shifts within the late days), and p, the share of shifts with a ratio as large.
    """
    after = moves_ahead(panel.returns)
    usable = panel.active & late[:, None] & np.isfinite(after)
    usual, rows, rng = after[usable].mean(), [], np.random.default_rng(seed)
    for method, all_flags in flags.items():
        flag = all_flags & usable
        ratio = after[flag].mean() / usual
        shifts = rng.integers(20, late.sum() - 20, TURNS)
        turned = [np.roll(flag[late], int(k), axis=0) & usable[late] for k in shifts]
        moved = np.array([after[late][t].mean() / usual for t in turned])
        rows.append({
            "method": method,
            "flagged": int(flag.sum()),
            "|return| of the next five, against any day": ratio,
            "the same, flags moved in time": np.median(moved),
            "p": (1 + np.sum(moved >= ratio)) / (1 + TURNS),
        })  # fmt: skip
    return pd.DataFrame(rows)


def known_faults(
    rows: pd.DataFrame, panel: Panel, flags: np.ndarray, before: int = FAULTS_BEFORE
) -> tuple[float, float]:
    """Share of the stock-days before a year that the source marks as inconsistent, and that of the flagged ones.

    rows : of `case.load_case`, with its column ohlc_ok. flags : bool [S, N].
    """
    wide = rows.pivot_table(index="date", columns="ticker", values="ohlc_ok")
    marked = (wide.reindex(panel.sessions)[panel.tickers] == 0).to_numpy()
    early = panel.active & (np.asarray(panel.sessions.year) < before)[:, None]
    return float(marked[early].mean()), float(marked[flags & early].mean())
