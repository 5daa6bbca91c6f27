"""The estimated bid-ask spread alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_routing.baselines.inputs import masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register(
    "mean_spread",
    family="trivial",
    reveals="stocks",
    title="Mean scaled spread",
    reference="SPEC 9.4; SPEC 2, feature spread",
    requires=("feature:spread",),
)
@dataclass
class MeanSpread:
    """The scaled feature `spread`, in robust SDs; the mean is the evaluator's. Raises ValueError without it."""

    def fit(self, panel: Panel, train_mask: np.ndarray) -> MeanSpread:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        return masked(panel, panel.x[:, :, panel.features.index("spread")])
