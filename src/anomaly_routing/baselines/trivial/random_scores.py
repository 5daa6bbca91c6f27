"""Scores without any information."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_routing.baselines.inputs import masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register("random", family="trivial", title="Random", reference="SPEC 9.4; Lavin and Ahmad 2015 (Numenta benchmark)")
@dataclass
class Random:
    """Independent uniform scores in [0, 1), drawn session by session from `seed`."""

    seed: int = 0

    def fit(self, panel: Panel, train_mask: np.ndarray) -> Random:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        return masked(panel, np.random.default_rng(self.seed).random(panel.active.shape))
