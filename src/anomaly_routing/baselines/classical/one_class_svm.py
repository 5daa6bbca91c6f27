"""One-Class SVM on return, volume and volatility."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.svm import OneClassSVM as SVM

from anomaly_routing.baselines.classical.learners import fit_each, score_each, score_rows, training_sample
from anomaly_routing.baselines.inputs import RobustScaling, masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register(
    "one_class_svm",
    family="classical",
    modes=("chapter", "causal"),
    title="One-Class SVM",
    reference="the chapter, 58.3.2; Schölkopf et al. 2001; AUDIT D02, D03",
)
@dataclass
class OneClassSVM:
    """Minus the signed distance from the RBF boundary; positive outside, so the cut is 0.

    Modes as in `learners`. gamma = "auto" is 1/3, the chapter's. On unscaled volumes every pair of days is then so far
    apart that the kernel matrix is all but the identity: the chapter mode hardly ranks anything (D03). causal: fitted
    on at most `max_rows` seeded training rows. NaN as for the Isolation Forest.
    """

    mode: str = "causal"
    seed: int = 0
    nu: float = 0.01
    gamma: float | str = "auto"
    max_rows: int = 5_000
    flag_threshold: float = 0.0
    scaling_: RobustScaling = field(init=False, repr=False)
    model_: Any = field(init=False, repr=False)

    def fit(self, panel: Panel, train_mask: np.ndarray) -> OneClassSVM:
        if self.mode == "chapter":
            self.model_ = fit_each(panel, self._svm)
        else:
            self.scaling_, sample = training_sample(panel, train_mask, self.max_rows, self.seed)
            self.model_ = self._svm(sample)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        if self.mode == "chapter":
            return masked(panel, score_each(panel, self.model_, lambda model, rows: -model.decision_function(rows)))
        scaled = self.scaling_.transform(panel)
        return masked(panel, score_rows(scaled, lambda rows: -self.model_.decision_function(rows)))

    def _svm(self, rows: np.ndarray) -> SVM:
        return SVM(kernel="rbf", nu=self.nu, gamma=self.gamma).fit(rows)
