"""A small synthetic panel with planted anomalies, and parameters that make every detector quick on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from anomaly_routing.baselines.registry import create, detectors
from anomaly_routing.panel import Panel

SESSIONS, STOCKS, TRAIN_END = 420, 10, 260
FEATURES = ["spread", "f1", "f2", "f3", "f4", "f5", "f6", "f7"]
SMALL = {  # a full model of small widths
    "epochs": 2,
    "training": {"learning_rate": 0.003},
    "overrides": {
        "window": 5, "lstm_hidden": 4, "attention_heads": 2, "gcn_layers": 1, "top_k": 3, "latent": 8,
        "expert_hidden": 16, "decoder_hidden": 8,
    },
}  # fmt: skip
QUICK = {  # few epochs: a longer training of lstm_ae or anomaly_dae makes another processor's rounding visible
    "intended": SMALL,
    "literal": SMALL,
    "stl_residual": {"window": 100},
    "seasonal_esd": {"window": 100},
    "isolation_forest": {"n_estimators": 12},
    "dense_autoencoder": {"epochs": 5, "max_rows": 1000},
    "sequence_autoencoder": {"epochs": 4, "max_rows": 1000},
    "vae": {"epochs": 6, "max_rows": 1000, "draws": 10},
    "memstream": {"epochs": 5, "memory": 40},
    "robust_autoencoder": {"epochs": 25, "hidden": 12, "code": 3},
    "real_nvp": {"epochs": 5, "hidden": 16, "pairs": 2},
    "metric_vmf": {"epochs": 3, "window": 5, "modalities": ("price", "volume", "features")},
    "metric_watson": {"epochs": 3, "window": 5},
    "lstm_ae": {"epochs": 8},
    "anomaly_transformer": {"epochs": 2, "window": 10},
    "tranad": {"epochs": 4, "window": 5},
    "mtad_gat": {"epochs": 4, "window": 8, "hidden": 16, "latent": 4},
    "gcn_ae": {"epochs": 5},
    "gat_ae": {"epochs": 4, "heads": 2},
    "dominant": {"epochs": 4},
    "cola": {"epochs": 3, "rounds": 8},
    "anomaly_dae": {"epochs": 10, "code": 4},
    "evolve_gcn": {"epochs": 3},
    "ghrn_star": {"epochs": 5},
    "graph_hawkes": {"epochs": 2, "window": 10, "hidden": 8},
}
EVERY_MODE = [(name, mode) for name, entry in detectors().items() for mode in entry.modes]
CAUSAL = [(name, mode) for name, mode in EVERY_MODE if not detectors()[name].lookahead[mode]]
LOOKAHEAD = [(name, mode) for name, mode in EVERY_MODE if detectors()[name].lookahead[mode]]


@dataclass(frozen=True)
class Planted:
    """A panel, its training sessions, and the stock-days at which every stock-level input was disturbed."""

    panel: Panel
    train: np.ndarray
    cells: np.ndarray


@lru_cache(maxsize=2)
def planted_panel(seed: int = 0) -> Planted:
    """Student-t returns with a weekly season in volume and |return|, features with three common factors; the stress
    indicators are mean |feature| of the day.

    Stock 1 lists at session 200, stock 2 leaves at session 350, stock 3 pauses for four sessions. Every tenth session
    of the test span has two disturbed stocks: a return of 8 SD, 8 times the volume, features off the factors.
    """
    rng = np.random.default_rng(seed)
    day = np.arange(SESSIONS)[:, None]
    season = 1 + 0.3 * np.sin(2 * np.pi * day / 5)
    returns = 0.01 * season * rng.standard_t(5, (SESSIONS, STOCKS))
    log_volume = rng.normal(13, 0.3, STOCKS) + 0.3 * season + rng.normal(0, 0.3, (SESSIONS, STOCKS))
    factors = rng.normal(size=(SESSIONS, STOCKS, 3)) @ rng.normal(size=(3, len(FEATURES)))
    x = factors + 0.3 * rng.normal(size=factors.shape)

    cells = np.zeros((SESSIONS, STOCKS), bool)
    for t in range(TRAIN_END + 20, SESSIONS, 10):
        cells[t, rng.choice(STOCKS, 2, replace=False)] = True
    returns[cells] = 0.08 * rng.choice([-1, 1], cells.sum())
    log_volume[cells] += np.log(8)
    x[cells] = rng.choice([-3.0, 3.0], (cells.sum(), len(FEATURES)))
    x[cells, 0] = 7.0

    active = np.ones((SESSIONS, STOCKS), bool)
    active[:20] = active[:200, 1] = active[350:, 2] = active[310:314, 3] = False
    returns[~active], log_volume[~active], x[~active] = np.nan, np.nan, 0.0
    sessions = pd.bdate_range("2020-01-01", periods=SESSIONS)
    panel = Panel(
        sessions=sessions,
        tickers=[f"S{i}" for i in range(STOCKS)],
        features=FEATURES,
        x=np.clip(x, -8, 8).astype(np.float32),
        active=active,
        returns=returns,
        log_volume=log_volume,
        sector=np.array(["east", "west"] * (STOCKS // 2)),
        is_bank=np.zeros(STOCKS, bool),
        benchmarks=pd.DataFrame({"^VIX": 20 + rng.normal(0, 2, SESSIONS)}, index=sessions),
        group=[
            "price_shock",
            "price_shock",
            "liquidity",
            "liquidity",
            "contagion",
            "contagion",
            "momentum",
            "momentum",
        ],
        prior=1 - np.eye(STOCKS, dtype=np.float32) - (np.add.outer(np.arange(STOCKS), np.arange(STOCKS)) % 2),
        stress=np.abs(x).mean(axis=1)[:, :4],
    )
    return Planted(panel, np.arange(SESSIONS) < TRAIN_END, cells & active)


def altered_after(panel: Panel, cut: int, seed: int = 1) -> Panel:
    """The panel with every input of the sessions after position `cut` made different; stock 4 is gone there."""
    rng = np.random.default_rng(seed)
    returns, log_volume = panel.returns.copy(), panel.log_volume.copy()
    x, active = panel.x.copy(), panel.active.copy()
    later = slice(cut + 1, None)
    returns[later] = 0.5 - 3 * returns[later]
    log_volume[later] += rng.normal(2, 1, log_volume[later].shape)
    x[later] = rng.uniform(-8, 8, x[later].shape)
    active[later, 4] = False
    returns[~active], log_volume[~active], x[~active] = np.nan, np.nan, 0.0
    benchmarks = panel.benchmarks.copy()
    benchmarks.iloc[later] *= 5
    stress = np.where(np.arange(len(active))[:, None] > cut, 5 * panel.stress + 1, panel.stress)
    return replace(
        panel, returns=returns, log_volume=log_volume, x=x, active=active, benchmarks=benchmarks, stress=stress
    )


def quick(name: str, mode: str, seed: int = 0, **params: object):
    """A detector of the registry with quick parameters."""
    return create(name, mode=mode, seed=seed, **(QUICK.get(name, {}) | params))


@lru_cache(maxsize=64)
def fitted(name: str, mode: str):
    """The quick detector, fitted on the planted panel; shared by the tests, which must not change it."""
    planted = planted_panel()
    return quick(name, mode).fit(planted.panel, planted.train)


@lru_cache(maxsize=64)
def scored(name: str, mode: str) -> np.ndarray:
    """Its scores of the planted panel, read-only."""
    scores = fitted(name, mode).decision_function(planted_panel().panel)
    scores.setflags(write=False)
    return scores
