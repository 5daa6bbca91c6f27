"""What every trained run is packed with: the device's name, the sessions that are kept, digits that compress."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_routing.evaluation.aggregate import daily_statistic
from anomaly_routing.model.outcome import Outcome
from anomaly_routing.model.pressure_index import COMPONENTS, alert_cuts, alert_levels, market_weights
from anomaly_routing.runs import Run
from anomaly_routing.tensors import Tensors

PAST = 250  # training sessions before the validation split that the matched budget looks back on (SPEC 9.6)
CHANNELS = ("mean", "mpi", "mean@val", "mpi@val")  # of a lean run
AGGREGATED = ("max@val", "banks@val", "share@val")  # other ways to make a day's score, less exactly
PARTS = ("dispersion", "consensus", "dispersion@val", "consensus@val")  # for the index with the other two parts
OTHER_BITS = 12
WATCHED = ("CRWD", "2024-07-08", "2024-07-31")  # SPEC 14: what a model without experts misses of this stock's outage


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def kept_sessions(evaluated: np.ndarray, everything: bool) -> np.ndarray:
    """Bool [S]: all sessions, or those that the evaluation can use, the evaluated ones and `PAST` before them."""
    first = int(np.argmax(evaluated))
    used = evaluated | everything
    used[max(0, first - PAST) : first] = True
    return used


def shortened(values: Any, bits: int = 16) -> Any:
    """Rounded to so many significant bits, 16 within 2e-5 of the value: those below do not compress and say nothing."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent)


def as_run(
    tensors: Tensors,
    outcomes: dict[str, Outcome],
    info: dict[str, Any],
    keep_stocks: bool,
    extras: dict[str, Any],
    cut_source: str = "val",
) -> Run:
    """Pack the outcomes of both stop rules: columns of the rule `val` end in `@val`.

    Daily series: the evaluator's mean, max, banks and share; mpi, its alert level and its components; psi, alpha, tau;
    mean routing weights over all stocks, over banks and weighted by the error (SPEC 7.6). Sessions: all for the first
    seed, else those that the evaluation can use. cut_source : of the alert levels (`alert_cuts`).
    """
    tail = outcomes["tail"]
    sessions = tensors.sessions[tail.rows]
    evaluated = (tensors.val | tensors.test)[tail.rows]
    columns: dict[str, np.ndarray] = {}
    for rule, ending in (("tail", ""), ("val", "@val")):
        columns |= {
            f"{name}{ending}": series for name, series in _daily(tensors, outcomes[rule], rule, cut_source).items()
        }
    used = kept_sessions(evaluated, keep_stocks)
    kept = evaluated & keep_stocks
    return Run(
        score=tail.score[kept],
        score_sessions=sessions[kept],
        tickers=tensors.tickers,
        daily=shortened(pd.DataFrame(columns, index=sessions)[used]),
        info=info,
        extras=extras,
    )


def _daily(tensors: Tensors, found: Outcome, rule: str, cut_source: str) -> dict[str, np.ndarray]:
    counted = tensors.scored if cut_source == "expanding" else getattr(tensors, cut_source)
    score, active, bank = found.score, found.active, tensors.is_bank
    series = {
        agg: daily_statistic(score, active, agg, threshold=found.theta_s, is_bank=bank)
        for agg in ("mean", "max", "banks", "share")
    }
    level = alert_levels(found.mpi, alert_cuts(found.mpi, counted[found.rows], cut_source))
    series |= {"mpi": found.mpi, "level": level, "psi": found.psi, "alpha": found.alpha}
    series |= {name: found.components[:, k] for k, name in enumerate(COMPONENTS) if name in COMPONENTS[1:4]}
    weights = {"w": active}
    if rule == "tail":
        series |= {"tau": found.tau} | dict(zip(("w_temp", "w_ctx", "w_prior"), found.source_weights.T, strict=True))
        weights |= {"w_banks": active & bank, "w_error": np.nan_to_num(found.error)}
    for name, counted in weights.items():
        mean = market_weights(found.routing, counted)
        series |= {f"{name}{k + 1}": mean[:, k] for k in range(mean.shape[1])}
    return series


def lean(run: Run, train_end: str) -> Run:
    """What a run of a sweep keeps, 12 to 18 kB: the alarm channels, the other aggregations and two parts of the index
    after `train_end`, of the log the losses of every epoch and all of the best ones, and the expert errors of the one
    stock and span that a claim about variants names (`WATCHED`)."""
    later = run.daily[run.daily.index > pd.Timestamp(train_end)]
    others = shortened(later[[name for name in (*AGGREGATED, *PARTS) if name in later]], OTHER_BITS)
    log = run.info["history"]
    best = sorted({line["epoch"] for line in run.info["best"].values()})
    tickers, extras = _watched(run)
    info = run.info | {
        "history": [{k: v for k, v in log[epoch].items() if k != "module_seconds"} for epoch in best],
        "losses": {name: [float(f"{line[name]:.5g}") for line in log] for name in ("rec", *run.info["best"])},
    }
    return replace(
        run,
        score=np.zeros((0, 0), np.float32),
        score_sessions=run.score_sessions[:0],
        tickers=tickers,
        daily=pd.concat([later[list(CHANNELS)], others], axis=1),
        info=info,
        extras=extras,
    )


def _watched(run: Run) -> tuple[list[str], dict[str, np.ndarray]]:
    """The stock, and `days` and `expert_error` [days, 1, K] of it; both empty without it or without errors."""
    ticker, first, last = WATCHED
    days = pd.DatetimeIndex(run.extras.get("days", []))
    inside = (days >= first) & (days <= last)
    if ticker not in run.tickers or "expert_error" not in run.extras or not inside.any():
        return [], {}
    errors = run.extras["expert_error"][inside][:, [run.tickers.index(ticker)]]
    return [ticker], {"days": run.extras["days"][inside], "expert_error": errors.astype(np.float16)}
