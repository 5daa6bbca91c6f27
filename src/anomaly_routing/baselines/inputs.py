"""What several detectors share: input series, moving moments, training samples, robust scaling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anomaly_routing.baselines.universe import check_universe
from anomaly_routing.features.rolling import MIN_VALID, enough, lag, rolling_central_sum, rolling_count, rolling_mean
from anomaly_routing.panel import FEATURE_WINDOW, Panel

MIN_TRAIN = 120  # training rows for statistics of a stock's own (SPEC 3)
MIN_SAMPLE = 20  # below this a sample has no statistics at all
CHAPTER_INPUTS = ("return", "volume", "volatility")  # the chapter's columns, unscaled (AUDIT D03)
SCALED_INPUTS = ("return", "log_volume", "volatility")
SERIES = ("return", "abs_return", "log_volume", "volume", "volatility")


def series(panel: Panel, name: str) -> np.ndarray:
    """One input series, float64 [S, N], NaN where undefined or where the stock is inactive.

    return (log), abs_return, log_volume, volume (shares), volatility (sample SD of the log returns of t-19..t, per
    session, at least 15 of them). Raises ValueError for any other name.
    """
    if name == "return":
        values = panel.returns
    elif name == "abs_return":
        values = np.abs(panel.returns)
    elif name == "log_volume":
        values = panel.log_volume
    elif name == "volume":
        values = np.exp(panel.log_volume)
    elif name == "volatility":
        values = rolling_moments(panel.returns, FEATURE_WINDOW, MIN_VALID)[1]
    else:
        raise ValueError(f"no series {name!r}; there are: {', '.join(SERIES)}")
    return np.where(panel.active & np.isfinite(values), values, np.nan)


def stack(panel: Panel, names: tuple[str, ...]) -> np.ndarray:
    """Several series side by side, [S, N, len(names)]; a row with one NaN is NaN throughout."""
    rows = np.stack([series(panel, name) for name in names], axis=-1)
    rows[np.isnan(rows).any(axis=-1)] = np.nan
    return rows


def masked(panel: Panel, values: np.ndarray) -> np.ndarray:
    """Scores as they leave a detector: float32 [S, N], NaN where inactive."""
    return np.where(panel.active, values, np.nan).astype(np.float32)


def fit_rows(panel: Panel, mode: str, train_mask: np.ndarray) -> np.ndarray:
    """Boolean [S, N], the stock-days that fitted quantities may use: all active ones (chapter) or the training ones.

    Raises ValueError if there are none.
    """
    sessions = np.ones(len(panel.sessions), bool) if mode == "chapter" else np.asarray(train_mask, bool)
    rows = panel.active & sessions[:, None]
    if not rows.any():
        raise ValueError(f"there is no active stock-day to fit on (mode {mode!r})")
    return rows


def rolling_moments(
    values: np.ndarray, window: int, min_periods: int, lagged: int = 0, ddof: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD of the valid values in t-lagged-window+1..t-lagged, each [S, N]; NaN below `min_periods`.

    An SD below 1e-10 of the mean is 0.
    """
    values, at_least = lag(np.asarray(values, float), lagged), max(min_periods, ddof + 1)
    count = rolling_count(values, window)
    mean = rolling_mean(values, window, at_least)
    variance = rolling_central_sum(values, 2, window) / np.maximum(count - ddof, 1)
    sd = enough(np.sqrt(variance), count, at_least)
    return mean, np.where(sd <= 1e-10 * np.abs(mean), 0.0, sd)


def ratio(deviation: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """deviation / scale, and 0 where the scale is 0: a series without variation gives no evidence."""
    return np.divide(deviation, scale, out=np.where(np.isnan(scale), np.nan, deviation * 0.0), where=scale > 0)


def robust_scale(sample: np.ndarray) -> float:
    """1.4826 MAD, the SD of a Gaussian; if over half the values are equal, 1.2533 mean absolute deviation (D02)."""
    distance = np.abs(sample - np.median(sample))
    mad = 1.4826 * np.median(distance)
    scale = mad if mad > 0 else 1.2533 * distance.mean()
    return float(scale) if scale > 1e-10 * np.abs(sample).max() else 0.0


def per_stock(panel: Panel, values: np.ndarray, rows: np.ndarray, mode: str, statistic: Callable) -> np.ndarray:
    """`statistic(sample) -> tuple` for every stock, as an array [N, k]; NaN for a sample under 20 values.

    chapter: the stock's own values. causal: its own training values; a stock with fewer than 120 of them takes those
    of its sector, or of all stocks if the sector has too few as well (SPEC 3).
    """
    usable = rows & np.isfinite(values)
    width = len(statistic(np.arange(float(MIN_SAMPLE))))
    result = np.full((len(panel.tickers), width), np.nan)
    for i in range(len(panel.tickers)):
        sample = values[usable[:, i], i]
        if mode == "causal" and len(sample) < MIN_TRAIN:
            peers = panel.sector == panel.sector[i]
            sample = values[:, peers][usable[:, peers]]
            sample = sample if len(sample) >= MIN_TRAIN else values[usable]
        if len(sample) >= MIN_SAMPLE:
            result[i] = statistic(sample)
    return result


def on_observed(values: np.ndarray, transform: Callable[[np.ndarray], np.ndarray], at_least: int) -> np.ndarray:
    """Apply `transform` to each stock's observed values, in order and without the gaps; NaN elsewhere. [S, N]."""
    result = np.full(values.shape, np.nan)
    for i in range(values.shape[1]):
        observed = np.isfinite(values[:, i])
        if observed.sum() >= at_least:
            result[observed, i] = transform(values[observed, i])
    return result


@dataclass(frozen=True)
class RobustScaling:
    """Per-stock median and robust scale of the three inputs, from training rows (AUDIT D03)."""

    centre: np.ndarray  # [N, 3]
    scale: np.ndarray  # [N, 3]
    tickers: tuple[str, ...]  # the N stocks

    @classmethod
    def fit(cls, panel: Panel, rows: np.ndarray) -> RobustScaling:
        values = [series(panel, name) for name in SCALED_INPUTS]
        moments = [per_stock(panel, v, rows, "causal", lambda s: (np.median(s), robust_scale(s))) for v in values]
        centre, scale = (np.stack([m[:, k] for m in moments], -1) for k in (0, 1))
        return cls(centre, scale, tuple(panel.tickers))

    def transform(self, panel: Panel) -> np.ndarray:
        """Scaled inputs [S, N, 3], not clipped; NaN rows where an input is undefined. ValueError for other stocks."""
        check_universe(self.tickers, panel)
        rows = stack(panel, SCALED_INPUTS)
        return ratio(rows - self.centre, np.broadcast_to(self.scale, rows.shape))


def subsample(rows: np.ndarray, max_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted positions of at most `max_rows` rows drawn without replacement."""
    if len(rows) <= max_rows:
        return np.arange(len(rows))
    return np.sort(rng.choice(len(rows), max_rows, replace=False))
