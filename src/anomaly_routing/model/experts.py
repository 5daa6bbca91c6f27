"""Module 3: four experts, one a mechanism, and the gate that weighs them (paper 3.4, SPEC 6).

Shapes: B samples, N stocks, K = 4 mechanisms: Price-Shock, Liquidity, Systemic-Contagion, Momentum-Reversal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anomaly_routing.model.config import ModelConfig
from anomaly_routing.model.masking import masked_softmax, safe_norm

GATE_HEADS = 4
GATE_WIDTHS = (256, 128)
DIVERSITY_BIAS = (0.0, 0.5, 0.3, 0.2)  # A54
STRESS_ON_TEMPERATURE = 0.5
CONTAGION = 2  # position of the expert that sees the spatial embedding


class Routing(NamedTuple):
    """What Module 3 hands on."""

    category_signal: Tensor  # [B, N, 4] mean |feature| of each category
    tau: Tensor  # [B] temperature
    routing: Tensor  # [B, N, 4] w, sums to 1
    expert_error: Tensor  # [B, N, 4] l_k
    rebuilt: Tensor  # [B, N, F] the experts' reconstruction of the last session
    moe_error: Tensor  # [B, N] sum of w l
    latent: Tensor  # [B, N, 64] sum of w lat


class Expert(nn.Module):
    """Autoencoder of one feature category, conditioned on an embedding (equations 47-49)."""

    def __init__(self, embedding: int, n_features: int, config: ModelConfig) -> None:
        super().__init__()
        hidden, latent = config.expert_hidden, config.latent
        self.encode = nn.Sequential(nn.Linear(embedding + n_features, hidden), nn.ReLU(), nn.Linear(hidden, latent))
        self.decode = nn.Sequential(nn.Linear(embedding + latent, hidden), nn.ReLU(), nn.Linear(hidden, n_features))

    def forward(self, embedding: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """embedding [B, N, E], features [B, N, d]. Returns the latent [B, N, 64] and the reconstruction [B, N, d]."""
        latent = self.encode(torch.cat([embedding, features], -1))
        return latent, self.decode(torch.cat([embedding, latent], -1))


class Gate(nn.Module):
    """Routing weights from the stock, its peers, the market's stress and the categories' signals (equations 43-46)."""

    def __init__(self, width: int, n_experts: int, config: ModelConfig) -> None:
        super().__init__()
        self.rule = config.tau_rule
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        first, second = GATE_WIDTHS
        last = nn.Linear(second, n_experts)
        nn.init.zeros_(last.bias)  # b_div says the same, so this one starts silent (A54)
        inputs = 2 * width + 1 + n_experts
        self.mlp = nn.Sequential(nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), last)
        self.b_div = nn.Parameter(torch.tensor(DIVERSITY_BIAS))
        self.tau_b = nn.Parameter(torch.tensor(1.0))

    def forward(self, z: Tensor, psi: Tensor, signal: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """z [B, N, 256], psi [B], signal [B, N, K]. Returns tau [B] and the weights [B, N, K]."""
        inputs = torch.cat([z, self.attend(z, active), psi[:, None, None].expand(*z.shape[:2], 1), signal], -1)
        logits = self.mlp(inputs) + self.b_div  # [B, N, 517] -> [B, N, K]
        tau = self.temperature(psi)
        return tau, torch.softmax(logits / tau[:, None, None], -1)

    def attend(self, z: Tensor, active: Tensor) -> Tensor:
        """Attention over the active stocks, 4 heads of 64 (equation 43, A52). [B, N, 256]."""
        q, k, v = (m(z).unflatten(-1, (GATE_HEADS, -1)).transpose(1, 2) for m in (self.query, self.key, self.value))
        weights = masked_softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, active)  # [B, 4, N, N]
        return self.out((weights @ v).transpose(1, 2).flatten(2))

    def temperature(self, psi: Tensor) -> Tensor:
        """tau [B]: `rising` with stress flattens the weights, `falling` sharpens them (equation 45, A53)."""
        share = psi if self.rule == "rising" else 1 - psi
        return self.tau_b.abs() + STRESS_ON_TEMPERATURE * share


class Experts(nn.Module):
    """Category signals, gate and experts in turn. `groups` [F]: the category 0..3 of each feature."""

    def __init__(self, groups: Sequence[int], width: int, spatial: int, config: ModelConfig) -> None:
        super().__init__()
        self.columns = [[j for j, g in enumerate(groups) if g == k] for k in range(max(groups) + 1)]
        order = torch.tensor([j for columns in self.columns for j in columns])  # features, category after category
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        self.category_norm = nn.LayerNorm(len(self.columns))
        self.gate = Gate(width, len(self.columns), config)
        self.expert = nn.ModuleList(
            Expert(spatial if k == CONTAGION else width, len(columns), config) for k, columns in enumerate(self.columns)
        )

    def forward(self, z_final: Tensor, h_spat: Tensor, features: Tensor, psi: Tensor, active: Tensor) -> Routing:
        """z_final [B, N, 256], h_spat [B, N, 128], features [B, N, F] of the last session, psi [B], active [B, N]."""
        parts = features.index_select(-1, self.order).split([len(columns) for columns in self.columns], -1)
        signal = torch.stack([part.abs().mean(-1) for part in parts], -1)  # [B, N, K], equations 10, 42
        tau, weights = self.gate(z_final, psi, self.category_norm(signal), active)
        weights = weights * active[..., None]
        latents, errors, rebuilt = [], [], []
        for k, (expert, part) in enumerate(zip(self.expert, parts, strict=True)):
            latent, rebuilt_part = expert(h_spat if k == CONTAGION else z_final, part)
            latents.append(latent)
            errors.append(safe_norm(part - rebuilt_part))  # equations 12, 49
            rebuilt.append(rebuilt_part.detach())
        error = torch.stack(errors, -1) * active[..., None]
        latent = (weights[..., None] * torch.stack(latents, -2)).sum(-2)  # equation 13
        all_rebuilt = torch.cat(rebuilt, -1).index_select(-1, self.back)
        return Routing(signal, tau, weights, error, all_rebuilt, (weights * error).sum(-1), latent)
