"""Write the headline table of README.md from the reports: `python -m anomaly_routing.readme` (behind `make readme`).

Only what stands between the two markers is touched; a test fails when the README and the reports disagree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from anomaly_routing.files import read_json, replacing
from anomaly_routing.markets import stage_seconds
from anomaly_routing.paths import repository
from anomaly_routing.scoreboard import PLAIN

START, END = "<!-- headline: written by make readme -->", "<!-- end of headline -->"
TIMES_START, TIMES_END = "<!-- times: written by make readme -->", "<!-- end of times -->"
CELLS = {  # stock-sessions of the two markets
    "make reproduce": (32 * 1400, "params.yaml"),
    "make us100": (100 * 2139, "markets/us100/params.yaml"),
}
MARKETS = ("us100", "simulated")  # in the order of the README
TITLES = {"us100": "100 US stocks, real prices", "simulated": "simulated market"}


def headline(metrics: dict[str, Any]) -> str:
    """What the counts say, and a table, for one market from its metrics.json; without the chapter's own modes."""
    methods = {name: m for name, m in metrics["methods"].items() if m["variant"] in PLAIN}
    ranked = sorted(methods, key=lambda name: -(methods[name]["paper"]["ap"] or 0))
    market, seeds = metrics["market"], max(m["n_seeds"] for m in methods.values())
    tiers, devices = ("/".join(sorted({m[key] for m in methods.values()})) for key in ("tier", "device"))
    draw = "" if metrics.get("market_seed") is None else f"; one draw, market seed {metrics['market_seed']}"
    lines = [
        f"**{TITLES.get(market, market)}** (`{market}`{draw}; {metrics['n_events']} events, "
        f"{metrics['test_sessions']} test sessions; the median of {seeds} seeds where a method is random; "
        f"tier {tiers}, {devices}). {_verdict(methods)}",
        "",
        "| detector | hits | by chance | p | test hits | p | p, March 2023 once | alarm days "
        "| matched: test hits | p | p, March once | alarm days | validation hits, flagged | AUC | AP |",
        "|" + "---|" * 15,
    ]
    if market == "us100":
        claim = metrics["paper_claim"]
        lines.append(
            f"| *the paper's model, as claimed* | *{claim['hits']} / {claim['n_events']}* | *not given* | | | | "
            f"| *not given* | | | | | *{claim['status']}* | | |"
        )
    for name in ranked:
        paper, matched = methods[name]["paper"], methods[name]["matched"]
        cells = [_shown(name, methods[name])]
        cells += [_hits(paper), _number(paper["expected_hits_by_chance"]), _p(paper["chance_p"]), *_test(paper)]
        cells += [*_test(matched), _flagged(matched)]
        cells += [_number(paper["auc"], 2), _number(paper["ap"], 2)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(name: str, method: dict[str, Any]) -> str:
    """Trivial detectors in italics; the paper's model, as we built and trained it, in bold."""
    if method["family"] == "trivial":
        return f"*{name}*"
    if method["family"] == "full model":
        return f"**{name}, {method['n_seeds']} seed{'s' * (method['n_seeds'] > 1)}**" + (
            " (its scores use later days)" if method["lookahead"] else ""
        )
    return name


def _verdict(methods: dict[str, Any]) -> str:
    """How many methods beat their own alarms moved in time, on which events."""
    parts = []
    for protocol in ("paper", "matched"):
        keys = ("chance_p", "chance_p_test", "chance_p_test_march_collapsed")
        counts = [sum(_below(m[protocol][key]) for m in methods.values()) for key in keys]
        parts.append(
            f"under `{protocol}` {counts[0]} on all events, {counts[1]} on those of the test split alone, "
            f"{counts[2]} on these when March 2023 counts once"
        )
    n = len(methods)
    return (
        f"Of {n} detectors, so many hit more events than their own alarms moved in time (p < 0.05): "
        f"{'; '.join(parts)}. At most about {0.05 * n:.0f} of {n} would do so if none were better than chance; many "
        "are near copies of each other, so they pass or fail together."
    )


def _test(line: dict[str, Any]) -> list[str]:
    collapsed = line["chance_p_test_march_collapsed"]
    hits = f"{line['hits_test']:.0f} / {line['n_events_test']:.0f}"
    return [hits, _p(line["chance_p_test"]), _p(collapsed), _percent(line["alarm_rate_test"])]


def _flagged(line: dict[str, Any]) -> str:
    """Validation events under the matched budget: its past reaches into training, so the alarm days stand beside."""
    if not line["n_events_val"]:
        return ""
    return f"{line['hits_val']:.0f} / {line['n_events_val']:.0f} at {_percent(line['alarm_rate_val'])} alarm days"


def _below(p: float | None) -> bool:
    return p is not None and p < 0.05


def _hits(line: dict[str, Any]) -> str:
    return f"{line['hits']:.0f} / {line['n_events']:.0f}"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _p(value: float | None) -> str:
    return "" if value is None else "<0.01" if value < 0.005 else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f}%"


def times(measured: dict[str, Any], root: Path) -> str:
    """How long things take and what they need, from the last `make bench`."""
    stages, ratios = measured["stages"], measured["ratios"]
    lines = [f"| on {stages['device']} | |", "|---|---|"]
    for command, (cells, file) in CELLS.items():
        params = yaml.safe_load((root / file).read_text(encoding="utf-8"))
        seconds = sum(stage_seconds(stages["seconds"], cells, params, root).values())
        memory = stages["memory_gib"]["fixed"] + stages["memory_gib"]["per_million_cells"] * cells / 1e6
        lines.append(f"| `{command}`, environment there, nothing stored | {seconds / 60:.1f} min, {memory:.1f} GiB |")
    per_cell = [ratios[f"microseconds_per_stock_session_{n}_stocks"] for n in (100, 400, 1600)]
    facts = {
        "29 features of 100 stocks over 2,012 sessions": f"{ratios['features_100_stocks_2012_sessions_seconds']:.1f} s",
        "the plain oracle over them": f"{ratios['oracle_over_vectorised_30_stocks_350_sessions']:.0f} times as long",
        "a stock-session at 100, 400, 1,600 stocks": ", ".join(f"{v:.0f}" for v in per_cell) + " microseconds",
        "one method under both protocols": f"{ratios['evaluate_two_channels_seconds']:.2f} s",
    }
    lines += [f"| {what} | {value} |" for what, value in facts.items()]
    return "\n".join(lines)


def with_headline(text: str, root: Path) -> str:
    """README text with the tables of all markets that have a metrics.json, and the times if they were measured."""
    files = [root / "reports" / market / "metrics.json" for market in MARKETS]
    text = _between(text, START, END, "\n\n".join(headline(read_json(path)) for path in files if path.exists()))
    measured = root / "benchmarks" / "measured.json"
    return _between(text, TIMES_START, TIMES_END, times(read_json(measured), root)) if measured.exists() else text


def _between(text: str, start: str, end: str, content: str) -> str:
    before, rest = text.split(start)
    return f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"


def main() -> None:
    root = repository()
    path = root / "README.md"
    with replacing(path) as partial:
        partial.write_text(with_headline(path.read_text(encoding="utf-8"), root), encoding="utf-8")


if __name__ == "__main__":
    main()
