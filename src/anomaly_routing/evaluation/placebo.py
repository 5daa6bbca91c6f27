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
    guards = np.zeros_like(windows) if guards is None else guards
    used = [split for split in splits if (windows | guards)[:, split].any()]
    if not any(split.sum() > 1 for split in used):
        return None
    hits = _hits_of_all_shifts(alarms, windows, guards, used)
    shifted = hits[tuple(slice(min(1, n - 1), None) for n in hits.shape)]  # a split of one session stays where it is
    at_least = int((shifted >= hits.flat[0]).sum())
    return Placebo((1 + at_least) / (1 + shifted.size), float(shifted.mean()), shifted.size)


def _hits_of_all_shifts(
    alarms: np.ndarray, windows: np.ndarray, guards: np.ndarray, splits: list[np.ndarray]
) -> np.ndarray:
    """Number of hits under every combination of offsets; int [n_1, n_2, ...], offset 0 first."""
    caught = [_shifted_counts(alarms[split], windows[:, split]) for split in splits]
    spoilt = [_shifted_counts(alarms[split], guards[:, split]) for split in splits]
    reaches = np.stack([(windows | guards)[:, split].any(axis=1) for split in splits])
    alone = reaches.sum(axis=0) == 1
    own = [
        ((alarm[here & alone] > 0) & (guard[here & alone] == 0)).sum(axis=0)
        for alarm, guard, here in zip(caught, spoilt, reaches, strict=True)
    ]
    hits = reduce(np.add.outer, own)
    for event in np.flatnonzero(reaches.sum(axis=0) > 1):  # its window lies across a border: both offsets matter
        alarm, guard = (reduce(np.add.outer, [counts[event] for counts in part]) for part in (caught, spoilt))
        hits += (alarm > 0) & (guard == 0)
    return hits


def _shifted_counts(alarms: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Alarms inside each window when the series is rotated by 0..n-1 sessions; int [E, n]."""
    n = len(alarms)
    spectrum = np.fft.rfft(windows, axis=1) * np.conj(np.fft.rfft(alarms))
    return np.rint(np.fft.irfft(spectrum, n=n, axis=1)).astype(int)


def chance_hit_rate(alarm_rate: float, window: int = 5) -> float:
    """Chance that a window holds an alarm when sessions alarm independently: 1 - (1 - q)^window (AUDIT A17).

    `alarm_rate` q and the result in [0, 1]: 22.6% at q = 5% and five sessions, 40.1% for two independent channels.
    Real alarms cluster, which lowers it; `circular_shift` keeps the clustering.
    """
    return 1 - (1 - alarm_rate) ** window
