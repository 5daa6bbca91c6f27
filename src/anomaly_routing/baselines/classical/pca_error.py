"""What the leading principal components of the features cannot rebuild."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sklearn.decomposition import PCA

from anomaly_routing.baselines.classical.learners import score_rows
from anomaly_routing.baselines.inputs import fit_rows, masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register(
    "pca_error",
    family="classical",
    title="PCA reconstruction error",
    reference="DESIGN 7; Jackson and Mudholkar 1979 (Q statistic)",
    requires=("features",),
)
@dataclass
class PCAError:
    """Norm of x_t minus its projection on the components that hold `variance` of the training variance."""

    variance: float = 0.9
    model_: PCA = field(init=False, repr=False)

    def fit(self, panel: Panel, train_mask: np.ndarray) -> PCAError:
        rows = panel.x[fit_rows(panel, "causal", train_mask)].astype(float)
        self.model_ = PCA(n_components=self.variance, svd_solver="full").fit(rows)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        return masked(panel, score_rows(panel.x, self._error))

    def _error(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(float)
        return np.linalg.norm(rows - self.model_.inverse_transform(self.model_.transform(rows)), axis=1)
