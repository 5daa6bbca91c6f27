"""Anomaly Transformer: a step that attends to little but its own neighbourhood in time is anomalous."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import FEATURE_WINDOW, Panel

SHIFT = 1e-4  # added to the associations before their logarithm, as in the authors' code


def discrepancy(one: Tensor, other: Tensor) -> Tensor:
    """KL(one|other) + KL(other|one) over the last axis, averaged over the heads; [M, heads, T, T] -> [M, T]."""
    return ((one - other) * ((one + SHIFT).log() - (other + SHIFT).log())).sum(-1).mean(1)


def prior_association(sigma: Tensor) -> Tensor:
    """Gaussian of the distance in time, row sums 1; sigma [M, T, heads] -> [M, heads, T, T]."""
    step = torch.arange(sigma.shape[1], device=sigma.device)
    distance = (step[:, None] - step).square()
    # a Gaussian divided by its row sum is a softmax of its exponent
    return (-distance / (2 * sigma.transpose(1, 2)[..., None].square())).softmax(-1)


class AnomalyAttention(nn.Module):
    """Self-attention that also learns sigma, how far each step would look if it knew of nothing but distance.

    Series association: the attention weights. Sigma lies between 0 and 2, one for each head, as in the authors' code.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.split = (heads, width // heads)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.sigma = nn.Linear(width, heads)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [M, T, width] -> output [M, T, width], series association [M, heads, T, T], sigma [M, T, heads]."""
        parts = (part(x).unflatten(2, self.split) for part in (self.query, self.key, self.value))
        q, k, v = (part.transpose(1, 2) for part in parts)
        series = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        sigma = 3 ** (torch.sigmoid(5 * self.sigma(x)) + 1e-5) - 1
        return self.out((series @ v).transpose(1, 2).flatten(2)), series, sigma


class Layer(nn.Module):
    """Attention and feed-forward part, each with a residual and a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = AnomalyAttention(width, heads)
        self.forward_part = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attended, series, sigma = self.attention(x)
        x = self.norms[0](x + attended)
        return self.norms[1](x + self.forward_part(x)), series, sigma


class AnomalyTransformerNetwork(DeepNetwork):
    """Convolution over three steps (closed to a ring) and a position, `layers` layers, a linear map to the features.

    weight : of the discrepancy in training (the paper's lambda). temperature : times the discrepancy in the score.
    """

    def __init__(
        self, n_features: int, window: int, width: int, heads: int, layers: int, weight: float, temperature: float
    ) -> None:
        super().__init__()
        self.window, self.weight, self.temperature = window, weight, temperature
        self.embed = nn.Conv1d(n_features, width, kernel_size=3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.embed.weight, nonlinearity="leaky_relu")
        self.register_buffer("position", _position(window, width), persistent=False)
        self.layers = nn.ModuleList([Layer(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, n_features)

    def rebuild(self, windows: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """[M, T, F] -> the rebuilt windows and, for each layer, the series association and sigma."""
        x = self.embed(windows.transpose(1, 2)).transpose(1, 2) + self.position
        every_series, every_sigma = [], []
        for layer in self.layers:
            x, series, sigma = layer(x)
            every_series.append(series)
            every_sigma.append(sigma)
        return self.out(self.norm(x)), every_series, every_sigma

    def forward(self, windows: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """[M, T, F] -> the rebuilt windows and, for each layer, the series and the prior association."""
        rebuilt, series, sigmas = self.rebuild(windows)
        return rebuilt, series, [prior_association(sigma) for sigma in sigmas]

    def phases(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the minimise phase and the maximise phase minimise, and the error alone; three scalars.

        Minimise: the prior moves towards the series, which is held. Maximise: the series moves away from the prior,
        which is held.
        """
        rebuilt, series, priors = self(windows)
        error = (rebuilt - windows).square().mean()
        pairs = list(zip(series, priors, strict=True))
        nearer = torch.stack([discrepancy(p, s.detach()).mean() for s, p in pairs]).mean()
        farther = torch.stack([discrepancy(p.detach(), s).mean() for s, p in pairs]).mean()
        return error + self.weight * nearer, error - self.weight * farther, error

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """Both phases together: their gradients add up in one step, as in the authors' code."""
        minimise, maximise, _ = self.phases(batch.windows(batch.picked))
        return minimise + maximise

    def step(self, batch: Batch, epoch: int) -> Tensor:
        """The gradients of both phases; logs the error, since the two discrepancies cancel in the sum."""
        minimise, maximise, error = self.phases(batch.windows(batch.picked))
        (minimise + maximise).backward()
        return error.detach()

    def criterion(self, batch: Batch) -> Tensor:
        """Mean squared error of the window: the score's softmax would let it fall without any better fit."""
        windows = batch.windows(batch.active)
        return batch.placed((self.rebuild(windows)[0] - windows).square().mean((1, 2)))

    def plain_error(self, batch: Batch) -> Tensor:
        """[B, N], squared error of x_t: the score without the association, to see what that adds."""
        windows = batch.windows(batch.active)
        return batch.placed((self.rebuild(windows)[0] - windows)[:, -1].square().mean(-1))

    def score(self, batch: Batch) -> Tensor:
        """Squared error of x_t times its share of the window's softmax of minus the discrepancy."""
        windows = batch.windows(batch.active)
        rebuilt, series, priors = self(windows)
        apart = torch.stack([discrepancy(p, s) for s, p in zip(series, priors, strict=True)]).mean(0)
        share = (-self.temperature * apart).softmax(1)[:, -1]
        return batch.placed(share * (rebuilt - windows)[:, -1].square().mean(-1))


def _position(length: int, width: int) -> Tensor:
    """[T, width], sines and cosines of the step at falling speeds."""
    speed = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    angle = torch.arange(length)[:, None] * speed
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]


@register(
    "anomaly_transformer",
    family="temporal",
    stage="deep_baselines",
    title="Anomaly Transformer",
    reference="Xu et al. 2022 (ICLR); github.com/thuml/Anomaly-Transformer",
)
@dataclass
class AnomalyTransformer(DeepDetector):
    """Three layers of anomaly attention on a stock's own window of `window` sessions, one network for all stocks.

    Objective: minimax. Both phases minimise the window's mean squared error; the minimise phase draws the prior
    association to the held series association, the maximise phase drives the series association from the held prior,
    each with weight 3; discrepancy = symmetric KL, averaged over heads, steps and layers. Score: squared error of x_t
    times its share of the softmax, over the steps of x_t's own window, of minus the discrepancy.
    From the source: three layers, 8 heads, the form of sigma, no dropout. Reduced: width and feed-forward 64 for 512
    and 20 sessions for 100 (SPEC 13); both phases in one step, as in the authors' code, where the paper alternates
    them; temperature 1, as in the paper's formula: the code scores whole windows with 50 times the sum over layers,
    which would leave the last session of most windows a share of 0; a step fits `share` of a batch's stock-days, since
    windows one session apart repeat each other.
    """

    share: float = 0.125
    window: int = FEATURE_WINDOW
    width: int = 64
    heads: int = 8
    layers: int = 3
    weight: float = 3.0
    temperature: float = 1.0

    def network(self, panel: Panel) -> DeepNetwork:
        return AnomalyTransformerNetwork(
            len(panel.features), self.window, self.width, self.heads, self.layers, self.weight, self.temperature
        )
