"""Seasonal-hybrid ESD: a weekly season taken out, then the generalised ESD test with median and MAD."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats

from anomaly_routing.baselines.inputs import MIN_SAMPLE, masked, on_observed, series
from anomaly_routing.baselines.registry import register
from anomaly_routing.baselines.statistical.decomposition import PERIOD, stl, trailing_maps
from anomaly_routing.panel import Panel


@register(
    "seasonal_esd",
    family="statistical",
    reveals="stocks",
    modes=("chapter", "causal"),
    title="Seasonal-hybrid ESD",
    reference="the chapter, 58.5.2; Hochenbaum, Vallis and Kejariwal 2017; Rosner 1983; AUDIT D05",
)
@dataclass
class SeasonalESD:
    """ESD statistic over its critical value, the largest over `series`; above 1 is an anomaly at level `alpha`.

    The series (|return| and log volume, as for STL) lose their periodic STL season; then up to `max_anomalies` of the
    values are tested one after another. The package that the chapter names does not exist, so this is our own (D05).
    chapter: the whole series at once (looks ahead), robust STL. causal: the `window` observations up to t, of which
    the last is judged; STL is not robust there, which makes the season a linear map (see `decomposition`).
    hybrid=False tests with mean and SD in place of median and MAD. NaN before `window` observations (20 in chapter
    mode); a constant series scores 0. Nothing is fitted.
    """

    mode: str = "causal"
    series: tuple[str, ...] = ("abs_return", "log_volume")
    period: int = PERIOD
    window: int = 250
    max_anomalies: float = 0.02
    alpha: float = 0.05
    hybrid: bool = True
    flag_threshold: float = 1.0

    def fit(self, panel: Panel, train_mask: np.ndarray) -> SeasonalESD:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        transform, at_least = (self._whole, MIN_SAMPLE) if self.mode == "chapter" else (self._trailing, self.window)
        scores = [on_observed(series(panel, name), transform, at_least) for name in self.series]
        return masked(panel, np.fmax.reduce(scores))

    def _whole(self, values: np.ndarray) -> np.ndarray:
        season = stl(values, self.period, robust=True, periodic=True)[0]
        return self._esd(values - season)

    def _trailing(self, values: np.ndarray) -> np.ndarray:
        season = trailing_maps(self.window, self.period, True)[0]
        windows = sliding_window_view(values - values[0], self.window)
        scores = np.full(len(values), np.nan)
        scores[self.window - 1 :] = self._esd(windows - windows @ season.T)[:, -1]
        return scores

    def _esd(self, values: np.ndarray) -> np.ndarray:
        limit = max(1, int(self.max_anomalies * values.shape[-1]))
        return esd_scores(values, limit, self.alpha, self.hybrid)


def generalised_esd(
    values: np.ndarray, max_anomalies: int, alpha: float = 0.05, hybrid: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two-sided generalised extreme Studentised deviate test along the last axis (Rosner 1983).

    At step i the value farthest from the centre is taken out. Centre and scale are median and 1.4826 MAD (hybrid; with
    MAD = 0, 1.2533 mean absolute deviation) or mean and sample SD. values [..., n] without NaN.

    Returns
    -------
    statistics R [..., k], critical values [k], positions taken out [..., k], and the last step's deviations [..., n]
    in units of its scale (for the values that were never taken out).
    """
    n = values.shape[-1]
    left = np.ones(values.shape, bool)
    statistics, taken = [], []
    for _ in range(max_anomalies):
        deviation = _deviations(values, left, hybrid)
        position = np.where(left, deviation, -1.0).argmax(axis=-1)[..., None]
        statistics.append(np.take_along_axis(deviation, position, -1))
        taken.append(position)
        np.put_along_axis(left, position, False, -1)
    i = np.arange(1, max_anomalies + 1)
    t = stats.t.ppf(1 - alpha / (2 * (n - i + 1)), n - i - 1)
    critical = (n - i) * t / np.sqrt((n - i - 1 + t**2) * (n - i + 1))
    return np.concatenate(statistics, -1), critical, np.concatenate(taken, -1), deviation


def esd_scores(values: np.ndarray, max_anomalies: int, alpha: float = 0.05, hybrid: bool = True) -> np.ndarray:
    """Score [..., n] that exceeds 1 exactly for the anomalies of the test.

    The test calls the first j values taken out anomalous if the j-th is the last whose R exceeds its critical value;
    so the score of the i-th is the largest of R/critical from i on. The others keep their deviation at the last step,
    scaled down to at most 1 where the limit of `max_anomalies` stopped the test.
    """
    statistics, critical, taken, deviation = generalised_esd(values, max_anomalies, alpha, hybrid)
    from_here_on = np.maximum.accumulate((statistics / critical)[..., ::-1], axis=-1)[..., ::-1]
    scores = deviation / critical[-1]
    np.put_along_axis(scores, taken, 0.0, -1)
    scores /= np.maximum(scores.max(axis=-1, keepdims=True), 1.0)
    np.put_along_axis(scores, taken, from_here_on, -1)
    return scores


def _deviations(values: np.ndarray, left: np.ndarray, hybrid: bool) -> np.ndarray:
    """Distance of every value from the centre of those still in, in units of their scale; 0 where the scale is 0."""
    if hybrid:
        distance = np.abs(values - _median(values, left))
        mean_distance = 1.2533 * np.sum(distance, -1, where=left, keepdims=True) / left.sum(-1, keepdims=True)
        mad = 1.4826 * _median(distance, left)
        scale = np.where(mad > 0, mad, mean_distance)
    else:
        centre = np.mean(values, -1, where=left, keepdims=True)
        distance = np.abs(values - centre)
        scale = np.std(values, -1, where=left, keepdims=True, ddof=1)
    scale = np.where(scale > 1e-10 * np.abs(values).max(-1, keepdims=True), scale, np.inf)
    return distance / scale


def _median(values: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Median along the last axis of the values still in; the same number is in, in every row."""
    n = int(left[(0,) * (left.ndim - 1)].sum())
    middle = [(n - 1) // 2, n // 2]
    ordered = np.partition(np.where(left, values, np.inf), middle, axis=-1)
    return ordered[..., middle].mean(axis=-1, keepdims=True)
