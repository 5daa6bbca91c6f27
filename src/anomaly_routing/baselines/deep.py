"""What the neural detectors share: consecutive batches, one training with two stop rules, scoring in time order.

Same features, samples, batches, optimiser and stop rules as the full model (SPEC 8 and 13). A detector brings its
network, which says what it minimises and what it calls anomalous; everything else is here.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from anomaly_routing.baselines.universe import check_universe
from anomaly_routing.model.errors import TrainingError
from anomaly_routing.model.training import TrainingConfig, choose_device, chunks
from anomaly_routing.panel import Panel

DEEP_MODULES = ("temporal", "static_graph", "dynamic_graph", "density", "metric_learning", "streaming.memstream")


class Batch(NamedTuple):
    """B consecutive sessions of N stocks. Sample b ends in row b + T - 1 of the arrays with B + T - 1 rows.

    Rows before the panel's first session are 0, and nobody is present in them.
    """

    x: Tensor  # [B+T-1, N, F], 0 where undefined or inactive
    present: Tensor  # bool [B+T-1, N], active on that session
    returns: Tensor  # [B+T-1, N], log returns, 0 where the stock did not trade
    log_volume: Tensor  # [B+T-1, N], 0 where the stock did not trade
    prior: Tensor  # [N, N] of 0 and 1, zero diagonal
    active: Tensor  # bool [B, N], on the last session of each sample: only these are fitted and scored
    picked: Tensor  # bool [B, N], the part of `active` that this step fits

    @property
    def now(self) -> Tensor:
        """[B, N, F], each sample's last session."""
        return self.x[-len(self.active) :]

    def windows(self, rows: Tensor) -> Tensor:
        """[M, T, F], the windows of the stock-days marked in `rows` [B, N]."""
        length = len(self.x) - len(self.active) + 1
        session, stock = rows.nonzero(as_tuple=True)
        steps = session[:, None] + torch.arange(length, device=self.x.device)
        return self.x[steps, stock[:, None]]

    def placed(self, values: Tensor) -> Tensor:
        """One value for each active stock-day [M], in the order of `windows` -> [B, N], 0 elsewhere."""
        return torch.zeros(self.active.shape, device=values.device).masked_scatter(self.active, values)


class DeepNetwork(nn.Module, ABC):
    """What a detector's network offers beside its layers."""

    window: int = 1  # sessions that a sample reads, its own included

    @abstractmethod
    def score(self, batch: Batch) -> Tensor:
        """[B, N], higher is more anomalous; whatever stands where `active` is False is dropped."""

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """What a step minimises over the picked stock-days; default: the mean score. `epoch` counts from 0."""
        return masked_average(self.score(batch), batch.picked)

    def criterion(self, batch: Batch) -> Tensor:
        """[B, N], the loss that the stop rules watch; its mean over the active stock-days. Default: the score."""
        return self.score(batch)

    def step(self, batch: Batch, epoch: int) -> Tensor:
        """Leave the gradients of this batch in the parameters; returns the loss for the log."""
        loss = self.objective(batch, epoch)
        loss.backward()
        return loss.detach()


class Series:
    """A panel on a device, cut into batches of consecutive sessions."""

    def __init__(self, panel: Panel, window: int, device: torch.device) -> None:
        prior = np.zeros((len(panel.tickers),) * 2) if panel.prior is None else panel.prior
        x = np.where(panel.active[..., None], panel.x, 0)  # whatever a caller left where nobody trades
        arrays = {"x": x, "returns": np.nan_to_num(panel.returns), "log_volume": np.nan_to_num(panel.log_volume)}
        self.rows = {
            name: torch.as_tensor(_lead(values.astype(np.float32), window - 1), device=device)
            for name, values in arrays.items()
        }
        self.active = torch.as_tensor(panel.active, device=device)
        self.present = torch.as_tensor(_lead(panel.active, window - 1), device=device)
        self.prior = torch.as_tensor(prior, dtype=torch.float32, device=device)
        self.window = window

    def batch(self, first: int, last: int, share: float = 1.0, generator: torch.Generator | None = None) -> Batch:
        """The samples that end in the sessions first .. last-1; `share` of their stock-days is picked, at random."""
        reach = slice(first, last + self.window - 1)
        rows = {name: values[reach] for name, values in self.rows.items()}
        active = self.active[first:last]
        drawn = torch.rand(active.shape, generator=generator).to(active.device) < share if share < 1 else True
        return Batch(**rows, present=self.present[reach], prior=self.prior, active=active, picked=active & drawn)


@dataclass
class DeepDetector(ABC):
    """A detector with a network; see `registry`. Subclasses are dataclasses that add their own parameters.

    epochs : cap; the stop rules usually end earlier. share : of the stock-days of a batch that a step fits. device :
    auto, cpu or cuda.

    A detector may score any universe, whatever stocks it was fitted on, unless it keeps something of each stock
    (`per_stock`): it then refuses a panel of other stocks, or of the same ones in another order. One that reads the
    prior graph (`needs_graph`, in the registry "graph") refuses a panel without one.
    """

    seed: int = 0
    epochs: int = 100
    share: float = 1.0
    device: str = "auto"
    history: list[dict[str, float]] = field(default_factory=list, init=False, repr=False)
    weights: dict[str, dict[str, Tensor]] = field(default_factory=dict, init=False, repr=False)
    best: dict[str, dict[str, float]] = field(default_factory=dict, init=False, repr=False)
    per_stock: ClassVar[bool] = False
    needs_graph: ClassVar[bool] = False

    @abstractmethod
    def network(self, panel: Panel) -> DeepNetwork:
        """A new network for this panel; the generator of torch is seeded."""

    def fit(
        self, panel: Panel, train_mask: np.ndarray, val_mask: np.ndarray | None = None, label: str = ""
    ) -> DeepDetector:
        """Train on the marked sessions; their last tenth decides when to stop (rule `tail`).

        val_mask : sessions of the second stop rule, `val`; without it there is only the first.
        label : of the progress bar; without it there is none.

        Raises ValueError for a panel that cannot be fitted, TrainingError when memory ran out or a loss is no number.
        """
        self._prepare(panel)
        samples = {"train": consecutive(train_mask)}
        if val_mask is not None:
            samples["val"] = consecutive(val_mask)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.net = self.network(panel).to(self._device)
            check_length(len(samples["train"]), self.net.window, "training sessions")
            self._train(Series(panel, self.net.window, self._device), samples, label)
        return self.use("tail")

    def use(self, rule: str) -> DeepDetector:
        """Score with the weights that a stop rule chose: `tail`, or `val` where validation sessions were given."""
        if rule not in self.weights:
            raise ValueError(
                f"no weights by the rule {rule!r}; there are: {', '.join(self.weights) or 'none, fit first'}"
            )
        self.net.load_state_dict(self.weights[rule])
        return self

    @torch.no_grad()
    def decision_function(self, panel: Panel) -> np.ndarray:
        """float32 [S, N], NaN where inactive and nowhere else. Raises ValueError for a panel that cannot be scored:
        see `check_panel`; other features than it was fitted on; fewer sessions than its window; see `DeepDetector`.
        """
        self._check_scored(panel)
        series = Series(panel, self.net.window, self._device)
        batches = self._in_order(series, np.arange(len(panel.active)))
        parts = [self.net.score(batch).cpu().numpy() for batch in batches]
        return checked(panel, np.concatenate(parts), type(self).__name__)

    def _prepare(self, panel: Panel) -> None:
        """Refuse what cannot be fitted; note what scoring must find again, and the device."""
        check_panel(panel, self.needs_graph)
        self._device = choose_device(self.device)
        self._features, self._tickers = list(panel.features), list(panel.tickers)

    def _check_scored(self, panel: Panel) -> None:
        """Refuse what the fitted detector cannot score."""
        if not self.weights:
            raise ValueError(
                f"{type(self).__name__} has not been fitted: call fit with a panel and its training sessions"
            )
        new, fitted = list(panel.features), self._features
        if len(new) != len(fitted):
            raise ValueError(
                f"the panel has {len(new)} features, the detector was fitted on {len(fitted)}: give the same"
            )
        if new != fitted:
            a, b = next((a, b) for a, b in zip(new, fitted, strict=True) if a != b)
            raise ValueError(f"the panel has feature {a} where {b} was fitted: give the same features in their order")
        check_length(len(panel.sessions), self.net.window, "sessions")
        if self.per_stock:
            check_universe(self._tickers, panel)
        check_panel(panel, self.needs_graph)

    def _train(self, series: Series, samples: dict[str, np.ndarray], label: str) -> None:
        """The loop of SPEC 8; see `model.training.fit`, whose rules these are."""
        config = TrainingConfig()
        n_tail = round(config.tail_share * len(samples["train"]))
        watched = {"tail": samples["train"][-n_tail:]} | {k: v for k, v in samples.items() if k == "val"}
        head = samples["train"][:-n_tail] if n_tail else samples["train"][:0]
        if not len(head):
            raise ValueError(f"{len(samples['train'])} training sessions leave none to fit on or to stop on")
        optimiser = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate)
        self.history, self.best = [], {}
        self.weights = {rule: self._snapshot() for rule in watched}
        picks = torch.Generator().manual_seed(self.seed)
        for epoch in tqdm(range(self.epochs), desc=label, unit="epoch", disable=not label):
            started = time.perf_counter()
            self.net.train()
            losses = []
            for first, last in chunks(head, config.batch_sessions, self.seed, epoch):
                batch = series.batch(first, last, self.share, picks)
                if not batch.picked.any():
                    continue
                optimiser.zero_grad(set_to_none=True)
                losses.append(self.net.step(batch, epoch))
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), config.clip)
                optimiser.step()
            line = {"epoch": epoch, "loss": float(torch.stack(losses).mean())}
            line |= {rule: self._criterion(series, rows) for rule, rows in watched.items()}
            self.history.append(line | {"seconds": time.perf_counter() - started})
            if bad := [name for name, value in line.items() if not np.isfinite(value)]:
                raise TrainingError(f"epoch {epoch}: {', '.join(bad)} is not a number: look for extreme features")
            for rule in watched:
                best = self.best.get(rule, {"loss": np.inf, "epoch": epoch})
                if epoch - best["epoch"] <= config.patience and line[rule] < best["loss"] - config.min_delta:
                    self.best[rule] = {"loss": line[rule], "epoch": epoch}
                    self.weights[rule] = self._snapshot()
            if all(epoch - self.best.get(rule, {"epoch": 0})["epoch"] >= config.patience for rule in watched):
                break

    @torch.no_grad()
    def _criterion(self, series: Series, rows: np.ndarray) -> float:
        total = count = 0.0
        for batch in self._in_order(series, rows):
            loss = torch.where(batch.active, self.net.criterion(batch), 0.0)
            total, count = total + loss.double().sum(), count + batch.active.sum()
        return float(total / count)

    def _in_order(self, series: Series, rows: np.ndarray) -> Iterator[Batch]:
        """Consecutive batches in time order, with nothing left to chance."""
        self.net.eval()
        size = TrainingConfig().batch_sessions
        for s in range(0, len(rows), size):
            yield series.batch(int(rows[s]), int(rows[min(s + size, len(rows)) - 1]) + 1)

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.net.state_dict().items()}


def check_panel(panel: Panel, needs_graph: bool = False) -> None:
    """Raise ValueError, with the place and the reason, for a panel that a neural detector cannot take.

    x must be finite; returns and log volumes may be NaN (no trade), not infinite; every stock is active at some time;
    a prior graph is of 0 and 1, and with `needs_graph` there is one.
    """
    if not np.isfinite(panel.x).all():
        t, i, f = np.argwhere(~np.isfinite(panel.x))[0]
        raise ValueError(
            f"x is {panel.x[t, i, f]}, first in {panel.features[f]} of {panel.tickers[i]} on "
            f"{panel.sessions[t]:%Y-%m-%d}: scale the features and fill what is undefined with 0"
        )
    for name in ("returns", "log_volume"):
        if (bad := np.isinf(getattr(panel, name))).any():
            t, i = np.argwhere(bad)[0]
            raise ValueError(
                f"{name} is {getattr(panel, name)[t, i]}, first of {panel.tickers[i]} on {panel.sessions[t]:%Y-%m-%d}: "
                "give NaN where the stock did not trade"
            )
    if needs_graph and panel.prior is None:
        raise ValueError("the panel has no prior graph: build it with features.panel.build_panel, prior given")
    if panel.prior is not None and (odd := ~np.isin(panel.prior, (0, 1))).any():
        i, j = np.argwhere(odd)[0]
        raise ValueError(
            f"prior is {panel.prior[i, j]} between {panel.tickers[i]} and {panel.tickers[j]}: an edge is 1, no edge 0"
        )
    if (absent := ~panel.active.any(axis=0)).any():
        names = ", ".join(np.array(panel.tickers)[absent][:5])
        raise ValueError(f"{names} is never active in this panel: leave it out of the universe")


def check_length(sessions: int, window: int, what: str) -> None:
    """Raise ValueError for fewer sessions than a window: what is missing would be read as zeros."""
    if sessions < window:
        raise ValueError(
            f"{sessions} {what} are fewer than the window of {window}: give a longer history, the sessions before too"
        )


def checked(panel: Panel, score: np.ndarray, name: str) -> np.ndarray:
    """The scores as they leave a detector; raises ValueError if an active stock has none."""
    if (bad := panel.active & ~np.isfinite(score)).any():
        t, i = np.argwhere(bad)[0]
        raise ValueError(f"{name} gives {score[t, i]} for {panel.tickers[i]} on {panel.sessions[t]:%Y-%m-%d}")
    return np.where(panel.active, score, np.nan).astype(np.float32)


def masked_average(values: Tensor, rows: Tensor) -> Tensor:
    """Mean of `values` over the marked entries; 0 if there are none."""
    return torch.where(rows, values, 0.0).sum() / rows.sum().clamp(min=1)


def normalised_adjacency(graph: Tensor, active: Tensor) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 among the active stocks of each session, 0 elsewhere; graph [N, N] or [B, N, N]."""
    among = active[:, :, None] & active[:, None, :]
    loops = torch.diag_embed(active.to(graph.dtype))
    a = torch.where(among, graph, 0.0) + loops
    scale = a.sum(-1).clamp(min=1e-12).rsqrt() * active
    return scale[:, :, None] * a * scale[:, None, :]


def _lead(values: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([np.zeros((rows, *values.shape[1:]), values.dtype), values])


def consecutive(mask: np.ndarray) -> np.ndarray:
    """Positions of the marked sessions; raises ValueError for none and for gaps."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        raise ValueError(f"none of {len(mask)} sessions is marked: mark those to fit on and, if any, to stop on")
    if rows[-1] - rows[0] + 1 != len(rows):
        raise ValueError("the sessions to fit on must follow each other, without a gap")
    return rows


def summary(detector: DeepDetector) -> dict[str, Any]:
    """For the run store: epochs done, what stopped them, the best epoch by each rule, the log, trainable numbers."""
    waited = len(detector.history) - 1 - max((b["epoch"] for b in detector.best.values()), default=-1)
    return {
        "epochs": len(detector.history),
        "stopped": "patience" if waited >= TrainingConfig().patience else "cap",
        "best": detector.best,
        "history": detector.history,
        "parameters": sum(p.numel() for p in detector.net.parameters() if p.requires_grad),
    }
