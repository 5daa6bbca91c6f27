"""Rolling z-score: one value in, one score out; and the same computed for a whole panel at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from anomaly_routing.baselines.inputs import masked, on_observed, ratio, rolling_moments, series
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of some values."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def joined(self, other: Moments) -> Moments:
        """Moments of both sets together (Chan, Golub and LeVeque 1983): nothing is ever subtracted."""
        count = self.count + other.count
        if not self.count or not other.count:
            return self if self.count else other
        shift = other.mean - self.mean
        mean = self.mean + shift * other.count / count
        return Moments(count, mean, self.squares + other.squares + shift**2 * self.count * other.count / count)


@dataclass
class RollingZScore:
    """|z| of each new value against a moving window, for a live stream.

    The chapter's class counts the new value among those it is compared with, so that |z| <= sqrt(n-1) and nothing
    above 3 can be seen before the 11th value (D09). Here the window is that of the `window` values *before* it, with
    sample SD; `include_current=True` keeps the chapter's form, with population SD.

    Costs O(1) a value on average, and is stable for any stream: the window is held as two stacks of joined moments, so
    no running sum is ever decreased. Missing values (NaN) score NaN and leave the window as it is. The score is NaN
    before `min_periods` values are in the window and 0 if those do not vary; an alarm is `score > threshold`.
    """

    window: int = 100
    threshold: float = 3.0
    min_periods: int = 20
    include_current: bool = False
    _new: list[float] = field(default_factory=list, init=False, repr=False)
    _new_moments: Moments = field(default=Moments(), init=False, repr=False)
    _old: list[Moments] = field(default_factory=list, init=False, repr=False)  # last: all of them; first: the youngest

    def update(self, value: float) -> float:
        """Score `value`, then take it into the window."""
        if not math.isfinite(value):
            return math.nan
        if self.include_current:
            self._push(value)
            return self._score(value)
        score = self._score(value)
        self._push(value)
        return score

    def _score(self, value: float) -> float:
        moments = self._new_moments.joined(self._old[-1]) if self._old else self._new_moments
        ddof = 0 if self.include_current else 1
        if moments.count < max(self.min_periods, ddof + 1):
            return math.nan
        sd = math.sqrt(moments.squares / (moments.count - ddof))
        return abs(value - moments.mean) / sd if sd > 1e-10 * abs(moments.mean) else 0.0

    def _push(self, value: float) -> None:
        if len(self._new) + len(self._old) == self.window:
            self._drop_oldest()
        self._new.append(value)
        self._new_moments = self._new_moments.joined(Moments(1, value))

    def _drop_oldest(self) -> None:
        if not self._old:
            moments = Moments()
            for value in reversed(self._new):
                moments = moments.joined(Moments(1, value))
                self._old.append(moments)
            self._new, self._new_moments = [], Moments()
        self._old.pop()


@register(
    "rolling_z",
    family="streaming",
    reveals="stocks",
    modes=("chapter", "causal"),
    lookahead=(),  # both forms see only the past; the chapter's counts the value itself
    title="Rolling z-score",
    reference="the chapter, 58.7; AUDIT D09",
)
@dataclass
class RollingZ:
    """`RollingZScore` of one series, per stock, for all sessions at once: the scores equal the stream's.

    chapter: the window ends with t, population SD, from 2 values. causal: it ends with t-1, sample SD, from 20 values.
    The window counts observed sessions. NaN before that many; 0 if the window does not vary. The chapter's cut is 3.
    """

    mode: str = "causal"
    series: str = "return"
    window: int = 100
    flag_threshold: float = 3.0

    def fit(self, panel: Panel, train_mask: np.ndarray) -> RollingZ:
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        return masked(panel, on_observed(series(panel, self.series), self._batch, 1))

    def stream(self) -> RollingZScore:
        """The streaming form of the same detector, for one stock."""
        inclusive = self.mode == "chapter"
        return RollingZScore(self.window, self.flag_threshold, 2 if inclusive else 20, inclusive)

    def _batch(self, values: np.ndarray) -> np.ndarray:
        stream = self.stream()
        lag, ddof = (0, 0) if stream.include_current else (1, 1)
        mean, sd = rolling_moments(values[:, None], self.window, stream.min_periods, lag, ddof)
        return ratio(np.abs(values[:, None] - mean), sd)[:, 0]
