"""Quiet anomalies: the toy market's (`anomaly_routing.baselines.toy`), and two sets that need a trained encoder."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from anomaly_routing.baselines.toy import KINDS, Toy, toy_market
from anomaly_routing.baselines.toy import toy_auroc as auroc
from anomaly_routing.panel import Panel, plain_panel

__all__ = ["KINDS", "auroc", "coupled_panel", "parity_panel", "quiet_panel"]


@lru_cache(maxsize=3)
def quiet_panel(kind: str, seed: int = 0) -> Toy:
    return toy_market(kind, seed)


class Quiet(NamedTuple):
    """A panel, its training sessions [S], the planted stock-days [S, N] and those that are judged [S, N]."""

    panel: Panel
    train: np.ndarray
    marked: np.ndarray
    judged: np.ndarray


def parity_panel(seed: int = 0) -> Quiet:
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
    judged = (day >= 280)[:, None] & np.ones_like(marked)
    return Quiet(replace(bare, x=x, features=[f"f{j}" for j in range(34)]), day < 260, marked, judged)


def coupled_panel(seed: int = 0) -> Quiet:
    """Five stocks with waves of 12 sessions in price and volume together, five with waves of 7 against each other, in
    noise. Late in the series three stocks of either half have the other half's coupling for 40 sessions.

    Both couplings are ordinary, each with its own pace: without the cluster of a window nothing is wrong with it, and
    in this noise only a trained metric keeps the paces apart.
    """
    rng, sessions, stocks = np.random.default_rng(seed), 500, 10
    slow, day = np.arange(stocks) < 5, np.arange(sessions)
    wave = np.sin(2 * np.pi * day[:, None] / np.where(slow, 12, 7) + rng.uniform(0, 6, stocks))
    sign = np.where(slow, 1.0, -1.0) * np.ones((sessions, 1))
    marked = np.zeros((sessions, stocks), bool)
    for k, i in enumerate((0, 2, 4, 5, 7, 9)):
        first = 320 + 20 * k
        sign[first : first + 40, i] *= -1
        marked[first + 19 : first + 40, i] = True
    price = 0.05 * wave + 0.02 * rng.normal(size=wave.shape)
    volume = 13 + 0.4 * sign * wave + 0.2 * rng.normal(size=wave.shape)
    panel = plain_panel(np.diff(price, axis=0, prepend=price[:1]), volume)
    return Quiet(panel, (day >= 20) & (day < 300), marked, (day >= 320)[:, None] & np.ones_like(marked))
