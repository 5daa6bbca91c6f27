"""From a registered detector to a stored run: fit on the training sessions, score all sessions, keep what is needed."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_routing.baselines.registry import Entry, create, detectors
from anomaly_routing.data.prior_graph import prior_graph
from anomaly_routing.data.sources import load_market
from anomaly_routing.evaluation.aggregate import daily_statistic, flagged_shares, stock_day_cut
from anomaly_routing.features.panel import FEATURES_NUMERICS, build_panel
from anomaly_routing.features.store import load_features
from anomaly_routing.files import read_json
from anomaly_routing.panel import Panel, Splits
from anomaly_routing.paths import MarketPaths
from anomaly_routing.runs import Run, RunKey, RunStore


def load_panel(paths: MarketPaths) -> tuple[Panel, str]:
    """The panel of a market that notebooks 01 and 02 have prepared, and the hash of its raw data."""
    market = load_market(paths.interim / "market")
    stored = load_features(paths.interim / "features.npz")
    tables = (market.prices, market.universe, market.benchmarks, prior_graph(market.universe))
    panel = build_panel(stored.features, stored.scaler, *tables)
    return panel, read_json(paths.interim / "market" / "data.json")["sha256"]


def as_run(
    score: np.ndarray,
    panel: Panel,
    splits: Splits,
    info: dict[str, Any],
    keep_stocks: bool = True,
    daily_as_ranks: bool = False,
) -> Run:
    """Pack a score [session, ticker] as a run.

    Daily series over all samples: mean (the headline statistic), max, banks (mean over banks; NaN without any) and
    share (of stocks above theta_s, the 95th percentile of the validation stock-days). Single stocks' scores are kept on
    validation and test sessions (`keep_stocks`). `daily_as_ranks` keeps the order of the days alone.
    """
    sessions, scored = panel.sessions, splits.scored(panel.sessions)
    val, late = splits.val(sessions), splits.val(sessions) | splits.test(sessions)
    usable = panel.active & np.isfinite(score)
    cut = stock_day_cut(score, panel.active, val) if usable[val].any() else np.inf
    daily = {agg: daily_statistic(score, panel.active, agg, threshold=cut, is_bank=panel.is_bank)
             for agg in ("mean", "max", "banks", "share")}  # fmt: skip
    series = pd.DataFrame(daily, index=sessions)[scored]
    kept = late if keep_stocks else np.zeros_like(late)
    return Run(
        score=np.where(panel.active, score, np.nan)[kept],
        score_sessions=sessions[kept],
        tickers=panel.tickers,
        daily=series.rank() if daily_as_ranks else series,
        info=info,
    )


def run_key(entry: Entry, mode: str, seed: int, params: dict, market: str, data_hash: str, splits: Splits) -> RunKey:
    """What identifies a detector's run on a market."""
    config = entry.parameters | params | {"splits": splits.__dict__, "features_numerics": FEATURES_NUMERICS}
    return RunKey(market, entry.name, mode, seed, config, data_hash, entry.numerics)


def plan(panel: Panel, seeds: Iterable[int], params: dict[str, Any], stage: str = "baselines") -> pd.DataFrame:
    """Every detector, mode and seed that can run on this panel, or the reason why it cannot.

    A deterministic detector runs once, as does a mode that looks ahead: it teaches and is not judged. `params` go to
    each detector that has such a parameter. Only the detectors of one stage are planned.
    """
    rows, seeds = [], list(seeds)
    for entry in (e for e in detectors().values() if e.stage == stage):
        own = {k: v for k, v in params.items() if k in entry.parameters}
        for mode in entry.modes:
            for seed in seeds if entry.stochastic and not entry.lookahead[mode] else seeds[:1]:
                row = {"method": entry.name, "mode": mode, "seed": seed, "family": entry.family}
                rows.append(row | {"params": own, "reason": entry.missing(panel) or ""})
    return pd.DataFrame(rows)


def run_all(
    panel: Panel, splits: Splits, store: RunStore, planned: pd.DataFrame, market: str, data_hash: str, tier: str,
    keep_stocks: bool = False,
) -> list[RunKey]:  # fmt: skip
    """Make every planned run that the store lacks; each is saved when it is finished. Returns all keys.

    With `keep_stocks` a method's first seed keeps single stocks' scores, some 130 kB of 100 stocks and three years.
    """
    train, entries, keys = splits.train(panel.sessions), detectors(), []
    todo = planned[planned["reason"] == ""]
    for job in tqdm(todo.itertuples(), total=len(todo), desc="detectors", unit="run"):
        entry = entries[job.method]
        key = run_key(entry, job.mode, job.seed, job.params, market, data_hash, splits)
        keys.append(key)
        if key in store:
            continue
        started = time.perf_counter()
        detector = create(job.method, job.mode, job.seed, **job.params).fit(panel, train)
        score = detector.decision_function(panel)
        info = {
            "family": entry.family,
            "title": entry.title,
            "reference": entry.reference,
            "lookahead": entry.lookahead[job.mode],
            "stochastic": entry.stochastic,
            "tier": tier,
            "device": "cpu",
            "machine": platform.machine(),
            "seconds": round(time.perf_counter() - started, 2),
            "flagged": flagged_shares(score, panel, splits, getattr(detector, "flag_threshold", None)),
        }
        stocks = keep_stocks and job.seed == planned["seed"].iloc[0] and not entry.reveals  # no way back to the prices
        run = as_run(score, panel, splits, info, stocks, daily_as_ranks=entry.reveals == "market")
        store.save(key, run)
    store.mark_current(keys)
    return keys
