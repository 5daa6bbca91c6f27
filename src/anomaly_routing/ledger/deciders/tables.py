"""Tables 2, 4, 6, 7 and 8 from the ablations' files: variant, hits, n_events, lead, n_seeds, tier, status, and p.

Changes against `full`, or the default cell of a row's own setting, are in events and paired by seed. They come from
columns `delta`, `delta_low`, `delta_high` where they are there, else from `ablations/differences.csv`, else from the
two levels, then without an interval.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from anomaly_routing.claims import Claim
from anomaly_routing.ledger.intervals import FEW
from anomaly_routing.ledger.registry import decides
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Difference, Finding

SAME = {  # name in the paper's table -> names that the sweep may give the same variant (SPEC 10)
    "prior": ("alpha1",),
    "learned": ("alpha0",),
    "fixed": ("fixed05",),
    "stress": ("full",),
    "single": ("no_moe",),
    "four": ("full",),
    "20": ("full",),
}
DEFAULTS = (
    "bilstm.128",
    "heads.4",
    "gcn.2",
    "topk.20",
    "latent.64",
    "gamma1.0.01",
    "gamma2.0.001",
    "lr.0.001",
    "batch.32",
)


def row_of(sources: Sources, number: int, variant: str) -> dict[str, Any]:
    """The line of a variant in `table<number>.csv`; raises NotRun, with the command that trains it, when it is missing
    or says so itself."""
    table = sources.table(f"table{number}")
    trained = sources.variant_of.get(f"T{number}.{variant}", variant)
    names = (variant, trained, *SAME.get(variant, ()), *(("full",) if variant in DEFAULTS else ()))
    found = table[table.variant.astype(str).isin(names)]
    ran = found[found.status == "run"]
    if ran.empty:
        tier = "" if found.empty else str(found.iloc[0].tier)
        raise sources.not_trained([trained], f"variant {variant} of Table {number}", tier=tier)
    return ran.iloc[0].to_dict()


def finding(row: dict[str, Any], value: float, by: str = "", **more: Any) -> Finding:
    p = row.get("p", float("nan"))  # how often the same alarms, moved in time, hit as many
    return Finding(
        float(value),
        by,
        n_seeds=int(row["n_seeds"]),
        tier=str(row["tier"]),
        protocol="paper",
        beside={"alarm days": row.get("alarm_rate")},
        **{"result": f"hits of {row['variant']}", "chance_p": None if pd.isna(p) else float(p)} | more,
    )


def difference(sources: Sources, number: int, variant: str, base: str = "full") -> tuple[Difference, str]:
    """Change against `base` in events (`paper` still to be filled), paired by seed where a table has it; its seeds."""
    row = row_of(sources, number, variant)
    found, seeds = [row.get(name) for name in ("delta", "delta_low", "delta_high")], ""
    path = sources.paths.reports / "tables" / "ablations" / "differences.csv"
    if (found[0] is None or pd.isna(found[0])) and path.exists():
        paired = pd.read_csv(path, dtype={"difference of each seed": str})  # "+1" of one seed is no number
        for own in paired[(paired.variant == row["variant"]) & (paired.tier == row["tier"])].to_dict("records"):
            found, seeds = [own["mean"], own["95% low"], own["95% high"]], own["difference of each seed"]
            if own["seeds"] < FEW:
                found[1:] = None, None
    delta, low, high = (None if v is None or pd.isna(v) else float(v) for v in found)
    if delta is None:
        delta = float(row["hits"] - row_of(sources, number, base)["hits"])
    return Difference(delta, float("nan"), low, high), seeds


def scaled(change: Difference, scale: float, paper: float) -> Difference:
    """In the claim's unit, beside the paper's own difference."""
    low, high = (None if end is None else scale * end for end in (change.low, change.high))
    return Difference(scale * change.ours, paper, low, high)


def changed(row: dict[str, Any], value: float, by: str, change: Difference, unit: str, seeds: str = "") -> Finding:
    """The measured level, judged by its difference to the base, which the reason states."""
    ends = "" if change.low is None or change.high is None else f" (95% {change.low:+.3g} to {change.high:+.3g})"
    note = f"difference {change.ours:+.3g} {unit}{ends}, paper {change.paper:+.3g}"
    return finding(row, value, by, difference=change, note=note + (f"; events by seed {seeds}" if seeds else ""))


def _variant(claim: Claim) -> tuple[int, str]:
    """ "T2.no_mpi.hits" -> (2, "no_mpi"); "T4.gamma1.0.01" -> (4, "gamma1.0.01")."""
    table, _, rest = claim.id.partition(".")
    return int(table[1]), rest if table == "T4" else rest.rsplit(".", 1)[0]


@decides("T2.*.hits", "T2.*.rate", "T6.*.rate", "T7.*.rate", stage="ablations")
def variant_count(claim: Claim, sources: Sources) -> Finding:
    """The rule for ablations compares differences to `full`; ours is the level that was measured. The row `full` itself
    is decided with the detections (`FULL` there)."""
    number, variant = _variant(claim)
    row = row_of(sources, number, variant)
    counts = claim.id.endswith(".hits")
    scale, by, unit = (1.0, "", "events") if counts else (100 / row["n_events"], "rates", "points")
    change, seeds = difference(sources, number, variant)
    paper = claim.value - sources.claimed("T2.full.hits" if counts else "T2.full.rate")
    return changed(row, scale * row["hits"], by, scaled(change, scale, paper), unit, seeds)


@decides("S44.*.delta", stage="ablations")
def variant_change(claim: Claim, sources: Sources) -> Finding:
    variant = claim.id.split(".")[1]
    row = row_of(sources, 2, variant)
    events, seeds = difference(sources, 2, variant)
    change = scaled(events, 100 / row["n_events"], claim.value)
    note = f"events by seed {seeds}" if seeds else ""
    return finding(row, change.ours, "rates", low=change.low, high=change.high, note=note, chance_p=None)


@decides("T2.*.lead", "T6.*.lead", "T8.*.lead", stage="ablations")
def variant_lead(claim: Claim, sources: Sources) -> Finding:
    row = row_of(sources, *_variant(claim))
    return finding(row, row["lead"], result=f"lead of {row['variant']}")


@decides("T4.*.*", "T8.*.rate", stage="ablations")
def sensitivity(claim: Claim, sources: Sources) -> Finding:
    """Judged by the mean difference to the default cell, paired by seed; that cell itself by its level."""
    number, variant = _variant(claim)
    row = row_of(sources, number, variant)
    scale = 100 / row["n_events"]
    base = "20" if number == 8 else next(d for d in DEFAULTS if d.split(".")[0] == variant.split(".")[0])
    if variant == base:
        return finding(row, scale * row["hits"])
    change, seeds = difference(sources, number, variant, base)
    paper = claim.value - sources.claimed(f"T{number}.{base}" + (".rate" if number == 8 else ""))
    return changed(row, scale * row["hits"], "", scaled(change, scale, paper), "points", seeds)
