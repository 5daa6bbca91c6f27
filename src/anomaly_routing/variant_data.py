"""The market as a variant's training sees it: other samples, and scaled without a span (SPEC 10, 11)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.panel import Splits
from anomaly_routing.tensors import Tensors

CLIP, MAD_TO_SD, MIN_TRAINING_ROWS = 8.0, 1.4826, 120  # of scaled features (SPEC 3)


@dataclass(frozen=True)
class SplitsWithout(Splits):
    """Splits whose training span has a hole: its sessions are scored, but nothing is fitted on them."""

    without_first: str = ""
    without_last: str = ""

    def train(self, sessions: pd.DatetimeIndex) -> np.ndarray:
        hole = (sessions >= pd.Timestamp(self.without_first)) & (sessions <= pd.Timestamp(self.without_last))
        return super().train(sessions) & ~np.asarray(hole)

    def scored(self, sessions: pd.DatetimeIndex) -> np.ndarray:
        return super().train(sessions) | self.val(sessions) | self.test(sessions)


def placed(tensors: Tensors, data: dict[str, Any]) -> Tensors:
    """The market with a variant's samples; features as they are, which is enough for the key of its run.

    later : the first sample ends so many sessions later. without : nothing is fitted on the span. Raises ValueError
    where the market leaves no sample, or has none in the span.
    """
    splits = tensors.splits.__dict__.copy()
    if later := data.get("later"):
        left = np.flatnonzero(tensors.train)[later:]
        if not len(left):
            raise ValueError(f"later: {later} leaves none of the {tensors.train.sum()} training samples")
        first = int(tensors.sessions.searchsorted(pd.Timestamp(splits["first_session"]))) + later
        splits["first_session"] = f"{tensors.sessions[first]:%Y-%m-%d}"
    if span := data.get("without"):
        inside = (tensors.sessions >= pd.Timestamp(span[0])) & (tensors.sessions <= pd.Timestamp(span[1]))
        if not (n := int((tensors.train & inside).sum())) or n == tensors.train.sum():
            raise ValueError(f"without: {' to '.join(map(str, span))} holds {'all' if n else 'no'} training samples")
        return replace(tensors, splits=SplitsWithout(**splits, without_first=span[0], without_last=span[1]))
    return replace(tensors, splits=Splits(**splits)) if later else tensors


def view(tensors: Tensors, data: dict[str, Any]) -> Tensors:
    """The market as a variant's training sees it: `placed`, and scaled without the span that nothing is fitted on."""
    seen = placed(tensors, data)
    if not data.get("without"):
        return seen
    seen = replace(seen, x=rescaled(seen))
    return replace(seen, stress=with_liquidity_stress(seen))


def rescaled(tensors: Tensors) -> np.ndarray:
    """x with each stock's features at median 0 and scaled MAD 1 over the training samples of `tensors.splits`.

    Exact for what was not clipped. What is exactly 0 (undefined, or the old median) stays so, and so do flags, features
    whose MAD is 0 and stocks with fewer than 120 of those samples, whose scale was pooled over their sector.
    """
    x = tensors.x.copy()
    for i in range(x.shape[1]):
        fitted = x[tensors.train & tensors.active[:, i], i]
        if len(fitted) < MIN_TRAINING_ROWS:
            continue
        middle = np.median(fitted, axis=0)
        spread = MAD_TO_SD * np.median(np.abs(fitted - middle), axis=0)
        flags = np.array([len(np.unique(column)) <= 2 for column in fitted.T])
        moved = np.clip((x[:, i] - middle) / np.where(spread > 0, spread, 1), -CLIP, CLIP)
        x[:, i] = np.where((x[:, i] != 0) & (spread > 0) & ~flags, moved, x[:, i])
    return x


def with_liquidity_stress(tensors: Tensors) -> np.ndarray:
    """The raw stress indicators [S, 4] with I4 from the features as they are scaled now: the median over the active
    stocks of (x_spread + x_amihud) / 2 (SPEC 5.1). The other three are made of unscaled features."""
    stress = tensors.stress.copy()
    if not {"spread", "amihud"} <= set(tensors.features):
        return stress
    spread, amihud = (tensors.x[..., tensors.features.index(name)] for name in ("spread", "amihud"))
    both = np.where(tensors.active, (spread.astype(float) + amihud) / 2, np.nan)
    some = tensors.active.any(axis=1)
    stress[some, 3] = np.nanmedian(both[some], axis=1)
    return stress
