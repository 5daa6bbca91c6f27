"""Claims about samples, splits, the calendar and the dates of the events."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from anomaly_routing.audit import calendar
from anomaly_routing.claims import Claim
from anomaly_routing.ledger.registry import decides, table
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding, Refuted
from anomaly_routing.panel import BURN_IN


@decides("S41.split.*", only_real=False)
def split_share(claim: Claim, sources: Sources) -> Finding:
    counts = calendar.split_counts(calendar.exchange_sessions(), BURN_IN)
    share = 100 * counts[("train", "val", "test").index(claim.id.rsplit(".", 1)[1])] / sum(counts)
    note = f"{counts[0]}, {counts[1]} and {counts[2]} samples after the first {BURN_IN} sessions"
    return Finding(round(share, 1), "exact", note=note)


@decides("S41.days", only_real=False)
def trading_days(claim: Claim, sources: Sources) -> Finding:
    n = len(calendar.exchange_sessions())
    if n != claim.value:
        raise Refuted(f"the exchange had {n} sessions in these years", n)
    return Finding(n)


@decides("S42.alert_days", only_real=False)
def test_days(claim: Claim, sources: Sources) -> Finding:
    first, last = sources.claimed("S41.test_years").split("-")
    n = len(calendar.exchange_sessions(f"{first}-01-01", f"{last}-12-31"))
    if n != claim.value:
        raise Refuted(f"the exchange had {n} sessions in the test years", n)
    return Finding(n)


PERIODS = {  # claim -> our own spans, in the paper's way of writing
    "S41.years": lambda s: int(s.splits.test_end[:4]) - int(s.splits.first_session[:4]) + 1,
    "S41.train_years": lambda s: f"{s.splits.first_session[:4]}-{s.splits.train_end[:4]}",
    "S41.val_year": lambda s: s.splits.val_end[:4],
    "S41.test_years": lambda s: f"{int(s.splits.val_end[:4]) + 1}-{s.splits.test_end[:4]}",
    "ABS.span": lambda s: f"{s.splits.first_session[:4]}-{s.splits.test_end[:4]}",
}
table(PERIODS, lambda ours: lambda claim, sources: Finding(_as_claimed(claim, ours(sources)), "exact", built=True))


def _as_claimed(claim: Claim, ours: Any) -> Any:
    """A number that the claim writes as text, or the other way round."""
    return claim.value if str(ours) == str(claim.value) else ours


@decides("S41.events.*", only_real=False)
def events_by_class(claim: Claim, sources: Sources) -> Finding:
    kinds = {"bank": "banking", "mon": "monetary", "shock": "market_shock", "energy": "energy"}
    found = sources.events.kind.value_counts()
    return Finding(
        int(found.get(kinds[claim.id.rsplit(".", 1)[1]], 0)), "exact", built=True, note="our list of the paper's events"
    )


DATED = dict(
    zip(
        ("svb", "sbny", "cs", "frc", "fed", "cuts", "tech", "crwd", "carry", "gme", "crypto", "eu", "spr"),
        (f"E{k:02d}" for k in range(1, 14)),
        strict=True,
    )
)


# how events.yaml says that what the paper names did not happen then (A14)
NEVER = re.compile(r"The Federal Reserve cut no rate in \d{4}|no contagion is known of \w+ \d{4}")


@decides("S41.date.*", only_real=False)
def event_date(claim: Claim, sources: Sources) -> Finding:
    """A printed day must be a session; in a printed period the event must have happened, as the list of events records
    it. Where it did, our date was chosen inside the period, so a match is by construction."""
    sessions = calendar.exchange_sessions()
    event = sources.events.set_index("id").loc[DATED[claim.id.rsplit(".", 1)[1]]]
    resolved = event.date
    checked = calendar.check_dates({claim.id: claim.value}, sessions).iloc[0]
    if checked["a day"] and not checked.session == "yes":
        raise Refuted(f"{claim.value} is a {checked.weekday}: no session; the next one is {checked.next}", checked.next)
    if found := NEVER.search(event.reason):
        return Finding(False, "holds", read=True, note=f"{found.group()} (paper/events.yaml)")
    first, last = _span(claim.value)
    inside = first <= resolved <= last
    note = f"resolved to {resolved:%Y-%m-%d}" + ("" if inside else ", outside the printed period")
    return Finding(inside, "holds", built=not checked["a day"], note=note)


def _span(text: str) -> tuple[Any, Any]:
    parts = [pd.Period(part.replace("-Q", "Q")) for part in text.split("..")]
    return parts[0].start_time, parts[-1].end_time


@decides("F3.baseline_window", only_real=False)
def baseline_window(claim: Claim, sources: Sources) -> Finding:
    first, last = claim.value.split("..")
    sessions = calendar.exchange_sessions(first, last)
    note = (
        f"{len(sessions)} sessions, {sessions[0]:%Y-%m-%d} to {sessions[-1]:%Y-%m-%d}; the printed end is a weekend day"
    )
    return Finding(bool(len(sessions)), "holds", note=note)


@decides("F3.baseline_offset", only_real=False)
def baseline_offset(claim: Claim, sources: Sources) -> Finding:
    event = pd.Timestamp(sources.claimed("S41.date.svb"))
    ends = [pd.Timestamp(d) for d in sources.claimed("F3.baseline_window").split("..")]
    return Finding([(d - event).days for d in ends], "exact", note="calendar days from the printed dates")
