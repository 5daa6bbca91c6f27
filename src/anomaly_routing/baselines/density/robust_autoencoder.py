"""Robust autoencoder: the data split into a part that an autoencoder can repeat and a few whole rows that it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork, Series, masked_average
from anomaly_routing.baselines.registry import register
from anomaly_routing.model.training import TrainingConfig
from anomaly_routing.panel import Panel

ROUNDS = 5  # alternations that a row unseen in training gets


def shrink_rows(x: Tensor, by: Tensor) -> Tensor:
    """Proximal operator of by * sum of the rows' norms: each row [..., F] shortened by `by`, to 0 if it was shorter."""
    norm = x.norm(dim=-1, keepdim=True)
    return torch.where(norm > by, x * (1 - by / norm.clamp(min=1e-12)), 0.0)


class RobustAutoencoderNetwork(DeepNetwork):
    """Autoencoder F-hidden-code-hidden-F, tanh, the decoder using the encoder's matrices transposed.

    `low` is what it is trained on: X - S of the training rows, renewed at the start of every `inner`-th epoch.
    """

    def __init__(self, widths: list[int], share: float, inner: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(width)) for width in widths[-2::-1]])
        self.register_buffer("lam", torch.tensor(torch.inf))
        self.share, self.inner = share, inner
        self.split_at = -1

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).tanh()
        for i, (layer, bias) in enumerate(zip(reversed(self.layers), self.biases, strict=True)):
            x = x @ layer.weight + bias
            x = x if i == len(self.layers) - 1 else x.tanh()
        return x

    def keep(self, low: Tensor, active: Tensor) -> None:
        """low : [S, N, F], the training sessions as the batches will read them; active : bool [S, N]."""
        self.low, self.rows, self.original = low, active, low[active]
        self.sparse = torch.zeros_like(self.original)

    @torch.no_grad()
    def split(self) -> None:
        """One alternation over all training rows: S = shrink(X - AE(X - S)), and L = X - S for the batches to come.

        lambda is renewed first: the quantile of the rows' errors that leaves the wanted share of rows in S.
        """
        error = self.original - self(self.original - self.sparse)
        order = error.norm(dim=-1).sort().values
        self.lam.copy_(order[int((1 - self.share) * (len(order) - 1))])
        self.sparse = shrink_rows(error, self.lam)
        self.low[self.rows] = self.original - self.sparse

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """Mean squared error of L."""
        if epoch % self.inner == 0 and epoch > self.split_at:
            self.split()
            self.split_at = epoch
        low = batch.now
        return masked_average((self(low) - low).square().mean(-1), batch.picked)

    def score(self, batch: Batch) -> Tensor:
        """|x - AE(x - S)| after `ROUNDS` alternations from S = 0, the network fixed."""
        x = batch.now
        sparse = torch.zeros_like(x)
        for _ in range(ROUNDS):
            sparse = shrink_rows(x - self(x - sparse), self.lam)
        return (x - self(x - sparse)).norm(dim=-1)


@register(
    "robust_autoencoder",
    family="density",
    stage="deep_baselines",
    title="Robust autoencoder",
    reference="Zhou and Paffenroth 2017 (KDD); github.com/zc8340311/RobustAutoencoder",
)
@dataclass
class RobustAutoencoder(DeepDetector):
    """X = L + S: an autoencoder repeats L, and S is a matrix of few non-zero rows, by the norm l2,1 over rows.

    Objective: |L - AE(L)|^2 + lambda |S|_2,1, alternating: `inner` epochs of the autoencoder on L = X - S, then one
    proximal step, S = X - AE(L) with each row shortened by lambda. So outlying stock-days do not pull the autoencoder
    towards themselves. As in the authors' code, without a dual variable. Score: |x - AE(x - S)| with the row's own S,
    found by the same alternation from S = 0 with fixed weights; it passes lambda, the `flag_threshold`, just when S is
    not 0 and then grows with |S|. (The source judges the rows that it was fitted on, by S alone.)
    Reduced: layers in the source's proportion, 784-400-200 there and 29-15-7 here; tanh and a linear output for
    sigmoids, since features are not in 0..1; 5 epochs between shrinkings for 50, there being 20 times the rows. The
    source searches lambda with labels; here it is renewed at each shrinking so that `outliers` of the training
    stock-days have an S. Rows of the tail that stops the training are never split.
    """

    hidden: int | None = None
    code: int | None = None
    outliers: float = 0.05
    inner: int = 5

    def network(self, panel: Panel) -> DeepNetwork:
        width = len(panel.features)
        hidden = self.hidden or max(2, round(0.51 * width))
        return RobustAutoencoderNetwork([width, hidden, self.code or max(1, hidden // 2)], self.outliers, self.inner)

    @property
    def flag_threshold(self) -> float:
        """lambda: a stock-day above it is an outlier to the fitted model."""
        return float(self.net.lam)

    def _train(self, series: Series, samples: dict[str, np.ndarray], label: str) -> None:
        rows = samples["train"]
        rows = rows[: len(rows) - round(TrainingConfig().tail_share * len(rows))]
        series.rows["x"] = series.rows["x"].clone()  # L is written into it, never into the panel
        fitted = slice(rows[0], rows[-1] + 1) if len(rows) else slice(0)
        self.net.keep(series.rows["x"][fitted], series.active[fitted])
        super()._train(series, samples, label)
        del self.net.low, self.net.original, self.net.sparse, self.net.rows
