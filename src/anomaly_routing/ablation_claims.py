"""The paper's sentences about single variants, answered as soon as the run store has what each asks for.

A question names its variants; the first tier that has a common seed of all of them answers it, as the mean over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.ablations import REFERENCE
from anomaly_routing.evaluation.detection import detect, detection_windows
from anomaly_routing.evaluation.readings import raise_alarms
from anomaly_routing.ledger.answers import BETWEEN, answer
from anomaly_routing.ledger.intervals import over_seeds
from anomaly_routing.panel import Splits
from anomaly_routing.runs import Run, read_run
from anomaly_routing.scoreboard import channels

SVB = "E01"  # in `events.yaml`
OUTAGE = ("CRWD", "2024-07-19")
LIQUIDITY = 1  # place of its expert
FIXED = {"alpha0": 0.0, "fixed05": 0.5, "alpha1": 1.0}  # variant -> the weight of the prior that it holds
STILL = 1e-8  # mean squared change of weights that do not move: a gate that gives every stock-day to one expert
Found = dict[str, dict[tuple[str, int], Path]]  # tier -> (variant, seed) -> file


@dataclass(frozen=True)
class Trained:
    """A stored run as the questions see it. events, splits : the market's."""

    path: Path
    events: pd.DataFrame
    splits: Splits

    @cached_property
    def run(self) -> Run:
        return read_run(self.path)

    @property
    def best(self) -> dict[str, Any]:
        """The log of the epoch that the validation rule chose: losses of its training batches, `smooth` among them, and
        diagnostics of the validation stock-days."""
        epoch = self.run.info["best"]["val"]["epoch"]
        return next(line for line in self.run.info["history"] if line["epoch"] == epoch)

    @property
    def losses(self) -> np.ndarray:
        """Training loss by epoch; a lean run keeps it apart from the log."""
        info = self.run.info
        return np.array(info["losses"]["rec"] if "losses" in info else [line["rec"] for line in info["history"]])

    @property
    def setbacks(self) -> float:
        """Share of the epochs that end with a larger training loss than the one before."""
        return float((np.diff(self.losses) > 0).mean())

    def lead(self, event: str) -> float:
        """Sessions from the first alarm to the event under protocol `paper`, 0 without one; NaN without a verdict."""
        own = self.events[self.events.id == event]
        if own.empty:
            return np.nan
        alarms = raise_alarms(channels(self.run, "paper"), own, self.splits, "validation")
        windows = detection_windows(alarms.days.sessions, alarms.events.positions)
        found = detect(alarms.alarm, alarms.judged, alarms.events.positions, windows)
        if not found.judged[0]:
            return np.nan
        return float(found.lead[0]) if found.hit[0] else 0.0

    def error(self, ticker: str, day: str, expert: int) -> float:
        """An expert's error for a stock on a session; NaN in a run that does not keep it."""
        days = pd.DatetimeIndex(self.run.extras.get("days", []))
        if "expert_error" not in self.run.extras or pd.Timestamp(day) not in days or ticker not in self.run.tickers:
            return np.nan
        return float(self.run.extras["expert_error"][days.get_loc(day), self.run.tickers.index(ticker), expert])


@dataclass(frozen=True)
class Question:
    """variants : whose runs of one seed `measure` takes, in this order. by : as in `Finding`. note : what it is."""

    variants: tuple[str, ...]
    measure: Callable[..., float]
    by: str
    note: str


QUESTIONS = {
    "S3.lsmooth": Question(
        ("no_smooth", REFERENCE),
        lambda without, full: _still(without.best["smooth"]) - _still(full.best["smooth"]),
        "direction",
        "mean squared change of the weights in a session, training batches of the best epoch, without the term minus "
        "with it; weights that do not move at all count as zero",
    ),
    "S44.fixed_delays": Question(
        ("fixed05", REFERENCE),
        lambda fixed, full: full.lead(SVB) - fixed.lead(SVB),
        "direction",
        "sessions of lead lost before the closure; no alarm counts as no lead",
    ),
    "S44.collapse_r": Question(
        ("no_div",),
        lambda run: run.best["corr_l1_l2"],
        "",
        "correlation of the two experts' errors over validation stock-days, best epoch",
    ),
    "S44.collapse_weight": Question(
        ("no_div",), lambda run: run.best["mean_w"][0], "", "mean weight over validation stock-days, best epoch"
    ),
    "S44.single_misses_liq": Question(
        ("no_moe", REFERENCE),
        lambda single, full: full.error(*OUTAGE, LIQUIDITY) - single.error(*OUTAGE, 0),
        "direction",
        "Liquidity expert's error minus the single one's over all features; its part on liquidity is smaller yet (A95)",
    ),
    "T4.lr_unstable": Question(
        ("learning_rate_0.01", REFERENCE),
        lambda fast, full: fast.setbacks - full.setbacks,
        "direction",
        "share of epochs that raise the training loss, minus that at the default rate; a training that diverges is not "
        "stored",
    ),
    "D2.maxw6": Question(
        ("six_experts",), lambda run: run.best["mean_max_w"], "", "mean over validation stock-days, best epoch"
    ),
}


def variant_answers(found: Found, events: pd.DataFrame, splits: Splits) -> list[dict[str, Any]]:
    """The questions whose runs are there. found : tiers in the order in which they are asked."""
    lines = (_answered(name, question, found, events, splits) for name, question in QUESTIONS.items())
    return [line for line in lines if line]


def _answered(
    name: str, question: Question, found: Found, events: pd.DataFrame, splits: Splits
) -> dict[str, Any] | None:
    for tier, runs in found.items():
        values, devices = [], set()
        for seed in _common(runs, question.variants):
            parts = [Trained(runs[variant, seed], events, splits) for variant in question.variants]
            if np.isfinite(value := question.measure(*parts)):
                values.append(value)
                devices |= {part.run.info["device"] for part in parts}
        if values:
            how = {"n_seeds": len(values), "tier": tier, "device": "/".join(sorted(devices))} | over_seeds(values)
            if "by_seed" in how:
                how["by_seed"] = BETWEEN.join(map(repr, how["by_seed"]))
            return answer(name, float(np.mean(values)), question.by, note=question.note, **how)
    return None


def fixed_weights(found: Found, events: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """How many sessions ahead each of `FIXED` announces the closure, 0 without an alarm: a row a seed and weight.

    Of the first tier with seeds that all of them have; without rows where there is none, or no verdict on the event.
    """
    columns = ["tier", "device", "seed", "alpha", "lead"]
    for tier, runs in found.items():
        rows = []
        for seed in _common(runs, tuple(FIXED)):
            for variant, alpha in FIXED.items():
                trained = Trained(runs[variant, seed], events, splits)
                rows.append((tier, trained.run.info["device"], seed, alpha, trained.lead(SVB)))
        if rows:
            return pd.DataFrame(rows, columns=columns).dropna()
    return pd.DataFrame(columns=columns)


def _still(change: float) -> float:
    return change if change > STILL else 0.0


def _common(runs: Iterable[tuple[str, int]], variants: tuple[str, ...]) -> list[int]:
    """Seeds that every variant has."""
    seeds = [{seed for variant, seed in runs if variant == wanted} for wanted in variants]
    return sorted(set.intersection(*seeds))
