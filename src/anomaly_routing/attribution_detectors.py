"""Registered detectors graded on plants: fitted on the undisturbed market, shown the planted stretches end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_routing.attribution import REACH, Garden, Grade, belongs_to, stored_grade
from anomaly_routing.baselines.registry import Detector, Entry, create
from anomaly_routing.baselines.registry import detectors as registry
from anomaly_routing.evaluation.injection import ranks
from anomaly_routing.panel import Panel
from anomaly_routing.planting import Planted
from anomaly_routing.tensors import Tensors

LEAD = REACH + 1  # rows of a stretch before its graded sessions; the first has returns and volumes, no features
ANOTHER_SCORE = (
    f"a stretch cut out of the undisturbed market gets another score than the market: it looks back more than {LEAD} "
    "sessions, learns or draws as it goes, or reads what a stretch does not carry"
)


def graded_detectors(
    garden: Garden,
    folder: Path,
    *,
    names: list[str],
    neural: list[str],
    epochs: int,
    max_rows: int,
    seed: int = 0,
) -> tuple[dict[str, Grade], pd.DataFrame]:
    """Every registered detector that can be graded, and a table of the others with the reason.

    names : graded alone; empty for all. neural : of the stage `deep_baselines`, those that are fitted, for `epochs`
    epochs. What is trained in epochs is kept in `folder`, so that nothing is fitted twice.
    """
    entries, seen, left_out = registry(), {}, []
    if unknown := sorted({*names, *neural} - set(entries)):
        raise ValueError(f"no detector {', '.join(unknown)}; there are: {', '.join(entries)}")
    for name in tqdm(entries, desc="detectors", unit="detector"):
        entry = entries[name]
        if entry.family == "full model":
            reason = "graded from its checkpoint, where there is one"
        elif names and name not in {*names, *neural}:
            reason = "not among the parameter `detectors`"
        elif entry.stage == "deep_baselines" and name not in neural:
            reason = "a neural baseline that is not among the parameter `neural`"
        else:
            given = {"max_rows": max_rows, "epochs": epochs, "device": "cpu"}
            params = {key: value for key, value in given.items() if key in entry.parameters}
            grade = _kept(garden, entry, folder, seed, params) if "epochs" in params else None
            grade = grade or grade_detector(garden, entry, seed, **params)
            reason = grade.reason
            if not reason:
                seen[name] = grade
        if reason:
            left_out.append({"detector": name, "family": entry.family, "reason": reason})
    return seen, pd.DataFrame(left_out, columns=["detector", "family", "reason"])


def _kept(garden: Garden, entry: Entry, folder: Path, seed: int, params: dict[str, Any]) -> Grade:
    """The kept grade of a detector that is trained in epochs."""
    settings = {key: value for key, value in (entry.parameters | params).items() if key != "device"}
    belongs = {"method": entry.name, "parameters": settings, "seed": seed, "method_numerics": entry.numerics}
    return stored_grade(
        folder,
        f"detector-{entry.name}",
        belongs_to(garden) | belongs,
        lambda: grade_detector(garden, entry, seed, **params),
    )


def grade_detector(garden: Garden, entry: Entry, seed: int = 0, **params: Any) -> Grade:
    """Fit a registered detector on the training sessions and grade it; without ranks, with the reason, if it cannot be.

    A detector that refuses the panel (ValueError) is left out for the reason that it gives.
    """
    whole = panel_of(garden)
    if lack := entry.missing(whole):
        return Grade([], reason=lack)
    if market_wide := [r for r in entry.requires if r.startswith("benchmark") or r == "stress"]:
        return Grade([], reason=f"a stretch does not carry {', '.join(market_wide)}")
    try:
        return grade_fitted(garden, create(entry.name, seed=seed, **params).fit(whole, garden.ground.tensors.train))
    except ValueError as error:
        return Grade([], reason=f"refuses: {error}")


def panel_of(garden: Garden) -> Panel:
    """The undisturbed market with its sectors."""
    return replace(garden.ground.tensors.panel(), sector=garden.ground.universe["sector"].to_numpy(object))


def grade_fitted(garden: Garden, detector: Detector) -> Grade:
    """Grade a fitted detector; without ranks, with the reason, if a stretch does not carry what it needs.

    The planted stretches are joined to one long panel. A detector that gives an undisturbed stretch another score
    than the market has for it looks back further than a stretch reaches, and is not graded.
    """
    tensors, whole = garden.ground.tensors, panel_of(garden)
    usual = detector.decision_function(whole)
    calm = usual[garden.calm][tensors.active[garden.calm]]
    ends = np.flatnonzero(garden.calm)[:: max(1, garden.calm.sum() // 20)]
    alike = _with_everybody(tensors, [_stretch(tensors, t) for t in ends])
    again = detector.decision_function(_joined(whole, alike))[LEAD :: LEAD + 1][: len(ends)]
    if not np.allclose(again, usual[ends], rtol=1e-3, atol=1e-5, equal_nan=True):
        return Grade([], reason=ANOTHER_SCORE)
    if missing := int((~np.isfinite(calm)).sum()):
        return Grade([], reason=f"has no score for {missing} of {len(calm)} calm stock-days")
    found = detector.decision_function(_joined(whole, _with_everybody(tensors, garden.planted)))
    rank, row = [], 0
    for marks in garden.marks:
        row += LEAD
        rank.append(ranks(found[row : row + len(marks)][marks].astype(float), calm.astype(float)))
        row += len(marks)
    return Grade(rank, {}, len(calm))


def _stretch(tensors: Tensors, end: int) -> Planted:
    """The undisturbed sessions end-19 .. end, as if something had been planted."""
    rows, quoted = slice(end - REACH, end + 1), slice(end - LEAD, end + 1)
    return Planted(
        None, tensors.x[rows], tensors.active[end : end + 1], tensors.stress[end : end + 1],
        tensors.returns[quoted].astype(float), tensors.log_volume[quoted].astype(float),
    )  # fmt: skip


def _with_everybody(tensors: Tensors, stretches: list[Planted]) -> list[Planted]:
    """The stretches, and behind them an undisturbed one for each stock that trades in none: a trained detector refuses
    a panel in which a stock is never active."""
    absent = ~np.any([s.active.any(0) for s in stretches], axis=0)
    last = [LEAD + np.flatnonzero(tensors.active[LEAD:, i])[-1] for i in np.flatnonzero(absent)]
    return [*stretches, *(_stretch(tensors, end) for end in dict.fromkeys(last))]


def _joined(panel: Panel, stretches: list[Planted]) -> Panel:
    """Stretches one after the other, on made-up dates; all rows active wherever the last ones are."""
    active = [np.concatenate([np.repeat(s.active[:1], LEAD, 0), s.active]) for s in stretches]
    rows = sum(map(len, active))
    return replace(
        panel,
        sessions=pd.bdate_range("2000-01-03", periods=rows),
        x=np.concatenate([part for s in stretches for part in (np.zeros_like(s.x[:1]), s.x)]),
        active=np.concatenate(active),
        returns=np.concatenate([s.returns for s in stretches]),
        log_volume=np.concatenate([s.log_volume for s in stretches]),
        benchmarks=pd.DataFrame(index=pd.bdate_range("2000-01-03", periods=rows)),
        stress=None,
    )
