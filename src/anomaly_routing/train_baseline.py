"""One training of a neural baseline into the run store; `python -m anomaly_routing.train --method lstm_ae` calls it.

Everything that the full model gets: both stop rules in one training, the score s = sigmoid(2 z) with statistics frozen
on the training samples, and, as a row of its own, a second alarm channel (AUDIT A99).
"""

from __future__ import annotations

import platform
import resource
import time
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_routing.baselines.deep import DEEP_MODULES, DeepDetector, summary
from anomaly_routing.baselines.registry import Entry, detectors
from anomaly_routing.evaluation.aggregate import daily_statistic, flagged_shares
from anomaly_routing.model.config import make_config
from anomaly_routing.model.pressure_index import WEIGHTS, components, theta
from anomaly_routing.model.scoring import score_statistics, scores
from anomaly_routing.packing import device_name, kept_sessions, shortened
from anomaly_routing.runs import Run, RunKey, RunStore
from anomaly_routing.tensors import Tensors

PLACE = ("device",)  # parameters that say where, not what
GENERIC = 3  # components of the pressure index that need scores alone: breadth, intensity, dispersion


def trainable() -> dict[str, Entry]:
    """The neural baselines of the registry, by name; nothing else is imported for them."""
    return {name: entry for name, entry in detectors(DEEP_MODULES).items() if entry.stage == "deep_baselines"}


def baseline_key(method: str, seed: int, params: dict[str, Any], tensors: Tensors) -> RunKey:
    """What identifies the run; raises ValueError for an unknown method or parameter, before anything is trained."""
    known = trainable()
    if method not in known:
        raise ValueError(f"no method {method!r}; there are: intended, literal, {', '.join(known)}")
    entry = known[method]
    if unknown := sorted(set(params) - set(entry.parameters)):
        raise ValueError(f"{method} has no parameter {', '.join(unknown)}; it has: {', '.join(entry.parameters)}")
    config = {k: v for k, v in (entry.parameters | params).items() if k not in PLACE}
    config |= {"splits": tensors.splits.__dict__, "features_numerics": tensors.features_numerics}
    return RunKey(tensors.market, method, "causal", seed, config, tensors.data_hash, entry.numerics)


def train_baseline(
    tensors: Tensors, method: str, seed: int, params: dict[str, Any], store: RunStore, *, device: str, tier: str,
    keep_stocks: bool, label: str = "",
) -> RunKey:  # fmt: skip
    """Train, score and store one run, unless it is there."""
    key = baseline_key(method, seed, params, tensors)
    if key in store:
        return key
    entry, panel = trainable()[method], tensors.panel()
    if lack := entry.missing(panel):
        raise ValueError(f"{method} cannot run on {tensors.market}: {lack}")
    detector = entry.factory(seed=seed, **{"device": device} | params)
    started = time.perf_counter()
    detector.fit(panel, tensors.train, tensors.val, label)
    fitted = time.perf_counter()
    raw = {rule: detector.use(rule).decision_function(panel) for rule in reversed(list(detector.weights))}
    passed = time.perf_counter() - fitted
    info = summary(detector) | {
        "family": entry.family,
        "title": entry.title,
        "reference": entry.reference,
        "lookahead": False,
        "stochastic": entry.stochastic,
        "tier": tier,
        "device": device_name(next(detector.net.parameters()).device),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "seconds": round(fitted - started, 2),
        "milliseconds_a_session": round(1000 * passed / len(raw) / len(panel.sessions), 3),
        "memory_mib": memory_mib(detector),
        "flagged": flagged_shares(raw["tail"], panel, tensors.splits, getattr(detector, "flag_threshold", None)),
    }
    store.save(key, as_run(tensors, raw, info, keep_stocks))
    return key


def as_run(tensors: Tensors, raw: dict[str, np.ndarray], info: dict[str, Any], keep_stocks: bool) -> Run:
    """Pack the scores of both stop rules, raw [S, N] each; columns of the rule `val` end in `@val`.

    Daily series of s: mean, max, banks, share above theta_s, and `mpi`, the pressure index of its three components that
    need no routing, with their weights brought to one. Single stocks' s on validation and test sessions for the first
    seed.
    """
    rows = np.flatnonzero(tensors.scored)
    active, evaluated = tensors.active[rows], (tensors.val | tensors.test)[rows]
    sessions, columns, s = tensors.sessions[rows], {}, {}
    for rule, values in raw.items():
        ending = "" if rule == "tail" else f"@{rule}"
        error = values[rows].astype(np.float64)
        mu, sigma = score_statistics(error, active, tensors.train[rows])
        s[rule] = scores(error, active, mu, sigma)
        cut = theta(s[rule], active, tensors.val[rows])
        columns |= {
            f"{agg}{ending}": daily_statistic(s[rule], active, agg, threshold=cut, is_bank=tensors.is_bank)
            for agg in ("mean", "max", "banks", "share")
        }
        columns[f"mpi{ending}"] = generic_pressure(s[rule], active, cut)
    kept = evaluated & keep_stocks
    ending = "@val" if "val" in raw else ""
    return Run(
        score=s["tail"][kept].astype(np.float32),
        score_sessions=sessions[kept],
        tickers=tensors.tickers,
        daily=shortened(pd.DataFrame(columns, index=sessions)[kept_sessions(evaluated, keep_stocks)]),
        info=info
        | {
            "channels": {"paper": {"I": f"mean{ending}"}, "matched": {"I": "mean"}},
            "second_channel": {"paper": {"M": f"mpi{ending}"}, "matched": {"M": "mpi"}},
        },
    )


def generic_pressure(score: np.ndarray, active: np.ndarray, cut: float) -> np.ndarray:
    """Breadth, intensity and dispersion (twice the SD) of scores [S, N], weighted as in the index; [S] (SPEC 13)."""
    no_routing = np.zeros((*score.shape, 1))
    parts = components(score, active, no_routing, np.zeros(len(score)), cut, make_config("intended"))[:, :GENERIC]
    weights = np.array(WEIGHTS[:GENERIC])
    return parts @ weights / weights.sum()


def memory_mib(detector: DeepDetector) -> float:
    """Most memory that was held, in MiB: of the GPU, or of this process so far."""
    if next(detector.net.parameters()).device.type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
