"""Committed JSON with a line for each entry of one table, so that a change shows where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anomaly_routing.files import plain, replacing

PROTOCOLS, FACTS = ("paper", "matched"), ("date", "split")


def write_metrics(path: Path, content: dict[str, Any], table: str = "methods") -> dict[str, Any]:
    """Six significant digits, as in the tables; sorted keys, NaN as null. Returns what a reader of the file gets.

    content : its entry `table` is written last, each of its own entries on a line: every method's figures under both
    protocols in metrics.json, every claim in claims.json.
    """
    content = json.loads(json.dumps(plain(content)), parse_float=lambda digits: float(f"{float(digits):.6g}"))
    rows = ",\n".join(f"{_line(name)}: {_line(content[table][name])}" for name in sorted(content[table]))
    others = [f"{_line(key)}: {_line(content[key])}" for key in sorted(content) if key != table]
    with replacing(path) as partial:
        partial.write_text("{\n" + ",\n".join([*others, f"{_line(table)}: {{\n{rows}\n}}"]) + "\n}\n", encoding="utf-8")
    return content


def events_once(methods: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Date and split of every event, which are no method's own; and the methods without them.

    Raises ValueError where two methods were judged by different dates or splits.
    """
    events: dict[str, Any] = {}

    def own(line: dict[str, Any]) -> dict[str, Any]:
        for event, verdict in line["per_event"].items():
            facts = {key: verdict[key] for key in FACTS}
            if events.setdefault(event, facts) != facts:
                raise ValueError(f"event {event} is {facts} for one method and {events[event]} for another")
        kept = {e: {k: v for k, v in verdict.items() if k not in FACTS} for e, verdict in line["per_event"].items()}
        return line | {"per_event": kept}

    lean = {name: entry | {p: own(entry[p]) for p in PROTOCOLS} for name, entry in methods.items()}
    return events, lean


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
