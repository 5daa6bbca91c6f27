"""DOMINANT: one graph encoder, two decoders; a stock is anomalous if its features or its links are badly rebuilt."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork, normalised_adjacency
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.static_graph.layers import GraphConvolution, neighbourhoods
from anomaly_routing.panel import Panel


class DominantNetwork(DeepNetwork):
    """Graph convolutions F-H-H (encoder), H-H-F (features) and H-H, then the inner products of its rows (links).

    binary : the attributes are words, and the layers in which the decoders end are ReLU, as in the authors' code;
        otherwise they are linear: a ReLU rebuilds no negative feature, and behind it no inner product is negative, so
        that no link could be less likely than 1/2.
    sigmoid : of the inner products, as in the paper; the authors' PyTorch code goes without.
    """

    def __init__(
        self,
        n_features: int,
        hidden: int,
        weight: float,
        dropout: float = 0.0,
        binary: bool = False,
        sigmoid: bool = True,
    ) -> None:
        super().__init__()
        widths = {
            "encoder": (n_features, hidden, hidden),
            "features": (hidden, hidden, n_features),
            "links": (hidden, hidden),
        }
        self.parts = nn.ModuleDict(
            {name: nn.ModuleList(GraphConvolution(a, b) for a, b in pairwise(w)) for name, w in widths.items()}
        )
        self.weight, self.binary, self.sigmoid = weight, binary, sigmoid
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def graph(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, N, N] each: the normalised links with loops, and the links with loops, the decoder's target."""
        adjacency = normalised_adjacency(batch.prior, batch.active)
        return adjacency, neighbourhoods(batch.prior, batch.active).to(adjacency.dtype)

    def rebuild(self, x: Tensor, adjacency: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, N, F], adjacency [B, N, N] -> features [B, N, F], links [B, N, N]."""
        first, second = self.parts["encoder"]
        z = torch.relu(second(self.drop(torch.relu(first(x, adjacency))), adjacency))
        last = torch.relu if self.binary else nn.Identity()
        first, second = self.parts["features"]
        features = last(second(self.drop(torch.relu(first(z, adjacency))), adjacency))
        (only,) = self.parts["links"]
        s = self.drop(last(only(z, adjacency)))
        products = s @ s.mT
        return features, torch.sigmoid(products) if self.sigmoid else products

    def errors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, N] each: the Euclidean norm of a stock's error in features, and in links among the active stocks."""
        adjacency, target = self.graph(batch)
        features, links = self.rebuild(batch.now, adjacency)
        missed = (links - target) * batch.active[:, None]
        return torch.linalg.vector_norm(features - batch.now, dim=-1), torch.linalg.vector_norm(missed, dim=-1)

    def score(self, batch: Batch) -> Tensor:
        """weight * error of the features + (1 - weight) * error of the links."""
        features, links = self.errors(batch)
        return self.weight * features + (1 - self.weight) * links


@register(
    "dominant",
    family="static graph",
    stage="deep_baselines",
    title="DOMINANT",
    reference="Ding et al. 2019 (SDM); github.com/kaize0409/GCN_AnomalyDetection",
    requires=("graph",),
)
@dataclass
class Dominant(DeepDetector):
    """Autoencoder of the features and of the prior graph from one shared graph encoder.

    Objective and score: `weight` times the norm of a stock's error in features plus the rest times that in links.
    From the authors' code: layers, widths, links with loops as the target, the norms (not squared) as the loss, and
    alpha = 0.8, which in paper and code weights the attributes; 0.2 is left to the structure. Reduced: the decoders end
    linearly (see `DominantNetwork`); no dropout, as in the authors' first code (their PyTorch code drops 0.3). The
    prior graph is the same every day: the links can only tell of a day whose features do not fit a stock's place in it.
    """

    hidden: int = 64
    weight: float = 0.8
    needs_graph: ClassVar[bool] = True

    def network(self, panel: Panel) -> DeepNetwork:
        return DominantNetwork(len(panel.features), self.hidden, self.weight)
