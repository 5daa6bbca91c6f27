"""Local Outlier Factor on return, volume and volatility."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.neighbors import LocalOutlierFactor

from anomaly_routing.baselines.classical.learners import fit_each, score_each, score_rows, training_sample
from anomaly_routing.baselines.inputs import RobustScaling, masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register(
    "lof",
    family="classical",
    modes=("chapter", "causal"),
    title="Local Outlier Factor",
    reference="the chapter, 58.3.3; Breunig et al. 2000; AUDIT D02, D03",
)
@dataclass
class LOF:
    """Local density of the neighbours over that of the point, less its cut: above 0 is the flag.

    Modes as in `learners`. chapter: the in-sample factor of the panel that is scored, computed anew from it; unscaled,
    it sees volume only (D03). causal: the factor of a new point among at most `max_rows` seeded training rows (those
    rows are their own neighbours, which makes theirs a little low). Equal rows are counted once, since more than k
    copies of a row make its density infinite. Cut and NaN as for the Isolation Forest.
    """

    mode: str = "causal"
    seed: int = 0
    n_neighbors: int = 20
    contamination: float = 0.01
    max_rows: int = 10_000
    flag_threshold: float = 0.0
    scaling_: RobustScaling = field(init=False, repr=False)
    model_: Any = field(init=False, repr=False)

    def fit(self, panel: Panel, train_mask: np.ndarray) -> LOF:
        if self.mode == "causal":
            self.scaling_, sample = training_sample(panel, train_mask, self.max_rows, self.seed)
            self.model_ = self._model(sample)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        if self.mode == "chapter":
            return masked(panel, score_each(panel, fit_each(panel, self._model), _in_sample))
        scaled = self.scaling_.transform(panel)
        return masked(panel, score_rows(scaled, lambda rows: -self.model_.decision_function(rows)))

    def _model(self, rows: np.ndarray) -> LocalOutlierFactor:
        distinct = np.unique(rows, axis=0)
        neighbours = min(self.n_neighbors, len(distinct) - 1)
        return LocalOutlierFactor(n_neighbors=neighbours, contamination=self.contamination, novelty=True).fit(distinct)


def _in_sample(model: LocalOutlierFactor, rows: np.ndarray) -> np.ndarray:
    _, position = np.unique(rows, axis=0, return_inverse=True)
    return model.offset_ - model.negative_outlier_factor_[position.reshape(-1)]
