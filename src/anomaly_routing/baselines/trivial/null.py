"""The detector that never alarms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_routing.baselines.inputs import masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register("null", family="trivial", title="Null", reference="Lavin and Ahmad 2015 (Numenta benchmark)")
@dataclass
class Null:
    """Constant score 0: under a strict threshold it never alarms."""

    def fit(self, panel: Panel, train_mask: np.ndarray) -> Null:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        return masked(panel, np.zeros(panel.active.shape))
