"""One event looked at closely: `case_study(market, date, tickers)` gives the same tables for any event in any market.

Nothing is trained. The bands over seeds come from the run store; what a run does not keep (single features, graphs,
attention, other days) is computed again from the committed checkpoint, the weights of a preset's first seed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_routing.case_market import DEFAULT_PRESET, CaseError, CaseMarket, daily_table, load_case_market, read_date
from anomaly_routing.case_network import drivers, forward, stock_table
from anomaly_routing.model.config import PRESETS


@dataclass(frozen=True)
class CaseStudy:
    """The tables of one case; sessions T, tickers K.

    daily : one row a preset, seed and session: market series (`daily_table`) and score_<ticker>, NaN when not trading.
    stocks : one row a preset, session and ticker: score, E, routing w1..w4 and expert errors l1..l4; first seed.
    drivers : per ticker on its highest session: share of E by feature (`drivers`); first seed, default preset.
    output : arrays of the default preset's first seed over `sessions` (names in BY_STOCK).
    """

    market: CaseMarket
    date: pd.Timestamp
    tickers: list[str]
    sessions: pd.DatetimeIndex
    daily: pd.DataFrame
    stocks: pd.DataFrame
    drivers: pd.DataFrame
    output: dict[str, np.ndarray]

    @property
    def positions(self) -> np.ndarray:
        """Of the sessions, in the tensors."""
        return self.market.tensors.sessions.get_indexer(self.sessions)

    @property
    def gone(self) -> dict[str, pd.Timestamp]:
        """Ticker -> last session on which it traded, of those that stop for good before the window ends."""
        tensors = self.market.tensors
        last = {t: tensors.sessions[tensors.active[:, tensors.tickers.index(t)]][-1] for t in self.tickers}
        return {t: day for t, day in last.items() if day < self.sessions[-1]}


def case_study(
    market: str | CaseMarket,
    date: str | pd.Timestamp,
    tickers: Sequence[str],
    *,
    before: int = 20,
    after: int = 15,
    span: Sequence[str] | None = None,
    presets: Sequence[str] = tuple(PRESETS),
    root: str | Path = "",
) -> CaseStudy:
    """Everything the notebook shows of an event, for any session and stocks of any prepared market.

    Parameters
    ----------
    date : the session of the event. tickers : the stocks it is about, at least one.
    before, after : sessions of the window around it; `span`, first and last date, is used instead when given.
    presets : those whose weights are run for single stocks; the default one always is.

    Raises CaseError for a market without runs, a date off the calendar or outside the scored sessions, a window over
    the edge, a ticker that is not in the universe or does not trade in the window, an unknown preset; each message
    says what is possible.
    """
    if unknown := [p for p in presets if p not in PRESETS]:
        raise CaseError(f"no preset {', '.join(map(repr, unknown))}: there are {', '.join(PRESETS)}")
    if isinstance(market, str):
        market = load_case_market(market, root)
    day = _session(market, date)
    positions = _window(market, day, before, after, span)
    tickers = _tickers(market, tickers, positions)
    sessions = market.tensors.sessions[positions]
    outputs = {
        preset: forward(market, positions, preset)
        for preset in market.with_weights
        if preset in (*presets, DEFAULT_PRESET)
    }
    stocks = pd.concat([stock_table(market, positions, tickers, p, out) for p, out in outputs.items()])
    output = outputs[DEFAULT_PRESET]
    score = stocks[stocks.preset == DEFAULT_PRESET].set_index(["session", "ticker"])["score"].unstack()  # noqa: PD010
    peaks = {t: score[t].idxmax() for t in tickers}
    at = {t: int(np.flatnonzero(sessions == peak)[0]) for t, peak in peaks.items()}
    found = pd.concat([drivers(market, output, positions, t, k) for t, k in at.items()], ignore_index=True)
    daily = daily_table(market, tickers)
    return CaseStudy(
        market=market,
        date=day,
        tickers=tickers,
        sessions=sessions,
        daily=daily[daily["session"].isin(sessions)].reset_index(drop=True),
        stocks=stocks.reset_index(drop=True),
        drivers=found,
        output=output,
    )


def days_of(study: CaseStudy, days: Sequence[str], count: int = 6) -> list[int]:
    """Positions in the study of the days to draw, those of another case left out; of none, `count` in even steps.

    Raises CaseError for a day within the study's span that is no session.
    """
    sessions = study.sessions
    wanted = [read_date(day, study.date) for day in days]
    inside = [day for day in wanted if sessions[0] <= day <= sessions[-1]]
    if off := [day for day in inside if day not in sessions]:
        near = sessions[sessions < off[0]][-1], sessions[sessions > off[0]][0]
        raise CaseError(
            f"{off[0]:%Y-%m-%d} ({off[0]:%A}) is no session: possible are {near[0]:%Y-%m-%d} before it and "
            f"{near[1]:%Y-%m-%d} after it"
        )
    return [int(sessions.get_loc(day)) for day in inside] or list(
        np.linspace(0, len(sessions) - 1, min(count, len(sessions))).astype(int)
    )


# --- the door --------------------------------------------------------------------------------------------------------
def _session(market: CaseMarket, date: str | pd.Timestamp) -> pd.Timestamp:
    tensors = market.tensors
    scored = tensors.sessions[tensors.scored]
    day = read_date(date, scored[-1])
    if not scored[0] <= day <= scored[-1]:
        raise CaseError(
            f"{day:%Y-%m-%d} is not scored: possible are the sessions {scored[0]:%Y-%m-%d} to {scored[-1]:%Y-%m-%d}"
        )
    if day not in scored:
        near = scored[scored < day][-1], scored[scored > day][0]
        raise CaseError(
            f"{day:%Y-%m-%d} ({day:%A}) is no session of {tensors.market}: possible are {near[0]:%Y-%m-%d} before it "
            f"and {near[1]:%Y-%m-%d} after it"
        )
    return day


def _window(market: CaseMarket, day: pd.Timestamp, before: int, after: int, span: Sequence[str] | None) -> np.ndarray:
    """Positions of the sessions of the window, all of them scored."""
    sessions, scored = market.tensors.sessions, np.flatnonzero(market.tensors.scored)
    at = sessions.get_loc(day)
    if span is not None:
        if isinstance(span, str) or not isinstance(span, Sequence) or len(span) != 2:
            raise CaseError(
                f"a span is a first and a last date, such as ['{day:%Y-%m-%d}', '{day:%Y-%m-%d}'], not {span!r}"
            )
        first, last = (read_date(edge, day) for edge in span)
        if not first <= day <= last:
            raise CaseError(f"the span {span[0]} to {span[1]} does not hold the date {day:%Y-%m-%d}")
        inside = np.flatnonzero((sessions >= first) & (sessions <= last))
        before, after = at - inside[0], inside[-1] - at
        if first < sessions[scored[0]] or last > sessions[scored[-1]]:
            before = at - scored[0] + 1  # over the edge: refused below
    for name, count in (("before", before), ("after", after)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer):
            raise CaseError(f"{name} counts sessions, so it is a whole number such as 20, not {count!r}")
    if before < 0 or after < 0:
        raise CaseError(f"before {before}, after {after}: both count sessions, so neither can be negative")
    room = at - scored[0], scored[-1] - at
    if before > room[0] or after > room[1]:
        raise CaseError(
            f"a window from {before} sessions before {day:%Y-%m-%d} to {after} after reaches over the edge: "
            f"possible are at most {room[0]} before and {room[1]} after "
            f"({sessions[scored[0]]:%Y-%m-%d} to {sessions[scored[-1]]:%Y-%m-%d})"
        )
    return np.arange(at - before, at + after + 1)


def _tickers(market: CaseMarket, tickers: Sequence[str], positions: np.ndarray) -> list[str]:
    tensors = market.tensors
    if not isinstance(tickers, Iterable):
        raise CaseError(f"{tickers!r} names no stock: give a list such as {tensors.tickers[:3]}")
    names = [tickers] if isinstance(tickers, str) else [str(t) for t in dict.fromkeys(map(str, tickers))]
    if not names:
        raise CaseError(f"name at least one ticker of {tensors.market}, such as {', '.join(tensors.tickers[:3])}")
    for ticker in names:
        if ticker not in tensors.tickers:
            like = difflib.get_close_matches(str(ticker).upper(), tensors.tickers, n=3, cutoff=0.4)
            hint = f"near it: {', '.join(like)}" if like else f"it has {', '.join(tensors.tickers)}"
            raise CaseError(f"{ticker!r} is not among the {len(tensors.tickers)} stocks of {tensors.market}; {hint}")
        trades = np.flatnonzero(tensors.active[:, tensors.tickers.index(ticker)])
        if not np.isin(trades, positions).any():
            days = tensors.sessions[[positions[0], positions[-1]]]
            life = "it never does" if not len(trades) else "it does from {:%Y-%m-%d} to {:%Y-%m-%d}".format(
                *tensors.sessions[trades[[0, -1]]])  # fmt: skip
            raise CaseError(f"{ticker} does not trade between {days[0]:%Y-%m-%d} and {days[1]:%Y-%m-%d}: {life}")
    return names
