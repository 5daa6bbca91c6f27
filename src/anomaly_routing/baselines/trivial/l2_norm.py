"""Length of the scaled feature vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_routing.baselines.inputs import masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register(
    "l2_norm",
    family="trivial",
    title="L2 norm of the features",
    reference="Sarfraz et al. 2024 (QuoVadisTAD)",
    requires=("features",),
)
@dataclass
class L2Norm:
    """Euclidean norm of x_t, the features in robust SDs (SPEC 3)."""

    def fit(self, panel: Panel, train_mask: np.ndarray) -> L2Norm:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        return masked(panel, np.linalg.norm(panel.x, axis=-1))
