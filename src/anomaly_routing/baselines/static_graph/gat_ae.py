"""GAT autoencoder: the GCN autoencoder with learned attention to the neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.static_graph.layers import GraphAttention, GraphAutoencoder, neighbourhoods
from anomaly_routing.panel import Panel


class GATAutoencoderNetwork(GraphAutoencoder):
    """Two attention layers, the first with several heads; each stock's features are rebuilt from its own code."""

    bend = staticmethod(nn.functional.elu)

    def __init__(self, n_features: int, hidden: int, code: int, heads: int) -> None:
        first, second = GraphAttention(n_features, hidden, heads), GraphAttention(hidden, code)
        super().__init__(first, second, nn.Linear(code, n_features))

    def graph(self, batch: Batch) -> Tensor:
        """bool [B, N, N], each stock's active neighbours and itself."""
        return neighbourhoods(batch.prior, batch.active)

    def own_weight(self, batch: Batch) -> Tensor:
        """[B, N], the weight that a stock's code gives to the stock itself: attention of the last layer, one head."""
        near = self.graph(batch)
        attention, _ = self.second.attend(self.bend(self.first(batch.now, near)), near)
        return attention.mean(1).diagonal(dim1=-2, dim2=-1)


@register(
    "gat_ae",
    family="static graph",
    stage="deep_baselines",
    title="GAT autoencoder",
    reference="Velickovic et al. 2018 (graph attention), with an attribute decoder; SPEC 13",
    requires=("graph",),
)
@dataclass
class GATAutoencoder(DeepDetector):
    """Two attention layers F-`hidden`-`code` on the prior graph, and a linear decoder of the features.

    Objective and score: mean squared error of the session's features.
    From the source: LeakyReLU 0.2 in the logits, softmax over a stock's active neighbours and itself, ELU between the
    layers, 8 heads of 8 in the first layer and one in the second. Reduced: no dropout (the source drops 0.6 of features
    and attention, for graphs with few labels).
    """

    hidden: int = 64
    code: int = 32
    heads: int = 8
    needs_graph: ClassVar[bool] = True

    def network(self, panel: Panel) -> DeepNetwork:
        return GATAutoencoderNetwork(len(panel.features), self.hidden, self.code, self.heads)
