"""The windows of price, volume and features that the metric is learned on, and their principal directions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anomaly_routing.panel import Panel

FEWEST = 120  # training windows for a scale of a stock's own (SPEC 3)
MODALITIES = ("price", "volume", "features")


class Windows:
    """The last `length` sessions of every stock-day, less their own mean, one block of columns for each modality.

    price : cumulated log return, unchanged over a session without a trade. volume : log volume, the last one known on
    such a session. features : x. Sessions before a stock's first trade (for x: on which it is inactive) count neither
    in the mean nor after: they are 0.
    """

    def __init__(self, panel: Panel, length: int, modalities: tuple[str, ...]) -> None:
        if not modalities or set(modalities) - set(MODALITIES):
            raise ValueError(f"modalities {modalities!r}; they can be: {', '.join(MODALITIES)}")
        self.length = length
        traded = np.isfinite(panel.log_volume)
        known = np.maximum.accumulate(traded, axis=0)
        last = np.maximum.accumulate(np.where(traded, np.arange(len(traded))[:, None], 0), axis=0)
        blocks = {
            "price": (np.nan_to_num(panel.returns).cumsum(0)[..., None], known),
            "volume": (np.nan_to_num(np.take_along_axis(panel.log_volume, last, 0))[..., None], known),
            "features": (panel.x, panel.active),
        }
        chosen = [blocks[name] for name in modalities]
        self.widths = [block.shape[-1] for block, _ in chosen]
        self.unscaled = np.repeat([name != "features" for name in modalities], self.widths)  # x comes scaled
        values = np.concatenate([block for block, _ in chosen], -1)
        valid = np.concatenate([np.broadcast_to(v[..., None], b.shape) for b, v in chosen], -1)
        self.values, self.valid = (self._lead(a) for a in (values, valid))  # [S + length - 1, N, P]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[M, length, P] of the stock-days [M, 2] (session, stock)."""
        at = rows[:, :1] + np.arange(self.length), rows[:, 1:]
        values, valid = self.values[at], self.valid[at]
        mean = (values * valid).sum(1, keepdims=True) / np.maximum(valid.sum(1, keepdims=True), 1)
        return (values - mean) * valid

    def scale(self, rows: np.ndarray, stocks: int) -> np.ndarray:
        """[N, P], root mean square of price and volume in the windows of these stock-days, by stock; features have 1.

        A stock with fewer than 120 windows takes that of all stocks, a column without variation 1.
        """
        squares, count = np.zeros((stocks, sum(self.widths))), np.bincount(rows[:, 1], minlength=stocks)
        for some in np.array_split(rows, max(1, len(rows) // 4096)):
            np.add.at(squares, some[:, 1], (self(some) ** 2).mean(1))
        own = np.sqrt(squares / np.maximum(count, 1)[:, None])
        scale = np.where(count[:, None] >= FEWEST, own, np.sqrt(squares.sum(0) / max(count.sum(), 1)))
        return np.where(self.unscaled & (scale > 1e-12), scale, 1.0)

    def _lead(self, values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros((self.length - 1, *values.shape[1:]), values.dtype), values])


def principal_directions(windows: Tensor) -> Tensor:
    """First right singular vector [M, P] of each centred window [M, T, P]; 0 for one without variation.

    Its sign is arbitrary. Through the smaller of the two Gram matrices, in double precision.
    """
    w = windows.double()
    if w.shape[2] <= w.shape[1]:
        v = torch.linalg.eigh(w.mT @ w).eigenvectors[..., -1]
    else:
        v = (w.mT @ torch.linalg.eigh(w @ w.mT).eigenvectors[..., -1:])[..., 0]
    varies = w.abs().amax((1, 2)) > 1e-9
    return torch.where(varies[:, None], v / v.norm(dim=-1, keepdim=True).clamp(min=1e-300), 0.0)
