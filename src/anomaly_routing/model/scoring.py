"""Module 4, first half: rebuild the last 1, 3 and 5 sessions from the mixed latent, and turn errors into scores.

Paper 3.5, SPEC 7.1-7.3. The decoders are torch; the scores are numpy, computed once after training.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from anomaly_routing.model.config import HORIZONS, ModelConfig
from anomaly_routing.model.masking import safe_norm

HORIZON_WEIGHTS = (0.5, 0.3, 0.2)
MOE_SHARE = 0.6
STEEPNESS = 2.0
BLOCK = 32  # sessions in a batch of the literal score (A64)
EPS = 1e-8


class Decoders(nn.Module):
    """One GRU a horizon h, fed the latent h times, that writes x_{t-h+1} .. x_t (equations 14, 51; A62, A63)."""

    def __init__(self, n_features: int, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.decoder_hidden
        self.gru = nn.ModuleList(nn.GRU(config.latent, hidden, batch_first=True) for _ in HORIZONS)
        self.out = nn.ModuleList(nn.Linear(hidden, n_features) for _ in HORIZONS)

    def forward(self, latent: Tensor, recent: Tensor) -> Tensor:
        """latent [B, N, 64], recent [B, N, 5, F] the last sessions, oldest first. Returns e_h [B, N, 3]."""
        rows, errors = latent.flatten(0, 1), []  # [B*N, 64]
        for horizon, gru, out in zip(HORIZONS, self.gru, self.out, strict=True):
            states = gru(rows[:, None].expand(-1, horizon, -1))[0]  # [B*N, h, 128], from a zero state
            rebuilt = out(states).unflatten(0, latent.shape[:2])  # [B, N, h, F]
            errors.append(safe_norm(recent[:, :, -horizon:] - rebuilt).mean(-1))
        return torch.stack(errors, -1)


def aggregate(horizon_error: Tensor, moe_error: Tensor) -> tuple[Tensor, Tensor]:
    """e_rec and E = 0.6 e_moe + 0.4 e_rec, both [B, N] (equations 52, 53)."""
    rec = sum(weight * horizon_error[..., h] for h, weight in enumerate(HORIZON_WEIGHTS))
    return rec, MOE_SHARE * moe_error + (1 - MOE_SHARE) * rec


def score_statistics(error: np.ndarray, active: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
    """mu_e and sigma_e over the active stock-days of the sessions `rows` bool [S] (SPEC 7.2); error [S, N]."""
    pool = np.asarray(error, dtype=np.float64)[active & rows[:, None]]
    if not len(pool):
        raise ValueError("no active stock-day in the sessions that fix the mean and SD of the error")
    return float(pool.mean()), float(pool.std())


def scores(error: np.ndarray, active: np.ndarray, mu: float, sigma: float) -> np.ndarray:
    """s = sigmoid(2 (E - mu_e) / sigma_e) in [0, 1], NaN where inactive; [S, N] (equations 15, 53)."""
    z = (np.asarray(error, dtype=np.float64) - mu) / (sigma + EPS)
    return np.where(active, 0.5 * (1 + np.tanh(STEEPNESS * z / 2)), np.nan)  # the logistic function, without overflow


def block_scores(error: np.ndarray, active: np.ndarray, splits: list[np.ndarray], block: int = BLOCK) -> np.ndarray:
    """The printed "batch statistics": each block of 32 sessions of a split is its own yardstick (A64).

    splits : bool [S] masks, one a split; blocks are counted from the split's first session, the last one is short.
    A score depends here on the other sessions of its block, later ones too. NaN outside the splits.
    """
    result = np.full(error.shape, np.nan)
    for split in splits:
        sessions = np.flatnonzero(split)
        for start in range(0, len(sessions), block):
            rows = np.zeros(len(error), dtype=bool)
            rows[sessions[start : start + block]] = True
            own = scores(error, active & rows[:, None], *score_statistics(error, active, rows))
            result = np.where(rows[:, None], own, result)
    return result
