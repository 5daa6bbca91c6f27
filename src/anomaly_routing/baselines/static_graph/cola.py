"""CoLA: a stock that agrees with its own neighbourhood no better than with another stock's is anomalous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.static_graph.layers import among
from anomaly_routing.panel import Panel

NEAR, FAR = 12, 20  # steps of a walk: first ones that each start at the target, then ones of which every other does
STEPS = NEAR + FAR
ROWS = 25_000  # pairs that are scored at once


class Links(NamedTuple):
    """The links among the active stocks of B sessions, without loops, as a walk needs them."""

    among: Tensor  # bool [B, N, N]
    degree: Tensor  # int [B, N]
    start: Tensor  # int [B, N], of each stock's neighbours in `neighbour`
    neighbour: Tensor  # int [E]

    @classmethod
    def of(cls, prior: Tensor, active: Tensor) -> Links:
        """prior [N, N], active bool [B, N]."""
        links = (prior != 0).fill_diagonal_(False) & among(active)
        degree = links.sum(-1)
        start = (degree.flatten().cumsum(0) - degree.flatten()).view_as(degree)
        return cls(links, degree, start, links.nonzero()[:, -1])

    def walk(self, session: Tensor, target: Tensor, draws: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
        """The first `wanted` different stocks, other than itself, that a walk with restarts from each target meets.

        session, target int [M]; draws [M, STEPS, 2] in [0, 1), where to and whether to restart -> stocks int
        [M, wanted] and whether a place is filled, bool [M, wanted]; an empty place holds the target.
        """
        found = target[:, None].repeat(1, wanted)
        count = torch.zeros_like(target)
        place = torch.arange(wanted, device=target.device)
        at = target
        for step in range(STEPS if len(self.neighbour) else 0):
            degree = self.degree[session, at]
            choice = torch.minimum((draws[:, step, 0] * degree).long(), degree - 1)
            entry = (self.start[session, at] + choice).clamp(0, len(self.neighbour) - 1)
            at = torch.where(degree > 0, self.neighbour[entry], at)
            new = (at != target) & (found != at[:, None]).all(-1)
            found = torch.where(new[:, None] & (place == count[:, None]), at[:, None], found)
            count = count + new
            at = target if step < NEAR else torch.where(draws[:, step, 1] < 0.5, target, at)
        return found, place < count[:, None]

    def weights(self, session: Tensor, stocks: Tensor) -> Tensor:
        """stocks int [M, K] -> [M, K, K] of D^-1/2 A D^-1/2 + I, the degrees being those of the whole graph."""
        degree = self.degree[session[:, None], stocks]
        scale = torch.where(degree > 0, degree, torch.inf).rsqrt()
        links = self.among[session[:, None, None], stocks[:, :, None], stocks[:, None, :]]
        return scale[:, :, None] * links * scale[:, None, :] + torch.eye(stocks.shape[1], device=stocks.device)


class ColaNetwork(DeepNetwork):
    """One graph convolution F-H with PReLU, the mean over a subgraph, a bilinear discriminator."""

    def __init__(self, n_features: int, hidden: int, subgraph: int, rounds: int, watched: int, seed: int) -> None:
        super().__init__()
        self.subgraph, self.rounds, self.watched, self.seed = subgraph, rounds, watched, seed
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_features, hidden)))
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.bend = nn.PReLU()
        self.agree = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, hidden, hidden))[0])
        self.agree_bias = nn.Parameter(torch.zeros(()))

    def graph(self, batch: Batch) -> Links:
        """What the walks need of the links."""
        return Links.of(batch.prior, batch.active)

    def contrast(self, batch: Batch, links: Links, rows: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [R, M] of the positive and of the negative pair of the M stock-days marked in `rows` [B, N], R rounds.

        A positive pair is a stock and the subgraph around it, in which its own features are hidden (0); a negative one
        takes the subgraph around another marked stock of the session. draws [R, N, STEPS + 1, 2], in [0, 1).
        """
        session, target = rows.nonzero(as_tuple=True)
        rounds, marked = len(draws), len(target)
        draws = draws[:, target].flatten(0, 1)
        group = (session + len(rows) * torch.arange(rounds, device=session.device)[:, None]).flatten()
        session, target = session.repeat(rounds), target.repeat(rounds)
        others, filled = links.walk(session, target, draws[:, 1:], self.subgraph - 1)
        inside = torch.cat([others, target[:, None]], 1)
        own = torch.ones_like(filled[:, :1])
        there, shown = torch.cat([filled, own], 1), torch.cat([filled, ~own], 1)
        projected = batch.now[session[:, None], inside] @ self.weight
        weights = links.weights(session, inside) * among(there)
        h = self.bend(weights @ (projected * shown[..., None]) + self.bias)
        around = (h * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        alone = self.bend(projected[:, -1] + self.bias) @ self.agree
        another = around[_next(group, draws[:, 0, 0])]
        positive, negative = ((alone * pair).sum(-1) + self.agree_bias for pair in (around, another))
        return positive.view(rounds, marked), negative.view(rounds, marked)

    def average(self, batch: Batch, rounds: int, loss: bool) -> Tensor:
        """[B, N], mean of the loss, or of negative minus positive, over seeded rounds, the same for every session."""
        generator = torch.Generator().manual_seed(self.seed)
        links, total = self.graph(batch), 0.0
        size = max(1, ROWS // max(1, batch.active.numel()))
        for first in range(0, rounds, size):
            draws = torch.cat([_draws(batch, generator) for _ in range(first, min(first + size, rounds))])
            positive, negative = self.contrast(batch, links, batch.active, draws)
            part = _loss(positive, negative) if loss else negative.sigmoid() - positive.sigmoid()
            total = total + part.sum(0)
        return batch.placed(total / rounds)

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """Binary cross entropy of one positive and one negative pair for each picked stock-day."""
        return _loss(*self.contrast(batch, self.graph(batch), batch.picked, _draws(batch))).mean()

    def criterion(self, batch: Batch) -> Tensor:
        """The loss, mean of `watched` rounds."""
        return self.average(batch, self.watched, loss=True)

    def score(self, batch: Batch) -> Tensor:
        """The probability given to the negative pair minus that given to the positive, mean of `rounds` rounds."""
        return self.average(batch, self.rounds, loss=False)


def _draws(batch: Batch, generator: torch.Generator | None = None) -> Tensor:
    """[1, N, STEPS + 1, 2]: one round, drawn on the CPU so that every device has the same."""
    return torch.rand((1, batch.active.shape[1], STEPS + 1, 2), generator=generator).to(batch.x.device)


def _loss(positive: Tensor, negative: Tensor) -> Tensor:
    return (softplus(-positive) + softplus(negative)) / 2


def _next(session: Tensor, key: Tensor) -> Tensor:
    """int [M]: for each entry the next of its session by key, the first after the last; session int [M], ascending."""
    order = (session + key.double()).argsort()  # each session keeps its places
    place = torch.arange(len(session), device=session.device)
    last = place == torch.searchsorted(session, session, right=True) - 1
    following = torch.where(last, torch.searchsorted(session, session), place + 1)
    return torch.empty_like(order).scatter_(0, order, order[following])


@register(
    "cola",
    family="static graph",
    stage="deep_baselines",
    title="CoLA",
    reference="Liu et al. 2021 (TNNLS); github.com/TrustAGI-Lab/CoLA",
    requires=("graph",),
)
@dataclass
class Cola(DeepDetector):
    """Contrast of a stock with the neighbourhood that random walks in the prior graph find, and with another stock's.

    Objective: binary cross entropy, positive pairs against as many negative ones. Score: the discriminator's
    probability for the negative pair minus that for the positive one, mean over `rounds` rounds of walks and pairs.
    From the authors' code: subgraphs of 4 with the target's features hidden, one graph convolution of 64 with PReLU,
    mean readout, bilinear discriminator, a negative pair with the next in a random order, walks that return to the
    target after every step and, for a target with too few neighbours, go on farther. Reduced: 64 rounds (SPEC 13) for
    their 256; pairs stay within a session. Other than theirs, a walk keeps the first three others that it meets (their
    code those of lowest number, the target itself possibly among them), and one that meets fewer leaves the subgraph
    smaller; one that goes farther returns with probability 0.5 for their 0.9. The stop rules watch the loss over
    `watched` rounds, the same in every epoch.
    """

    hidden: int = 64
    subgraph: int = 4
    rounds: int = 64
    watched: int = 8
    needs_graph: ClassVar[bool] = True

    def network(self, panel: Panel) -> DeepNetwork:
        return ColaNetwork(len(panel.features), self.hidden, self.subgraph, self.rounds, self.watched, self.seed)
