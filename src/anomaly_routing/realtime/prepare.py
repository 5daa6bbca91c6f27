"""From a market's history to a monitor: fit on the training sessions, calibrate on them and validation, then go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_routing.baselines.classical.isolation_forest import IsolationForest
from anomaly_routing.baselines.streaming.memstream import MemStream
from anomaly_routing.baselines.streaming.rolling_z import RollingZ
from anomaly_routing.data.prior_graph import prior_graph
from anomaly_routing.data.sources import MarketData
from anomaly_routing.features.inputs import Inputs
from anomaly_routing.features.panel import build_panel, compute_features, fit_scaler
from anomaly_routing.features.store import FeatureFile
from anomaly_routing.features.streaming import FeatureState, FeatureStream
from anomaly_routing.model.checkpoints import load_checkpoint
from anomaly_routing.model.errors import TrainingError
from anomaly_routing.model.network import Network
from anomaly_routing.model.pressure_index import alert_cuts
from anomaly_routing.panel import Panel, Splits
from anomaly_routing.realtime.methods import (
    Method,
    StreamingForest,
    StreamingMemory,
    StreamingModel,
    StreamingZScore,
)
from anomaly_routing.realtime.monitor import ALARM_QUANTILE, Calibration, Monitor, MonitorState
from anomaly_routing.realtime.sessions import Gate, usual_pauses
from anomaly_routing.runs import Run, read_run

METHODS = ("zscore", "isolation_forest", "memstream", "model")


@dataclass(frozen=True)
class History:
    """A market up to a session, as the batch code sees it, and the splits that say what may be fitted on."""

    panel: Panel
    features: FeatureState
    stream: FeatureStream
    splits: Splits
    close: np.ndarray  # [N], last close and adj_close of each stock
    adjusted: np.ndarray

    def mask(self, part: str) -> np.ndarray:
        return getattr(self.splits, part)(self.panel.sessions)


def read_history(
    market: MarketData, splits: Splits, until: pd.Timestamp | str, stored: FeatureFile | None = None
) -> History:
    """The market up to and including `until`, a session after the validation split.

    stored : features and scaling of notebook 02, if they are there; otherwise both are computed from the prices.
    """
    until = pd.Timestamp(until)
    val = market.sessions[market.sessions <= pd.Timestamp(splits.val_end)]
    if not len(val) or until < val[-1]:
        raise ValueError(
            f"a monitor starts after the validation split, which ends {splits.val_end}, not {until:%Y-%m-%d}"
        )
    prices = market.prices[market.prices["date"] <= until]
    days = market.sessions[market.sessions <= until]
    sector = market.universe["sector"].to_numpy(object)
    raw = compute_features(prices, market.universe, days) if stored is None else stored.features.sel(session=days)
    scaler = fit_scaler(raw, splits.train(days), sector) if stored is None else stored.scaler
    panel = build_panel(raw, scaler, prices, market.universe, prior=prior_graph(market.universe))
    inputs = Inputs(prices, market.universe, days)
    last = prices.groupby("ticker")[["close", "adj_close"]].last().reindex(panel.tickers)
    return History(
        panel,
        FeatureState.after(inputs, raw.to_numpy(), panel.active),
        FeatureStream(inputs.sector, inputs.shares, scaler),
        splits,
        *last.to_numpy(float).T,
    )


def fitted_method(name: str, history: History, *, seed: int = 0, epochs: int = 100) -> tuple[Method, Calibration]:
    """A detector without a checkpoint, fitted on the training sessions, and what turns its scores into levels."""
    known = history.panel.sessions <= pd.Timestamp(history.splits.val_end)
    panel, train = _cut(history.panel, known), history.mask("train")[known]
    if name == "zscore":
        batch = RollingZ().fit(panel, train)
        method: Method = StreamingZScore(batch)
    elif name == "isolation_forest":
        batch = IsolationForest(seed=seed).fit(panel, train)
        method = StreamingForest(batch)
    elif name == "memstream":
        batch = MemStream(seed=seed, epochs=epochs, device="cpu").fit(panel, train, label="memstream")
        method = StreamingMemory(batch)
    else:
        raise ValueError(f"no method {name!r} to fit; there are: {', '.join(METHODS[:-1])}")
    raw = batch.decision_function(panel).astype(float)
    return method, Calibration.fit(raw, panel.active, train, history.mask("val")[known])


def trained_model(checkpoint: Path, runs: Path, history: History) -> tuple[StreamingModel, Calibration]:
    """The full model of a committed checkpoint, and the statistics that its run was stored with.

    Raises TrainingError when the checkpoint cannot follow a stream, its run is not in the store, or other stocks are
    here than it was trained on.
    """
    if not checkpoint.exists():
        raise TrainingError(f"{checkpoint} is not there: name a preset whose checkpoint is in reports, or train it")
    net, info = load_checkpoint(checkpoint)
    if net.config.score_stats != "train" or net.config.psi_norm != "train":
        raise TrainingError(
            f"{checkpoint}: its scores use later sessions (A64), so no stream can give them; use intended"
        )
    if not (runs / info["run"]).exists():
        raise TrainingError(f"{runs / info['run']} is not there: run the stage `model`, which stores it")
    run = read_run(runs / info["run"])
    if run.tickers != history.panel.tickers:
        raise TrainingError(f"{checkpoint} was trained on {len(run.tickers)} other stocks, or in another order")
    return model_method(net, history), run_calibration(run, history)


def model_method(net: Network, history: History) -> StreamingModel:
    """Frozen weights on this market's prior graph and scale of stress."""
    return StreamingModel(net, history.panel.prior, history.panel.stress[history.mask("train")])


def run_calibration(run: Run, history: History) -> Calibration:
    """Mean and SD of the error and theta_s as stored; cuts from the stored daily series of the validation sessions."""
    val = history.splits.val(run.daily.index)
    mpi, mean = run.daily["mpi"].to_numpy(float), run.daily["mean"].to_numpy(float)
    stored = (run.info[f"{name}_tail"] for name in ("mu", "sigma", "theta_s"))
    return Calibration(*stored, alert_cuts(mpi, val), float(np.quantile(mean[val], ALARM_QUANTILE)))


def start_monitor(
    history: History,
    fitted: dict[str, tuple[Method, Calibration]],
    calendar: str,
    model: str = "",
) -> Monitor:
    """A monitor whose next session is the one after the history's last."""
    methods, calibrations = ({name: pair[k] for name, pair in fitted.items()} for k in (0, 1))
    states = {name: method.after(history.panel) for name, method in methods.items()}
    state = MonitorState(history.panel.sessions[-1], history.close, history.adjusted, history.features, states)
    config = {"config": methods["model"].net.config} if "model" in methods else {}
    gate = Gate(list(history.panel.tickers), calendar, usual_pauses(history.panel.sessions))
    return Monitor(gate, history.stream, methods, calibrations, state, model=model, **config)


def fit_methods(names: Iterable[str], history: History, **settings: int) -> dict[str, tuple[Method, Calibration]]:
    """`fitted_method` for several names."""
    return {name: fitted_method(name, history, **settings) for name in names}


def _cut(panel: Panel, kept: np.ndarray) -> Panel:
    """The panel with the marked sessions alone."""
    by_session = ("sessions", "x", "active", "returns", "log_volume", "stress")
    benchmarks = panel.benchmarks.loc[panel.sessions[kept]] if len(panel.benchmarks) else panel.benchmarks
    return replace(panel, benchmarks=benchmarks, **{name: getattr(panel, name)[kept] for name in by_session})
