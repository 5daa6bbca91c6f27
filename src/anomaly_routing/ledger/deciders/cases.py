"""Section 4.3, Figure 3 and the other cases: measured in notebook 07 by `case_measures`, judged as everything is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from anomaly_routing import case_measures
from anomaly_routing.claims import Claim
from anomaly_routing.ledger.intervals import over_seeds
from anomaly_routing.ledger.registry import Compute, decides, table
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding, NotTestable, Refuted

BASELINE = slice("2023-02-08", "2023-02-18")  # paper 4.3; eight sessions (A28)


def _measured(case: set[str]) -> Callable[[Callable], Compute]:
    """Reads what notebook 07 measured for the claims of one case."""

    def wrap(measure: Callable) -> Compute:
        by_stock = "needs_stocks" in measure.__code__.co_names

        def read(claim: Claim, sources: Sources) -> Finding:
            if claim.id not in sources.answers and case & set(sources.answers):
                bare = sum(not len(run.score_sessions) for _, run in sources.model_runs) if by_stock else 0
                if bare:
                    what = f"{bare} of {len(sources.model_runs)} seeds keep no single stocks, the others have no value"
                    again = "give every seed the `keep` of notebook 05, remove its stored run, then"
                    raise sources.not_run("model", f"{what}; {again}")
                raise NotTestable("measured, and no stored seed has a value: the weight of an expert that gets nothing")
            return sources.answer(claim, "case_studies")

        return read

    return wrap


NOT_HERE = ("S44.crwd.err_liq", "F3.ph2.ps")  # no rule could judge the one; the calendar judges the other
for _measures in case_measures.MEASURES.values():
    _wanted = {k: v for k, v in _measures.items() if k not in NOT_HERE}
    table(_wanted, _measured(set(_wanted)), stage="case_studies")


SHARES = ("alpha0", "alpha1", "fixed05")  # variants that fix the fusion weight


@decides("S44.alpha_opt_svb", stage="ablations")
def best_share_of_the_prior(claim: Claim, sources: Sources) -> Finding:
    """The fixed weight that announces the closure earliest (`ablation_claims.fixed_weights`), if one does so alone in
    every seed; the weight that one run had on the day cannot say which is best."""
    path = sources.paths.tables("ablations") / "fixed_weights.csv"
    found = pd.read_csv(path) if path.exists() else pd.DataFrame()
    if found.empty:
        raise sources.not_trained(SHARES, "no comparison of fixed fusion weights on the event")
    leads = found.pivot_table(index="seed", columns="alpha", values="lead", dropna=False)
    first = leads.eq(leads.max(axis=1), axis=0)
    if (first.sum(axis=1) > 1).any():
        told = "; ".join(f"{alpha:g}: {' '.join(f'{lead:g}' for lead in column)}" for alpha, column in leads.items())
        raise NotTestable(
            f"measured, and no fixed weight is the earliest alone in every seed (sessions ahead by seed, {told}; tier "
            f"{found.tier[0]}): one event does not rank them"
        )
    best = first.idxmax(axis=1).to_numpy(float)
    how = {"n_seeds": len(best), "tier": found.tier[0], "device": "/".join(sorted(set(found.device)))}
    return Finding(float(best.mean()), **how, **over_seeds(best))


@decides("F3.ph2.ps", only_real=False)
def peak_of_one_session(claim: Claim, sources: Sources) -> Finding:
    """A31: 10 March is the only session of 10-12 March, and the paper prints another weight for it."""
    printed = sources.claimed("F3.ps.mar10")
    days = np.arange(np.datetime64("2023-03-10"), np.datetime64("2023-03-13"))
    sessions = days[np.is_busday(days)]
    if len(sessions) == 1 and printed != claim.value:
        raise Refuted(f"{sessions[0]} is the only session of the phase, and for it {printed} is printed")
    return Finding(printed)


@decides("S44.fed_breadth_lead", only_real=False)
def lead_beyond_the_window(claim: Claim, sources: Sources) -> Finding:
    """A16, A91: the lead of one event is a whole number, at most the window's five sessions."""
    most = sources.claimed("S2.window5")
    if claim.value > most or claim.value != int(claim.value):
        raise Refuted(
            f"one event's lead is a whole number of sessions, at most {most}; and breadth, the share of stocks above "
            "the threshold, cannot cross while they stay below it"
        )
    return Finding(claim.value)
