"""The case market of the chapter: shares of the Nepal Stock Exchange from a folder, or a stand-in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_routing.data.calendars import FROM_DATA, sessions
from anomaly_routing.data.tables import read_table
from anomaly_routing.errors import MarketDataError
from anomaly_routing.panel import Panel, plain_panel

FILE = "prices.parquet"
COLUMNS = ("date", "ticker", "close", "volume")
TRAIN_SHARE = 0.6
USUAL_PLACE = ("data", "raw", "nepse")  # where `make chapter` puts it


def has_case(folder: str | Path) -> bool:
    """Whether the folder holds the case market. An empty name means no, and so does the usual place when nothing was
    brought there; any other folder without the file raises MarketDataError, for it was mistyped.
    """
    if not str(folder) or (Path(folder) / FILE).exists():
        return bool(str(folder))
    if Path(folder).exists() or Path(folder).parts[-len(USUAL_PLACE) :] != USUAL_PLACE:
        remedy = "name the folder that holds it, or leave `nepse` empty to take the market of the report"
        raise MarketDataError(folder, "-", f"there is no {FILE} here", remedy)
    return False


def load_case(folder: str | Path) -> pd.DataFrame:
    """Rows date, ticker, close, volume and, if there, ohlc_ok, sorted by ticker and date.

    Only close and volume are read: in the early years the source fills the open with the close of the day before.
    Raises MarketDataError: a missing column, an empty or impossible cell, the same date and ticker twice.
    """
    path = Path(folder) / FILE
    table = read_table(path)
    table.require(list(COLUMNS))
    rows = pd.DataFrame({"date": table.dates("date"), "ticker": table.texts("ticker")})
    for column in ("close", "volume"):
        rows[column] = table.numbers(column)
    rows["ohlc_ok"] = table.frame["ohlc_ok"].to_numpy(bool) if "ohlc_ok" in table.frame else True
    broken = {
        "a cell is empty (NaN) or infinite": ~np.isfinite(rows[["close", "volume"]]).all(axis=1),
        "the close is not positive": rows["close"] <= 0,
        "the volume is negative": rows["volume"] < 0,
        "the same date and ticker stand in two rows": rows.duplicated(["date", "ticker"]),
    }
    for rule, wrong in broken.items():
        if wrong.any():
            row = rows[wrong].iloc[0]
            where = f"row {rows.index[wrong][0]} ({row['date']:%Y-%m-%d}, {row['ticker']})"
            raise MarketDataError(path, where, rule, "correct the row from the source, or drop it")
    return rows.sort_values(["ticker", "date"]).reset_index(drop=True)


def case_panel(rows: pd.DataFrame) -> Panel:
    """The case market as a detector sees it: log returns of the close, log volume, no features.

    A stock is active where it traded and has a return; a return spans the stock's own gaps. Sessions are those dates on
    which at least half of the listed stocks have a row.
    """
    days = sessions(FROM_DATA, rows)
    wide = {name: rows.pivot_table(index="date", columns="ticker", values=name).reindex(days) for name in COLUMNS[2:]}
    traded = wide["volume"].to_numpy() > 0
    price = np.log(wide["close"].where(traded))
    returns = (price - price.ffill().shift()).to_numpy()
    with np.errstate(divide="ignore"):
        log_volume = np.where(traded, np.log(wide["volume"].to_numpy()), np.nan)
    active = traded & np.isfinite(returns)
    tickers = [str(t) for t in wide["close"].columns]
    return plain_panel(np.where(traded, returns, np.nan), log_volume, days, tickers, active)


def longest_lived(panel: Panel, n: int, first: str = "") -> Panel:
    """The n stocks with most active sessions, `first` in front if one is named, without features. Raises ValueError for
    a name that is not in the market."""
    if first and first not in panel.tickers:
        raise ValueError(f"no stock {first!r} in this market; there are: {', '.join(panel.tickers)}")
    order = np.argsort(-panel.active.sum(axis=0), kind="stable")
    names = [panel.tickers[i] for i in order]
    names = [first, *(t for t in names if t != first)] if first else names
    places = [panel.tickers.index(t) for t in names[:n]]
    by_stock = {name: getattr(panel, name)[:, places] for name in ("active", "returns", "log_volume")}
    return replace(
        panel,
        tickers=names[:n],
        features=[],
        group=[],
        x=np.zeros((len(panel.sessions), len(places), 0), np.float32),
        sector=panel.sector[places],
        is_bank=panel.is_bank[places],
        prior=None,
        stress=None,
        benchmarks=pd.DataFrame(index=panel.sessions),
        **by_stock,
    )


def training(panel: Panel) -> np.ndarray:
    """Bool [S]: the first 60% of the sessions."""
    return np.arange(len(panel.sessions)) < TRAIN_SHARE * len(panel.sessions)


def circumstances(panel: Panel, flags: np.ndarray, wide: np.ndarray | None = None) -> pd.DataFrame:
    """What else was so on flagged stock-days [S, N]: one row each, with the first circumstance that applies.

    wide : [S], share of the stocks that are out of the ordinary that day; without it, that of the flagged ones.
    low volume (below the stock's median); market-wide (at least a third of the stocks, by `wide`); price move
    (|return| beyond 3 SDs of the stock's); after a closure (at least 5 days since the session before); volume alone.
    volume_z, return_z : robust z of log volume, z of the return, over all of the stock's sessions: hindsight, for
    reading.
    """
    median = np.nanmedian(panel.log_volume, axis=0)
    volume_z = (panel.log_volume - median) / (1.4826 * np.nanmedian(np.abs(panel.log_volume - median), axis=0))
    return_z = (panel.returns - np.nanmean(panel.returns, axis=0)) / np.nanstd(panel.returns, axis=0)
    pause = np.r_[0, np.diff(panel.sessions.to_numpy("datetime64[D]")).astype(int)]
    if wide is None:
        wide = flags.sum(axis=1) / np.maximum(panel.active.sum(axis=1), 1)
    rows = []
    for t, i in np.argwhere(flags):
        tests = {
            "low volume": volume_z[t, i] < 0,
            "market-wide": wide[t] >= 1 / 3,
            "price move": abs(return_z[t, i]) > 3,
            "after a closure": pause[t] >= 5,
        }
        kind = next((name for name, holds in tests.items() if holds), "volume alone")
        rows.append((panel.sessions[t], panel.tickers[i], volume_z[t, i], return_z[t, i], wide[t], int(pause[t]), kind))
    columns = ["date", "ticker", "volume_z", "return_z", "share of stocks", "days since", "circumstance"]
    return pd.DataFrame(rows, columns=columns)
