"""LSTM autoencoder: what a recurrent network cannot repeat of its own window is anomalous."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import FEATURE_WINDOW, Panel


class LSTMAutoencoderNetwork(DeepNetwork):
    """Encoder LSTM F-H; its last state starts a decoder LSTM that rebuilds the window backwards, x_t first.

    The decoder is fed what it should have built one step before (teacher forcing) in training and what it did build in
    scoring, as the source does.
    """

    def __init__(self, n_features: int, hidden: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.encoder = nn.LSTM(n_features, hidden, batch_first=True)
        self.decoder = nn.LSTMCell(n_features, hidden)
        self.out = nn.Linear(hidden, n_features)

    def rebuild(self, windows: Tensor, teach: bool) -> Tensor:
        """[M, T, F] -> [M, T, F]."""
        _, (h, c) = self.encoder(windows)
        h, c = h[0], c[0]
        built = [self.out(h)]
        for step in range(windows.shape[1] - 1, 0, -1):
            h, c = self.decoder(windows[:, step] if teach else built[-1], (h, c))
            built.append(self.out(h))
        return torch.stack(built[::-1], 1)

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """Mean squared error over window and features."""
        windows = batch.windows(batch.picked)
        return (self.rebuild(windows, teach=True) - windows).square().mean()

    def score(self, batch: Batch) -> Tensor:
        """Mean squared error of x_t, the first step that the decoder rebuilds."""
        windows = batch.windows(batch.active)
        rebuilt = self.rebuild(windows, teach=False)
        return batch.placed((rebuilt[:, -1] - windows[:, -1]).square().mean(-1))


@register(
    "lstm_ae",
    family="temporal",
    stage="deep_baselines",
    title="LSTM autoencoder",
    reference="Malhotra et al. 2016 (EncDec-AD); the chapter, 58.4.2",
)
@dataclass
class LSTMAutoencoder(DeepDetector):
    """Encoder and decoder LSTM on a stock's own window of `window` sessions, one network for all stocks.

    Objective: mean squared error of the window. Score: mean squared error of its last session.
    From the source: the decoder runs backwards from the encoder's last state, teacher-forced in training. Reduced: 64
    units and 20 sessions (SPEC 13) for its 40-100 units and longer windows; the mean squared error for its Mahalanobis
    distance of the error, so that every autoencoder here is scored alike; a step fits `share` of a batch's stock-days,
    since windows one session apart repeat each other.
    """

    share: float = 0.25
    hidden: int = 64
    window: int = FEATURE_WINDOW

    def network(self, panel: Panel) -> DeepNetwork:
        return LSTMAutoencoderNetwork(len(panel.features), self.hidden, self.window)
