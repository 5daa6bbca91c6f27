"""What one accuracy hides: the worst mechanism, the same stock-days with nothing planted, names of what alarms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from anomaly_routing.attribution import REACH, Garden, Grade, category_signal, mean_size
from anomaly_routing.data.plants import MECHANISMS, PAPER
from anomaly_routing.evaluation.injection import FALSE_ALARMS, ranks, top1
from anomaly_routing.taught_gate import TaughtGate

BY_LUCK = "seen and named, nothing planted"
SHARES = ("nothing planted", "seen and named", BY_LUCK, "one stock-day")
TAUGHT, PLAIN, ERROR = "taught gate", "largest mean |feature|", "largest expert error"
REPAIRED = "repaired model"  # by its own routing weights
UNTAUGHT = "same network untaught"  # as large as the repaired one, trained as long, without its loss
MENDED = (REPAIRED, TAUGHT)


@dataclass(frozen=True)
class Method:
    """Scores [n] and weights [n, K] of stock-days [n, F]."""

    score: Callable[[np.ndarray], np.ndarray]
    weights: Callable[[np.ndarray], np.ndarray]


def methods(gate: TaughtGate, garden: Garden) -> dict[str, Method]:
    """The taught gate and the plain rule."""
    tensors = garden.ground.tensors
    return {
        PLAIN: Method(mean_size, lambda x: category_signal(x, tensors)),
        TAUGHT: Method(gate.score, gate.weights),
    }


def undisturbed(garden: Garden) -> Garden:
    """The same stock-days with nothing planted: what a method says of them is its placebo."""
    tensors, planted = garden.ground.tensors, []
    for p in garden.planted:
        graded, window = (slice(p.plant.onset - back, p.plant.last + 1) for back in (0, REACH))
        quoted = slice(window.start - 1, window.stop)
        before = {"returns": tensors.returns[quoted], "log_volume": tensors.log_volume[quoted]}
        planted.append(replace(p, x=tensors.x[window], stress=tensors.stress[graded], **before))
    return replace(garden, planted=planted)


def mechanism_table(gardens: Mapping[str, Garden], gate: TaughtGate) -> pd.DataFrame:
    """One row a set, method and mechanism, at medium strength.

    named right : the largest of the means over all planted stock-days names the mechanism; with its exact interval.
    nothing planted : share of plants whose stock-days get that name without the plant. seen and named : a planted
    stock-day is among the alarms at five false alarms in a hundred, and the means over those that are name it; a plant
    has many stock-days, so the same without the plant stands beside it. one stock-day : share of single planted
    stock-days that are named right, mean over plants.
    """
    rows = []
    for shapes, whole in gardens.items():
        garden = whole.part((whole.strength == "medium") & (whole.truth >= 0) & (whole.truth < len(PAPER)))
        for title, method in methods(gate, garden).items():
            found = _by_plant(garden, method)
            for k, name in enumerate(PAPER):
                mine = garden.truth == k
                if mine.any():
                    accuracy = top1(found["values"][mine], garden.truth[mine])
                    row = {"set": shapes, "method": title, "mechanism": MECHANISMS[name].label}
                    row |= {"plants": int(mine.sum()), "named right": accuracy["top1"]}
                    row |= dict(zip(("95% low", "95% high"), accuracy["top1_interval"], strict=True))
                    shares = {c: float(found[c][mine].mean()) for c in SHARES}
                    rows.append(row | shares)
    return pd.DataFrame(rows)


def _by_plant(garden: Garden, method: Method) -> dict[str, np.ndarray]:
    """values [P, K] and, under each of `SHARES`, [P] shares or 0 and 1."""
    tensors = garden.ground.tensors
    calm = method.score(tensors.x[garden.calm][tensors.active[garden.calm]])
    own, before = (
        [p.x[REACH:][marks] for p, marks in zip(g.planted, garden.marks, strict=True)]
        for g in (garden, undisturbed(garden))
    )
    ends = np.cumsum([len(x) for x in own])[:-1]
    alarms, false = (
        np.split(ranks(method.score(np.concatenate(x)), calm) > 1 - FALSE_ALARMS, ends) for x in (own, before)
    )
    planted, placebo = (np.split(method.weights(np.concatenate(x)), ends) for x in (own, before))
    values, shares = [], {name: [] for name in SHARES}
    for weights, usual, alarm, luck, k in zip(planted, placebo, alarms, false, garden.truth, strict=True):
        values.append(weights.mean(0))
        shares["nothing planted"].append(usual.mean(0).argmax() == k)
        shares["seen and named"].append(alarm.any() and weights[alarm].mean(0).argmax() == k)
        shares[BY_LUCK].append(luck.any() and usual[luck].mean(0).argmax() == k)
        shares["one stock-day"].append((weights.argmax(1) == k).mean())
    return {"values": np.array(values)} | {name: np.array(found, float) for name, found in shares.items()}


def repaired_rows(
    gardens: Mapping[str, Garden], grades: Mapping[str, Grade], usual: Mapping[str, Grade]
) -> pd.DataFrame:
    """Rows of `mechanism_table` for the repaired model, by its weights. gardens : of plants of medium strength alone;
    grades, usual : its grades of them and of the `undisturbed` ones, with what single stock-days say
    (`attribution_variants.by_day`).
    """
    rows = []
    for shapes, garden in gardens.items():
        own, before = grades[shapes].by_rule, usual[shapes].by_rule
        for k, name in enumerate(PAPER):
            mine = garden.truth == k
            if mine.any():
                accuracy = top1(own["w"][mine], garden.truth[mine])
                row = {"set": shapes, "method": REPAIRED, "mechanism": MECHANISMS[name].label}
                row |= {"plants": int(mine.sum()), "named right": accuracy["top1"]}
                row |= dict(zip(("95% low", "95% high"), accuracy["top1_interval"], strict=True))
                row["nothing planted"] = float((before["w"][mine].argmax(1) == k).mean())
                row["seen and named"], row[BY_LUCK] = (_named(of["seen"][mine], k) for of in (own, before))
                rows.append(row | {"one stock-day": float(own["day"][mine, k].mean())})
    return pd.DataFrame(rows)


def _named(weights: np.ndarray, expert: int) -> float:
    """Share of plants that alarm, whose weights [P, K] are not all zero, and get this expert's name."""
    return float((weights.any(1) & (weights.argmax(1) == expert)).mean())


def worst(table: pd.DataFrame, shapes: str, method: str = TAUGHT) -> pd.Series:
    """The row of the mechanism that a method names least often in a set."""
    return table[(table.set == shapes) & (table.method == method)].sort_values("named right", kind="stable").iloc[0]


def by_default(table: pd.DataFrame, shapes: str, method: str = TAUGHT) -> pd.Series:
    """The row of the mechanism whose own plants get its name most often with nothing planted."""
    mine = table[(table.set == shapes) & (table.method == method)]
    return mine.sort_values("nothing planted", kind="stable").iloc[-1]


def without_default(table: pd.DataFrame, shapes: str, method: str = TAUGHT) -> float:
    """Named right over the mechanisms other than `by_default`, whose name is no evidence; NaN without any other."""
    mine = table[(table.set == shapes) & (table.method == method)]
    if len(mine) < 2:
        return float("nan")
    others = mine[mine.mechanism != by_default(table, shapes, method).mechanism]
    return float(np.average(others["named right"], weights=others.plants))


def overall(table: pd.DataFrame, shapes: str, column: str, method: str = TAUGHT) -> float:
    """A column over all plants of a set."""
    mine = table[(table.set == shapes) & (table.method == method)]
    return float(np.average(mine[column], weights=mine.plants))
