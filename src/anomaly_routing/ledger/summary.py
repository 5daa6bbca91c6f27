"""What the ledger comes to: the headline, what survives, what does not, what nobody can know. Used by notebook 12 and
the README, which say the same because both ask here."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from anomaly_routing.audit.chance import median_lead
from anomaly_routing.ledger.build import full_verdict, headline
from anomaly_routing.ledger.page import UP, code_link, records
from anomaly_routing.ledger.verdict import (
    BUILT_SO,
    BY_READING,
    CLOSE,
    DIFFERS,
    LEVEL,
    MATCH,
    NOT_RUN,
    NOT_TESTABLE,
    REFUTED,
    VERDICTS,
)
from anomaly_routing.prose import sentence

RESULTS = ("detection", "tables", "cases", "training", "prices", "companions")  # deciders that look at our results
PAPER = "the paper"
SLIPS = "T3.eqref."  # claims about the equation numbers that Table 3 cites
MODEL = "intended"
PROTOCOLS = ("paper", "matched")
RIVALS = ("tranad", "ghrn_star")  # the paper's best two
CONFIRMING = ("twin", "fresh", "far")  # sets of planted anomalies on which nothing was chosen
RULES_OF_ATTRIBUTION = {
    "largest_mean_feature": "largest mean |feature| / signal",
    "largest_expert_error": "intended / l",
}
SHOWN = 6  # claims named in a list; the rest is counted
CHANNELS = (
    "Detection, lead and gain are those of the model's two alarm channels, as the paper counts its own; its rivals "
    "have one (A99). The model by its first channel alone: rows *-MPI* of Table 1."
)
NAMED_BY = {  # in `attribution.json`
    "intended / w": "routing weights as printed (`intended`)",
    "literal / w": "routing weights as printed (`literal`)",
    "repaired model / w": "routing weights with a loss on them (ours)",
    "largest_mean_feature": "the largest mean feature, no model",
    "taught gate / w": "a separate taught gate (ours)",
}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def luck(methods: dict[str, Any]) -> dict[str, float | None]:
    """What chance gives for the parts of the headline, in the claims' units; {} without the model's runs.

    detection: the same alarms moved in time, percent of the events. lead: median lead of as many hits of a blind alarm
    of the same rate, expected.
    gain: the difference of two such counts. attribution: four equal weights. Cost has no chance.
    """
    if MODEL not in methods:
        return {}
    ours = methods[MODEL]["paper"]
    n = ours["n_events"]
    found = {"attribution": 1 / 4}
    if n:
        found["detection"] = 100 * ours["expected_hits_by_chance"] / n
        found["lead"] = median_lead(ours["alarm_rate_test"], ours["hits"]) if ours["hits"] else None
    known = [methods[name]["paper"] for name in RIVALS if name in methods]
    if n and known:
        best = max(known, key=lambda line: line["hits"])
        found["gain"] = 100 * (ours["expected_hits_by_chance"] - best["expected_hits_by_chance"]) / n
    return found


def attribution_rows(graded: dict[str, Any]) -> pd.DataFrame:
    """Who names the planted mechanism, medium strength, the set first on which the taught gate names least.

    graded : the content of `attribution.json`. Columns: set, attribution by, named right with its exact interval,
    plants, chance, mark, seeds: what other seeds name right.
    """
    known, rows = {"main": graded["variants"] | graded["plain_rules"]}, []
    known |= {shapes: graded[shapes] for shapes in CONFIRMING if shapes in graded}
    for shapes, found in known.items():
        for who in graded["headline"]:
            key = who if who in found else RULES_OF_ATTRIBUTION.get(who)
            if key in found:
                figures = found[key].get("by_strength", {}).get("medium", found[key])
                preset, _, reading = key.partition(" / ")
                low, high = figures["top1_interval"]
                row = {"set": shapes, "attribution by": who, "named right": figures["top1"], "95% low": low}
                mark = graded["by_arithmetic"].get(preset, "") if reading == "w" else ""
                row |= {"95% high": high, "plants": figures["n_plants"], "chance": graded["chance"], "mark": mark}
                others = graded.get("other_seeds", {}).get(key, {}).get(shapes, {})
                told = [f"seed {seed} {share:.0%}" for seed, share in others.items()]
                rows.append(row | {"seeds": ", ".join(["seed 0", *told]) if told else "one seed"})
    table = pd.DataFrame(rows)
    gate = table[table["attribution by"] == "taught gate / w"].set_index("set")["named right"]
    order = list(gate.sort_values(kind="stable").index)
    return table.sort_values("set", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)


def earned(table: pd.DataFrame) -> pd.DataFrame:
    """Claims about results: decided by what was computed here, not by the paper's own figures or by our taking over."""
    return table[table.group.isin(RESULTS) & (table.qualifier != BUILT_SO)]


def listed(rows: pd.DataFrame, up: str = UP) -> str:
    """The first few claims of a verdict with links to the deciding line, and how many more there are."""
    named = [f"[`{row['id']}`]({code_link(row, up)})" for row in records(rows.head(SHOWN))]
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return ", ".join(named) + more if named else "none"


def three_lists(table: pd.DataFrame, up: str = UP) -> str:
    """Markdown: what survives, what does not, what nobody can know, what is still to run."""
    results = earned(table)
    agreed = results[results.verdict == MATCH]
    near, other = results[results.verdict == CLOSE], results[results.verdict == DIFFERS]
    silent, waiting = (table[table.verdict == verdict] for verdict in (NOT_TESTABLE, NOT_RUN))
    own, slips = refuted(table)
    lists = {
        "Survives": (agreed, "claims about results are met"),
        "Nearly": (near, "are close, or met on a smaller size than the paper's"),
        "Does not": (
            other,
            f"claims about results come out otherwise here, on {other.result.nunique()} distinct results",
        ),
        "Excluded by its own figures": (own, "claims contradict its tables, its equations or the calendar"),
        "Wrong equation numbers": (slips, "symbols of one table cite another equation than the text has"),
        "Nobody can know": (silent, "claims are about what cannot be had or is not defined"),
        "Not run yet": (waiting, "claims wait for a computation, whose command the ledger prints"),
    }
    lines = [f"- **{title}:** {len(rows)} {what}: {listed(rows, up)}." for title, (rows, what) in lists.items()]
    return "\n".join(lines)


def headline_lines(
    table: pd.DataFrame, methods: dict[str, Any], up: str = UP, graded: dict[str, Any] | None = None
) -> str:
    """The headline as a Markdown table, each verdict linked to the line that decides it; below it `named_lines`."""
    rows = headline(table, luck(methods))
    by_id = table.set_index("id")
    lines = ["| | the paper | ours | interval | seeds, tier | chance | verdict |", "|---|---|---|---|---|---|---|"]
    for row in rows.to_dict("records"):
        source = by_id.loc[row["id"]].to_dict()
        link = f"[{full_verdict(by_id.loc[row['id']])}]({code_link(source, up)})"
        unit = {"percent": "%", "percentage points": " points"}.get(row["unit"], f" {row['unit']}")
        theirs, ours, chance = (
            f"{row[k]}{unit}" if _number(row[k]) else row[k] for k in ("the paper", "ours", "chance")
        )
        cells = (f"**{row['part']}**: {row['claim']}", theirs, ours, row["interval"], row["size"], chance, link)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(named_lines(graded, up) if graded else ()), "", CHANNELS])


def named_lines(graded: dict[str, Any], up: str = UP) -> list[str]:
    """Rows below the headline: how many planted mechanisms are named right, on the sternest set. The paper grades none.

    graded : the content of `attribution.json`.
    """
    table = attribution_rows(graded)
    rows = table[(table.set == table.set.iloc[0]) & table["attribution by"].isin(NAMED_BY)]
    link = f"[notebook 08]({up}reports/{graded['market']}/notebooks/08_attribution.ipynb)"
    return [
        sentence(
            "| **mechanism named**: {n} planted anomalies, sternest set `{s}`, {by} | no figure | {top:.0%}{mark} | "
            "{level} {low:.0%} to {high:.0%} | {seeds} | {chance:.0%} | {link} |",
            n=row["plants"], s=row["set"], by=NAMED_BY[row["attribution by"]], top=row["named right"], link=link,
            level="95%", seeds=row["seeds"] if "weights" in NAMED_BY[row["attribution by"]] else "",
            mark=f" ({row['mark']})" if row["mark"] else "", low=row["95% low"], high=row["95% high"],
            chance=row["chance"],
        )
        for row in rows.to_dict("records")
    ]  # fmt: skip


def _number(text: str) -> bool:
    return bool(text) and text.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()


def editions(table: pd.DataFrame, methods: dict[str, Any], later: dict[str, float]) -> str:
    """One paragraph that keeps the two editions apart. `later` holds what the second edition's abstract states."""
    ours = methods.get(MODEL, {}).get("paper")
    said = sentence(
        "All of the above is about the first edition. A later one, known by its abstract alone, states day-level AUC "
        "{auc} and average precision {ap} over {events} events that it does not name, {hit} of them detected; ",
        auc=later["auc"], ap=later["ap"], events=later["events"], hit=later["hits"],
    )  # fmt: skip
    if not ours:
        return said + "the model has not been run here."
    return said + sentence(
        "over the {n} events of this market ours has AUC {auc:.2f} and average precision {ap:.2f} (a coin: {coin:.2f} "
        "and {base:.2f}). The two cannot be set beside each other.",
        n=ours["n_events"], auc=ours["auc"], ap=ours["ap"], coin=0.5, base=methods["null"]["paper"]["ap"],
    )  # fmt: skip


def refuted(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Claims that the paper's own figures exclude, and those that are slips in the numbers of equations."""
    own = table[table.verdict == REFUTED]
    slip = own.id.str.startswith(SLIPS)
    return own[~slip], own[slip]


def _counted(table: pd.DataFrame) -> str:
    """How many claims got which verdict."""
    counts = {verdict.split()[-1]: int((table.verdict == verdict).sum()) for verdict in VERDICTS}
    own, slips = refuted(table)
    return sentence(
        "{match} ({built} of them because our build takes the setting over), {close} close, {differs}, {own} refuted "
        "by its own tables, its equations or the calendar{slips}, {testable} cannot be tested and {run}",
        built=int((table.qualifier == BUILT_SO).sum()), match=_verb(counts["match"], "matches", "match"),
        close=_verb(counts["close"]), differs=_verb(counts["differs"], "differs", "differ"), own=_verb(len(own)),
        testable=counts["testable"],
        run=_verb(counts["run"]) + " not run yet" if counts["run"] else "none waits to be run",
        slips=f" and {len(slips)} more by a wrong equation number" if len(slips) else "",
    )  # fmt: skip


def _verb(n: int, one: str = "is", many: str = "are") -> str:
    """The number and its verb."""
    return f"{n} {one if n == 1 else many}"


def support_sentence(table: pd.DataFrame) -> str:
    """What stands beside the verdicts that rest on results of ours, counted, and what does not."""
    decided = earned(table)
    decided = decided[decided.verdict.isin((MATCH, CLOSE, DIFFERS))]
    spread, trained = decided[decided.low.notna()], decided[decided.n_seeds.notna()]
    ranged = int((spread.interval != "95%").sum())
    return sentence(
        "Beside a verdict stands what there is: of the {n} verdicts that rest on results of ours, {seeds} on trained "
        "ones, which name their seeds and tier; {spread} have an interval or, on few seeds, the range over them "
        "({ranged}), {chance} the chance that the same alarms, moved in time, do as well. The others are checks that "
        "hold or do not, orders, or single runs.",
        n=len(decided), seeds=len(trained), spread=len(spread), ranged=ranged,
        chance=int(decided.chance_p.notna().sum()),
    )  # fmt: skip


BEATS = {  # which events -> the chance p that is asked
    "all events": "chance_p",
    "test events": "chance_p_test",
    "test events, March 2023 once": "chance_p_test_march_collapsed",
}


def beats(methods: dict[str, Any], protocol: str) -> dict[str, list[str]]:
    """Which events -> the causal methods that hit more of them than their own alarms do when moved in time."""
    causal = {name: m[protocol] for name, m in methods.items() if not m["lookahead"]}
    return {
        text: [name for name, line in causal.items() if line[key] is not None and line[key] < LEVEL]
        for text, key in BEATS.items()
    }


def beats_sentence(methods: dict[str, Any]) -> str:
    """How many causal methods beat chance under both protocols, trivial ones apart, and where random scores do."""
    causal = [name for name, m in methods.items() if not m["lookahead"]]
    trivial = {name for name in causal if methods[name]["family"] == "trivial"}
    parts, random = [], []
    for protocol in PROTOCOLS:
        found = beats(methods, protocol)
        random += [f"`{protocol}`, {text}" for text, who in found.items() if "random" in who]
        counts = (f"{len(who)} ({len(trivial & set(who))} trivial) on {text}" for text, who in found.items())
        parts.append(f"under `{protocol}` {', '.join(counts)}")
    passes = f" Random scores are among them ({'; '.join(random)})." if random else " Random scores are not among them."
    return sentence(
        "Of {n} causal methods, {k} of them trivial, so many hit more events than their own alarms moved in time (p < "
        "{level}): {parts}. On average about {luck:.0f} of {n} would do so if none were better than chance; many are "
        "near copies of each other, so they pass or fail together.{passes}",
        n=len(causal), k=len(trivial), level=LEVEL, parts="; ".join(parts), luck=LEVEL * len(causal), passes=passes,
    )  # fmt: skip


def costs(methods: dict[str, Any], quiet: int) -> pd.Series:
    """Method -> missed test events plus false alarms under `matched`, cheapest first; a constant score misses all.

    quiet : test sessions outside the windows of all events, of which `false_alarm_rate` is a share.
    """
    lines = {name: m["matched"] for name, m in methods.items() if not m["lookahead"]}
    missed = {name: line["n_events_test"] - line["hits_test"] for name, line in lines.items()}
    found = {name: missed[name] + quiet * (line["false_alarm_rate"] or 0.0) for name, line in lines.items()}
    return pd.Series(found, dtype=float).sort_values(kind="stable")


def totals_sentence(table: pd.DataFrame) -> str:
    """How many claims got which verdict: the paper's, with the number of distinct results that its differences rest on,
    and those of the two texts beside it."""
    paper = table.source == PAPER
    other = table[paper & (table.verdict == DIFFERS)]
    often = other.result.value_counts()
    most = f", and {often.iloc[0]} of them restate one (`{often.index[0]}`)" if len(often) < len(other) else ""
    texts = " and ".join(dict.fromkeys(table.source[~paper]))
    return sentence(
        "Of the paper's {n} checkable claims {first}. Claims repeat each other: the {d} that differ rest on {k} "
        "distinct results{most}. {read} verdicts of all were given by reading. Of "
        "the {m} claims of {texts} {second}.",
        n=int(paper.sum()), first=_counted(table[paper]), d=len(other), k=other.result.nunique(),
        most=most,
        read=int(table.qualifier.str.contains(BY_READING).sum()), m=int((~paper).sum()), texts=texts,
        second=_counted(table[~paper]),
    )  # fmt: skip


def read_ledger(path: Any) -> pd.DataFrame:
    """`tables/claims.csv` as `build.ledger` makes it: text where text belongs, NaN for missing numbers."""
    numbers = dict.fromkeys(("low", "high", "n_seeds", "chance_p", "paired_p"), float)
    text = pd.read_csv(path, keep_default_na=False, dtype=str)
    for name in numbers:
        text[name] = pd.to_numeric(text[name])
    return text.assign(line=text.line.astype(int))


def later_edition(path: Any) -> dict[str, float]:
    """What `paper/V2.md` records of the second edition's abstract: auc, ap, events, hits.

    Raises ValueError when the file no longer states them.
    """
    text = " ".join(path.read_text(encoding="utf-8").split())
    found = re.search(r"all (\w+) major stress events detected.*AUC ([\d.]+) and average precision ([\d.]+)", text)
    if not found or found.group(1) not in WORDS:
        raise ValueError(f"{path} does not state events, AUC and average precision of the later edition")
    events = WORDS.index(found.group(1))
    return {"events": events, "hits": events, "auc": float(found.group(2)), "ap": float(found.group(3).rstrip("."))}
