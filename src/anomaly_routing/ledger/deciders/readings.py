"""What only reading decides: sentences with their reason, and what cannot be tested at all."""

from __future__ import annotations

from anomaly_routing.claims import Claim
from anomaly_routing.ledger.registry import decides, table, untestable
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding, Refuted

READ = {  # claim -> (whether it holds, by what)
    "S42.ghrn_hawkes": (False, "GHRN is a supervised heterophily method (WWW 2023); graph Hawkes is another paper, of AKBC 2020 (A23, A86)"),
    "Z002.cl.twitter": (False, "no package of that name in the index; the algorithm is seasonal decomposition with a median and a generalised ESD test, not ETS (D05)"),
    "Z002.cl.vae_prob": (False, "the library's score is a reconstruction distance; ours is a probability, another detector (D07)"),
}  # fmt: skip


def _read(row: tuple[bool, str]):
    def compare(claim: Claim, sources: Sources) -> Finding:
        return Finding(row[0], "holds", note=f"by reading: {row[1]}")

    return compare


table(READ, _read, only_real=False)


@decides("Z000.meta.mismatch", only_real=False)
def two_papers(claim: Claim, sources: Sources) -> Finding:
    """B01: what the abstract and the summary of the catalogue page claim shares no method."""
    abstract = [c for name, c in sources.claims.items() if name.startswith("Z000.method.")]
    summary = [c for name, c in sources.claims.items() if name.startswith("Z000.evt.")]
    words = lambda claims: {w for c in claims for w in ("triplet", "vmf", "direction", "var", "volatility", "tail") if w in c.quantity.lower().replace("-", " ").split() or w in c.id}  # noqa: E731  # fmt: skip
    if not words(abstract) & words(summary):
        raise Refuted("abstract and machine-written summary describe two systems that share no method (B01)")
    return Finding(True, "holds")


@decides("S1.svb_48h", only_real=False)
def hours_to_closure(claim: Claim, sources: Sources) -> Finding:
    """From the day of the announcement (after the close of 8 March) to that of the closure; hours are not in our data."""
    event = sources.events.set_index("id").loc["E01"]
    days = (event.date - min(event.alternatives)).days
    return Finding(24 * days == claim.value, "holds", note=f"{min(event.alternatives):%d %B} to {event.date:%d %B}: {days} days")


@decides("S2.qualitative_attr", only_real=False)
def no_metric_of_attribution(claim: Claim, sources: Sources) -> Finding:
    labels = [c for name, c in sources.claims.items() if name.endswith(".interp")]
    return Finding(bool(labels) and all(c.value is None for c in labels), "holds", note=f"its {len(labels)} labels are adjectives (A89)")  # fmt: skip


untestable({
    "F1b.spread_before": "a quoted spread needs quotes (A81); estimators from daily bars have a median of tens of basis points for stocks whose quotes are a few (SPEC 2.7), so a level cannot be compared",
    "F1b.spread_after": "a quoted spread needs quotes (A81); estimators from daily bars cannot be compared in level",
    "F1b.rsi_before": "an illustration: neither stock nor date of the regime shift is named (A85)",
    "F1b.rsi_after": "an illustration: neither stock nor date of the regime shift is named (A85)",
    "S41.same_pipeline": "the paper has no code to look into; here every run passes through one evaluator, and the second alarm channel that only its own model has is shown apart (A99)",
    "S41.sources": "which data the paper read cannot be seen; two of the three sources are licensed and not used here (A81)",
    "S41.sw": "what the paper ran on leaves no trace in its results; ours is in requirements.lock and constraints.txt",
    "S41.hw": "what the paper ran on leaves no trace in its results; every run here names its device",
    "S44.carry.corr_before": "Japanese banks are no US equities; neither they nor their American receipts are in the data at hand (A37)",
    "S44.carry.corr_after": "Japanese banks are no US equities; neither they nor their American receipts are in the data at hand (A37)",
    "S44.carry.prior_zero": "there is no Japanese bank in a universe of US equities for an edge to be absent from (A37)",
    "S44.crwd.err_uniform": "an error norm depends on the scaling of the features, which the paper does not give (A36)",
    "S44.crwd.err_liq": "an error norm depends on the scaling of the features, which the paper does not give (A36)",
    "S44.collapse_epoch": "the epoch at which the correlation was read is a statement about their log; its trainings stop after 20 epochs on average (A71)",
    "T7.*.interp": "an adjective without a measure (A89); mean largest weight and entropy of each variant stand in notebook 06",
    "T5.*.sec": "absolute seconds depend on the device (verdict rules, runtime); ours stand in the cost tables",
    "T5.train_min": "absolute minutes depend on the device (verdict rules, runtime); ours stand in the cost tables",
    "Z000.evt.highfreq": "there are no intraday prices here; a range-based daily variance stands in, labelled a proxy (B05)",
    "Z000.evt.china": "which market the summarised paper used cannot be seen from here; ours are US and Nepalese equities (B01)",
})  # fmt: skip
