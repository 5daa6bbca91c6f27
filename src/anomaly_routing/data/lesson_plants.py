"""Anomalies of random shape, for teaching alone: each lesson draws sizes, days and mixtures of its own.

Kept apart from `data.plants`: nothing here reads the shapes of a planted set, and no set reads these. The ranges are
wide on purpose, and were written after the planted sets `twin` and `fresh`, whose sizes they hold; `far` lies outside.
That a gate taught on the simulator's events alone takes the twin set's price shocks for contagion was
known when they were written.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anomaly_routing.data.bars import Bars
from anomaly_routing.data.changes import MEMORY, Change, Scene, TooStrongError, write_change
from anomaly_routing.data.draw_plants import run_length, waves

SESSIONS = (1, 5)
BEGIN, REST = 290, 22  # the first session that may be altered: turnover looks back 250; sessions between two lessons
LEAD_IN = {"momentum": (8, 28)}  # sessions of build-up
STOCKS = {"price_shock": (1, 8), "liquidity": (1, 10), "contagion": (5, 12), "momentum": (1, 10)}


def price_shock(scene: Scene, rng: np.random.Generator) -> Change:
    """A jump in up to three steps, before the open or after it, perhaps partly taken back; volume; aftershocks."""
    days, n = scene.simple.shape
    steps = int(rng.integers(1, min(days, 3) + 1))
    share = np.zeros(days)
    share[:steps] = rng.dirichlet(np.full(steps, 3.0))
    if days > steps and rng.random() < 0.3:
        share[steps] = -rng.uniform(0.1, 0.5)
    jump = rng.uniform(2.5, 10) * rng.uniform(0.7, 1.3, n) * scene.signs()
    after = rng.uniform(0, 1) * rng.standard_normal((days, n)) * (np.arange(days) >= steps)[:, None]
    volume = np.exp(rng.uniform(0, 1.6) * _decay(days, rng))
    gap = float(rng.choice([0.0, 1.0, rng.uniform()]))
    return Change(scene.simple + scene.sd * (share[:, None] * jump + after), gap=gap, volume=volume)


def liquidity(scene: Scene, rng: np.random.Generator) -> Change:
    """The range widens and trading dries up, at once, slowly or for a while; closes stay or jump to and fro."""
    days = len(scene.simple)
    ramp, hump = np.linspace(1 / days, 1, days), np.sin(np.linspace(0.25, 0.75, days) * np.pi)
    depth = [np.ones(days), ramp, hump][rng.integers(3)][:, None] * np.ones_like(scene.simple)
    bounce = rng.choice([0.0, rng.uniform(0, 0.8)]) * rng.standard_normal(scene.simple.shape)
    simple = scene.simple + scene.sd * np.diff(bounce, axis=0, prepend=0)
    return Change(simple, volume=np.exp(-rng.uniform(0.5, 2.4) * depth), widen=rng.uniform(0.5, 4) * depth)


def contagion(scene: Scene, rng: np.random.Generator) -> Change:
    """Stocks reached one after the other fall together, at an even pace or less and less; some volume."""
    days = len(scene.simple)
    fall = rng.uniform(0.8, 3.5) * _decay(days, rng) + rng.uniform(0, 1.5) * rng.standard_normal((days, 1))
    mix = rng.uniform(0.4, 1)
    mixed = (1 - mix) * scene.simple - mix * scene.sd * fall
    volume = np.where(scene.hit, np.exp(rng.uniform(0, 0.7)), 1.0)
    return Change(np.where(scene.hit, mixed, scene.simple), volume=volume)


def momentum(scene: Scene, rng: np.random.Generator) -> Change:
    """A trend, even or gathering pace, of each stock or of all alike, and a turn that may fade."""
    lead = len(scene.simple) - scene.graded
    pace = np.linspace(0.05, 1, lead) ** rng.choice([0.0, rng.uniform(0, 1.5)])
    turn = rng.uniform(0.8, 3.5) * rng.uniform(0.5, 1) ** np.arange(scene.graded)
    drift = np.concatenate([rng.uniform(0.6, 2.2) * pace / pace.mean(), -turn])[:, None]
    signs = scene.signs() if rng.random() < 0.5 else scene.signs()[:1]
    return Change(scene.simple + scene.sd * signs * drift, volume=np.exp(rng.uniform(-0.1, 0.4)))


SHAPES: dict[str, Callable[[Scene, np.random.Generator], Change]] = {
    "price_shock": price_shock,
    "liquidity": liquidity,
    "contagion": contagion,
    "momentum": momentum,
}


def _decay(days: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.3, 1) ** np.arange(days)[:, None]


def write_lessons(bars: Bars, active: np.ndarray, prior: np.ndarray, seed: int) -> tuple[Bars, np.ndarray]:
    """The bars with a lesson every month or so, and the truth, int [S, N]: position in `SHAPES`, -1 for no lesson.

    active : bool [S, N], stocks that can be scored. prior : [N, N], the graph along which contagion spreads.
    """
    rng, names = np.random.default_rng(seed), list(SHAPES)
    new, truth = bars.copy(), np.full(active.shape, -1)
    steady, first = run_length(bars.traded & active), BEGIN
    while True:
        name = str(rng.choice(names))
        sessions = int(rng.integers(SESSIONS[0], SESSIONS[1] + 1))
        lead = int(rng.integers(*LEAD_IN[name])) if name in LEAD_IN else 0
        end = first + lead + sessions - 1
        if end >= len(active):
            return new, truth
        able = np.flatnonzero(steady[end] > lead + sessions + MEMORY)
        wanted = min(int(rng.integers(STOCKS[name][0], STOCKS[name][1] + 1)), len(able))
        if name == "contagion":
            stocks, delay = waves(prior, able, wanted, sessions, rng)
        else:
            stocks, delay = rng.choice(able, wanted, replace=False), np.zeros(wanted, int)
        close = bars.columns["adj_close"][first - 1 - MEMORY : end + 1, stocks]
        simple = close[1:] / close[:-1] - 1
        sd = np.log1p(simple[:MEMORY]).std(0, ddof=1)
        scene = Scene(simple[MEMORY:], sd, delay, sessions, 1.0, rng)
        try:
            write_change(new, SHAPES[name](scene, rng), scene.simple, first, stocks, f"lesson of {name}")
        except TooStrongError:  # for these stocks: the next one
            continue
        truth[end - sessions + 1 : end + 1, stocks] = np.where(
            np.arange(sessions)[:, None] >= delay, names.index(name), -1
        )
        first = end + 1 + REST
