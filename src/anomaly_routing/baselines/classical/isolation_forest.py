"""Isolation Forest on return, volume and volatility."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.ensemble import IsolationForest as Forest

from anomaly_routing.baselines.classical.learners import fit_each, score_each, score_rows, training_sample
from anomaly_routing.baselines.inputs import RobustScaling, masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register(
    "isolation_forest",
    family="classical",
    modes=("chapter", "causal"),
    title="Isolation Forest",
    reference="the chapter, 58.3.1; Liu, Ting and Zhou 2008; AUDIT D02, D03",
)
@dataclass
class IsolationForest:
    """Isolation score, 2 to the minus mean path length over its expectation, less its cut: above 0 is the flag.

    The cut is the 1 - contamination quantile of the fitting rows (scikit-learn's `decision_function`, negated): of each
    stock's sessions in chapter mode, of the training sample in causal mode (modes as in `learners`). It flags that
    share whatever the data (D12). NaN for a stock with under 20 different rows (chapter) and for undefined inputs.
    """

    mode: str = "causal"
    seed: int = 0
    contamination: float = 0.01
    n_estimators: int = 100
    max_rows: int = 20_000
    flag_threshold: float = 0.0
    scaling_: RobustScaling = field(init=False, repr=False)
    model_: Any = field(init=False, repr=False)

    def fit(self, panel: Panel, train_mask: np.ndarray) -> IsolationForest:
        if self.mode == "chapter":
            self.model_ = fit_each(panel, self._forest)
        else:
            self.scaling_, sample = training_sample(panel, train_mask, self.max_rows, self.seed)
            self.model_ = self._forest(sample)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        if self.mode == "chapter":
            return masked(panel, score_each(panel, self.model_, lambda model, rows: -model.decision_function(rows)))
        scaled = self.scaling_.transform(panel)
        return masked(panel, score_rows(scaled, lambda rows: -self.model_.decision_function(rows)))

    def _forest(self, rows: np.ndarray) -> Forest:
        forest = Forest(n_estimators=self.n_estimators, contamination=self.contamination, random_state=self.seed)
        return forest.fit(rows)
