"""Who forecasts better, whose tail, and how much luck there is in "closest": the tables of notebook 09.

`losses` are those of `all_losses`; `qlike` is the part of that name: model -> [seeds, sessions, assets]. `systems` is
(model, tail, seed) -> VaR and shortfall, [S, assets] each; `tested` is the table of `systems.backtest_all`; `out` are
the sessions out of sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from anomaly_routing.risk import backtests as bt
from anomaly_routing.risk.forecasts import Forecast
from anomaly_routing.risk.realised_variance import Asset
from anomaly_routing.risk.systems import PRICE_ONLY, ROLLING, VOLUME, Forecasts, losses_of, value_at_risk

ORDER = ("constant", "garch_t", "har", "har_volume", PRICE_ONLY, VOLUME)
LOSSES = {"QLIKE": bt.qlike, "MSE": bt.squared_error, "MSE of ln RV": bt.squared_log_error}
PAIRS = {"LSTM": (PRICE_ONLY, VOLUME), "HAR-RV": ("har", "har_volume")}  # without and with volume
PLAIN = "historical"  # simulation on the last 250 raw returns: one rival for every forecast
SIMPLE_TAILS = ("gaussian", "filtered historical", PLAIN)

Systems = dict[tuple[str, str, int], tuple[np.ndarray, np.ndarray]]


# --- forecasts --------------------------------------------------------------------------------------------------------
def all_losses(assets: list[Asset], forecasts: Forecasts, out: slice) -> dict[str, dict[str, np.ndarray]]:
    """Loss of `LOSSES` -> model -> [seeds, sessions, assets]."""
    return {text: losses_of(assets, forecasts, out, loss) for text, loss in LOSSES.items()}


def mean_losses(losses: dict[str, dict[str, np.ndarray]], names: list[str]) -> pd.DataFrame:
    """Mean over seeds and sessions: a row for every loss and asset, a column for every model of `ORDER`."""
    tables = []
    for text, own in losses.items():
        table = pd.DataFrame({model: own[model].mean(axis=(0, 1)) for model in ORDER}, index=names)
        tables.append(table.rename_axis("asset").reset_index().assign(loss=text))
    return pd.concat(tables)


def relative_losses(losses: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """A row a model: each loss over that of HAR-RV, mean over assets; below 1 is better than HAR-RV. A second column a
    loss for the single stocks alone: the first asset is the index, whose variance has no highs of its own."""
    relative = {}
    for text, own in losses.items():
        ratios = {model: own[model].mean(axis=(0, 1)) / own["har"].mean(axis=(0, 1)) for model in ORDER}
        relative[text] = [ratios[model].mean() for model in ORDER]
        relative[f"{text}, stocks alone"] = [ratios[model][1:].mean() for model in ORDER]
    return pd.DataFrame({"model": ORDER} | relative)


def confidence_sets(qlike: dict[str, np.ndarray], names: list[str], replicates: int) -> pd.DataFrame:
    """p-value of each model in the confidence set of each asset, [models, assets]; losses are means over seeds."""
    sets = {}
    for i, name in enumerate(names):
        own = pd.DataFrame({model: qlike[model].mean(axis=0)[:, i] for model in ORDER})
        sets[name] = bt.confidence_set(own, reps=replicates)
    return pd.DataFrame(sets)


def volume_gain(qlike: dict[str, np.ndarray], pair: tuple[str, str], asset: int | None = None) -> dict[str, float]:
    """Diebold-Mariano of a model without and with volume, in percent of the loss without; `asset` is a position, None
    pools all of them by session. Positive: volume helps."""
    means = [qlike[model].mean(axis=0) for model in pair]
    without, with_volume = means if asset is None else (mean[:, asset] for mean in means)
    d = bt.diebold_mariano(without, with_volume)
    gain, low, high = (100 * v / without.mean() for v in (d.mean, d.low, d.high))
    return {"gain, %": gain, "low": low, "high": high, "p": d.p}


def volume_gains(qlike: dict[str, np.ndarray], names: list[str]) -> pd.DataFrame:
    """`volume_gain` of the LSTM and of HAR-RV for every asset and, as asset "pooled", for all together."""
    assets = [*enumerate(names), (None, "pooled")]
    return pd.DataFrame(
        [{"model": m, "asset": a} | volume_gain(qlike, pair, i) for m, pair in PAIRS.items() for i, a in assets]
    )


def saved_by_seed(qlike: dict[str, np.ndarray], other: str, model: str) -> list[float]:
    """Percent of the loss of `other` that `model` saves, one value for each seed of `model`; a rival without a seed of
    its own stands against all of them."""
    before, after = qlike[other].mean(axis=(1, 2)), qlike[model].mean(axis=(1, 2))
    return list(100 * (1 - after / before))


def p_text(p: float) -> str:
    """A p-value as it is printed: never zero."""
    return "<0.01" if p < 0.01 else f"{p:.2f}"


# --- tails ------------------------------------------------------------------------------------------------------------
def pooled_ratios(tested: pd.DataFrame) -> pd.Series:
    """Violations over sessions of all assets and seeds; index (model, tail)."""
    sums = tested.groupby(["model", "tail"], sort=False)[["violations", "sessions"]].sum()
    return sums["violations"] / sums["sessions"]


def tail_gain(assets: list[Asset], systems: Systems, out: slice, model: str, other: str, p: float) -> np.ndarray:
    """Quantile loss that EVT saves on another tail under one forecast, or on plain historical simulation, which has
    none: percent, low, high. Losses are per SD of the asset's return, mean over seeds, pooled by session."""
    returns = np.stack([a.returns[out] for a in assets], axis=1)
    losses = {}
    for tail, pair in {other: ROLLING if other == PLAIN else (model, other), "evt": (model, "evt")}.items():
        made = [var[out] for (m, t, _), (var, _) in systems.items() if (m, t) == pair]
        losses[tail] = np.mean([bt.quantile_loss(returns, var, p) / returns.std(axis=0) for var in made], axis=0)
    d = bt.diebold_mariano(losses[other], losses["evt"])
    return 100 * np.array([d.mean, d.low, d.high]) / losses[other].mean()


def tail_gains(assets: list[Asset], systems: Systems, out: slice, p: float) -> dict[str, pd.DataFrame]:
    """Other tail -> `tail_gain` of every model, columns gain, low, high in percent; index `ORDER`."""
    return {
        other: pd.DataFrame(
            [tail_gain(assets, systems, out, model, other, p) for model in ORDER], list(ORDER), ["gain", "low", "high"]
        )
        for other in SIMPLE_TAILS
    }


def tail_table(tested: pd.DataFrame, gains: dict[str, pd.DataFrame], p: float) -> pd.DataFrame:
    """A row a model: mean ratio and mean distance from `p` under each tail, and what EVT saves on the others. Plain
    historical simulation has the same ratio in every row."""
    means = tested.assign(distance=(tested.ratio - p).abs()).pivot_table(
        index="model", columns="tail", values=["distance", "ratio"]
    )
    table = pd.DataFrame({"model": ORDER})
    for what in ("ratio", "distance"):
        for tail in (*SIMPLE_TAILS, "evt"):
            rows = [ROLLING[0]] * len(ORDER) if tail == PLAIN else list(ORDER)
            table[f"{what}, {tail}"] = means.loc[rows, (what, tail)].to_numpy()
    for other, found in gains.items():
        names = [f"EVT saves on {other}, %", f"{other}: low", f"{other}: high"]
        table[names] = found.to_numpy()
    return table


def closer_tails(tested: pd.DataFrame, p: float) -> tuple[int, dict[str, tuple[int, int, int]]]:
    """Forecasts and assets compared, and for each of `SIMPLE_TAILS` in how many EVT's ratio is closer to `p`, as close,
    farther. Plain historical simulation has one line an asset, against which every forecast of the asset stands."""
    apart = tested.assign(distance=(tested.ratio - p).abs())
    plain = apart[apart.model == ROLLING[0]].set_index("asset")["distance"]
    wide = apart[apart.model != ROLLING[0]].pivot_table(
        index=["model", "seed", "asset"], columns="tail", values="distance"
    )
    wide[PLAIN] = plain[wide.index.get_level_values("asset")].to_numpy()
    counts = {
        other: tuple(int(c.sum()) for c in (wide.evt < wide[other], wide.evt == wide[other], wide.evt > wide[other]))
        for other in SIMPLE_TAILS
    }
    return len(wide), counts


def ratio_by_threshold(
    asset: Asset, forecast: Forecast, spans: list[slice], p: float, thresholds: tuple[float, ...]
) -> dict[float, float]:
    """Threshold, a quantile of the past losses -> violation ratio under the EVT tail, from the first span on."""
    out = slice(spans[0].start, None)
    ratios = {}
    for q in thresholds:
        var, _ = value_at_risk(asset, forecast, spans, "evt", p, q)
        ratios[q] = float(bt.violations(asset.returns[out], var[out]).mean())
    return ratios


# --- what "closest" is worth ------------------------------------------------------------------------------------------
def closeness(lengths: list[int], p: float) -> pd.DataFrame:
    """For series of these lengths and rates that are wrong: how often Kupiec's test notices, and how often the right
    rate looks closer to `p` than the wrong one."""
    return pd.DataFrame(
        [
            {
                "sessions": n,
                "wrong rate": wrong,
                "Kupiec notices": bt.kupiec_power(n, p, wrong),
                "the right one looks closer": bt.looks_closer(n, p, wrong),
            }
            for n in lengths
            for wrong in (0.5 * p, 1.2 * p, 1.5 * p, 2 * p)
        ]
    )


class Redrawn(NamedTuple):
    """closest : share of the redrawn samples in which each system's ratio is closest to p (ties are shared), sorted.
    stability : rank correlation of the systems' distances in the two halves of the sessions."""

    closest: pd.Series
    stability: float


def redraw(returns: np.ndarray, value_at_risk: dict[str, np.ndarray], p: float, draws: int) -> Redrawn:
    """Sessions drawn again in blocks of 20. returns [n]; value_at_risk : system -> [n], for the same sessions."""
    hits = np.stack([bt.violations(returns, var) for var in value_at_risk.values()], axis=1)
    apart = np.abs(hits[bt.block_draws(len(returns), draws)].mean(axis=1) - p)
    first = np.isclose(apart, apart.min(axis=1, keepdims=True), atol=1e-12)
    shares = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    half = len(returns) // 2
    halves = pd.DataFrame(
        {"first": np.abs(hits[:half].mean(axis=0) - p), "second": np.abs(hits[half:].mean(axis=0) - p)}
    )
    stability = float(halves.corr("spearman").loc["first", "second"])
    return Redrawn(pd.Series(shares, list(value_at_risk)).sort_values(), stability)
