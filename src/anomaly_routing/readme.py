"""Write the headline table of README.md from the reports: `python -m anomaly_routing.readme` (behind `make readme`).

Only what stands between the two markers is touched; a test fails when the README and the reports disagree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomaly_routing.files import read_json, replacing
from anomaly_routing.paths import repository

START, END = "<!-- headline: written by make readme -->", "<!-- end of headline -->"
MARKETS = ("us100", "simulated")  # in the order of the README
TITLES = {"us100": "100 US stocks, real prices", "simulated": "simulated market"}


def headline(metrics: dict[str, Any]) -> str:
    """A sentence and a table for one market, from its metrics.json."""
    methods = {name: m for name, m in metrics["methods"].items() if not m["lookahead"]}
    ranked = sorted(methods, key=lambda name: -(methods[name]["paper"]["ap"] or 0))
    n, market = len(methods), metrics["market"]
    better = {p: [m for m in ranked if _beats_chance(methods[m][p])] for p in ("paper", "matched")}
    seeds = max(m["n_seeds"] for m in methods.values())
    tiers = "/".join(sorted({m["tier"] for m in methods.values()}))
    devices = "/".join(sorted({m["device"] for m in methods.values()}))
    lines = [
        f"**{TITLES.get(market, market)}** (`{market}`; {metrics['n_events']} events, {metrics['test_sessions']} test "
        f"sessions; median of {seeds} seeds where a method is random; tier {tiers}, {devices}). Of {n} detectors, "
        f"{len(better['paper'])} hit more events than their own alarms moved in time (p < 0.05) under protocol "
        f"`paper`, {len(better['matched'])} under `matched`; luck alone would give about {0.05 * n:.0f}.",
        "",
        "| detector | family | hits | by chance | p | alarm days | hits, matched | by chance | alarm days | AUC | AP |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    if market == "us100":
        claim = metrics["paper_claim"]
        lines.append(
            f"| *the paper's model, as claimed* | | *{claim['hits']} / {claim['n_events']}* | *not given* | "
            f"| *not given* | *{claim['status']}* | | | | |"
        )
    for name in ranked:
        paper, matched = methods[name]["paper"], methods[name]["matched"]
        lines.append(
            f"| {name} | {methods[name]['family']} | {_hits(paper)} | {_number(paper['expected_hits_by_chance'])} "
            f"| {_number(paper['chance_p'], 2)} | {_percent(paper['alarm_rate_test'])} | {_hits(matched)} "
            f"| {_number(matched['expected_hits_by_chance'])} | {_percent(matched['alarm_rate_test'])} "
            f"| {_number(paper['auc'], 2)} | {_number(paper['ap'], 2)} |"
        )
    return "\n".join(lines)


def _beats_chance(line: dict[str, Any]) -> bool:
    return line["chance_p"] is not None and line["chance_p"] < 0.05


def _hits(line: dict[str, Any]) -> str:
    return f"{line['hits']:.0f} / {line['n_events']:.0f}"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f}%"


def with_headline(text: str, root: Path) -> str:
    """README text with the tables of all markets that have a metrics.json."""
    files = [root / "reports" / market / "metrics.json" for market in MARKETS]
    tables = [headline(read_json(path)) for path in files if path.exists()]
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n" + "\n\n".join(tables) + f"\n{END}{after}"


def main() -> None:
    root = repository()
    path = root / "README.md"
    with replacing(path) as partial:
        partial.write_text(with_headline(path.read_text(encoding="utf-8"), root), encoding="utf-8")


if __name__ == "__main__":
    main()
