"""The feed: sessions one at a time, each checked against the rules of the data contract before anything moves.

A session that is late, repeated, out of turn or corrupt is refused whole: a cross-section with a wrong price in it is
not half right. What can be true but deserves a look is a flag on the report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from anomaly_routing.data.calendars import FROM_DATA, sessions
from anomaly_routing.data.quality import ADJUSTMENT_JUMP, BOUND_TOLERANCE, PRICE_COLUMNS, SPLIT_MOVE
from anomaly_routing.errors import MarketDataError
from anomaly_routing.features.streaming import Bar

COLUMNS = ("ticker", "open", "high", "low", "close", "volume")
FEED = "feed"
LEAST_SHARE = 0.5  # of the stocks of the session before: with fewer rows the file is not complete
LONG_PAUSE = 5  # days, on a calendar known from its data alone, where the history has no session on that weekday
OTHER_UNITS = 100.0  # times the usual volume or its inverse; of 300,000 days of large US stocks none comes near


class SessionRefused(MarketDataError):
    """A session that was not taken in. `kind`: repeated, late, missing, closed or corrupt."""

    def __init__(self, kind: str, date: pd.Timestamp, where: str, rule: str, remedy: str) -> None:
        self.kind, self.date = kind, date
        super().__init__(FEED, f"session {_day(date)}{where}", rule, remedy)

    def __reduce__(self):
        where = self.row.removeprefix(f"session {_day(self.date)}")
        return type(self), (self.kind, self.date, where, self.rule, self.remedy)


def _day(date: object) -> str:
    return str(date)[:10]  # also of a date that is none


@dataclass(frozen=True)
class Session:
    """One day's rows: ticker, open, high, low, close, volume and, if there, adj_close (the close stands in)."""

    date: pd.Timestamp
    rows: pd.DataFrame


def replay(prices: pd.DataFrame, after: pd.Timestamp | None = None) -> Iterator[Session]:
    """The sessions of a price table in their order, those after `after` alone, one at a time."""
    later = prices if after is None else prices[prices["date"] > after]
    for date, rows in later.groupby("date", sort=True):
        yield Session(pd.Timestamp(date), rows.drop(columns="date"))


class Admitted(NamedTuple):
    """A session that has passed: its bar on the total-return basis, the close as quoted [N], flags."""

    bar: Bar
    close: np.ndarray
    flags: list[str]


@lru_cache(maxsize=8)
def schedule(calendar: str, first_year: int, last_year: int) -> pd.DatetimeIndex:
    """Every session of an exchange's calendar in those years."""
    span = pd.DataFrame({"date": pd.to_datetime([f"{first_year}-01-01", f"{last_year}-12-31"])})
    return sessions(calendar, span)


def usual_pauses(days: pd.DatetimeIndex) -> tuple[int, ...]:
    """Median of the days since the session before, by weekday from Monday on; 5 where there was no session on it."""
    since = pd.Series(np.diff(days.to_numpy("datetime64[D]")).astype(int), index=days[1:].day_of_week)
    median = since.groupby(level=0).median().reindex(range(7), fill_value=LONG_PAUSE)
    return tuple(int(days) for days in median)


@dataclass(frozen=True)
class Gate:
    """What a session must be to be taken in: the market's stocks and its calendar.

    pauses : `usual_pauses` of the history, for a calendar that is known from its data alone.
    """

    tickers: list[str]
    calendar: str = FROM_DATA
    pauses: tuple[int, ...] = (LONG_PAUSE,) * 7

    def admit(
        self,
        session: Session,
        last: pd.Timestamp,
        close: np.ndarray,
        adjusted: np.ndarray,
        usual_volume: np.ndarray,
        present: np.ndarray,
    ) -> Admitted:
        """The session as arrays, and what a reader should look at.

        last : the session taken in before. close, adjusted : [N], each stock's last close and adj_close so far.
        usual_volume : [N], shares a session. present : bool [N], who had a row in that session.

        Raises SessionRefused, which names the rule and the remedy.
        """
        self._in_turn(session, last)
        rows = self._wide(session)
        self._valid(session.date, rows)
        self._complete(session.date, rows, int(present.sum()))
        adjust = rows["adj_close"] / rows["close"]
        bar = Bar(
            *(rows[name] * adjust for name in ("open", "high", "low")),
            rows["adj_close"],
            rows["volume"],
            rows["close"] * rows["volume"],
        )
        flags = self._flags(session.date, last, rows, (close, adjusted, usual_volume), present)
        return Admitted(bar, rows["close"], flags)

    def _in_turn(self, session: Session, last: pd.Timestamp) -> None:
        """Repeated, late, closed or out of turn."""
        date = session.date
        if not isinstance(date, pd.Timestamp) or date.tz is not None or date != date.normalize():
            remedy = "give a pandas Timestamp of the exchange's day, without time of day and time zone"
            raise SessionRefused("corrupt", date, "", "a session is dated by its day alone", remedy)
        if date == last:
            raise SessionRefused("repeated", date, "", "this session was taken in before", "nothing to do")
        if date < last:
            rule = f"it lies before the last session taken in, {last:%Y-%m-%d}"
            raise SessionRefused("late", date, "", rule, "to correct the past, start anew from the whole file")
        if self.calendar == FROM_DATA:
            return
        days = schedule(self.calendar, last.year, date.year)
        if date not in days:
            raise SessionRefused("closed", date, "", f"{self.calendar} has no session on this day", "drop the rows")
        skipped = days[(days > last) & (days < date)]
        if len(skipped):
            rule = f"{len(skipped)} sessions before it have not come, the first is {skipped[0]:%Y-%m-%d}"
            raise SessionRefused("missing", date, "", rule, "deliver them first, in their order")

    def _wide(self, session: Session) -> dict[str, np.ndarray]:
        """Columns as float64 [N] in the market's order; NaN where a stock has no row."""
        table = session.rows
        if lacking := [name for name in COLUMNS if name not in table.columns]:
            rule = f"the column {', '.join(lacking)} is missing"
            raise SessionRefused("corrupt", session.date, "", rule, "deliver all columns")
        names = table["ticker"].to_numpy(object)
        place = pd.Index(self.tickers).get_indexer(names)
        if (place < 0).any():
            stranger = names[place < 0][0]
            remedy = "drop its rows; a new stock needs a new universe and a new start"
            raise SessionRefused("corrupt", session.date, f", {stranger}", "the stock is not in the universe", remedy)
        if len(np.unique(place)) < len(place):
            twice = names[pd.Series(place).duplicated().to_numpy()][0]
            raise SessionRefused("corrupt", session.date, f", {twice}", "the stock stands in two rows", "keep one")
        wide = {}
        for name in (*PRICE_COLUMNS, "volume"):
            values = pd.to_numeric(table.get(name, table["close"]), errors="coerce").to_numpy(float)
            wide[name] = np.full(len(self.tickers), np.nan)
            wide[name][place] = values
        wide["there"] = np.isin(np.arange(len(self.tickers)), place)
        return wide

    def _valid(self, date: pd.Timestamp, rows: dict[str, np.ndarray]) -> None:
        """The rules of `data.quality` on every row that is there."""
        table = np.stack([rows[name] for name in (*PRICE_COLUMNS, "volume")])
        low, high = rows["low"] * (1 - BOUND_TOLERANCE), rows["high"] * (1 + BOUND_TOLERANCE)
        broken = {
            "a cell is empty, infinite or no number": ~np.isfinite(table).all(0),
            "a price is not positive": (table[:-1] <= 0).any(0),
            "the volume is negative": rows["volume"] < 0,
            "high is below low": rows["high"] < rows["low"],
            "the open lies outside low and high": (rows["open"] < low) | (rows["open"] > high),
            "the close lies outside low and high": (rows["close"] < low) | (rows["close"] > high),
        }
        for rule, wrong in broken.items():
            if (wrong := wrong & rows["there"]).any():
                name = f", {self.tickers[int(np.argmax(wrong))]}"
                many = f", {wrong.sum()} rows in all" if wrong.sum() > 1 else ""
                raise SessionRefused("corrupt", date, name, rule + many, "correct the rows and deliver the day again")

    def _complete(self, date: pd.Timestamp, rows: dict[str, np.ndarray], before: int) -> None:
        """Enough rows, some of them with volume."""
        if rows["there"].sum() < LEAST_SHARE * before:
            rule = f"{rows['there'].sum()} rows, where the session before had {before}"
            raise SessionRefused("corrupt", date, "", rule, "deliver the whole day at once")
        if not (rows["volume"] > 0).any():
            remedy = "drop the rows of a day on which the market was closed"
            raise SessionRefused("closed", date, "", "no stock has volume", remedy)

    def _flags(
        self, date: pd.Timestamp, last: pd.Timestamp, rows: dict, known: tuple[np.ndarray, ...], present: np.ndarray
    ) -> list[str]:
        """Taken in, but worth a look."""
        flags, (close, adjusted, usual_volume) = [], known
        pause, usual = (date - last).days, self.pauses[date.weekday()]
        if self.calendar == FROM_DATA and pause > usual:
            where = f"on a {date:%A} there are usually {usual}"
            flags.append(f"{pause} days since the session before, {where}: closed, or are sessions missing?")
        for i in np.flatnonzero(present & ~rows["there"]):
            flags.append(f"{self.tickers[i]} has no row")
        for i in np.flatnonzero(rows["there"] & (rows["volume"] == 0)):
            flags.append(f"{self.tickers[i]} did not trade")
        times = np.where(rows["volume"] > 0, rows["volume"], np.nan) / usual_volume
        for i in np.flatnonzero(np.abs(np.log(times)) >= np.log(OTHER_UNITS)):
            flags.append(f"{self.tickers[i]}: the volume is {times[i]:.3g} times its usual one: in other units?")
        jump = np.abs(np.log(rows["adj_close"] / adjusted)) >= SPLIT_MOVE
        for i in np.flatnonzero(jump):
            move = rows["adj_close"][i] / adjusted[i]
            flags.append(f"{self.tickers[i]} closes at {move:.2f} times its last close: news, or an unadjusted split?")
        for name in ("high", "low"):
            reach = rows[name] / rows["close"]
            for i in np.flatnonzero(np.abs(np.log(reach)) >= SPLIT_MOVE):
                flags.append(f"{self.tickers[i]}: the {name} is {reach[i]:.2f} times the close: a slip of the source?")
        basis = np.log(rows["adj_close"] / rows["close"]) - np.log(adjusted / close)
        for i in np.flatnonzero((np.abs(basis) > ADJUSTMENT_JUMP) & ~jump):
            flags.append(f"{self.tickers[i]}: adj_close against close moved by {np.exp(basis[i]):.2f} times")
        return flags
