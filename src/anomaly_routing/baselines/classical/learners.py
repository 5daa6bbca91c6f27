"""How the chapter's multivariate learners meet a panel: one model a stock, or one for all.

chapter: a model for each stock, fitted and applied in-sample on its unscaled return, volume and volatility, as the
chapter prints it (and AUDIT D03 criticises). causal: one model for all stocks, on return, log volume and volatility
scaled by each stock's training median and MAD.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anomaly_routing.baselines.inputs import (
    CHAPTER_INPUTS,
    MIN_SAMPLE,
    RobustScaling,
    fit_rows,
    masked,
    stack,
    subsample,
)
from anomaly_routing.baselines.universe import check_universe
from anomaly_routing.panel import Panel


def stock_rows(panel: Panel) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every stock, the sessions [n] with all three inputs and those unscaled inputs [n, 3]."""
    values = stack(panel, CHAPTER_INPUTS)
    defined = np.isfinite(values[..., 0])
    return [(np.flatnonzero(defined[:, i]), values[defined[:, i], i]) for i in range(len(panel.tickers))]


def enough(rows: np.ndarray) -> bool:
    """Whether a stock's rows can be modelled: at least 20 different ones."""
    return len(rows) >= MIN_SAMPLE and len(np.unique(rows, axis=0)) >= MIN_SAMPLE


def fit_each(panel: Panel, fit: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """A model for each stock, from all its active sessions; None where `enough` says no."""
    each = zip(panel.tickers, stock_rows(panel), strict=True)
    return {ticker: fit(rows) if enough(rows) else None for ticker, (_, rows) in each}


def score_each(panel: Panel, models: dict[str, Any], score: Callable[[Any, np.ndarray], np.ndarray]) -> np.ndarray:
    """Scores [S, N] of each stock by its own model; NaN without a model or where an input is undefined.

    Raises ValueError for other stocks than the models'.
    """
    check_universe(list(models), panel)
    scores = np.full(panel.active.shape, np.nan)
    for i, ((sessions, rows), model) in enumerate(zip(stock_rows(panel), models.values(), strict=True)):
        if model is not None and len(rows):
            scores[sessions, i] = score(model, rows)
    return scores


def training_sample(panel: Panel, train_mask: np.ndarray, max_rows: int, seed: int) -> tuple[RobustScaling, np.ndarray]:
    """The scaling, and a seeded sample [n, 3] of the scaled training rows of all stocks."""
    usable = fit_rows(panel, "causal", train_mask)
    scaling = RobustScaling.fit(panel, usable)
    rows = scaling.transform(panel)[usable]
    rows = rows[np.isfinite(rows[:, 0])]
    if len(rows) < MIN_SAMPLE:
        raise ValueError(f"{len(rows)} training stock-days have all of return, volume and volatility; need 20")
    return scaling, rows[subsample(rows, max_rows, np.random.default_rng(seed))]


def score_rows(values: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Scores [S, N] of inputs [S, N, k] by one model; NaN where a row is undefined."""
    defined = np.isfinite(values).all(axis=-1)
    scores = np.full(defined.shape, np.nan)
    if defined.any():
        scores[defined] = score(values[defined])
    return scores


@dataclass
class OutsideLearner(ABC):
    """Around a scikit-learn model whose `decision_function` is negative outside; the score is its negative."""

    mode: str = "causal"
    seed: int = 0
    max_rows: int = 20_000
    flag_threshold: float = 0.0
    scaling_: RobustScaling = field(init=False, repr=False)
    model_: Any = field(init=False, repr=False)

    @abstractmethod
    def model(self, rows: np.ndarray) -> Any:
        """A model fitted on rows [n, 3]."""

    def fit(self, panel: Panel, train_mask: np.ndarray) -> OutsideLearner:
        if self.mode == "chapter":
            self.model_ = fit_each(panel, self.model)
        else:
            self.scaling_, sample = training_sample(panel, train_mask, self.max_rows, self.seed)
            self.model_ = self.model(sample)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        if self.mode == "chapter":
            return masked(panel, score_each(panel, self.model_, lambda model, rows: -model.decision_function(rows)))
        scaled = self.scaling_.transform(panel)
        return masked(panel, score_rows(scaled, lambda rows: -self.model_.decision_function(rows)))
