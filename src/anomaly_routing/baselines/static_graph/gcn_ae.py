"""GCN autoencoder: what a stock's neighbourhood in the prior graph does not tell of the stock is anomalous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork, normalised_adjacency
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.static_graph.layers import GraphAutoencoder, GraphConvolution
from anomaly_routing.panel import Panel


class GCNAutoencoderNetwork(GraphAutoencoder):
    """Z = A ReLU(A X W1) W2 with A normalised and with loops; each stock's features are rebuilt from its own Z."""

    def __init__(self, n_features: int, hidden: int, code: int) -> None:
        first, second = GraphConvolution(n_features, hidden), GraphConvolution(hidden, code)
        super().__init__(first, second, nn.Linear(code, n_features))

    def graph(self, batch: Batch) -> Tensor:
        """[B, N, N], the normalised links with loops."""
        return normalised_adjacency(batch.prior, batch.active)


@register(
    "gcn_ae",
    family="static graph",
    stage="deep_baselines",
    title="GCN autoencoder",
    reference="Kipf & Welling 2016 (graph autoencoder), with an attribute decoder; SPEC 13",
    requires=("graph",),
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
    needs_graph: ClassVar[bool] = True

    def network(self, panel: Panel) -> DeepNetwork:
        return GCNAutoencoderNetwork(len(panel.features), self.hidden, self.code)
