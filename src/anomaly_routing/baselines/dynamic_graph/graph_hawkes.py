"""Graph Hawkes process: how surprising a stock's events are, given its own and its neighbours' earlier events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


class ContinuousTimeLSTM(nn.Module):
    """The cell of the neural Hawkes process (Mei and Eisner 2017), on sessions one unit of time apart.

    An event moves the memory c and sets the level that it falls back to, the pace of the fall and the output gate; from
    then on c(s) = level + (c - level) exp(-pace s) until the next event. The start of the record counts as an event.
    """

    def __init__(self, n_in: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_events, self.from_state = nn.Linear(n_in, 7 * hidden), nn.Linear(hidden, 7 * hidden, bias=False)

    def forward(self, events: Tensor) -> Tensor:
        """[M, T, I], events of T sessions, zeros where nothing happened -> [M, H], one session after the last."""
        any_event = (events != 0).any(-1, keepdim=True)
        any_event[:, 0] = True
        c = level = pace = out = events.new_zeros(len(events), self.hidden)
        for event, happened in zip(self.from_events(events).unbind(1), any_event.unbind(1), strict=True):
            gates = event + self.from_state(out * c.tanh())
            squashed, z, rate = gates.split([5 * self.hidden, self.hidden, self.hidden], 1)
            enter, keep, level_enter, level_keep, opened = squashed.sigmoid().chunk(5, 1)
            z = z.tanh()
            c = torch.where(happened, keep * c + enter * z, c)
            level = torch.where(happened, level_keep * level + level_enter * z, level)
            pace = torch.where(happened, functional.softplus(rate), pace)
            out = torch.where(happened, opened, out)
            c = level + (c - level) * torch.exp(-pace)
        return out * c.tanh()


class GraphHawkesNetwork(DeepNetwork):
    """Events of K categories at each stock, their intensities by a recurrent cell over own and neighbours' events.

    category : int [F], of each feature. threshold : [K], see `events`. rate : the intensity to begin the fit with.
    """

    def __init__(self, category: Tensor, threshold: Tensor, hidden: int, window: int, rate: float) -> None:
        super().__init__()
        self.window = window
        member = functional.one_hot(category, len(threshold)).double()
        self.register_buffer("member", member / member.sum(0))  # [F, K]
        self.register_buffer("threshold", threshold.float())
        self.cell = ContinuousTimeLSTM(2 * len(threshold), hidden)
        self.head = nn.Linear(hidden, len(threshold))
        self.log_scale = nn.Parameter(torch.zeros(len(threshold)))
        nn.init.constant_(self.head.bias, float(np.log(np.expm1(rate))))

    def sizes(self, x: Tensor) -> Tensor:
        """[..., F] -> [..., K], mean absolute feature of each category."""
        return (x.abs().double() @ self.member).float()  # double: a size does not hang on how many are computed at once

    def events(self, x: Tensor, present: Tensor) -> Tensor:
        """x [..., F], present [...] -> [..., K] of 0 and 1: the size is above its threshold."""
        return ((self.sizes(x) > self.threshold) & present[..., None]).to(x.dtype)

    def histories(self, batch: Batch) -> Tensor:
        """[B+T-1, N, 2K], own events and the share of present neighbours with one."""
        own = self.events(batch.x, batch.present)
        neighbours = (batch.prior @ batch.present.to(own.dtype)[..., None]).clamp(min=1)
        return torch.cat([own, batch.prior @ own / neighbours], -1)

    def intensity(self, batch: Batch, rows: Tensor) -> Tensor:
        """[M, K], of the stock-days marked in `rows` [B, N], from the window's earlier sessions."""
        windows = batch._replace(x=self.histories(batch)).windows(rows)
        scale = self.log_scale.exp()
        return scale * functional.softplus(self.head(self.cell(windows[:, :-1])) / scale)

    def surprise(self, batch: Batch, rows: Tensor) -> Tensor:
        """[M], minus log likelihood of the events of the stock-days marked in `rows` [B, N]."""
        happened = self.events(batch.now, batch.active)[rows] > 0
        intensity = self.intensity(batch, rows).clamp(min=1e-6)
        return torch.where(happened, -torch.log(-torch.expm1(-intensity)), intensity).sum(-1)

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """Mean surprise."""
        return self.surprise(batch, batch.picked).mean()

    def score(self, batch: Batch) -> Tensor:
        """Surprise of session t."""
        return batch.placed(self.surprise(batch, batch.active))


@register(
    "graph_hawkes",
    family="dynamic graph",
    stage="deep_baselines",
    title="Graph Hawkes, label-free",
    reference="AUDIT A23; Han et al. 2020 (Graph Hawkes Neural Network, AKBC); Mei and Eisner 2017",
    requires=("graph",),
)
@dataclass
class GraphHawkes(DeepDetector):
    """Neural point process on the prior graph.

    Event of category k (of the panel's feature groups; without groups there is one) at stock i in session t: the mean
    absolute feature of the category is above its `quantile` among the training stock-days.
    Objective and score: minus log likelihood of session t's events given the events before t, summed over categories.
    An event of intensity lambda has the probability 1 - exp(-lambda): at least one in a session of unit length.
    An expected event that stays away counts too, by lambda, as it does in the likelihood. Leaving that half out would
    favour a network that always expects everything, and tie all quiet stock-days at 0. An absence costs more than an
    event only where the event was likelier than not.

    From Han et al. (github.com/Jeff20100601/GHNN_clean): a continuous-time LSTM at each entity, fed with the mean over
    the entity's neighbours in the events of one time stamp; intensities as softplus of its state. From Mei and Eisner,
    whose cell it is: the gates, the decay, the scale of the softplus, fitting by likelihood. Not from either: a fixed
    graph and few kinds of event for entities, relations and embeddings; no ranking of the next link, no prediction of
    its time; sessions one apart; a bias; a window of 39 earlier sessions for a history without end; a step fits `share`
    of a batch's stock-days, to save time.
    The paper under replication calls its baseline GHRN, which is a supervised method against heterophily (`ghrn_star`),
    describes it as a Hawkes process and cites the work that this file follows, with another year and venue (AUDIT A23,
    A86). That work predicts links and finds no anomalies; events, thresholds and score are ours.
    """

    share: float = 0.25
    quantile: float = 0.95
    hidden: int = 32
    window: int = 40
    needs_graph: ClassVar[bool] = True
    _fitted_on: np.ndarray | None = field(default=None, init=False, repr=False)

    def fit(
        self, panel: Panel, train_mask: np.ndarray, val_mask: np.ndarray | None = None, label: str = ""
    ) -> GraphHawkes:
        self._fitted_on = train_mask  # whose stock-days fix the thresholds
        return super().fit(panel, train_mask, val_mask, label)

    def network(self, panel: Panel) -> DeepNetwork:
        names = panel.group or ["all"] * len(panel.features)
        kinds = list(dict.fromkeys(names))
        category = torch.tensor([kinds.index(name) for name in names])
        net = GraphHawkesNetwork(
            category, torch.zeros(len(kinds)), self.hidden, self.window, rate=float(-np.log(self.quantile))
        )
        sizes = net.sizes(torch.as_tensor(panel.x[panel.active & self._fitted_on[:, None]])).numpy()
        net.threshold.copy_(torch.as_tensor(np.quantile(sizes, self.quantile, axis=0)))
        return net
