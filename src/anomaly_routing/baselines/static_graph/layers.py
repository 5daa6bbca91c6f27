"""Graph layers on matrices: B dense graphs of N nodes each, or one large graph, B = 1, whose links may be sparse."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepNetwork


class GraphConvolution(nn.Module):
    """A X W + b (Kipf and Welling, ICLR 2017), A being normalised beforehand."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_in, n_out)))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """x [B, N, n_in], adjacency [B, N, N], or sparse [N, N] with B = 1 -> [B, N, n_out]."""
        if self.weight.shape[0] < self.weight.shape[1]:  # the same product, the cheaper way round
            return _spread(adjacency, x) @ self.weight + self.bias
        return _spread(adjacency, x @ self.weight) + self.bias


class GraphAttention(nn.Module):
    """Each node's attention over its neighbourhood (Velickovic et al., ICLR 2018), heads of n_out / heads side by side.

    The logit of j for i is LeakyReLU(receive . W x_i + send . W x_j), softmax over the neighbourhood of i. The authors'
    dropout of features and attention is left out.
    """

    def __init__(self, n_in: int, n_out: int, heads: int = 1, slope: float = 0.2) -> None:
        super().__init__()
        if n_out % heads:
            raise ValueError(f"{n_out} outputs do not divide into {heads} heads")
        self.heads, self.slope = heads, slope
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_in, n_out)))
        self.receive = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, n_out // heads)))
        self.send = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, n_out // heads)))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        """x [B, N, n_in], near bool [B, N, N] with at least one neighbour in each row -> [B, N, n_out]."""
        attention, h = self.attend(x, near)
        return (attention @ h.transpose(1, 2)).transpose(1, 2).flatten(2) + self.bias

    def attend(self, x: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs as for `forward` -> the attention of i to j [B, heads, N, N], rows summing to 1, and what is attended
        to [B, N, heads, n_out / heads]."""
        h = (x @ self.weight).unflatten(-1, (self.heads, -1))
        receive, send = (h * self.receive).sum(-1).mT, (h * self.send).sum(-1).mT  # [B, heads, N]
        logits = nn.functional.leaky_relu(receive[..., :, None] + send[..., None, :], self.slope)
        return logits.masked_fill(~near[:, None], -torch.inf).softmax(-1), h


class GraphAutoencoder(DeepNetwork):
    """Two graph layers, F-hidden and hidden-code, and a linear map back: a stock's features rebuilt from its own code.

    `graph` gives what the layers read beside the features; `bend` stands between them.
    """

    bend: Callable[[Tensor], Tensor] = staticmethod(torch.relu)

    def __init__(self, first: nn.Module, second: nn.Module, out: nn.Linear) -> None:
        super().__init__()
        self.first, self.second, self.out = first, second, out

    @abstractmethod
    def graph(self, batch: Batch) -> Tensor:
        """[B, N, N], the links that the layers follow."""

    def rebuild(self, x: Tensor, graph: Tensor) -> Tensor:
        """x [B, N, F], graph [B, N, N] -> [B, N, F]."""
        return self.out(self.second(self.bend(self.first(x, graph)), graph))

    def score(self, batch: Batch) -> Tensor:
        """Mean squared error of a stock's features; the objective is its mean."""
        return (self.rebuild(batch.now, self.graph(batch)) - batch.now).square().mean(-1)


def _spread(adjacency: Tensor, x: Tensor) -> Tensor:
    return (adjacency @ x[0])[None] if adjacency.is_sparse else adjacency @ x


def among(active: Tensor) -> Tensor:
    """bool [B, N, N]: both ends are active."""
    return active[:, :, None] & active[:, None, :]


def neighbourhoods(graph: Tensor, active: Tensor) -> Tensor:
    """bool [B, N, N]: j is an active neighbour of the active i, or i itself; an inactive node has only itself.

    graph [N, N] or [B, N, N], active bool [B, N].
    """
    own = torch.eye(active.shape[1], dtype=torch.bool, device=active.device)
    return ((graph != 0) & among(active)) | own
