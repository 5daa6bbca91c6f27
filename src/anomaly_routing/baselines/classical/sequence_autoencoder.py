"""LSTM autoencoder on windows of return, volume and volatility, with the decoder that the chapter's sketch lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from anomaly_routing.baselines.classical.dense_autoencoder import pooled_inputs
from anomaly_routing.baselines.classical.torch_seed import repeatable
from anomaly_routing.baselines.inputs import MIN_SAMPLE, RobustScaling, fit_rows, masked, subsample
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import FEATURE_WINDOW, Panel

SCORE_BATCH = 4096
HIDDEN, CODE = 64, 16


@register(
    "sequence_autoencoder",
    family="classical",
    modes=("chapter", "causal"),
    title="LSTM autoencoder, three inputs",
    reference="the chapter, 58.4.2; AUDIT D02, D06",
)
@dataclass
class SequenceAutoencoder:
    """Euclidean distance of a stock's last row from its reconstruction, after a window of `window` observed sessions.

    Encoder LSTM 3-64, code of 16; the decoder of the sketch cannot run (D06), so here an LSTM 16-64 reads the code at
    every step and a linear map gives the three inputs. MSE of the window, Adam 1e-3, batches of 64, one network for all
    stocks on at most `max_rows` seeded windows. Only the last row of the window is scored: the error of the window
    would stay high for as long as the window is.
    chapter: windows of all sessions, inputs standardised by mean and SD of all rows of all stocks (the sketch ends
    before its data; unscaled, volume in shares is all that there is, D03). causal: windows that end in training
    sessions, inputs scaled by each stock's training median and MAD. `flag_threshold`: the 1 - contamination quantile of
    the fitting windows. NaN where an input is undefined and in a stock's first `window` - 1 observed sessions.
    """

    mode: str = "causal"
    seed: int = 0
    contamination: float = 0.05
    epochs: int = 20
    max_rows: int = 5_000
    batch_size: int = 64
    window: int = FEATURE_WINDOW
    flag_threshold: float = field(init=False, repr=False)
    scaling_: RobustScaling | None = field(default=None, init=False, repr=False)
    moments_: tuple[np.ndarray, np.ndarray] | None = field(default=None, init=False, repr=False)
    model_: Any = field(init=False, repr=False)

    def fit(self, panel: Panel, train_mask: np.ndarray) -> SequenceAutoencoder:
        usable = fit_rows(panel, self.mode, train_mask)
        if self.mode == "causal":
            self.scaling_ = RobustScaling.fit(panel, usable)
        else:
            rows = pooled_inputs(panel, None)[usable]
            self.moments_ = np.nanmean(rows, axis=0), np.maximum(np.nanstd(rows, axis=0), 1e-12)
        windows, session, stock = self._windows(panel)
        windows = windows[usable[session, stock]]
        if len(windows) < MIN_SAMPLE:
            raise ValueError(f"{len(windows)} windows of {self.window} observed sessions to fit on; need {MIN_SAMPLE}")
        windows = windows[subsample(windows, self.max_rows, np.random.default_rng(self.seed))]
        with repeatable(self.seed):
            self.model_ = _trained(windows, self.epochs, self.batch_size)
        self.flag_threshold = float(np.quantile(self._distance(windows), 1 - self.contamination))
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        windows, session, stock = self._windows(panel)
        scores = np.full(panel.active.shape, np.nan)
        if len(windows):
            scores[session, stock] = self._distance(windows)
        return masked(panel, scores)

    def _windows(self, panel: Panel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Windows [M, T, 3] float32 of each stock's observed sessions, gaps closed up, with session and stock [M]."""
        inputs, parts = pooled_inputs(panel, self.scaling_), []
        if self.moments_ is not None:
            inputs = (inputs - self.moments_[0]) / self.moments_[1]
        for i in range(len(panel.tickers)):
            seen = np.flatnonzero(np.isfinite(inputs[:, i]).all(axis=1))
            if len(seen) >= self.window:
                own = sliding_window_view(inputs[seen, i].astype(np.float32), self.window, axis=0).swapaxes(1, 2)
                parts.append((own, seen[self.window - 1 :], np.full(len(own), i)))
        if not parts:
            return np.zeros((0, self.window, 3), np.float32), np.zeros(0, int), np.zeros(0, int)
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))

    def _distance(self, windows: np.ndarray) -> np.ndarray:
        import torch

        found = []
        with repeatable(self.seed), torch.no_grad():
            for part in np.array_split(windows, max(1, len(windows) // SCORE_BATCH)):
                rebuilt = self.model_(torch.from_numpy(part)).numpy()
                found.append(np.linalg.norm(part[:, -1].astype(float) - rebuilt[:, -1], axis=1))
        return np.concatenate(found)


def network(inputs: int, hidden: int = HIDDEN, code: int = CODE) -> Any:
    """A new autoencoder: windows [M, T, inputs] in, windows of the same shape out."""
    from torch import nn

    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.code = nn.LSTM(inputs, hidden, batch_first=True), nn.Linear(hidden, code)
            self.decoder, self.out = nn.LSTM(code, hidden, batch_first=True), nn.Linear(hidden, inputs)

        def forward(self, x):
            code = self.code(self.encoder(x)[1][0][-1])
            return self.out(self.decoder(code[:, None].expand(-1, x.shape[1], -1))[0])

    return Autoencoder()


def _trained(windows: np.ndarray, epochs: int, batch_size: int) -> Any:
    import torch

    net, data = network(windows.shape[2]), torch.from_numpy(windows)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.001)
    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(batch_size):
            optimiser.zero_grad()
            (net(data[rows]) - data[rows]).square().mean().backward()
            optimiser.step()
    return net.eval()
