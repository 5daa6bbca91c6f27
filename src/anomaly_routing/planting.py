"""From a plant to what a detector sees: every feature of every stock computed again, scaled with the frozen statistics.

Only the sessions around the plant are computed. That is exact: all features but three look back at most `SHORT`
sessions; turnover looks back 250, and the recursions of rsi and macd forget their start by a factor of at least 13/14 a
session, so that after `LONG` sessions it lies far below float32's resolution. A test compares with the whole panel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from anomaly_routing.data.bars import Bars
from anomaly_routing.data.changes import PlantError
from anomaly_routing.data.plants import Plant, alter, check
from anomaly_routing.data.prior_graph import prior_graph
from anomaly_routing.data.simulate import default_splits, simulate_market
from anomaly_routing.data.sources import MarketData, data_hash, from_frames, load_market
from anomaly_routing.evaluation.events import load_events
from anomaly_routing.features.catalogue import features
from anomaly_routing.features.inputs import Inputs
from anomaly_routing.features.panel import FEATURES_NUMERICS, Scaler, build_panel, compute_features, fit_scaler
from anomaly_routing.features.store import load_features
from anomaly_routing.features.stress import stress_indicators
from anomaly_routing.panel import FEATURE_WINDOW, Splits
from anomaly_routing.paths import MarketPaths
from anomaly_routing.tensors import Tensors

SHORT, LONG = 30, 360  # sessions of run-up before the first altered one
LONG_MEMORY = ("turnover", "rsi", "macd")
AROUND_EVENT = 20  # sessions before and after an event that carry no plant


@dataclass(frozen=True)
class Ground:
    """A market into which plants are put, with its frozen scaling and its undisturbed tensors."""

    bars: Bars
    universe: pd.DataFrame
    scaler: Scaler
    tensors: Tensors


@dataclass(frozen=True)
class Planted:
    """What one plant made of the market, for the sessions onset .. onset + D - 1 and the 19 before; N stocks.

    x : float32 [D + 19, N, F]. active : bool [D, N]. stress : float64 [D, 4]. returns, log_volume : [D + 20, N], one
    session more, for what compares a return with the 20 before it.
    """

    plant: Plant
    x: np.ndarray
    active: np.ndarray
    stress: np.ndarray
    returns: np.ndarray
    log_volume: np.ndarray


def stored_ground(paths: MarketPaths, tensors: Tensors) -> Ground:
    """The market as notebooks 01 and 02 left it."""
    market = load_market(paths.interim / "market")
    scaler = load_features(paths.interim / "features.npz").scaler
    return Ground(Bars(market.prices, tensors.tickers, tensors.sessions), market.universe, scaler, tensors)


def simulated_ground(
    seed: int, n_stocks: int, n_sessions: int, splits: Splits | None = None, name: str = "simulated"
) -> Ground:
    """The twin of a simulated market: the same random numbers without the dated events, hence calm throughout."""
    market = simulate_market(seed=seed, n_stocks=n_stocks, n_sessions=n_sessions, with_events=False)
    tables = market.prices, market.universe, market.benchmarks
    data = from_frames(*tables, sectors=sorted(set(market.universe["sector"])), source="simulated")
    return made_ground(data, splits or default_splits(n_sessions), name)


def made_ground(data: MarketData, splits: Splits, name: str) -> Ground:
    """Features, scaling and tensors from the prices up."""
    raw = compute_features(data.prices, data.universe, data.sessions)
    scaler = fit_scaler(raw, splits.train(data.sessions), data.universe["sector"].to_numpy(object))
    panel = build_panel(raw, scaler, data.prices, data.universe, data.benchmarks, prior_graph(data.universe))
    tensors = Tensors.from_panel(panel, splits, name, data_hash(data), FEATURES_NUMERICS)
    return Ground(Bars(data.prices, tensors.tickers, tensors.sessions), data.universe, scaler, tensors)


def calm_sessions(tensors: Tensors, events: pd.DataFrame, part: np.ndarray | None = None) -> np.ndarray:
    """Bool [S]: test sessions with I1 below its training median, 20 sessions away from every event (SPEC 9.5).

    part : another span than the test sessions.
    """
    volatility = tensors.stress[:, 0]
    calm = (tensors.test if part is None else part) & (volatility < np.nanmedian(volatility[tensors.train]))
    for t in tensors.sessions.searchsorted(pd.DatetimeIndex(events["date"])):
        calm[max(t - AROUND_EVENT, 0) : t + AROUND_EVENT + 1] = False
    return calm


@dataclass(frozen=True)
class Bench:
    """Where a market's plants are put. stored, dated : its tensors and dated events as notebooks 01 and 02 left them.

    ground : the same market, or the twin of a simulated one without its events. calm : `calm_sessions`.
    """

    stored: Tensors
    dated: pd.DataFrame
    ground: Ground
    calm: np.ndarray


def bench(paths: MarketPaths, splits: Splits, market_seed: int | None) -> Bench:
    """The bench of a market. market_seed : of a simulated market; None for a real one."""
    stored = Tensors.load(paths.interim / "tensors.npz")
    dated = load_events(paths.interim / "events.yaml", stored.sessions, splits)
    if market_seed is None:
        ground = stored_ground(paths, stored)
        return Bench(stored, dated, ground, calm_sessions(ground.tensors, dated))
    ground = simulated_ground(market_seed, len(stored.tickers), len(stored.sessions), splits, paths.name)
    return Bench(stored, dated, ground, calm_sessions(ground.tensors, dated.iloc[:0]))


def plant_and_recompute(ground: Ground, plant: Plant) -> Planted:
    """Alter the prices, compute all features of all stocks again, scale them.

    Raises PlantError (see `data.plants.alter`), also for a stock that trades but is not active on a session on which it
    is graded: a detector has no score for it.
    """
    check(plant, ground.bars)
    out = plant.graded(len(ground.bars.tickers)) & ~ground.tensors.active[plant.onset : plant.last + 1]
    if out.any():
        names = ", ".join(ground.bars.tickers[out.any(0)])
        when = f"{plant.mechanism} plant of {ground.bars.sessions[plant.onset]:%Y-%m-%d}"
        raise PlantError(f"{when}: {names} trades but is not active on every session of it: choose other stocks")
    far = max(0, plant.first - LONG)
    changed = alter(ground.bars.copy(far, plant.last), [replace(plant, onset=plant.onset - far)])
    near = max(0, plant.first - far - SHORT)
    recent = changed.copy(near)
    slow, fast = (Inputs(bars.table(), ground.universe, bars.sessions) for bars in (changed, recent))
    raw = np.empty((*fast.p.shape, len(features())), np.float32)
    for k, column in enumerate(features()):
        values = column.compute(slow)[near:] if column.name in LONG_MEMORY else column.compute(fast)
        raw[:, :, k] = np.where(fast.traded, values, np.nan)
    return _scaled(ground, plant, far + near, raw, fast)


def _scaled(ground: Ground, plant: Plant, begin: int, raw: np.ndarray, w: Inputs) -> Planted:
    """Scale and cut. begin : session of the first row of `raw`. Before the plant nothing has moved, so what stands in
    the tensors stays; who is active stays too, since the stocks traded before the plant and trade with it."""
    tensors, fresh = ground.tensors, plant.first - begin
    active = tensors.active[begin : plant.last + 1]
    x = ground.scaler.scale_values(raw, active)
    x[:fresh] = tensors.x[begin : plant.first]
    names = list(tensors.features)
    spread, amihud = (x[:, :, names.index(name)] for name in ("spread", "amihud"))
    stress = stress_indicators(w.r, active, raw[:, :, names.index("ext_z")], spread, amihud)
    first = plant.onset - begin
    window, quoted = slice(first - FEATURE_WINDOW + 1, None), slice(first - FEATURE_WINDOW, None)
    log_volume = np.log(np.where(w.traded, w.volume, np.nan))
    return Planted(plant, x[window], active[first:], stress[first:], w.r[quoted], log_volume[quoted])
