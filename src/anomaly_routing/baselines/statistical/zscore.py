"""Z-score: distance from the mean in standard deviations."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anomaly_routing.baselines.inputs import fit_rows, masked, per_stock, ratio, series
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.universe import check_universe
from anomaly_routing.panel import Panel


@register(
    "zscore",
    family="statistical",
    reveals="stocks",
    modes=("chapter", "causal"),
    title="Z-score",
    reference="the chapter, 58.2.1; AUDIT D01, D02",
)
@dataclass
class ZScore:
    """|x - mean| / SD of one series, per stock, in SDs.

    chapter: mean and population SD of all active sessions (looks ahead). causal: those of the training sessions.
    The chapter's cut is 3. A series that is constant in the fitting sample scores 0, one under 20 values NaN.
    """

    mode: str = "causal"
    series: str = "return"
    flag_threshold: float = 3.0
    moments_: np.ndarray = field(init=False, repr=False)  # [N, 2]
    tickers_: list[str] = field(init=False, repr=False)  # the N stocks

    def fit(self, panel: Panel, train_mask: np.ndarray) -> ZScore:
        rows = fit_rows(panel, self.mode, train_mask)
        self.moments_ = per_stock(panel, series(panel, self.series), rows, self.mode, _moments)
        self.tickers_ = list(panel.tickers)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        check_universe(self.tickers_, panel)
        mean, sd = self.moments_.T
        deviation = np.abs(series(panel, self.series) - mean)
        return masked(panel, ratio(deviation, np.broadcast_to(sd, deviation.shape)))


def _moments(sample: np.ndarray) -> tuple[float, float]:
    sd = sample.std()
    return sample.mean(), sd if sd > 1e-10 * np.abs(sample).max() else 0.0
