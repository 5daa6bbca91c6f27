"""Module 3: four experts, one a mechanism, and the gate that weighs them (paper 3.4, SPEC 6).

Shapes: B samples, N stocks, K = 4 mechanisms: Price-Shock, Liquidity, Systemic-Contagion, Momentum-Reversal; or the
one, two or six of the paper's other designs (`mechanisms`, Table 7; their members are our choice, A96).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anomaly_routing.model.config import ModelConfig
from anomaly_routing.model.masking import EPS, masked_softmax, safe_norm

GATE_HEADS = 4
GATE_WIDTHS = (256, 128)
DIVERSITY_BIAS = (0.0, 0.5, 0.3, 0.2)  # A54
STRESS_ON_TEMPERATURE = 0.5
SURPRISE_MEMORY = 50  # batches
CONTAGION = 2  # the category whose expert sees the spatial embedding
PAPER_GROUPS = (0,) * 6 + (1,) * 8 + (2,) * 7 + (3,) * 8  # the paper's 29 features in their order
# price shock, spread, volume, contagion, trend, reversal (SPEC 10, A96)
SIX = (*(0,) * 6, *(1, 1, 1, 2, 2, 1, 2, 2), *(3,) * 7, *(4, 4, 5, 5, 4, 5, 5, 4))


class Routing(NamedTuple):
    """What Module 3 hands on."""

    category_signal: Tensor  # [B, N, 4] mean |feature| of each category
    tau: Tensor  # [B] temperature
    routing: Tensor  # [B, N, 4] w, sums to 1
    expert_error: Tensor  # [B, N, 4] l_k
    rebuilt: Tensor  # [B, N, F] the experts' reconstruction of the last session
    moe_error: Tensor  # [B, N] sum of w l
    latent: Tensor  # [B, N, 64] sum of w lat


def members(groups: Sequence[int], mechanisms: str) -> list[list[int]]:
    """Positions of the features of each expert, for a category 0..3 of each feature.

    Raises ValueError for six experts of other features than the paper's 29: which are which is known of those alone.
    """
    if mechanisms == "six" and tuple(groups) != PAPER_GROUPS:
        raise ValueError("mechanisms 'six' is defined for the paper's 29 features alone: use four, two or one")
    chosen = {
        "four": groups,
        "one": [0] * len(groups),
        "two": [int(g == CONTAGION) for g in groups],
        "six": SIX,
    }[mechanisms]
    return [[j for j, g in enumerate(chosen) if g == k] for k in range(max(chosen) + 1)]


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

    def predict(self, embedding: Tensor, features: Tensor) -> Tensor:
        """[B, N, d]: each feature as rebuilt when it alone is hidden (0) (A56)."""
        d = features.shape[-1]
        hidden = features * (1 - torch.eye(d, dtype=features.dtype, device=features.device))[:, None, None]
        return self(embedding.expand(d, *embedding.shape), hidden)[1].diagonal(dim1=0, dim2=-1)


class Gate(nn.Module):
    """Routing weights from the stock, its peers, market stress and the categories' signals (equations 11, 43-46)."""

    def __init__(self, width: int, n_experts: int, config: ModelConfig) -> None:
        super().__init__()
        self.tau_rule, self.routing_rule = config.tau_rule, config.routing_rule
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        first, second = GATE_WIDTHS
        last = nn.Linear(second, n_experts)
        nn.init.zeros_(last.bias)  # b_div says the same, so this one starts silent (A54)
        inputs = 2 * width + 1 + n_experts
        self.mlp = nn.Sequential(nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), last)
        designed = n_experts == len(DIVERSITY_BIAS)
        self.b_div = nn.Parameter(torch.tensor(DIVERSITY_BIAS) if designed else torch.zeros(n_experts))
        self.tau_b = nn.Parameter(torch.tensor(1.0))

    def forward(self, z: Tensor, psi: Tensor, signal: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """z [B, N, 256], psi [B], signal [B, N, K]. Returns tau [B] and the weights [B, N, K]."""
        inputs = torch.cat([z, self.attend(z, active), psi[:, None, None].expand(*z.shape[:2], 1), signal], -1)
        logits = self.mlp(inputs) + self.b_div  # [B, N, 517] -> [B, N, K]
        tau = self.temperature(psi)
        return tau, self.choose(torch.softmax(logits / tau[:, None, None], -1))

    def choose(self, weights: Tensor) -> Tensor:
        """What `routing_rule` makes of the soft weights [B, N, K] (Table 7, A96)."""
        if self.routing_rule == "uniform":
            return torch.full_like(weights, 1 / weights.shape[-1])
        if self.routing_rule == "soft":
            return weights
        first, *others = weights.topk(min(2, weights.shape[-1]), -1).indices.unbind(-1)
        largest = nn.functional.one_hot(first, weights.shape[-1]).to(weights.dtype)
        if self.routing_rule == "hard":
            return largest
        two = largest + sum(nn.functional.one_hot(other, weights.shape[-1]) for other in others)
        return weights * two / (weights * two).sum(-1, keepdim=True)

    def attend(self, z: Tensor, active: Tensor) -> Tensor:
        """Attention over the active stocks, 4 heads of 64 (equation 43, A52). [B, N, 256]."""
        q, k, v = (m(z).unflatten(-1, (GATE_HEADS, -1)).transpose(1, 2) for m in (self.query, self.key, self.value))
        weights = masked_softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, active)  # [B, 4, N, N]
        return self.out((weights @ v).transpose(1, 2).flatten(2))

    def temperature(self, psi: Tensor) -> Tensor:
        """tau [B]: `rising` with stress flattens the weights, `falling` sharpens them (equation 45, A53)."""
        share = psi if self.tau_rule == "rising" else 1 - psi
        return self.tau_b.abs() + STRESS_ON_TEMPERATURE * share


class Surprise(nn.Module):
    """How far each expert's error lies above its usual one: a prior for the gate that needs no teacher (A57, ours).

    Mean and SD of ln l over active stock-days, running over the batches of the training (`update`), then frozen.
    """

    def __init__(self, n_experts: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(n_experts))
        self.register_buffer("square", torch.ones(n_experts))
        self.register_buffer("batches", torch.tensor(0.0))

    @torch.no_grad()
    def update(self, error: Tensor, active: Tensor) -> None:
        """error [B, N, K] of a training batch, active [B, N]. The first batches count alike, later ones fade."""
        log = torch.log(error[active] + EPS)
        self.batches += 1
        share = torch.clamp(1 / self.batches, min=1 / SURPRISE_MEMORY)
        self.centre.lerp_(log.mean(0), share)
        self.square.lerp_(log.square().mean(0), share)

    def forward(self, weights: Tensor, error: Tensor) -> Tensor:
        """Weights [B, N, K] times exp((ln l - mean) / SD), made to sum to 1; no gradient flows through the errors."""
        spread = (self.square - self.centre.square()).clamp(min=EPS).sqrt()
        surprise = (torch.log(error.detach() + EPS) - self.centre) / spread
        return torch.softmax(torch.log(weights.clamp(min=EPS)) + surprise, -1)


class Experts(nn.Module):
    """Category signals, gate and experts in turn. `groups` [F]: the category 0..3 of each feature."""

    def __init__(self, groups: Sequence[int], width: int, spatial: int, config: ModelConfig) -> None:
        super().__init__()
        self.columns = members(groups, config.mechanisms)
        self.spatial = [all(groups[j] == CONTAGION for j in columns) for columns in self.columns]
        self.task = config.expert_task
        order = torch.tensor([j for columns in self.columns for j in columns])  # features, category after category
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        self.category_norm = nn.LayerNorm(len(self.columns))
        self.gate = Gate(width, len(self.columns), config)
        self.surprise = Surprise(len(self.columns)) if config.gate_prior == "surprise" else None
        self.expert = nn.ModuleList(
            Expert(spatial if own else width, len(columns), config)
            for own, columns in zip(self.spatial, self.columns, strict=True)
        )

    def forward(self, z_final: Tensor, spatial: Tensor, features: Tensor, psi: Tensor, active: Tensor) -> Routing:
        """z_final [B, N, 256], spatial [B, N, 128], features [B, N, F] of the last session, psi [B], active [B, N].

        spatial : what the contagion expert sees, h_spat or z_ref. The weighted error and code are equations 13 and 50.
        """
        parts = features.index_select(-1, self.order).split([len(columns) for columns in self.columns], -1)
        signal = torch.stack([part.abs().mean(-1) for part in parts], -1)  # [B, N, K], equations 10, 42
        tau, weights = self.gate(z_final, psi, self.category_norm(signal), active)
        latents, errors, rebuilt = [], [], []
        for own, expert, part in zip(self.spatial, self.expert, parts, strict=True):
            embedding = spatial if own else z_final
            latent, rebuilt_part = expert(embedding, part)
            if self.task == "predict":  # the latent stays that of all features: the decoders rebuild from it
                rebuilt_part = expert.predict(embedding, part)
            latents.append(latent)
            errors.append(safe_norm(part - rebuilt_part))  # equations 12, 49
            rebuilt.append(rebuilt_part.detach())
        error = torch.stack(errors, -1)
        weights = self.surprise(weights, error) if self.surprise else weights
        weights, error = weights * active[..., None], error * active[..., None]
        latent = (weights[..., None] * torch.stack(latents, -2)).sum(-2)  # equation 13
        all_rebuilt = torch.cat(rebuilt, -1).index_select(-1, self.back)
        return Routing(signal, tau, weights, error, all_rebuilt, (weights * error).sum(-1), latent)
