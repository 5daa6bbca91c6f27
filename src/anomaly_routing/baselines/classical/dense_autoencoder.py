"""Dense autoencoder on return, volume and volatility."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anomaly_routing.baselines.classical.learners import score_rows, training_sample
from anomaly_routing.baselines.classical.torch_seed import repeatable
from anomaly_routing.baselines.inputs import CHAPTER_INPUTS, RobustScaling, fit_rows, masked, stack, subsample
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel

SCORE_BATCH = 8192


@register(
    "dense_autoencoder",
    family="classical",
    modes=("chapter", "causal"),
    title="Dense autoencoder",
    reference="the chapter, 58.4.1; pyod AutoEncoder; AUDIT D02, D03",
)
@dataclass
class DenseAutoencoder:
    """Euclidean distance of a row from its reconstruction by 3-64-code-64-3 (the square root of 3 MSE).

    Trained by pyod: MSE, Adam 1e-3, batches of 64, no dropout; one model for all stocks, on at most `max_rows` seeded
    rows and `epochs` epochs (the chapter: one stock and 100 epochs).
    chapter: code 16, ReLU, unscaled inputs, rows of all sessions. The code is wider than the input, and volume in
    shares drowns the rest (D03). causal: code 2, tanh, inputs scaled by each stock's training median and MAD, training
    rows only. (A ReLU code of 2 can die at birth.)
    `flag_threshold`: the 1 - contamination quantile of the fitting rows' scores, P95 as in the chapter. NaN where an
    input is undefined.
    """

    mode: str = "causal"
    seed: int = 0
    contamination: float = 0.05
    epochs: int = 20
    max_rows: int = 5_000
    batch_size: int = 64
    code: int | None = None
    flag_threshold: float = field(init=False, repr=False)
    scaling_: RobustScaling | None = field(default=None, init=False, repr=False)
    model_: Any = field(init=False, repr=False)

    def fit(self, panel: Panel, train_mask: np.ndarray) -> DenseAutoencoder:
        self.scaling_, sample = pooled_sample(panel, self.mode, train_mask, self.max_rows, self.seed)
        with repeatable(self.seed):
            import torch
            from pyod.models.auto_encoder import AutoEncoder

            chapter = self.mode == "chapter"
            self.model_ = AutoEncoder(
                contamination=self.contamination,
                preprocessing=False,
                epoch_num=self.epochs,
                batch_size=min(self.batch_size, len(sample)),
                optimizer_params={},
                hidden_neuron_list=[64, self.code or (16 if chapter else 2)],
                hidden_activation_name="relu" if chapter else "tanh",
                batch_norm=False,
                dropout_rate=0.0,
                device=torch.device("cpu"),
                random_state=self.seed,
                verbose=0,
            ).fit(sample)
        self.flag_threshold = float(self.model_.threshold_)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        with repeatable(self.seed):
            return masked(panel, score_rows(pooled_inputs(panel, self.scaling_), self._distance))

    def _distance(self, rows: np.ndarray) -> np.ndarray:
        return self.model_.decision_function(rows, batch_size=SCORE_BATCH)


def pooled_inputs(panel: Panel, scaling: RobustScaling | None) -> np.ndarray:
    """[S, N, 3]: scaled inputs, or the chapter's unscaled ones without a scaling."""
    return stack(panel, CHAPTER_INPUTS) if scaling is None else scaling.transform(panel)


def pooled_sample(
    panel: Panel, mode: str, train_mask: np.ndarray, max_rows: int, seed: int
) -> tuple[RobustScaling | None, np.ndarray]:
    """The scaling (None in chapter mode) and a seeded sample [n, 3] of the rows of all stocks to fit on."""
    if mode == "causal":
        return training_sample(panel, train_mask, max_rows, seed)
    rows = stack(panel, CHAPTER_INPUTS)[fit_rows(panel, mode, train_mask)]
    rows = rows[np.isfinite(rows[:, 0])]
    return None, rows[subsample(rows, max_rows, np.random.default_rng(seed))]
