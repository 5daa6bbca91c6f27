"""Claims that the paper's own figures, tables and words decide, without data and without a model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np

from anomaly_routing.audit import counts, forms, shapes
from anomaly_routing.claims import Claim, values
from anomaly_routing.ledger.registry import decides, table
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding, NotTestable, Refuted

POINTS = 0.051  # two printed percentages differ by rounding alone


def table1_rates(sources: Sources) -> dict[str, float]:
    return values(sources.claims, "T1.", ".rate")


def deltas(sources: Sources) -> dict[str, float]:
    """Variant -> change in points that Table 2 gives it."""
    return values(sources.claims, "S44.", ".delta")


@decides("ABS.gain_over_best_baseline", only_real=False)
def gain_of_the_abstract(claim: Claim, sources: Sources) -> Finding:
    rates = table1_rates(sources)
    gain = rates["ours"] - max(rate for name, rate in rates.items() if name != "ours")
    if abs(gain - claim.value) > POINTS:
        raise Refuted(f"its own Table 1 gives {gain:.1f} points; the figure is that of the row without experts", gain)
    return Finding(gain, "rates")


@decides("S1.gain_contrib", only_real=False)
def gain_of_table1(claim: Claim, sources: Sources) -> Finding:
    rates = table1_rates(sources)
    best = max(rate for name, rate in rates.items() if name != "ours")
    ours = sources.method("intended", "model")["paper"]
    rivals = {name: sources.scored[name]["paper"] for name in ("tranad", "ghrn_star") if name in sources.scored}
    if not sources.real or not rivals:
        raise NotTestable("only the market of the paper can say whether the gain is there")
    top = max(rivals.values(), key=lambda line: line["hits"])
    gain = 100 * (ours["hits"] - top["hits"]) / ours["n_events"]
    note = f"Table 1 does give {rates['ours'] - best:.1f}; ours against our best of the two"
    return Finding(gain, "rates", protocol="paper", note=note, **sources.training)


@decides("T1.evolvegcn.rate", only_real=False)
def rate_of_its_hits(claim: Claim, sources: Sources) -> Finding:
    """A03: the printed rate is no rate of the printed count."""
    hits, n = sources.claimed("T1.evolvegcn.hits"), sources.claimed("S41.n_events")
    if hits not in counts.counts_of_rate(claim.value, n):
        raise Refuted(f"{hits} of {n} is {100 * hits / n:.1f}%; no count of {n} gives {claim.value}%", 100 * hits / n)
    return Finding(100 * hits / n, "rates")


@decides("T1.best_baselines", only_real=False)
def best_two(claim: Claim, sources: Sources) -> Finding:
    if not sources.real:
        raise NotTestable("a simulated market gives no verdict on a claim about markets")
    baselines = {n: e for n, e in sources.scored.items() if e["family"] != "trivial" and n in OUR_TABLE1}
    if len(baselines) < len(OUR_TABLE1):
        missing = sorted(set(OUR_TABLE1) - set(baselines))
        raise sources.not_run("deep_baselines", f"no stored run of {', '.join(missing)}")
    hits = {name: entry["paper"]["hits"] for name, entry in baselines.items()}
    best = sorted(name for name, k in hits.items() if k == max(hits.values()))
    entry = baselines[best[0]]
    rate = 100 * max(hits.values()) / entry["paper"]["n_events"]
    tied = {"tranad"} < set(best) and bool({"ghrn_star", "graph_hawkes"} & set(best))
    return Finding(rate if tied else float("nan"), "rates", n_seeds=entry["n_seeds"], tier=entry["tier"], note=f"best here: {', '.join(best)} at {rate:.1f}%")  # fmt: skip


OUR_TABLE1 = (
    *("lstm_ae", "anomaly_transformer", "tranad", "gcn_ae", "gat_ae", "dominant", "cola", "anomaly_dae"),
    *("evolve_gcn", "ghrn_star", "memstream"),
)


@decides("S41.n_baselines", only_real=False)
def listed_baselines(claim: Claim, sources: Sources) -> Finding:
    listed = sum(values(sources.claims, "S41.n_base.").values())
    rows = len(table1_rates(sources)) - 1
    if claim.value not in (listed, rows):
        raise Refuted(f"its list has {listed}, its Table 1 {rows} besides its own", listed)
    return Finding(listed)


@decides("S42.static_misses", only_real=False)
def static_misses(claim: Claim, sources: Sources) -> Finding:
    if not sources.real:
        raise NotTestable("a simulated market gives no verdict on a claim about markets")
    static = ("gcn_ae", "gat_ae", "dominant", "cola", "anomaly_dae")
    lines = [sources.method(name) for name in static]
    missed = [e["paper"]["n_events"] - e["paper"]["hits"] for e in lines]
    return Finding(missed, "range", n_seeds=min(e["n_seeds"] for e in lines), tier="/".join(sorted({e["tier"] for e in lines})), protocol="paper")  # fmt: skip


@decides("S41.in_test", only_real=False)
def events_in_the_test_years(claim: Claim, sources: Sources) -> Finding:
    from anomaly_routing.audit.calendar import could_lie_in

    dates = values(sources.claims, "S41.date.")
    first, last = (int(year) for year in sources.claimed("S41.test_years").split("-"))
    outside = [name for name, text in dates.items() if not could_lie_in(text, first, last)]
    if outside:
        raise Refuted(f"by its own dates {len(outside)} lie outside ({', '.join(outside)})", len(dates) - len(outside))
    return Finding(len(dates))


@decides("F3.sequence", only_real=False)
def order_of_failure(claim: Claim, sources: Sources) -> Finding:
    scores = {name: sources.claimed(f"F3.score.{code}") for name, code in SCORED.items()}
    failed = {name: sources.claimed(f"S41.date.{name}") for name in SCORED}
    by_score, by_date = sorted(scores, key=scores.get, reverse=True), sorted(failed, key=failed.get)
    if by_score != by_date:
        raise Refuted(f"by score {', '.join(by_score)}; by the paper's own dates {', '.join(by_date)}")
    return Finding(True, "holds")


SCORED = {"svb": "sivb", "frc": "frc", "sbny": "sbny"}


@decides("S1.contagion_sequence", only_real=False)
def order_of_the_dates(claim: Claim, sources: Sources) -> Finding:
    dates = [sources.claimed(f"S41.date.{name}") for name in ("svb", "sbny", "frc")]
    return Finding(dates == sorted(dates), "holds", note="dates of paper 4.1")


@decides("S44.mpi_largest", only_real=False)
def largest_loss(claim: Claim, sources: Sources) -> Finding:
    given = deltas(sources)
    worst = min(given, key=given.get)
    if worst != "no_mpi":
        raise Refuted(f"its Table 2 has {given[worst]} for {worst}, {given['no_mpi']} without the index", given[worst])
    return Finding(True, "holds")


@decides("S44.sum_gains", only_real=False)
def sum_of_gains(claim: Claim, sources: Sources) -> Finding:
    given = deltas(sources)
    every, without = -sum(given.values()), -sum(v for name, v in given.items() if name != "alpha0")
    if abs(every - claim.value) > POINTS:
        raise Refuted(f"the rows sum to {every:.1f}; {without:.1f} leaves out the row alpha=0", every)
    return Finding(every, "rates")


@decides("S44.synergy", only_real=False)
def sum_beyond_the_rate(claim: Claim, sources: Sources) -> Finding:
    total, full = -sum(deltas(sources).values()), sources.claimed("T2.full.rate")
    if total <= full:
        raise Refuted(f"the sum is {total:.1f}, not above {full}", total)
    raise NotTestable(
        f"the sum, {total:.1f}, does exceed {full}, but that says only that the parts overlap: losses of parts that "
        "are needed together each count the whole; what would be complementary is not defined (A25)"
    )


@decides("T4.n", only_real=False)
def rows_of_table4(claim: Claim, sources: Sources) -> Finding:
    return Finding(len({name.split(".")[1] for name in table4(sources)}), "exact")


def table4(sources: Sources) -> dict[str, float]:
    """Cell of Table 4 (claim id) -> printed percentage."""
    return {n: c.value for n, c in sources.claims.items() if n.startswith("T4.") and c.unit == "percent"}


@decides("T4.within2", only_real=False)
def band_of_table4(claim: Claim, sources: Sources) -> Finding:
    cells = table4(sources)
    best, allowed = max(cells.values()), {"T4.lr.0.01", "T4.topk.10"}
    outside = {name: best - v for name, v in cells.items() if best - v > claim.value + POINTS and name not in allowed}
    if outside:
        worst = max(outside, key=outside.get)
        raise Refuted(f"{len(outside)} more cells lie outside, {worst} by {outside[worst]:.1f} points", max(outside.values()))  # fmt: skip
    return Finding(True, "holds")


@decides("T4.default_best", only_real=False)
def best_of_table4(claim: Claim, sources: Sources) -> Finding:
    cells = table4(sources)
    default = next(v for name, v in cells.items() if sources.claims[name].comparator == "default")
    better = {name: v for name, v in cells.items() if v > default}
    if better:
        raise Refuted(f"{', '.join(better)} has {max(better.values())} against {default}", max(better.values()))
    return Finding(True, "holds")


@decides("T4.set", only_real=False)
def set_of_table4(claim: Claim, sources: Sources) -> Finding:
    year = int(sources.claimed("S41.val_year"))
    own = [n for n, text in values(sources.claims, "S41.date.").items() if text.startswith(str(year))]
    fits = counts.common_denominators(set(table4(sources).values()), range(1, len(own) + 2))
    if not fits:
        raise Refuted(f"{year} holds {len(own)} of its events, so no such percentage can be a share of them", len(own))
    return Finding(True, "holds")


@decides("S42.alerts.sum", only_real=False)
def sum_of_shares(claim: Claim, sources: Sources) -> Finding:
    total = sum(sources.claimed(f"S42.alerts.L{k}") for k in range(5))
    sessions = next(iter(counts.session_counts([sources.claimed(f"S42.alerts.L{k}") for k in range(5)], range(100, 961))), None)  # fmt: skip
    return Finding(total, note=f"shares of {sessions} sessions, the only count that gives all five")


@decides("S44.fed_breadth_lead", only_real=False)
def lead_beyond_the_window(claim: Claim, sources: Sources) -> Finding:
    """A16: one event has a whole-day lead, and at most the window."""
    window = sources.claimed("S2.window5")
    if claim.value > window or not counts.rounds_to(round(claim.value), claim.value):
        raise Refuted(f"one event's lead is a whole number of sessions and at most {window} by its own window", window)
    return Finding(claim.value)


@decides("T3.eqref.*", only_real=False)
def equation_number(claim: Claim, sources: Sources) -> Finding:
    """Number in Table 3 against the number in section 3, which the claim's comparator records."""
    actual = int(re.search(r"\d+", claim.comparator).group())
    if actual != claim.value:
        raise Refuted(f"section 3 numbers it {actual}", actual)
    return Finding(True, "holds")


@decides("S1.ghrn_static", only_real=False)
def ghrn_twice(claim: Claim, sources: Sources) -> Finding:
    later = sources.claims["S42.ghrn_hawkes"]
    if "contradicted later" in claim.direction and sources.claimed("S41.n_base.dynamic") == 2:
        raise Refuted(f"section 4.1 counts it among the {sources.claimed('S41.n_base.dynamic')} dynamic methods, and {later.locator} gives it Hawkes processes")  # fmt: skip
    return Finding(True, "holds")


# --- sums and products that the paper states and that can be done again ----------------------------------------------
def _sum_of(*names: str) -> Callable[[Sources], float]:
    return lambda sources: sum(sources.claimed(name) for name in names)


RECOMPUTED = {  # claim -> (its parts put together again)
    "S2.sum_d": lambda s: sum(s.claimed(f"S2.d{k}") for k in ("1.price_shock", "2.liquidity", "3.contagion", "4.momentum")),  # fmt: skip
    "S41.n_events": lambda s: sum(s.claimed(f"S41.events.{kind}") for kind in ("bank", "mon", "shock", "energy")),
    "C.m4_order": lambda s: sum(s.claimed("S3.horizons")),
    "C.params.sum": lambda s: sum(s.claimed(f"C.params.{part}") for part in PARTS),
    "C.act.total": lambda s: sum(s.claimed(f"C.act.m{k}") for k in (1, 2, 3, 4)),
    "C.act.mb": lambda s: s.claimed("C.act.total") * np.dtype(np.float32).itemsize / 1e6,
    "C.nt2d": lambda s: shapes.operations(s.claimed("ABS.n_stocks"), s.claimed("S2.T"))["N T^2 d"],
    "T5.total.pct": lambda s: sum(s.claimed(f"T5.m{k}.pct") for k in (1, 2, 3, 4)),
}
PARTS = ("bilstm", "selfattn", "gcn", "gat", "gating", "experts", "gru")
table(RECOMPUTED, lambda again: lambda claim, sources: Finding(round(again(sources), 2), "" if claim.kind != "data" else "exact"), only_real=False)  # fmt: skip


@decides("C.ops", only_real=False)
def operations(claim: Claim, sources: Sources) -> Finding:
    n, window, k = sources.claimed("ABS.n_stocks"), sources.claimed("S2.T"), sources.claimed("S3.topk")
    own = shapes.operations(n, window, k=k)
    stated = own["N^2 d"] + own["N T^2 d"] + own["N^2 k"] * math.log2(n)
    if stated > 2 * claim.value:
        raise Refuted(f"its own orders sum to {stated:.2g}; the figure is one of them alone", stated)
    return Finding(stated)


@decides("C.sparse", only_real=False)
def sparse_saving(claim: Claim, sources: Sources) -> Finding:
    n, k = sources.claimed("ABS.n_stocks"), sources.claimed("S3.topk")
    if k >= math.log2(n):
        raise Refuted(f"k = {k} is more than log2 N = {math.log2(n):.1f}: the change is an increase", k / math.log2(n))
    return Finding(True, "holds")


@decides("C.m3_order", only_real=False)
def gate_is_quadratic(claim: Claim, sources: Sources) -> Finding:
    """Attention over all stocks stands in the gate (equation 43, A52): twice the stocks, four times the work."""
    n = sources.claimed("ABS.n_stocks")
    once, twice = (shapes.operations(stocks)["gate attention, logits and mix"] for stocks in (n, 2 * n))
    if twice / once > 2:
        raise Refuted(f"its gate attends over all stocks: twice the stocks take {twice / once:.0f} times the work")
    return Finding(True, "holds")


@decides("C.m2_order", only_real=False)
def graph_order(claim: Claim, sources: Sources) -> Finding:
    n = sources.claimed("ABS.n_stocks")
    edge = [shapes.operations(stocks)["edge network"] for stocks in (n, 2 * n)]
    return Finding(math.log2(edge[1] / edge[0]) == 2, "holds", note="the edge network alone grows as N squared")


@decides("C.act.m?", only_real=False)
def activations(claim: Claim, sources: Sources) -> Finding:
    """A77: the figures are said to be for 32 stocks."""
    part, stocks = claim.id[-2:], sources.claimed("S3.batch")
    here, all_stocks = (shapes.activations(n) for n in (stocks, sources.claimed("ABS.n_stocks")))
    key = "m2 edges alone" if part == "m2" else part
    if part == "m2" and here[key] > claim.value:
        raise Refuted(f"the inputs of its edge network alone are {here[key]:,} for {stocks} stocks", here[key])
    if abs(all_stocks[key] / claim.value - 1) < 0.05 < abs(here[key] / claim.value - 1):
        raise Refuted(f"that is the count for all stocks; for {stocks} it is {here[key]:,}", here[key])
    return Finding(here[key])


# --- signs and ranges of the printed equations -----------------------------------------------------------------------
@decides("S3.wprior_calm", only_real=False)
def source_weights_move(claim: Claim, sources: Sources) -> Finding:
    low, high = forms.source_weight_range()
    raise Refuted(f"equation 35 has no time index: the weights are constants, each in [{low:.3f}, {high:.3f}]")


@decides("S3.tau_sharp", only_real=False)
def temperature(claim: Claim, sources: Sources) -> Finding:
    cool, warm = (forms.largest_share(np.array([1.0, 0, 0, 0]), tau) for tau in (1.0, 1.39))
    if warm < cool:
        raise Refuted(f"a higher temperature flattens: the largest weight falls from {cool:.3f} to {warm:.3f}", warm)
    return Finding(True, "holds")


@decides("S3.ldiv_max", only_real=False)
def diversity_sign(claim: Claim, sources: Sources) -> Finding:
    step = forms.diversity_gradient(np.array([0.4, 0.3, 0.2, 0.1]), sign=1)
    if step[0] > 0:  # the largest weight grows
        raise Refuted("as printed the entropy is added to what is minimised: the largest weight grows", float(step[0]))
    return Finding(True, "holds")


@decides("S3.c4_meaning", only_real=False)
def consensus_sign(claim: Claim, sources: Sources) -> Finding:
    weights = np.array([sources.claimed(f"S3.mpi.c{k}") for k in range(1, 6)])
    agree, differ = (forms.pressure(weights, 0.3, 0.9, 0.25, sd, 0.5)["sd"] for sd in (0.05, 0.3))
    if differ > agree:
        raise Refuted("as printed the SD of the routing is added: disagreement raises the index", differ - agree)
    return Finding(True, "holds")


@decides("S1.routing_example", only_real=False)
def example_vector(claim: Claim, sources: Sources) -> Finding:
    whole = math.isclose(sum(claim.value), 1) and len(claim.value) == sources.claimed("S1.n_mechanisms")
    return Finding(whole and int(np.argmax(claim.value)) == 2, "holds", note="an illustration: sums to one, names the third mechanism")  # fmt: skip


@decides("F1a.static_same", only_real=False)
def prior_has_no_time(claim: Claim, sources: Sources) -> Finding:
    from anomaly_routing.data.prior_graph import prior_graph

    arguments = prior_graph.__code__.co_varnames[: prior_graph.__code__.co_argcount]
    return Finding(arguments == ("universe",), "holds", note="the prior graph is a function of the universe alone")


@decides("S44.xmodal_uniform", only_real=True)
def uniform_mass(claim: Claim, sources: Sources) -> Finding:
    """A36: under uniform attention a neighbour has 1/N; the mass on a group is its share of the stocks."""
    n = sources.claimed("ABS.n_stocks")
    sectors = sources.table("data/sectors").set_index("sector").stocks
    share = sectors["Information Technology"] / sectors.sum()
    note = f"as a weight of one neighbour it would be {1 / n:.2f}; read as the mass on the group: its share of the stocks"
    return Finding(share, "range", note=note)
