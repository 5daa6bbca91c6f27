"""Module 2: a graph of the stocks for every session, mixed with the prior graph as stress says (paper 3.3, SPEC 5).

Shapes: B samples, N stocks. Graphs are [B, N, N], row i = whom stock i listens to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anomaly_routing.model.config import ModelConfig
from anomaly_routing.model.masking import EPS, cosine, masked_softmax, pairs, row_normalise

EDGE_WIDTHS = (64, 32)
EDGE_BONUS, PRIOR_BONUS = 0.1, 0.05  # equation 37
SHARPNESS = 5.0  # equation 38
ALPHA_RANGE = (0.2, 0.8)  # equation 39
STRESS_OFFSET = -2.0  # A44
GAT_HEADS, GAT_WIDTH = 4, 32
GAT_FLOOR = 1e-6
REFINEMENT = 0.5  # equation 41
PAIRS_AT_ONCE = {"cpu": 20_000, "cuda": 4_000_000}  # stock pairs in the edge network at a time: cache, or launch cost


class DynamicGraph(NamedTuple):
    """What Module 2 hands on."""

    psi: Tensor  # [B] market stress
    source_weights: Tensor  # [B, 3] temporal, context, prior
    similarity: Tensor  # [B, N, N] L, before the top-k
    learned: Tensor  # [B, N, N] A_learned
    alpha: Tensor  # [B] share of the prior
    fused: Tensor  # [B, N, N] A_fused
    z_ref: Tensor  # [B, N, 128]
    z_final: Tensor  # [B, N, 256]


class Stress(nn.Module):
    """psi [B] from the four normalised indicators [B, 4] (equations 4, 32; A44)."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        self.rule = rule
        if rule != "rank":
            self.beta = nn.Parameter(torch.full((4,), 1.0 if rule == "free" else math.log(math.e - 1)))

    def forward(self, indicators: Tensor) -> Tensor:
        if self.rule == "rank":
            return indicators.mean(-1)
        if self.rule == "free":
            return torch.sigmoid(indicators @ self.beta)
        return torch.sigmoid(STRESS_OFFSET + indicators @ nn.functional.softplus(self.beta))


class Sources(nn.Module):
    """Weights [B, 3] of temporal similarity, context similarity and prior graph (equation 35; A45)."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        if rule == "sigmoid":
            self.w, self.v = nn.Parameter(torch.zeros(3)), None
        else:  # in calm the prior leads; as stress rises, what the data say
            self.w, self.v = nn.Parameter(torch.tensor([0.0, 0.0, 1.0])), nn.Parameter(torch.tensor([0.5, 0.5, -1.0]))

    def forward(self, psi: Tensor) -> Tensor:
        if self.v is None:
            return torch.softmax(torch.sigmoid(self.w), -1).expand(len(psi), 3)
        return torch.softmax(self.w + self.v * psi[:, None], -1)


class EdgeNetwork(nn.Module):
    """A_edge[i, j] = cos(o_ij, o_ji), o_ij = W2 ReLU(W1 [z_i; z_j; c_i; c_j]) (equation 34).

    W1 [z_i; z_j; c_i; c_j] = U [z_i; c_i] + V [z_j; c_j]: two maps of N rows instead of one of N x N rows of 640. The
    pair tensors, 64 and 32 wide, live for a slice of sessions and rows at a time and are built again for the gradient.
    """

    def __init__(self, z_width: int, c_width: int) -> None:
        super().__init__()
        self.z_width = z_width
        self.first = nn.Linear(2 * (z_width + c_width), EDGE_WIDTHS[0])
        self.second = nn.Linear(*EDGE_WIDTHS)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z [B, N, 256], c [B, N, 64]. Returns [B, N, N], symmetric."""
        z_i, z_j, c_i, c_j = self.first.weight.split([self.z_width] * 2 + [c.shape[-1]] * 2, dim=1)
        u = z @ z_i.t() + c @ c_i.t() + self.first.bias  # [B, N, 64]
        v = z @ z_j.t() + c @ c_j.t()
        b, n = u.shape[:2]
        at_once = PAIRS_AT_ONCE.get(z.device.type, PAIRS_AT_ONCE["cpu"])
        rows = max(1, min(n, at_once // n))
        sessions = max(1, at_once // (rows * n))
        return torch.cat([
            torch.cat([self._slice(u[s : s + sessions], v[s : s + sessions], r, rows) for r in range(0, n, rows)], 1)
            for s in range(0, b, sessions)
        ])  # fmt: skip

    def _slice(self, u: Tensor, v: Tensor, row: int, rows: int) -> Tensor:
        """Rows row .. row+rows of A_edge for some sessions, [b, rows, N]."""
        if torch.is_grad_enabled():
            return checkpoint(self._cosine, u, v, row, rows, use_reentrant=False, preserve_rng_state=False)
        return self._cosine(u, v, row, rows)

    def _cosine(self, u: Tensor, v: Tensor, row: int, rows: int) -> Tensor:
        there = self._outputs(u[:, row : row + rows, None], v[:, None])  # o_ij [b, rows, N, 32]
        whole = there.shape[1] == there.shape[2]
        back = there.transpose(1, 2) if whole else self._outputs(u[:, None], v[:, row : row + rows, None])  # o_ji
        size = there.square().sum(-1)
        size_back = size.transpose(1, 2) if whole else back.square().sum(-1)
        return (there * back).sum(-1) * (size * size_back + EPS**2).rsqrt()

    def _outputs(self, u: Tensor, v: Tensor) -> Tensor:
        return self.second(torch.relu(u + v))


class Alpha(nn.Module):
    """Share of the prior graph, alpha [B] = clamp(sigmoid(a + b psi), 0.2, 0.8) (equations 7, 39; A49).

    `alpha_rule` learned: clamp(sigmoid(a)), the same in calm and stress. fixed: `alpha_fixed`, unclamped (A26).
    """

    def __init__(self, rule: str, fixed: float) -> None:
        super().__init__()
        self.rule, self.fixed = rule, fixed
        self.a, self.b = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(-0.5))

    def forward(self, psi: Tensor) -> Tensor:
        if self.rule == "fixed":
            return torch.full_like(psi, self.fixed)
        stress = self.b * psi if self.rule == "stress" else torch.zeros_like(psi)
        return torch.sigmoid(self.a + stress).clamp(*ALPHA_RANGE)


class GraphAttention(nn.Module):
    """GAT over the fused graph, which enters as a log-prior on the logits (equation 41, A50). [B, N, 128]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        out = GAT_HEADS * GAT_WIDTH
        self.map = nn.Linear(width, out, bias=False)
        self.a_s, self.a_d = (nn.Parameter(torch.empty(GAT_HEADS, GAT_WIDTH)) for _ in range(2))
        nn.init.xavier_uniform_(self.a_s), nn.init.xavier_uniform_(self.a_d)
        self.out = nn.Linear(out, out)

    def forward(self, z: Tensor, fused: Tensor, active: Tensor) -> Tensor:
        u = self.map(z).unflatten(-1, (GAT_HEADS, GAT_WIDTH)).transpose(1, 2)  # [B, 4, N, 32]
        own = (u * self.a_s[:, None]).sum(-1)  # [B, 4, N]
        other = (u * self.a_d[:, None]).sum(-1)
        logits = nn.functional.leaky_relu(own[..., :, None] + other[..., None, :], 0.2)  # [B, 4, N, N]
        strongest = fused.amax(-1)
        itself = torch.where(strongest > 0, strongest, torch.ones_like(strongest))  # alone: it attends to itself
        graph = fused + torch.diag_embed(itself - fused.diagonal(dim1=1, dim2=2))
        weights = masked_softmax(logits + torch.log(graph + GAT_FLOOR)[:, None], active)
        return self.out((weights @ u).transpose(1, 2).flatten(2))


class GraphModule(nn.Module):
    """Stress, similarities, top-k, fusion and refinement in turn; the last two lines are equations 9 and 41."""

    def __init__(self, z_width: int, c_width: int, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.stress, self.sources = Stress(config.psi_rule), Sources(config.source_w)
        self.alpha = Alpha(config.alpha_rule, config.alpha_fixed)
        self.edge, self.gat = EdgeNetwork(z_width, c_width), GraphAttention(z_width)

    def forward(self, z: Tensor, context: Tensor, active: Tensor, prior: Tensor, indicators: Tensor) -> DynamicGraph:
        """z [B, N, 256], context [B, N, 64], active [B, N], prior [N, N], indicators [B, 4]."""
        between = pairs(active)  # [B, N, N]
        known = prior * between * self.config.use_prior
        psi = self.stress(indicators)
        weights = self.weights(psi)
        similarity = self.similarity(z, context, known, between, weights)
        learned = self.sparsify(similarity, active, between)
        alpha = self.alpha(psi)
        fused = self.fuse(alpha, known, learned)
        refined = self.gat(z, fused, active)  # [B, N, 128]
        padded = nn.functional.pad(refined, (0, z.shape[-1] - refined.shape[-1]))
        return DynamicGraph(psi, weights, similarity, learned, alpha, fused, refined, z + REFINEMENT * padded)

    def weights(self, psi: Tensor) -> Tensor:
        """[B, 3] of the sources that are used (`sources`, `use_prior`)."""
        if self.config.sources == "temporal":
            return torch.cat([psi.new_ones(len(psi), 1), psi.new_zeros(len(psi), 2)], -1)
        weights = self.sources(psi)
        return weights if self.config.use_prior else torch.cat([weights[:, :2], psi.new_zeros(len(psi), 1)], -1)

    def similarity(self, z: Tensor, context: Tensor, known: Tensor, between: Tensor, weights: Tensor) -> Tensor:
        """L [B, N, N]: the three sources, gated by the edge network (equations 5, 33-37); or the first one alone."""
        if self.config.sources == "temporal":
            return cosine(z) * between
        w_temp, w_ctx, w_prior = weights[:, :, None, None].unbind(1)
        mixed = w_temp * cosine(z) + w_ctx * cosine(context) + w_prior * known
        edge = self.edge(z, context)
        return (mixed * torch.sigmoid(edge) + EDGE_BONUS * edge + PRIOR_BONUS * known) * between

    def sparsify(self, similarity: Tensor, active: Tensor, between: Tensor) -> Tensor:
        """A_learned [B, N, N] from L (equations 6, 38; A47); rows of inactive stocks are 0."""
        candidates = similarity.detach().masked_fill(~between, -torch.inf)
        k = min(self.config.top_k, similarity.shape[1] - 1)
        ranked = candidates.topk(k, dim=-1).values if k else candidates  # fewer than k others: the weakest of them
        kappa = ranked.masked_fill(ranked == -torch.inf, torch.inf).amin(-1, keepdim=True)
        strength = torch.sigmoid(SHARPNESS * (similarity - kappa))
        if self.config.topk_rule == "soft":
            kept = similarity * strength
            kept = (kept + kept.transpose(1, 2)) / 2
            return masked_softmax(kept, active) * active[:, :, None]
        kept = torch.relu(similarity) * strength * (candidates >= kappa)
        return row_normalise((kept + kept.transpose(1, 2)) / 2)

    def fuse(self, alpha: Tensor, known: Tensor, learned: Tensor) -> Tensor:
        """A_fused = alpha P + (1 - alpha) A_learned (equations 8, 40; A48)."""
        known = row_normalise(known) if self.config.fusion_scale == "row" else known
        alpha = alpha[:, None, None]
        return alpha * known + (1 - alpha) * learned
