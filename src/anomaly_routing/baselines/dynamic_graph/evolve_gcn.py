"""EvolveGCN-O: a graph autoencoder whose weights a recurrent cell carries on from session to session."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork, masked_average, normalised_adjacency
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import FEATURE_WINDOW, Panel


class MatrixGRU(nn.Module):
    """GRU cell whose state is a matrix [I, O] and whose input is that state: each column is a state of I numbers."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.w, self.u = (_uniform(3, rows, rows) for _ in range(2))  # update, reset, candidate
        self.b = nn.Parameter(torch.zeros(3, rows, columns))

    def forward(self, q: Tensor) -> Tensor:
        """[I, O] -> [I, O], one session on."""
        from_input = self.w @ q + self.b
        update = torch.sigmoid(from_input[0] + self.u[0] @ q)
        reset = torch.sigmoid(from_input[1] + self.u[1] @ q)
        candidate = torch.tanh(from_input[2] + self.u[2] @ (reset * q))
        return (1 - update) * q + update * candidate


class EvolvingConvolution(nn.Module):
    """Graph convolution act(A X W_k): W_0 is learned, W_k = GRU(W_{k-1}) for the sessions k = 1, 2, ..."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = _uniform(n_in, n_out)
        self.cell = MatrixGRU(n_in, n_out)
        self.act = nn.RReLU()

    def weights(self, steps: int) -> Tensor:
        """[steps, I, O]: W_1 .. W_steps."""
        evolved = [self.first]
        for _ in range(steps):
            evolved.append(self.cell(evolved[-1]))
        return torch.stack(evolved[1:])

    def forward(self, x: Tensor, a: Tensor, weights: Tensor) -> Tensor:
        """x [K, B, N, I], a [K, B, N, N], weights [K, I, O] -> [K, B, N, O]."""
        return self.act(a @ (x @ weights[:, None]))


class EvolveGCNNetwork(DeepNetwork):
    """Two evolving convolutions F-H-C over `steps` sessions, a linear decoder C-F.

    lookback : sessions in a correlation. least : common sessions that it needs. above : what an edge's correlation is.
    """

    def __init__(
        self, n_features: int, hidden: int, code: int, steps: int, lookback: int, least: int, above: float
    ) -> None:
        super().__init__()
        self.window = lookback + steps - 1
        self.steps, self.lookback, self.least, self.above = steps, lookback, least, above
        self.layers = nn.ModuleList([EvolvingConvolution(n_features, hidden), EvolvingConvolution(hidden, code)])
        self.decoder = nn.Linear(code, n_features)

    def sequence(self, batch: Batch, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """The samples' last `steps` sessions: x [K, B, N, F], graph [K, B, N, N] (normalised), present [K, B, N]."""
        rows = len(batch.active) + steps - 1
        present, last = batch.present[-rows:], slice(-(rows + self.lookback - 1), None)
        graph = correlation_graph(batch.returns[last], batch.present[last], self.lookback, self.least, self.above)
        parts = batch.x[-rows:], normalised_adjacency(graph.to(batch.x.dtype), present), present
        return tuple(torch.stack([part[k : k + len(batch.active)] for k in range(steps)]) for part in parts)

    def rebuild(self, x: Tensor, a: Tensor) -> Tensor:
        """x [K, B, N, F] and a [K, B, N, N], the samples' last K sessions -> [K, B, N, F]."""
        for layer in self.layers:
            x = layer(x, a, layer.weights(self.steps)[-len(x) :])
        return self.decoder(x)

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """Mean squared error over the samples' sessions, each rebuilt with its own graph and weights."""
        x, a, present = self.sequence(batch, self.steps)
        return masked_average((self.rebuild(x, a) - x).square().mean(-1), present & batch.picked)

    def score(self, batch: Batch) -> Tensor:
        """Mean squared error of x_t."""
        x, a, _ = self.sequence(batch, 1)
        return (self.rebuild(x, a) - x).square().mean(-1)[0]


def correlation_graph(returns: Tensor, present: Tensor, lookback: int, least: int, above: float) -> Tensor:
    """Bool [S, N, N], Pearson correlation of each `lookback` consecutive rows above `above`, nobody with himself.

    returns [S + lookback - 1, N], present the same. A pair's correlation is over the sessions with both present; fewer
    than `least` give no edge. In double precision, so that an edge does not hang on how many sessions come at once.
    """
    seen = present.double().unfold(0, lookback, 1)  # [S, N, lookback]
    values = returns.double().unfold(0, lookback, 1) * seen
    common = seen @ seen.mT
    total, square = values @ seen.mT, values.square() @ seen.mT  # of the row's stock, where the column's is present too
    spread = common * square - total.square()
    spread = torch.where(spread > 1e-9 * common * square, spread, 0.0)  # a constant is left with rounding errors
    covariance = common * (values @ values.mT) - total * total.mT
    scale = (spread * spread.mT).sqrt()
    edge = (common >= least) & (scale > 0) & (covariance > above * scale)
    return edge & ~torch.eye(returns.shape[1], dtype=torch.bool, device=returns.device)


def _uniform(*shape: int) -> nn.Parameter:
    bound = shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


@register(
    "evolve_gcn",
    family="dynamic graph",
    stage="deep_baselines",
    title="EvolveGCN-O autoencoder",
    reference="Pareja et al. 2020 (EvolveGCN, AAAI), github.com/IBM/EvolveGCN, egcn_o; SPEC 13",
)
@dataclass
class EvolveGCN(DeepDetector):
    """Graph convolutions with weights that evolve over 5 sessions, on the graph of 20-session return correlations.

    Objective: mean squared error of the features of the sample's five sessions. Score: that of its last session.
    From the source: the -O version, as its official code has it: a matrix GRU cell that is fed the weights themselves,
    two layers, randomised leaky ReLU, five sessions (its setting for Elliptic), every sample starting from the learned
    initial weights. Reduced: 64 and 32 units (SPEC 13) for its 256; a linear decoder of the features in place of its
    classifier, since there are no labels. Changed: all five sessions are fitted where it fits the last one alone, for
    otherwise neither the earlier graphs nor the earlier weights would count at all.
    What "dynamic" means here: in the -O version nothing of the data enters the recurrence, and a convolution reads its
    own session only. So a score depends on the last session's features and graph; the past is in the correlations.
    """

    hidden: int = 64
    code: int = 32
    steps: int = 5
    lookback: int = FEATURE_WINDOW
    least: int = 15
    above: float = 0.5

    def network(self, panel: Panel) -> DeepNetwork:
        return EvolveGCNNetwork(
            len(panel.features), self.hidden, self.code, self.steps, self.lookback, self.least, self.above
        )
