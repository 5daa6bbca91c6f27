"""Dates and session counts against the exchange's calendar (AUDIT A09, A10, A13-A16, A19, A28)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd

from anomaly_routing.panel import Splits

EXCHANGE = "XNYS"
MARGIN = pd.Timedelta(days=7)
FIRST, LAST = "2017-01-03", "2024-12-31"


@cache
def exchange_sessions(first: str = FIRST, last: str = LAST) -> pd.DatetimeIndex:
    """Sessions of the New York Stock Exchange, both ends included."""
    calendar = exchange_calendars.get_calendar(
        EXCHANGE, start=pd.Timestamp(first) - MARGIN, end=pd.Timestamp(last) + MARGIN
    )
    return pd.DatetimeIndex(calendar.sessions_in_range(first, last), freq=None)


def split_counts(sessions: pd.DatetimeIndex, burn_in: int, splits: Splits | None = None) -> tuple[int, int, int]:
    """Sessions of training, validation and test when the first `burn_in` sessions give no sample."""
    spans, kept = splits or Splits(), np.arange(len(sessions)) >= burn_in
    train = np.asarray(sessions <= pd.Timestamp(spans.train_end))
    return tuple(int((part & kept).sum()) for part in (train, spans.val(sessions), spans.test(sessions)))


def burn_ins_that_print(
    sessions: pd.DatetimeIndex, percents: tuple[float, float, float], candidates: Iterable[int]
) -> list[int]:
    """The numbers of dropped sessions for which the three splits print as these percentages."""
    found = []
    for burn_in in candidates:
        counts = np.array(split_counts(sessions, burn_in))
        if np.all(np.abs(100 * counts / counts.sum() - np.array(percents)) <= 0.05 + 1e-9):
            found.append(burn_in)
    return found


def check_dates(texts: dict[str, str], sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """One row a printed date: whether it is a day at all, its weekday, whether it is a session, the next one if not."""
    rows = []
    for name, text in texts.items():
        row: dict[str, Any] = {"event": name, "printed": text, "a day": False, "weekday": "", "session": "", "next": ""}
        if len(text) == len("2023-03-10") and text.count("-") == 2:
            day = pd.Timestamp(text)
            after = sessions[sessions >= day][0]
            traded = day in sessions
            row |= {"a day": True, "weekday": day.day_name(), "session": "yes" if traded else "no"}
            row["next"] = "" if traded else f"{after:%Y-%m-%d}"
        rows.append(row)
    return pd.DataFrame(rows)


def could_lie_in(text: str, first_year: int, last_year: int) -> bool:
    """Whether a printed date or period ("2022-Q4", "2022-03..2022-11", "2023") lies wholly in these years."""
    years = [int(part[:4]) for part in text.split("..")]
    return first_year <= min(years) and max(years) <= last_year


def windows(dates: Iterable[pd.Timestamp], sessions: pd.DatetimeIndex, before: int = 5) -> list[pd.DatetimeIndex]:
    """The `before` sessions ahead of each date, which must be a session."""
    places = [sessions.get_loc(pd.Timestamp(d)) for d in dates]
    return [sessions[p - before : p] for p in places]


def calendar_window(date: pd.Timestamp, sessions: pd.DatetimeIndex, days: int = 5) -> pd.DatetimeIndex:
    """The sessions among the `days` calendar days before a date."""
    day = pd.Timestamp(date)
    return sessions[(sessions >= day - pd.Timedelta(days=days)) & (sessions < day)]


def session_before(date: pd.Timestamp, lead: float, sessions: pd.DatetimeIndex) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The sessions that lie `lead` sessions before a session, rounded down and up; the same for a whole lead (A98)."""
    place = sessions.get_loc(date)
    return sessions[place - int(np.floor(lead))], sessions[place - int(np.ceil(lead))]
