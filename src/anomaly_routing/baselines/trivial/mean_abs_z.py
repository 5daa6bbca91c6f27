"""Size of a return against the stock's own last month."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_routing.baselines.inputs import masked, ratio, rolling_moments
from anomaly_routing.baselines.registry import register
from anomaly_routing.features.rolling import MIN_VALID
from anomaly_routing.panel import FEATURE_WINDOW, Panel


@register(
    "mean_abs_z",
    family="trivial",
    reveals="stocks",
    title="Mean |z| of returns",
    reference="DESIGN 7; SPEC 2, feature ext_z",
)
@dataclass
class MeanAbsZ:
    """|r_t - mean| / SD over t-20..t-1, in SDs and not clipped; SD below 1e-6 gives 0, fewer than 15 returns NaN.

    The mean of the name is the evaluator's, over the active stocks of a session.
    """

    def fit(self, panel: Panel, train_mask: np.ndarray) -> MeanAbsZ:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        mean, sd = rolling_moments(panel.returns, FEATURE_WINDOW, MIN_VALID, lagged=1)
        return masked(panel, ratio(np.abs(panel.returns - mean), np.where(sd < 1e-6, 0.0, sd)))
