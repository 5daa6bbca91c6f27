"""What a stage decides itself: `tables/<stage>/claims.csv`, written by the stage's notebook and read by the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from anomaly_routing.ledger.verdict import Finding

# columns of such a table; id and value or holds at least
ANSWERS = (
    *("id", "value", "holds", "by", "low", "high", "part", "n_seeds", "tier", "protocol", "chance_p", "built"),
    "note",
)
TEXTS = ("id", "by", "tier", "protocol", "note")


def answers_table(findings: Mapping[str, Finding]) -> pd.DataFrame:
    """A row a claim, in the order given; columns that no finding fills are left out. A check goes to `holds`."""
    rows = []
    for name, finding in findings.items():
        fields = vars(finding) | {"id": name, "built": finding.built or None}
        if isinstance(finding.value, bool):
            fields |= {"value": None, "holds": finding.value}
        rows.append({column: fields.get(column) for column in ANSWERS})
    table = pd.DataFrame(rows, columns=list(ANSWERS)).replace("", None).dropna(axis=1, how="all")
    return table.astype({"n_seeds": "Int64"}) if "n_seeds" in table else table


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
        if "n_seeds" in known:
            known["n_seeds"] = int(known["n_seeds"])
        if "built" in known:
            known["built"] = _true(known["built"])
        if value is not None:
            found[row["id"]] = Finding(value, **known)
    return found


def _true(cell: object) -> bool:
    return str(cell).lower() in ("true", "1", "1.0")
