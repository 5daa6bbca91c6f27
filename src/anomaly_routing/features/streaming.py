"""The 29 features one session at a time: the same functions, on just enough of the past.

Every feature but three is a function of the last 22 rows of prices, so the batch code runs on those 22 rows and its
last row is taken: nothing is written twice and nothing can drift. The three others carry state: `rsi` and `macd` are
recursions from a stock's first row, and `turnover` needs the volumes of 250 sessions. A state is never changed in
place, so that a session that fails halfway leaves the old one whole.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from anomaly_routing.features.catalogue import feature_names, features
from anomaly_routing.features.inputs import Inputs
from anomaly_routing.features.liquidity import MIN_VOLUME_HISTORY, VOLUME_HISTORY
from anomaly_routing.features.momentum import RSI_PERIOD
from anomaly_routing.features.panel import MIN_VALID_FEATURES, Scaler
from anomaly_routing.features.rolling import MIN_VALID, WINDOW
from anomaly_routing.features.stress import stress_indicators

ROWS = WINDOW + 2  # a lagged return in a window of 20 needs the price 21 sessions back
BARS = ("open", "high", "low", "close")
CARRIED = ("rsi", "macd", "turnover")  # the features that need more than ROWS rows


class Bar(NamedTuple):
    """One session of N stocks, float64 [N], NaN where a stock has no row. Prices on the total-return basis."""

    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    dollar_volume: np.ndarray


class Row(NamedTuple):
    """What a session adds: raw features [N, 29] float32, active [N], log return and log volume [N], stress [4]."""

    raw: np.ndarray
    x: np.ndarray  # scaled, [N, 29] float32
    active: np.ndarray
    returns: np.ndarray
    log_volume: np.ndarray
    stress: np.ndarray


@dataclass(frozen=True)
class FeatureState:
    """Everything of the past that the next session's features depend on. Rows are sessions, the latest last."""

    bars: np.ndarray  # [6, ROWS, N], the fields of `Bar`; NaN before the first session
    before: np.ndarray  # [N], last traded close before those rows
    volumes: np.ndarray  # [250, N], NaN without trade
    valid: np.ndarray  # bool [20, N], traded with at least 24 of 29 features
    active: np.ndarray  # bool [20, N]
    up: np.ndarray  # [N], Wilder's averages of gains and losses, and the number of changes seen
    down: np.ndarray
    seen: np.ndarray
    fast: np.ndarray  # [N], EMA12, EMA26 and their EMA9
    slow: np.ndarray
    signal: np.ndarray

    @classmethod
    def empty(cls, n: int) -> FeatureState:
        """Before the first session of N stocks."""
        nothing, never = np.full(n, np.nan), np.zeros((WINDOW, n), bool)
        bars, volumes = np.full((len(Bar._fields), ROWS, n), np.nan), np.full((VOLUME_HISTORY, n), np.nan)
        zero = np.zeros(n)
        return cls(bars, nothing, volumes, never, never, zero, zero, np.zeros(n, int), nothing, nothing, nothing)

    @classmethod
    def after(cls, inputs: Inputs, raw: np.ndarray, active: np.ndarray) -> FeatureState:
        """The state after all sessions of `inputs`, whose features raw [S, N, 29] and active [S, N] are known."""
        state = cls.empty(len(inputs.tickers))
        table = np.stack([getattr(inputs, name) for name in Bar._fields])
        for t in range(len(inputs.sessions)):
            state = state._recursions(Bar(*table[:, t]))._with_bar(table[:, t])
        valid = inputs.traded & (np.isfinite(raw).sum(2) >= MIN_VALID_FEATURES)
        return replace(state, valid=_last(valid, WINDOW), active=_last(active, WINDOW))

    def rebased(self, price: np.ndarray, shares: np.ndarray) -> FeatureState:
        """The same past after a dividend or split: prices times `price` [N], volumes times `shares` [N].

        Dollar volume does not move: close and volume change by inverse factors.
        """
        scale = np.stack([*(price,) * len(BARS), shares, np.ones_like(price)])
        prices = {name: getattr(self, name) * price for name in ("before", "up", "down", "fast", "slow", "signal")}
        return replace(self, bars=self.bars * scale[:, None], volumes=self.volumes * shares, **prices)

    def arrays(self) -> dict[str, np.ndarray]:
        """All fields by name, as they are saved."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _with_bar(self, bar: np.ndarray) -> FeatureState:
        """The windows of prices and volumes one session on; bar [6, N]."""
        leaving = self.bars[:, 0]
        traded, now = leaving[Bar._fields.index("volume")] > 0, bar[Bar._fields.index("volume")]
        return replace(
            self,
            bars=np.concatenate([self.bars[:, 1:], bar[:, None]], axis=1),
            before=np.where(traded, leaving[Bar._fields.index("close")], self.before),
            volumes=np.concatenate([self.volumes[1:], np.where(now > 0, now, np.nan)[None]]),
        )

    def _recursions(self, bar: Bar) -> FeatureState:
        """RSI and MACD one session on, as in `momentum`."""
        price, traded = bar.close, bar.volume > 0
        move = np.where(traded, price - self.carried, np.nan)
        new = np.isfinite(move)
        seen = self.seen + new
        keep = np.where(seen <= RSI_PERIOD, (seen - 1) / np.maximum(seen, 1), (RSI_PERIOD - 1) / RSI_PERIOD)
        up = np.where(new, keep * self.up + (1 - keep) * np.maximum(move, 0.0), self.up)
        down = np.where(new, keep * self.down + (1 - keep) * np.maximum(-move, 0.0), self.down)
        first = traded & np.isnan(self.fast)
        fast = np.where(first, price, np.where(traded, self.fast + 2 / 13 * (price - self.fast), self.fast))
        slow = np.where(first, price, np.where(traded, self.slow + 2 / 27 * (price - self.slow), self.slow))
        line = fast - slow
        signal = np.where(first, line, np.where(traded, self.signal + 2 / 10 * (line - self.signal), self.signal))
        return replace(self, up=up, down=down, seen=seen, fast=fast, slow=slow, signal=signal)

    @property
    def carried(self) -> np.ndarray:
        """[N], the last traded close so far; NaN before a stock's first."""
        close, volume = (self.bars[Bar._fields.index(name)] for name in ("close", "volume"))
        table = np.vstack([self.before, np.where(volume > 0, close, np.nan)])
        return pd.DataFrame(table).ffill().to_numpy()[-1]


class _Window(Inputs):
    """`Inputs` of the last ROWS sessions; what was before them is carried in."""

    def __init__(self, bars: np.ndarray, before: np.ndarray, sector: np.ndarray, shares: np.ndarray | None) -> None:
        self.tickers, self.sector, self.shares = np.arange(len(sector)), sector, shares
        self.sessions = np.arange(bars.shape[1])
        for name, values in zip(Bar._fields, bars, strict=True):
            setattr(self, name, values)
        self.traded = self.volume > 0
        filled = pd.DataFrame(np.vstack([before, np.where(self.traded, self.close, np.nan)])).ffill()
        self.carried_close = filled.to_numpy()[1:]


@dataclass(frozen=True)
class FeatureStream:
    """What stays as it is while sessions go by: the stocks' sectors, their shares outstanding if known, the scaling."""

    sector: np.ndarray
    shares: np.ndarray | None
    scaler: Scaler

    def advance(self, state: FeatureState, bar: Bar) -> tuple[FeatureState, Row]:
        """One session: the next state and the session's row. `state` itself is left as it was."""
        names = feature_names()
        volumes, last = state.volumes, state  # the volumes of t-250..t-1
        state = state._recursions(bar)._with_bar(np.stack(bar))
        w = _Window(state.bars, state.before, self.sector, self.shares)
        traded = w.traded[-1]
        raw = np.empty((len(traded), len(names)), np.float32)
        for k, column in enumerate(features()):
            if column.name not in CARRIED:
                raw[:, k] = np.where(traded, column.compute(w)[-1], np.nan)
        for name, values in self._carried(state, volumes, bar).items():
            raw[:, names.index(name)] = np.where(traded, values, np.nan)
        valid = _push(last.valid, traded & (np.isfinite(raw).sum(1) >= MIN_VALID_FEATURES))
        active = _push(last.active, traded & (valid.sum(0) >= MIN_VALID))
        x = self._scaled(raw, active[-1])
        column = {name: np.where(np.arange(WINDOW)[:, None] == WINDOW - 1, x[:, names.index(name)], 0.0)
                  for name in ("spread", "amihud")}  # fmt: skip
        ext_z = np.where(np.arange(WINDOW)[:, None] == WINDOW - 1, raw[:, names.index("ext_z")], np.nan)
        stress = stress_indicators(w.r[-WINDOW:], active, ext_z, column["spread"], column["amihud"])[-1]
        log_volume = np.log(np.where(traded, bar.volume, np.nan))
        row = Row(raw, x, active[-1], w.r[-1], log_volume, stress)
        return replace(state, valid=valid, active=active), row

    def _carried(self, state: FeatureState, volumes: np.ndarray, bar: Bar) -> dict[str, np.ndarray]:
        """RSI, MACD and turnover of this session, [N]."""
        both = state.up + state.down
        rsi = np.where(both > 0, (state.up - state.down) / np.where(both > 0, both, 1.0), 0.0)
        volume = np.where(bar.volume > 0, bar.volume, np.nan)
        if self.shares is not None:
            turnover = np.log(volume / self.shares)
        else:
            known = np.isfinite(volumes).sum(0) >= MIN_VOLUME_HISTORY
            usual = np.full(len(volume), np.nan)
            usual[known] = np.nanmedian(volumes[:, known], axis=0)
            turnover = np.log(volume / usual)
        return {"rsi": np.where(state.seen >= RSI_PERIOD, rsi, np.nan), "macd": state.signal / bar.close,
                "turnover": turnover}  # fmt: skip

    def _scaled(self, raw: np.ndarray, active: np.ndarray) -> np.ndarray:
        """As `Scaler.transform`, for one session."""
        one = xr.DataArray(raw[None], dims=("session", "ticker", "feature"),
                           coords={"active": (("session", "ticker"), active[None])})  # fmt: skip
        return self.scaler.transform(one)[0]


def _push(window: np.ndarray, row: np.ndarray) -> np.ndarray:
    """The window without its oldest row, with `row` as the latest."""
    return np.concatenate([window[1:], row[None]])


def _last(rows: np.ndarray, n: int) -> np.ndarray:
    """The last n rows of a bool array, False before the first."""
    return np.concatenate([np.zeros((n, *rows.shape[1:]), bool), rows])[-n:]
