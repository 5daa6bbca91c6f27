"""What chance would have hit: alarms shifted in time, each split on its own (SPEC 9.4 iv, AUDIT A17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np


@dataclass(frozen=True)
class Placebo:
    """The number of hits when time is shuffled but the clustering of the alarms is kept.

    p : chance of at least the observed hits, the observed alignment counted as one of the shifts.
    expected : mean number of hits over the shifts.
    shifts : how many there are; p is no finer than 1 / (shifts + 1).
    """

    p: float
    expected: float
    shifts: int


def circular_shift(
    alarms: np.ndarray,
    windows: np.ndarray,
    splits: Sequence[np.ndarray],
    guards: np.ndarray | None = None,
) -> Placebo | None:
    """Exact placebo distribution of the number of hits when the alarm series slides past the events.

    The events stay. The alarms of each split are rotated within that split's sessions by every offset 1..n-1, two
    splits by every pair of offsets: 501 shifts of the paper's test split, 250 x 501 together with its validation year.
    That is the whole distribution which random draws would sample, so there is no seed. Rotation keeps the clustering
    of the alarms and each split's own alarm rate; p = (1 + #{hits >= observed}) / (1 + shifts).

    Parameters
    ----------
    alarms : bool [S].
    windows : bool [E, S], the sessions in which an alarm is a hit; one may reach over two splits.
    splits : bool [S] masks that do not overlap. Only their sessions rotate, and only splits that some window reaches;
        alarms elsewhere do not count.
    guards : bool [E, S], sessions in which an alarm spoils the hit (the variant `fresh`); default none.

    Returns None when there is no event or nothing can rotate. Rotated counts come from one Fourier convolution a split;
    two splits of n and m sessions need n x m integers of memory.
    """
    reach = windows if guards is None else windows | guards
    used = [split for split in splits if reach[:, split].any()]
    if not any(split.sum() > 1 for split in used):
        return None
    hits = _all_shifts(alarms, windows, used) > 0
    if guards is not None:
        hits &= _all_shifts(alarms, guards, used) == 0
    hits = hits.sum(axis=0)
    shifted = hits[tuple(slice(min(1, n - 1), None) for n in hits.shape)]  # a split of one session stays where it is
    at_least = int((shifted >= hits.flat[0]).sum())
    return Placebo((1 + at_least) / (1 + shifted.size), float(shifted.mean()), shifted.size)


def _all_shifts(alarms: np.ndarray, windows: np.ndarray, splits: list[np.ndarray]) -> np.ndarray:
    """Alarms in each event's window under every combination of offsets; int [E, n_1, n_2, ...], offset 0 first."""
    counts = [_shifted_counts(alarms[split], windows[:, split]) for split in splits]
    return np.stack([reduce(np.add.outer, event) for event in zip(*counts, strict=True)])


def _shifted_counts(alarms: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Alarms inside each window when the series is rotated by 0..n-1 sessions; int [E, n]."""
    n = len(alarms)
    spectrum = np.fft.rfft(windows, axis=1) * np.conj(np.fft.rfft(alarms))
    return np.rint(np.fft.irfft(spectrum, n=n, axis=1)).astype(np.int16)


def chance_hit_rate(alarm_rate: float, window: int = 5) -> float:
    """Chance that a window holds an alarm when sessions alarm independently: 1 - (1 - q)^window (AUDIT A17).

    `alarm_rate` q and the result in [0, 1]: 22.6% at q = 5% and five sessions, 40.1% for two independent channels.
    Real alarms cluster, which lowers it; `circular_shift` keeps the clustering.
    """
    return 1 - (1 - alarm_rate) ** window
