"""One-Class SVM on return, volume and volatility."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.svm import OneClassSVM as SVM

from anomaly_routing.baselines.classical.learners import OutsideLearner
from anomaly_routing.baselines.registry import register


@register(
    "one_class_svm",
    family="classical",
    modes=("chapter", "causal"),
    title="One-Class SVM",
    reference="the chapter, 58.3.2; Schölkopf et al. 2001; AUDIT D02, D03",
)
@dataclass
class OneClassSVM(OutsideLearner):
    """Minus the signed distance from the RBF boundary; positive outside, so the cut is 0.

    Modes as in `learners`. gamma = "auto" is 1/3, the chapter's. On unscaled volumes every pair of days is then so far
    apart that the kernel matrix is all but the identity: the chapter mode hardly ranks anything (D03). causal: fitted
    on at most `max_rows` seeded training rows. NaN as for the Isolation Forest.
    """

    max_rows: int = 5_000
    nu: float = 0.01
    gamma: float | str = "auto"

    def model(self, rows: np.ndarray) -> SVM:
        return SVM(kernel="rbf", nu=self.nu, gamma=self.gamma).fit(rows)
