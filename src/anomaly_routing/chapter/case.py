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
USUAL, AT_LEAST = 60, 20  # sessions before, of which so many with volume
CLOSURE = 5  # calendar days from one session to the next
COLUMNS_OF_A_DAY = (
    *("date", "ticker", "volume_z", "times usual", "below median", "return_z"),
    *("share of stocks", "closed days", "sessions since", "circumstance"),
)
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


def against_usual(panel: Panel) -> Panel:
    """The panel with log volume less its median over the 60 sessions before; inactive while there are fewer than 20."""
    usual = pd.DataFrame(panel.log_volume).rolling(USUAL, min_periods=AT_LEAST).median().shift(1).to_numpy()
    relative = panel.log_volume - usual
    return replace(panel, log_volume=relative, active=panel.active & np.isfinite(relative))


def last_closure(panel: Panel) -> pd.DataFrame:
    """The last pause of at least 5 calendar days before each session, a row a session: closed days, sessions since (1
    is the first session after it); NaN before the first such pause."""
    pause = pd.Series(np.r_[0, np.diff(panel.sessions.to_numpy("datetime64[D]")).astype(int)], index=panel.sessions)
    place = pd.Series(np.arange(len(pause)), index=pause.index)
    long = pause >= CLOSURE
    since = place - place.where(long).ffill() + 1
    return pd.DataFrame({"closed days": pause.where(long).ffill(), "sessions since": since})


def circumstances(
    panel: Panel, flags: np.ndarray, wide: np.ndarray | None = None, seen: Panel | None = None
) -> pd.DataFrame:
    """What else was so on flagged stock-days [S, N]: one row each, with the first circumstance that applies.

    wide : [S], share of the stocks that are out of the ordinary that day; without it, that of the flagged ones.
    seen : the panel as the rules saw it (another log volume), for volume_z; without it, `panel`.
    low volume (below the median of the stock's sixty before); market-wide (at least a third of the stocks, by `wide`);
    price move (|return| beyond 3 SDs of the stock's); after a closure (first session after at least 5 days); volume
    alone. times usual : volume over that median of sixty, NaN while there are fewer than 20. below median : below the
    stock's median of all time, which in a market that has grown says in which year the day lies, and little else.
    volume_z, return_z : robust z of log volume, z of the return, over all of the stock's sessions: hindsight, for
    reading. closed days, sessions since : of `last_closure`.
    """
    log_volume, relative = (seen or panel).log_volume, against_usual(panel).log_volume
    median = np.nanmedian(log_volume, axis=0)
    volume_z = (log_volume - median) / (1.4826 * np.nanmedian(np.abs(log_volume - median), axis=0))
    below = panel.log_volume < np.nanmedian(panel.log_volume, axis=0)
    return_z = (panel.returns - np.nanmean(panel.returns, axis=0)) / np.nanstd(panel.returns, axis=0)
    closure = last_closure(panel)
    if wide is None:
        wide = flags.sum(axis=1) / np.maximum(panel.active.sum(axis=1), 1)
    rows = []
    for t, i in np.argwhere(flags):
        tests = {
            "low volume": relative[t, i] < 0,
            "market-wide": wide[t] >= 1 / 3,
            "price move": abs(return_z[t, i]) > 3,
            "after a closure": closure["sessions since"].iloc[t] == 1,
        }
        kind = next((name for name, holds in tests.items() if holds), "volume alone")
        rows.append({
            "date": panel.sessions[t], "ticker": panel.tickers[i], "volume_z": volume_z[t, i],
            "times usual": np.exp(relative[t, i]), "below median": bool(below[t, i]), "return_z": return_z[t, i],
            "share of stocks": wide[t], **closure.iloc[t], "circumstance": kind,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS_OF_A_DAY)
