"""The chapter's twelve detectors on any panel of returns and volumes, in both modes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_routing.baselines.registry import create, detectors
from anomaly_routing.chapter.planted import Planted, equal_cut, found
from anomaly_routing.panel import Panel

METHODS = (
    *("zscore", "modified_zscore", "iqr"),
    *("isolation_forest", "one_class_svm", "lof"),
    *("dense_autoencoder", "sequence_autoencoder", "vae"),
    *("stl_residual", "seasonal_esd", "rolling_z"),
)
BESIDE = ("null", "random")
CUTS = {"null": 0.0, "random": 0.95}  # Null never exceeds 0, Random flags one in twenty


class Scored(NamedTuple):
    """score [S, N], higher is more anomalous; cut: the chapter's own threshold on it."""

    score: np.ndarray
    cut: float

    @property
    def flags(self) -> np.ndarray:
        """Bool [S, N]; NaN is no flag."""
        return np.nan_to_num(self.score, nan=-np.inf) > self.cut


def run_detectors(
    panel: Panel, train: np.ndarray, methods: Iterable[str] = METHODS, seed: int = 0, **params: Any
) -> dict[tuple[str, str], Scored]:
    """(method, mode) -> scores, for every mode of every method; `params` go to those that have such a parameter."""
    entries, results = detectors(("statistical", "classical", "streaming", "trivial")), {}
    jobs = [(name, mode) for name in methods for mode in entries[name].modes]
    for name, mode in tqdm(jobs, desc="detectors"):
        own = {k: v for k, v in params.items() if k in entries[name].parameters}
        detector = create(name, mode, seed, **own).fit(panel, train)
        cut = CUTS[name] if name in CUTS else float(detector.flag_threshold)
        results[name, mode] = Scored(detector.decision_function(panel).astype(float), cut)
    return results


def kinds_found(
    planted: Planted, scored: dict[tuple[str, str], Scored], late: np.ndarray, budget: float
) -> pd.DataFrame:
    """A row a method and mode: share of the late stock-days flagged at its own cut, and share of the episodes of each
    kind found at that cut and when every method flags `budget` of the quiet stock-days. late : bool [S]."""
    rows = []
    for (method, mode), s in scored.items():
        flagged = s.flags[late][planted.panel.active[late]].mean()
        own = found(planted, s.score, s.cut, late)
        equal = found(planted, s.score, equal_cut(planted, s.score, late, budget), late)
        row = {"method": method, "mode": mode, "flagged at its own cut": flagged}
        rows.append(row | own.add_suffix(", own cut").to_dict() | equal.add_suffix(", equal flags").to_dict())
    return pd.DataFrame(rows)


def outcome_of(action: Callable[[], Any]) -> str:
    """What an action returns, or the first line of the error that it raises."""
    try:
        return f"runs: {action()}"
    except Exception as error:  # whichever comes
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
