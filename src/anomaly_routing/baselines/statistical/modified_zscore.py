"""Modified z-score: distance from the median in robust standard deviations."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anomaly_routing.baselines.inputs import fit_rows, masked, per_stock, ratio, robust_scale, series
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.universe import check_universe
from anomaly_routing.panel import Panel


@register(
    "modified_zscore",
    family="statistical",
    reveals="stocks",
    modes=("chapter", "causal"),
    title="Modified z-score",
    reference="the chapter, 58.2.2; Iglewicz and Hoaglin 1993; AUDIT D02",
)
@dataclass
class ModifiedZScore:
    """|x - median| / (1.4826 MAD) of one series, per stock (the chapter's 0.6745 is 1/1.4826).

    chapter: median and MAD of all active sessions (looks ahead). causal: those of the training sessions. The
    chapter's cut is 3.5. If over half the values are equal, MAD = 0 and 1.2533 times the mean absolute deviation
    takes its place (D02). A series that is constant in the fitting sample scores 0, one under 20 values NaN.
    """

    mode: str = "causal"
    series: str = "return"
    flag_threshold: float = 3.5
    moments_: np.ndarray = field(init=False, repr=False)  # [N, 2]
    tickers_: list[str] = field(init=False, repr=False)  # the N stocks

    def fit(self, panel: Panel, train_mask: np.ndarray) -> ModifiedZScore:
        rows = fit_rows(panel, self.mode, train_mask)
        values = series(panel, self.series)
        self.moments_ = per_stock(panel, values, rows, self.mode, lambda s: (np.median(s), robust_scale(s)))
        self.tickers_ = list(panel.tickers)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        check_universe(self.tickers_, panel)
        median, scale = self.moments_.T
        deviation = np.abs(series(panel, self.series) - median)
        return masked(panel, ratio(deviation, np.broadcast_to(scale, deviation.shape)))
