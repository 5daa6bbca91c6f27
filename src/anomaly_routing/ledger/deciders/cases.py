"""Section 4.3 and Figure 3: the bank failures of March 2023 and the other cases, from the stored runs of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.claims import Claim
from anomaly_routing.ledger.registry import decides, table
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding

BASELINE = slice("2023-02-08", "2023-02-18")  # paper 4.3; eight sessions (A28)
CRISIS = slice("2023-03-08", "2023-03-17")
PHASES = (slice("2023-03-08", "2023-03-09"), slice("2023-03-10", "2023-03-12"), slice("2023-03-13", "2023-03-17"))
CLOSED, LAST = "2023-03-10", "2023-03-17"
FAILED = ("SIVB", "FRC", "SBNY")


def svb_series(sources: Sources, run: Any) -> pd.DataFrame:
    """Daily series of a run under the paper's stop rule: mpi, S (mean score), psi, alpha, breadth, w1..w4, and the mean
    score of the banks and of the others (from both means and the number of active banks)."""
    names = {"mpi@val": "mpi", "mean@val": "S", "psi@val": "psi", "alpha@val": "alpha", "share@val": "breadth"}
    names |= {"banks@val": "banks"} | {f"w{k}@val": f"w{k}" for k in (1, 2, 3, 4)}
    days = run.daily[list(names)].rename(columns=names).astype(float)
    market = sources.tensors
    active = market.active[np.searchsorted(market.sessions, days.index)]
    n, banks = active.sum(axis=1), active[:, np.asarray(market.is_bank, bool)].sum(axis=1)
    days["nonbanks"] = (n * days.S - banks * days.banks) / (n - banks)
    return days


def svb_statistic(sources: Sources, statistic: Callable[[pd.DataFrame], float], by: str = "") -> Finding:
    """A statistic of `svb_series`, mean over seeds with their interval."""
    return sources.over_seeds(lambda meta, run: statistic(svb_series(sources, run)), by=by)


def base(days: pd.DataFrame, column: str) -> float:
    return float(days.loc[BASELINE, column].mean())


def rise(days: pd.DataFrame, column: str, value: float) -> float:
    """Percent above the baseline, from unrounded values."""
    return 100 * (value / base(days, column) - 1)


def at_peak(days: pd.DataFrame) -> pd.Series:
    """The session of the crisis on which the banks score highest."""
    return days.loc[days.loc[CRISIS, "banks"].idxmax()]


LEVELS = {  # claim -> level of a daily series
    "ABS.svb.ps_on_closure": lambda d: d.w1[CLOSED],
    "ABS.svb.ps_peak": lambda d: d.w1[CLOSED:LAST].max(),
    "F3.ps.baseline": lambda d: base(d, "w1"),
    "F3.ps.mar10": lambda d: d.w1[CLOSED],
    "F3.ps.mar17": lambda d: d.w1[LAST],
    "F3.sc.level": lambda d: d.w3[CLOSED:LAST].mean(),
    "F3.liq.level": lambda d: d.w2[CLOSED:LAST].mean(),
    "F3.mom.level": lambda d: d.w4[CLOSED:LAST].mean(),
    "F3.ph1.ps": lambda d: d.w1[PHASES[0]].max(),
    "F3.ph2.ps": lambda d: d.w1[PHASES[1]].max(),
    "F3.ph2.sc": lambda d: d.w3[CLOSED],
    "F3.ph3.sc": lambda d: d.w3[PHASES[2]].mean(),
    "S42.alpha_svb": lambda d: d.alpha[CLOSED],
    "S44.alpha_opt_svb": lambda d: d.alpha[CLOSED],
    "S44.psi_svb": lambda d: d.psi[CLOSED],
}
SCORES = {  # claims about levels of s or of the index
    "F3.mpi.event_day": lambda d: d.mpi[CLOSED],
    "F3.mpi.baseline": lambda d: base(d, "mpi"),
    "F3.bank.peak": lambda d: d.banks[CRISIS].max(),
    "F3.nonbank.peak": lambda d: at_peak(d).nonbanks,
    "F3.gap": lambda d: at_peak(d).banks - at_peak(d).nonbanks,
}
RISES = {  # percent of the baseline
    "ABS.svb.ps_on_closure_rel": lambda d: rise(d, "w1", d.w1[CLOSED]),
    "ABS.svb.ps_peak_rel": lambda d: rise(d, "w1", d.w1[CLOSED:LAST].max()),
    "F3.mpi.rel": lambda d: rise(d, "mpi", d.mpi[CLOSED]),
    "F3.indiv.rel": lambda d: rise(d, "S", d.S[CLOSED]),
    "F3.bank.rel": lambda d: rise(d, "banks", d.banks[CRISIS].max()),
    "F3.nonbank.rel": lambda d: rise(d, "nonbanks", at_peak(d).nonbanks),
    "F3.sc.rel": lambda d: rise(d, "w3", d.w3[CLOSED:LAST].mean()),
}
SIGNS = {  # positive when the claim is right
    "F3.mpi_gt_indiv": lambda d: rise(d, "mpi", d.mpi[CLOSED]) - rise(d, "S", d.S[CLOSED]),
    "F3.liq.dir": lambda d: base(d, "w2") - d.w2[CLOSED:LAST].mean(),
    "F3.mom.dir": lambda d: base(d, "w4") - d.w4[CLOSED:LAST].mean(),
}


def _over_seeds(by: str) -> Callable:
    def wrap(statistic: Callable) -> Callable:
        def compute(claim: Claim, sources: Sources) -> Finding:
            return svb_statistic(sources, statistic, by)

        return compute

    return wrap


table(LEVELS, _over_seeds(""), stage="model")
table(SCORES, _over_seeds("score_levels"), stage="model")
table(RISES, _over_seeds("relative_rises"), stage="model")
table(SIGNS, _over_seeds("direction"), stage="model")


@decides("F3.ph3.ps", "S5.ps_track", stage="model")
def path_of_price_shock(claim: Claim, sources: Sources) -> Finding:
    """Lowest and highest of phase 3, or baseline and peak, mean over seeds; judged as a vector."""
    runs = [svb_series(sources, run) for _, run in sources.model_runs]
    ends = [(d.w1[PHASES[2]].min(), d.w1[PHASES[2]].max()) for d in runs]
    if claim.id == "S5.ps_track":
        ends = [(base(d, "w1"), d.w1[CLOSED:LAST].max()) for d in runs]
    return Finding([float(v) for v in np.mean(ends, axis=0)], **sources.training)


@decides("F3.score.*", stage="model")
def score_of_a_failed_bank(claim: Claim, sources: Sources) -> Finding:
    """Highest s over the sessions of the crisis on which it traded: none after its last one (A33)."""
    ticker = claim.id.rsplit(".", 1)[1].upper()

    def highest(meta: dict, run: Any) -> float:
        rows = (run.score_sessions >= CRISIS.start) & (run.score_sessions <= CRISIS.stop)
        return float(np.nanmax(run.score[rows, run.tickers.index(ticker)]))

    return sources.over_seeds(highest, by="score_levels", runs=sources.scored_runs)


@decides("F3.top3", stage="model")
def failed_banks_on_top(claim: Claim, sources: Sources) -> Finding:
    """Ranks of the three among the banks, each at its highest score while it traded."""
    market, found = sources.tensors, []
    for _, run in sources.scored_runs:
        rows = (run.score_sessions >= CRISIS.start) & (run.score_sessions <= CRISIS.stop)
        bank = [t for t, flag in zip(market.tickers, market.is_bank, strict=True) if flag and t in run.tickers]
        top = pd.DataFrame(run.score[rows], columns=run.tickers)[bank].max().rank(ascending=False, method="max")
        found.append([int(top[t]) for t in FAILED])
    share = float(np.mean([set(ranks) == {1, 2, 3} for ranks in found]))
    shown = "; ".join(", ".join(f"{t} {r}" for t, r in zip(FAILED, ranks, strict=True)) for ranks in found)
    return Finding(
        share == 1,
        "holds",
        part=share,
        note=f"ranks, a tie counted as its last: {shown}",
        **sources.training | {"n_seeds": len(found)},
    )


@decides("F3.progress", stage="model")
def breadth_by_phase(claim: Claim, sources: Sources) -> Finding:
    rising = []
    for _, run in sources.model_runs:
        breadth = [svb_series(sources, run).loc[phase, "breadth"].mean() for phase in PHASES]
        rising.append(breadth == sorted(breadth))
    return Finding(
        all(rising),
        "holds",
        part=float(np.mean(rising)),
        note="share of stocks above their cut, by phase",
        **sources.training,
    )


# --- CrowdStrike, from the routing that the first seed keeps ----------------------------------------------------------
def _crowdstrike(sources: Sources) -> tuple[dict[str, Any], pd.DataFrame]:
    """Routing w1..w4 and errors l1..l4 of CRWD on the stored sessions, first seed."""
    meta, run = next(((m, r) for m, r in sources.model_runs if "routing" in r.extras), (None, None))
    if run is None or "CRWD" not in run.tickers:
        raise sources.not_run("model", "no stored routing of CRWD")
    place = run.tickers.index("CRWD")
    columns = np.column_stack([run.extras["routing"][:, place], run.extras["expert_error"][:, place]])
    names = [*(f"w{k}" for k in (1, 2, 3, 4)), *(f"l{k}" for k in (1, 2, 3, 4))]
    days = pd.DataFrame(columns.astype(float), index=pd.to_datetime(run.extras["days"]), columns=names)
    return {"n_seeds": 1, "tier": meta["info"]["tier"], "device": meta["info"]["device"]}, days


@decides("S42.crwd_liq", "S42.crwd_ps", stage="model")
def crowdstrike(claim: Claim, sources: Sources) -> Finding:
    how, days = _crowdstrike(sources)
    if claim.id == "S42.crwd_liq":
        return Finding(float(days.w2["2024-07-19":"2024-07-26"].max()), **how)
    close = float(sources.rules["rules"]["attribution"]["close"])
    change = float(days.w1["2024-07-19":"2024-07-26"].mean() - days.w1["2024-07-08":"2024-07-18"].mean())
    return Finding(
        abs(change) <= close, "holds", note=f"changes by {change:+.3f}; at baseline means within {close}", **how
    )


@decides("S44.fed_breadth_lead", stage="model")
def breadth_before_november(claim: Claim, sources: Sources) -> Finding:
    """Sessions from the first crossing of the breadth to the event, in the ten sessions before it; its cut is its own
    validation 95th percentile (A16: the window of a detection is five sessions, so this is no detection)."""
    event = sources.events.set_index("id").date["E05"]

    def first(meta: dict, run: Any) -> float:
        breadth = run.daily["share@val"]
        cut = breadth[sources.splits.val(breadth.index)].quantile(0.95)
        before = breadth[breadth.index < event].iloc[-10:]
        crossed = np.flatnonzero(before.to_numpy() > cut)
        return float(len(before) - crossed[0]) if len(crossed) else np.nan

    return sources.over_seeds(first)
