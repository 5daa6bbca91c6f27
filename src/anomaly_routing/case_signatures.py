"""Figure 1 from real sessions: correlations of the windows that the paper speaks of, and the four anomaly signatures.

Everything here is market data, the same for every seed and preset. Single stocks appear in means over many only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.case_market import CaseMarket
from anomaly_routing.features.store import load_features
from anomaly_routing.panel import FEATURE_WINDOW
from anomaly_routing.tensors import Tensors

SIGNATURES = ("price_shock", "liquidity", "contagion", "momentum")
STRONG = 0.7  # a correlation that counts as an edge of the market's network
LAGS = np.arange(-15, 11)
WIDE = 3  # scaled spread above which a stock-session is illiquid
BASE_FROM = 60  # sessions until every feature has its past
APART = 20  # sessions between two chosen days of one stock


def correlation_matrix(returns: np.ndarray, end: int, window: int = FEATURE_WINDOW) -> np.ndarray:
    """Pearson correlations [N, N] of the returns [S, N] of the `window` sessions up to `end`; NaN with a gap."""
    own = returns[end - window + 1 : end + 1].astype(np.float64)
    centred = own - own.mean(0)
    size = np.sqrt((centred**2).sum(0))
    size = np.where(size > 0, size, np.nan)
    return (centred / size).T @ (centred / size)


def mean_correlation(
    returns: np.ndarray, end: int, rows: np.ndarray | None = None, columns: np.ndarray | None = None
) -> float:
    """Mean correlation over pairs of different stocks, or over the block `rows` x `columns` (bool [N]) (AUDIT A37)."""
    matrix = correlation_matrix(returns, end)
    np.fill_diagonal(matrix, np.nan)
    block = matrix if rows is None else matrix[rows][:, columns]
    return float(np.nanmean(block)) if np.isfinite(block).any() else np.nan


def edge_density(returns: np.ndarray, end: int, cut: float = STRONG) -> float:
    """Share of the pairs with a correlation above `cut`."""
    matrix = correlation_matrix(returns, end)
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    pairs = pairs[np.isfinite(pairs)]
    return float((pairs > cut).mean()) if len(pairs) else np.nan


def window_correlations(market: CaseMarket, windows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean 20-session correlation over the sessions of each window.

    windows : dicts with `claim` (may be empty), `what`, `first`, `last`, and `rows`, `columns`, tickers of a block
    (left out: all pairs). `take` is `mean`, `median` or `max` over the window's sessions.
    """
    tensors, rows = market.tensors, []
    names = np.array(tensors.tickers, dtype=object)
    for window in windows:
        inside = (tensors.sessions >= pd.Timestamp(window["first"])) & (
            tensors.sessions <= pd.Timestamp(window["last"])
        )
        at = np.flatnonzero(inside & (np.arange(len(inside)) >= FEATURE_WINDOW))
        block = [np.isin(names, window[side]) if window.get(side) else None for side in ("rows", "columns")]
        values = np.array([mean_correlation(tensors.returns, t, *block) for t in at])
        taken = {"mean": np.nanmean, "median": np.nanmedian, "max": np.nanmax}[window.get("take", "mean")]
        rows.append({"claim": window.get("claim", ""), "what": window["what"], "first": tensors.sessions[at[0]],
                     "last": tensors.sessions[at[-1]], "sessions": len(at), "over sessions": window.get("take", "mean"),
                     "correlation": float(taken(values))})  # fmt: skip
    return pd.DataFrame(rows)


def ties_by_chance(market: CaseMarket, window: dict[str, Any], draws: int = 500, seed: int = 0) -> np.ndarray:
    """The statistic of a window with `take: max`, for as many other stocks as its `columns`, drawn at random: [draws].

    The largest over the window's sessions of the mean correlation of the row stocks with the drawn ones.
    """
    tensors, names = market.tensors, np.array(market.tensors.tickers, dtype=object)
    rows, own = np.isin(names, window["rows"]), np.isin(names, window["columns"])
    first, last = pd.Timestamp(window["first"]), pd.Timestamp(window["last"])
    at = np.flatnonzero((tensors.sessions >= first) & (tensors.sessions <= last))
    ties = np.array([correlation_matrix(tensors.returns, t)[rows].mean(0) for t in at])  # [T, N], NaN with a gap
    others = np.flatnonzero(~rows & ~own & np.isfinite(ties).all(0))
    random = np.random.default_rng(seed)
    chosen = np.array([random.choice(others, own.sum(), replace=False) for _ in range(draws)])
    return ties[:, chosen].mean(2).max(0)


def liquidity_of_banks(tensors: Tensors, crisis: tuple[str, str], baseline: pd.DatetimeIndex) -> pd.DataFrame:
    """Each liquidity feature of the banks: mean over the crisis, over the baseline, and the cut above which it is
    remarkable, the 95% quantile of its daily means on the training sessions (F3.not_liquidity)."""
    columns = [j for j, group in enumerate(tensors.group) if group == "liquidity"]
    bank = tensors.is_bank.astype(bool)
    x = np.where(tensors.active[..., None], tensors.x, np.nan)[BASE_FROM:, bank][..., columns]
    names = [tensors.features[j] for j in columns]
    daily = pd.DataFrame(np.nanmean(x, axis=1), tensors.sessions[BASE_FROM:], names)
    table = pd.DataFrame({"ours": daily.loc[slice(*crisis)].mean(), "baseline": daily.loc[baseline].mean(),
                          "cut": daily[tensors.train[BASE_FROM:]].quantile(0.95)})  # fmt: skip
    return table.assign(remarkable=table["ours"] > table["cut"]).rename_axis("feature").reset_index()


def signatures(market: CaseMarket, count: int = 50) -> tuple[pd.DataFrame, bool]:
    """Mean paths around the most extreme stock-sessions of the test years: the panels of Figure 1b.

    A stock-session is chosen by the signature itself (largest absolute return in sigmas; largest rise of the estimated
    spread, largest fall of RSI, both over 20 sessions), at most one in 20 sessions a stock; so the height of its own
    line at lag 0 is no finding, what the other line does is. Contagion is of the market: its 5 largest rises.

    Returns a long table (signature, lag, series, value), and whether prices move no more than elsewhere where spreads
    are extreme.
    """
    stored = load_features(market.paths.interim / "features.npz").features
    tensors = market.tensors
    raw = {n: stored.sel(feature=n).to_numpy() for n in ("ext_z", "spread", "rsi")}
    size, rsi = np.abs(raw["ext_z"]), 50 + 50 * raw["rsi"]
    usable = tensors.active & tensors.test[:, None]
    level = np.repeat(tensors.stress[:, 2:3], len(tensors.tickers), 1)
    change = {"liquidity": raw["spread"] - _lagged(raw["spread"]), "momentum": _lagged(rsi) - rsi,
              "contagion": (level - _lagged(level))}  # fmt: skip
    chosen = {
        "price_shock": _extreme(np.where(usable, size, np.nan), count),
        "liquidity": _extreme(np.where(usable, change["liquidity"], np.nan), count),
        "contagion": _extreme(np.where(usable, change["contagion"], np.nan)[:, :1], 5),
        "momentum": _extreme(np.where(usable, change["momentum"], np.nan), count),
    }
    drawn = {"price_shock": {"sigmas": size, "spread, bps": raw["spread"]},
             "liquidity": {"spread, bps": raw["spread"], "sigmas": size},
             "contagion": {"mean correlation": level, "spread, bps": _of_market(raw["spread"], tensors.active)},
             "momentum": {"RSI": rsi, "spread, bps": raw["spread"]}}  # fmt: skip
    rows = [
        {"signature": name, "lag": int(lag), "series": series, "value": _mean_at(values, chosen[name], lag),
         "n": len(chosen[name])}
        for name, own in drawn.items() for series, values in own.items() for lag in LAGS
    ]  # fmt: skip
    wide = usable & (tensors.x[:, :, tensors.features.index("spread")] > WIDE)
    size_of_move = np.abs(tensors.returns)
    stable = wide.any() and np.nanmean(size_of_move[wide]) <= np.nanmean(size_of_move[usable & ~wide])
    return pd.DataFrame(rows), bool(stable)


def group_percentiles(tensors: Tensors, focus: np.ndarray, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """Where the focus group's features stand: session x category, share of the training sessions that are quieter.

    The value of a session is the mean absolute scaled feature of the category over the group's active stocks, the
    category signal of equation 10 averaged; a stock-blind, seedless reading of which mechanism the data show.
    """
    active, table = tensors.active[:, focus], {}
    for name in dict.fromkeys(tensors.group):
        columns = [j for j, group in enumerate(tensors.group) if group == name]
        size = np.abs(tensors.x[:, focus][:, :, columns]).mean(2)
        daily = np.where(active, size, 0).sum(1) / np.maximum(active.sum(1), 1)
        usual = np.sort(daily[tensors.train])
        table[name] = np.searchsorted(usual, daily[tensors.sessions.get_indexer(sessions)]) / len(usual)
    return pd.DataFrame(table, index=sessions).rename_axis("session")


def _lagged(values: np.ndarray) -> np.ndarray:
    out = np.full(values.shape, np.nan)
    out[FEATURE_WINDOW:] = values[:-FEATURE_WINDOW]
    return out


def _of_market(values: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The mean over active stocks, repeated for every stock."""
    shown = np.where(active, values, np.nan)
    known = np.isfinite(shown)
    mean = np.where(known, shown, 0).sum(1) / np.maximum(known.sum(1), 1)
    return np.repeat(mean[:, None], values.shape[1], 1)


def _extreme(values: np.ndarray, count: int) -> np.ndarray:
    """(session, stock) of the largest values, at most one in `APART` sessions a stock; int [<= count, 2]."""
    order = np.argsort(np.where(np.isfinite(values), values, -np.inf), axis=None)[::-1]
    taken: list[tuple[int, int]] = []
    for flat in order:
        t, i = np.unravel_index(flat, values.shape)
        if len(taken) == count or not np.isfinite(values[t, i]):
            break
        if all(i != j or abs(t - s) >= APART for s, j in taken):
            taken.append((int(t), int(i)))
    return np.array(taken, dtype=int).reshape(-1, 2)


def _mean_at(values: np.ndarray, chosen: np.ndarray, lag: int) -> float:
    """Mean over the chosen (session, stock) of the values `lag` sessions away."""
    rows = chosen[:, 0] + int(lag)
    inside = (rows >= 0) & (rows < len(values))
    found = values[rows[inside], chosen[inside, 1]]
    return float(np.nanmean(found)) if np.isfinite(found).any() else np.nan
