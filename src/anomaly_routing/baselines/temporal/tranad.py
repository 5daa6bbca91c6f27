"""TranAD: a transformer rebuilds the session twice, the second time with the error of the first to look at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


class TranADNetwork(DeepNetwork):
    """One encoder, two decoders, all of width 2F: the window beside its focus score.

    Phase 1 encodes the window with a focus of 0, and the first decoder rebuilds the last session. Phase 2 encodes it
    with the squared difference to that as its focus, and the second decoder rebuilds the last session again. A decoder
    starts from the last session itself, twice side by side, and attends to the encoded window. One head a feature.
    bounded : the outputs pass a sigmoid, for features between 0 and 1 (the source's).
    """

    def __init__(self, n_features: int, window: int, inner: int, dropout: float, bounded: bool = False) -> None:
        super().__init__()
        self.window = window
        width, options = 2 * n_features, {"dropout": dropout, "batch_first": True}
        self.encoder = nn.TransformerEncoderLayer(width, n_features, inner, **options)
        self.decoders = nn.ModuleList(nn.TransformerDecoderLayer(width, n_features, inner, **options) for _ in range(2))
        self.out = nn.Sequential(nn.Linear(width, n_features), nn.Sigmoid() if bounded else nn.Identity())
        self.dropout = nn.Dropout(dropout)
        angle = torch.arange(window)[:, None] * torch.exp(torch.arange(width) * (-math.log(10_000) / width))
        self.register_buffer("position", angle.sin() + angle.cos(), persistent=False)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """[M, T, F] -> the last session as phase 1 and as phase 2 rebuild it, [M, F] each."""
        first = self._phase(0, windows, torch.zeros_like(windows))
        second = self._phase(1, windows, (first[:, None] - windows).square())
        return first, second

    def _phase(self, number: int, windows: Tensor, focus: Tensor) -> Tensor:
        seen = torch.cat([windows, focus], -1) * math.sqrt(windows.shape[-1])
        memory = self.encoder(self.dropout(seen + self.position))
        return self.out(self.decoders[number](windows[:, -1:].repeat(1, 1, 2), memory))[:, 0]

    def errors(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """[M, T, F] -> mean squared error of the last session in phase 1 and in phase 2, [M] each."""
        first, second = ((built - windows[:, -1]).square().mean(-1) for built in self(windows))
        return first, second

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """The first phase's error counts 1/n in epoch n (from 1), the second's the rest."""
        first, second = self.errors(batch.windows(batch.picked))
        return (first / (epoch + 1) + second * (1 - 1 / (epoch + 1))).mean()

    def score(self, batch: Batch) -> Tensor:
        """Mean of the two errors."""
        first, second = self.errors(batch.windows(batch.active))
        return batch.placed((first + second) / 2)


@register(
    "tranad",
    family="temporal",
    stage="deep_baselines",
    title="TranAD",
    reference="Tuli et al. 2022 (VLDB); github.com/imperial-qore/TranAD",
)
@dataclass
class TranAD(DeepDetector):
    """Two-phase transformer on a stock's own window of `window` sessions, one network for all stocks.

    Objective: the squared errors of both phases, the first weighted 1/n in epoch n, the second 1 - 1/n, as in the
    authors' code; the paper also sets the second decoder against the first, which that code does not. Score: the mean
    of both errors, as in the paper; the code takes the second alone.
    The decoders see the session that they rebuild, as in the source: what stands out is a session unlike those trained
    on, more than one that its past does not lead to.
    From the source: window 10, one layer each, feed-forward 16, a head a feature, dropout 0.1; layer norms as in the
    paper (the code has none, and a linear feed-forward). Reduced: linear outputs for its sigmoid, since features reach
    from -8 to 8 here and from 0 to 1 there; no meta-learning step, which the code lacks too; a step fits `share` of a
    batch's stock-days, since windows one session apart repeat each other.
    """

    share: float = 0.125
    window: int = 10
    inner: int = 16
    dropout: float = 0.1

    def network(self, panel: Panel) -> DeepNetwork:
        return TranADNetwork(len(panel.features), self.window, self.inner, self.dropout)
