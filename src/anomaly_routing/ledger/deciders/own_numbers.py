"""Claims that the paper's own figures, tables and words decide, without data and without a model."""

from __future__ import annotations

import re

from anomaly_routing.audit import counts
from anomaly_routing.claims import Claim, values
from anomaly_routing.ledger.registry import decides
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


@decides("T1.evolvegcn.rate", only_real=False)
def rate_of_its_hits(claim: Claim, sources: Sources) -> Finding:
    """A03: the printed rate is no rate of the printed count."""
    hits, n = sources.claimed("T1.evolvegcn.hits"), sources.claimed("S41.n_events")
    if hits not in counts.counts_of_rate(claim.value, n):
        raise Refuted(f"{hits} of {n} is {100 * hits / n:.1f}%; no count of {n} gives {claim.value}%", 100 * hits / n)
    return Finding(100 * hits / n, "rates")


@decides("S41.n_baselines", only_real=False)
def listed_baselines(claim: Claim, sources: Sources) -> Finding:
    listed = sum(values(sources.claims, "S41.n_base.").values())
    rows = len(table1_rates(sources)) - 1
    if claim.value not in (listed, rows):
        raise Refuted(f"its list has {listed}, its Table 1 {rows} besides its own", listed)
    return Finding(listed)


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
        raise Refuted(
            f"{len(outside)} more cells lie outside, {worst} by {outside[worst]:.1f} points", max(outside.values())
        )
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
    sessions = next(
        iter(counts.session_counts([sources.claimed(f"S42.alerts.L{k}") for k in range(5)], range(100, 961))), None
    )
    return Finding(total, note=f"shares of {sessions} sessions, the only count that gives all five")


@decides("T3.eqref.*", only_real=False)
def equation_number(claim: Claim, sources: Sources) -> Finding:
    """Number in Table 3 against the number in section 3, which the claim's comparator records."""
    actual = int(re.search(r"\d+", claim.comparator).group())
    if actual != claim.value:
        raise Refuted(f"section 3 numbers it {actual}", actual)
    return Finding(True, "holds")


@decides("S1.ghrn_static", only_real=False)
def ghrn_twice(claim: Claim, sources: Sources) -> Finding:
    """A23. No figure decides it; two other sentences of the paper do."""
    where = sources.claims["S42.ghrn_hawkes"].locator
    raise Refuted(f"section 4.1 lists it under dynamic methods, {where} gives it Hawkes processes", read=True)
