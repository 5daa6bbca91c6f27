"""Anomalies planted into prices and volumes: what each mechanism does to which stocks, session by session (SPEC 9.5).

Nothing is written into features: a plant alters daily bars, and everything downstream is computed again. To add a
mechanism, write its function and append one entry to `MECHANISMS` (at the end: the place in the table is part of the
seed), with its arguments for each set in which it is to be planted. It is then drawn, planted, seen or not seen, and
pictured. What attributes has a column for each of the paper's four mechanisms and none for it, so it has a row in the
confusion matrices (what it is taken for) and no part in the accuracy; the taught gate gets a column when the mechanism
is appended to the simulator's table too, and learns it when it has lessons (`lesson_plants.SHAPES`).

How the shapes differ from the events of the simulated market (`simulate_events`), the lessons of the first taught gate:
a freeze stretches the bars around unchanged closes where the simulator widens quotes; contagion mixes returns with one
falling factor and reaches the stocks in waves where the simulator pushes them along a decaying profile. Two shapes of
the set `main` are close to the simulator's: a price shock is one jump of six standard deviations in both, and a trend
is constant and then turns in both. `twin` has neither (two steps overnight, a trend that accelerates), so it is the
sterner test. `trial` serves the choice of a taught gate, on simulated markets alone; `fresh` was written down before
that choice and confirms it. What a gate is taught on is drawn elsewhere, in `lesson_plants`: its ranges were written
after `twin` and `fresh` and hold the sizes of both, so these sets say what a gate does within them. `far` was written
after the choice, each of its shapes outside these ranges in some size, and says what it does beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from anomaly_routing.data.bars import Bars
from anomaly_routing.data.changes import MEMORY, Change, PlantError, Scene, write_change

STRENGTHS = {"weak": 0.5, "medium": 1.0, "strong": 1.5}  # every size is multiplied by it; SPEC 9.5 is `medium`
SETS = ("main", "twin", "trial", "fresh", "far")  # of shapes; the place is part of the seed
FIRST_SETS = SETS[:2]  # the key of a stored grade of their plants holds the shapes of both
KINDS = ("mechanism", "chapter")


def price_shock(scene: Scene, sigmas: float, days: tuple[float, ...], volume: float, gap: float) -> Change:
    """Each stock jumps by `sigmas` standard deviations, up or down by chance, spread over `days`; volume rises."""
    simple, jump = scene.simple.copy(), scene.strength * sigmas * scene.sd * scene.signs()
    for day, share in enumerate(days[: scene.graded]):
        simple[day] += share * jump
    return Change(simple, gap=gap, volume=np.where(scene.hit, volume**scene.strength, 1.0))


def liquidity(scene: Scene, widen: float, volume: float, ramp: bool, bounce: float = 0.0) -> Change:
    """Trading dries up and the day's range is stretched around closes that are unchanged, or that jump to and fro."""
    depth = np.linspace(1 / scene.graded, 1.0, scene.graded)[:, None] if ramp else np.ones((scene.graded, 1))
    depth = scene.strength * depth * np.ones_like(scene.simple)
    turn = np.diff(np.arange(len(scene.simple)) % 2, prepend=0)[:, None]  # there, back, there
    simple = scene.simple + bounce * scene.strength * scene.sd * turn
    return Change(simple, volume=volume**depth, widen=widen * depth)


def contagion(scene: Scene, mix: float, factor: float, noise: float, volume: float = 1.0) -> Change:
    """Returns give way to a common falling factor: (1 - mix) r + mix sd f, from the day on which a stock is reached;
    volume may rise."""
    fall = scene.strength * factor + noise * scene.rng.standard_normal((len(scene.simple), 1))
    mixed = (1 - mix) * scene.simple + mix * scene.sd * fall
    return Change(np.where(scene.hit, mixed, scene.simple), volume=np.where(scene.hit, volume**scene.strength, 1.0))


def momentum(scene: Scene, trend: float, turn: float, accelerate: bool, fade: float = 1.0) -> Change:
    """A steady trend of `trend` standard deviations a session, up or down by chance, that turns at the onset.

    fade : factor on the turn from session to session.
    """
    before = len(scene.simple) - scene.graded
    pace = np.linspace(0, 2, before) if accelerate else np.ones(before)
    drift = np.concatenate([trend * pace, -turn * fade ** np.arange(scene.graded)])[:, None]
    return Change(scene.simple + scene.strength * scene.sd * scene.signs() * drift)


def point(scene: Scene, sigmas: float) -> Change:
    """One spike that is taken back on the next session (the chapter's point anomaly)."""
    simple, spike = scene.simple.copy(), scene.strength * sigmas * scene.sd * scene.signs()
    simple[0] += spike
    simple[1] = (1 + scene.simple[1]) * (1 + scene.simple[0]) / (1 + simple[0]) - 1
    return Change(simple)


def contextual(scene: Scene, sigmas: float) -> Change:
    """A move and a volume that are nothing unusual in a stormy month, in a calm one."""
    shock = scene.strength * sigmas * scene.sd * scene.rng.standard_normal(scene.simple.shape)
    return Change(scene.simple + shock, volume=1.0 + scene.strength)


def collective(scene: Scene) -> Change:
    """A flat line: every single close is ordinary, their sequence is not."""
    return Change(np.zeros_like(scene.simple), flat=True)


@dataclass(frozen=True)
class Mechanism:
    """One kind of plant. `shape` of each set in which it is planted: arguments of `act`.

    stocks, sessions : fewest and most. lead_in : sessions of build-up before the onset, by set. waves : the stocks are
    reached one after the other along the prior graph.
    """

    act: Callable[..., Change]
    label: str
    shape: dict[str, dict[str, Any]]
    stocks: tuple[int, int] = (1, 10)
    sessions: tuple[int, int] = (1, 5)
    lead_in: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SETS, 0))
    waves: bool = False
    kind: str = "mechanism"
    needs: int = 1  # sessions without which the shape is none


MECHANISMS: dict[str, Mechanism] = {
    "price_shock": Mechanism(
        price_shock,
        "price shock",
        {
            "main": {"sigmas": 6.0, "days": (1.0,), "volume": 2.0, "gap": 0.0},
            "twin": {"sigmas": 5.0, "days": (0.6, 0.4), "volume": 3.0, "gap": 1.0},
            "trial": {"sigmas": 4.5, "days": (0.5, 0.3, 0.2), "volume": 1.6, "gap": 0.5},
            "fresh": {"sigmas": 7.0, "days": (1.0, -0.35), "volume": 2.5, "gap": 0.75},
            "far": {"sigmas": 6.0, "days": (1.0, -0.8), "volume": 8.0, "gap": 0.0},
        },
    ),
    "liquidity": Mechanism(
        liquidity,
        "liquidity freeze",
        {
            "main": {"widen": 2.0, "volume": 0.2, "ramp": False},
            "twin": {"widen": 3.0, "volume": 0.3, "ramp": True},
            "trial": {"widen": 1.5, "volume": 0.15, "ramp": True},
            "fresh": {"widen": 1.2, "volume": 0.25, "ramp": False, "bounce": 0.5},
            "far": {"widen": 5.5, "volume": 0.95, "ramp": False},
        },
    ),
    "contagion": Mechanism(
        contagion,
        "contagion",
        {
            "main": {"mix": 0.8, "factor": -2.0, "noise": 0.5},
            "twin": {"mix": 0.6, "factor": -2.0, "noise": 1.5},
            "trial": {"mix": 0.9, "factor": -1.5, "noise": 1.0},
            "fresh": {"mix": 0.7, "factor": -2.5, "noise": 0.3, "volume": 1.6},
            "far": {"mix": 0.3, "factor": -4.5, "noise": 2.0, "volume": 0.7},
        },
        stocks=(10, 10),
        sessions=(3, 5),
        waves=True,
    ),
    "momentum": Mechanism(
        momentum,
        "trend and reversal",
        {
            "main": {"trend": 1.5, "turn": 1.5, "accelerate": False},
            "twin": {"trend": 1.5, "turn": 2.5, "accelerate": True},
            "trial": {"trend": 1.2, "turn": 2.0, "accelerate": False},
            "fresh": {"trend": 1.0, "turn": 3.0, "accelerate": False, "fade": 0.6},
            "far": {"trend": 0.5, "turn": 4.0, "accelerate": True},
        },
        lead_in={"main": 20, "twin": 12, "trial": 15, "fresh": 26, "far": 40},
    ),
    "point": Mechanism(
        point, "point", {"main": {"sigmas": 5.0}, "twin": {"sigmas": 4.0}}, sessions=(2, 2), kind="chapter", needs=2
    ),
    "contextual": Mechanism(
        contextual, "contextual", {"main": {"sigmas": 1.5}, "twin": {"sigmas": 1.2}}, kind="chapter"
    ),
    "collective": Mechanism(
        collective, "collective", {"main": {}, "twin": {}}, sessions=(3, 5), kind="chapter"
    ),
}  # fmt: skip
PAPER = ("price_shock", "liquidity", "contagion", "momentum")  # in the order of the paper's experts


def mechanisms() -> tuple[str, ...]:
    """Names of the kind "mechanism": the paper's four, then what a reader has added."""
    return (*PAPER, *(name for name, m in MECHANISMS.items() if m.kind == "mechanism" and name not in PAPER))


@dataclass(frozen=True)
class Plant:
    """One planted anomaly. Positions of sessions and stocks; `delay` [n] sessions after the onset for each stock."""

    mechanism: str
    shapes: str
    strength: str
    onset: int
    sessions: int
    stocks: tuple[int, ...]
    delay: tuple[int, ...]
    seed: int

    @property
    def first(self) -> int:
        """The first altered session."""
        return self.onset - MECHANISMS[self.mechanism].lead_in[self.shapes]

    @property
    def last(self) -> int:
        return self.onset + self.sessions - 1

    def graded(self, n_stocks: int) -> np.ndarray:
        """Bool [sessions, n_stocks]: the stock-days that carry the plant, from the onset on."""
        out = np.zeros((self.sessions, n_stocks), bool)
        for stock, delay in zip(self.stocks, self.delay, strict=True):
            out[delay:, stock] = True
        return out


def alter(bars: Bars, plants: list[Plant]) -> Bars:
    """The bars with the plants in them; what comes after a plant keeps its returns, on the new price level.

    Every plant is measured by the bars as they were, so the order of the list says nothing.

    Raises PlantError, naming the plant and the reason: outside the panel, on a stock that did not trade on every
    session from 20 before the plant to its end, that lacks a price there or did not move in the 20 before, a position
    or a seed that is no whole number, a delay for which the plant is too short, fewer sessions than the shape needs or
    more than any has, two plants in the same sessions, a price or a low that is not positive.
    """
    new = bars.copy()
    for plant in plants:
        check(plant, bars)
    spans = sorted((plant.first, plant.last, k) for k, plant in enumerate(plants))
    for (_, end, a), (begin, _, b) in pairwise(spans):
        if begin <= end:
            raise PlantError(f"{_name(plants[a], bars)} and {_name(plants[b], bars)} overlap: plant them in two copies")
    for _, _, k in spans:
        _apply(new, bars, plants[k])
    return new


def _name(plant: Plant, bars: Bars) -> str:
    inside = isinstance(plant.onset, int | np.integer) and 0 <= plant.onset < len(bars.sessions)
    return f"{plant.mechanism} plant of {f'{bars.sessions[plant.onset]:%Y-%m-%d}' if inside else plant.onset}"


def check(plant: Plant, bars: Bars) -> None:
    """Raise PlantError when the bars cannot carry the plant; see `alter`."""
    shapes = MECHANISMS[plant.mechanism].shape if plant.mechanism in MECHANISMS else SETS
    if plant.mechanism not in MECHANISMS or plant.shapes not in shapes or plant.strength not in STRENGTHS:
        known = f"{', '.join(MECHANISMS)}; {', '.join(shapes)}; {', '.join(STRENGTHS)}"
        raise PlantError(f"no plant {plant.mechanism!r}, {plant.shapes!r}, {plant.strength!r}; there are: {known}")
    if STRENGTHS[plant.strength] <= 0:
        raise PlantError(
            f"strength {plant.strength!r} is {STRENGTHS[plant.strength]}: sizes are multiplied by it, give more than 0"
        )
    for what, one in (("onset", True), ("sessions", True), ("seed", True), ("stocks", False), ("delay", False)):
        given = getattr(plant, what)
        several = isinstance(given, tuple | list | np.ndarray)
        each = list(given) if several else [given]
        whole = all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in each)
        if several == one or not whole:
            wanted = "one of them" if one else "one for each stock"
            raise PlantError(f"{_name(plant, bars)}: {what} is {given!r}; give whole numbers, {wanted}")
    if plant.seed < 0:
        raise PlantError(f"{_name(plant, bars)}: seed is {plant.seed}; give a number from 0 up")
    s, n = bars.traded.shape
    stocks = np.array(plant.stocks)
    if plant.first - MEMORY < 1 or plant.last >= s or plant.sessions < 1:
        reach = f"sessions {plant.first - MEMORY - 1} to {plant.last}"
        raise PlantError(f"{_name(plant, bars)} needs {reach}, the panel has 0 to {s - 1}: move it inside")
    if not len(stocks) or stocks.min() < 0 or stocks.max() >= n or len(set(plant.stocks)) < len(stocks):
        raise PlantError(f"{_name(plant, bars)}: stocks are {plant.stocks}, not different positions in 0 to {n - 1}")
    if len(plant.delay) != len(stocks) or min(plant.delay) < 0 or max(plant.delay) >= plant.sessions:
        limits = f"one for each of {len(stocks)} stocks, from 0 to {plant.sessions - 1}"
        raise PlantError(f"{_name(plant, bars)}: delays are {plant.delay}; give {limits}")
    if plant.sessions < MECHANISMS[plant.mechanism].needs:
        needs = f"its shape needs {MECHANISMS[plant.mechanism].needs}"
        raise PlantError(f"{_name(plant, bars)} lasts {plant.sessions} session, {needs}: let it last longer")
    if plant.sessions > (most := max(mechanism.sessions[1] for mechanism in MECHANISMS.values())):
        raise PlantError(f"{_name(plant, bars)} lasts {plant.sessions} sessions, plants last at most {most}")
    idle = ~bars.traded[plant.first - MEMORY - 1 : plant.last + 1, stocks].all(0)
    if idle.any():
        names = ", ".join(bars.tickers[stocks[idle]])
        raise PlantError(f"{_name(plant, bars)}: {names} did not trade on every session around it: choose other stocks")
    around = slice(plant.first - MEMORY - 1, plant.last + 1)
    known = np.all([np.isfinite(column[around, stocks]) for column in bars.columns.values()], axis=(0, 1))
    if not known.all():
        names = ", ".join(bars.tickers[stocks[~known]])
        raise PlantError(f"{_name(plant, bars)}: {names} traded but lacks a price there: mend it, or choose others")
    moved = np.ptp(bars.columns["adj_close"][plant.first - MEMORY - 1 : plant.first, stocks], axis=0) > 0
    if not moved.all():
        names = ", ".join(bars.tickers[stocks[~moved]])
        raise PlantError(f"{_name(plant, bars)}: {names} did not move in {MEMORY} sessions before it: no size to go by")


def _apply(bars: Bars, original: Bars, plant: Plant) -> None:
    """Write one plant, measured by the original bars, into others, in place."""
    mechanism, stocks = MECHANISMS[plant.mechanism], np.array(plant.stocks)
    close = original.columns["adj_close"][plant.first - 1 - MEMORY : plant.last + 1, stocks]
    simple = close[1:] / close[:-1] - 1
    scene = Scene(
        simple[MEMORY:],
        np.log1p(simple[:MEMORY]).std(0, ddof=1),
        np.array(plant.delay),
        plant.sessions,
        STRENGTHS[plant.strength],
        np.random.default_rng(plant.seed),
    )
    change = mechanism.act(scene, **mechanism.shape[plant.shapes])
    write_change(bars, change, scene.simple, plant.first, stocks, _name(plant, bars))
