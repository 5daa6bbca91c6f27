"""Variational autoencoder on return, volume and volatility."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anomaly_routing.baselines.classical.dense_autoencoder import SCORE_BATCH, pooled_inputs, pooled_sample
from anomaly_routing.baselines.classical.learners import score_rows
from anomaly_routing.baselines.classical.torch_seed import repeatable
from anomaly_routing.baselines.inputs import RobustScaling, masked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register(
    "vae",
    family="classical",
    modes=("chapter", "causal"),
    title="Variational autoencoder",
    reference="the chapter, 58.4.3; An and Cho 2015; pyod VAE; AUDIT D02, D07",
)
@dataclass
class VAE:
    """Gaussian VAE 3-64-32-2-32-64-3, trained by pyod for all stocks on at most `max_rows` seeded rows.

    chapter: pyod as the chapter calls it (its own standardisation, dropout 0.2, weight decay), rows of all sessions,
    unscaled volume; the score is pyod's, the distance from one random reconstruction. pyod's default `capacity=0`
    clamps the KL term to nothing, so what it trains is a noisy autoencoder and no VAE.
    causal: inputs scaled by each stock's training median and MAD, training rows only, full KL term, no dropout; the
    score is the reconstruction probability that the chapter describes, -mean log p(x|z) over `draws` draws of z, in
    nats. The decoder's variance is `decoder_variance` in training (beta = 2 variance / 3 on pyod's mean squared error)
    and its maximum-likelihood value, for each input, in scoring. All rows share the same draws, so that the score of a
    row depends on nothing but the row.
    `flag_threshold`: the 1 - contamination quantile of the fitting rows' scores. NaN where an input is undefined.
    """

    mode: str = "causal"
    seed: int = 0
    contamination: float = 0.01
    epochs: int = 20
    max_rows: int = 5_000
    batch_size: int = 64
    draws: int = 50
    decoder_variance: float = 0.1
    flag_threshold: float = field(init=False, repr=False)
    scaling_: RobustScaling | None = field(default=None, init=False, repr=False)
    variance_: np.ndarray = field(init=False, repr=False)  # [3]
    model_: Any = field(init=False, repr=False)

    def fit(self, panel: Panel, train_mask: np.ndarray) -> VAE:
        self.scaling_, sample = pooled_sample(panel, self.mode, train_mask, self.max_rows, self.seed)
        with repeatable(self.seed):
            self.model_ = self._network(min(self.batch_size, len(sample))).fit(sample)
            if self.mode == "causal":
                self.variance_ = np.maximum(self._squared_errors(sample).mean(axis=0), 1e-6)
        self.flag_threshold = float(np.quantile(self._score(sample), 1 - self.contamination))
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        return masked(panel, score_rows(pooled_inputs(panel, self.scaling_), self._score))

    def _score(self, rows: np.ndarray) -> np.ndarray:
        with repeatable(self.seed):
            if self.mode == "chapter":
                return self.model_.decision_function(rows, batch_size=SCORE_BATCH)
            scaled = self._squared_errors(rows) / self.variance_
            return 0.5 * (scaled + np.log(2 * np.pi * self.variance_)).sum(axis=1)

    def _network(self, batch_size: int) -> Any:
        import torch
        from pyod.models.vae import VAE as PyodVAE

        ours = {
            "preprocessing": False,
            "dropout_rate": 0.0,
            "optimizer_params": {},
            "beta": 2 * self.decoder_variance / 3,
            "capacity": float("inf"),
        }
        return PyodVAE(
            contamination=self.contamination,
            epoch_num=self.epochs,
            batch_size=batch_size,
            encoder_neuron_list=[64, 32],
            decoder_neuron_list=[32, 64],
            device=torch.device("cpu"),
            random_state=self.seed,
            verbose=0,
            **(ours if self.mode == "causal" else {}),
        )

    def _squared_errors(self, rows: np.ndarray) -> np.ndarray:
        """Squared error of each input [n, 3], averaged over the draws of z from its posterior given the row."""
        import torch

        network = self.model_.model.eval()
        draws = torch.from_numpy(np.random.default_rng(self.seed).standard_normal((self.draws, 2)).astype(np.float32))
        errors = []
        with torch.no_grad():
            for x in torch.from_numpy(rows.astype(np.float32)).split(SCORE_BATCH):
                mean, log_variance = network.encode(x)
                sd = torch.exp(0.5 * log_variance.clamp(*network.logvar_clip))
                total = sum(torch.square(x - network.decode(mean + sd * draw)) for draw in draws)
                errors.append(total / self.draws)
        return torch.cat(errors).double().numpy()
