"""AnomalyDAE: stocks and features are both embedded; one inner product rebuilds the links, another the features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.static_graph.layers import GraphAttention, neighbourhoods
from anomaly_routing.panel import Panel


class AnomalyDAENetwork(DeepNetwork):
    """Structure encoder: dense F-`hidden`, then attention over the neighbours to Z_V. Attribute encoder: dense
    N-`hidden`-`code` on the transposed features to Z_A. Links sigmoid(Z_V Z_V'), features Z_V Z_A'.

    theta, eta : penalties of the errors in links that are there and in features that are not 0.
    """

    def __init__(
        self, n_features: int, n_stocks: int, hidden: int, code: int, weight: float, theta: float, eta: float
    ) -> None:
        super().__init__()
        self.stocks_dense = nn.Linear(n_features, hidden)
        self.stocks_attention = GraphAttention(hidden, code)
        self.features_dense = nn.Linear(n_stocks, hidden)
        self.features_code = nn.Linear(hidden, code)
        for layer in (self.stocks_dense, self.features_dense, self.features_code):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.weight, self.theta, self.eta = weight, theta, eta

    def graph(self, batch: Batch) -> Tensor:
        """bool [B, N, N], each stock's active neighbours and itself."""
        return neighbourhoods(batch.prior, batch.active)

    def rebuild(self, x: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, N, F], 0 where inactive, near bool [B, N, N] -> features [B, N, F], links [B, N, N]."""
        stocks = self.stocks_attention(torch.relu(self.stocks_dense(x)), near)
        features = self.features_code(torch.relu(self.features_dense(x.mT)))
        return stocks @ features.mT, torch.sigmoid(stocks @ stocks.mT)

    def errors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, N] each: the penalised norm of a stock's error in features, and in links among the active stocks."""
        x = batch.now * batch.active[..., None]
        near = self.graph(batch)
        features, links = self.rebuild(x, near)
        off = (features - x) * torch.where(x != 0, self.eta, 1.0)
        missed = (links - near.to(links.dtype)) * torch.where(near, self.theta, 1.0) * batch.active[:, None]
        return torch.linalg.vector_norm(off, dim=-1), torch.linalg.vector_norm(missed, dim=-1)

    def score(self, batch: Batch) -> Tensor:
        """weight * error of the features + (1 - weight) * error of the links."""
        features, links = self.errors(batch)
        return self.weight * features + (1 - self.weight) * links


@register(
    "anomaly_dae",
    family="static graph",
    stage="deep_baselines",
    title="AnomalyDAE",
    reference="Fan et al. 2020 (ICASSP); github.com/haoyfan/AnomalyDAE",
    requires=("graph",),
)
@dataclass
class AnomalyDAE(DeepDetector):
    """Dual autoencoder: embeddings of the stocks and of the features, whose inner product rebuilds the features.

    Objective and score: `weight` times the norm of a stock's error in features plus the rest times that in links.
    From the authors' code: layers, widths 256 and 128, links with loops as the target, the norms as the loss, theta and
    eta as for BlogCatalog. Reduced: `weight` 0.5 (SPEC 13) for their 0.7; the attention is that of GAT, where their
    code also scales the logits by the normalised link. On this panel almost no feature is 0, so eta is little more than
    a second weight. The attribute encoder reads the stocks in the panel's order, absent ones as 0: it can score only
    the universe that it was fitted on.
    """

    hidden: int = 256
    code: int = 128
    weight: float = 0.5
    theta: float = 40.0
    eta: float = 5.0
    needs_graph: ClassVar[bool] = True
    per_stock: ClassVar[bool] = True  # the attribute encoder reads the stocks by place

    def network(self, panel: Panel) -> DeepNetwork:
        shape = len(panel.features), len(panel.tickers)
        return AnomalyDAENetwork(*shape, self.hidden, self.code, self.weight, self.theta, self.eta)
