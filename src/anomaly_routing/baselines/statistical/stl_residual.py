"""Outliers in what remains after a weekly season and a trend are taken out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from anomaly_routing.baselines.inputs import (
    MIN_SAMPLE,
    fit_rows,
    masked,
    on_observed,
    per_stock,
    series,
)
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.statistical.decomposition import PERIOD, stl, trailing_maps
from anomaly_routing.baselines.statistical.iqr import beyond_quartiles, quartiles
from anomaly_routing.baselines.universe import check_universe
from anomaly_routing.panel import Panel


@register(
    "stl_residual",
    family="statistical",
    reveals="stocks",
    modes=("chapter", "causal"),
    title="STL residual",
    reference="the chapter, 58.5.1; Cleveland et al. 1990; AUDIT D04",
)
@dataclass
class STLResidual:
    """Distance of the STL residual beyond its nearer quartile in IQRs; the largest over `series`. Cut: 3.

    The chapter decomposes a price level, which has little weekly season, and STL is two-sided; so the series are
    |return| and log volume (D04). A period is 5 observed sessions; gaps are closed up.
    chapter: robust STL of the whole series, quartiles of the whole residual, both anew for the panel that is scored
    (looks ahead).
    causal: STL refitted on the `window` observations up to t, its last residual kept, quartiles of the training
    residuals. These refits are not robust: that makes them one linear filter (see `decomposition`).
    NaN before `window` observations (20 in chapter mode); a constant series scores 0.
    """

    mode: str = "causal"
    series: tuple[str, ...] = ("abs_return", "log_volume")
    period: int = PERIOD
    window: int = 250
    flag_threshold: float = 3.0
    quartiles_: list[np.ndarray] = field(init=False, repr=False)  # one [N, 3] for each series
    tickers_: list[str] = field(init=False, repr=False)  # the N stocks

    def fit(self, panel: Panel, train_mask: np.ndarray) -> STLResidual:
        rows = fit_rows(panel, self.mode, train_mask)
        if self.mode == "causal":
            self.quartiles_ = [per_stock(panel, r, rows, self.mode, quartiles) for r in self._residuals(panel)]
        self.tickers_ = list(panel.tickers)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        if self.mode == "causal":
            check_universe(self.tickers_, panel)
        residuals = self._residuals(panel)
        if self.mode == "chapter":
            fitted = [per_stock(panel, r, panel.active, self.mode, quartiles) for r in residuals]
        else:
            fitted = self.quartiles_
        return masked(panel, np.fmax.reduce([beyond_quartiles(r, q) for r, q in zip(residuals, fitted, strict=True)]))

    def _residuals(self, panel: Panel) -> list[np.ndarray]:
        return [self._residual(series(panel, name)) for name in self.series]

    def _residual(self, values: np.ndarray) -> np.ndarray:
        if self.mode == "chapter":
            return on_observed(values, lambda y: _clean(stl(y, self.period, robust=True)[1], y), MIN_SAMPLE)
        return on_observed(values, self._last_residual, self.window)

    def _last_residual(self, values: np.ndarray) -> np.ndarray:
        weights = trailing_maps(self.window, self.period, False)[1][-1]
        shifted = values - values[0]  # the filter removes a level; taking it out first keeps a constant exact
        residual = np.full(len(values), np.nan)
        residual[self.window - 1 :] = sliding_window_view(shifted, self.window) @ weights
        return residual


def _clean(residual: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rounding noise of an exactly fitted (say constant) series set to 0."""
    return np.where(np.abs(residual) > 1e-10 * np.abs(values).max(), residual, 0.0)
