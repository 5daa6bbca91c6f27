"""A small simulated market, prepared once, with the four streaming methods fitted on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from anomaly_routing.data.prior_graph import prior_graph
from anomaly_routing.data.simulate import default_splits, simulate_market
from anomaly_routing.data.sources import MarketData, from_frames
from anomaly_routing.features.panel import build_panel, compute_features
from anomaly_routing.model.config import make_config
from anomaly_routing.model.network import Network
from anomaly_routing.model.outcome import Outcome, outcome
from anomaly_routing.panel import Panel, Splits
from anomaly_routing.realtime.monitor import Calibration, Monitor
from anomaly_routing.realtime.prepare import History, fit_methods, model_method, read_history, start_monitor
from anomaly_routing.tensors import Tensors

SESSIONS = 500
SMALL = {
    "lstm_hidden": 4, "attention_heads": 2, "gcn_layers": 1, "top_k": 3, "latent": 8,
    "expert_hidden": 16, "decoder_hidden": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A market, its history up to the end of validation, what was fitted, and the batch results on all sessions."""

    market: MarketData
    splits: Splits
    history: History
    fitted: dict
    panel: Panel
    found: Outcome

    def monitor(self, **options) -> Monitor:
        return start_monitor(self.history, self.fitted, options.pop("calendar", "XNYS"), "test", **options)

    @property
    def last(self):
        return self.history.panel.sessions[-1]


@pytest.fixture(scope="session")
def prepared() -> Prepared:
    drawn = simulate_market(seed=5, n_stocks=14, n_sessions=SESSIONS)
    market = from_frames(drawn.prices, drawn.universe, drawn.benchmarks)
    splits = Splits(**default_splits(SESSIONS).__dict__)
    until = market.sessions[market.sessions <= splits.val_end][-1]
    history = read_history(market, splits, until)
    fitted = fit_methods(("zscore", "isolation_forest", "memstream"), history, epochs=1)
    torch.manual_seed(0)
    features = compute_features(market.prices, market.universe)
    prior = prior_graph(market.universe)
    panel = build_panel(features, history.stream.scaler, market.prices, market.universe, prior=prior)
    tensors = Tensors.from_panel(panel, splits, "test", "", 0)
    net = Network(len(panel.features), tensors.categories, make_config("intended", **SMALL))
    found = outcome(net, tensors, torch.device("cpu"))
    val = tensors.val[found.rows]
    daily = np.nanmean(found.score, axis=1)
    own = Calibration(found.mu, found.sigma, found.theta_s, np.quantile(found.mpi[val], (0.75, 0.85, 0.95, 0.99)),
                      float(np.quantile(daily[val], 0.95)))  # fmt: skip
    fitted["model"] = (model_method(net, history), own)
    return Prepared(market, splits, history, fitted, panel, found)
