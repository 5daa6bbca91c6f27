"""The loss of a batch, term by term (paper 3.6, equations 17, 55-58), and the terms that we add to it (A57)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from anomaly_routing.model.config import ModelConfig
from anomaly_routing.model.masking import EPS, masked_mean
from anomaly_routing.model.network import Output


class Errors(NamedTuple):
    """What the loss needs of a forward pass."""

    routing: Tensor  # [B, N, K]
    expert_error: Tensor  # [B, N, K]
    horizon_error: Tensor  # [B, N, 3]


def loss_terms(
    out: Errors | Output, active: Tensor, config: ModelConfig, lesson: Tensor | None = None
) -> dict[str, Tensor]:
    """rec, entropy, smooth and total of one batch (equations 17, 55-58; A58, A60). Scalars.

    active : bool [B, N]. lesson : int [B, N], the mechanism that was written into a stock-day, -1 for none; such
    stock-days are not rebuilt. With `balance` or `teach` above 0 also those terms.
    """
    rec = masked_mean(rebuilding(out, config), active if lesson is None else active & (lesson < 0))
    entropy = masked_mean(-(out.routing * torch.log(out.routing.clamp(min=EPS))).sum(-1), active)
    step = (out.routing[1:] - out.routing[:-1]).square().sum(-1)
    smooth = masked_mean(step, active[1:] & active[:-1])
    total = rec + config.div_sign * config.gamma1 * entropy + config.gamma2 * smooth
    terms = {"rec": rec, "entropy": entropy, "smooth": smooth}
    if config.balance:
        terms["balance"] = load_balance(out.routing, active)
        total = total + config.balance * terms["balance"]
    if config.teach and lesson is not None:
        terms["teach"] = named_wrong(out.routing, active, lesson)
        total = total + config.teach * terms["teach"]
    return terms | {"total": total}


def rebuilding(out: Errors | Output, config: ModelConfig) -> Tensor:
    """e_1 + e_3 + e_5 + sum l_k of each stock-day, [B, N]; `rec_rule` routed: sum w_k l_k (A57)."""
    experts = out.routing * out.expert_error if config.rec_rule == "routed" else out.expert_error
    return out.horizon_error.sum(-1) + experts.sum(-1)


def load_balance(routing: Tensor, active: Tensor) -> Tensor:
    """ln K minus the entropy of the mean weights of a batch: 0 where every expert carries the same load."""
    mean = torch.stack([masked_mean(w, active) for w in routing.unbind(-1)])
    return (mean * torch.log(mean.clamp(min=EPS) * len(mean))).sum()


def named_wrong(routing: Tensor, active: Tensor, lesson: Tensor) -> Tensor:
    """Mean over the mechanisms in the batch of -ln w of the right expert over its stock-days; 0 without a lesson."""
    surprise = -torch.log(routing.clamp(min=EPS))
    own = torch.stack([active & (lesson == k) for k in range(routing.shape[-1])], -1)  # [B, N, K]
    each = (surprise * own).sum((0, 1)) / own.sum((0, 1)).clamp(min=1)
    return each.sum() / own.any(0).any(0).sum().clamp(min=1)
