"""A forecast times a tail is a value at risk: every pair, their backtests, and the alarms they give."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_routing.evaluation.statistics import clopper_pearson
from anomaly_routing.panel import Splits
from anomaly_routing.risk import backtests
from anomaly_routing.risk.forecasts import LAGS, Forecast, constant, garch_t, har, stretches
from anomaly_routing.risk.lstm import LSTM_NUMERICS, LstmSettings, lstm_outputs, unscale
from anomaly_routing.risk.realised_variance import INDEX, Asset
from anomaly_routing.risk.tails import TAILS, Tail, evt
from anomaly_routing.runs import Run, RunKey, RunStore

VOLUME, PRICE_ONLY = "lstm_volume", "lstm"
PLAIN = {"constant": constant, "garch_t": garch_t, "har": har, "har_volume": lambda a, s: har(a, s, with_volume=True)}
ROLLING = ("rolling", "historical")  # plain historical simulation, the desk's usual
ROLLING_WINDOW = 250
PUBLISHED = {  # what joins the scoreboard: method -> (model, title, reference)
    "lstm_rv_evt": (VOLUME, "LSTM-RV-EVT, loss over VaR", "the catalogue page, summary; AUDIT 6"),
    "har_rv_evt": ("har", "HAR-RV-EVT, loss over VaR", "Corsi 2009; McNeil & Frey 2000"),
    "garch_t_evt": ("garch_t", "GARCH-t-EVT, loss over VaR", "Bollerslev 1987; McNeil & Frey 2000"),
}
SYSTEMS_NUMERICS = 1  # of the alarms; raised by hand when their arithmetic changes

Forecasts = dict[tuple[str, int], list[Forecast]]  # (model, seed) -> one an asset


# --- forecasts --------------------------------------------------------------------------------------------------------
def plain_forecasts(assets: list[Asset], spans: list[slice]) -> Forecasts:
    """Every forecast without a seed, under seed 0."""
    jobs = tqdm(PLAIN.items(), total=len(PLAIN), desc="forecasts", unit="model")
    return {(name, 0): [make(asset, spans) for asset in assets] for name, make in jobs}


def lstm_forecasts(
    assets: list[Asset],
    spans: list[slice],
    store: RunStore,
    market: str,
    data_hash: str,
    seeds: Iterable[int],
    settings: LstmSettings | None = None,
) -> tuple[Forecasts, dict[tuple[str, int], float]]:
    """The LSTM with and without volume, for every seed; and the processor seconds that each took.

    A stored unit is one variant and seed over all assets; it is trained when `store` lacks it.
    """
    settings = settings or LstmSettings()
    sessions, names = assets[0].sessions, [asset.name for asset in assets]
    jobs = [(model, seed) for seed in seeds for model in (VOLUME, PRICE_ONLY)]
    made, seconds = {}, {}
    for model, seed in tqdm(jobs, desc="LSTM", unit="run"):
        config = settings.__dict__ | {"assets": names, "first": f"{sessions[spans[0].start]:%Y-%m-%d}"}
        key = RunKey(market, model, "forecast", seed, config, data_hash, LSTM_NUMERICS)

        def train(model: str = model, seed: int = seed) -> Run:
            started = time.process_time()  # what it costs, however busy the machine
            columns = [lstm_outputs(asset, spans, seed, model == VOLUME, settings) for asset in assets]
            spent = round(time.process_time() - started, 2)
            info = {"device": "cpu", "machine": platform.machine(), "seconds": spent}
            return Run(np.stack(columns, axis=1)[LAGS:], sessions[LAGS:], names, pd.DataFrame(index=sessions[:0]), info)

        run = store.get(key, train)
        outputs = np.vstack([np.full((LAGS, len(assets)), np.nan), run.score])
        made[model, seed] = [unscale(asset, outputs[:, i], spans) for i, asset in enumerate(assets)]
        seconds[model, seed] = run.info["seconds"]
    return made, seconds


def losses_of(
    assets: list[Asset], forecasts: Forecasts, out: slice, loss: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """model -> its loss against the variance proxy, [seeds, sessions of `out`, assets]; loss(realised, forecast)."""
    found: dict[str, list[np.ndarray]] = {}
    for (model, _), made in sorted(forecasts.items()):
        columns = [loss(a.variance[out], f.variance[out]) for a, f in zip(assets, made, strict=True)]
        found.setdefault(model, []).append(np.stack(columns, axis=1))
    return {model: np.stack(parts) for model, parts in found.items()}


# --- value at risk ----------------------------------------------------------------------------------------------------
def value_at_risk(
    asset: Asset, forecast: Forecast, spans: list[slice], tail: str, p: float, threshold_quantile: float = 0.9
) -> tuple[np.ndarray, np.ndarray]:
    """VaR and expected shortfall of each session, positive losses in log returns, [S] each; NaN in the first 22 rows.

    The tail is fitted to -return/sigma of the sessions before each span, and multiplies that span's sigmas.
    """
    losses = -asset.returns / forecast.sigma
    var, shortfall = np.full((2, len(losses)), np.nan)
    for end, served in stretches(spans):
        past = losses[LAGS:end]
        fitted: Tail = evt(past, p, threshold_quantile) if tail == "evt" else TAILS[tail](past, p)
        var[served], shortfall[served] = forecast.sigma[served] * fitted.var, forecast.sigma[served] * fitted.es
    return var, shortfall


def rolling_historical(returns: np.ndarray, p: float, window: int = ROLLING_WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """Empirical VaR and shortfall of the `window` returns before each session, [S]; NaN while there are fewer."""
    var, shortfall = np.full((2, len(returns)), np.nan)
    past = np.sort(np.lib.stride_tricks.sliding_window_view(-returns, window)[:-1], axis=1)
    var[window:] = np.quantile(past, 1 - p, axis=1)
    beyond = past >= var[window:, None]
    shortfall[window:] = (past * beyond).sum(axis=1) / beyond.sum(axis=1)
    return var, shortfall


def all_systems(
    assets: list[Asset], forecasts: Forecasts, spans: list[slice], p: float, threshold_quantile: float = 0.9
) -> dict[tuple[str, str, int], tuple[np.ndarray, np.ndarray]]:
    """(model, tail, seed) -> VaR and shortfall, [S, assets] each: every forecast with a Gaussian, an empirical
    (filtered historical simulation) and an EVT tail, GARCH-t with its Student tail too, and historical simulation on
    250 raw returns, which has no forecast.
    """
    systems = {}
    for (model, seed), made in tqdm(forecasts.items(), desc="tails", unit="forecast"):
        for tail in ("gaussian", "filtered historical", "evt", *(["student"] if model == "garch_t" else [])):
            pairs = [value_at_risk(a, f, spans, tail, p, threshold_quantile) for a, f in zip(assets, made, strict=True)]
            systems[model, tail, seed] = tuple(np.stack(part, axis=1) for part in zip(*pairs, strict=True))
    pairs = [rolling_historical(asset.returns, p) for asset in assets]
    systems[*ROLLING, 0] = tuple(np.stack(part, axis=1) for part in zip(*pairs, strict=True))
    return systems


def backtest(returns: np.ndarray, var: np.ndarray, shortfall: np.ndarray, p: float) -> dict[str, Any]:
    """One line: sessions, violations, ratio with its exact 95% interval, p-values of the four tests (all but Kupiec's
    simulated, NaN where there are too few violations for the test), mean quantile loss in basis points, and the mean
    loss on violations over the mean shortfall forecast for them.
    """
    hits = backtests.violations(returns, var)
    x, n = int(hits.sum()), len(hits)
    low, high = clopper_pearson(x, n)
    return {
        "sessions": n, "violations": x, "ratio": x / n, "low": low, "high": high,
        "p Kupiec": backtests.kupiec(x, n, p).p,
        "p independence": backtests.simulated_p("independence", hits, p),
        "p conditional": backtests.simulated_p("conditional", hits, p),
        "p duration": backtests.simulated_p("duration", hits, p),
        "quantile loss": 1e4 * float(backtests.quantile_loss(returns, var, p).mean()),
        "loss over shortfall": float(-returns[hits].sum() / shortfall[hits].sum()) if x else np.nan,
    }  # fmt: skip


def backtest_all(
    assets: list[Asset], systems: dict[tuple[str, str, int], tuple[np.ndarray, np.ndarray]], out: slice, p: float
) -> pd.DataFrame:
    """A line a system, seed and asset, over the sessions `out`; columns model, tail, seed, asset and of `backtest`."""
    rows = []
    for (model, tail, seed), (var, shortfall) in systems.items():
        for i, asset in enumerate(assets):
            line = backtest(asset.returns[out], var[out, i], shortfall[out, i], p)
            rows.append({"model": model, "tail": tail, "seed": seed, "asset": asset.name} | line)
    return pd.DataFrame(rows)


# --- the scoreboard ---------------------------------------------------------------------------------------------------
def alarm_series(assets: list[Asset], var: np.ndarray) -> pd.DataFrame:
    """Loss over VaR by session: `mean` of the equal-weight index (above 1: a violation), `max` over all assets, `share`
    of assets in violation, `banks` empty; index = sessions. The names are those that every stored run has.
    """
    returns = np.stack([asset.returns for asset in assets], axis=1)
    if assets[0].name != INDEX:
        raise ValueError(f"the first asset is {assets[0].name}, not the index")
    over = -returns / var
    columns = {"mean": over[:, 0], "max": over.max(axis=1), "banks": np.nan, "share": (over > 1).mean(axis=1)}
    return pd.DataFrame(columns, index=assets[0].sessions)


def publish(
    assets: list[Asset],
    systems: dict[tuple[str, str, int], tuple[np.ndarray, np.ndarray]],
    spans: list[slice],
    splits: Splits,
    store: RunStore,
    market: str,
    data_hash: str,
    tier: str,
    settings: dict[str, Any],
    seconds: dict[tuple[str, int], float],
) -> list[RunKey]:
    """Store the alarms of the systems with a row on the scoreboard, and mark them current.

    Kept as ranks: the loss of the index over its VaR would be a path of returns. Sessions before the first span carry
    in-sample parameters, as every detector's training sessions do. settings : what else the numbers depend on.
    """
    keys, sessions = [], assets[0].sessions
    for method, (model, title, reference) in PUBLISHED.items():
        seeds = sorted(seed for m, tail, seed in systems if (m, tail) == (model, "evt"))
        for seed in seeds:
            daily = alarm_series(assets, systems[model, "evt", seed][0])[splits.scored(sessions)]
            config = settings | {"splits": splits.__dict__, "assets": [a.name for a in assets]}
            config["first"] = f"{sessions[spans[0].start]:%Y-%m-%d}"
            numerics = 100 * LSTM_NUMERICS + SYSTEMS_NUMERICS
            key = RunKey(market, method, "causal", seed, config, data_hash, numerics)
            info = {
                "family": "value at risk", "title": title, "reference": reference, "lookahead": False,
                "stochastic": model == VOLUME, "tier": tier, "device": "cpu", "machine": platform.machine(),
                "seconds": seconds.get((model, seed), 0.0), "flagged": None,
            }  # fmt: skip
            nothing = np.empty((0, len(assets)), np.float32)
            store.save(key, Run(nothing, daily.index[:0], [a.name for a in assets], daily.rank(), info))
            keys.append(key)
    store.mark_current(keys)
    return keys
