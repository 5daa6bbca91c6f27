"""GCN autoencoder: what a stock's neighbourhood in the prior graph does not tell of the stock is anomalous."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork, masked_average, normalised_adjacency
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.static_graph.layers import GraphConvolution
from anomaly_routing.panel import Panel


class GCNAutoencoderNetwork(DeepNetwork):
    """Z = A ReLU(A X W1) W2 with A normalised and with loops; each stock's features are rebuilt from its own Z."""

    def __init__(self, n_features: int, hidden: int, code: int) -> None:
        super().__init__()
        self.first = GraphConvolution(n_features, hidden)
        self.second = GraphConvolution(hidden, code)
        self.out = nn.Linear(code, n_features)

    def graph(self, batch: Batch) -> Tensor:
        """[B, N, N], the normalised links with loops."""
        return normalised_adjacency(batch.prior, batch.active)

    def rebuild(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """x [B, N, F], adjacency [B, N, N] -> [B, N, F]."""
        hidden = torch.relu(self.first(x, adjacency))
        return self.out(self.second(hidden, adjacency))

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """Mean squared error over the features."""
        return masked_average(self.score(batch), batch.picked)

    def score(self, batch: Batch) -> Tensor:
        """Mean squared error of a stock's features."""
        rebuilt = self.rebuild(batch.now, self.graph(batch))
        return (rebuilt - batch.now).square().mean(-1)


@register(
    "gcn_ae",
    family="static graph",
    stage="deep_baselines",
    title="GCN autoencoder",
    reference="Kipf & Welling 2016 (graph autoencoder), with an attribute decoder; SPEC 13",
)
@dataclass
class GCNAutoencoder(DeepDetector):
    """Two graph convolutions F-`hidden`-`code` on the prior graph, and a linear decoder of the features.

    Objective and score: mean squared error of the session's features.
    From the source: the encoder, with the ReLU after its first layer alone. Other than in the source, the decoder
    rebuilds the features, not the links: the prior graph is the same every day. The widths are SPEC 13's.
    """

    hidden: int = 64
    code: int = 32

    def network(self, panel: Panel) -> DeepNetwork:
        return GCNAutoencoderNetwork(len(panel.features), self.hidden, self.code)
