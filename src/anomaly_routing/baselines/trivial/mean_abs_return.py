"""Size of the day's return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_routing.baselines.inputs import masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register("mean_abs_return", family="trivial", reveals="stocks", title="Mean absolute return", reference="SPEC 9.4")
@dataclass
class MeanAbsReturn:
    """|log return|; the mean of the name is the evaluator's, over the active stocks of a session."""

    def fit(self, panel: Panel, train_mask: np.ndarray) -> MeanAbsReturn:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        return masked(panel, np.abs(panel.returns))
