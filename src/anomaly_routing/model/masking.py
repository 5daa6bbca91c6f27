"""Sums over stocks that count the active ones alone: an inactive stock changes nothing for the others (SPEC 0)."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-8
_NEVER = -1e30  # far below any logit: exp of it is an exact zero, and a row without any active stock gives no NaN


def masked_softmax(logits: Tensor, active: Tensor) -> Tensor:
    """Softmax over the last axis of `logits` [B, ..., N], with exact zeros where `active` bool [B, N] is False."""
    return torch.softmax(logits.masked_fill(~_across(active, logits), _NEVER), dim=-1)


def masked_mean(values: Tensor, active: Tensor) -> Tensor:
    """Mean of `values` over the True entries of `active` (same shape); 0 where there are none. A scalar."""
    return (values * active).sum() / active.sum().clamp(min=1)


def pairs(active: Tensor) -> Tensor:
    """Bool [B, N, N]: both stocks are active and they are not the same."""
    n = active.shape[1]
    both = active[:, :, None] & active[:, None, :]
    return both & ~torch.eye(n, dtype=torch.bool, device=active.device)


def row_normalise(graph: Tensor) -> Tensor:
    """Rows divided by their sum; an empty row stays empty."""
    return graph / (graph.sum(-1, keepdim=True) + EPS)


def safe_norm(difference: Tensor, dim: int = -1) -> Tensor:
    """Euclidean norm as sqrt(sum of squares + eps), which has a gradient at zero (SPEC 6.5, 7.1)."""
    return (difference.square().sum(dim) + EPS).sqrt()


def cosine(a: Tensor) -> Tensor:
    """cos(a_i, a_j) of rows [B, N, D] as [B, N, N]; a zero row has cosine 0 with all."""
    unit = torch.nn.functional.normalize(a, dim=-1, eps=EPS)
    return unit @ unit.transpose(1, 2)


def _across(active: Tensor, logits: Tensor) -> Tensor:
    """[B, N] as [B, 1, ..., 1, N], to broadcast over the axes between."""
    return active.reshape(active.shape[0], *(1,) * (logits.dim() - 2), active.shape[1])
