"""The paper's statements, one by one: `paper/claims.yaml` as objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from anomaly_routing.errors import MarketDataError

KINDS = (
    *("data", "parameter_count", "runtime", "detection", "lead_time", "attribution", "ablation", "sensitivity"),
    *("alert_distribution", "graph", "narrative"),
)
REQUIRED = ("id", "locator", "quantity", "kind", "what_measures_it", "checkable_without_training")
OPTIONAL = {"value": None, "unit": "", "direction": "", "comparator": "", "audit": (), "note": ""}


@dataclass(frozen=True)
class Claim:
    """One statement; the keys are those of `claims.yaml`, whose head explains them. `value` is a number, a list of
    numbers (a range or a vector), a text (a date, a label) or None where only a direction is claimed."""

    id: str
    locator: str
    quantity: str
    kind: str
    what_measures_it: str
    checkable_without_training: bool
    value: Any = None
    unit: str = ""
    direction: str = ""
    comparator: str = ""
    audit: tuple[str, ...] = ()
    note: str = ""

    @property
    def source(self) -> str:
        """Which text it stands in."""
        return {"Z000": "the catalogue page", "Z002": "the chapter"}.get(self.id.split(".")[0], "the paper")


def load_claims(path: str | Path) -> dict[str, Claim]:
    """id -> claim, in the file's order.

    Raises MarketDataError, naming file, entry, rule and remedy: unreadable file, missing or unknown key, unknown kind,
    an id used twice.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["claims"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        rule = f"cannot be read as a list of claims ({error})"
        raise MarketDataError(path, "-", rule, "restore the file: a YAML list below the key 'claims'") from error
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(entries, start=1):
        row = f"entry {number} ({entry.get('id', 'no id')})"
        if wrong := sorted(set(REQUIRED) - set(entry)) or sorted(set(entry) - set(REQUIRED) - set(OPTIONAL)):
            raise MarketDataError(path, row, f"missing or unknown key {', '.join(wrong)}", "see the head of the file")
        if entry["kind"] not in KINDS:
            raise MarketDataError(path, row, f"unknown kind {entry['kind']!r}", f"use one of {', '.join(KINDS)}")
        if entry["id"] in claims:
            raise MarketDataError(path, row, "the id is used twice", "give each claim its own id")
        claims[entry["id"]] = Claim(**entry | {"audit": tuple(entry.get("audit", ()))})
    return claims


def values(claims: dict[str, Claim], prefix: str = "", suffix: str = "") -> dict[str, Any]:
    """What stands between prefix and suffix of an id -> value, for the claims that have both.

    >>> values(load_claims("paper/claims.yaml"), "S42.alerts.L", "")["0"]
    63.1
    """
    return {
        name[len(prefix) : len(name) - len(suffix)]: claim.value
        for name, claim in claims.items()
        if name.startswith(prefix) and name.endswith(suffix) and len(name) >= len(prefix) + len(suffix)
    }
