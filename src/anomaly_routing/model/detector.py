"""The full model behind the interface of every other detector, for tests, benchmarks and readers' own panels.

The committed results come from `anomaly_routing.train`, which keeps both stop rules; here the training sessions alone
decide, their last tenth when to stop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import BURN_IN, Panel, Splits
from anomaly_routing.tensors import Tensors

FAMILY = "full model"
REFERENCE = "the paper, section 3"


@register("intended", family=FAMILY, stage="model", title="Full model, printed prose", reference=REFERENCE,
          requires=["graph", "stress", "groups"])  # fmt: skip
@dataclass
class Intended:
    """Preset `intended`. `overrides` are keys of ModelConfig, `training` of TrainingConfig."""

    epochs: int = 100
    seed: int = 0
    device: str = "auto"
    overrides: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    preset = "intended"

    def fit(self, panel: Panel, train_mask: np.ndarray) -> Intended:
        """Train on the marked sessions, which follow each other and leave two later ones; see `model.training.fit`.

        Raises ValueError for other marks, and as `decision_function`.
        """
        import torch

        from anomaly_routing.model.config import make_config
        from anomaly_routing.model.network import Network
        from anomaly_routing.model.training import choose_device, fit, make_training

        self._splits = _splits(panel.sessions, train_mask)
        tensors = self._tensors(panel)
        self._training = make_training(**{"epochs": self.epochs} | (self.training or {}))
        self._device = choose_device(self.device)
        config = make_config(self.preset, **(self.overrides or {}))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._net = Network(len(panel.features), tensors.categories, config)
        fitted = fit(self._net, tensors, self._training, self.seed, self._device, rules=("tail",))
        self._net.load_state_dict(fitted.weights["tail"])
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        """s in [0, 1], float32 [S, N]; NaN where inactive and before the first sample.

        Raises ValueError for a panel that no neural detector takes (`baselines.deep.check_panel`), that ends before
        the first sample after the training, or whose features are not those of the fit.
        """
        from anomaly_routing.model.outcome import outcome

        tensors = self._tensors(panel)
        found = outcome(self._net, tensors, self._device, self._training)
        score = np.full(panel.active.shape, np.nan, np.float32)
        score[panel.sessions.get_indexer(tensors.sessions[found.rows])] = found.score
        return score

    def _tensors(self, panel: Panel) -> Tensors:
        """The panel up to its end, without the samples in which no stock is active: the market was closed."""
        from anomaly_routing.baselines.deep import check_panel

        if not len(panel.sessions):
            raise ValueError("the panel has no session: give the ones to score and the window before them")
        check_panel(panel, needs_graph=True)
        splits = replace(self._splits, test_end=f"{panel.sessions[-1]:%Y-%m-%d}")
        kept = panel.active.any(axis=1) | ~splits.scored(panel.sessions)
        by_session = ("sessions", "x", "active", "returns", "log_volume", "stress")
        panel = replace(panel, **{name: getattr(panel, name)[kept] for name in by_session})
        return Tensors.from_panel(panel, splits, market="panel", data_hash="", features_numerics=0)


@register("literal", family=FAMILY, stage="model", title="Full model, printed equations", reference=REFERENCE,
          requires=["graph", "stress", "groups"], modes=["printed"], lookahead=["printed"])  # fmt: skip
@dataclass
class Literal(Intended):
    """Preset `literal`: a score depends on the other sessions of its block of 32, later ones too (A64)."""

    preset = "literal"


def _splits(sessions: pd.DatetimeIndex, train: np.ndarray) -> Splits:
    """Spans whose training samples are the marked sessions; what follows is halved into validation and test."""
    marked = np.flatnonzero(train)
    if not len(marked):
        raise ValueError(f"none of {len(sessions)} sessions is marked for training: mark those to fit on")
    later = len(sessions) - marked[-1] - 1
    if marked[-1] - marked[0] + 1 != len(marked) or later < 2:
        raise ValueError("the training sessions must follow each other and leave at least two sessions to score")
    days = [marked[0] - BURN_IN, marked[-1], marked[-1] + later // 2, len(sessions) - 1]
    return Splits(*(f"{sessions[max(0, day)]:%Y-%m-%d}" for day in days))
