"""GHRN*, label-free: a graph autoencoder on the prior graph without each session's most heterophilous edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork, normalised_adjacency
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.static_graph.gcn_ae import GCNAutoencoderNetwork
from anomaly_routing.panel import Panel


class PrunedGCNNetwork(GCNAutoencoderNetwork):
    """The GCN autoencoder, on what is left of the prior graph."""

    def __init__(self, n_features: int, hidden: int, code: int, pruned: float) -> None:
        super().__init__(n_features, hidden, code)
        self.pruned = pruned

    def graph(self, batch: Batch) -> Tensor:
        """[B, N, N], the normalised links with loops, without those of each session that are pruned."""
        cut = heterophilous(batch.now, batch.prior, batch.active, self.pruned)
        return normalised_adjacency(torch.where(cut, 0.0, batch.prior), batch.active)


def heterophilous(x: Tensor, graph: Tensor, active: Tensor, share: float) -> Tensor:
    """Bool [B, N, N], symmetric: the `share` of each session's edges whose ends disagree most.

    x [B, N, F], graph [N, N] symmetric, active [B, N]. After aggregation an end is L x, L = I - D^-1/2 (A + I) D^-1/2:
    what is left of its features beside those of its neighbours. An edge's agreement is the inner product of its ends;
    the smallest go, rounded down to whole edges among active stocks.
    """
    high = x.double() - normalised_adjacency(graph.double(), active) @ x.double()
    one, other = torch.triu_indices(*graph.shape, offset=1, device=x.device)
    # double, then rounded: the order, and ties, do not hang on how many sessions are computed at once
    agreement = (high @ high.mT).float()[:, one, other]
    edge = (graph[one, other] > 0) & active[:, one] & active[:, other]
    agreement = torch.where(edge, agreement, torch.inf)
    rank = agreement.argsort(dim=1, stable=True).argsort(dim=1)
    gone = rank < (share * edge.sum(1, keepdim=True).double()).floor()
    cut = torch.zeros(len(x), *graph.shape, dtype=torch.bool, device=x.device)
    cut[:, one, other] = gone
    return cut | cut.mT


@register(
    "ghrn_star",
    family="dynamic graph",
    stage="deep_baselines",
    title="GHRN*, label-free",
    reference="SPEC 13, AUDIT A23; edge measure of Gao et al. 2023 (GHRN, WWW), github.com/blacksingular/GHRN",
    requires=("graph",),
)
@dataclass
class GHRNStar(DeepDetector):
    """`gcn_ae`, but in each session without the `pruned` most heterophilous edges of the prior graph.

    Objective and score: mean squared error of the session's features.
    GHRN's: that edges between unlike nodes blur an anomaly, that high frequencies on the graph show such edges, their
    measure (inner product of the ends after the Laplacian; the smallest are pruned), pruning before the network runs.
    Ours: everything else. GHRN is supervised: it measures the edges on the class probabilities of a first classifier,
    prunes its one graph once and trains a second classifier (BWGNN) on labels. Without labels the features stand for
    the probabilities and the GCN autoencoder for the classifier; the measure runs anew in each session; `pruned` is
    SPEC 13's tenth (the official code's example is 0.015). So this is not GHRN, and is not called so.
    The paper under replication lists GHRN as a static method in one section and as a Hawkes process in another, and
    cites a third thing under that name; see `graph_hawkes` and AUDIT A23.
    """

    hidden: int = 64
    code: int = 32
    pruned: float = 0.1
    needs_graph: ClassVar[bool] = True

    def network(self, panel: Panel) -> DeepNetwork:
        return PrunedGCNNetwork(len(panel.features), self.hidden, self.code, self.pruned)
