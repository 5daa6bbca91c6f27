"""Claims about the market itself: correlations, kurtosis, jumps, volume, from the panel; only aggregates leave here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from anomaly_routing import case_measures
from anomaly_routing.case_signatures import liquidity_of_banks
from anomaly_routing.claims import Claim
from anomaly_routing.evaluation.detection import AFTERMATH
from anomaly_routing.features.rolling import WINDOW
from anomaly_routing.ledger.deciders.cases import BASELINE
from anomaly_routing.ledger.deciders.training import near_events
from anomaly_routing.ledger.intervals import block_weights, blocks
from anomaly_routing.ledger.registry import decides, table
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding

AFTER = 10  # sessions from an event on that count as its crisis
EDGE = 0.5  # correlation from which two stocks are tied
HIGH = 3.0  # scaled spread above which a stock-day is illiquid


def mean_correlations(sources: Sources, above: float | None = None) -> pd.Series:
    """Mean off-diagonal correlation of the last 20 returns, by session; or the share of pairs above a value (A37)."""
    market = sources.tensors
    found = {}
    for t in np.flatnonzero(market.val | market.test | market.train):
        window = market.returns[t - WINDOW + 1 : t + 1][:, market.active[t]].astype(float)
        window = window[:, np.isfinite(window).all(axis=0)]
        window = window[:, window.std(axis=0) > 0]
        c = np.corrcoef(window.T)[np.triu_indices(window.shape[1], 1)]
        found[market.sessions[t]] = float((c > above).mean() if above is not None else c.mean())
    return pd.Series(found)


def calm(sources: Sources, sessions: pd.DatetimeIndex) -> np.ndarray:
    """Validation and test sessions away from every event; bool [S]."""
    judged = sources.splits.val(sessions) | sources.splits.test(sessions)
    return judged & ~near_events(sources, sessions, AFTERMATH)


def crisis(sources: Sources, sessions: pd.DatetimeIndex, events: tuple[str, ...] = ()) -> np.ndarray:
    """The ten sessions from an event on, its own window of returns then mostly behind it."""
    chosen = sources.events if not events else sources.events[sources.events.id.isin(events)]
    places = sessions.get_indexer(pd.DatetimeIndex(chosen.date).as_unit(sessions.unit))
    offset = np.arange(len(sessions)) - places[places >= 0][:, None]
    return ((offset >= 0) & (offset < AFTER)).any(axis=0)


CORRELATIONS: dict[str, Callable[[Sources, pd.Series], float]] = {  # claim -> median over the sessions it is about
    "F1a.corr_tranquil": lambda s, c: c[calm(s, c.index)].median(),
    "F1a.corr_crisis": lambda s, c: c[crisis(s, c.index)].median(),
    "F1b.corr_before": lambda s, c: c[calm(s, c.index)].median(),
    "F1b.corr_after": lambda s, c: c[crisis(s, c.index, ("E01", "E02", "E03"))].median(),
    "S42.fed_corr_before": lambda s, c: c["2021-12-16":"2022-03-15"].median(),
    "S42.fed_corr_after": lambda s, c: c["2022-03-16":"2022-11-02"].median(),
}


def _median(statistic: Callable) -> Callable:
    def compute(claim: Claim, sources: Sources) -> Finding:
        value = float(statistic(sources, _cached(sources, "mean")))
        return Finding(value, note="median over sessions of the mean pairwise correlation of 20 returns, active stocks")

    return compute


table(CORRELATIONS, _median, stage="features")
_KEPT: dict[tuple[str, str], pd.Series] = {}


def _cached(sources: Sources, which: str) -> pd.Series:
    """The two correlation series are slow and asked for often."""
    key = (str(sources.paths.interim), which)
    if key not in _KEPT:
        _KEPT[key] = mean_correlations(sources, EDGE if which == "ties" else None)
    return _KEPT[key]


@decides("F1a.new_clusters", stage="features")
def ties_in_crises(claim: Claim, sources: Sources) -> Finding:
    ties = _cached(sources, "ties")
    hot, cool = crisis(sources, ties.index), calm(sources, ties.index)
    value, low, high = block_bootstrap(ties.to_numpy(), hot, cool)
    return Finding(
        value,
        "direction",
        low=low,
        high=high,
        note=f"share of pairs with a correlation above {EDGE}, crisis minus calm",
    )


def block_bootstrap(series: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Mean of `series` on the sessions `first` minus that on `second` (bool [S]), with the 95% interval of a circular
    block bootstrap over sessions; NaN where a draw lacks one of the two is left out."""
    gaps = []
    for rows in blocks(len(series)):
        a, b = series[rows][first[rows]], series[rows][second[rows]]
        if len(a) and len(b):
            gaps.append(a.mean() - b.mean())
    low, high = np.quantile(gaps, (0.025, 0.975))
    return float(series[first].mean() - series[second].mean()), float(low), float(high)


def raw_feature(sources: Sources, name: str) -> np.ndarray:
    """Unscaled feature [S, N], NaN where inactive."""
    path = sources.paths.interim / "features.npz"
    if not path.exists():
        raise sources.not_run("features", "no features.npz")
    stored = np.load(path, allow_pickle=False)
    values = stored["values"][..., list(stored["names"]).index(name)].astype(float)
    return np.where(stored["active"], values, np.nan)


@decides("F1b.kurtosis", stage="features")
def kurtosis_of_shocks(claim: Claim, sources: Sources) -> Finding:
    jumps = raw_feature(sources, "jump") == 1
    found = float(np.nanmedian(raw_feature(sources, "kurt")[jumps]))
    note = f"median {found:.1f} over {int(jumps.sum()):,} jumps (excess, 20 sessions, of which the jump is one; A84)"
    return Finding(found > claim.value, "holds", note=note)


@decides("F1b.four_sigma", stage="features")
def size_of_shocks(claim: Claim, sources: Sources) -> Finding:
    jumps = raw_feature(sources, "jump") == 1
    found = float(np.nanmedian(np.abs(raw_feature(sources, "ext_z"))[jumps]))
    return Finding(found, "market_quantity", note="median |z| of the return on sessions with a jump")


@decides("F1b.liq_stable_price", stage="features")
def price_in_illiquidity(claim: Claim, sources: Sources) -> Finding:
    """Mean absolute return of the other stocks minus that of the stocks whose spread is high, session by session."""
    market = sources.tensors
    spread, size = market.x[..., market.features.index("spread")], np.abs(market.returns).astype(float)
    known = market.active & np.isfinite(size) & (market.val | market.test)[:, None]
    high = known & (spread > HIGH)
    days = high.any(axis=1)
    gap = np.array([size[t, known[t] & ~high[t]].mean() - size[t, high[t]].mean() for t in np.flatnonzero(days)])
    low, high_end = np.quantile(gap[blocks(len(gap))].mean(axis=1), (0.025, 0.975))
    return Finding(
        float(gap.mean()),
        "direction",
        low=float(low),
        high=float(high_end),
        note="positive if prices of illiquid stocks move less",
    )


@decides("ABS.n_stocks", "F3.n_bank", "F3.n_nonbank", stage="data")
def stocks(claim: Claim, sources: Sources) -> Finding:
    rows = sources.table("data/sectors")
    banks = int(rows.banks.sum())
    found = {"ABS.n_stocks": int(rows.stocks.sum()), "F3.n_bank": banks, "F3.n_nonbank": int(rows.stocks.sum()) - banks}
    return Finding(found[claim.id], built=True, note="our list: the paper names none (A82)")


@decides("F3.not_liquidity", stage="features")
def liquidity_of_the_banks(claim: Claim, sources: Sources) -> Finding:
    """Each liquidity feature of the banks, mean over 8-17 March: unremarkable below the 95th percentile of its own
    daily means on the training sessions."""
    sessions = sources.tensors.sessions
    february = sessions[sessions.slice_indexer(BASELINE.start, BASELINE.stop)]
    found = liquidity_of_banks(sources.tensors, case_measures.CRISIS, february)
    unusual = ", ".join(found.feature[found.remarkable]) or "none"
    note = (
        f"remarkable: {unusual}; {int((found.ours > found.baseline).sum())} of {len(found)} above their February mean"
    )
    return Finding(not found.remarkable.any(), "holds", part=float(1 - found.remarkable.mean()), note=note)


# --- the chapter's claims about returns and volume --------------------------------------------------------------------
def per_stock(sources: Sources, what: str) -> list[np.ndarray]:
    """Returns or log volumes of every stock, missing days left out."""
    market: Any = sources.tensors
    values = getattr(market, what)
    return [values[np.isfinite(values[:, i]), i].astype(float) for i in range(values.shape[1])]


def over_sessions(series: dict[Any, np.ndarray], statistic: Callable[[dict], np.ndarray]) -> tuple[float, float, float]:
    """A statistic of each stock's means over its sessions, mean over stocks, with a 95% interval from a circular block
    bootstrap over sessions (verdict rules: direction): the estimate and 1.96 standard errors to either side. The draws
    of a skewness lie below it, so far that neither their percentiles nor those turned around hold the estimate.

    series : name -> [S, N], NaN where unknown, in all at the same places. statistic : means by name -> [draws, N].
    """
    known = np.isfinite(next(iter(series.values())))
    weights = np.vstack([np.ones(len(known)), block_weights(len(known))])
    days = weights @ known
    mean = {name: weights @ np.where(known, x, 0) / np.where(days > 0, days, np.nan) for name, x in series.items()}
    found = np.nanmean(statistic(mean), axis=1)
    half = norm.ppf(0.975) * found[1:].std(ddof=1)
    return float(found[0]), float(found[0] - half), float(found[0] + half)


def skewness(mean: dict, name: str) -> np.ndarray:
    """From the means of a series' first three powers, under (name, 1 to 3)."""
    m1, m2, m3 = (mean[name, k] for k in (1, 2, 3))
    return (m3 - 3 * m1 * m2 + 2 * m1**3) / (m2 - m1**2) ** 1.5


@decides("Z002.cl.heavy", stage="features", only_real=False)
def beyond_three_sigma(claim: Claim, sources: Sources) -> Finding:
    gaussian, r = 2 * norm.sf(3), sources.tensors.returns.astype(float)
    beyond = np.where(np.isfinite(r), np.abs(r - np.nanmean(r, axis=0)) > 3 * np.nanstd(r, axis=0), np.nan)
    value, low, high = over_sessions({"share": beyond}, lambda mean: mean["share"] - gaussian)
    return Finding(
        value,
        "direction",
        low=low,
        high=high,
        note=f"share beyond 3 SD minus the Gaussian {gaussian:.4f}, mean over stocks",
    )


@decides("Z002.cl.k3_fewer", stage="features", only_real=False)
def wider_fences(claim: Claim, sources: Sources) -> Finding:
    def flags(r: np.ndarray, k: float) -> int:
        low, high = np.quantile(r, (0.25, 0.75))
        return int(((r < low - k * (high - low)) | (r > high + k * (high - low))).sum())

    counts = [(flags(r, 1.5), flags(r, 3.0)) for r in per_stock(sources, "returns")]
    once, wide = (sum(column) for column in zip(*counts, strict=True))
    note = f"{once:,} flags with 1.5, {wide:,} with 3, returns of {len(counts)} stocks"
    return Finding(all(b < a for a, b in counts), "holds", part=float(np.mean([b < a for a, b in counts])), note=note)


@decides("Z002.cl.lognormal", stage="features", only_real=False)
def log_volume(claim: Claim, sources: Sources) -> Finding:
    v = sources.tensors.log_volume.astype(float)
    v = np.where(np.isfinite(v), v - np.nanmean(np.where(np.isfinite(v), v, np.nan), axis=0), np.nan)
    powers = {(name, k): x**k for name, x in (("log", v), ("plain", np.exp(v))) for k in (1, 2, 3)}

    def gap(mean: dict) -> np.ndarray:
        return np.abs(skewness(mean, "plain")) - np.abs(skewness(mean, "log"))

    value, low, high = over_sessions(powers, gap)
    return Finding(
        value, "direction", low=low, high=high, note="|skewness| of volume minus that of log volume, mean over stocks"
    )
