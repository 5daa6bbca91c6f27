"""`Monitor.update(session)`: what a session means by every method, and a state that can be put away and taken up."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.errors import MarketDataError
from anomaly_routing.features.streaming import Bar, FeatureState, FeatureStream
from anomaly_routing.files import replacing
from anomaly_routing.model.config import ModelConfig
from anomaly_routing.model.pressure_index import alert_cuts, alert_levels, components, pressure_index, theta
from anomaly_routing.model.scoring import score_statistics, scores
from anomaly_routing.realtime.methods import Method, Reading, State
from anomaly_routing.realtime.sessions import Gate, Session
from anomaly_routing.train_baseline import generic_pressure

ALARM_LEVEL = 3  # from the 95th percentile of the validation sessions on
ALARM_QUANTILE = 0.95
CLOSE, VOLUME = (Bar._fields.index(name) for name in ("close", "volume"))
SAME = 1e-4  # relative: prices in a file are rounded, so a rescaled one is not exactly the old one rescaled


@dataclass(frozen=True)
class Calibration:
    """What turns a raw score into s, MPI and level; fixed on training and validation sessions, then frozen."""

    mu: float
    sigma: float
    theta: float
    cuts: np.ndarray  # [4], of the MPI
    daily: float  # 95th percentile of the validation sessions' mean s

    @classmethod
    def fit(cls, raw: np.ndarray, active: np.ndarray, train: np.ndarray, val: np.ndarray) -> Calibration:
        """From raw scores [S, N] of a method without routing; train and val bool [S]."""
        known = active & np.isfinite(raw)
        mu, sigma = score_statistics(raw, known, train)
        s = scores(raw, known, mu, sigma)
        cut = theta(s, known, val)
        daily = np.array([row[np.isfinite(row)].mean() for row in s[val & known.any(1)]])
        return cls(mu, sigma, cut, alert_cuts(generic_pressure(s, known, cut), val), np.quantile(daily, ALARM_QUANTILE))


@dataclass(frozen=True)
class Verdict:
    """What one method says of a session: s [N] in [0, 1], its mean, MPI with components, level 0-4, routing [N, 4]."""

    score: np.ndarray
    raw: np.ndarray
    mean: float
    mpi: float
    components: np.ndarray
    level: int
    alarm: bool
    routing: np.ndarray | None
    psi: float | None


@dataclass(frozen=True)
class Report:
    """A session that was taken in: a verdict by each method, and flags worth a look."""

    date: pd.Timestamp
    active: np.ndarray
    verdicts: dict[str, Verdict]
    flags: list[str]


@dataclass(frozen=True)
class MonitorState:
    """All that moves. close, adjusted : [N], each stock's last prices; `taken` counts the sessions since the start."""

    last: pd.Timestamp
    close: np.ndarray
    adjusted: np.ndarray
    features: FeatureState
    methods: dict[str, State]
    taken: int = 0


@dataclass
class Monitor:
    """Frozen parts and a state. A refused session, or one that fails halfway, leaves the state as it was.

    config : of the full model, for the components of its MPI. model : name of the weights, kept with a saved state.
    """

    gate: Gate
    stream: FeatureStream
    methods: dict[str, Method]
    calibrations: dict[str, Calibration]
    state: MonitorState
    config: ModelConfig = field(default_factory=ModelConfig)
    model: str = ""

    def update(self, session: Session) -> Report:
        """Take in the next session. Raises SessionRefused."""
        old = self.state
        present = np.isfinite(old.features.bars[CLOSE, -1])
        admitted = self.gate.admit(session, old.last, old.close, old.adjusted, present)
        features, row = self.stream.advance(old.features, admitted.bar)
        states, verdicts = {}, {}
        for name, method in self.methods.items():
            states[name], reading = method.advance(old.methods[name], row)
            verdicts[name] = self._verdict(name, reading, row.active)
        there = np.isfinite(admitted.close)
        close, adjusted = np.where(there, admitted.close, old.close), np.where(there, admitted.bar.close, old.adjusted)
        self.state = MonitorState(session.date, close, adjusted, features, states, old.taken + 1)
        return Report(session.date, row.active, verdicts, admitted.flags)

    def _verdict(self, name: str, reading: Reading, active: np.ndarray) -> Verdict:
        own, active = self.calibrations[name], (active & np.isfinite(reading.raw))[None]
        s = scores(reading.raw[None], active, own.mu, own.sigma)
        if reading.routing is None:
            parts = np.full((1, 5), np.nan)
            mpi = generic_pressure(s, active, own.theta)
        else:
            psi = np.array([reading.psi])
            parts = components(s, active, reading.routing[None], psi, own.theta, self.config)
            mpi = pressure_index(parts)
        mean = float(s[active].mean()) if active.any() else np.nan
        level = int(alert_levels(mpi, own.cuts)[0])
        alarm = level >= ALARM_LEVEL or bool(mean > own.daily)
        return Verdict(s[0], reading.raw, mean, float(mpi[0]), parts[0], level, alarm, reading.routing, reading.psi)

    def rebase(self, rows: pd.DataFrame) -> list[str]:
        """Follow a dividend or split that has rescaled the past in the source; returns what was rescaled.

        rows : each stock's latest row up to the last session taken in, as the source has it now (ticker, close,
            adj_close, volume of that row). A split moves close and volume by inverse factors, a dividend adj_close.

        Raises MarketDataError when a close has changed and the volume has not followed: a revised history.
        """
        place = pd.Index(self.gate.tickers).get_indexer(rows["ticker"].to_numpy(object))
        now = {name: np.full(len(self.gate.tickers), np.nan) for name in ("close", "adj_close", "volume")}
        for name, values in now.items():
            values[place] = rows[name].to_numpy(float)
        old, before = self.state, self._last_volume()
        split = now["close"] / old.close
        moved = np.isfinite(split) & (np.abs(split - 1) > SAME)
        followed = np.abs(now["volume"] * split / before - 1) < max(SAME, 1e-2)
        if (wrong := moved & (before > 0) & ~followed).any():
            name = self.gate.tickers[int(np.argmax(wrong))]
            rule = "its last close is not the one taken in, and the volume has not moved inversely as in a split"
            raise MarketDataError("prices", f"{old.last:%Y-%m-%d}, {name}", rule, "start anew from the whole file")
        split = np.where(moved, split, 1.0)
        factor = now["adj_close"] / old.adjusted
        factor = np.where(np.isfinite(factor) & (np.abs(factor - 1) > 1e-12), factor, 1.0)
        self.state = replace(
            old,
            close=old.close * split,
            adjusted=old.adjusted * factor,
            features=old.features.rebased(factor, 1 / split),
        )
        changed = np.flatnonzero((np.abs(factor - 1) > SAME) | moved)
        return [f"{self.gate.tickers[i]}: past prices times {factor[i]:.4g}" for i in changed]

    def _last_volume(self) -> np.ndarray:
        """[N], volume of each stock's latest row among those kept; NaN without one."""
        return pd.DataFrame(self.state.features.bars[VOLUME]).ffill().to_numpy()[-1]

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        state = self.state
        meta = {"tickers": self.gate.tickers, "methods": sorted(self.methods), "model": self.model,
                "last": f"{state.last:%Y-%m-%d}", "taken": state.taken}  # fmt: skip
        arrays = {"close": state.close, "adjusted": state.adjusted}
        arrays |= {f"features.{name}": values for name, values in state.features.arrays().items()}
        arrays |= {f"{m}.{name}": values for m, own in state.methods.items() for name, values in own.items()}
        with replacing(path) as partial:
            np.savez(partial, meta=np.array(json.dumps(meta, sort_keys=True)), **arrays)

    def restore(self, path: Path) -> None:
        """Take up a saved state; MarketDataError for a damaged file, or one of other stocks, methods or weights."""
        anew = "delete it to start anew"
        try:
            with np.load(path) as stored:
                meta, arrays = json.loads(str(stored["meta"])), {k: stored[k] for k in stored.files if k != "meta"}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise MarketDataError(path, "-", f"no readable state ({error})", anew) from error
        mine: dict[str, Any] = {"tickers": self.gate.tickers, "methods": sorted(self.methods), "model": self.model}
        if different := [name for name, value in mine.items() if meta.get(name) != value]:
            raise MarketDataError(path, "-", f"the state is of other {', '.join(different)}", anew)
        parts: dict[str, State] = {name: {} for name in ("features", *self.methods)}
        for key, values in arrays.items():
            owner, _, name = key.partition(".")
            if name:
                parts[owner][name] = values
        features = FeatureState(**parts.pop("features"))
        last = pd.Timestamp(meta["last"])
        self.state = MonitorState(last, arrays["close"], arrays["adjusted"], features, parts, meta["taken"])
