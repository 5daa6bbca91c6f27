"""Module 1: what the last 20 sessions of a stock look like, alone and among its peers (paper 3.2, SPEC 4).

Shapes: B samples (sessions), N stocks, T = 20 steps, F = 29 features, H hidden units a direction.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from anomaly_routing.model.config import ModelConfig
from anomaly_routing.model.masking import EPS, masked_softmax

SPATIAL = 128  # width of h_temp and h_spat
CONTEXT = 64
SPATIAL_RESIDUAL = 0.5


class Encoding(NamedTuple):
    """What Module 1 hands on."""

    h_temp: Tensor  # [B, N, 128] the stock's own window
    h_spat: Tensor  # [B, N, 128] the last session, smoothed over the prior graph
    cross: Tensor  # [B, N, N] cross-modal attention weights P_x
    z: Tensor  # [B, N, 256] [h_temp ; h_spat]
    context: Tensor  # [B, N, 64] c


class Encoder(nn.Module):
    """BiLSTM with self-attention in time, graph convolution over the prior graph in space, attention between both."""

    def __init__(self, n_features: int, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.window, self.heads = config, config.window, config.attention_heads
        width = 2 * config.lstm_hidden
        self.project = nn.Linear(n_features, SPATIAL) if config.bilstm_projection else None
        self.lstm = nn.LSTM(
            SPATIAL if self.project else n_features, config.lstm_hidden, batch_first=True, bidirectional=True
        )
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.pool = nn.Sequential(nn.Linear(2 * width, SPATIAL), nn.ReLU(), nn.Linear(SPATIAL, SPATIAL))
        self.spatial_in = nn.Linear(n_features, SPATIAL)
        self.gcn = nn.ModuleList(nn.Linear(SPATIAL, SPATIAL) for _ in range(config.gcn_layers))
        self.cross_query, self.cross_key, self.cross_value, self.cross_out = (
            nn.Linear(SPATIAL, SPATIAL, bias=False) for _ in range(4)
        )
        self.context = nn.Linear(SPATIAL, CONTEXT)

    def forward(self, x: Tensor, active: Tensor, prior: Tensor) -> Encoding:
        """x [B+T-1, N, F] consecutive sessions; active [B, N] of the last B; prior [N, N].

        z = [h_temp ; h_spat] is equation 30.
        """
        h_temp = self.temporal(x)  # [B, N, 128]
        h_spat = self.spatial(x[self.window - 1 :], active, prior)  # [B, N, 128]
        cross, fused = self.cross_modal(h_temp, h_spat, active)  # [B, N, N], [B, N, 128]
        context = torch.tanh(self.context(fused))  # [B, N, 64], equation 31
        return Encoding(h_temp, h_spat, cross, torch.cat([h_temp, h_spat], -1), context)

    def temporal(self, x: Tensor) -> Tensor:
        """h_temp [B, N, 128] (equations 1, 18-25; SPEC 4.1-4.3).

        H_attn = softmax(Q K' / sqrt(d)) V O is needed in two places only, its mean over the steps and its last step, so
        the attention rows are pooled first and V and O applied to two rows instead of 20. It is the same algebra.
        """
        normed = (x - x.mean(-1, keepdim=True)) / (x.std(-1, correction=0, keepdim=True) + EPS)  # equation 18, A39
        if self.project:
            normed = self.project(normed)
        windows = normed.unfold(0, self.window, 1).permute(0, 1, 3, 2)  # [B, N, T, F]
        hidden = self.lstm(windows.flatten(0, 1))[0]  # [B*N, T, 2H]
        scale = (self.heads / hidden.shape[-1]) ** 0.5  # 1 / sqrt(d)
        queries, keys = hidden @ (scale * self.query.weight).t(), self.key(hidden)  # [B*N, T, 2H], a head is a slice
        heads = []
        slices = (part.chunk(self.heads, -1) for part in (queries, keys, self.value.weight.t()))
        for query, key, value in zip(*slices, strict=True):
            weights = torch.softmax(query @ key.transpose(1, 2), -1)  # [B*N, T, T]
            rows = torch.stack([weights.mean(1), weights[:, -1]], 1)  # [B*N, 2, T]
            heads.append((rows @ hidden) @ value)  # [B*N, 2, d]
        attended = self.out(torch.cat(heads, -1))  # [B*N, 2, 2H]: mean over the steps, last step
        return self.pool(attended.flatten(1)).unflatten(0, windows.shape[:2])

    def spatial(self, x: Tensor, active: Tensor, prior: Tensor) -> Tensor:
        """h_spat [B, N, 128] from the features x [B, N, F] of the last session (equations 2, 3, 27, 28; SPEC 4.4)."""
        h0 = self.spatial_in(x)
        propagation = self.propagation(active, prior)
        h = h0
        for layer in self.gcn:
            h = torch.relu(layer(propagation @ h))
        return h + SPATIAL_RESIDUAL * h0

    def propagation(self, active: Tensor, prior: Tensor) -> Tensor:
        """D^-1/2 A D^-1/2 [B, N, N] among the active stocks; with self-loops (`gcn_loops`) or without.

        Equations 2, 26, AUDIT A40. A stock without neighbours has degree 0, taken as 1.
        """
        mask = active.to(prior.dtype)
        if not self.config.use_prior:  # nobody but itself, whatever the loops
            return torch.diag_embed(mask)
        loops = torch.eye(len(prior), dtype=prior.dtype, device=prior.device)
        graph = prior + loops if self.config.gcn_loops else prior
        graph = graph * mask[:, :, None] * mask[:, None, :]
        scale = graph.sum(-1).clamp(min=1.0).rsqrt()
        return scale[:, :, None] * graph * scale[:, None, :]

    def cross_modal(self, h_temp: Tensor, h_spat: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """P_x [B, N, N] and h_fused [B, N, 128]: the window asks, the peers answer (equation 29, SPEC 4.5).

        `cross_attention` uniform: every active stock answers alike.
        """
        logits = self.cross_query(h_temp) @ self.cross_key(h_spat).transpose(1, 2) / SPATIAL**0.5
        if self.config.cross_attention == "uniform":
            logits = torch.zeros_like(logits)
        weights = masked_softmax(logits, active)
        return weights, self.cross_out(weights @ self.cross_value(h_spat)) + h_temp
