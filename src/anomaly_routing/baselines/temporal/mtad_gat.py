"""MTAD-GAT: graph attention among the features and among the sessions of a window; a forecast and a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import FEATURE_WINDOW, Panel


class GraphAttention(nn.Module):
    """One head on a complete graph: sigmoid(sum_j a_ij v_j) with a_ij = softmax_j LeakyReLU(w . [v_i ; v_j])."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.other = (nn.Linear(width, 1, bias=False) for _ in range(2))  # the halves of w

    def forward(self, nodes: Tensor) -> Tensor:
        """[M, nodes, width] -> [M, nodes, width]."""
        logits = nn.functional.leaky_relu(self.one(nodes) + self.other(nodes).transpose(1, 2), 0.2)
        return torch.sigmoid(logits.softmax(-1) @ nodes)


class MTADGATNetwork(DeepNetwork):
    """Convolution, the two attentions, a GRU over all three; two heads on its last state.

    The features' attention has a node for each feature, its T-1 sessions; the times' attention has a node for each
    session, its F features. One head forecasts the session after those T-1, the other is a VAE of those T-1, Gaussian
    with one learned variance a feature. gamma : weight of the reconstruction in the score.
    """

    def __init__(self, n_features: int, window: int, hidden: int, latent: int, kernel: int, gamma: float) -> None:
        super().__init__()
        self.window, self.gamma = window, gamma
        steps = window - 1
        self.filter = nn.Conv1d(n_features, n_features, kernel, padding="same")
        self.by_feature, self.by_time = GraphAttention(steps), GraphAttention(n_features)
        self.gru = nn.GRU(3 * n_features, hidden, batch_first=True)
        self.forecast = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, n_features)
        )
        self.encode = nn.Linear(hidden, 2 * latent)  # mean and log variance of the code
        self.decode = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, steps * n_features),
            nn.Unflatten(1, (steps, n_features)),
        )
        self.log_variance = nn.Parameter(torch.zeros(n_features))

    def state(self, sessions: Tensor) -> Tensor:
        """[M, T-1, F] -> [M, hidden]."""
        x = self.filter(sessions.transpose(1, 2)).transpose(1, 2)
        related = self.by_feature(x.transpose(1, 2)).transpose(1, 2)
        return self.gru(torch.cat([x, related, self.by_time(x)], -1))[1][0]

    def losses(self, windows: Tensor, draw: bool) -> Tensor:
        """[M, T, F] -> [M]: root mean squared forecast error plus negative ELBO, a constant aside, per entry.

        draw : the code is drawn, as in training; else it is the mean.
        """
        past, target = windows[:, :-1], windows[:, -1]
        state = self.state(past)
        missed = ((self.forecast(state) - target).square().mean(-1) + 1e-8).sqrt()
        mean, log_spread = self.encode(state).chunk(2, -1)
        code = mean + torch.randn_like(mean) * (log_spread / 2).exp() if draw else mean
        surprise = (self.decode(code) - past).square() / self.log_variance.exp() + self.log_variance
        divergence = mean.square() + log_spread.exp() - log_spread - 1
        return missed + (surprise.sum((1, 2)) + divergence.sum(1)) / (2 * past.shape[1:].numel())

    def parts(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """[M, T, F] -> squared forecast error and improbability of the last session, means over the features, [M] each.

        The forecast comes from the T-1 sessions before it, the reconstruction from the T-1 that end in it.
        """
        target = windows[:, -1]
        surprise = (self.forecast(self.state(windows[:, :-1])) - target).square()
        code = self.encode(self.state(windows[:, 1:])).chunk(2, -1)[0]
        probability = (-(self.decode(code)[:, -1] - target).square() / (2 * self.log_variance.exp())).exp()
        return surprise.mean(-1), (1 - probability).mean(-1)

    def judge(self, windows: Tensor) -> Tensor:
        """[M, T, F] -> [M], the paper's inference score, averaged over the features."""
        surprise, improbability = self.parts(windows)
        return (surprise + self.gamma * improbability) / (1 + self.gamma)

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """Forecast and reconstruction together."""
        return self.losses(batch.windows(batch.picked), draw=True).mean()

    def criterion(self, batch: Batch) -> Tensor:
        """The objective with the code's mean."""
        return batch.placed(self.losses(batch.windows(batch.active), draw=False))

    def score(self, batch: Batch) -> Tensor:
        """See `judge`."""
        return batch.placed(self.judge(batch.windows(batch.active)))


@register(
    "mtad_gat",
    family="temporal",
    stage="deep_baselines",
    title="MTAD-GAT",
    reference="Zhao et al. 2020 (ICDM); arXiv 2009.02040",
)
@dataclass
class MTADGAT(DeepDetector):
    """Graph attention over the features and over the sessions of a stock's own window; one network for all stocks.

    The graphs are complete and learned from one stock's window: no other stock and no prior graph enters.
    Objective: root mean squared error of the forecast plus the VAE's negative ELBO per entry of the window. Score: mean
    over the features of (forecast error^2 + gamma (1 - p)) / (1 + gamma), gamma 0.8 as in the paper.
    From the source: kernel 7, one head each, three layers in the forecast. Left open there and our choice: no
    activation after the convolution, which keeps the features' signs; p is the Gaussian density of x_t relative to its
    peak, so that it stays between 0 and 1; the code's mean for draws in scoring. Reduced: 64 units for 300, a code of
    16, 20 sessions for 100; no spectral-residual cleaning of the training data; a step fits `share` of a batch's
    stock-days, since windows one session apart repeat each other.
    """

    share: float = 0.25
    window: int = FEATURE_WINDOW
    hidden: int = 64
    latent: int = 16
    kernel: int = 7
    gamma: float = 0.8

    def network(self, panel: Panel) -> DeepNetwork:
        return MTADGATNetwork(len(panel.features), self.window, self.hidden, self.latent, self.kernel, self.gamma)
