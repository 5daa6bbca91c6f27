"""Yesterday's close of the VIX, the same for every stock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_routing.baselines.inputs import masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel

VIX = "^VIX"


@register(
    "lagged_vix",
    family="trivial",
    reveals="market",
    title="Lagged VIX",
    reference="DESIGN 7; trivial scoreboard",
    requires=(f"benchmark:{VIX}",),
)
@dataclass
class LaggedVix:
    """Last ^VIX close known before session t, in index points; NaN before the first. Raises KeyError without ^VIX."""

    def fit(self, panel: Panel, train_mask: np.ndarray) -> LaggedVix:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        previous = panel.benchmarks[VIX].reindex(panel.sessions).ffill().shift(1).to_numpy(float)
        return masked(panel, np.broadcast_to(previous[:, None], panel.active.shape))
