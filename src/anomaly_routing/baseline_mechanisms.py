"""What a fitted detector does inside, on the toy market: the quantities of notebook 04's pictures and sentences.

S sessions, N stocks, T sessions of a window; a fitted detector meets the whole toy market as one batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork, Series
from anomaly_routing.baselines.dynamic_graph.ghrn_star import heterophilous
from anomaly_routing.baselines.static_graph.cola import STEPS
from anomaly_routing.baselines.temporal.anomaly_transformer import discrepancy
from anomaly_routing.baselines.toy import Toy

ORDINARY, PLANTED = "ordinary", "planted"
ROUNDS = 8  # of CoLA's walks
NEARBY = 3  # sessions that count as the neighbourhood of the last: itself and those just before


@dataclass(frozen=True)
class Look:
    """A fitted detector on one kind of planted anomaly."""

    detector: DeepDetector
    toy: Toy
    kind: str

    @cached_property
    def net(self) -> DeepNetwork:
        return self.detector.net.eval()

    @cached_property
    def batch(self) -> Batch:
        """Every session of the toy market."""
        return Series(self.toy.panel, self.net.window, torch.device("cpu")).batch(0, len(self.toy.panel.sessions))

    @cached_property
    def rows(self) -> dict[str, Tensor]:
        """Which of the judged stock-days are ordinary and which planted, bool [S, N] each."""
        judged, cells = torch.as_tensor(self.toy.judged) & self.batch.active, torch.as_tensor(self.toy.cells)
        return {ORDINARY: judged & ~cells, PLANTED: judged & cells}

    @cached_property
    def score(self) -> Tensor:
        """[S, N], NaN where inactive."""
        return torch.as_tensor(self.detector.decision_function(self.toy.panel))

    @property
    def named(self) -> str:
        """The kind in words."""
        return self.kind.replace("_", " ")

    def means(self, values: Tensor) -> dict[str, float]:
        """Mean of [S, N] over the ordinary and over the planted stock-days."""
        return {said: float(values[marked].double().mean()) for said, marked in self.rows.items()}

    def outranks(self, values: Tensor) -> float:
        """Share of the ordinary stock-days that a planted one outranks in [S, N], ties by half."""
        ordinary, planted = (values[self.rows[said]] for said in (ORDINARY, PLANTED))
        above, ties = planted[:, None] > ordinary, planted[:, None] == ordinary
        return float((above + ties / 2).double().mean())


@torch.no_grad()
def window_errors(look: Look) -> dict[str, np.ndarray]:
    """LSTM autoencoder: mean squared error by session of the window [T], oldest first.

    ordinary, planted : the decoder fed with its own output, as in scoring. taught : ordinary, fed with the truth, as in
    training. size : mean square of the ordinary windows, the error of rebuilding nothing but 0.
    """
    errors = {}
    for said, marked in look.rows.items():
        windows = look.batch.windows(marked)
        errors[said] = (look.net.rebuild(windows, teach=False) - windows).square().mean((0, 2)).numpy()
    windows = look.batch.windows(look.rows[ORDINARY])
    errors["taught"] = (look.net.rebuild(windows, teach=True) - windows).square().mean((0, 2)).numpy()
    return errors | {"size": windows.square().mean((0, 2)).numpy()}


@dataclass(frozen=True)
class Associations:
    """Anomaly Transformer: whom the last session attends to, mean over layers, heads and stock-days; [T] each.

    series : the attention. prior : the Gaussian of distance. apart : [S, N], discrepancy of the last session.
    """

    series: dict[str, np.ndarray]
    prior: dict[str, np.ndarray]
    apart: Tensor


@torch.no_grad()
def associations(look: Look) -> Associations:
    """Of every active stock-day, the ordinary and the planted apart."""
    _, series, prior = look.net(look.batch.windows(look.batch.active))
    apart = torch.stack([discrepancy(p, s)[:, -1] for p, s in zip(prior, series, strict=True)]).mean(0)
    last = [torch.stack([layer[:, :, -1] for layer in kind]).mean((0, 2)) for kind in (series, prior)]
    marked = {said: rows[look.batch.active] for said, rows in look.rows.items()}
    drawn = ({said: kind[m].mean(0).numpy() for said, m in marked.items()} for kind in last)
    return Associations(*drawn, look.batch.placed(apart))


@torch.no_grad()
def two_errors(look: Look) -> tuple[Tensor, Tensor]:
    """[S, N] each: TranAD's phases, MTAD-GAT's heads, the features and links of DOMINANT and AnomalyDAE."""
    if look.net.window == 1:
        return look.net.errors(look.batch)
    windows = look.batch.windows(look.batch.active)
    one, other = look.net.parts(windows) if hasattr(look.net, "parts") else look.net.errors(windows)
    return look.batch.placed(one), look.batch.placed(other)


@torch.no_grad()
def pulled(look: Look) -> tuple[Tensor, Tensor, Tensor]:
    """GCN autoencoder: features as rebuilt and the neighbours' average [S, N, F], and how far from a stock's own
    features towards that average the rebuilt ones lie [S, N], 0 the stock, 1 the average."""
    x, active = look.batch.now, look.batch.active.float()
    built = look.net.rebuild(x, look.net.graph(look.batch))
    around = (look.batch.prior @ (x * active[..., None])) / (look.batch.prior @ active[..., None]).clamp(min=1)
    way = ((built - x) * (around - x)).sum(-1) / (around - x).square().sum(-1).clamp(min=1e-12)
    return built, around, way


@torch.no_grad()
def own_weight(look: Look) -> tuple[Tensor, Tensor]:
    """GAT autoencoder: the last layer's attention of a stock to itself, and what an equal share would be; [S, N]."""
    return look.net.own_weight(look.batch), 1 / look.net.graph(look.batch).sum(-1)


@torch.no_grad()
def at_home(look: Look) -> Tensor:
    """CoLA: probability that a stock belongs to its own neighbourhood, mean of `ROUNDS` walks; [S, N]."""
    batch = look.batch
    draws = torch.rand((ROUNDS, batch.active.shape[1], STEPS + 1, 2), generator=torch.Generator().manual_seed(0))
    return batch.placed(look.net.contrast(batch, look.net.graph(batch), batch.active, draws)[0].sigmoid().mean(0))


@torch.no_grad()
def weights_moved(look: Look) -> list[np.ndarray]:
    """EvolveGCN: for each layer, distance of the weights from the learned first ones as a share of their norm."""
    paths = (torch.cat([layer.first[None], layer.weights(look.net.steps)]) for layer in look.net.layers)
    return [((path - path[0]).norm(dim=(1, 2)) / path[0].norm()).numpy() for path in paths]


@torch.no_grad()
def edges_cut(look: Look) -> Tensor:
    """GHRN*: edges that a stock loses, [S, N]."""
    batch = look.batch
    return heterophilous(batch.now, batch.prior, batch.active, look.net.pruned).sum(-1).float()


@torch.no_grad()
def intensity(look: Look) -> tuple[Tensor, Tensor]:
    """Graph Hawkes: intensity of the first category, NaN where inactive, and whether it had an event; [S, N] each."""
    path = torch.full(look.batch.active.shape, torch.nan)
    path[look.batch.active] = look.net.intensity(look.batch, look.batch.active)[:, 0]
    return path, look.net.events(look.batch.now, look.batch.active)[..., 0] > 0
