"""The chapter's three kinds of anomaly (58.1), planted where nothing else was going on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from anomaly_routing.features.rolling import rolling_sd
from anomaly_routing.panel import Panel

KINDS = ("point", "contextual", "collective")
POINT, CONTEXT = 8.0, 2.0  # standard deviations of all of the stock's returns
FLAT = 10  # sessions without a move
MARGIN = 25  # sessions between two plants of a stock


@dataclass(frozen=True)
class Planted:
    """A panel with plants. kind : int [S, N], 0 where nothing was planted, else 1 + position in KINDS.

    episodes : kind, stock (position), first, last (positions of sessions).
    """

    panel: Panel
    kind: np.ndarray
    episodes: pd.DataFrame


def plant(panel: Panel, allowed: np.ndarray, each: int, seed: int = 0) -> Planted:
    """Plant `each` anomalies of each kind on the allowed sessions, bool [S]; 25 sessions apart within a stock.

    point : a return of 8 standard deviations of the stock's own returns, up or down.
    contextual : a return of 2 standard deviations, ordinary over the years, in a month whose own standard deviation is
        in the lowest fifth of the stock's. The chapter's "2% in a typically flat period".
    collective : ten sessions without any move, at the stock's median volume: each is an ordinary day.

    Fewer are planted where there is no room left. Everything is drawn from `seed`.
    """
    rng = np.random.default_rng(seed)
    returns, log_volume = panel.returns.copy(), panel.log_volume.copy()
    before = np.vstack([np.full((1, returns.shape[1]), np.nan), rolling_sd(panel.returns)[:-1]])
    sd = np.nanstd(np.where(panel.active, panel.returns, np.nan), axis=0)
    calm = before <= np.nanquantile(before, 0.2, axis=0)
    taken = np.zeros(panel.active.shape, bool)
    kind = np.zeros(panel.active.shape, int)
    episodes = []
    for code, name in enumerate(KINDS, start=1):
        length = FLAT if name == "collective" else 1
        places = np.argwhere(panel.active & allowed[:, None] & (calm if name == "contextual" else True))
        planted = 0
        for t, i in places[rng.permutation(len(places))]:
            span = slice(max(0, t - MARGIN), t + length + MARGIN)
            whole = slice(t, t + length)
            room = t + length <= len(allowed) and panel.active[whole, i].all() and allowed[whole].all()
            if planted == each or not room or taken[span, i].any():
                continue
            if name == "collective":
                returns[whole, i], log_volume[whole, i] = 0.0, np.nanmedian(panel.log_volume[:, i])
            else:
                returns[t, i] = rng.choice([-1, 1]) * sd[i] * (POINT if name == "point" else CONTEXT)
            taken[whole, i], kind[whole, i] = True, code
            episodes.append((name, i, t, t + length - 1))
            planted += 1
    table = pd.DataFrame(episodes, columns=["kind", "stock", "first", "last"])
    return Planted(replace(panel, returns=returns, log_volume=log_volume), kind, table)


def found(planted: Planted, score: np.ndarray, cut: float, allowed: np.ndarray) -> pd.Series:
    """Share of the episodes of each kind with a stock-day above the cut; index KINDS."""
    above = np.nan_to_num(score, nan=-np.inf) > cut
    hits = [above[e.first : e.last + 1, e.stock].any() for e in planted.episodes.itertuples()]
    return pd.Series(hits, dtype=float).groupby(planted.episodes["kind"].to_numpy(object)).mean().reindex(KINDS)


def equal_cut(planted: Planted, score: np.ndarray, allowed: np.ndarray, share: float) -> float:
    """The cut that flags this share of the allowed stock-days on which nothing was planted."""
    quiet = planted.panel.active & allowed[:, None] & (planted.kind == 0) & np.isfinite(score)
    return float(np.quantile(score[quiet], 1 - share))


def by_chance(share: float) -> pd.Series:
    """Share of episodes that flags thrown at random would find: 1 - (1 - share)^length; index KINDS."""
    lengths = pd.Series({"point": 1, "contextual": 1, "collective": FLAT})
    return 1 - (1 - share) ** lengths
