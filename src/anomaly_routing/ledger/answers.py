"""What a stage decides itself: `tables/<stage>/claims.csv`, written by the stage's notebook and read by the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.ledger.verdict import Finding

# columns of such a table; id and value or holds at least
ANSWERS = (
    *("id", "value", "holds", "by", "low", "high", "part", "n_seeds", "tier", "device", "protocol", "chance_p"),
    *("built", "note", "ranged", "by_seed"),
)
BETWEEN = "; "
TEXTS = ("id", "by", "tier", "device", "protocol", "note", "by_seed")


def answer(claim: str, value: float | bool | list[float], by: str = "", **how: Any) -> dict[str, Any]:
    """One line: what was found, the tolerance that judges it (`Finding.by`), what it was computed with.

    A truth value is a check that holds or does not; several numbers stand in one cell, as `a; b`. Raises ValueError for
    a column that is none of `ANSWERS`.
    """
    if unknown := sorted(set(how) - set(ANSWERS)):
        raise ValueError(f"{claim}: no column {', '.join(unknown)}; there are {', '.join(ANSWERS)}")
    if isinstance(value, bool | np.bool_):
        return {"id": claim, "holds": bool(value), "by": by or "holds"} | how
    number = BETWEEN.join(repr(float(v)) for v in value) if isinstance(value, list | tuple) else float(value)
    return {"id": claim, "value": number, "by": by} | how


def answer_table(lines: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A row a claim, in the order given; empty columns are left out. ValueError for a claim answered twice."""
    table = pd.DataFrame(list(lines), columns=list(ANSWERS))
    if (again := table.id[table.id.duplicated()]).any():
        raise ValueError(f"answered twice: {', '.join(again)}")
    table = table.replace("", None).dropna(axis=1, how="all") if len(table) else table
    return table.astype({"n_seeds": "Int64"}) if "n_seeds" in table else table


def answers_table(findings: Mapping[str, Finding]) -> pd.DataFrame:
    """The same from findings by claim."""
    lines = []
    for claim, finding in findings.items():
        how = {column: value for column, value in vars(finding).items() if column in ANSWERS}
        seeds = BETWEEN.join(repr(float(v)) for v in finding.by_seed)
        flags = {"built": finding.built or None, "ranged": finding.ranged or None, "by_seed": seeds or None}
        lines.append(answer(claim, **how | flags))
    return answer_table(lines)


def read_answers(path: Path) -> dict[str, Finding]:
    """Claim -> what the stage found. Raises ValueError for a column that is none of `ANSWERS`."""
    rows = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str))
    if unknown := sorted(set(rows.columns) - set(ANSWERS)):
        raise ValueError(f"{path}: unknown columns {', '.join(unknown)}; there are {', '.join(ANSWERS)}")
    found: dict[str, Finding] = {}
    for row in rows.to_dict("records"):
        known = {k: v for k, v in row.items() if k != "id" and not pd.isna(v)}
        holds = known.pop("holds", None)
        value = known.pop("value", None) if holds is None else _true(holds)
        if isinstance(value, str):
            parts = [float(part) for part in value.split(BETWEEN)]
            value = parts if len(parts) > 1 else parts[0]
        if "n_seeds" in known:
            known["n_seeds"] = int(known["n_seeds"])
        for flag in ("built", "ranged"):
            if flag in known:
                known[flag] = _true(known[flag])
        if "by_seed" in known:
            known["by_seed"] = tuple(float(part) for part in known["by_seed"].split(BETWEEN))
        if value is not None:
            found[row["id"]] = Finding(value, **known)
    return found


def _true(cell: object) -> bool:
    return str(cell).lower() in ("true", "1", "1.0")
