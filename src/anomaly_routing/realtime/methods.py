"""Four detectors that follow a stream: rolling z-score, Isolation Forest, MemStream, the full model.

Each is what its batch form is, on the part of the past that it needs: `advance(state, row)` gives the next state and
the session's scores, and leaves the old state alone. Fitted parts (trees, weights) never move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from anomaly_routing.baselines.classical.isolation_forest import IsolationForest
from anomaly_routing.baselines.inputs import ratio, rolling_moments
from anomaly_routing.baselines.streaming.memstream import Memory, MemStream
from anomaly_routing.baselines.streaming.rolling_z import RollingZ
from anomaly_routing.features.rolling import MIN_VALID, WINDOW
from anomaly_routing.features.streaming import Row
from anomaly_routing.model.network import Network
from anomaly_routing.panel import Panel
from anomaly_routing.tensors import normalised

State = dict[str, np.ndarray]


class Reading(NamedTuple):
    """raw [N], NaN where there is no score; routing [N, 4], psi and alpha of the full model, None for the others."""

    raw: np.ndarray
    routing: np.ndarray | None = None
    psi: float | None = None
    alpha: float | None = None


class Method(Protocol):
    """A detector with a state."""

    name: str

    def after(self, panel: Panel) -> State:
        """The state after all sessions of `panel`."""

    def advance(self, state: State, row: Row) -> tuple[State, Reading]: ...

    def fitted(self) -> State:
        """What its scores depend on and no session moves, as arrays by name."""


@dataclass(frozen=True)
class StreamingZScore:
    """`baselines.streaming.RollingZ` for all stocks at once: a window of each stock's own last observed returns."""

    batch: RollingZ
    name: str = "zscore"

    def fitted(self) -> State:
        return {"window": np.array(self.batch.window), "chapter": np.array(self.batch.mode == "chapter")}

    def after(self, panel: Panel) -> State:
        values = np.full((self.batch.window, len(panel.tickers)), np.nan)
        observed = np.where(panel.active, panel.returns, np.nan)
        for i, own in enumerate(observed.T):
            last = own[np.isfinite(own)][-self.batch.window :]
            values[len(values) - len(last) :, i] = last
        return {"values": values}

    def advance(self, state: State, row: Row) -> tuple[State, Reading]:
        value = np.where(row.active, row.returns, np.nan)
        stream, known = self.batch.stream(), np.isfinite(value)
        moved = np.where(known, np.concatenate([state["values"][1:], value[None]]), state["values"])
        window = moved if stream.include_current else state["values"]
        ddof = 0 if stream.include_current else 1
        mean, sd = rolling_moments(window, self.batch.window, stream.min_periods, ddof=ddof)
        raw = ratio(np.abs(value - mean[-1]), sd[-1])
        return {"values": moved}, Reading(raw.astype(np.float32))


@dataclass(frozen=True)
class StreamingForest:
    """A fitted `IsolationForest`; its state are the 20 returns behind the volatility, and ln of the factor by which
    splits have multiplied each stock's shares since the fit: its trees know volumes in the shares of then."""

    batch: IsolationForest
    name: str = "isolation_forest"

    def fitted(self) -> State:
        model, trees = self.batch.model_, [e.tree_ for e in self.batch.model_.estimators_]
        names = ("feature", "threshold", "children_left", "children_right", "n_node_samples")
        parts = {name: np.concatenate([getattr(tree, name) for tree in trees]) for name in names}
        scaling = {"centre": self.batch.scaling_.centre, "scale": self.batch.scaling_.scale}
        return parts | scaling | {"offset": np.array([model.offset_])}

    def after(self, panel: Panel) -> State:
        lead = np.full((WINDOW, len(panel.tickers)), np.nan)
        returns = np.concatenate([lead, panel.returns])[-WINDOW:]
        return {"returns": returns, "shares": np.zeros(len(panel.tickers))}

    def advance(self, state: State, row: Row) -> tuple[State, Reading]:
        returns = np.concatenate([state["returns"][1:], row.returns[None]])
        volatility = rolling_moments(returns, WINDOW, MIN_VALID)[1][-1]
        inputs = np.column_stack([row.returns, row.log_volume - state["shares"], volatility])
        scaled = ratio(inputs - self.batch.scaling_.centre, self.batch.scaling_.scale)
        known = row.active & np.isfinite(scaled).all(1)
        raw = np.full(len(known), np.nan)
        if known.any():
            raw[known] = -self.batch.model_.decision_function(scaled[known])
        return state | {"returns": returns}, Reading(raw.astype(np.float32))


@dataclass(frozen=True)
class StreamingMemory:
    """A fitted `MemStream`; its state is the memory, which moves with the market."""

    batch: MemStream
    name: str = "memstream"

    def fitted(self) -> State:
        sizes = np.array([self.batch.memory, self.batch.neighbours, self.batch.gamma])
        return {"sizes": sizes} | _weights(self.batch.net)

    def after(self, panel: Panel) -> State:
        _, rows, codes = self._through(panel.x, panel.active, *self._empty(len(panel.features)))
        return {"rows": rows, "codes": codes}

    def advance(self, state: State, row: Row) -> tuple[State, Reading]:
        scores, rows, codes = self._through(row.x[None], row.active[None], state["rows"], state["codes"])
        return {"rows": rows, "codes": codes}, Reading(np.where(row.active, scores[0], np.nan))

    def _empty(self, features: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((0, features), np.float32), np.zeros((0, self.batch.net.width), np.float32)

    @torch.no_grad()
    def _through(self, x: np.ndarray, active: np.ndarray, rows: np.ndarray, codes: np.ndarray) -> tuple:
        """Scores [S, N] of some sessions and the memory after them."""
        net, memory = self.batch.net.cpu().eval(), Memory(self.batch.memory, *map(torch.from_numpy, (rows, codes)))
        discount = self.batch.gamma ** torch.arange(self.batch.neighbours, dtype=torch.float32)
        scores = net.stream(torch.from_numpy(x), torch.from_numpy(active), memory, discount, net.beta)
        return scores.numpy(), memory.rows.numpy(), memory.codes.numpy()


@dataclass(frozen=True)
class StreamingModel:
    """The full model with frozen weights; its state are the scaled features of the last 20 sessions.

    prior : [N, N]. reference : raw stress indicators [R, 4] of the training samples, which fix their scale.
    """

    net: Network
    prior: np.ndarray
    reference: np.ndarray
    name: str = "model"

    def fitted(self) -> State:
        return {"prior": self.prior, "reference": self.reference} | _weights(self.net)

    def after(self, panel: Panel) -> State:
        window = self.net.config.window
        lead = np.zeros((window, *panel.x.shape[1:]), np.float32)
        return {"x": np.concatenate([lead, panel.x])[-window:]}

    @torch.no_grad()
    def advance(self, state: State, row: Row) -> tuple[State, Reading]:
        kind = next(self.net.parameters()).dtype
        x = np.concatenate([state["x"][1:], row.x[None]])
        rule = "rank" if self.net.config.psi_rule == "rank" else "minmax"
        stress = normalised(row.stress[None], self.reference, rule)
        inputs = (torch.as_tensor(values, dtype=kind) for values in (self.prior, stress))
        out = self.net.eval()(torch.as_tensor(x, dtype=kind), torch.from_numpy(row.active[None]), *inputs)
        raw = np.where(row.active, out.error[0].double().numpy(), np.nan)
        return {"x": x}, Reading(raw, out.routing[0].numpy(), float(out.psi[0]), float(out.alpha[0]))


def _weights(net: torch.nn.Module) -> State:
    """Every parameter and buffer of a network."""
    return {name: values.cpu().numpy() for name, values in net.state_dict().items()}
