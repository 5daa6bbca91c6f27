"""The rules of the data contract: errors for what no later step could mend, warnings for what a reader should know."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandera.errors import SchemaErrors
from pandera.pandas import Check, Column, DataFrameSchema

from anomaly_routing.data.calendars import FROM_DATA, SET_CALENDAR
from anomaly_routing.data.tables import row_label
from anomaly_routing.errors import MarketDataError

PRICE_COLUMNS = ["open", "high", "low", "close", "adj_close"]
COLUMNS = ["date", "ticker", *PRICE_COLUMNS, "volume"]

BOUND_TOLERANCE = 1e-6  # relative; split-adjusted prices are rounded one by one, so a close may pass the high by a hair
LONGEST_CLOSURE = pd.Timedelta(days=180)  # no exchange of today shut for so long; Kathmandu did for 51 days in 2020
LONG_GAP = 20  # sessions; a halt can last this long, so longer gaps are named one by one but are no error
ADJUSTMENT_JUMP = 0.5  # of ln(adj_close / close) between two rows: a payment of 39% of the price
SPLIT_MOVE = np.log(1.4)  # smallest overnight move, up 40% or its inverse, that may be a split
SPLIT_RATIOS = np.array([1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 100])
SPLIT_WINDOW = 20  # sessions on either side that give the usual volume

# Broken rule -> (the rule, the remedy). Several broken rules are reported in this order, the first row first.
RULES = {
    "unique": (
        "the same date and ticker stand in two rows",
        'keep one: prices.drop_duplicates(["date", "ticker"]), after a look at which is right',
    ),
    "sorted": (
        "the rows are not sorted by ticker, then date",
        'prices.sort_values(["ticker", "date"]).to_parquet(file, index=False)',
    ),
    "finite": (
        "the cell is empty (NaN) or infinite",
        "fill it from the source, or drop the row: a missing day is allowed, a half-known one is not",
    ),
    "positive": ("a price must be positive", "correct the row or drop it; 0 is not a way to write 'no trade'"),
    "volume": ("volume must not be negative", "correct the row; 0 means that the stock did not trade"),
    "high_low": ("high is below low", "correct the row from the source; high and low may be swapped"),
    "open_inside": (
        "open lies outside [low, high]",
        "correct the row; all four prices must be adjusted by the same factor",
    ),
    "close_inside": (
        "close lies outside [low, high]",
        "correct the row; all four prices must be adjusted by the same factor (adj_close is a column of its own)",
    ),
    "ticker_unique": ("the ticker has two rows in the universe", "keep one row per ticker"),
    "sector": (
        "unknown sector",
        "use the eleven GICS sectors, or list the market's own: "
        'SECTORS="A,B" at `make market`, or `sectors` in the market\'s params.yaml',
    ),
    "shares": ("shares_outstanding must be positive", "correct the cell, or leave it empty"),
}
PANDERA_NAMES = {"multiple_fields_uniqueness": "unique", "field_uniqueness": "ticker_unique", "not_nullable": "finite"}
SHOWN = {"high_low": ["high", "low"], "open_inside": ["open", "low", "high"], "close_inside": ["close", "low", "high"]}


def _is_sorted(frame: pd.DataFrame) -> pd.Series:
    ticker, date = frame["ticker"], frame["date"]
    before = ticker.shift()
    return ~((ticker < before) | ((ticker == before) & (date < date.shift())))


def _inside(column: str) -> Check:
    def check(frame: pd.DataFrame) -> pd.Series:  # written so that an empty benchmark cell passes
        low, high = frame["low"] * (1 - BOUND_TOLERANCE), frame["high"] * (1 + BOUND_TOLERANCE)
        return ~((frame[column] < low) | (frame[column] > high))

    return Check(check, error=f"{column}_inside")


def price_schema(optional: tuple[str, ...] = ()) -> DataFrameSchema:
    """The pandera schema of prices; `optional` columns may have empty cells (for benchmarks: all but close)."""
    finite, positive = Check(np.isfinite, error="finite"), Check.gt(0, error="positive")
    columns = {name: Column(float, [finite, positive], nullable=name in optional) for name in PRICE_COLUMNS}
    not_negative = Check.ge(0, error="volume")
    return DataFrameSchema(
        {
            "date": Column("datetime64[ns]"),
            "ticker": Column(str),
            **columns,
            "volume": Column(float, [finite, not_negative], nullable="volume" in optional),
        },
        checks=[
            Check(_is_sorted, error="sorted"),
            Check(lambda frame: ~(frame["high"] < frame["low"] * (1 - BOUND_TOLERANCE)), error="high_low"),
            _inside("open"),
            _inside("close"),
        ],
        unique=["date", "ticker"],
        report_duplicates="exclude_first",
    )


PRICES = price_schema()
BENCHMARKS = price_schema(optional=("open", "high", "low", "adj_close", "volume"))


def _how_many(n_rows: int) -> str:
    return f", {n_rows} rows in all" if n_rows > 1 else ""


def validate(schema: DataFrameSchema, frame: pd.DataFrame, file: str) -> None:
    """Raise MarketDataError for the first broken rule of `schema` (in the order of RULES) at its first row.

    frame : index = 1-based data rows of `file`.
    """
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
        broken = cases["check"].replace(PANDERA_NAMES)
        rule = min(broken, key=list(RULES).index)
        cases = cases[broken == rule].sort_values("index", kind="stable")
        row, n_rows = int(cases["index"].iloc[0]), cases["index"].nunique()
        column = cases["column"].iloc[0]
        shown = SHOWN.get(rule, [] if rule in ("unique", "sorted") else [column])
        values = ", ".join(f"{name} {frame.loc[row, name]}" for name in shown)
        text = RULES[rule][0] + (f" ({values})" if values else "") + _how_many(n_rows)
        raise MarketDataError(file, row_label(frame, row), text, RULES[rule][1]) from None


def check_calendar(frame: pd.DataFrame, sessions: pd.DatetimeIndex, calendar: str, file: str) -> None:
    """Raise MarketDataError if a row is dated on a day that is no session."""
    off = ~frame["date"].isin(sessions)
    if off.any():
        row, n_rows = off.idxmax(), int(off.sum())
        if calendar == FROM_DATA:
            rule = "fewer than half of the tickers listed on this date have a row, or none of them has volume"
            remedy = "drop the rows of days on which the market was closed"
        else:
            rule = f"the date is not a session of {calendar}"
            remedy = f"drop the row, or name the market's own calendar (from_data if no exchange fits): {SET_CALENDAR}"
        raise MarketDataError(file, row_label(frame, row), rule + _how_many(n_rows), remedy)


def check_no_session_missing(frame: pd.DataFrame, sessions: pd.DatetimeIndex, calendar: str, file: str) -> None:
    """Raise MarketDataError if a session between the first and the last date has no row of any ticker."""
    missing = sessions.difference(frame["date"].unique())
    if len(missing):
        rule = f"{len(missing)} sessions of {calendar} have no row of any ticker, the first is {missing[0]:%Y-%m-%d}"
        remedy = f"add the sessions from the source, or name the market's own calendar: {SET_CALENDAR}"
        raise MarketDataError(file, "-", rule, remedy)


def check_no_long_closure(frame: pd.DataFrame, file: str) -> None:
    """Raise MarketDataError if more than 180 calendar days pass without a row of any ticker.

    On a calendar that comes from the data, a single row dated 2150 would otherwise be a session and stretch the span.
    The row named is the first after the gap; the wrong one may be on either side.
    """
    days = np.sort(frame["date"].unique())
    wide = np.flatnonzero(np.diff(days) > LONGEST_CLOSURE)
    if len(wide):
        before, after = pd.DatetimeIndex(days[wide[0] : wide[0] + 2])
        rule = f"no ticker has a row in the {(after - before).days} days from {before:%Y-%m-%d} to {after:%Y-%m-%d}"
        remedy = "correct the dates on the side of the gap that has few rows, or bring the rows of one side only"
        raise MarketDataError(file, row_label(frame, (frame["date"] == after).idxmax()), rule, remedy)


def adjustment_warnings(prices: pd.DataFrame, file: str) -> list[str]:
    """One line for each ticker whose ln(adj_close / close) moves by more than 0.5 from one row to the next.

    The line names the first such row. The ratio moves on ex-dates only, by the payment's share of the price, so a
    jump of this size is a very large special dividend or spin-off, or an adj_close of another stock, scale or day.

    prices : valid prices; index = 1-based data rows of `file`.
    """
    ratio = np.log(prices["adj_close"] / prices["close"])
    move = ratio.diff().where(prices["ticker"] == prices["ticker"].shift())
    jumps = move[move.abs() > ADJUSTMENT_JUMP]
    lines = []
    for _, own in jumps.groupby(prices["ticker"][jumps.index]):
        where = row_label(prices, own.index[0])
        lines.append(
            f"{file}: {where}: adj_close / close is {np.exp(own.iloc[0]):.3g} times that of the row before"
            f"{_how_many(len(own))}: a payment of this size? Remedy: compare adj_close with the source, or leave the "
            "column out (close stands in, without dividends)"
        )
    return lines


def split_warnings(prices: pd.DataFrame, file: str) -> list[str]:
    """One line for each row that looks like a split which the prices before it were not adjusted for.

    With g = open / close of the ticker's row before, a row is named if all of these hold (our choice):
    1. abs(ln g) >= ln 1.4: an overnight move of 40% up, or of 29% down, its inverse; a 3:2 split moves prices by 33%;
    2. g or 1/g is within 5% of a usual split ratio s (SPLIT_RATIOS), and the close has not left it by more than 20%;
    3. the move is undone in volume: v = usual volume from this row on / usual volume before it (median of up to 20
       rows) has abs(ln v + ln g) <= 0.5 abs(ln g), so that the dollar volume stays about where it was;
    4. the move lasts: c, the same ratio of usual closes, has abs(ln c - ln g) <= 0.5 abs(ln g).
    A crash or a rally on news fails 2, 3 (volume rises with it, whichever way) or 4. At least 3 rows are needed before
    the move. A split amid wild trading may be missed (planted 2:1 splits in real large stocks: one in
    eight is): the warning asks for a look, nothing more.

    prices : valid prices; index = 1-based data rows of `file`.
    """
    before = prices["close"].shift().where(prices["ticker"] == prices["ticker"].shift())
    at_open, at_close = np.log(prices["open"] / before), np.log(prices["close"] / before)
    lines = []
    for position in np.flatnonzero(at_open.abs() >= SPLIT_MOVE):
        move = at_open.iloc[position]
        split = SPLIT_RATIOS[np.abs(np.log(SPLIT_RATIOS) - abs(move)).argmin()]
        exact = np.sign(move) * np.log(split)
        if abs(move - exact) > np.log(1.05) or abs(at_close.iloc[position] - exact) > np.log(1.2):
            continue
        volume, level = _lasting_change(prices, position, "volume"), _lasting_change(prices, position, "close")
        if abs(volume + move) <= 0.5 * abs(move) and abs(level - move) <= 0.5 * abs(move):
            where = row_label(prices, prices.index[position])
            kind = f"{split:g}-for-1" if move < 0 else f"1-for-{split:g}"
            factor = np.exp(exact)
            lines.append(
                f"{file}: {where}: open is {np.exp(move):.3g} times the close before and volume goes to "
                f"{np.exp(volume):.3g} times: a {kind} split that is not adjusted for? Remedy: multiply the ticker's "
                f"earlier prices by {factor:.6g} and divide its earlier volumes by it, unless the move is real"
            )
    return lines


def _lasting_change(prices: pd.DataFrame, position: int, column: str) -> float:
    """ln(median from `position` on / median before it) of a ticker's `column`, NaN where it cannot be told."""
    ticker = prices["ticker"].iloc[position]
    start = max(position - SPLIT_WINDOW, 0)
    near = prices.iloc[start : position + SPLIT_WINDOW]
    values = near[column].where((near["ticker"] == ticker) & (near[column] > 0)).to_numpy()
    before, after = (part[~np.isnan(part)] for part in np.split(values, [position - start]))
    return float(np.log(np.median(after) / np.median(before))) if len(before) >= 3 and len(after) else np.nan


def gap_warnings(prices: pd.DataFrame, sessions: pd.DatetimeIndex, file: str) -> list[str]:
    """Sessions without a row inside a ticker's life: a count for each ticker, and every gap of more than 20 sessions.

    Missing days are allowed (the features of such a day are NaN). A long gap is no error, because halts exist, but a
    ticker that comes back after one may be another company under an old symbol.
    """
    position = pd.Series(sessions.get_indexer(prices["date"]), index=prices.index)
    same = prices["ticker"] == prices["ticker"].shift()
    gap = (position.diff() - 1).where(same, 0).astype(int)
    count = gap.groupby(prices["ticker"]).sum()
    count = count[count > 0]
    lines = []
    if len(count):
        lines.append(f"{file}: sessions missing inside a life: {', '.join(f'{t} {n}' for t, n in count.items())}")
    for row in gap.index[gap > LONG_GAP]:
        lines.append(
            f"{file}: {row_label(prices, row)}: first row after a gap of {gap[row]} sessions: halted, or recycled?"
        )
    return lines
