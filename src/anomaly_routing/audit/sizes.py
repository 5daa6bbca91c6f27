"""Sizes and orders of magnitude that the paper's own settings fix (A59, A61, A62, A67, A68, A70-A72, A80, A87, A88,
A94, A95, A97, A98)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.audit import shapes
from anomaly_routing.audit.calendar import session_before

FEATURES, LOOKBACK = 29, 20  # of a stock; sessions that the rolling ones see (paper C.1)


def steps_per_epoch(sessions: int, stocks: int, batch: int) -> dict[str, int]:
    """What a batch holds -> optimiser steps in one pass over all sessions (A68)."""
    return {
        f"{batch} days": -(-sessions // batch),
        f"{batch} stock-days": -(-sessions * stocks // batch),
        f"{batch} stocks of a day": sessions * -(-stocks // batch),
    }


def slope_reached(steps: Mapping[str, int], epochs: float, rate: float, start: float) -> pd.DataFrame:
    """Where a slope is after training, if every step of Adam lowers it by the rate: a rule of thumb and no bound, since
    a step can exceed the rate (Kingma and Ba 2015, 2.1). One row a reading of the batch (A49)."""
    rows = [(name, n, n * epochs, start - n * epochs * rate) for name, n in steps.items()]
    return pd.DataFrame(rows, columns=["a batch holds", "steps an epoch", "steps", "slope, about"])


def largest_diversity_term(gamma: float, weights: int) -> float:
    """Of gamma times the entropy of so many weights: that of equal ones (A59)."""
    return gamma * float(np.log(weights))


def first_reconstruction(horizons: Sequence[int], sizes: Sequence[int] = shapes.SIZES) -> float:
    """Sum of error norms when features of unit variance are reconstructed as zero: one norm of all features a horizon
    (each a mean over its days) and one a category (A59)."""
    return len(horizons) * FEATURES**0.5 + sum(size**0.5 for size in sizes)


def windows_with(horizons: Sequence[int]) -> list[int]:
    """How many of the windows x_{t-h+1..t} hold x_t, x_{t-1}, ... (A62)."""
    return [sum(lag < h for h in horizons) for lag in range(max(horizons))]


def fewest_among(hits: int, n: int, group: int) -> int:
    """The least number of a group's events among `hits` of `n`: all misses may lie in the group (A94)."""
    return max(0, hits - (n - group))


def small_arguments(
    value: Mapping[str, Any], dates: Mapping[str, str], n_banking: int, validation: int, sessions: pd.DatetimeIndex
) -> pd.DataFrame:
    """One row an entry that a line of arithmetic decides: entry, question, computed, printed.

    value : claim -> the paper's. dates : the printed event dates. validation : number of sessions of that split.
    """
    windows = sorted(int(name.split(".")[1]) for name in value if name.startswith("T8.") and name.endswith(".rate"))
    sizes, horizons, cuts = shapes.SIZES, value["S3.horizons"], value["S3.levels"]
    gate = shapes.attention(256) + shapes.mlp(517, 256, 128, 4)
    years = sorted(int(part[:4]) for text in dates.values() for part in text.split(".."))
    quiet = [f"L{k}" for k, end in enumerate(cuts) if end <= value["S2.threshold"]]  # L0 ends at the first cut
    after, before = session_before(pd.Timestamp(value["S41.date.svb"]), value["ABS.lead"], sessions)
    four, six = (value[f"D2.maxw{k}"] for k in (4, 6))
    single, own = (value[f"S44.crwd.err_{name}"] for name in ("uniform", "liq"))
    effect = value["T2.full.rate"] - value["T2.no_div.rate"]
    term = largest_diversity_term(value["S3.gamma1"], len(sizes))
    known = fewest_among(value["T1.tranad.hits"], value["S41.n_events"], n_banking)
    rows = [
        ("A59", "largest diversity term", term, f"{effect:.1f} points"),
        ("A59", "reconstruction loss at the start, beside it", first_reconstruction(horizons), ""),
        ("A61", "Liquidity over Price-Shock error, features equally wrong", (sizes[1] / sizes[0]) ** 0.5, ""),
        ("A62", "days in t-h..t; the sum over them has", [h + 1 for h in horizons], horizons),
        ("A62", "windows that hold the last day, the day before, ...", windows_with(horizons), ""),
        ("A67", "validation days above each cut", [(100 - cut) / 100 * validation for cut in cuts], cuts),
        ("A70", "best epoch of the average training", value["T5.epochs_avg"] - value["S3.patience"], ""),
        ("A71", "columns of the reconstructions said to correlate", sizes[:2], value["S44.collapse_r"]),
        ("A71", "epochs of an average training; of the collapse", value["T5.epochs_avg"], value["S44.collapse_epoch"]),
        ("A72", "largest weight over an equal one: four, six experts", [4 * four, 6 * six], [four, six]),
        ("A80", "parameters of the gate; of the whole", gate, value["C.params.total"]),
        ("A87", "levels that are no alarm", quiet, value["S42.gme_level"]),
        ("A88", "years of the dated events; of the test", f"{years[0]}-{years[-1]}", value["S41.test_years"]),
        ("A94", f"of {n_banking} bank events its best baseline has at least", known, ""),
        ("A95", "Liquidity error over the most that the single expert has there", own / single, [own, single]),
        ("A97", "sessions that a window reaches back; its length", [w + LOOKBACK for w in windows], windows),
        ("A97", "first samples it lacks", [w - windows[0] for w in windows], ""),
        ("A98", "session of an alarm with the printed lead", f"{before:%d %B} to {after:%d %B}", value["ABS.lead"]),
    ]  # fmt: skip
    told = [(entry, question, _text(ours), _text(theirs)) for entry, question, ours, theirs in rows]
    return pd.DataFrame(told, columns=["entry", "question", "computed", "printed"])


def _text(figure: Any) -> str:
    """At most four significant digits; a list with commas."""
    if isinstance(figure, list | tuple):
        return ", ".join(map(_text, figure))
    return f"{figure:.4g}" if isinstance(figure, float) else f"{figure:,}" if isinstance(figure, int) else str(figure)
