"""Tables 2, 4, 6, 7 and 8 from the ablations' files: variant, hits, n_events, lead, n_seeds, tier, status.

Columns `delta`, `delta_low`, `delta_high` (events, paired by seed, against `full`) are used where they are there.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from anomaly_routing.claims import Claim
from anomaly_routing.ledger.registry import decides
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding

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
    """The line of a variant in `table<number>.csv`; raises NotRun when it is missing or says so itself."""
    table = sources.table(f"table{number}")
    names = (variant, *SAME.get(variant, ()), *(("full",) if variant in DEFAULTS else ()))
    found = table[table.variant.astype(str).isin(names)]
    if found.empty or found.iloc[0].status != "run":
        raise sources.not_run("ablations", f"variant {variant} of Table {number}")
    return found.iloc[0].to_dict()


def finding(row: dict[str, Any], value: float, by: str = "", low: Any = None, high: Any = None) -> Finding:
    known = [None if end is None or pd.isna(end) else float(end) for end in (low, high)]
    return Finding(
        float(value),
        by,
        low=known[0],
        high=known[1],
        n_seeds=int(row["n_seeds"]),
        tier=str(row["tier"]),
        protocol="paper",
        beside={"alarm days": row.get("alarm_rate")},
    )


def difference(sources: Sources, number: int, variant: str) -> tuple[dict[str, Any], float, float | None, float | None]:
    """Change against `full` in events, paired by seed where the table has it, with its interval."""
    row = row_of(sources, number, variant)
    if "delta" in row and not pd.isna(row["delta"]):
        return row, row["delta"], row.get("delta_low"), row.get("delta_high")
    return row, row["hits"] - row_of(sources, number, "full")["hits"], None, None


def _variant(claim: Claim) -> tuple[int, str]:
    """ "T2.no_mpi.hits" -> (2, "no_mpi"); "T4.gamma1.0.01" -> (4, "gamma1.0.01")."""
    table, _, rest = claim.id.partition(".")
    return int(table[1]), rest if table == "T4" else rest.rsplit(".", 1)[0]


@decides("T2.*.hits", "T2.*.rate", "T6.*.rate", "T7.*.rate", stage="ablations")
def variant_count(claim: Claim, sources: Sources) -> Finding:
    """The rule for ablations compares differences to `full`: ours is put on the paper's `full`. The row `full` itself
    is compared as it is, and has no difference that could be shown."""
    number, variant = _variant(claim)
    row = row_of(sources, number, variant)
    counts = claim.id.endswith(".hits")
    scale, by = (1.0, "") if counts else (100 / row["n_events"], "rates")
    if variant in ("full", "stress", "four"):
        return finding(row, scale * row["hits"], by)
    _, delta, low, high = difference(sources, number, variant)
    full = sources.claimed("T2.full.hits" if counts else "T2.full.rate")
    return finding(row, full + scale * delta, by if not counts else "", low, high)


@decides("S44.*.delta", stage="ablations")
def variant_change(claim: Claim, sources: Sources) -> Finding:
    row, delta, low, high = difference(sources, 2, claim.id.split(".")[1])
    per_event = 100 / row["n_events"]
    ends = [None if end is None or pd.isna(end) else per_event * end for end in (low, high)]
    return finding(row, per_event * delta, "rates", *ends)


@decides("T2.*.lead", "T6.*.lead", "T8.*.lead", stage="ablations")
def variant_lead(claim: Claim, sources: Sources) -> Finding:
    row = row_of(sources, *_variant(claim))
    return finding(row, row["lead"])


@decides("T4.*.*", "T8.*.rate", stage="ablations")
def sensitivity(claim: Claim, sources: Sources) -> Finding:
    """Difference to the default cell, put on the paper's default; the default cell itself is compared as it is."""
    number, variant = _variant(claim)
    row = row_of(sources, number, variant)
    rate = 100 * row["hits"] / row["n_events"]
    base = "20" if number == 8 else next(d for d in DEFAULTS if d.split(".")[0] == variant.split(".")[0])
    if variant == base:
        return finding(row, rate)
    default = row_of(sources, number, base)
    shown = sources.claimed(f"T{number}.{base}" + (".rate" if number == 8 else ""))
    return finding(row, shown + rate - 100 * default["hits"] / default["n_events"])
