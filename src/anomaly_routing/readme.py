"""Write what README.md says of results from the reports: `python -m anomaly_routing.readme` (behind `make readme`).

The two-minute summary, the headline tables and the times stand between markers, and only there is anything touched; a
test fails when the README and the reports disagree. The model card and the checklist are written whole (`cards`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from anomaly_routing import cards
from anomaly_routing.claims import load_claims
from anomaly_routing.evaluation.protocols import HEADLINE_BUDGET
from anomaly_routing.evaluation.thresholds import BUDGETS, HISTORY
from anomaly_routing.files import read_json, replacing
from anomaly_routing.ledger import summary
from anomaly_routing.ledger.better import better_sentence
from anomaly_routing.markets import stage_seconds
from anomaly_routing.paths import repository
from anomaly_routing.table1 import COSTS, NOT_RUN, home_clause
from anomaly_routing.table1_view import matched_lines, paper_lines

SUMMARY_START, SUMMARY_END = "<!-- summary: written by make readme -->", "<!-- end of summary -->"
START, END = "<!-- headline: written by make readme -->", "<!-- end of headline -->"
TIMES_START, TIMES_END = "<!-- times: written by make readme -->", "<!-- end of times -->"
CELLS = {  # stock-sessions of the two markets
    "make reproduce": (32 * 1400, "params.yaml"),
    "make us100": (100 * 2139, "markets/us100/params.yaml"),
}
AIM = 5  # how much faster than a plain reference
MODULES = ("encoder", "graph", "experts", "decoders")  # 1 to 4; as in `model.network`, which needs torch
MARKETS = ("us100", "simulated")  # in the order of the README
TITLES = {"us100": "100 US stocks, real prices", "simulated": "simulated market"}


def two_minutes(root: Path) -> str:
    """The opening: what the paper says, how many of its claims stand, the headline, the two editions."""
    claims = {name: claim.value for name, claim in load_claims(root / "paper" / "claims.yaml").items()}
    rules = yaml.safe_load((root / "paper" / "verdict_rules.yaml").read_text(encoding="utf-8"))
    reports = root / "reports" / MARKETS[0]
    opening = cards.filled(
        root,
        "opening.md",
        n=claims["ABS.n_stocks"],
        source="arXiv 2510.17088v1",
        audit="notebooks/00_audit.ipynb",
        hits=claims["T1.ours.hits"],
        events=claims["S41.n_events"],
        lead=claims["ABS.lead"],
        changes=len(rules["changes"]),
    )
    if not (reports / "tables" / "claims.csv").exists():
        return f"{opening}\nNo verdict yet: run notebook 12 on the real market."
    table = summary.read_ledger(reports / "tables" / "claims.csv")
    methods, where = read_json(reports / "metrics.json")["methods"], f"reports/{MARKETS[0]}/claims"
    totals, named = summary.totals_sentence(table), reports / "attribution.json"
    parts = (
        opening.strip(),
        cards.filled(root, "ledger.md", totals=totals, page=f"{where}.html", list=f"{where}.md").strip(),
        summary.support_sentence(table),
        summary.headline_lines(table, methods, up="", graded=read_json(named) if named.exists() else None),
        picture(root, methods, claims),
        better_sentence(methods),
        summary.three_lists(table, up=""),
        summary.editions(table, methods, summary.later_edition(root / "paper" / "V2.md")),
    )
    return "\n\n".join(parts)


def picture(root: Path, methods: dict[str, Any], claims: dict[str, Any]) -> str:
    """Notebook 12's figure of every method against chance, and how to read it."""
    return cards.filled(
        root,
        "picture.md",
        file=f"reports/{MARKETS[0]}/figures/scorecard/hits_against_alarm_days.png",
        market=TITLES[MARKETS[0]],
        n=methods[summary.MODEL]["paper"]["n_events_test"],
        level=0.05,
        events=claims["S41.n_events"],
    ).strip()


def headline(metrics: dict[str, Any], table: pd.DataFrame) -> str:
    """What the counts say, and Table 1 redone, for one market from its metrics.json and table1.csv."""
    methods = {name: m for name, m in metrics["methods"].items() if not m["lookahead"]}
    market = metrics["market"]
    tiers, devices = ("/".join(sorted({m[key] for m in methods.values()})) for key in ("tier", "device"))
    draw = "" if metrics.get("market_seed") is None else f"; one draw, market seed {metrics['market_seed']}"
    claimed = market == "us100"  # the paper's counts are of that market
    first, second = paper_lines(table, claimed), matched_lines(table)
    lines = [
        f"**{TITLES.get(market, market)}** (`{market}`{draw}; {metrics['n_events']} events, "
        f"{metrics['test_sessions']} test sessions; tier {tiers}, {devices}). {summary.beats_sentence(methods)}",
        "",
        *(first if claimed else folded("Its methods beside chance, as in the table above", first)),
        "",
        *folded("The same runs with a matched allowance of alarms, and what each method costs", second),
    ]
    return "\n".join(lines)


def folded(title: str, lines: list[str]) -> list[str]:
    """Markdown lines behind a title that opens them."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>"]


def explained(root: Path) -> str:
    """What the columns of these tables are, with the settings of the real market and of the protocols."""
    claims = {name: claim.value for name, claim in load_claims(root / "paper" / "claims.yaml").items()}
    reports, budget = f"reports/{MARKETS[0]}", BUDGETS[HEADLINE_BUDGET]
    measured = read_json(root / "reports" / "costs.json")
    costed = all(key in row for row in measured["rows"] for key in COSTS.values())
    ours = read_json(root / reports / "metrics.json")["methods"][summary.MODEL]["paper"]
    return cards.filled(
        root,
        "table1.md",
        window=summary.WORDS[int(claims["S2.window5"])],
        cut=claims["S2.threshold"],
        val=summary.WORDS[ours["n_events_val"]],
        events=ours["n_events"],
        level="95%",
        nominal=1 - claims["S2.threshold"] / 100,
        allowed=budget.allowed,
        history=HISTORY,
        costs=f"measured on {TITLES[measured['market']]}, {measured['device']}" if costed else NOT_RUN,
        scorecard=f"{reports}/notebooks/12_scorecard.ipynb",
        baselines=f"{reports}/notebooks/04_deep_baselines.ipynb",
        home=home_clause(read_json(root / "reports" / "peers.json")["cora"]["rows"]),
        peers=f"{reports}/tables/deep_baselines/peers.csv",
    ).strip()


def times(measured: dict[str, Any], root: Path) -> str:
    """How long things take and what they need, from the last `make bench`."""
    stages, ratios = measured["stages"], measured["ratios"]
    lines = [f"| on {stages['device']} | |", "|---|---|"]
    for command, (cells, file) in CELLS.items():
        params = yaml.safe_load((root / file).read_text(encoding="utf-8"))
        seconds = sum(stage_seconds(stages["seconds"], cells, params, root).values())
        memory = stages["memory_gib"]["fixed"] + stages["memory_gib"]["per_million_cells"] * cells / 1e6
        how = "one stage after the other"
        if file == "params.yaml" and "reproduce" in stages:
            seconds, how = stages["reproduce"]["seconds"], "two at a time"
        need = f"{seconds / 60:.1f} min, {memory:.1f} GiB a stage, {how}"
        lines.append(f"| `{command}`, environment there, nothing stored | {need} |")
    per_cell = [ratios[f"microseconds_per_stock_session_{n}_stocks"] for n in (100, 400, 1600)]
    facts = {
        "29 features of 100 stocks over 2,012 sessions": f"{ratios['features_100_stocks_2012_sessions_seconds']:.1f} s",
        "the plain oracle over them": f"{ratios['oracle_over_vectorised_30_stocks_350_sessions']:.0f} times as long",
        "a stock-session at 100, 400, 1,600 stocks": ", ".join(f"{v:.0f}" for v in per_cell) + " microseconds",
        "one method under both protocols": f"{ratios['evaluate_two_channels_seconds']:.2f} s",
    }
    facts |= model_times(measured["model"]) if "model" in measured else {}
    lines += [f"| {what} | {value} |" for what, value in facts.items()]
    return "\n".join(lines)


def model_times(measured: dict[str, Any]) -> dict[str, str]:
    """What the full model costs beside a plain reference and beside the paper's Table 5, on a CPU and on a GPU."""
    cpu, gpu, paper = (measured[name] for name in ("cpu", "gpu", "paper"))
    sizes = {n: cpu["sizes"][n] for n in sorted(cpu["sizes"], key=int)}
    shares = {name: cpu["epoch"]["module_share_percent"][name] for name in MODULES}
    step, memory = ([part[name] for part in sizes.values()] for name in ("step_seconds", "peak_gib"))
    most = cpu["reference_epoch"]["training_seconds"] / cpu["floor"]["highest"]["seconds"]
    one = (
        f"{cpu['epoch']['training_seconds']:.0f} s; a plain reference {cpu['reference_over_ours']:.1f} times as long, "
        f"and {most:.1f} times the least that this arithmetic can take here; {AIM} times were aimed at"
    )
    whole = "not run" if gpu == "not run" else f"{gpu['device']}: {gpu['epoch']['training_seconds']:.2g} s"
    return {
        "an epoch of the full model, 100 stocks": f"{one}; the paper, on an A100: {paper['epoch_seconds']:g} s",
        "the same on a GPU": whole,
        "its modules 1 to 4, % of the time": f"{_listed(shares.values(), '.0f')}; the paper: "
        f"{_listed((paper['module_share_percent'][name] for name in shares), 'g')}",
        f"its training step at {_listed(sizes, '')} stocks": f"{_listed(step, '.2g')} s, {_listed(memory, '.1f')} GiB; "
        f"exponent of growth {cpu['growth']['step_seconds']['all']:.2f}",
    }


def _listed(values: Iterable[Any], form: str) -> str:
    return ", ".join(format(value, form) for value in values)


def attribution(graded: dict[str, Any]) -> str:
    """Whether the routing weights can be trusted, in one sentence, and whether the aim is met, for one market."""
    market = graded["market"]
    return (
        f"**Can the routing weights be trusted?** ({TITLES.get(market, market)}, planted anomalies.) "
        f"{graded['verdict']} {graded['aim']} [Notebook 08](reports/{market}/notebooks/08_attribution.ipynb)."
    )


def read_table1(reports: Path) -> pd.DataFrame:
    """`tables/table1.csv` of a market; a method called `null` is a name, not a missing value."""
    return pd.read_csv(reports / "tables" / "table1.csv", keep_default_na=False, na_values=[""])


def with_headline(text: str, root: Path) -> str:
    """README text with the summary, the tables of all markets with a metrics.json, and the times if measured."""
    text = _between(text, SUMMARY_START, SUMMARY_END, two_minutes(root))
    folders = [root / "reports" / market for market in MARKETS]
    made = [headline(read_json(f / "metrics.json"), read_table1(f)) for f in folders if (f / "metrics.json").exists()]
    made += [attribution(read_json(f / "attribution.json")) for f in folders if (f / "attribution.json").exists()]
    if (root / "reports" / MARKETS[0] / "metrics.json").exists():
        made.append(explained(root))
    text = _between(text, START, END, "\n\n".join(made))
    measured = root / "benchmarks" / "measured.json"
    return _between(text, TIMES_START, TIMES_END, times(read_json(measured), root)) if measured.exists() else text


def _between(text: str, start: str, end: str, content: str) -> str:
    before, rest = text.split(start)
    return f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"


def main() -> None:
    argparse.ArgumentParser(description="Write README.md's results, the model card and the checklist.").parse_args()
    root = repository()
    path = root / "README.md"
    with replacing(path) as partial:
        partial.write_text(with_headline(path.read_text(encoding="utf-8"), root), encoding="utf-8")
    cards.write(root)


if __name__ == "__main__":
    main()
