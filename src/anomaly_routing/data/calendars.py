"""Which dates are sessions of a market."""

from __future__ import annotations

import exchange_calendars
import pandas as pd

from anomaly_routing.errors import MarketDataError

FROM_DATA = "from_data"
SET_CALENDAR = "CALENDAR=<name> at `make market`, or `calendar` in the market's params.yaml"
EDGE = pd.Timedelta(days=7)  # also the margin asked of an exchange calendar on both sides


def sessions(calendar: str, prices: pd.DataFrame) -> pd.DatetimeIndex:
    """The market's sessions from the first to the last date of `prices` (columns date, ticker, volume).

    calendar : a name of the package exchange_calendars (``"XNYS"``), or ``"from_data"`` for a market that it does not
        know (NEPSE trades Sunday to Thursday).

    ``from_data``: a date is a session if at least half of the tickers listed then have a row on it, and at least one of
    these rows has volume. So a stray row on a holiday makes no session, nor does a holiday that a vendor padded with
    the last prices and no volume. A ticker is listed from its first to its last row; tickers whose rows begin (end)
    within seven days of the file's first (last) date count as listed from (to) that date, or a stray row at either end
    would be the only one listed and vote for itself.

    Returns datetime64[ns], no time zone, ascending. Raises MarketDataError for an unknown calendar, or for one that
    does not reach over the dates.
    """
    first, last = prices["date"].min(), prices["date"].max()
    if calendar == FROM_DATA:
        return _sessions_from_data(prices)
    try:
        exchange = exchange_calendars.get_calendar(calendar, start=first - EDGE, end=last + EDGE)
    except (exchange_calendars.errors.CalendarError, ValueError) as error:
        rule = f"no calendar {calendar!r} from {first:%Y-%m-%d} to {last:%Y-%m-%d} ({str(error).splitlines()[0]})"
        remedy = f"name one of exchange_calendars.get_calendar_names(), or from_data: {SET_CALENDAR}"
        raise MarketDataError("params", "calendar", rule, remedy) from error
    return pd.DatetimeIndex(exchange.sessions_in_range(first, last), name="date", freq=None).as_unit("ns")


def _sessions_from_data(prices: pd.DataFrame) -> pd.DatetimeIndex:
    by_date = prices.groupby("date").agg(rows=("ticker", "size"), volume=("volume", "max"))
    dates = by_date.index
    life = prices.groupby("ticker")["date"].agg(["min", "max"])
    begin = life["min"].where(life["min"] > dates[0] + EDGE, dates[0]).sort_values()
    end = life["max"].where(life["max"] < dates[-1] - EDGE, dates[-1]).sort_values()
    listed = begin.searchsorted(dates, side="right") - end.searchsorted(dates, side="left")
    is_session = (2 * by_date["rows"].to_numpy() >= listed) & (by_date["volume"].to_numpy() > 0)
    return pd.DatetimeIndex(dates[is_session], name="date").as_unit("ns")
