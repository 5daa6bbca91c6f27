"""Isolation Forest on return, volume and volatility."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import IsolationForest as Forest

from anomaly_routing.baselines.classical.learners import OutsideLearner
from anomaly_routing.baselines.registry import register


@register(
    "isolation_forest",
    family="classical",
    modes=("chapter", "causal"),
    title="Isolation Forest",
    reference="the chapter, 58.3.1; Liu, Ting and Zhou 2008; AUDIT D02, D03",
)
@dataclass
class IsolationForest(OutsideLearner):
    """Isolation score, 2 to the minus mean path length over its expectation, less its cut: above 0 is the flag.

    The cut is the 1 - contamination quantile of the fitting rows (scikit-learn's `decision_function`, negated): of each
    stock's sessions in chapter mode, of the training sample in causal mode (modes as in `learners`). It flags that
    share whatever the data (D12). NaN for a stock with under 20 different rows (chapter) and for undefined inputs.
    """

    contamination: float = 0.01
    n_estimators: int = 100

    def model(self, rows: np.ndarray) -> Forest:
        forest = Forest(n_estimators=self.n_estimators, contamination=self.contamination, random_state=self.seed)
        return forest.fit(rows)
