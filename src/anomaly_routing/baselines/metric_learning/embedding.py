"""The learned metric: an embedding of windows by one tower for each modality, and the triplet loss that shapes it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class MetricNetwork(nn.Module):
    """One tower of two strided 1-D convolutions over time for each modality, joined into a unit vector of R^32."""

    def __init__(self, widths: list[int], window: int, channels: int = 16, embedding: int = 32) -> None:
        super().__init__()
        self.window, self.widths = window, widths
        self.towers = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, channels, 5, stride=2, padding=2), nn.ReLU(),
                nn.Conv1d(channels, 2 * channels, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten(),
            )
            for width in widths
        )  # fmt: skip
        self.join = nn.Linear(len(widths) * 2 * channels * -(-window // 4), embedding)

    def forward(self, windows: Tensor) -> Tensor:
        """[M, T, P] -> [M, 32]."""
        blocks = windows.mT.split(self.widths, dim=1)
        towers = [tower(block) for tower, block in zip(self.towers, blocks, strict=True)]
        return functional.normalize(self.join(torch.cat(towers, -1)), dim=-1)

    def keep(self, **buffers: np.ndarray) -> None:
        """What was fitted beside the layers; part of the weights."""
        for name, values in buffers.items():
            self.register_buffer(name, torch.as_tensor(values, device=self.join.weight.device))


def triplet_loss(embedded: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Mean over pairs (a, p) of one label of max(0, |a - p|^2 - |a - n|^2 + margin), n of another label.

    Semi-hard mining (Schroff et al. 2015): n is the nearest of those farther from a than p is; if none is, the
    farthest. embedded : [M, D], unit rows. A batch without any such triplet costs 0.
    """
    distance = (2 - 2 * embedded @ embedded.T).clamp(min=0)
    same = labels[:, None] == labels
    pairs = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device) & ~same.all(1, keepdim=True)
    beyond = ~same[:, None] & (distance[:, None] > distance[:, :, None])  # [a, p, n]
    semi_hard = torch.where(beyond, distance[:, None], torch.inf).amin(-1)
    farthest = torch.where(same, -torch.inf, distance).amax(-1, keepdim=True)
    negative = torch.where(semi_hard.isfinite(), semi_hard, farthest)
    loss = torch.where(pairs, (distance - negative + margin).clamp(min=0), 0.0)
    return loss.sum() / pairs.sum().clamp(min=1)
