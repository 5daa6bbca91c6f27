"""The catalogue page's detector against its adjectives, which come without a number (B02).

One rule for all: "high" and "accurate" mean more than half of the way from chance to perfect; "robust", that a smaller
share of that way is lost than the noise is of the signal.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import adjusted_rand_score

from anomaly_routing.attribution import Garden, Grade, belongs_to, stored_grade, summary
from anomaly_routing.attribution_detectors import LEAD, grade_fitted, panel_of
from anomaly_routing.baselines.metric_learning.clustering import nearest
from anomaly_routing.baselines.metric_learning.metric_vmf import MetricVMF
from anomaly_routing.baselines.metric_learning.windows import Windows
from anomaly_routing.ledger.answers import answer
from anomaly_routing.ledger.intervals import t_interval
from anomaly_routing.panel import Panel, plain_panel

HALFWAY = 0.5
FALSE_ALARMS = 0.05
NOISE = (0.1, 0.25, 0.5)  # SD of the noise, in SDs of a stock's own returns and log volumes in training
WAVES = (23, 7)  # sessions


def skill(value: float, chance: float) -> float:
    """Share of the way from chance to perfect (1)."""
    return (value - chance) / (1 - chance)


# --- does it tell series of different attributes apart? ---------------------------------------------------------------
def labelled_series(seed: int, each: int = 4, sessions: int = 400) -> tuple[Panel, np.ndarray]:
    """Three groups of stocks: slow waves that volume goes along with, fast waves that it goes against, random walks
    without any tie. Returns the panel and the group of each stock."""
    rng, group = np.random.default_rng(seed), np.repeat(np.arange(3), each)
    day, n = np.arange(sessions)[:, None], 3 * each
    wave = np.sin(2 * np.pi * day / np.where(group == 0, *WAVES) + rng.uniform(0, 6, n))
    walk = rng.normal(size=(sessions, n)).cumsum(0) / 10
    price = 0.05 * np.where(group == 2, walk, wave) + 0.004 * rng.normal(size=(sessions, n))
    tied = np.where(group == 0, wave, np.where(group == 1, -wave, rng.normal(size=(sessions, n))))
    volume = 13 + 0.4 * tied + 0.04 * rng.normal(size=(sessions, n))
    return plain_panel(np.diff(price, axis=0, prepend=price[:1]), volume), group


@torch.no_grad()
def clusters_of(detector: MetricVMF, panel: Panel, rows: np.ndarray) -> np.ndarray:
    """The cluster of each stock-day [M, 2] in the learned metric."""
    windows = Windows(panel, detector.window, tuple(detector.modalities))(rows)
    scaled = torch.as_tensor(windows) / detector.net.scale[torch.as_tensor(rows[:, 1]), None]
    return nearest(detector.net(scaled.float()).double().numpy(), detector.net.centres.numpy())


def grouping(seed: int, epochs: int) -> float:
    """Adjusted Rand index of the clusters against the groups, on later sessions: 0 by chance, 1 exact."""
    panel, group = labelled_series(seed)
    day = np.arange(len(panel.sessions))
    fitted = MetricVMF(seed=seed, epochs=epochs, device="cpu").fit(panel, (day >= 20) & (day < 250))
    rows = np.argwhere(panel.active & (day >= 270)[:, None])
    return float(adjusted_rand_score(group[rows[:, 1]], clusters_of(fitted, panel, rows)))


# --- what it makes of planted anomalies -------------------------------------------------------------------------------
def noisy(garden: Garden, level: float, seed: int = 0) -> Garden:
    """The same market and plants with Gaussian noise of `level` SDs on returns and log volumes."""
    rng, tensors = np.random.default_rng(seed), garden.ground.tensors

    def disturb(values: np.ndarray, of: np.ndarray) -> np.ndarray:
        sd = np.nan_to_num(np.nanstd(np.where(tensors.train[:, None], of, np.nan), axis=0))
        return (values + level * sd * rng.standard_normal(values.shape)).astype(values.dtype)

    def both(of: Any, skip: int = 0) -> dict[str, np.ndarray]:
        names = ("returns", "log_volume")
        return {
            n: np.concatenate([getattr(of, n)[:skip], disturb(getattr(of, n)[skip:], getattr(tensors, n))])
            for n in names
        }

    market = replace(tensors, **both(tensors))
    planted = [replace(p, **both(p, skip=1)) for p in garden.planted]  # the detector does not read the first
    return replace(garden, ground=replace(garden.ground, tensors=market), planted=planted)


def carried(garden: Garden) -> Garden:
    """The same with what the detector puts in place of a session without a trade: no return, the last known volume.

    A stretch that begins with such a session would take the volume from the stretch before it.
    """
    tensors, planted = garden.ground.tensors, []
    volume = pd.DataFrame(tensors.log_volume).ffill().to_numpy()
    for p in garden.planted:
        before = volume[[p.plant.onset - LEAD - 1]]
        own = pd.DataFrame(np.concatenate([before, p.log_volume])).ffill().to_numpy()[1:]
        planted.append(replace(p, returns=np.nan_to_num(p.returns), log_volume=own))
    market = replace(tensors, returns=np.nan_to_num(tensors.returns), log_volume=volume)
    return replace(garden, ground=replace(garden.ground, tensors=market), planted=planted)


def metric_grades(garden: Garden, folder: Path, epochs: int, seed: int = 0) -> dict[float, Grade]:
    """Level of noise (0: none) -> grade of the detector, fitted once on the market without noise; kept in `folder`."""

    @cache
    def fitted() -> MetricVMF:
        detector = MetricVMF(seed=seed, epochs=epochs, device="cpu")
        return detector.fit(panel_of(garden), garden.ground.tensors.train, label="metric_vmf")

    def kept(level: float) -> Grade:
        where = carried(noisy(garden, level) if level else garden)
        belongs = belongs_to(garden) | {"epochs": epochs, "seed": seed, "noise": level}
        name = "metric_vmf" + (f"-noise{level:g}" if level else "")
        return stored_grade(folder, name, belongs, lambda: grade_fitted(where, fitted()))

    return {level: kept(level) for level in (0.0, *NOISE)}


def metric_answers(
    garden: Garden, grades: dict[float, Grade], rand: list[float], others: pd.DataFrame, how: dict[str, Any]
) -> list[dict[str, Any]]:
    """Lines for the ledger. rand : `grouping` by seed. others : board of the detectors graded on the same plants.
    how : tier, device."""
    found = {level: summary(garden, grade) for level, grade in grades.items()}
    clean, one = found.pop(0.0), how | {"n_seeds": 1}
    low, high = t_interval(np.array(rand) - HALFWAY)
    lost = {level: _lost(clean["auroc"], figures["auroc"]) for level, figures in found.items()}
    kept = [share < level for level, share in lost.items()]
    told = ", ".join(f"{share:.0%} at {level:g} SD" for level, share in lost.items())

    recall, auroc = clean["recall_at_5"], clean["auroc"]
    beside = {name: others[name].median() for name in ("recall at 5%", "AUROC")}
    rule, rest = "more than half of the way from chance to perfect", "median of the other detectors"
    notes = {
        "classify": f"{rule}: adjusted Rand index {np.mean(rand):.2f} on made-up series of three kinds, over draws",
        "sensitivity": f"{rule}: recall {recall:.2f} at 5% false alarms; {rest} {beside['recall at 5%']:.2f}",
        "accuracy": f"{rule}: AUROC {auroc:.2f}; {rest} {beside['AUROC']:.2f}",
        "robust": f"loses a smaller share of its lead over chance than the noise is of the signal: {told}",
    }
    notes = {f"Z000.res.{name}": note for name, note in notes.items()}

    def line(name: str, *found: Any, **own: Any) -> dict[str, Any]:
        return answer(name, *found, note=notes[name], **one | own)

    return [
        line("Z000.res.classify", float(np.mean(rand)) - HALFWAY, "direction", low=low, high=high, n_seeds=len(rand)),
        line("Z000.res.sensitivity", skill(recall, FALSE_ALARMS) - HALFWAY, "direction"),
        line("Z000.res.accuracy", skill(auroc, 0.5) - HALFWAY, "direction"),
        line("Z000.res.robust", all(kept), part=float(np.mean(kept))),
    ]


def _lost(clean: float, disturbed: float) -> float:
    """Share of the lead over chance that is gone; all of it where there was none."""
    return 1 - (disturbed - 0.5) / (clean - 0.5) if clean > 0.5 else 1.0
