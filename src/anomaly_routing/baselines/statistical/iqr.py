"""Tukey's fences: distance beyond the nearer quartile in interquartile ranges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anomaly_routing.baselines.inputs import fit_rows, masked, per_stock, ratio, robust_scale, series
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.universe import check_universe
from anomaly_routing.panel import Panel

IQR_OF_SD = 1.3490  # interquartile range of a Gaussian with SD 1


@register(
    "iqr",
    family="statistical",
    reveals="stocks",
    modes=("chapter", "causal"),
    title="IQR fences",
    reference="the chapter, 58.2.3; Tukey 1977; AUDIT D02",
)
@dataclass
class IQR:
    """max(x - Q3, Q1 - x) / (Q3 - Q1) of one series, per stock; negative between the quartiles.

    A score above k is the chapter's flag with multiplier k: 1.5 by default (2.5 in its volume study, 3 for extremes).
    chapter: quartiles of all active sessions (looks ahead). causal: those of the training sessions. If the quartiles
    coincide, the Gaussian range of the mean absolute deviation takes the place of Q3 - Q1 (as D02 for the MAD). A
    series that is constant in the fitting sample scores 0, one under 20 values NaN.
    """

    mode: str = "causal"
    series: str = "return"
    flag_threshold: float = 1.5
    quartiles_: np.ndarray = field(init=False, repr=False)  # [N, 3]
    tickers_: list[str] = field(init=False, repr=False)  # the N stocks

    def fit(self, panel: Panel, train_mask: np.ndarray) -> IQR:
        rows = fit_rows(panel, self.mode, train_mask)
        self.quartiles_ = per_stock(panel, series(panel, self.series), rows, self.mode, quartiles)
        self.tickers_ = list(panel.tickers)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        check_universe(self.tickers_, panel)
        return masked(panel, beyond_quartiles(series(panel, self.series), self.quartiles_))


def quartiles(sample: np.ndarray) -> tuple[float, float, float]:
    """First and third quartile (linear interpolation) and the range that scales distances; 0 if constant."""
    low, high = np.quantile(sample, (0.25, 0.75))
    width = high - low
    tiny = 1e-10 * np.abs(sample).max()
    return low, high, width if width > tiny else IQR_OF_SD * robust_scale(sample)


def beyond_quartiles(values: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Distance beyond the nearer quartile in IQRs; values [S, N], fitted [N, 3] from `quartiles`."""
    low, high, width = fitted.T
    beyond = np.maximum(values - high, low - values)
    return ratio(beyond, np.broadcast_to(width, beyond.shape))
