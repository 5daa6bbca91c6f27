"""Sums, orders, signs and ranges that the paper states and that can be done again from its own figures."""

from __future__ import annotations

import math

import numpy as np
import torch

from anomaly_routing.audit import forms, shapes
from anomaly_routing.claims import Claim
from anomaly_routing.ledger.registry import decides, table
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding, Refuted
from anomaly_routing.model.network import build_model

# --- sums and products that the paper states and that can be done again ----------------------------------------------
RECOMPUTED = {  # claim -> (its parts put together again)
    "S2.sum_d": lambda s: sum(
        s.claimed(f"S2.d{k}") for k in ("1.price_shock", "2.liquidity", "3.contagion", "4.momentum")
    ),
    "S41.n_events": lambda s: sum(s.claimed(f"S41.events.{kind}") for kind in ("bank", "mon", "shock", "energy")),
    "C.m4_order": lambda s: sum(s.claimed("S3.horizons")),
    "C.params.sum": lambda s: sum(s.claimed(f"C.params.{part}") for part in PARTS),
    "C.act.total": lambda s: sum(s.claimed(f"C.act.m{k}") for k in (1, 2, 3, 4)),
    "C.act.mb": lambda s: s.claimed("C.act.total") * np.dtype(np.float32).itemsize / 1e6,
    "C.nt2d": lambda s: shapes.operations(s.claimed("ABS.n_stocks"), s.claimed("S2.T"))["N T^2 d"],
    "T5.total.pct": lambda s: sum(s.claimed(f"T5.m{k}.pct") for k in (1, 2, 3, 4)),
}
PARTS = ("bilstm", "selfattn", "gcn", "gat", "gating", "experts", "gru")
table(
    RECOMPUTED,
    lambda again: lambda claim, sources: Finding(round(again(sources), 2), "" if claim.kind != "data" else "exact"),
    only_real=False,
)


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
    """Equation 35 as printed, in calm and under full stress."""
    with torch.no_grad():
        calm, stressed = build_model("literal").graph.sources(torch.tensor([0.0, 1.0]))[:, -1].tolist()
    if calm == stressed:
        low, high = forms.source_weight_range()
        raise Refuted(f"equation 35 has no time index: the weights are constants, each in [{low:.3f}, {high:.3f}]")
    return Finding(calm - stressed, "direction", built=True)


@decides("S3.tau_sharp", only_real=False)
def temperature(claim: Claim, sources: Sources) -> Finding:
    cool, warm = (forms.largest_share(np.array([1.0, 0, 0, 0]), tau) for tau in (1.0, 1.39))
    if warm < cool:
        raise Refuted(f"a higher temperature flattens: the largest weight falls from {cool:.3f} to {warm:.3f}", warm)
    return Finding(True, "holds")


@decides("S3.ldiv_max", only_real=False)
def diversity_sign(claim: Claim, sources: Sources) -> Finding:
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    grown = float(forms.weights_after(weights, forms.diversity_gradient(weights, sign=1))[0])
    if grown > weights[0]:
        why = f"as printed the entropy is added to what is minimised: a step at rate 1 takes a weight of {weights[0]}"
        raise Refuted(f"{why} to {grown:.3f}", grown)
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
    return Finding(
        whole and int(np.argmax(claim.value)) == 2,
        "holds",
        built=True,
        note="an illustration: sums to one, names the third mechanism",
    )


@decides("F1a.static_same", only_real=False)
def prior_has_no_time(claim: Claim, sources: Sources) -> Finding:
    from anomaly_routing.data.prior_graph import prior_graph

    arguments = prior_graph.__code__.co_varnames[: prior_graph.__code__.co_argcount]
    note = "the prior graph is a function of the universe alone"
    return Finding(arguments == ("universe",), "holds", built=True, note=note)


@decides("S44.xmodal_uniform", only_real=True)
def uniform_mass(claim: Claim, sources: Sources) -> Finding:
    """A36: under uniform attention a neighbour has 1/N; the mass on a group is its share of the stocks."""
    n = sources.claimed("ABS.n_stocks")
    sectors = sources.table("data/sectors").set_index("sector").stocks
    share = sectors["Information Technology"] / sectors.sum()
    note = (
        f"as a weight of one neighbour it would be {1 / n:.2f}; read as the mass on the group: its share of the stocks"
    )
    return Finding(share, "range", note=note)
