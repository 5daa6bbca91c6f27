"""Which stocks, when: plants drawn at random for calm sessions, and their table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anomaly_routing.data.bars import Bars
from anomaly_routing.data.changes import MEMORY, PlantError
from anomaly_routing.data.plants import MECHANISMS, SETS, STRENGTHS, Plant


def draw_plants(
    count: int,
    *,
    mechanism: str,
    strength: str,
    shapes: str,
    calm: np.ndarray,
    eligible: np.ndarray,
    prior: np.ndarray,
    seed: int,
) -> list[Plant]:
    """`count` plants with onsets, stocks and sizes drawn from `seed`, each meant for a copy of the panel of its own.

    calm : bool [S], sessions that may carry a plant: all graded ones must be calm. eligible : bool [S, N], stocks that
    trade on that session. prior : [N, N], the graph along which contagion spreads.

    Raises PlantError when no session can carry such a plant.
    """
    kind = MECHANISMS[mechanism]
    names = (list(MECHANISMS).index(mechanism), list(STRENGTHS).index(strength), SETS.index(shapes))
    rng = np.random.default_rng([seed, *names])
    lead_in, plants = kind.lead_in[shapes], []
    steady = run_length(eligible)  # sessions in a row on which the stock traded, up to this one
    for _ in range(count):
        sessions = int(rng.integers(kind.sessions[0], kind.sessions[1] + 1))
        reach = lead_in + MEMORY + 2
        last = np.flatnonzero(run_length(calm) >= sessions)
        last = last[last - sessions + 1 >= reach]
        if not len(last):
            raise PlantError(f"no {sessions} calm sessions in a row for a {mechanism} plant: move market.splits")
        end = int(rng.choice(last))
        able = np.flatnonzero(steady[end] >= sessions + reach)
        wanted = int(rng.integers(kind.stocks[0], kind.stocks[1] + 1))
        if len(able) < max(wanted, 2):
            raise PlantError(f"only {len(able)} stocks trade around session {end}, a {mechanism} plant needs {wanted}")
        if kind.waves:
            stocks, delay = waves(prior, able, wanted, sessions, rng)
        else:
            stocks, delay = rng.choice(able, wanted, replace=False), np.zeros(wanted, int)
        place = end - sessions + 1, sessions, tuple(map(int, stocks)), tuple(map(int, delay))
        plants.append(Plant(mechanism, shapes, strength, *place, int(rng.integers(2**31))))
    return plants


def run_length(flags: np.ndarray) -> np.ndarray:
    """How many True in a row end here, along the first axis."""
    out = np.zeros(flags.shape, int)
    for t in range(len(flags)):
        out[t] = np.where(flags[t], (out[t - 1] if t else 0) + 1, 0)
    return out


def waves(prior: np.ndarray, able: np.ndarray, wanted: int, sessions: int, rng: np.random.Generator) -> tuple:
    """A group that grows along the prior graph, a few stocks a session: positions and delays.

    With even chance a stock is drawn from the neighbours of those already reached, or from all, so that a group spans
    sectors.
    """
    stocks, delay = [int(rng.choice(able))], [0]
    size = np.diff(np.rint(np.linspace(1, wanted, min(sessions, 3) + 1)).astype(int))
    for wave, new in enumerate(size):
        for _ in range(new):
            free = np.setdiff1d(able, stocks)
            close = free[prior[np.ix_(free, stocks)].any(1)]
            pool = close if len(close) and rng.random() < 0.5 else free
            stocks.append(int(rng.choice(pool)))
            delay.append(wave)
    return np.array(stocks), np.array(delay)


def plant_table(plants: list[Plant], bars: Bars) -> pd.DataFrame:
    """One row a plant: mechanism, set, strength, onset, sessions, stocks, parameters of the shape, seed."""
    rows = [
        {
            "mechanism": p.mechanism,
            "set": p.shapes,
            "strength": p.strength,
            "onset": bars.sessions[p.onset],
            "sessions": p.sessions,
            "stocks": len(p.stocks),
            "tickers": " ".join(bars.tickers[list(p.stocks)]),
            "parameters": ", ".join(f"{k} {v}" for k, v in MECHANISMS[p.mechanism].shape[p.shapes].items()),
            "seed": p.seed,
        }
        for p in plants
    ]
    return pd.DataFrame(rows)
