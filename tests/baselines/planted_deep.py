"""Quiet anomalies: the toy markets' (`anomaly_routing.baselines.toy`), and a set that needs a trained encoder."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from anomaly_routing.baselines.toy import KINDS, Toy, coupled_market, toy_market
from anomaly_routing.baselines.toy import toy_auroc as auroc
from anomaly_routing.panel import plain_panel

__all__ = ["KINDS", "auroc", "coupled_market", "parity_panel", "quiet_panel"]


@lru_cache(maxsize=3)
def quiet_panel(kind: str, seed: int = 0) -> Toy:
    return toy_market(kind, seed)


def parity_panel(seed: int = 0) -> Toy:
    """Three factors of six features each, +1 or -1, whose product is 1, and 16 features of noise; all of SD 1.

    A planted stock-day has the product -1: each factor and each pair of them is as ever. Only three directions of 34
    tell it, and only their principal share of the variance says which they are.
    """
    rng, sessions, stocks = np.random.default_rng(seed), 420, 10
    factor = rng.choice([-1.0, 1.0], (sessions, stocks, 2))
    factor = np.concatenate([factor, factor.prod(-1, keepdims=True)], -1)
    marked = np.zeros((sessions, stocks), bool)
    for t in range(280, sessions, 10):
        marked[t, rng.choice(stocks, 2, replace=False)] = True
    factor[marked, 2] *= -1
    known = np.repeat(factor, 6, -1) + 0.2 * rng.normal(size=(sessions, stocks, 18))
    x = np.concatenate([known, rng.normal(size=(sessions, stocks, 16))], -1).astype(np.float32)
    bare = plain_panel(0.01 * rng.normal(size=marked.shape), 13 + rng.normal(size=marked.shape))
    day = np.arange(sessions)
    return Toy(replace(bare, x=x, features=[f"f{j}" for j in range(34)]), day < 260, marked)
