"""What only reading decides: sentences with their reason, and what cannot be tested at all."""

from __future__ import annotations

import re

from anomaly_routing.claims import Claim
from anomaly_routing.ledger.registry import decides, table, untestable
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding, Refuted

READ = {  # claim -> (whether it holds, by what)
    "S42.ghrn_hawkes": (
        False,
        "GHRN is a supervised heterophily method (WWW 2023); graph Hawkes is another paper, of AKBC 2020 (A23, A86)",
    ),
    "Z002.cl.twitter": (
        False,
        "no package of that name in the index; the method is STL season, median and generalised ESD, not ETS (D05)",
    ),
    "Z002.cl.vae_prob": (
        False,
        "the library's score is a reconstruction distance; ours is a probability, another detector (D07)",
    ),
}


def _read(row: tuple[bool, str]):
    def compare(claim: Claim, sources: Sources) -> Finding:
        return Finding(row[0], "holds", read=True, note=row[1])

    return compare


table(READ, _read, only_real=False)


@decides("Z000.meta.mismatch", only_real=False)
def two_papers(claim: Claim, sources: Sources) -> Finding:
    """B01: what the abstract and the summary of the catalogue page claim shares no method, in our words for it."""
    abstract = [c for name, c in sources.claims.items() if name.startswith("Z000.method.")]
    summary = [c for name, c in sources.claims.items() if name.startswith("Z000.evt.")]
    terms = ("triplet", "vmf", "directions", "var", "volatility", "tails")

    def named(claims: list[Claim]) -> set[str]:
        said = {word for claim in claims for word in re.findall(r"[a-z]+", f"{claim.quantity} {claim.id}".lower())}
        return said & set(terms)

    if named(abstract) and named(summary) and not named(abstract) & named(summary):
        raise Refuted("abstract and machine-written summary describe two systems that share no method (B01)", read=True)
    return Finding(True, "holds", read=True)


@decides("S1.svb_48h", only_real=False)
def hours_to_closure(claim: Claim, sources: Sources) -> Finding:
    """From the day of the announcement, after its close, to that of the closure; hours are not in our data."""
    event = sources.events.set_index("id").loc["E01"]
    days = (event.date - min(event.alternatives)).days
    return Finding(
        24 * days == claim.value, "holds", note=f"{min(event.alternatives):%d %B} to {event.date:%d %B}: {days} days"
    )


@decides("S2.qualitative_attr", only_real=False)
def no_metric_of_attribution(claim: Claim, sources: Sources) -> Finding:
    labels = [c for name, c in sources.claims.items() if name.endswith(".interp")]
    return Finding(
        bool(labels) and all(c.value is None for c in labels),
        "holds",
        read=True,
        note=f"its {len(labels)} labels are adjectives (A89)",
    )


QUOTES = (
    "a quoted spread needs quotes (A81); estimators from daily bars have a median of tens of basis points for stocks "
    "whose quotes are a few (SPEC 2), so a level cannot be compared"
)
REGIME = "an illustration: neither stock nor date of the regime shift is named (A85)"
JAPAN = (
    "Japanese banks are no US equities; neither they nor their American receipts are in the data at hand (A37), so "
    "there is nothing to correlate and no edge that could be absent"
)
NORMS = "an error norm depends on the scaling of the features, which the paper does not give (A36)"
CLOCK = "absolute times depend on the device (verdict rules, runtime); ours stand in the cost tables"
ADJECTIVE = (
    "an adjective without a measure (A89); largest weight and entropy of each variant are printed in notebook 06"
)
MACHINE = "what the paper ran on leaves no trace in its results; our versions are locked and every run names its device"
untestable({"F1b.spread_before": QUOTES, "F1b.spread_after": QUOTES, "F1b.rsi_before": REGIME, "F1b.rsi_after": REGIME})
untestable({"S44.carry.corr_before": JAPAN, "S44.carry.corr_after": JAPAN, "S44.carry.prior_zero": JAPAN})
untestable({"S44.crwd.err_uniform": NORMS, "S44.crwd.err_liq": NORMS, "T7.*.interp": ADJECTIVE})
untestable({"T5.*.sec": CLOCK, "T5.train_min": CLOCK, "S41.sw": MACHINE, "S41.hw": MACHINE})
untestable(
    {
        "S41.same_pipeline": (
            "the paper has no code to look into; here every run passes through one evaluator, and the second alarm "
            "channel that only its own model has is shown apart (A99)"
        ),
        "S41.sources": "which data the paper read cannot be seen; two of its three sources are licensed (A81)",
        "S44.collapse_epoch": (
            "the epoch at which the correlation was read is a statement about their log; their trainings stop after 20 "
            "epochs on average (A71)"
        ),
        "Z000.evt.highfreq": "there are no intraday prices here; a range-based daily variance stands in, a proxy (B05)",
        "Z000.evt.china": "which market the summarised paper used cannot be seen from here (B01)",
    }
)
