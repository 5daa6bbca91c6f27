"""Volatility of the equal-weight market, the same for every stock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_routing.baselines.inputs import masked, rolling_moments, series
from anomaly_routing.baselines.registry import register
from anomaly_routing.features.rolling import MIN_VALID
from anomaly_routing.panel import FEATURE_WINDOW, Panel


@register(
    "market_volatility",
    family="trivial",
    reveals="stocks",
    title="Market volatility",
    reference="SPEC 9.4 and 5.1 (I1)",
)
@dataclass
class MarketVolatility:
    """Sample SD over t-19..t of the mean log return of the active stocks, per session; NaN below 15 sessions."""

    def fit(self, panel: Panel, train_mask: np.ndarray) -> MarketVolatility:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        returns = series(panel, "return")
        count = np.isfinite(returns).sum(axis=1)
        market = np.divide(np.nansum(returns, axis=1), count, out=np.full(len(count), np.nan), where=count > 0)
        volatility = rolling_moments(market[:, None], FEATURE_WINDOW, MIN_VALID)[1]
        return masked(panel, np.broadcast_to(volatility, panel.active.shape))
