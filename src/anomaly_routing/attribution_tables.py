"""The tables of notebook 08."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.attribution import Garden, Grade, part_of, summary
from anomaly_routing.data.bars import Bars
from anomaly_routing.data.draw_plants import plant_table
from anomaly_routing.data.plants import MECHANISMS, PAPER, SETS, STRENGTHS, mechanisms
from anomaly_routing.data.simulate_events import MECHANISMS as SIMULATED
from anomaly_routing.evaluation.injection import paired

LARGEST_TABLE = 150_000  # bytes of a committed table of plants
LIKENESS = {  # of the shapes of `main` and `twin` to the lessons' (a test compares the figures that this rests on)
    "price_shock": "main: the lesson's jump itself, with another volume; twin: overnight and in two steps",
    "liquidity": "both: the range is stretched around unchanged closes; the lesson widens quotes, closes bounce too",
    "contagion": "both: returns give way to a common falling factor, the lesson pushes them along a decaying profile",
    "momentum": "main: the lesson's constant trend, longer, then a turn; twin: a trend that accelerates",
}
CLOSE = ("price_shock", "momentum")  # mechanisms whose main shape is close to the lesson


def shape_table() -> pd.DataFrame:
    """The paper's mechanisms: what the taught gate's lessons hold, what is planted in each set, how alike they are."""

    def lesson(name: str) -> str:
        profiles = {k: v for k, v in SIMULATED[name].channels.items() if np.any(v)}
        told = [f"{k} {' '.join(f'{x:g}' for x in v)}" for k, v in profiles.items()]
        return ", ".join(told) + (f", shared {SIMULATED[name].shared:g}" if SIMULATED[name].shared else "")

    def planted(name: str, shapes: str) -> str:
        lead = MECHANISMS[name].lead_in[shapes]
        told = [f"{k} {v}" for k, v in MECHANISMS[name].shape[shapes].items()]
        return ", ".join([*told, *([f"{lead} sessions of build-up"] if lead else [])])

    return pd.DataFrame(
        [
            {"mechanism": MECHANISMS[name].label, "lesson (simulator)": lesson(name)}
            | {f"planted, {shapes}": planted(name, shapes) for shapes in SETS}
            | {"likeness": LIKENESS[name]}
            for name in PAPER
        ]
    )


def by_likeness(gardens: dict[str, Garden], grades: dict[str, Grade], rule: str) -> pd.DataFrame:
    """Accuracy at medium strength by set and mechanism, and whether the set's shape is close to the lesson."""
    rows = []
    for shapes, garden in gardens.items():
        for k, name in enumerate(PAPER):
            keep = (garden.truth == k) & (garden.strength == "medium")
            if keep.any():
                named = grades[shapes].by_rule[rule][keep].argmax(1)
                close = "yes" if shapes == "main" and name in CLOSE else "no"
                row = {"set": shapes, "mechanism": MECHANISMS[name].label, "close to its lesson": close}
                rows.append(row | {"plants": int(keep.sum()), "named right": float((named == k).mean())})
    return pd.DataFrame(rows)


def catalogue(bars: Bars, **gardens: Garden) -> pd.DataFrame:
    """One row a plant, with an identifier (name of its garden and number); see `data.draw_plants.plant_table`.

    Tickers and parameters are left out where the table would be too large to be committed; the seeds give them again.
    """
    tables = [
        plant_table([p.plant for p in garden.planted], bars).assign(
            plant=[f"{name}-{k}" for k in range(len(garden.planted))]
        )
        for name, garden in gardens.items()
    ]
    whole = pd.concat(tables, ignore_index=True)
    return whole[["plant", *whole.columns.drop("plant")]]


def committed(table: pd.DataFrame) -> pd.DataFrame:
    """The catalogue, without tickers and parameters where it is larger than a committed table may be."""
    small = len(table.to_csv(index=False).encode()) <= LARGEST_TABLE
    return table if small else table.drop(columns=["tickers", "parameters"])


def type_table(garden: Garden, grades: dict[str, Grade]) -> pd.DataFrame:
    """Detection of the chapter's types, one row a method, type and strength: AUROC, AP, recall, delay."""
    rows = []
    for method, grade in grades.items():
        for kind in dict.fromkeys(p.plant.mechanism for p in garden.planted):
            mine = np.array([p.plant.mechanism == kind for p in garden.planted])
            found = summary(garden.part(mine), part_of(grade, mine))["by_strength"]
            for strength, r in found.items():
                figures = {"AUROC": r["auroc"], "AP": r["ap"], "recall at 5%": r["recall_at_5"], "delay": r["delay"]}
                plants = int((mine & (garden.strength == strength)).sum())
                row = {"method": method, "type": kind, "strength": strength, "plants": plants}
                rows.append(row | figures | {"at once": r["at_once"]})
    return pd.DataFrame(rows)


def paired_table(
    gardens: dict[str, Garden], one: dict[str, Grade], other: dict[str, Grade], rules: tuple[str, str]
) -> pd.DataFrame:
    """Exact paired tests of two methods by set, on the plants of medium strength that both can name."""
    rows = []
    for shapes, garden in gardens.items():
        values = one[shapes].by_rule[rules[0]], other[shapes].by_rule[rules[1]]
        keep = (garden.strength == "medium") & garden.nameable(values[0]) & garden.nameable(values[1])
        right = [(v.argmax(1) == garden.truth)[keep] for v in values]
        rows.append({"set": shapes, "plants": int(keep.sum())} | paired(*right))
    return pd.DataFrame(rows)


def detection_board(*parts: tuple[Garden, dict[str, Grade]]) -> pd.DataFrame:
    """Detection figures of each method, best AUROC first, with the AUROC of each mechanism alone.

    parts : plants, and method -> its grade on them; a method may have been graded on fewer plants (column `plants`).
    """
    rows = []
    for garden, method, grade in ((garden, *item) for garden, seen in parts for item in seen.items()):
        r = summary(garden, grade)
        by = {
            MECHANISMS[mechanisms()[k]].label: np.concatenate(
                [grade.rank[p] for p in np.flatnonzero(garden.truth == k)]
            ).mean()
            for k in np.unique(garden.truth)
        }
        figures = {"AUROC": r["auroc"], "AP": r["ap"], "recall at 5%": r["recall_at_5"], "delay": r["delay"]}
        figures |= {"at once": r["at_once"], "plants": len(garden.planted)}
        rows.append({"method": method, **figures, "stocks alarmed": r["stocks_alarmed"], **by})
    return pd.DataFrame(rows).sort_values("AUROC", ascending=False, kind="stable")


def result_line(method: str, reading: str, figures: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of accuracy: the medium strength, and the accuracy at the others."""
    medium, others = figures["by_strength"]["medium"], figures["by_strength"]
    row = {"method": method, "reading": reading, "plants": medium["n_plants"], "top1, medium": medium["top1"]}
    row |= dict(zip(("95% low", "95% high"), medium["top1_interval"], strict=True))
    row |= dict(zip(("by session, low", "by session, high"), medium["top1_interval_sessions"], strict=True))
    row |= {s: others[s]["top1"] if s in others else np.nan for s in STRENGTHS if s != "medium"}
    return row | {"AUROC": medium["auroc"], "recall at 5%": medium["recall_at_5"]}
