"""Table 1 and the claims about it: hits, leads, alarms, from the stored runs under protocol `paper`."""

from __future__ import annotations

from typing import Any

import numpy as np

from anomaly_routing.claims import Claim, values
from anomaly_routing.evaluation.statistics import paired_comparison
from anomaly_routing.ledger.deciders.own_numbers import table1_rates
from anomaly_routing.ledger.intervals import over_events
from anomaly_routing.ledger.registry import decides
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import LEVEL, Finding
from anomaly_routing.table1 import PAPER_ROWS

ROWS = {claim.removeprefix("T1."): members[0] for claim, members in PAPER_ROWS.values()}  # row -> our method
MODEL = "intended"
FULL = ("T2.full", "T6.stress", "T7.four")  # the full model's row in other tables; that of Table 8 has later samples


def line_of(sources: Sources, row: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Our method of a row of Table 1, and its line under protocol `paper`."""
    method = ROWS[row]
    entry = sources.method(method, "model" if method == MODEL else "deep_baselines")
    return entry, entry["paper"]


def named(method: str, figure: str = "hits") -> str:
    """Name of a method's figure, the same in every table that repeats it."""
    return f"{figure} of {'full' if method == MODEL else method}"


def with_runs(entry: dict[str, Any], value: Any, by: str = "", **more: Any) -> Finding:
    """A finding of a trained method under protocol `paper`, with its chance beside it."""
    line = entry["paper"]
    beside = {"by chance": line["expected_hits_by_chance"], "alarm days": line["alarm_rate_test"]}
    beside |= {"matched: hits": entry["matched"]["hits"], "matched: p": entry["matched"]["chance_p"]}
    return Finding(
        value,
        by,
        n_seeds=entry["n_seeds"],
        tier=entry["tier"],
        device=entry["device"],
        protocol="paper",
        beside=beside,
        **more,
    )


@decides("T1.*.hits", "T2.full.hits", stage="deep_baselines")
def hits(claim: Claim, sources: Sources) -> Finding:
    """Events that the median seed hits, with the exact interval of that count: the row of our Table 1."""
    entry, line = line_of(sources, "ours" if claim.id.startswith("T2") else claim.id.split(".")[1])
    ends = {"low": line["hits_low"], "high": line["hits_high"]}
    return with_runs(entry, float(line["hits"]), **ends, chance_p=line["chance_p"], result=named(entry["method"]))


@decides("T1.*.rate", "ABS.detection", *(f"{name}.rate" for name in FULL), stage="deep_baselines")
def rate(claim: Claim, sources: Sources) -> Finding:
    """A rate is turned into events first (verdict rules, `rates`): the verdict is that of the count, read in points."""
    entry, line = line_of(sources, claim.id.split(".")[1] if claim.id.startswith("T1") else "ours")
    n = line["n_events"]
    found = 100 * float(line["hits"]) / n
    low, high = (100 * line[end] / n for end in ("hits_low", "hits_high"))
    more = {"low": low, "high": high, "result": named(entry["method"])}
    return with_runs(entry, found, "rates", chance_p=line["chance_p"], **more)


@decides("T1.*.lead", "ABS.lead", *(f"{name}.lead" for name in FULL if name != "T7.four"), stage="deep_baselines")
def lead(claim: Claim, sources: Sources) -> Finding:
    """Median over the hits of the median seed, as in our Table 1. The interval draws its events, and takes every seed's
    own median in."""
    entry, line = line_of(sources, claim.id.split(".")[1] if claim.id.startswith("T1") else "ours")
    leads = [v for v in line["per_seed"]["lead_median"] if v is not None]
    if line["lead_median"] is None:
        of = f"{len(leads)} of {entry['n_seeds']} seeds hit any"
        return with_runs(entry, float("nan"), note=f"the median seed hits no event, so no lead; {of}")
    more = {"by_seed": tuple(map(float, leads)), "result": named(entry["method"], "lead")}
    each = [e["lead"] if e["hit"] else np.nan for e in line["per_event"].values()]
    low, high = over_events(np.array(each, float), np.nanmedian)
    if low is not None:
        more |= {"low": min(low, *leads), "high": max(high, *leads)}
    return with_runs(entry, float(line["lead_median"]), chance_p=line["chance_p"], **more)


@decides("T1.rank1", stage="deep_baselines")
def first_on_both(claim: Claim, sources: Sources) -> Finding:
    lines = {row: line_of(sources, row) for row in ROWS}
    ours, rivals = lines.pop("ours"), lines
    best = max(rivals.values(), key=lambda pair: pair[1]["hits"])
    first_hits = ours[1]["hits"] > best[1]["hits"]
    leads = [line["lead_median"] or 0 for _, line in rivals.values()]
    first_lead = (ours[1]["lead_median"] or 0) > max(leads)
    p = paired_comparison(ours[1]["per_event"], best[1]["per_event"])["p"]
    note = f"{ours[1]['hits']} hits against {best[1]['hits']}; lead {ours[1]['lead_median']} against {max(leads)}"
    part = (first_hits + first_lead) / 2
    return with_runs(ours[0], first_hits and first_lead, "holds", part=part, paired_p=p, note=note)


@decides("S42.lstm_misses_regimes", stage="deep_baselines")
def lstm_on_regime_shifts(claim: Claim, sources: Sources) -> Finding:
    entry, line = line_of(sources, "lstm_ae")
    shifts = list(sources.events.id[sources.events.kind == "monetary"])
    missed = [event for event in shifts if not line["per_event"][event]["hit"]]
    note = f"of {', '.join(shifts)} it misses {', '.join(missed) or 'none'}; {line['hits']} of {line['n_events']} hit"
    return with_runs(entry, len(missed) == len(shifts), "holds", part=len(missed) / len(shifts), note=note)


@decides("S42.conservative", stage="deep_baselines")
def conservative(claim: Claim, sources: Sources) -> Finding:
    """A11's default: few false alarms, and hits that the same alarms moved in time do not have. False alarms are few
    when they fill no more of the test days outside [-5, +10] of all events than the cut allows (SPEC 9.4 ii, iv)."""
    entry = sources.method(MODEL, "model")
    line, nominal = entry["paper"], 1 - sources.claimed("S2.threshold") / 100
    rate, p = line["false_alarm_rate"], line["chance_p"]
    parts = (rate <= nominal, p < LEVEL)
    note = (
        f"false alarms on {rate:.1%} of the test days away from events, where the cut allows {nominal:.0%}; the same "
    )
    note += f"alarms moved in time hit as many with p {p:.3f}"
    return with_runs(entry, all(parts), "holds", part=sum(parts) / len(parts), chance_p=p, note=note)


@decides("S1.gain_contrib", stage="deep_baselines")
def gain_of_table1(claim: Claim, sources: Sources) -> Finding:
    rates = table1_rates(sources)
    best = max(rate for name, rate in rates.items() if name != "ours")
    ours = sources.method("intended", "model")["paper"]
    rivals = {name: sources.scored[name]["paper"] for name in ("tranad", "ghrn_star") if name in sources.scored}
    if not rivals:
        raise sources.not_run("deep_baselines", "no stored run of the paper's best baselines")
    top = max(rivals.values(), key=lambda line: line["hits"])
    gain = 100 * (ours["hits"] - top["hits"]) / ours["n_events"]
    note = (
        f"Table 1 does give {rates['ours'] - best:.1f}; ours against our best of the two, two alarm channels against "
        "one (A99)"
    )
    p = paired_comparison(ours["per_event"], top["per_event"])["p"]
    both = [(bool(e["hit"]), bool(top["per_event"][i]["hit"])) for i, e in ours["per_event"].items()]
    low, high = over_events([100.0 * (a - b) for a, b in both])  # paired: an event is drawn with both answers
    return Finding(gain, "rates", low, high, paired_p=p, note=note, **sources.training)


@decides("T1.best_baselines", stage="deep_baselines")
def best_two(claim: Claim, sources: Sources) -> Finding:
    baselines = {n: e for n, e in sources.scored.items() if e["family"] != "trivial" and n in OUR_TABLE1}
    if len(baselines) < len(OUR_TABLE1):
        missing = sorted(set(OUR_TABLE1) - set(baselines))
        raise sources.not_run("deep_baselines", f"no stored run of {', '.join(missing)}")
    hits = {name: entry["paper"]["hits"] for name, entry in baselines.items()}
    best = sorted(name for name, k in hits.items() if k == max(hits.values()))
    entry = baselines[best[0]]
    rate = 100 * max(hits.values()) / entry["paper"]["n_events"]
    tied = {"tranad"} < set(best) and bool({"ghrn_star", "graph_hawkes"} & set(best))
    return Finding(
        rate if tied else float("nan"),
        "rates",
        n_seeds=entry["n_seeds"],
        tier=entry["tier"],
        protocol="paper",
        note=f"best here: {', '.join(best)} at {rate:.1f}%",
    )


OUR_TABLE1 = (
    *("lstm_ae", "anomaly_transformer", "tranad", "gcn_ae", "gat_ae", "dominant", "cola", "anomaly_dae"),
    *("evolve_gcn", "ghrn_star", "memstream"),
)


@decides("S42.static_misses", stage="deep_baselines")
def static_misses(claim: Claim, sources: Sources) -> Finding:
    static = ("gcn_ae", "gat_ae", "dominant", "cola", "anomaly_dae")
    lines = [sources.method(name) for name in static]
    missed = [e["paper"]["n_events"] - e["paper"]["hits"] for e in lines]
    return Finding(
        missed,
        "range",
        n_seeds=min(e["n_seeds"] for e in lines),
        tier="/".join(sorted({e["tier"] for e in lines})),
        protocol="paper",
    )


# --- alert levels ----------------------------------------------------------------------------------------------------
@decides("S42.alerts.L?", "S42.alerts.L3L4", stage="model")
def alert_share(claim: Claim, sources: Sources) -> Finding:
    """Share of the test sessions at a level of the index, cut at the validation quantiles; median over seeds."""
    ending = claim.id.rsplit(".", 1)[1]
    wanted = (3, 4) if ending == "L3L4" else (int(ending[1]),)

    def share(meta: dict, run: Any) -> float:
        level = run.daily["level@val"]
        return 100 * float(level[sources.splits.test(level.index)].isin(wanted).mean())

    return sources.over_seeds(claim, share)


@decides("S42.gme_level", stage="model")
def level_at_gamestop(claim: Claim, sources: Sources) -> Finding:
    tops = [int(run.daily["level@val"]["2024-05-06":"2024-05-17"].max()) for _, run in sources.model_runs]
    same = [f"L{top}" == claim.value for top in tops]
    shown = ", ".join(f"L{top}" for top in tops)
    return Finding(
        all(same), "holds", part=float(np.mean(same)), note=f"highest level by seed: {shown}", **sources.training
    )


def claimed_counts(sources: Sources) -> dict[str, int]:
    """Row of Table 1 -> the paper's count."""
    return values(sources.claims, "T1.", ".hits")
