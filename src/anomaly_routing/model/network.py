"""The whole network: Modules 1 to 4, one forward pass from 29 features to errors, with every part named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from anomaly_routing.model.config import HORIZONS, ModelConfig, make_config
from anomaly_routing.model.dynamic_graph import GraphModule
from anomaly_routing.model.encoder import CONTEXT, SPATIAL, Encoder
from anomaly_routing.model.experts import PAPER_GROUPS, Experts
from anomaly_routing.model.scoring import Decoders, aggregate

Mark = Callable[[str, Tensor], None]
MODULES = ("encoder", "graph", "experts", "decoders")  # Modules 1 to 4
FIELDS = {  # field of Output -> (module, equations of the paper, what it is)
    "h_temp": ("1 encoder", "18-25", "BiLSTM, attention over the 20 steps, pooling"),
    "h_spat": ("1 encoder", "26-28", "graph convolution over the prior graph"),
    "cross_weights": ("1 encoder", "29", "attention of the window on the peers"),
    "z": ("1 encoder", "30", "both, side by side"),
    "context": ("1 encoder", "31", "what the peers answered"),
    "psi": ("2 dynamic graph", "4, 32", "market stress"),
    "source_weights": ("2 dynamic graph", "35", "temporal, context, prior"),
    "similarity": ("2 dynamic graph", "33-37", "three sources, gated by the edge network"),
    "learned": ("2 dynamic graph", "38", "the strongest edges"),
    "alpha": ("2 dynamic graph", "7, 39", "share of the prior"),
    "fused": ("2 dynamic graph", "8, 40", "prior and learned graph"),
    "z_ref": ("2 dynamic graph", "9, 41", "attention over the fused graph"),
    "z_final": ("2 dynamic graph", "9, 41", "refined by attention over the fused graph"),
    "category_signal": ("3 experts", "10, 42", "mean absolute feature of each category"),
    "tau": ("3 experts", "45", "temperature of the gate"),
    "routing": ("3 experts", "11, 43-46", "weights of the four experts"),
    "expert_error": ("3 experts", "12, 47-49", "what each expert fails to rebuild"),
    "rebuilt": ("3 experts", "48", "the features as the experts rebuild them"),
    "moe_error": ("3 experts", "13, 50", "weighted error"),
    "latent": ("3 experts", "13", "weighted code"),
    "horizon_error": ("4 scoring", "14, 51", "errors over the last 1, 3, 5 sessions"),
    "rec_error": ("4 scoring", "52", "their weighted mean"),
    "error": ("4 scoring", "53", "E: experts and reconstruction"),
}


@dataclass(frozen=True)
class Output:
    """Everything a forward pass computes. B samples, N stocks; inactive stocks have zero routing, errors, graphs."""

    h_temp: Tensor  # [B, N, 128]
    h_spat: Tensor  # [B, N, 128]
    cross_weights: Tensor  # [B, N, N]
    z: Tensor  # [B, N, 256]
    context: Tensor  # [B, N, 64]
    psi: Tensor  # [B]
    source_weights: Tensor  # [B, 3]
    similarity: Tensor  # [B, N, N]
    learned: Tensor  # [B, N, N]
    alpha: Tensor  # [B]
    fused: Tensor  # [B, N, N]
    z_ref: Tensor  # [B, N, 128]
    z_final: Tensor  # [B, N, 256]
    category_signal: Tensor  # [B, N, 4]
    tau: Tensor  # [B]
    routing: Tensor  # [B, N, 4]
    expert_error: Tensor  # [B, N, 4]
    rebuilt: Tensor  # [B, N, F], detached
    moe_error: Tensor  # [B, N]
    latent: Tensor  # [B, N, 64]
    horizon_error: Tensor  # [B, N, 3]
    rec_error: Tensor  # [B, N]
    error: Tensor  # [B, N], E

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Field name -> shape, in the order in which they are computed."""
        return {f.name: tuple(getattr(self, f.name).shape) for f in fields(self)}


class Network(nn.Module):
    """The paper's model (Figure 2). Module 1 `encoder`, 2 `graph`, 3 `experts`, 4 `decoders`."""

    def __init__(self, n_features: int, groups: Sequence[int], config: ModelConfig) -> None:
        super().__init__()
        if len(groups) != n_features or set(groups) != set(range(max(groups) + 1)):
            raise ValueError(f"groups must name a category 0, 1, ... without a gap for each of {n_features} features")
        self.config, self.n_features = config, n_features
        self.encoder = Encoder(n_features, config)
        self.graph = GraphModule(2 * SPATIAL, CONTEXT, config)
        self.experts = Experts(groups, 2 * SPATIAL, SPATIAL, config)
        self.decoders = Decoders(n_features, config)

    def forward(
        self,
        x: Tensor,
        active: Tensor,
        prior: Tensor,
        stress: Tensor,
        mark: Mark | None = None,
    ) -> Output:
        """One chunk of consecutive sessions.

        x : [B+T-1, N, F] scaled features; sample b is x[b : b+T] and ends in session b+T-1.
        active : bool [B, N], of the last session of each sample. prior : [N, N] of 0 and 1, zero diagonal.
        stress : [B, 4] indicators in [0, 1].
        mark : called as mark(module, tensor) when a module is done (`training.Clock`).

        Raises ValueError for shapes that do not belong together.
        """
        self._check(x, active, prior, stress)
        done = mark or (lambda name, tensor: None)
        window = self.config.window
        one = self.encoder(x, active, prior)
        done("encoder", one.z)
        two = self.graph(one.z, one.context, active, prior, stress)
        done("graph", two.z_final)
        spatial = two.z_ref if self.config.contagion_sees == "refined" else one.h_spat
        three = self.experts(two.z_final, spatial, x[window - 1 :], two.psi, active)
        done("experts", three.latent)
        longest = max(HORIZONS)
        recent = x[window - longest :].unfold(0, longest, 1).transpose(2, 3)  # [B, N, 5, F]
        horizon_error = self.decoders(three.latent, recent) * active[..., None]
        rec_error, error = aggregate(horizon_error, three.moe_error)
        done("decoders", error)
        return Output(
            *(one.h_temp, one.h_spat, one.cross, one.z, one.context),
            *two,
            *three,
            *(horizon_error, rec_error, error),
        )

    def _check(self, x: Tensor, active: Tensor, prior: Tensor, stress: Tensor) -> None:
        """Shapes alone: no value is read, so a GPU does not wait."""
        sessions, stocks = len(x) - self.config.window + 1, x.shape[1] if x.dim() == 3 else 0
        if x.dim() != 3 or x.shape[2] != self.n_features or sessions < 1:
            raise ValueError(
                f"x is {tuple(x.shape)}; it must be [sessions, stocks, {self.n_features} features] with at least the "
                f"{self.config.window} sessions of a window"
            )
        if active.shape != (sessions, stocks) or stress.shape != (sessions, 4):
            raise ValueError(
                f"active is {tuple(active.shape)} and stress {tuple(stress.shape)}; x holds {sessions} samples of "
                f"{stocks} stocks, so they must be {(sessions, stocks)} and {(sessions, 4)}"
            )
        if prior.shape != (stocks, stocks):
            raise ValueError(
                f"prior is {tuple(prior.shape)}; x holds {stocks} stocks, so it must be {(stocks, stocks)}"
            )

    def parameters_by_module(self) -> dict[str, int]:
        """Trainable parameters of each part, named as in SPEC 12; their sum is the total."""
        e, g, x, d = self.encoder, self.graph, self.experts, self.decoders
        parts: dict[str, list[nn.Module | nn.Parameter]] = {
            "BiLSTM": [e.lstm, *([e.project] if e.project else [])],
            "self-attention": [e.query, e.key, e.value, e.out],
            "pooling MLP": [e.pool],
            "spatial projection": [e.spatial_in],
            "GCN": [e.gcn],
            "cross-modal": [e.cross_query, e.cross_key, e.cross_value, e.cross_out],
            "context": [e.context],
            "psi, w, alpha": [g.stress, g.sources, g.alpha],
            "edge MLP": [g.edge],
            "GAT + projection": [g.gat],
            "category LayerNorm": [x.category_norm],
            "gate attention": [x.gate.query, x.gate.key, x.gate.value, x.gate.out],
            "gate MLP": [x.gate.mlp],
            "b_div, tau": [x.gate.b_div, x.gate.tau_b],
            "experts": [x.expert],
            "GRU decoders": [d],
        }
        return {name: sum(_count(part) for part in members) for name, members in parts.items()}


def build_model(
    preset: str = "intended", *, n_features: int = 29, groups: Sequence[int] | None = None, **overrides: Any
) -> Network:
    """A new network. `overrides`: keys of `ModelConfig`; `groups`: category 0..3 of each feature."""
    return Network(n_features, PAPER_GROUPS if groups is None else list(groups), make_config(preset, **overrides))


def _count(part: nn.Module | nn.Parameter) -> int:
    tensors = [part] if isinstance(part, nn.Parameter) else part.parameters()
    return sum(p.numel() for p in tensors if p.requires_grad)
