"""The dated events of a simulated market: which stocks are hit, when, how, and how hard.

Everything that a mechanism does stands in one table, `MECHANISMS`. To add a mechanism, add an entry there; if none of
the groups below fits, write one more function that picks the stocks and the delay with which each is hit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

BEFORE, AFTER = 5, 10  # the window [t-5, t+10] of an event, SPEC 9.4; windows do not overlap
WEAKEST, STRONGEST = 0.6, 1.4  # every planted effect is multiplied by the event's strength
LONGEST_PRECURSOR = 4  # sessions
PRECURSOR_SHARE = 0.4  # of the first session's effect, on each session of the precursor
SESSIONS_PER_ROUND = 350  # one event of each mechanism for every 350 sessions of the market
COLUMNS = {
    "id": "str",
    "date": "datetime64[ns]",
    "alternatives": object,
    "kind": "str",
    "exogenous": bool,
    "label": "str",
    "mechanism": "str",
    "tickers": object,
    "strength": float,
    "precursor": bool,
    "end": "datetime64[ns]",
}


@dataclass(frozen=True)
class Network:
    """Who can be hit. N stocks.

    neighbours : bool [N, N], same sector or same state. sector : str [N].
    eligible : positions of the stocks that trade on every session of the test span.
    """

    neighbours: np.ndarray
    sector: np.ndarray
    eligible: np.ndarray


Group = tuple[np.ndarray, np.ndarray]  # positions of the stocks, and the sessions after the onset at which each is hit


def handful(network: Network, rng: np.random.Generator) -> Group:
    """Three to six stocks without regard to the network, all at once."""
    stocks = rng.choice(network.eligible, rng.integers(3, 7), replace=False)
    return stocks, np.zeros(len(stocks), int)


def whole_sector(network: Network, rng: np.random.Generator) -> Group:
    """Every eligible stock of one of the three largest sectors, all at once."""
    sectors, size = np.unique(network.sector[network.eligible], return_counts=True)
    sector = rng.choice(sectors[np.argsort(-size, kind="stable")[:3]])
    stocks = network.eligible[network.sector[network.eligible] == sector]
    return stocks, np.zeros(len(stocks), int)


def basket(network: Network, rng: np.random.Generator) -> Group:
    """A quarter of the eligible stocks across sectors (a crowded trade), all at once."""
    stocks = rng.choice(network.eligible, len(network.eligible) // 4, replace=False)
    return stocks, np.zeros(len(stocks), int)


def spreading(network: Network, rng: np.random.Generator) -> Group:
    """One or two seeds, then, on each of the next four sessions, at least one and at most an eighth of the stocks more.

    A stock is drawn from the neighbours of those already hit, in proportion to how many of them it neighbours. So it is
    never hit earlier than its distance from the seeds in the network.
    """
    stocks = rng.choice(network.eligible, rng.integers(1, 3), replace=False)
    delay = np.zeros(len(stocks), int)
    for day in range(1, 5):
        links = network.neighbours[np.ix_(network.eligible, stocks)].sum(1) * ~np.isin(network.eligible, stocks)
        if not links.any():
            break
        wanted = rng.integers(1, max(2, len(network.eligible) // 8 + 1))
        new = min(wanted, np.count_nonzero(links))
        stocks = np.append(stocks, rng.choice(network.eligible, new, replace=False, p=links / links.sum()))
        delay = np.append(delay, np.full(new, day))
    return stocks, delay


@dataclass(frozen=True)
class Mechanism:
    """What one kind of event does to a stock, session by session from the session on which the stock is hit.

    group : picks the stocks and their delays.
    direction : sign of the returns: "own" (drawn for each stock), "group" (drawn once), "loss".
    returns : in conditional standard deviations of the stock on the eve of the event. volatility, volume, spread :
        added to ln idiosyncratic volatility, ln volume and ln spread. All are multiplied by the event's strength.
    shared : standard deviation of one shock a session that all stocks hit so far have in common, in the unit of
        returns. Over the event these shocks, falls and reliefs, add up to nothing.
    turn : sessions from the onset to the reversal, kept as an alternative date of the event; None without reversal.
    """

    label: str
    group: Callable[[Network, np.random.Generator], Group]
    direction: str = "own"
    returns: tuple[float, ...] = (0.0,)
    volatility: tuple[float, ...] = (0.0,)
    volume: tuple[float, ...] = (0.0,)
    spread: tuple[float, ...] = (0.0,)
    shared: float = 0.0
    turn: int | None = None

    @property
    def channels(self) -> dict[str, np.ndarray]:
        return {name: np.array(getattr(self, name)) for name in ("returns", "volatility", "volume", "spread")}

    @property
    def duration(self) -> int:
        """Sessions that a stock is disturbed."""
        return max(len(profile) for profile in self.channels.values())


MECHANISMS: dict[str, Mechanism] = {
    "price_shock": Mechanism(
        label="price shock",
        group=handful,
        direction="own",
        returns=(6.0,),
        volatility=(0.0, 0.4, 0.3, 0.2, 0.1),
        volume=(0.5, 0.5, 0.3, 0.15),  # on top of the volume that follows every large return
        spread=(0.3, 0.2, 0.1),
    ),
    "liquidity": Mechanism(
        label="liquidity freeze",
        group=whole_sector,
        volume=(-1.0, -1.4, -1.4, -1.4, -1.0, -0.5),
        spread=(1.4, 1.8, 1.8, 1.8, 1.4, 0.8),
    ),
    "contagion": Mechanism(
        label="contagion",
        group=spreading,
        direction="loss",
        returns=(2.0, 1.0, 0.8, 0.6, 0.5, 0.4),
        volatility=(0.0, -0.7, -0.7, -0.7, -0.7, -0.5),  # the shared shock takes the place of own news
        volume=(0.3, 0.3, 0.3, 0.2, 0.2, 0.1),
        spread=(0.3, 0.3, 0.3, 0.2, 0.2, 0.1),
        shared=1.5,
    ),
    "momentum": Mechanism(
        label="trend and reversal",
        group=basket,
        direction="group",
        returns=(1.4, 1.4, 1.4, 1.4, 1.4, 1.4, 1.4, -3.2, -2.2, -1.2),
        volume=(0.0, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.4, 0.3, 0.1),
        turn=7,
    ),
}


@dataclass(frozen=True)
class Effects:
    """What all events together add, float64 [session, stock] each: see `Mechanism` for the channels.

    returns : log return. volatility, volume, spread : added to the logarithm.
    """

    returns: np.ndarray
    volatility: np.ndarray
    volume: np.ndarray
    spread: np.ndarray

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Effects:
        return cls(*(np.zeros(shape) for _ in range(4)))


def schedule(first: int, last: int, rounds: int, rng: np.random.Generator) -> pd.DataFrame:
    """When each event begins, how strong it is, and how many sessions its precursor has (0: none).

    first, last : positions of the test span's first and last session. rounds : events of each mechanism, 0 for none.

    The mechanisms come in rounds, each a random order of all; windows [t-5, t+10] lie inside the span and do not
    overlap. Strengths are spread evenly over [0.6, 1.4] within a mechanism (1 if it has a single event). Half of a
    mechanism's events have a precursor of one to four sessions; with one event each, every other mechanism has one.

    Returns columns mechanism, onset (position), strength, lead. Raises ValueError if the span is too short.
    """
    names = [name for _ in range(rounds) for name in rng.permutation(list(MECHANISMS))]
    width = BEFORE + 1 + AFTER
    slack = last - first + 1 - width * len(names)
    if slack < 0:
        raise ValueError(f"{len(names)} events need a test span of {width * len(names)} sessions")
    onset = first + BEFORE + width * np.arange(len(names)) + np.sort(rng.integers(0, slack + 1, len(names)))
    table = pd.DataFrame({"mechanism": names, "onset": onset, "strength": 1.0, "lead": 0})
    for number, name in enumerate(MECHANISMS):
        rows = table.index[table["mechanism"] == name]
        if rounds > 1:
            table.loc[rows, "strength"] = rng.permutation(np.linspace(WEAKEST, STRONGEST, rounds))
        warned = rng.permutation((np.arange(rounds) + number) % 2 == 0)
        table.loc[rows, "lead"] = rng.integers(1, LONGEST_PRECURSOR + 1, rounds) * warned
    return table


def plant(
    effects: Effects, plan: pd.DataFrame, network: Network, sigma: np.ndarray, rng: np.random.Generator
) -> list[pd.DataFrame]:
    """Add every event of `plan` to `effects`, in place; one table an event: stock, onset (positions), direction.

    sigma : float64 [session, stock], conditional standard deviation of the undisturbed log return.
    """
    planted = []
    for event in plan.itertuples():
        mechanism = MECHANISMS[event.mechanism]
        stocks, delay = mechanism.group(network, rng)
        drawn = rng.choice([-1, 1], len(stocks))
        direction = {"own": drawn, "group": np.full(len(stocks), drawn[0]), "loss": np.full(len(stocks), -1)}[
            mechanism.direction
        ]
        unit = sigma[event.onset - event.lead - 1, stocks] * direction  # the eve of everything that is planted
        for name, profile in mechanism.channels.items():
            channel = getattr(effects, name)
            scale = event.strength * (unit if name == "returns" else np.ones(len(stocks)))
            for stock, start, size in zip(stocks, event.onset + delay, scale, strict=True):
                channel[start : start + len(profile), stock] += size * profile
            first_hit = delay == 0
            warning = PRECURSOR_SHARE * profile[0] * scale[first_hit]
            channel[event.onset - event.lead : event.onset, stocks[first_hit]] += warning
        last = (delay + mechanism.duration).max()
        shocks = rng.standard_normal(last)
        for day, shock in enumerate(mechanism.shared * event.strength * (shocks - shocks.mean())):
            hit = (delay <= day) & (day < delay + mechanism.duration)
            effects.returns[event.onset + day, stocks[hit]] += shock * np.abs(unit[hit])
        planted.append(pd.DataFrame({"stock": stocks, "onset": event.onset + delay, "direction": direction}))
    return planted


def event_table(
    plan: pd.DataFrame, planted: list[pd.DataFrame], sessions: pd.DatetimeIndex, tickers: np.ndarray, sector: np.ndarray
) -> pd.DataFrame:
    """The events as a detector's judge reads them (`COLUMNS`), one row each, in order of date.

    `date` is the first session of the full disturbance, `end` the last disturbed one. A precursor lies before `date`;
    an event without one is called exogenous, since nothing before its date can announce it. For a trend that turns,
    `alternatives` holds the session of the turn. `tickers` are in the order in which they are hit.
    """
    rows = []
    for number, (event, hits) in enumerate(zip(plan.itertuples(), planted, strict=True), start=1):
        mechanism = MECHANISMS[event.mechanism]
        where = np.unique(sector[hits["stock"]])
        where = where[0] if len(where) == 1 else f"{len(where)} sectors"
        rows.append(
            {
                "id": f"S{number:02d}",
                "date": sessions[event.onset],
                "alternatives": [] if mechanism.turn is None else [sessions[event.onset + mechanism.turn]],
                "kind": event.mechanism,
                "exogenous": event.lead == 0,
                "label": f"{mechanism.label}, {len(hits)} stocks, {where}",
                "mechanism": event.mechanism,
                "tickers": tickers[hits["stock"]].tolist(),
                "strength": event.strength,
                "precursor": event.lead > 0,
                "end": sessions[hits["onset"].max() + mechanism.duration - 1],
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
