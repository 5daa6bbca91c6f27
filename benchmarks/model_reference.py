"""The full model written plainly, to check `anomaly_routing.model` by and to time it against.

What a reader would write first: one session at a time, its active stocks alone, so nothing is masked; the LSTM on every
window of its own; the four attention maps on all 20 steps, then pooled; the edge network on all pairs of stocks, each a
row of 640; torch-geometric's GCNConv and GATConv on lists of edges. Weights are copied from a `Network`.

Where torch-geometric departs from SPEC:
- GCNConv does not: D^-1/2 (A + I) D^-1/2 X W + b, without the I for `literal`.
- GATConv knows the graph by its edges, and a weight by a learned vector times that weight, added inside the LeakyReLU.
  SPEC 5.6 adds ln(A + 1e-6) after the LeakyReLU, on every pair: an edge of weight 0 keeps a trace. `gat="library"` is
  the layer as it comes, on the edges above 0 (its self-loops take the largest weight of the row, as in SPEC), with 256
  parameters more. `gat="exact"` puts SPEC's logits into it: same routing, errors, loss and gradients as `Network`.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv
from torch_geometric.utils import softmax

from anomaly_routing.model.dynamic_graph import GraphAttention
from anomaly_routing.model.losses import Errors
from anomaly_routing.model.network import Network
from anomaly_routing.model.training import Batch, TrainingConfig

EPS = 1e-8
GATE_HEADS = 4
HORIZONS = (1, 3, 5)
CONTAGION = 2


class LogPriorGAT(GATConv):
    """GATConv whose edge attribute is added to the logit as it is, after the LeakyReLU."""

    def edge_update(self, alpha_j, alpha_i, edge_attr, index, ptr, dim_size):
        logits = F.leaky_relu(alpha_j + alpha_i, self.negative_slope) + edge_attr[:, None]
        return softmax(logits, index, ptr, dim_size)


class Reference(nn.Module):
    """`net` done plainly, with copies of its weights. gat : "library" or "exact", see the head of this file."""

    def __init__(self, net: Network, gat: str = "library") -> None:
        super().__init__()
        if gat not in ("library", "exact"):
            raise ValueError(f"gat {gat!r}: use library or exact")
        own = copy.deepcopy(net)
        self.config, self.columns, self.exact = own.config, own.experts.columns, gat == "exact"
        self.encoder, self.graph, self.experts, self.decoders = own.encoder, own.graph, own.experts, own.decoders
        self.encoder.gcn = nn.ModuleList(_gcn_conv(layer, own.config.gcn_loops) for layer in own.encoder.gcn)
        self.gat_out = own.graph.gat.out
        self.gat = _gat_conv(own.graph.gat, self.exact)
        del self.graph.gat

    def forward(self, x: Tensor, active: Tensor, prior: Tensor, stress: Tensor) -> Errors:
        """As `Network.forward`: x [B+T-1, N, F], active bool [B, N], prior [N, N], stress [B, 4]."""
        window = self.config.window
        sessions = [self.session(x[b : b + window], active[b], prior, stress[b]) for b in range(len(active))]
        return Errors(*(torch.stack(part) for part in zip(*sessions, strict=True)))

    def session(self, window: Tensor, active: Tensor, prior: Tensor, stress: Tensor) -> list[Tensor]:
        """window [T, N, F], active [N], stress [4]. Routing [N, 4], expert and horizon errors; 0 where inactive."""
        on = active.nonzero()[:, 0]
        window, prior = window[:, on].transpose(0, 1), prior[on][:, on]  # [n, T, F], [n, n]
        h_temp, h_spat, context = self.encode(window, prior)
        psi, z_final = self.refine(torch.cat([h_temp, h_spat], -1), context, prior, stress)
        routing, errors, latent = self.route(window[:, -1], z_final, h_spat, psi)
        found = routing, errors, self.rebuild(window, latent)
        return [value.new_zeros(len(active), value.shape[1]).index_copy(0, on, value) for value in found]

    def encode(self, window: Tensor, prior: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Module 1 (SPEC 4): h_temp [n, 128], h_spat [n, 128], c [n, 64]."""
        e = self.encoder
        normed = (window - window.mean(-1, keepdim=True)) / (window.std(-1, correction=0, keepdim=True) + EPS)
        hidden, _ = e.lstm(normed if e.project is None else e.project(normed))  # [n, T, 256]
        attended = attention(hidden, e.query, e.key, e.value, e.out, e.heads)  # [n, T, 256]
        h_temp = e.pool(torch.cat([attended.mean(1), attended[:, -1]], -1))
        h0 = h = e.spatial_in(window[:, -1])
        for layer in e.gcn:
            h = torch.relu(layer(h, prior.nonzero().t()))
        h_spat = h + 0.5 * h0
        h_fused = attention(h_temp, e.cross_query, e.cross_key, e.cross_value, e.cross_out, 1, asked=h_spat) + h_temp
        return h_temp, h_spat, torch.tanh(e.context(h_fused))

    def refine(self, z: Tensor, context: Tensor, prior: Tensor, stress: Tensor) -> tuple[Tensor, Tensor]:
        """Module 2 (SPEC 5): psi and z_final [n, 256]."""
        g, config, n = self.graph, self.config, len(z)
        psi = g.stress(stress[None])  # [1]
        w_temp, w_ctx, w_prior = g.sources(psi)[0]
        itself = torch.eye(n, dtype=torch.bool, device=z.device)

        mixed = w_temp * cosines(z) + w_ctx * cosines(context) + w_prior * prior  # [n, n]
        edge = self.edges(z, context)
        similarity = mixed * torch.sigmoid(edge) + 0.1 * edge + 0.05 * prior
        similarity = similarity.masked_fill(itself, 0.0)

        candidates = similarity.detach().masked_fill(itself, -torch.inf)
        kappa = candidates.topk(min(config.top_k, n - 1)).values[:, -1:]
        strength = torch.sigmoid(5 * (similarity - kappa))
        if config.topk_rule == "hard":
            kept = torch.relu(similarity) * strength * (candidates >= kappa)
            learned = row_shares((kept + kept.t()) / 2)
        else:
            kept = similarity * strength
            learned = torch.softmax((kept + kept.t()) / 2, -1)

        alpha = torch.sigmoid(g.alpha.a + g.alpha.b * psi).clamp(0.2, 0.8)
        fused = alpha * (row_shares(prior) if config.fusion_scale == "row" else prior) + (1 - alpha) * learned
        refined = self.gat_out(self.attend_to_graph(z, fused))  # [n, 128]
        return psi, torch.cat([z[:, :128] + 0.5 * refined, z[:, 128:]], -1)

    def edges(self, z: Tensor, context: Tensor) -> Tensor:
        """A_edge [n, n]: every pair through the edge network (SPEC 5.3)."""
        n = len(z)
        pairs = [z[:, None].expand(n, n, -1), z.expand(n, n, -1), context[:, None].expand(n, n, -1)]
        pairs = torch.cat([*pairs, context.expand(n, n, -1)], -1)  # [n, n, 640]
        o = self.graph.edge.second(torch.relu(self.graph.edge.first(pairs)))  # [n, n, 32]
        return F.cosine_similarity(o, o.transpose(0, 1), dim=-1, eps=EPS)

    def attend_to_graph(self, z: Tensor, fused: Tensor) -> Tensor:
        """GAT of SPEC 5.6 without its last linear map, [n, 128]. Row i of `fused` is whom i listens to."""
        if self.exact:
            strongest = fused.amax(-1)
            itself = torch.where(strongest > 0, strongest, torch.ones_like(strongest))
            graph = fused - torch.diag(fused.diagonal()) + torch.diag(itself)
            target, source = torch.ones_like(graph).nonzero(as_tuple=True)
            return self.gat(z, torch.stack([source, target]), torch.log(graph + 1e-6)[target, source])
        target, source = fused.nonzero(as_tuple=True)
        return self.gat(z, torch.stack([source, target]), fused[target, source])

    def route(self, features: Tensor, z_final: Tensor, h_spat: Tensor, psi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Module 3 (SPEC 6): weights [n, 4], expert errors [n, 4], mixed latent [n, 64]."""
        m, gate = self.experts, self.experts.gate
        signal = torch.stack([features[:, own].abs().mean(-1) for own in self.columns], -1)
        peers = attention(z_final, gate.query, gate.key, gate.value, gate.out, GATE_HEADS)
        entry = torch.cat([z_final, peers, psi.expand(len(z_final), 1), m.category_norm(signal)], -1)  # [n, 517]
        tau = gate.tau_b.abs() + 0.5 * (psi if gate.tau_rule == "rising" else 1 - psi)
        weights = torch.softmax((gate.mlp(entry) + gate.b_div) / tau, -1)
        latents, errors = [], []
        for k, (expert, own) in enumerate(zip(m.expert, self.columns, strict=True)):
            latent, rebuilt = expert(h_spat if k == CONTAGION else z_final, features[:, own])
            latents.append(latent)
            errors.append(norm(features[:, own] - rebuilt))
        return weights, torch.stack(errors, -1), (weights[..., None] * torch.stack(latents, 1)).sum(1)

    def rebuild(self, window: Tensor, latent: Tensor) -> Tensor:
        """Module 4 (SPEC 7.1): e_1, e_3, e_5, [n, 3]."""
        errors = []
        for horizon, gru, out in zip(HORIZONS, self.decoders.gru, self.decoders.out, strict=True):
            states, _ = gru(latent[:, None].repeat(1, horizon, 1))  # [n, h, 128]
            errors.append(norm(window[:, -horizon:] - out(states)).mean(-1))
        return torch.stack(errors, -1)


def attention(
    x: Tensor,
    query: nn.Linear,
    key: nn.Linear,
    value: nn.Linear,
    out: nn.Linear,
    heads: int,
    asked: Tensor | None = None,
) -> Tensor:
    """Rows of x [..., L, D] attend to the rows of `asked`, else to each other; every map on every row. [..., L, D]."""
    asked = x if asked is None else asked
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(-2, -3) for part in (query(x), key(asked), value(asked)))
    weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)  # [..., heads, L, L]
    return out((weights @ v).transpose(-2, -3).flatten(-2))


def cosines(rows: Tensor) -> Tensor:
    """cos(row_i, row_j), [n, n]."""
    unit = F.normalize(rows, dim=-1, eps=EPS)
    return unit @ unit.t()


def row_shares(graph: Tensor) -> Tensor:
    return graph / (graph.sum(-1, keepdim=True) + EPS)


def norm(difference: Tensor) -> Tensor:
    return (difference.square().sum(-1) + EPS).sqrt()


def loss(found: Errors, active: Tensor, config) -> Tensor:
    """SPEC 8, over the active stock-days of the batch."""
    w, both = found.routing, active[1:] & active[:-1]
    rec = (found.horizon_error.sum(-1) + found.expert_error.sum(-1))[active].mean()
    entropy = -(w * w.clamp(min=EPS).log()).sum(-1)[active].mean()
    smooth = (w[1:] - w[:-1]).square().sum(-1)[both].sum() / max(1, int(both.sum()))
    return rec + config.div_sign * config.gamma1 * entropy + config.gamma2 * smooth


def training_step(model: Reference, optimiser: torch.optim.Optimizer, batch: Batch) -> float:
    """Forward, backward, clipped gradient, one step; the loss."""
    optimiser.zero_grad()
    value = loss(model(*batch), batch.active, model.config)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), TrainingConfig.clip)
    optimiser.step()
    return value.item()


def _gcn_conv(layer: nn.Linear, loops: bool) -> GCNConv:
    conv = GCNConv(layer.in_features, layer.out_features, add_self_loops=loops)
    conv.lin.weight, conv.bias = layer.weight, layer.bias
    return conv


def _gat_conv(layer: GraphAttention, exact: bool) -> GATConv:
    """Attention of `layer`: a_s belongs to the stock that listens (the library's target), a_d to the one heard."""
    heads, width = layer.a_s.shape
    shape = {"in_channels": layer.map.in_features, "out_channels": width, "heads": heads, "bias": False}
    conv = LogPriorGAT(**shape, add_self_loops=False) if exact else GATConv(**shape, edge_dim=1, fill_value="max")
    conv.lin.weight = layer.map.weight
    conv.att_dst, conv.att_src = nn.Parameter(layer.a_s[None].detach()), nn.Parameter(layer.a_d[None].detach())
    return conv.to(layer.a_s.dtype)
