"""The ledger itself: every claim with its decider, our value and its verdict; totals and the headline from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
from tqdm import tqdm

from anomaly_routing.audit import counts
from anomaly_routing.claims import Claim
from anomaly_routing.ledger.registry import Decider, decider_of, deciders
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import (
    BUILT_SO,
    BY_READING,
    NOT_RUN,
    NOT_TESTABLE,
    SLACK,
    VERDICTS,
    Finding,
    NotRun,
    Undecided,
    Verdict,
    judge,
)

SIMULATED = "a simulated market gives no verdict on a claim about markets (verdict rules, common.market)"


def ledger(sources: Sources) -> pd.DataFrame:
    """One row a claim, in the order of `claims.yaml`.

    Columns: id, source, locator, kind, claim, paper, unit, verdict, qualifier, ours, interval (what low and high are),
    low, high, n_seeds, tier, protocol, device, chance_p, paired_p, reason, result (claims that restate one figure share
    it), mark (what whole numbers say of the printed figure), rule, audit, file and line (of the computation), stage,
    group (module of the decider).
    """
    known = deciders()
    rows = [
        _row(claim, decider_of(claim.id, known), sources)
        for claim in tqdm(sources.claims.values(), desc="claims", unit="claim")
    ]
    return pd.DataFrame(rows)


def _row(claim: Claim, decider: Decider | None, sources: Sources) -> dict[str, Any]:
    if decider is None:
        raise LookupError(f"no decider for {claim.id}: add one in src/anomaly_routing/ledger/deciders")
    finding, verdict, reason = decide(claim, decider, sources)
    _check_interval(claim, finding)
    row = {
        "id": claim.id,
        "source": claim.source,
        "locator": claim.locator,
        "kind": claim.kind,
        "claim": claim.quantity,
        "paper": shown(claim.value) if claim.value is not None else claim.direction,
        "unit": claim.unit,
        "verdict": verdict.verdict,
        "qualifier": verdict.qualifier,
        "ours": shown(finding.value) if finding else "",
    }
    spread = "lowest and highest seed" if finding and finding.ranged else "95%"
    row["interval"] = spread if finding and finding.low is not None else ""
    for key in ("low", "high", "n_seeds", "tier", "protocol", "device", "chance_p", "paired_p"):
        row[key] = getattr(finding, key) if finding else None
    beside = {k: v for k, v in finding.beside.items() if v is not None} if finding else {}
    row["reason"] = "; ".join([reason, *(f"{name} {shown(value)}" for name, value in beside.items())]).strip("; ")
    row |= {
        "result": result_of(claim, finding),
        "mark": marks(claim, sources),
        "rule": verdict.rule,
        "audit": " ".join(claim.audit),
        "file": decider.file,
        "line": decider.line,
    }
    return row | {"stage": decider.stage, "group": decider.group}


def _check_interval(claim: Claim, finding: Finding | None) -> None:
    """Raises ValueError for a number that lies outside its own interval: then one of the two is not what it says."""
    if finding is None or finding.low is None or finding.high is None or not isinstance(finding.value, int | float):
        return
    slack = SLACK * max(1.0, abs(finding.value))
    if not finding.low - slack <= finding.value <= finding.high + slack:
        raise ValueError(f"{claim.id}: {finding.value} lies outside its interval {finding.low} to {finding.high}")


def decide(claim: Claim, decider: Decider, sources: Sources) -> tuple[Finding | None, Verdict, str]:
    """Finding (None without one), verdict and reason of a claim."""
    if decider.only_real and not sources.real:
        return None, Verdict(NOT_TESTABLE), SIMULATED
    try:
        try:
            finding = decider.compute(claim, sources)
        except NotRun:
            if claim.id not in sources.answers:
                raise
            finding = sources.answers[claim.id]
        if finding.value is not None and finding.value != finding.value:  # no figure came out of it
            return replace(finding, value=None), Verdict("differs", "", "no value"), finding.note
        return finding, judge(claim, finding, sources.rules), finding.note
    except Undecided as outcome:
        found = Finding(outcome.value) if outcome.value is not None else None
        return found, Verdict(outcome.verdict, BY_READING if outcome.read else ""), str(outcome)


def result_of(claim: Claim, finding: Finding | None) -> str:
    """Name of the figure behind a verdict: claims that restate one result share it; else the claim's own id."""
    if finding is None:
        return claim.id
    if finding.result:
        return finding.result
    seeds = finding.by_seed if any(finding.by_seed) else ()  # zeros are alike without being the same
    return f"by seed {' '.join(map(repr, seeds))}" if seeds else claim.id


def marks(claim: Claim, sources: Sources) -> str:
    """What the audit's arithmetic says of a printed lead or rate, beside its verdict (rules: lead_time, note)."""
    table, _, rest = claim.id.partition(".")
    n, hits = sources.claimed("S41.n_events"), None
    if table in ("T1", "T2", "T6", "T8") and rest.endswith(".lead"):
        stem = claim.id.removesuffix(".lead")
        hits = sources.claims[f"{stem}.hits"].value if f"{stem}.hits" in sources.claims else None
        if hits is None:
            fitting = counts.counts_of_rate(sources.claimed(f"{stem}.rate"), n)
            hits = fitting[0] if fitting else None
        if hits and not counts.median_is_possible(claim.value, hits):
            return f"no median of {hits} whole days (A04)"
    if table in ("T6", "T7", "T8") and rest.endswith(".rate") and not counts.counts_of_rate(claim.value, n):
        return f"no count of {n} events (A05)"
    if table == "T4" and claim.unit == "percent" and not counts.counts_of_rate(claim.value, 10 * n):
        return f"no count of {n} events in ten runs either (A06)"
    if claim.id.startswith("S42.alerts.L") and not counts.counts_of_rate(
        claim.value, sources.claimed("S42.alert_days")
    ):
        return f"no count of {sources.claimed('S42.alert_days')} days (A10)"
    if claim.id == "S42.conservative":
        share, cut = sources.claimed("S42.alerts.L3L4"), 100 - sources.claimed("S2.threshold")
        if share > cut:
            times = f"{share / cut:.1f} times the {cut:.0f}% that its cut leaves in 2022"
            return f"its own alerts at L3 and L4 fill {share}% of the test days, {times} (A11)"
    return ""


def shown(value: Any) -> str:
    """A value as a reader sees it: at most four significant digits, lists with commas, checks in words."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "holds" if value else "fails"
    if isinstance(value, list | tuple):
        return ", ".join(shown(v) for v in value)
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def totals(table: pd.DataFrame, by: str = "kind") -> pd.DataFrame:
    """How many claims of each kind (or `source`) got which verdict, in the order of the rules, and the sum of all.
    The column `by construction` counts those of the matches that our build takes over from the paper, `by reading`
    those of all that a reader decided and no computation."""
    given = pd.crosstab(table[by], table["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    given = given.loc[list(dict.fromkeys(table[by]))]
    given.insert(1, BUILT_SO, table.assign(built=table.qualifier == BUILT_SO).groupby(by)["built"].sum())
    given.insert(2, BY_READING, table.assign(read=table.qualifier.str.contains(BY_READING)).groupby(by)["read"].sum())
    given.loc["all"] = given.sum()
    given["claims"] = given[list(VERDICTS)].sum(axis=1)
    return given.rename_axis(by).reset_index()


SMALL = 1e-4
HEADLINE = {  # part of the headline -> the claim that stands for it
    "detection": "ABS.detection",
    "lead": "ABS.lead",
    "gain": "S1.gain_contrib",
    "attribution": "ABS.svb.ps_peak",
    "cost": "C.params.total",
}


def headline(table: pd.DataFrame, chance: dict[str, float | None]) -> pd.DataFrame:
    """Detection, lead, gain, attribution and cost: the paper's figure, ours, chance, the verdict.

    chance : part -> what luck gives in the same unit, where it has one.
    """
    rows = table.set_index("id")
    listed = []
    for part, claim in HEADLINE.items():
        row = rows.loc[claim]
        luck = chance.get(part)
        line = {
            "part": part,
            "claim": row.claim,
            "the paper": row.paper,
            "ours": row.ours or row.verdict,
            "unit": row.unit,
        }
        line |= {"interval": _ends(row), "size": _size(row)}
        line |= {"chance": "" if luck is None else _rounded(luck), "verdict": full_verdict(row), "id": claim}
        listed.append(line)
    return pd.DataFrame(listed)


def _ends(row: Any) -> str:
    """What low and high are, and they; empty without."""
    if pd.isna(row.low) or pd.isna(row.high):
        return ""
    return f"{row.interval} {_rounded(row.low)} to {_rounded(row.high)}"


def _size(row: Any) -> str:
    """Seeds and tier of what was trained; else what the reason says of it."""
    if pd.isna(row.n_seeds):
        return row.reason
    return f"{row.n_seeds:.0f} seed{'' if row.n_seeds == 1 else 's'}, {row.tier}"


def _rounded(figure: float) -> str:
    """One decimal from one on, two digits below; what is next to nothing as 0."""
    small = f"{figure:.2g}" if abs(figure) >= SMALL else "0"
    return f"{figure:.1f}" if abs(figure) >= 1 else small


def full_verdict(row: Any) -> str:
    """Verdict with its qualifier."""
    return f"{row.verdict} ({row.qualifier})" if row.qualifier else row.verdict


def outstanding(table: pd.DataFrame) -> pd.DataFrame:
    """Stage -> number of claims that wait for it."""
    waiting = table[table.verdict == NOT_RUN]
    stages = waiting.reason.str.extract(r"\(stage (\w+)\)")[0].fillna("other")
    return stages.value_counts().rename_axis("stage").rename("claims").reset_index()
