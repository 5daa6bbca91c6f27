"""The paper's sentences about its cases, each with ours: every claim of a case with our value and the ledger's verdict.

What `case_measures` measures on the stored runs is decided here, and the ledger reads it from `claims.csv`; every other
claim is decided by the ledger's own computation. So there is one value and one verdict for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from anomaly_routing.case_market import daily_table
from anomaly_routing.case_measures import CRISIS, DEFAULT_PRESET, OF_STOCKS, PHASES, Track
from anomaly_routing.case_study import CaseStudy
from anomaly_routing.case_words import reasons
from anomaly_routing.claims import Claim
from anomaly_routing.ledger.build import decide, shown
from anomaly_routing.ledger.intervals import over_seeds
from anomaly_routing.ledger.registry import Decider, decider_of, deciders
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import NOT_RUN, NOT_TESTABLE, Finding, judge, middle
from anomaly_routing.model.config import PRESETS

STAGE = "case_studies"
UPSTREAM = ("", "data", "features", "model", STAGE)  # stages whose claims can be decided when this one runs
OURS = "in our runs"  # column: what parts the two numbers, computed; `why they differ` is of the text alone
INTENDED_ONLY = "intended only"  # said of a preset for which neither this stage nor the ledger computes the claim


def tracks(
    study: CaseStudy, baseline: pd.DatetimeIndex, rule: str = "val", focus: np.ndarray | None = None
) -> dict[tuple[str, int], Track]:
    """A `Track` for every stored run, by (preset, seed).

    focus : bool [N], the group whose mean score is `focus`, all others' `others`; None is the banks, whose mean every
        run keeps. Another group has it for seeds that keep single stocks.
    """
    market, found = study.market, {}
    table = daily_table(market, study.tickers, rule)
    for row in market.runs.itertuples():
        own = table[(table["preset"] == row.preset) & (table["seed"] == row.seed)].set_index("session")
        first = row.seed == min(market.seeds(row.preset)) and row.preset in market.with_weights
        inside = own.loc[own.index.intersection(study.sessions)].copy()
        inside["focus"], inside["others"] = inside["banks"], inside["nonbanks"]
        if focus is not None:
            kept = pd.DataFrame(row.run.score, row.run.score_sessions).reindex(inside.index)
            inside["focus"], inside["others"] = kept.loc[:, focus].mean(axis=1), kept.loc[:, ~focus].mean(axis=1)
        found[row.preset, row.seed] = Track(
            inside, own, study.date, baseline, study if first else None, row.preset,
            row.run.info[f"theta_s_{rule}"], row.run.info["theta_s_tail"],
        )  # fmt: skip
    return found


def finding(claim: Claim, values: Sequence[Any], **how: Any) -> Finding | None:
    """Our values of a claim, one a seed, as what the rules judge; None where no seed has one.

    how : tier and device of the runs. A range of the paper is compared end by end with pairs, and holds single values.
    """
    known = [v for v in values if np.isfinite(np.asarray(v, dtype=float)).all()]
    if not known:
        return None
    how |= {"n_seeds": len(known), "protocol": "paper"}
    if isinstance(known[0], bool | np.bool_):  # a comparison of arrays gives the second, which no rule takes
        return Finding(bool(all(known)), "holds", part=float(np.mean(known)), **how)
    if isinstance(known[0], tuple):
        return Finding([float(v) for v in middle(claim.kind)(np.array(known), axis=0)], **how)
    note = f"by seed: {' '.join(f'{v:.3g}' for v in known)}" if len(known) > 1 else ""
    if len(known) < len(values) and len(values) > 1:
        note += f"; {len(values) - len(known)} more without a value"
    return Finding(float(middle(claim.kind)(known)), _by(claim), note=note.strip("; "), **over_seeds(known), **how)


def _by(claim: Claim) -> str:
    """`Finding.by` of a number that answers a claim."""
    if claim.value is None:
        return "direction"
    if isinstance(claim.value, list):
        return "range"
    if claim.unit == "percent":
        return "relative_rises"
    return "score_levels" if claim.kind == "detection" and claim.unit in ("score", "MPI") else ""


def measured(
    measures: Mapping[str, Callable[[Track], Any]],
    found: Mapping[tuple[str, int], Track],
    preset: str,
    claims: Mapping[str, Claim],
    runs: pd.DataFrame,
) -> dict[str, Finding]:
    """Claim -> finding over the seeds of a preset, without a value where no seed has one. found : of `tracks`.
    runs : `CaseMarket.runs`."""
    own = {seed: track for (name, seed), track in found.items() if name == preset}
    rows = runs[(runs["preset"] == preset) & runs["seed"].isin(own)]
    values = {name: [f(t) for t in own.values()] for name, f in measures.items()}
    why = reasons(values, list(own), claims)
    how = {column: "/".join(sorted(set(rows[column]))) for column in ("tier", "device")}
    answers = {name: finding(claims[name], own_values, **how) for name, own_values in values.items()}
    return {name: replace(f or Finding(None), beside={OURS: why[name]}) for name, f in answers.items()}


def claims_table(
    sentences: Sequence[dict[str, Any]],
    ours: Mapping[tuple[str, str], Mapping[str, Finding]],
    given: Mapping[str, Finding],
    sources: Sources,
) -> pd.DataFrame:
    """One row a claim of some sentences, in the paper's order: sentence, number, ours by preset, verdict, why.

    ours : (preset, stop rule) -> claim -> finding, of `measured`. The verdict is read off `val` (protocol `paper`);
    ours under `tail` (`matched`) stands beside it. given : findings that this stage made otherwise. What the ledger
    decides it decides for the default preset alone, so another preset has a value where it was measured here.
    """
    known, rows = deciders(), []
    for sentence in sentences:
        for name in sentence["claims"]:
            claim, decider = sources.claims[name], decider_of(name, known)
            row = {"paragraph": sentence["paragraph"], "the paper says": sentence["says"], "claim": name}
            row |= {"quantity": claim.quantity, "paper": shown(claim.value), "unit": claim.unit}
            row["trained"] = not claim.checkable_without_training
            for preset in sorted(PRESETS, key=DEFAULT_PRESET.__ne__):
                own, verdict = ours.get((preset, "val"), {}).get(name), INTENDED_ONLY
                if preset == DEFAULT_PRESET:
                    own, verdict = _of_the_ledger(claim, decider, own or given.get(name), sources)
                elif own or name in ours.get((DEFAULT_PRESET, "val"), {}):
                    measured_here = decider.stage == STAGE  # else the ledger's rule holds for every preset
                    verdict = _judged(claim, own, sources) if measured_here else row[f"{DEFAULT_PRESET}: verdict"]
                matched = ours.get((preset, "tail"), {}).get(name)
                if preset == DEFAULT_PRESET:
                    later = "" if decider.stage in UPSTREAM else f"decided by stage {decider.stage}"
                    row[OURS] = later or _in_our_runs(name, own)
                row |= {
                    preset: _told(own),
                    f"{preset}: by seed": own.note.removeprefix("by seed: ") if own and "by seed" in own.note else "",
                    f"{preset}: seeds": own.n_seeds if own else None,
                    f"{preset}: matched": _told(matched),
                    f"{preset}: verdict": verdict,
                }
            rows.append(row | {"why they differ": sentence["why"], "audit": ", ".join(claim.audit)})
    return pd.DataFrame(rows)


def _in_our_runs(name: str, own: Finding | None) -> str:
    """What parts ours from the paper's, read off our own runs; of the ledger's checks, what they found."""
    if own is None:
        return ""
    parts = [own.beside.get(OURS, "") or ("" if "by seed" in own.note else own.note)]
    return "; ".join([*filter(None, parts), *(["first seed, stop rule tail"] if name in OF_STOCKS else [])])


def _of_the_ledger(claim: Claim, decider: Decider, own: Finding | None, sources: Sources) -> tuple[Finding | None, str]:
    """Value and verdict of a claim as the ledger has them. own : what this stage found."""
    if decider.stage not in UPSTREAM:
        return own, NOT_RUN
    if decider.stage == STAGE:
        return own, _judged(claim, own, sources)
    decision, verdict, _ = decide(claim, decider, sources)
    return decision or own, str(verdict)


def _judged(claim: Claim, own: Finding | None, sources: Sources) -> str:
    if own is None:
        return NOT_RUN
    return NOT_TESTABLE if own.value is None else str(judge(claim, own, sources.rules))


def reading(table: pd.DataFrame) -> pd.DataFrame:
    """A table of claims as it is read: each sentence once, ours with its seeds."""
    out = table.copy()
    for preset in PRESETS:
        pairs = zip(table[preset], table[f"{preset}: by seed"], strict=True)
        out[preset] = [f"{ours} ({seeds})" if seeds else ours for ours, seeds in pairs]
    again = table.duplicated(["paragraph", "the paper says"])
    out.loc[again, ["paragraph", "the paper says", "why they differ"]] = ""
    columns = ["paragraph", "the paper says", "quantity", "paper", "unit"]
    columns += [f"{preset}{part}" for preset in ("intended", "literal") for part in ("", ": verdict")]
    return out[[*columns, f"{DEFAULT_PRESET}: matched", OURS, "why they differ", "audit"]]


def _told(own: Finding | None) -> str:
    """A finding's value as text; of a check, in how many seeds, or for what part, it holds."""
    if own is None or own.value is None:
        return ""
    if own.by == "holds" and own.n_seeds and own.part is not None:
        return f"holds in {round(own.part * own.n_seeds)} of {own.n_seeds}"
    if own.by == "holds" and own.part and own.part < 1:
        return f"{shown(own.value)}, holds for {own.part:.0%} of its parts"
    return shown(own.value)


class Mark(NamedTuple):
    """A number of the paper on Figure 3, from one session to another; `top` makes it a range. implied : by two others
    that are printed. joined : part of the path that the paper tells."""

    first: str
    last: str
    value: float
    top: float | None = None
    implied: bool = False
    joined: bool = True


def figure3_marks(value: dict[str, Any], baseline: list[str]) -> dict[str, list[Mark]]:
    """The paper's numbers on Figure 3 by panel, at the sessions that it names.

    value : claim -> number. The banks' baseline is implied by their peak and its rise, that of contagion by its level
    and its rise; the banks' peak has no date in the paper and stands on 13 March, the first session after both
    closures. The second phase has one session, for which the text prints two weights (A31): the second one is no part
    of the path. Under a ticker: the highest score of that bank, without a date in the paper.
    """
    whole, day, week, peak = tuple(baseline), ("2023-03-10",) * 2, ("2023-03-17",) * 2, ("2023-03-13",) * 2

    def before(level: str, rise: str) -> Mark:
        return Mark(*whole, value[level] / (1 + value[rise] / 100), implied=True)

    highest = {t: [Mark(*CRISIS, value[f"F3.score.{t.lower()}"])] for t in ("SIVB", "FRC", "SBNY")}
    return highest | {
        "a": [Mark(*whole, value["F3.mpi.baseline"]), Mark(*day, value["F3.mpi.event_day"])],
        "focus": [before("F3.bank.peak", "F3.bank.rel"), Mark(*peak, value["F3.bank.peak"])],
        "others": [before("F3.nonbank.peak", "F3.nonbank.rel"), Mark(*peak, value["F3.nonbank.peak"])],
        "w1": [
            Mark(*whole, value["F3.ps.baseline"]),
            Mark(*PHASES[0], value["F3.ph1.ps"]),
            Mark(*day, value["F3.ps.mar10"]),
            Mark(*day, value["F3.ph2.ps"], joined=False),
            Mark(*PHASES[2], *value["F3.ph3.ps"], joined=False),
            Mark(*week, value["F3.ps.mar17"]),
        ],
        "w2": [Mark(*week, value["F3.liq.level"])],
        "w3": [before("F3.sc.level", "F3.sc.rel"), Mark("2023-03-10", "2023-03-17", value["F3.sc.level"])],
        "w4": [Mark(*week, value["F3.mom.level"])],
    }


def printed_weights(value: dict[str, Any]) -> dict[str, list[float]]:
    """The paper's routing weights in the order of the experts, NaN where it prints none: two on the event's day, all
    four on 17 March alone (A30). value : claim -> number."""
    days = {"10 Mar": ("F3.ps.mar10", "", "F3.sc.level", ""),
            "17 Mar": ("F3.ps.mar17", "F3.liq.level", "F3.sc.level", "F3.mom.level")}  # fmt: skip
    return {f"the paper, {day}": [value.get(name, np.nan) for name in own] for day, own in days.items()}
