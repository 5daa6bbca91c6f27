"""A toy market of ten stocks with quiet anomalies: the size of an ordinary day, wrong in one way alone.

What an untrained network, a norm or a mean cannot see. Notebook 04 shows on it what each detector looks at; the tests
ask each for a floor that an untrained copy does not reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from anomaly_routing.panel import Panel, plain_panel

KINDS = ("off_factor", "out_of_time", "out_of_group")
SESSIONS, STOCKS, FEATURES, TRAIN_END, FACTORS = 420, 10, 8, 260, 3
EVERY = 10  # sessions between planted ones
GROUPS = ("price_shock", "liquidity", "contagion", "momentum")


@dataclass(frozen=True)
class Toy:
    """A panel, its training sessions bool [S], the planted stock-days bool [S, N], and the first session judged."""

    panel: Panel
    train: np.ndarray
    cells: np.ndarray
    first: int = TRAIN_END + 20

    @property
    def judged(self) -> np.ndarray:
        """bool [S, N], the stock-days from the first session that is judged on."""
        return np.ones_like(self.cells) & (np.arange(len(self.cells)) >= self.first)[:, None]


def toy_market(kind: str, seed: int = 0) -> Toy:
    """Two groups of five stocks, each linked within by the prior graph. A stock's features are three smooth factors of
    its group times loadings that all share, with a little of its own; its return is the first factor's change, noisy.

    kind : what is wrong on two stock-days of every tenth test session. `off_factor`: the features leave the common
        factors. `out_of_time`: they are those of another session of the same stock. `out_of_group`: those of the other
        group. Stock 1 lists late, stock 2 leaves early, stock 3 pauses; nobody is active in the first 20 sessions.

    Raises ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind {kind!r}; there are: {', '.join(KINDS)}")
    rng = np.random.default_rng(seed)
    group = np.arange(STOCKS) % 2
    phase, speed = rng.uniform(0, 2 * np.pi, (2, FACTORS)), rng.uniform(0.25, 0.7, (2, FACTORS))
    day = np.arange(SESSIONS)[:, None, None]
    factor = np.sin(speed * day + phase) + 0.2 * rng.normal(size=(SESSIONS, 2, FACTORS))  # [S, 2, 3]
    own = factor[:, group] + 0.1 * rng.normal(size=(SESSIONS, STOCKS, FACTORS))
    loadings = rng.normal(size=(FACTORS, FEATURES))
    x = own @ loadings + 0.05 * rng.normal(size=(SESSIONS, STOCKS, FEATURES))

    active = np.ones((SESSIONS, STOCKS), bool)
    active[:20] = active[:200, 1] = active[350:, 2] = active[310:314, 3] = False
    cells = np.zeros((SESSIONS, STOCKS), bool)
    for t in range(TRAIN_END + 20, SESSIONS, EVERY):
        cells[t, rng.choice(STOCKS, 2, replace=False)] = True
    cells &= active
    planted = x.copy()
    for t, i in np.argwhere(cells):
        if kind == "off_factor":
            noise = rng.normal(size=FEATURES)
            planted[t, i] = noise / np.linalg.norm(noise) * np.linalg.norm(x[t, i])
        elif kind == "out_of_time":
            planted[t, i] = x[_far(x[:, i], t, rng), i]
        else:
            planted[t, i] = factor[t, 1 - group[i]] @ loadings
    planted[~active] = 0

    returns = 0.02 * np.diff(own[..., 0], axis=0, prepend=own[:1, :, 0]) + 0.005 * rng.standard_t(5, active.shape)
    log_volume = 13 + 0.3 * np.abs(own[..., 1]) + 0.1 * rng.normal(size=active.shape)
    returns[~active] = log_volume[~active] = np.nan
    panel = Panel(
        sessions=pd.bdate_range("2020-01-01", periods=SESSIONS),
        tickers=[f"S{i}" for i in range(STOCKS)],
        features=[f"f{j}" for j in range(FEATURES)],
        x=np.clip(planted, -8, 8).astype(np.float32),
        active=active,
        returns=returns,
        log_volume=log_volume,
        sector=np.array(["east", "west"])[group],
        is_bank=np.zeros(STOCKS, bool),
        group=list(np.repeat(GROUPS, FEATURES // len(GROUPS))),
        prior=(group[:, None] == group).astype(np.float32) - np.eye(STOCKS, dtype=np.float32),
        stress=np.abs(planted).mean(axis=1)[:, : len(GROUPS)],
    )
    return Toy(panel, np.arange(SESSIONS) < TRAIN_END, cells)


def coupled_market(seed: int = 0, slow: int = 12, noise: float = 0.02, flipped: bool = True) -> Toy:
    """What the directions of price and volume can tell, where `toy_market` leaves both alone.

    Five stocks with waves of `slow` sessions in price and volume together, five with waves of 7 against each other,
    with noise of this SD in the price and ten times that in the volume. Late in the series three stocks of either half
    have the other half's coupling for 40 sessions, unless `flipped` is False; the windows of 20 that lie within are
    planted. Both couplings are ordinary, each with its own pace: only in the cluster of its pace is a window wrong. No
    features.
    """
    rng, sessions, stocks = np.random.default_rng(seed), 500, STOCKS
    together, day = np.arange(stocks) < 5, np.arange(sessions)
    wave = np.sin(2 * np.pi * day[:, None] / np.where(together, slow, 7) + rng.uniform(0, 6, stocks))
    sign = np.where(together, 1.0, -1.0) * np.ones((sessions, 1))
    planted = np.zeros((sessions, stocks), bool)
    for k, i in enumerate((0, 2, 4, 5, 7, 9) if flipped else ()):
        first = 320 + 20 * k
        sign[first : first + 40, i] *= -1
        planted[first + 19 : first + 40, i] = True
    price = 0.05 * wave + noise * rng.normal(size=wave.shape)
    volume = 13 + 0.4 * sign * wave + 10 * noise * rng.normal(size=wave.shape)
    panel = plain_panel(np.diff(price, axis=0, prepend=price[:1]), volume)
    return Toy(panel, (day >= 20) & (day < 300), planted, first=320)


def toy_auroc(scores: np.ndarray, toy: Toy) -> float:
    """Share of ordinary stock-days that a planted one outranks, ties by half, among those that are judged."""
    usable = np.isfinite(scores) & toy.judged
    rank, planted = rankdata(scores[usable]), toy.cells[usable]
    n = planted.sum()
    return float((rank[planted].sum() - n * (n + 1) / 2) / (n * (len(rank) - n)))


def _far(path: np.ndarray, t: int, rng: np.random.Generator) -> int:
    """A training session whose features are of the size of session t's and far from them; path [S, F]."""
    size, distance = np.linalg.norm(path, axis=1), np.linalg.norm(path - path[t], axis=1)
    alike = np.abs(size - size[t]) < 0.25 * size[t]
    alike[TRAIN_END:] = False
    candidates = np.flatnonzero(alike)
    return int(rng.choice(candidates[np.argsort(distance[candidates])[-10:]]))
