"""The tables of notebook 08."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.attribution import Garden, Grade, part_of, summary
from anomaly_routing.attribution_checks import Method
from anomaly_routing.data.bars import Bars
from anomaly_routing.data.draw_plants import plant_table
from anomaly_routing.data.plants import MECHANISMS, PAPER, STRENGTHS, mechanisms
from anomaly_routing.data.simulate_events import MECHANISMS as SIMULATED
from anomaly_routing.evaluation.injection import confusion, paired
from anomaly_routing.evaluation.protocols import evaluate_daily
from anomaly_routing.files import replacing, write_csv
from anomaly_routing.panel import Splits
from anomaly_routing.planting import Bench

LARGEST_TABLE = 100_000  # bytes of a committed table of plants, beyond which it is compressed
TAUGHT_ON = {  # of `data.lesson_plants`
    "price_shock": "one to three steps of random size and share, open or overnight, perhaps partly back, aftershocks",
    "liquidity": "random range and volume, at once, slowly or for a while; closes stay or jump to and fro",
    "contagion": "a common fall of random pace and noise, mixed in by a random share, wave by wave",
    "momentum": "a trend of random length, pace and strength, a turn of random size that may fade",
}


def shape_table() -> pd.DataFrame:
    """The paper's mechanisms: what gates are taught on, the simulator's events or random shapes, and each planted set.

    One row a mechanism and source.
    """
    rows = []
    for name in PAPER:
        events = {k: v for k, v in SIMULATED[name].channels.items() if np.any(v)}
        told = [f"{k} {' '.join(f'{x:g}' for x in v)}" for k, v in events.items()]
        told += [f"shared {SIMULATED[name].shared:g}"] if SIMULATED[name].shared else []
        lines = {"dated lessons": ", ".join(told), "varied lessons": TAUGHT_ON[name]}
        for shapes, arguments in MECHANISMS[name].shape.items():
            lead = MECHANISMS[name].lead_in[shapes]
            told = [f"{k} {v}" for k, v in arguments.items()] + ([f"{lead} sessions of build-up"] if lead else [])
            lines[shapes] = ", ".join(told)
        label = MECHANISMS[name].label
        rows += [{"mechanism": label, "of": source, "shape": shape} for source, shape in lines.items()]
    return pd.DataFrame(rows)


def catalogue(bars: Bars, **gardens: Garden) -> pd.DataFrame:
    """One row a plant, with an identifier (name of its garden and number); see `data.draw_plants.plant_table`."""
    tables = [
        plant_table([p.plant for p in garden.planted], bars).assign(
            plant=[f"{name}-{k}" for k in range(len(garden.planted))]
        )
        for name, garden in gardens.items()
    ]
    whole = pd.concat(tables, ignore_index=True)
    return whole[["plant", *whole.columns.drop("plant")]]


def write_catalogue(folder: Path, table: pd.DataFrame) -> None:
    """`plants.csv`, or `plants.csv.gz` where it is too large to lie open, with the tickers of every plant; the
    parameters, which many plants share, once each in `shapes.csv`."""
    shared = ["mechanism", "set", "parameters"]
    write_csv(folder / "shapes.csv", table[shared].drop_duplicates())
    open_, packed = folder / "plants.csv", folder / "plants.csv.gz"
    write_csv(open_, table.drop(columns="parameters"))
    packed.unlink(missing_ok=True)
    if open_.stat().st_size > LARGEST_TABLE:
        with replacing(packed) as partial:
            partial.write_bytes(gzip.compress(open_.read_bytes(), mtime=0))
        open_.unlink()


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


def confusion_table(values: Mapping[str, Mapping[str, np.ndarray]], truth: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The matrices of `draw_confusion` as counts: one row a set, method and planted mechanism, a column a name."""
    rows, short = [], [MECHANISMS[name].label for name in mechanisms()]
    for shapes, by_title in values.items():
        for title, value in by_title.items():
            for k, counts in enumerate(confusion(value, truth[shapes])):
                row = {"set": shapes, "method": title, "planted": short[k], "plants": int(counts.sum())}
                rows.append(row | {f"named {short[j]}": int(n) for j, n in enumerate(counts)})
    return pd.DataFrame(rows)


def event_table(ways: Mapping[str, Method], bench: Bench, splits: Splits) -> pd.DataFrame:
    """The mean of a method's scores as a daily alarm, judged on the dated events as every detector of the scorecard."""
    rows, stored, judged = [], bench.stored, bench.dated[bench.dated.split.isin(["val", "test"])]
    for name, method in ways.items():
        x = np.where(stored.active, method.score(stored.x), np.nan)[stored.scored]
        daily = pd.Series(np.nanmean(x, axis=1), index=stored.sessions[stored.scored])
        for protocol, r in evaluate_daily(daily, judged, splits=splits).items():
            row = {"method": name, "protocol": protocol, "hits": r["hits"], "of": r["n_events"]}
            row |= {"hits, test": r["hits_test"], "p, test": r["chance_p_test"], "alarm days": r["alarm_rate_test"]}
            rows.append(row | {"AUC": r["auc"], "AP": r["ap"]})
    return pd.DataFrame(rows)


def result_line(method: str, reading: str, figures: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of accuracy: the medium strength, and the accuracy at the others."""
    medium, others = figures["by_strength"]["medium"], figures["by_strength"]
    row = {"method": method, "reading": reading, "plants": medium["n_plants"], "top1, medium": medium["top1"]}
    row |= dict(zip(("95% low", "95% high"), medium["top1_interval"], strict=True))
    row |= dict(zip(("by session, low", "by session, high"), medium["top1_interval_sessions"], strict=True))
    row |= {s: others[s]["top1"] if s in others else np.nan for s in STRENGTHS if s != "medium"}
    return row | {"AUROC": medium["auroc"], "recall at 5%": medium["recall_at_5"]}
