"""Features and scaling on disk: one file, the same bytes for the same content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from anomaly_routing.features.catalogue import features as known_features
from anomaly_routing.features.panel import Scaler
from anomaly_routing.files import replacing


@dataclass(frozen=True)
class FeatureFile:
    """What stage 02 hands on: raw features [session, ticker, feature] with `active`, and the frozen scaling."""

    features: xr.DataArray
    scaler: Scaler


def save_features(path: str | Path, features: xr.DataArray, scaler: Scaler) -> None:
    """Write the features and their scaling."""
    with replacing(path) as partial:
        np.savez_compressed(
            partial,
            values=features.to_numpy(),
            active=features["active"].to_numpy(),
            sessions=features["session"].to_numpy().astype("datetime64[D]"),
            tickers=features["ticker"].to_numpy().astype(str),
            names=features["feature"].to_numpy().astype(str),
            center=scaler.center,
            scale=scaler.scale,
            rule=scaler.rule,
        )


def load_features(path: str | Path) -> FeatureFile:
    """Read what `save_features` wrote; ValueError when a column is not a feature that the package knows."""
    with np.load(path) as z:
        stored = {name: z[name] for name in z.files}
    groups = {f.name: f.group for f in known_features()}
    if unknown := [n for n in stored["names"] if n not in groups]:
        raise ValueError(f"{path}: unknown feature {', '.join(unknown)}; run the features stage again")
    array = xr.DataArray(
        stored["values"],
        dims=("session", "ticker", "feature"),
        coords={
            "session": pd.DatetimeIndex(stored["sessions"]),
            "ticker": stored["tickers"].astype(object),
            "feature": stored["names"].astype(object),
            "active": (("session", "ticker"), stored["active"]),
            "group": ("feature", [groups[n] for n in stored["names"]]),
        },
        name="features",
    )
    return FeatureFile(array, Scaler(stored["center"], stored["scale"], stored["rule"]))
