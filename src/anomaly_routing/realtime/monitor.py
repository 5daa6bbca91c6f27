"""`Monitor.update(session)`: what a session means by every method, and a state that can be put away and taken up."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.data.quality import ADJUSTMENT_JUMP
from anomaly_routing.errors import MarketDataError
from anomaly_routing.features.streaming import BARS, ROWS, Bar, FeatureState, FeatureStream
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
SAME_VOLUME = 1e-2  # vendors revise the volume of a day in the night after it
MOST_SHARES = 100  # for one, or one for so many: the largest ratio that is taken for a split
MOST_PAID = 1 - np.exp(-ADJUSTMENT_JUMP)  # of a price: the largest dividend
ANEW = "start anew from the whole file"


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
        admitted = self.gate.admit(session, old.last, old.close, old.adjusted, self._usual_volume(), present)
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

    @cached_property
    def fitted(self) -> str:
        """SHA-256 of all that was fitted and then frozen: scaling, trees, weights, thresholds."""
        scaler = self.stream.scaler
        parts = {"features": {"center": scaler.center, "scale": scaler.scale}}
        parts |= {name: method.fitted() for name, method in self.methods.items()}
        parts |= {f"{name}, thresholds": vars(own) for name, own in self.calibrations.items()}
        digest = hashlib.sha256()
        for owner, own in sorted(parts.items()):
            for name, value in sorted(own.items()):
                values = np.ascontiguousarray(value)
                digest.update(f"{owner} {name} {values.dtype} {values.shape} ".encode() + values.tobytes())
        return digest.hexdigest()

    def rebase(self, seen: pd.DataFrame) -> list[str]:
        """Follow a dividend or split that has rescaled the past in the source; returns what was rescaled, and volumes
        that were revised.

        seen : the source's rows up to the last session taken in, as they stand there now (DESIGN 3), each stock's in
            the order of their dates. A split moves close and volume by inverse factors, a dividend adj_close, and all
            of the past alike.

        Raises MarketDataError for any other change of the 22 sessions that the state holds, with day and stock: a price
        corrected, a row that came late or is gone, a factor that no dividend or split has. Older corrections cannot be
        seen here.
        """
        latest = seen.groupby("ticker", as_index=False).last()
        place = pd.Index(self.gate.tickers).get_indexer(latest["ticker"].to_numpy(object))
        now = {name: np.full(len(self.gate.tickers), np.nan) for name in ("close", "adj_close", "volume")}
        for name, values in now.items():
            values[place] = latest[name].to_numpy(float)
        old, before = self.state, self._last_volume()
        split = now["close"] / old.close
        moved = np.isfinite(split) & (np.abs(split - 1) > SAME)
        followed = np.abs(now["volume"] * split / before - 1) < SAME_VOLUME
        self._refuse(
            moved & (before > 0) & ~followed,
            "its last close is not the one taken in, and the volume has not moved inversely as in a split",
        )
        self._refuse(moved & (np.abs(np.log(split)) > np.log(MOST_SHARES)), f"no split is {MOST_SHARES} for one")
        split = np.where(moved, split, 1.0)
        factor = now["adj_close"] / old.adjusted
        factor = np.where(np.isfinite(factor) & (np.abs(factor - 1) > 1e-12), factor, 1.0)
        paid = 1 - factor / split
        rule = f"adj_close has moved by {{:.4g}} against close: a dividend takes 0 to {MOST_PAID:.0%} off the past"
        self._refuse((paid < -SAME) | (paid > MOST_PAID), rule, 1 - paid)
        rescaled = old.features.rebased(factor, 1 / split)
        revised = self._corrections(rescaled.bars, seen)
        with_shares = {
            m: own | ({"shares": own["shares"] - np.log(split)} if "shares" in own else {})
            for m, own in old.methods.items()
        }
        self.state = replace(
            old, close=old.close * split, adjusted=old.adjusted * factor, features=rescaled, methods=with_shares
        )
        changed = np.flatnonzero((np.abs(factor - 1) > SAME) | moved)
        return [f"{self.gate.tickers[i]}: past prices times {factor[i]:.4g}" for i in changed] + revised

    def _refuse(self, wrong: np.ndarray, rule: str, values: np.ndarray | None = None) -> None:
        """MarketDataError for the first stock that is marked, bool [N]; its value goes into the rule."""
        if wrong.any():
            i = int(np.argmax(wrong))
            said = rule if values is None else rule.format(values[i])
            raise MarketDataError("prices", f"{self.state.last:%Y-%m-%d}, {self.gate.tickers[i]}", said, ANEW)

    def _corrections(self, held: np.ndarray, seen: pd.DataFrame) -> list[str]:
        """The kept bars [6, ROWS, N] against the source's of today: revised volumes; MarketDataError for the rest."""
        days = np.unique(seen["date"].to_numpy())[-ROWS:]
        now = np.full(held.shape, np.nan)
        rows = seen[seen["date"] >= days[0]]
        at = np.searchsorted(days, rows["date"].to_numpy()) + ROWS - len(days)
        stock = pd.Index(self.gate.tickers).get_indexer(rows["ticker"].to_numpy(object))
        adjust = (rows["adj_close"] / rows["close"]).to_numpy(float)
        for k, name in enumerate(Bar._fields[: VOLUME + 1]):
            now[k, at, stock] = rows[name].to_numpy(float) * (adjust if name in BARS else 1.0)
        there = np.isfinite(held[CLOSE]), np.isfinite(now[CLOSE])
        apart = np.abs(now / np.where(held > 0, held, np.nan) - 1)
        broken = {
            "a row that was not there has come since": ~there[0] & there[1],
            "a row that was taken in is gone": there[0] & ~there[1],
        } | {f"the {name} is not the one taken in": apart[k] > SAME for k, name in enumerate(BARS)}
        days = np.r_[np.full(ROWS - len(days), np.datetime64("NaT", "ns")), days]
        for rule, wrong in broken.items():
            if wrong.any():
                t, i = np.argwhere(wrong)[0]
                where = f"{pd.Timestamp(days[t]):%Y-%m-%d}, {self.gate.tickers[i]}"
                raise MarketDataError("prices", where, f"{rule}: a late correction", ANEW)
        stopped = (held[VOLUME] > 0) != (now[VOLUME] > 0)
        late = there[0] & ((apart[VOLUME] > SAME_VOLUME) | stopped)
        said = "{}: the volume of {:%Y-%m-%d} was {:.0f} and is {:.0f} now; scored as it was"
        return [
            said.format(self.gate.tickers[i], pd.Timestamp(days[t]), held[VOLUME, t, i], now[VOLUME, t, i])
            for t, i in np.argwhere(late)
        ]

    def _last_volume(self) -> np.ndarray:
        """[N], volume of each stock's latest row among those kept; NaN without one."""
        return pd.DataFrame(self.state.features.bars[VOLUME]).ffill().to_numpy()[-1]

    def _usual_volume(self) -> np.ndarray:
        """[N], median volume of the sessions among those kept on which the stock traded; NaN without one."""
        kept = self.state.features.bars[VOLUME]
        return pd.DataFrame(np.where(kept > 0, kept, np.nan)).median().to_numpy()

    def _identity(self) -> dict[str, Any]:
        """What a saved state must belong to."""
        return {
            "tickers": self.gate.tickers,
            "methods": sorted(self.methods),
            "model": self.model,
            "fitted parts": self.fitted,
        }

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        state = self.state
        meta = self._identity() | {"last": f"{state.last:%Y-%m-%d}", "taken": state.taken}
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
        different = [name for name, value in self._identity().items() if meta.get(name) != value]
        if different:
            raise MarketDataError(path, "-", f"the state is of other {', '.join(different)}", anew)
        parts: dict[str, State] = {name: {} for name in ("features", *self.methods)}
        for key, values in arrays.items():
            owner, _, name = key.partition(".")
            if name:
                parts[owner][name] = values
        features = FeatureState(**parts.pop("features"))
        last = pd.Timestamp(meta["last"])
        self.state = MonitorState(last, arrays["close"], arrays["adjusted"], features, parts, meta["taken"])
