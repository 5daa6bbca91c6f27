"""Panels with quiet anomalies: the size of an ordinary day, wrong in one way alone. What an untrained network, a norm
or a mean cannot see.

`off_factor`: the day's features leave the common factors. `out_of_time`: they are those of another session of the same
stock. `out_of_group`: those of a stock of the other group, in which all stocks move together.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from planted_panel import Planted, planted_panel
from sklearn.metrics import roc_auc_score

KINDS = ("off_factor", "out_of_time", "out_of_group")
SESSIONS, STOCKS, WIDTH, TRAIN_END, FACTORS = 420, 10, 8, 260, 3


@lru_cache(maxsize=3)
def quiet_panel(kind: str, seed: int = 0) -> Planted:
    """Two groups of five stocks (the prior graph links each group). A stock's features are smooth factors of its group
    times fixed loadings, with a little of its own; two stock-days of every tenth test session are planted."""
    rng = np.random.default_rng(seed)
    base = planted_panel(seed).panel
    group = np.arange(STOCKS) % 2
    phase, speed = rng.uniform(0, 2 * np.pi, (2, FACTORS)), rng.uniform(0.25, 0.7, (2, FACTORS))
    day = np.arange(SESSIONS)[:, None, None]
    factor = np.sin(speed * day + phase) + 0.2 * rng.normal(size=(SESSIONS, 2, FACTORS))
    own = factor[:, group] + 0.1 * rng.normal(size=(SESSIONS, STOCKS, FACTORS))
    loadings = rng.normal(size=(FACTORS, WIDTH))
    x = own @ loadings + 0.05 * rng.normal(size=(SESSIONS, STOCKS, WIDTH))
    cells = np.zeros((SESSIONS, STOCKS), bool)
    for t in range(TRAIN_END + 20, SESSIONS, 10):
        cells[t, rng.choice(STOCKS, 2, replace=False)] = True
    cells &= base.active
    planted = x.copy()
    for t, i in np.argwhere(cells):
        if kind == "off_factor":
            noise = rng.normal(size=WIDTH)
            planted[t, i] = noise / np.linalg.norm(noise) * np.linalg.norm(x[t, i])
        elif kind == "out_of_time":
            planted[t, i] = x[_far(x[:, i], t, rng), i]
        else:
            planted[t, i] = factor[t, 1 - group[i]] @ loadings
    planted[~base.active] = 0
    prior = (group[:, None] == group).astype(np.float32) - np.eye(STOCKS, dtype=np.float32)
    panel = replace(base, x=np.clip(planted, -8, 8).astype(np.float32), prior=prior)
    return Planted(panel, np.arange(SESSIONS) < TRAIN_END, cells)


def _far(path: np.ndarray, t: int, rng: np.random.Generator) -> int:
    """A training session whose features are of the size of session t's and far from them."""
    size, distance = np.linalg.norm(path, axis=1), np.linalg.norm(path - path[t], axis=1)
    alike = np.abs(size - size[t]) < 0.25 * size[t]
    alike[TRAIN_END:] = False
    candidates = np.flatnonzero(alike)
    return int(rng.choice(candidates[np.argsort(distance[candidates])[-10:]]))


def auroc(scores: np.ndarray, planted: Planted) -> float:
    """Over the active stock-days from 20 sessions after the training span on."""
    usable = np.isfinite(scores) & (np.arange(SESSIONS) >= TRAIN_END + 20)[:, None]
    return float(roc_auc_score(planted.cells[usable], scores[usable]))
