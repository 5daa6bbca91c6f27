"""Distance of the feature vector from the training cloud."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sklearn.covariance import LedoitWolf

from anomaly_routing.baselines.inputs import fit_rows, masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register(
    "mahalanobis",
    family="trivial",
    title="Mahalanobis distance",
    reference="SPEC 9.4; Ledoit and Wolf 2004",
    requires=("features",),
)
@dataclass
class Mahalanobis:
    """Distance of x_t from the mean of the training stock-days, in SDs, with their Ledoit-Wolf covariance.

    SPEC 9.4 takes the distance of the session's mean vector; here each stock has its own, like every other detector.
    """

    model_: LedoitWolf = field(init=False, repr=False)

    def fit(self, panel: Panel, train_mask: np.ndarray) -> Mahalanobis:
        self.model_ = LedoitWolf().fit(panel.x[fit_rows(panel, "causal", train_mask)].astype(float))
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        distance = np.full(panel.active.shape, np.nan)
        if panel.active.any():
            squared = self.model_.mahalanobis(panel.x[panel.active].astype(float))
            distance[panel.active] = np.sqrt(np.maximum(squared, 0.0))
        return masked(panel, distance)
