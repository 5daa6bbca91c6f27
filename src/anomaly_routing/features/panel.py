"""From a price table to the tensor of the paper: 29 raw features, who is active, and the frozen scaling (SPEC 1-3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from anomaly_routing.features.catalogue import feature_names, features
from anomaly_routing.features.inputs import Inputs
from anomaly_routing.features.rolling import MIN_VALID, rolling_sum
from anomaly_routing.features.stress import stress_indicators
from anomaly_routing.panel import Panel

FEATURES_NUMERICS = 1  # raised by hand when the arithmetic of a feature, a stress indicator or the scaling changes
MIN_VALID_FEATURES = 24  # of 29: fewer and the row is not valid
CLIP = 8.0
BINARY_VALUE = 4.0  # a jump is a 4-sigma return
MIN_TRAINING_ROWS = 120  # fewer: statistics of the stock's sector
MAD_TO_SD = 1.4826


def compute_features(
    prices: pd.DataFrame, universe: pd.DataFrame, sessions: pd.DatetimeIndex | None = None
) -> xr.DataArray:
    """The 29 raw, unscaled features of every stock and session (SPEC 2); at t a pure function of the rows up to t.

    Parameters
    ----------
    prices : long table of the data contract, sorted by ticker and date.
    universe : its order of tickers is the order of the result; needs `ticker` and `sector`.
    sessions : the market's sessions; default: the dates in `prices`.

    Returns
    -------
    DataArray float32, dims (session, ticker, feature), NaN where a feature is undefined or the stock did not trade.
    Coordinate `active` [session, ticker]: the stock traded and at least 15 of the rows t-19..t are valid, a row being
    valid when the stock traded and at least 24 of its 29 features are defined (SPEC 1). Coordinate `group` [feature].
    """
    w = Inputs(prices, universe, sessions)
    columns = features()
    values = np.empty((*w.p.shape, len(columns)), np.float32)
    for k, column in enumerate(columns):
        values[:, :, k] = np.where(w.traded, column.compute(w), np.nan)
    valid = w.traded & (np.isfinite(values).sum(2) >= MIN_VALID_FEATURES)
    active = w.traded & (rolling_sum(valid.astype(float)) >= MIN_VALID)
    return xr.DataArray(
        values,
        dims=("session", "ticker", "feature"),
        coords={
            "session": w.sessions.to_numpy(),
            "ticker": w.tickers,
            "feature": feature_names(),
            "active": (("session", "ticker"), active),
            "group": ("feature", [f.group for f in columns]),
        },
        name="features",
    )


@dataclass(frozen=True)
class Scaler:
    """Robust location and scale per stock and feature, frozen on the training sessions. Arrays [ticker, feature].

    `rule` says where each pair came from: "mad", "sd" (MAD is 0), "constant" (SD is 0 too, x = 0), "sector" (fewer than
    120 training rows, so pooled over the sector) or "binary" (x = 4 raw).
    """

    center: np.ndarray
    scale: np.ndarray
    rule: np.ndarray

    def transform(self, features: xr.DataArray) -> np.ndarray:
        """x = clip((raw - center) / scale, -8, 8), float32 [session, ticker, feature]; undefined or inactive is 0."""
        return self.scale_values(features.to_numpy(), features["active"].to_numpy())

    def scale_values(self, raw: np.ndarray, active: np.ndarray) -> np.ndarray:
        """The same for plain arrays: raw [session, ticker, feature], active [session, ticker]."""
        x = np.clip((raw - self.center) / self.scale, -CLIP, CLIP)
        x = np.where(self.rule == "constant", 0.0, x)
        return np.where(np.isfinite(x) & active[..., None], x, 0.0).astype(np.float32)


def fit_scaler(features: xr.DataArray, train: np.ndarray, sector: np.ndarray) -> Scaler:
    """Fit the scaling on the active stock-days of the training sessions (SPEC 3).

    Parameters
    ----------
    features : raw features with their `active` coordinate.
    train : bool [session].
    sector : one label a stock, to pool the statistics of stocks with fewer than 120 training rows. A sector without
        any training row falls back on all stocks.
    """
    if not train.any():
        raise ValueError("no training session: the scaling cannot be fitted")
    active = features["active"].to_numpy() & train[:, None]
    raw = np.where(active[..., None], features.to_numpy(), np.nan).astype(float)
    binary = np.array([f.binary for f in _by_name(features)])
    n, k = raw.shape[1:]
    center, scale, rule = np.zeros((n, k)), np.ones((n, k)), np.full((n, k), "mad", dtype="<U8")
    for i in range(n):
        rows, origin = raw[active[:, i], i], "own"
        if len(rows) < MIN_TRAINING_ROWS:
            peers = active & (sector == sector[i])[None, :]
            rows, origin = raw[peers if peers.any() else active], "sector"
        center[i], scale[i], rule[i] = _robust(rows)
        if origin == "sector":
            rule[i] = np.where(rule[i] == "constant", "constant", "sector")
    center[:, binary], scale[:, binary], rule[:, binary] = 0.0, 1.0 / BINARY_VALUE, "binary"
    return Scaler(center, scale, rule)


def _robust(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median, 1.4826 MAD (or SD, or 1) and the rule used, per column of rows [row, feature]; NaN is left out."""
    seen = np.isfinite(rows).any(0)
    filled = np.where(seen, rows, 0.0)
    center = np.nanmedian(filled, axis=0)
    mad = MAD_TO_SD * np.nanmedian(np.abs(filled - center), axis=0)
    sd = np.nanstd(filled, axis=0, ddof=1) if len(rows) > 1 else np.zeros(rows.shape[1])
    rule = np.where(mad >= 1e-12, "mad", np.where(sd > 0, "sd", "constant"))
    return center, np.where(rule == "mad", mad, np.where(rule == "sd", sd, 1.0)), rule


def _by_name(array: xr.DataArray) -> list:
    known = {f.name: f for f in features()}
    return [known[name] for name in array["feature"].to_numpy()]


def build_panel(
    features: xr.DataArray,
    scaler: Scaler,
    prices: pd.DataFrame,
    universe: pd.DataFrame,
    benchmarks: pd.DataFrame | None = None,
    prior: np.ndarray | None = None,
) -> Panel:
    """Everything a detector may look at, in one container.

    `benchmarks` is the long table of the data contract; `prior` the graph [ticker, ticker] of `data.prior_graph`, which
    only the full model asks for.
    """
    sessions = pd.DatetimeIndex(features["session"].to_numpy())
    w = Inputs(prices, universe, sessions)
    wide = pd.DataFrame(index=sessions)
    if benchmarks is not None and len(benchmarks):
        wide = benchmarks.pivot_table(index="date", columns="ticker", values="close").reindex(sessions)
        wide.columns = [str(c) for c in wide.columns]
    x, active = scaler.transform(features), features["active"].to_numpy()
    names = [str(f) for f in features["feature"].to_numpy()]
    ext_z = features.sel(feature="ext_z").to_numpy()
    illiquidity = [x[:, :, names.index(name)] for name in ("spread", "amihud")]
    return Panel(
        sessions=sessions,
        tickers=[str(t) for t in features["ticker"].to_numpy()],
        features=names,
        x=x,
        active=active,
        returns=w.r,
        log_volume=np.log(np.where(w.traded, w.volume, np.nan)),
        sector=universe["sector"].to_numpy(object),
        is_bank=universe["is_bank"].to_numpy(bool),
        benchmarks=wide,
        group=[str(g) for g in features["group"].to_numpy()],
        prior=prior,
        stress=stress_indicators(w.r, active, ext_z, *illiquidity),
    )
