"""What notebook 07 says of alarms: levels of the index around an event, who alarmed first, what chance gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from anomaly_routing.case_measures import Track
from anomaly_routing.case_words import Tracks, by_run
from anomaly_routing.first_alarms import distinct_methods
from anomaly_routing.model.pressure_index import LEVELS, SCORE_QUANTILE
from anomaly_routing.prose import sentence

FLOORS = ("null", "random")  # they look at nothing, so they are no methods of which one could be first


def without_floors(stored: pd.DataFrame) -> pd.DataFrame:
    """The stored runs (`scoreboard.collect`) of methods that look at something."""
    return stored[~stored["label"].isin(FLOORS)]


def chance_words(first: Track) -> str:
    """What chance gives of the alert levels and of the cut of a stock-day. first : the run that keeps single stocks."""
    return sentence(
        "What chance gives: by definition {l} of the validation sessions lie at or above a run's own four "
        "cuts, and {s:.0%} of the validation stock-days above the cut of the score, {t:.2f} in the first seed.",
        l=", ".join(f"{1 - level:.0%}" for level in LEVELS),
        s=1 - SCORE_QUANTILE,
        t=first.theta_tail,
    )


def index_words(found: Tracks, day: pd.Timestamp, on_day: str) -> str:
    """Level, rise and alert level of the pressure index on the day of the event."""

    def tell(track: Track) -> str:
        before = track.daily.level[track.daily.index < day].iloc[-5:]
        raised = ", ".join(f"L{level:.0f} on {at:%-d %B}" for at, level in before.items() if level > 0)
        return (
            f"{track.at('MPI'):.2f}, {track.rise('MPI', track.at('MPI')):+.0f}% (mean score "
            f"{track.rise('S', track.at('S')):+.0f}%), level L{track.at('level'):.0f}; in the five sessions before "
            f"{raised or 'none raised'}, L0 on {int((before <= 0).sum())} of {len(before)}"
        )

    return sentence(
        "The pressure index on {d}, against its baseline: {t}. Only the five sessions before can warn; a rise on the "
        "day itself has a lead of zero (A34).",
        d=on_day,
        t=by_run(found, tell),
    )


def crossing_words(found: Tracks, table: pd.DataFrame) -> str:
    """The first raised level among the sessions of `case_tables.days_around`, and its lead."""

    def tell(track: Track) -> str:
        level = track.daily["level"].reindex(pd.DatetimeIndex(table["session"]))
        raised = level.index[level > 0]
        if not len(raised):
            return "never"
        ahead = int(((level.index >= raised[0]) & (level.index < track.day)).sum())
        when = f"{ahead} ahead" if ahead else "no warning"
        return f"{raised[0]:%-d %B} (L{level[raised[0]]:.0f}, {when})"

    return sentence(
        "First session with a raised level from {a} to {b}: {t}.",
        a=f"{table['session'].iloc[0]:%-d %B}",
        b=f"{table['session'].iloc[-1]:%-d %B}",
        t=by_run(found, tell),
    )


def span_words(found: Tracks, claimed: tuple[str, str]) -> str:
    """Raised levels of the index within the sessions that a claim is judged on, and what follows them to the end of
    the case; on which session stocks are counted."""

    def tell(track: Track) -> str:
        parts = []
        for name, own in (("within", track.over("level", *claimed)), ("after", track.over("level", *_after(track)))):
            raised = ", ".join(f"L{level:.0f} on {at:%-d %B}" for at, level in own.items() if level > 0)
            parts.append(f"{name} {raised or 'none'}")
        return ", ".join(parts)

    def _after(track: Track) -> tuple[str, str]:
        return f"{pd.Timestamp(claimed[1]) + pd.Timedelta(days=1):%Y-%m-%d}", f"{track.daily.index[-1]:%Y-%m-%d}"

    track = next(iter(found.values()))
    return sentence(
        "The level is judged by its highest from {a} to {b}; raised levels within that window and after it: {t}. "
        "The stocks above the cut are counted on {d}.",
        a=f"{pd.Timestamp(claimed[0]):%-d %B}",
        b=f"{pd.Timestamp(claimed[1]):%-d %B}",
        t=by_run(found, tell),
        d=f"{track.day:%-d %B}",
    )


def lead_words(came: pd.DataFrame, presets: Sequence[str], value: Mapping[str, Any]) -> str:
    """Our lead on this one event beside the hours and the lead that the paper prints (A98)."""
    own = came[came["method"].isin(presets)]
    leads = [
        f"{r.method}, seed {r.seed}: {r.sessions_ahead if r.sessions_ahead > 0 else 0:.0f}" for r in own.itertuples()
    ]
    return sentence(
        "From the announcement to the closure the paper counts {h} hours, and {m} days as the median lead of its "
        "model: an alarm so early would come before the announcement (A98). Sessions from the first alarm to the "
        "closure, {l}.",
        h=value["S1.svb_48h"],
        m=value["ABS.lead"],
        l="; ".join(leads) or "not run",
    )


def alarm_words(
    came: pd.DataFrame, rate: Mapping[str, float], share: pd.Series, at: int, on_day: str, alarms: pd.DataFrame
) -> str:
    """How many methods alarm in the window, what chance gives, who before the eve. rate : of `window_rate`. alarms :
    of `first_alarms.alarm_table`."""
    sooner = sorted(came[came["before_eve"]]["method"].unique())
    eve, others = share.iloc[at - 1], share.drop(share.index[at - 1 : at + 1])
    return sentence(
        "{n:.1f} of {all} methods ({k} different sequences of alarms; the floors `null` and `random` are left out) "
        "alarm in the five sessions before {d}, a method counting by the share of its seeds; "
        "{e:.1f} do when all alarms are moved in time together, and as many in a share of {p:.3f} of those rotations "
        "(p-value). In the window but before the eve: {who}. The eve's share of alarming methods, {s:.0%}, is reached "
        "on {q} of the {o} test sessions without the eve and the event.",
        n=rate["found"],
        all=came["method"].nunique(),
        d=on_day,
        e=rate["expected"],
        p=rate["p"],
        who=", ".join(f"`{m}`" for m in sooner) or "none",
        s=eve,
        q=int((others >= eve).sum()),
        o=len(others),
        k=distinct_methods(alarms),
    )


def news_words(came: pd.DataFrame, facts: Sequence[Mapping[str, Any]], presets: Sequence[str]) -> str:
    """The full model's first alarms; who alarmed before the first public fact could be priced."""
    own = came[came["method"].isin(presets)]
    model = [
        f"{r.method}, seed {r.seed}: " + (f"{r.sessions_ahead:.0f} ahead" if r.sessions_ahead > 0 else "none")
        for r in own.itertuples()
    ]
    said = sentence("The full model: {m}.", m="; ".join(model) or "not run")
    if not facts:
        return said
    told = pd.Timestamp(facts[0]["session"])
    before = sorted(came[came["first"] < told]["method"].unique())
    return f"{said} " + sentence(
        "The first of the facts could be priced on {f}: an alarm of that session follows the news. Methods with an "
        "alarm in the look-back before it: {who}.",
        f=f"{told:%-d %B}",
        who=", ".join(f"`{m}`" for m in before) or "none",
    )
