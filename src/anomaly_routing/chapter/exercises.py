"""The worked answers of notebook 10, computed on its own planted panel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest

from anomaly_routing.baselines.classical.learners import score_rows
from anomaly_routing.baselines.inputs import RobustScaling, fit_rows, ratio, robust_scale, rolling_moments, subsample
from anomaly_routing.chapter.planted import Planted, equal_cut, found
from anomaly_routing.chapter.study import run_detectors

SMALLER = 4.0  # standard deviations of a point planted in training
RECENT = 5  # sessions
FLOOR = 1e-4  # of a standard deviation of returns, so that a flat week has a logarithm


def points_in_training(planted: Planted, train: np.ndarray, counts: dict[str, int], seed: int = 0) -> pd.DataFrame:
    """Masking: points of four SDs in the training days, and what it does to the late points. counts : text -> how many
    stock-days. A row a method and text: share of the late points found, and their median score over the cut."""
    panel, rows = planted.panel, []
    late = np.argwhere(planted.kind == 1)
    sd = np.nanstd(np.where(panel.active, panel.returns, np.nan), axis=0)
    places = np.argwhere(panel.active & train[:, None])
    for text, n in counts.items():
        rng, returns = np.random.default_rng(seed), panel.returns.copy()
        for t, i in places[rng.permutation(len(places))[:n]]:
            returns[t, i] = SMALLER * sd[i] * rng.choice([-1, 1])
        scored = run_detectors(replace(panel, returns=returns), train, ["zscore", "modified_zscore"], seed)
        for method in ("zscore", "modified_zscore"):
            own = scored[method, "causal"]
            over = own.score[late[:, 0], late[:, 1]] / own.cut
            rows.append((method, text, n, float((over > 1).mean()), float(np.median(over))))
    return pd.DataFrame(rows, columns=["method", "planted in training", "stock-days", "found", "score over cut"])


def score_left(planted_in_training: pd.DataFrame) -> pd.DataFrame:
    """What the median score of the late points keeps of that without plants in training, methods by texts; table of
    `points_in_training` with a row of no plants. The cuts are the same throughout."""
    over = planted_in_training.pivot_table("score over cut", "method", "planted in training")
    none = planted_in_training.loc[planted_in_training["stock-days"] == 0].set_index("method")["score over cut"]
    return over.div(none, axis=0)


def hidden_among_equals(size: float = 12.0, every: int = 8, n: int = 1000, seed: int = 0) -> dict[str, float]:
    """Share of its own plants that each rule finds at the chapter's cut: n Gaussian days, each `every`-th a point of
    `size` standard deviations. No z-score there exceeds sqrt(every), whatever the size."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    x[::every] = size * rng.choice([-1, 1], len(x[::every]))
    robust = 1.4826 * np.median(np.abs(x - np.median(x)))
    return {
        "zscore": float(np.mean(np.abs(x[::every] - x.mean()) / x.std() > 3)),
        "modified_zscore": float(np.mean(np.abs(x[::every] - np.median(x)) / robust > 3.5)),
    }


def with_one_more_input(
    planted: Planted, train: np.ndarray, budget: float, max_rows: int, seed: int = 0
) -> pd.DataFrame:
    """Share of the collective anomalies that an Isolation Forest finds with its three inputs, and with a fourth that
    looks at the last five sessions: fitted on the training days, and on all days. Every forest flags `budget` of the
    quiet late stock-days. A tree knows no value beyond those that it was grown on, so the two can differ much."""
    panel, usable = planted.panel, fit_rows(planted.panel, "causal", train)
    three = RobustScaling.fit(panel, usable).transform(panel)
    observed = np.where(panel.active, panel.returns, np.nan)
    sd = rolling_moments(observed, RECENT, RECENT)[1]
    still = pd.DataFrame(observed == 0).rolling(RECENT).sum().to_numpy()
    fourth = {
        "SD of five returns": sd,
        "ln of that SD": np.log(np.maximum(sd, FLOOR)),
        "sessions without a move": still,
    }
    forests = {"three inputs": three} | {
        name: np.concatenate([three, _scaled(values, usable)[..., None]], axis=-1) for name, values in fourth.items()
    }
    shares = []
    fits = [(name, inputs, *fit) for name, inputs in forests.items()
            for fit in (("training days", usable), ("all days", panel.active))]  # fmt: skip
    for name, inputs, days, fitted in fits:
        rows = inputs[fitted]
        rows = rows[np.isfinite(rows).all(axis=1)]
        rows = rows[subsample(rows, max_rows, np.random.default_rng(seed))]
        forest = IsolationForest(random_state=seed).fit(rows)
        score = score_rows(inputs, lambda own, forest=forest: -forest.score_samples(own))
        cut = equal_cut(planted, score, ~train, budget)
        shares.append((name, days, float(found(planted, score, cut, ~train)["collective"])))
    return pd.DataFrame(shares, columns=["inputs", "fitted on", "found"])


def _scaled(values: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """By median and robust scale of each stock's training days; 0 where these do not vary."""
    out = np.full(values.shape, np.nan)
    for i in range(values.shape[1]):
        own = values[usable[:, i] & np.isfinite(values[:, i]), i]
        scale = robust_scale(own) or 1.0
        out[:, i] = ratio(values[:, i] - np.median(own), np.full(len(values), scale))
    return out
