"""Real NVP: an invertible network gives the density of a stock-day; what is improbable is anomalous."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel

SCALE_LIMIT = 2.0  # a layer multiplies a feature by exp(-2) .. exp(2) at most


class Coupling(nn.Module):
    """Affine coupling: the features marked in `mask` pass and decide how the others are scaled and shifted."""

    def __init__(self, mask: Tensor, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        width = len(mask)
        self.net = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * width)
        )
        nn.init.zeros_(self.net[-1].weight)  # starts as the identity
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[M, F] -> [M, F] and the log-determinant of the Jacobian [M]: the sum of the log scales."""
        log_scale, shift = self.net(x * self.mask).chunk(2, dim=-1)
        log_scale = SCALE_LIMIT * torch.tanh(log_scale / SCALE_LIMIT) * (1 - self.mask)
        return x * log_scale.exp() + shift * (1 - self.mask), log_scale.sum(-1)


class RealNVPNetwork(DeepNetwork):
    """Couplings in pairs: a random half of the features passes in the first, the other half in the second."""

    def __init__(self, n_features: int, hidden: int, pairs: int, noise: float) -> None:
        super().__init__()
        self.noise = noise
        masks = []
        for _ in range(pairs):
            mask = torch.zeros(n_features)
            mask[torch.randperm(n_features)[: n_features // 2]] = 1
            masks += [mask, 1 - mask]
        self.couplings = nn.ModuleList([Coupling(mask, hidden) for mask in masks])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [M, F] -> latent rows [M, F] and ln |det dz/dx| [M]."""
        total = torch.zeros(len(x), device=x.device)
        for coupling in self.couplings:
            x, log_det = coupling(x)
            total = total + log_det
        return x, total

    def surprise(self, x: Tensor) -> Tensor:
        """Negative log-density [M] of rows [M, F]: standard normal latent, change of variables."""
        z, log_det = self(x)
        return 0.5 * (z.square() + math.log(2 * math.pi)).sum(-1) - log_det

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """Mean negative log-density of the rows with noise."""
        x = batch.now[batch.picked]
        return self.surprise(x + self.noise * torch.randn(x.shape).to(x.device)).mean()

    def score(self, batch: Batch) -> Tensor:
        """Negative log-density of x_t, in nats."""
        return self.surprise(batch.now.flatten(0, 1)).view(batch.active.shape)


@register(
    "real_nvp",
    family="density",
    stage="deep_baselines",
    title="Real NVP",
    reference="Dinh, Sohl-Dickstein and Bengio 2017 (ICLR)",
)
@dataclass
class RealNVP(DeepDetector):
    """Normalising flow of affine couplings on the features of one stock-day, one density for all stocks.

    Objective and score: negative log-density of x_t, of a standard normal latent and the couplings' log-determinants.
    From the source: affine coupling, masks that alternate, log scales bounded by tanh. Reduced: fully connected nets of
    two hidden layers for its residual convolutions, random halves for its checkerboards, no batch normalisation and no
    multi-scale structure, which are for images. Features that are binary or cut off at 8 have atoms, on which a
    density has no bound: training adds Gaussian noise of SD `noise` (the source dequantises pixels likewise), so the
    density learned is that of the features with this noise; the score takes the row as it is.
    """

    hidden: int = 64
    pairs: int = 4
    noise: float = 0.1

    def network(self, panel: Panel) -> DeepNetwork:
        return RealNVPNetwork(len(panel.features), self.hidden, self.pairs, self.noise)
