"""Yesterday's realised volatility of the stock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_routing.baselines.inputs import masked, rolling_moments
from anomaly_routing.baselines.registry import register
from anomaly_routing.features.rolling import MIN_VALID
from anomaly_routing.panel import FEATURE_WINDOW, Panel


@register(
    "lagged_volatility",
    family="trivial",
    reveals="stocks",
    title="Lagged realised volatility",
    reference="DESIGN 7; trivial scoreboard",
)
@dataclass
class LaggedVolatility:
    """Sample SD of the stock's log returns over t-20..t-1, per session; NaN with fewer than 15 of them."""

    def fit(self, panel: Panel, train_mask: np.ndarray) -> LaggedVolatility:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        return masked(panel, rolling_moments(panel.returns, FEATURE_WINDOW, MIN_VALID, lagged=1)[1])
