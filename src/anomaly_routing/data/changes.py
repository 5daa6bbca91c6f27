"""What an anomaly changes in daily bars, and how it is written into them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_routing.data.bars import Bars

MEMORY = 20  # sessions before the first altered one that give the standard deviation, and must have traded


class PlantError(ValueError):
    """A plant that cannot be: which one, what is wrong, what to do."""


class TooStrongError(PlantError):
    """A plant that would take a price or a low to zero or below."""


@dataclass
class Change:
    """What a plant does to D sessions of n stocks, float64 [D, n] each.

    simple : new simple returns of the total-return close. gap : share of the extra return that comes before the open.
    volume : factor on the shares traded. widen : the high and the low move out by half of it, in units of the day's
    range. flat : the whole bar is its close.
    """

    simple: np.ndarray
    gap: float = 0.0
    volume: np.ndarray | float = 1.0
    widen: np.ndarray | float = 0.0
    flat: bool = False


@dataclass(frozen=True)
class Scene:
    """What a mechanism sees: D altered sessions of n stocks, the last `graded` of which count.

    simple : returns as they were [D, n]. sd : standard deviation of the 20 returns before the plant [n].
    delay : sessions after the onset at which each stock is hit [n]. strength : multiplies every size.
    """

    simple: np.ndarray
    sd: np.ndarray
    delay: np.ndarray
    graded: int
    strength: float
    rng: np.random.Generator

    @property
    def hit(self) -> np.ndarray:
        """Bool [D, n]: from the session on which the stock is hit."""
        day = np.arange(len(self.simple))[:, None] - (len(self.simple) - self.graded)
        return day >= self.delay

    def signs(self) -> np.ndarray:
        return self.rng.choice([-1.0, 1.0], len(self.sd))


def write_change(bars: Bars, change: Change, simple: np.ndarray, first: int, stocks: np.ndarray, name: str) -> None:
    """Write a change into the bars, in place, from session `first` on; what comes after keeps its returns.

    simple : the returns [D, n] that it takes the place of. name : of what is planted, for a PlantError when a price or
    a low is not positive.
    """
    written = {"return": change.simple, "volume": change.volume, "stretch": change.widen, "gap": change.gap}
    if odd := [what for what, values in written.items() if not np.isfinite(values).all()]:
        raise PlantError(f"{name} has a {' and a '.join(odd)} that is no number: look at its mechanism and strength")
    if np.min(change.volume) <= 0:
        raise TooStrongError(f"{name} takes a volume to zero or below: plant it weaker")
    span, after = slice(first, first + len(simple)), slice(first + len(simple), None)
    if (change.simple <= -1).any():
        raise TooStrongError(f"{name} takes a price to zero or below: plant it weaker, or in calmer stocks")
    level = np.cumprod((1 + change.simple) / (1 + simple), axis=0)
    before = np.vstack([np.ones(len(stocks)), level[:-1]])
    opening = before * (level / before) ** change.gap
    grown = {"open": opening, "close": level, "high": np.sqrt(opening * level), "low": np.sqrt(opening * level)}
    bar = {column: bars.columns[column][span, stocks] * factor for column, factor in grown.items()}
    top, bottom = np.maximum(bar["open"], bar["close"]), np.minimum(bar["open"], bar["close"])
    high, low = np.maximum(bar["high"], top), np.minimum(bar["low"], bottom)
    stretch = change.widen * (high - low) / 2
    bar["high"], bar["low"] = high + stretch, low - stretch
    if change.flat:
        bar |= dict.fromkeys(("open", "high", "low"), bar["close"])
    if (bar["low"] <= 0).any():
        raise TooStrongError(f"{name} takes a low to zero or below: plant it weaker, or in calmer stocks")
    for column, values in bar.items():
        bars.columns[column][span, stocks] = values
    bars.columns["adj_close"][span, stocks] *= level
    bars.columns["volume"][span, stocks] *= change.volume
    for column in ("open", "high", "low", "close", "adj_close"):
        bars.columns[column][after, stocks] *= level[-1]
