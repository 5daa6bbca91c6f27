"""Small assets with a known variance process."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from anomaly_routing.risk.realised_variance import Asset


def planted_asset(n: int = 1200, phi: float = 0.9, noise: float = 0.2, seed: int = 0, name: str = "PLANTED") -> Asset:
    """ln RV is an AR(1) with coefficient `phi` and unit variance around ln 1e-4; returns: sqrt(RV) times a normal."""
    rng = np.random.default_rng(seed)
    state = np.zeros(n)
    for i in range(1, n):
        state[i] = phi * state[i - 1] + np.sqrt(1 - phi**2) * rng.standard_normal()
    variance = 1e-4 * np.exp(state + noise * rng.standard_normal(n))
    returns = np.sqrt(1e-4 * np.exp(state)) * rng.standard_normal(n)
    days = pd.bdate_range("2018-01-02", periods=n)
    return Asset(name, days, returns, variance, 10 + rng.standard_normal(n))


def altered(asset: Asset, after: int) -> Asset:
    """Every value after session `after` replaced."""
    rng, late = np.random.default_rng(9), np.arange(len(asset.sessions)) > after
    return dataclasses.replace(
        asset,
        returns=np.where(late, 3 * rng.standard_normal(len(late)) / 100, asset.returns),
        variance=np.where(late, asset.variance * rng.uniform(0.1, 9, len(late)), asset.variance),
        log_volume=np.where(late, asset.log_volume + 5, asset.log_volume),
    )
