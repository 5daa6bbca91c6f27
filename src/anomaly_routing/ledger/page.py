"""The ledger as files: CSV, JSON, one static page without outside scripts, and a plain list that any forge renders."""

from __future__ import annotations

import html
import json
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from anomaly_routing.files import plain, replacing, write_csv
from anomaly_routing.ledger.build import full_verdict, shown
from anomaly_routing.metrics import write_metrics

HERE = Path(__file__).parent
HEADS = {
    "id": "id",
    "claim": "claim",
    "kind": "kind",
    "paper": "the paper",
    "ours": "ours",
    "verdict": "verdict",
    "reason": "why",
    "how": "with",
    "line": "computed in",
}
MACHINE = (
    *("verdict", "qualifier", "paper", "ours", "unit", "interval", "low", "high", "n_seeds", "tier", "protocol"),
    *("device", "chance_p", "paired_p", "reason", "result", "stage", "file", "line"),
)
UP = "../../"  # from reports/<market>/ to the repository


def write_ledger(table: pd.DataFrame, reports: Path, market: str) -> None:
    """`tables/claims.csv`, `tables/claims.json`, `claims.html` and `claims.md` below `reports`."""
    write_csv(reports / "tables" / "claims.csv", table)
    rows = {row["id"]: {k: row[k] for k in MACHINE if row[k] not in ("", None)} for row in records(table)}
    write_metrics(reports / "tables" / "claims.json", {"market": market, "claims": rows}, "claims")
    for name, text in (("claims.html", as_page(table, market)), ("claims.md", as_list(table, market))):
        with replacing(reports / name) as partial:
            partial.write_text(text, encoding="utf-8")


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows in JSON's own types; missing numbers are None, text has at most one line."""
    rows = plain(table.astype(object).where(table.notna(), None).to_dict("records"))
    return [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def code_link(row: dict[str, Any], up: str = UP) -> str:
    """To the line that decides; `up` leads from where the link stands to the repository."""
    return f"{up}{row['file']}#L{row['line']}"


def how(row: dict[str, Any]) -> str:
    """Seeds, tier, protocol, chance."""
    seeds = f"{row['n_seeds']:.0f} seed{'s' if row['n_seeds'] != 1 else ''}" if row["n_seeds"] else ""
    parts = [row["tier"] and f"tier {row['tier']}", seeds, row["protocol"] and f"protocol {row['protocol']}"]
    parts += [f"by chance p = {row['chance_p']:.2f}" if row["chance_p"] is not None else ""]
    return ", ".join(part for part in parts if part)


def interval(row: dict[str, Any]) -> str:
    """The ends as text, and what they are where it is no 95% interval."""
    if row["low"] is None or row["high"] is None:
        return ""
    kind = "" if row["interval"] == "95%" else f", {row['interval']}"
    return f"{shown(row['low'])} to {shown(row['high'])}{kind}"


def as_page(table: pd.DataFrame, market: str) -> str:
    """The whole page as text; it asks for nothing from outside."""
    kept = ("id", "claim", "kind", "source", "paper", "unit", "ours", "verdict", "qualifier", "reason", "mark", "audit")
    rows = [
        {k: row[k] for k in kept} | {"interval": interval(row), "how": how(row), "link": code_link(row)}
        for row in records(table)
    ]
    rows = [{k: v for k, v in row.items() if v not in ("", None)} for row in rows]
    data = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    heads = "".join(f'<th data-key="{key}" tabindex="0" scope="col">{text}</th>' for key, text in HEADS.items())
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        lead=lead(table, market), heads=heads, rows=data, script=(HERE / "page.js").read_text(encoding="utf-8").strip()
    )


def lead(table: pd.DataFrame, market: str) -> str:
    counts = table.verdict.value_counts()
    parts = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    return html.escape(
        f"{len(table)} claims, market {market}: {parts}. The tolerances were committed before any "
        "score; what was settled later stands under changes in paper/verdict_rules.yaml. Click a head to sort; each "
        "line leads to the code that computes it."
    )


def as_list(table: pd.DataFrame, market: str) -> str:
    """Markdown: one line a claim, each with a link to the line that decides it, and with what and why."""
    lines = [f"# Every claim, market `{market}`", "", html.unescape(lead(table, market)), ""]
    for kind, rows in table.groupby("kind", sort=False):
        lines += [f"## {kind}", "", "| claim | the paper | ours | verdict | with, why |", "|---|---|---|---|---|"]
        for row in records(rows):
            name = f"[`{row['id']}`]({code_link(row)}) {row['claim']}"
            ours = f"{row['ours']} [{interval(row)}]" if interval(row) else row["ours"]
            why = "; ".join(text for text in (how(row), row["reason"], row["mark"]) if text)
            cells = (name, row["paper"] or "", ours or "", full_verdict(pd.Series(row)), why)
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)
