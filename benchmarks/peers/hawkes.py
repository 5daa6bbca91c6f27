"""The graph Hawkes detector on a simulated Hawkes process, whose intensity is known.

Stocks on a ring, two kinds of event. An event raises the intensities of its own stock and of both neighbours from the
next session on, and the rise fades by a constant factor a session; everything adds up, as in Hawkes's process. The
first part of the sessions is fitted, the rest is judged: there the true intensity has the highest likelihood that any
prediction from the past can expect, and a constant rate for each kind has the least that one would accept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_routing.baselines.deep import Series
from anomaly_routing.baselines.dynamic_graph.graph_hawkes import GraphHawkes, GraphHawkesNetwork
from anomaly_routing.panel import Panel

BASE = np.array([0.03, 0.02])  # intensity without a history, of each kind
OWN = np.array([[0.25, 0.0], [0.15, 0.1]])  # rise of kind (row) after one event of kind (column), at the stock itself
NEAR = np.array([[0.2, 0.0], [0.0, 0.2]])  # the same after one at every neighbour
FADE = 0.5
SESSIONS, FITTED, STOCKS = 2000, 1500, 30
SETTINGS = {"quantile": 0.5, "window": 12, "hidden": 32, "share": 0.5, "epochs": 60}


@dataclass(frozen=True)
class Simulated:
    """events [S, N, 2] of 0 and 1, their true intensity [S, N, 2], and the panel that carries them as features."""

    panel: Panel
    events: np.ndarray
    intensity: np.ndarray


def ring(stocks: int) -> np.ndarray:
    """[N, N] of 0 and 1."""
    step = np.eye(stocks, dtype=np.float32)
    return np.roll(step, 1, 0) + np.roll(step, -1, 0)


def simulate(sessions: int, stocks: int, seed: int) -> Simulated:
    """An event happens with the probability 1 - exp(-intensity)."""
    rng = np.random.default_rng(seed)
    prior = ring(stocks)
    events, intensity = np.zeros((2, sessions, stocks, 2))
    own = np.zeros((stocks, 2))  # faded count of earlier events
    for t in range(sessions):
        near = prior @ own / prior.sum(1, keepdims=True)
        intensity[t] = BASE + own @ OWN.T + near @ NEAR.T
        events[t] = rng.random((stocks, 2)) < -np.expm1(-intensity[t])
        own = FADE * own + events[t]
    nothing = np.zeros((sessions, stocks))
    panel = Panel(
        sessions=pd.bdate_range("2000-01-03", periods=sessions),
        tickers=[f"S{i}" for i in range(stocks)],
        features=["first", "second"],
        group=["first", "second"],
        x=events.astype(np.float32),
        active=np.ones((sessions, stocks), bool),
        returns=nothing,
        log_volume=nothing,
        sector=np.full(stocks, "ring"),
        is_bank=np.zeros(stocks, bool),
        prior=prior,
    )
    return Simulated(panel, events, intensity)


def surprise(events: np.ndarray, intensity: np.ndarray) -> np.ndarray:
    """Minus log likelihood of each stock-day, [S, N]."""
    return np.where(events > 0, -np.log(-np.expm1(-intensity)), intensity).sum(-1)


def constant(events: np.ndarray) -> np.ndarray:
    """[2], the constant intensity of the highest likelihood."""
    return -np.log1p(-events.mean((0, 1)))


def rise(
    net: GraphHawkesNetwork, market: Simulated, sessions: Iterable[int], kind: int
) -> tuple[np.ndarray, np.ndarray]:
    """[2] and [2], by how much an event of `kind` raises the next session's intensities at its stock and beside it.

    Mean over real histories: in each session before one of `sessions`, every fifth stock is given an event that it
    did not have. Everything adds up, so the true rises are a column of `OWN` and half a column of `NEAR`.
    """
    series = Series(market.panel, net.window, torch.device("cpu"))
    own, near = [], []
    with torch.no_grad():
        for t in sessions:
            batch = series.batch(t, t + 1)
            given = np.arange(0, len(market.panel.tickers), 5)
            given = given[market.events[t - 1, given, kind] == 0]
            x = batch.x.clone()
            x[-2, given, kind] = 1
            change = net.intensity(batch._replace(x=x), batch.active) - net.intensity(batch, batch.active)
            own.append(change[given])
            near.append(change[given + 1])
    return torch.cat(own).double().mean(0).numpy(), torch.cat(near).double().mean(0).numpy()


def judge(seed: int, **settings: Any) -> dict[str, float]:
    """One simulation, fitted with and without the graph and judged on the later sessions."""
    market = simulate(SESSIONS, STOCKS, seed)
    train = np.arange(SESSIONS) < FITTED
    detector = GraphHawkes(seed=seed, device="cpu", **settings).fit(market.panel, train)
    alone = GraphHawkes(seed=seed, device="cpu", **settings)
    no_links = replace(market.panel, prior=np.zeros_like(market.panel.prior))
    scores = {
        "fitted": detector.decision_function(market.panel),
        "alone": alone.fit(no_links, train).decision_function(no_links),
        "true": surprise(market.events, market.intensity),
        "constant": surprise(market.events, np.broadcast_to(constant(market.events[train]), market.events.shape)),
    }
    loss = {name: float(score[~train].mean()) for name, score in scores.items()}
    gain = loss["constant"] - loss["true"]
    detector.net.cpu()
    own, near = zip(*(rise(detector.net, market, range(FITTED, SESSIONS, 5), kind) for kind in range(2)), strict=True)
    return loss | {
        "share": (loss["constant"] - loss["fitted"]) / gain,
        "share_alone": (loss["constant"] - loss["alone"]) / gain,
        "own_first": float(own[0][0]),
        "own_second": float(own[0][1]),
        "near_first": float(near[0][0]),
        "near_second": float(near[1][1]),
    }


def run(folder: Path, seeds: Sequence[int], **settings: Any) -> list[dict]:
    """One row a measure; `folder` is not read, the data are simulated. settings : other than `SETTINGS`."""
    found = [judge(seed, **(SETTINGS | settings)) for seed in seeds]
    gain = "0 is a constant rate, 1 the true intensity"
    measures = {
        "fitted": ("surprise of a later stock-day, nats", "the network's"),
        "true": ("the same under the true intensity", "the least that can be expected"),
        "constant": ("the same under a constant rate", "of each kind, fitted on the same sessions"),
        "share": ("share of the gain over a constant rate", gain),
        "share_alone": ("the same, fitted without the graph", gain),
        "own_first": ("rise after an own event of the first kind", f"true: {OWN[0, 0]}"),
        "own_second": ("rise of the second kind after the same event", f"true: {OWN[1, 0]}"),
        "near_first": ("rise after one neighbour's event of the first kind", f"true: {NEAR[0, 0] / 2}"),
        "near_second": ("rise after one neighbour's event of the second kind", f"true: {NEAR[1, 1] / 2}"),
    }
    data = f"simulated Hawkes process, {STOCKS} stocks on a ring, {FITTED} sessions fitted, {SESSIONS - FITTED} judged"
    return [
        {
            "detector": "graph_hawkes",
            "data": data,
            "measure": measure,
            "seeds": list(seeds),
            "ours": [one[key] for one in found],
            "published": None,
            "known": "",
            "source": "Nobody published it: the closed form of the simulated process is the yardstick.",
            "note": note,
        }
        for key, (measure, note) in measures.items()
    ]
