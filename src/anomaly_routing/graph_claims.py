"""What the committed weights say of the learned graph: how fast it turns over, and how much of it crosses sectors."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_routing.evaluation.detection import AFTERMATH, relative_window
from anomaly_routing.ledger.answers import answer
from anomaly_routing.model.masking import pairs
from anomaly_routing.model.network import Network
from anomaly_routing.model.training import Data, TrainingConfig, evaluate
from anomaly_routing.tensors import Tensors

FEWER = 10  # neighbours of the paper's smallest setting


def turnover(before: np.ndarray, now: np.ndarray) -> float:
    """Share of a stock's edge weight that is elsewhere a session later, mean over the stocks with edges on both.

    before, now : [N, N], rows scaled to one here. 0 for the same graph, 1 when no edge is kept.
    """
    both = (before.sum(1) > 0) & (now.sum(1) > 0)
    rows = [graph[both] / graph[both].sum(1, keepdims=True) for graph in (before, now)]
    return float(np.abs(rows[1] - rows[0]).sum(1).mean() / 2) if both.any() else np.nan


def across(graph: np.ndarray, sector: np.ndarray) -> float:
    """Share of the edge weight [N, N] between stocks of different sectors."""
    return float(graph[sector[:, None] != sector[None]].sum() / graph.sum()) if graph.sum() else np.nan


def graph_days(net: Network, tensors: Tensors, sector: np.ndarray, rows: np.ndarray) -> pd.DataFrame:
    """Per session, index = sessions: `turnover` since the session before (NaN on the first), `across` sectors of the
    learned graph, and `across_fewer`, the same similarities cut at `FEWER` neighbours."""
    data = Data(tensors, net.config, torch.device("cpu"))
    sparser = copy.copy(net.graph)
    sparser.config = replace(net.config, top_k=FEWER)
    lines, last = [], None
    for batch, out in evaluate(net, data, rows, TrainingConfig()):
        with torch.no_grad():
            few = sparser.sparsify(out.similarity, batch.active, pairs(batch.active)).numpy()
        for graph, thin in zip(out.learned.numpy().astype(float), few.astype(float), strict=True):
            moved = np.nan if last is None else turnover(last, graph)
            lines.append({"turnover": moved, "across": across(graph, sector), "across_fewer": across(thin, sector)})
            last = graph
    return pd.DataFrame(lines, index=tensors.sessions[rows])


def in_crisis(sessions: pd.DatetimeIndex, dates: pd.Series) -> np.ndarray:
    """Bool [S]: from five sessions before to ten after any of the events."""
    places = sessions.get_indexer(pd.DatetimeIndex(dates).as_unit(sessions.unit))
    return relative_window(places[places >= 0], len(sessions), *AFTERMATH).any(axis=0)


def graph_answers(days: pd.DataFrame, crisis: np.ndarray, how: dict[str, Any]) -> list[dict[str, Any]]:
    """Claims about the learned graph from `graph_days`. crisis : bool, its rows. how : n_seeds, tier, device."""
    loud, calm = days.turnover[crisis].mean(), days.turnover[~crisis].mean()
    wide, few = days.across.mean(), days.across_fewer.mean()
    first = (
        f"share of a stock's learned weight that moves in a session: {loud:.3f} near events, {calm:.3f} elsewhere; the "
        "learned half of the full model's graph, since no run keeps the graphs of alpha 0 (A26)"
    )
    second = (
        f"share of learned weight across sectors: {wide:.3f}, and {few:.3f} when the same similarities are cut at the "
        "fewer neighbours; not trained anew"
    )
    return [
        answer("F1a.datadriven_unstable", loud - calm, "direction", note=first, **how),
        answer("T4.k10", wide - few, "direction", note=second, **how),
    ]
