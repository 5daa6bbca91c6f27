"""metrics.json: every method's figures under both protocols, a method a line, so that a change shows where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anomaly_routing.files import plain, replacing


def write_metrics(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Six significant digits, as in the tables; sorted keys, NaN as null. Returns what a reader of the file gets.

    content : one entry of it, `methods`, holds the methods by name.
    """
    content = json.loads(json.dumps(plain(content)), parse_float=lambda digits: float(f"{float(digits):.6g}"))
    methods = ",\n".join(f"{_line(name)}: {_line(content['methods'][name])}" for name in sorted(content["methods"]))
    others = [f"{_line(key)}: {_line(content[key])}" for key in sorted(content) if key != "methods"]
    with replacing(path) as partial:
        partial.write_text("{\n" + ",\n".join([*others, f'"methods": {{\n{methods}\n}}']) + "\n}\n", encoding="utf-8")
    return content


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
