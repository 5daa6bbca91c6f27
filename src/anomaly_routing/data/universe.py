"""The static table of a market: who its stocks are, in which sector, in which state, and which of them are banks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from pandera.pandas import Check, Column, DataFrameSchema

from anomaly_routing.data.quality import validate
from anomaly_routing.data.tables import Table

GICS_SECTORS = (
    "Communication Services",
    "Consumer Discretionary",
    "Consumer Staples",
    "Energy",
    "Financials",
    "Health Care",
    "Industrials",
    "Information Technology",
    "Materials",
    "Real Estate",
    "Utilities",
)
ONCE = DataFrameSchema({"ticker": Column(str, unique=True, report_duplicates="exclude_first")})
UNIVERSE_COLUMNS = ["ticker", "name", "sector", "hq_state", "is_bank"]
ALIASES = {"gics_sector": "sector", "first_date": "first_session", "last_date": "last_session"}


def universe_schema(sectors: Iterable[str]) -> DataFrameSchema:
    """The pandera schema of a universe whose sectors are among `sectors`."""
    return DataFrameSchema(
        {
            "ticker": Column(str),
            "name": Column(str),
            "sector": Column(str, Check.isin(list(sectors), error="sector")),
            "hq_state": Column(str),
            "is_bank": Column(bool),
            "shares_outstanding": Column(
                float,
                [Check(np.isfinite, error="shares"), Check.gt(0, error="shares")],
                nullable=True,
                required=False,
            ),
        }
    )


def parse_universe(table: Table, sectors: Iterable[str], select: str | None = None) -> tuple[pd.DataFrame, set[str]]:
    """The checked universe in the file's order, index = its 1-based data rows, and every ticker that the file knows.

    select : a true/false column; only its true rows are kept and held to the rules, but the set has all tickers.

    `gics_sector` may stand for `sector`. `hq_state` is kept as printed (empty: unknown), an empty `name` becomes the
    ticker; `shares_outstanding` and `first_session`, `last_session` (or `first_date`, `last_date`) are kept if there.
    Raises MarketDataError (missing column, duplicate or empty ticker, unknown sector, a flag that is neither true nor
    false, a selection of nothing).
    """
    known = {old: new for old, new in ALIASES.items() if old in table.frame and new not in table.frame}
    table = Table(table.frame.rename(columns=known), table.file, table.is_text)
    table.require(UNIVERSE_COLUMNS + ([select] if select else []))
    universe = pd.DataFrame({column: table.texts(column) for column in ("ticker", "name", "sector", "hq_state")})
    universe["name"] = universe["name"].where(universe["name"] != "", universe["ticker"])
    universe["is_bank"] = table.flags("is_bank")
    if "shares_outstanding" in table.frame:
        universe["shares_outstanding"] = table.numbers("shares_outstanding")
    for column in ("first_session", "last_session"):
        if column in table.frame:
            universe[column] = pd.to_datetime(table.frame[column], errors="coerce", format="ISO8601")
    nameless = universe["ticker"] == ""
    if nameless.any():
        table.fail(nameless.idxmax(), "the ticker is empty", "name the ticker, or drop the row")
    tickers = set(universe["ticker"])
    validate(ONCE, universe, table.file)
    if select:
        universe = universe[table.flags(select)]
        if universe.empty:
            table.fail(None, f"no row is selected by {select}", f"set {select} to true for the stocks of the study")
    validate(universe_schema(sectors), universe, table.file)
    return universe, tickers


def life_warnings(universe: pd.DataFrame, prices: pd.DataFrame, file: str) -> list[str]:
    """One line for each ticker whose first or last row is not where the universe file says (if it says so)."""
    lines = []
    life = prices.groupby("ticker")["date"].agg(["min", "max"]).loc[universe["ticker"]]
    for column, end in (("first_session", "min"), ("last_session", "max")):
        if column in universe:
            said = pd.Series(universe[column].to_numpy(), index=life.index)
            for ticker in life.index[said.notna() & (said != life[end])]:
                found = life.loc[ticker, end]
                lines.append(f"{file}: {ticker}: {column} is {said[ticker]:%Y-%m-%d}, in the prices {found:%Y-%m-%d}")
    return lines
