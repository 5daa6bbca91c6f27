"""Prices from Yahoo Finance through yfinance: downloaded once, kept as they came, then through the same door."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from tqdm import tqdm

from anomaly_routing.data.sources import MarketData, from_frames
from anomaly_routing.data.tables import Table
from anomaly_routing.data.universe import GICS_SECTORS, parse_universe
from anomaly_routing.errors import MarketDataError
from anomaly_routing.files import replacing

MANIFEST = "manifest.json"
COLUMNS = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Adj Close": "adj_close",
    "Volume": "volume",
}
Download = Callable[[str, str, str], pd.DataFrame]


def yahoo_history(ticker: str, start: str, end: str) -> pd.DataFrame:
    """Daily rows of one ticker as yfinance returns them; empty if Yahoo has none (delisted, unknown).

    start, end : ISO dates, both included. Prices are adjusted for splits, `Adj Close` for dividends too
    (``auto_adjust=False``). Index: the exchange's local midnight. Raises ImportError without yfinance, and whatever
    yfinance raises if the network fails or Yahoo refuses: that must not pass for an absent ticker.
    """
    try:
        import yfinance
        from yfinance.exceptions import YFTickerMissingError
    except ImportError as error:
        raise ImportError("prices from Yahoo need yfinance: pip install anomaly-routing[yahoo]") from error
    hidden = yfinance.config.debug.hide_exceptions
    yfinance.config.debug.hide_exceptions = False  # or a failed request looks like an empty history
    try:
        after_end = pd.Timestamp(end) + pd.Timedelta(days=1)  # yfinance leaves `end` out
        return yfinance.Ticker(ticker).history(
            start=start, end=f"{after_end:%Y-%m-%d}", interval="1d", auto_adjust=False, actions=True
        )
    except YFTickerMissingError:
        return pd.DataFrame()
    except Exception as error:
        # for a ticker without prices yfinance goes on to ask for its profile, and only that request raises on 4xx
        if 400 <= (getattr(getattr(error, "response", None), "status_code", None) or 0) < 500:
            return pd.DataFrame()
        raise
    finally:
        yfinance.config.debug.hide_exceptions = hidden


def load_yahoo(
    universe: pd.DataFrame,
    start: str,
    end: str,
    cache_dir: Path | str,
    download: Download | None = None,
    *,
    benchmarks: Iterable[str] = ("SPY", "^VIX"),
    calendar: str = "XNYS",
    sectors: Iterable[str] = GICS_SECTORS,
) -> MarketData:
    """Load the tickers of `universe` (the contract's columns; tickers as Yahoo spells them, BRK-B) from Yahoo Finance.

    start, end : ISO dates, both included; end in the past, or the last row is not final.
    cache_dir : every answer is kept here as it came (CSV bytes of the frame that yfinance returns), with its SHA-256 in
        manifest.json, and used again without the network. Answers change when Yahoo re-adjusts prices for a later
        dividend or split: delete the folder to fetch anew.
    download : stands in for `yahoo_history` (same arguments and result).

    Tickers that Yahoo does not have, which is most of the delisted ones, leave the universe and are named in the
    warnings: such a market is a survivors' market. The rest passes the rules of `load_folder`. Raises ImportError
    without yfinance; MarketDataError if the download of a ticker fails (what came before stays in the cache, and the
    next call goes on from there), if a cached file is not the one that was written, or for a broken rule.
    """
    sectors, benchmarks = tuple(sectors), tuple(benchmarks)
    members = Table(universe.set_axis(pd.RangeIndex(1, len(universe) + 1)), "yahoo universe", is_text=False)
    parse_universe(members, sectors)  # refuse a faulty universe before anything is downloaded
    cache = _Cache(Path(cache_dir))
    download = download or yahoo_history
    names = [*universe["ticker"], *benchmarks]
    frames = {}
    for ticker in tqdm(names, desc="Yahoo", unit="ticker"):
        frames[ticker] = _parse(ticker, cache.get_or_fetch(ticker, start, end, download))
    absent = [ticker for ticker, frame in frames.items() if frame.empty]
    present = universe[~universe["ticker"].isin(absent)]
    if present.empty:
        raise MarketDataError("yahoo", "-", "Yahoo has none of the tickers", "check their spelling and the dates")
    prices = pd.concat([frames[ticker] for ticker in sorted(present["ticker"])], ignore_index=True)
    found = [frames[ticker] for ticker in sorted(set(benchmarks)) if ticker not in absent]
    extra = pd.concat(found, ignore_index=True) if found else None
    data = from_frames(prices, present, extra, calendar=calendar, sectors=sectors, source="yahoo")
    again = "(delete their files in the cache to ask again)"
    warnings = [f"absent at Yahoo: {', '.join(absent)} {again}"] if absent else []
    return MarketData(data.prices, data.universe, data.benchmarks, warnings + data.warnings)


def _parse(ticker: str, content: bytes) -> pd.DataFrame:
    """The contract's columns from a cached answer; empty if it has no row."""
    frame = pd.read_csv(io.BytesIO(content), index_col=0)
    if frame.empty:
        return frame
    # the local date: "2023-03-10 00:00:00-05:00" is the session of 10 March wherever this runs
    dates = pd.to_datetime(frame.index.astype("str").str[:10], format="%Y-%m-%d")
    rows = frame.reindex(columns=list(COLUMNS)).rename(columns=COLUMNS).astype("float64").reset_index(drop=True)
    rows.insert(0, "date", dates)
    rows.insert(1, "ticker", pd.Series(ticker, index=rows.index, dtype="str"))
    return rows


class _Cache:
    """Answers on disk: one file each, and a manifest that holds only files that were written whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, dict] = {}
        path = folder / MANIFEST
        if path.exists():
            try:
                self.manifest = json.loads(path.read_bytes())
            except ValueError as error:
                raise MarketDataError(path, "-", f"not readable ({error})", f"delete {folder} to fetch anew") from error

    def get_or_fetch(self, ticker: str, start: str, end: str, download: Download) -> bytes:
        name = quote(f"{ticker}_{start}_{end}.csv", safe="^=")
        path = self.folder / name
        if name in self.manifest and path.exists():
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != self.manifest[name]["sha256"]:
                raise MarketDataError(
                    path, "-", "the cached answer is not the one that came", "delete it and run again"
                )
            return content
        try:
            content = download(ticker, start, end).to_csv(lineterminator="\n").encode()
        except ImportError:
            raise
        except Exception as error:
            rule = f"the download failed ({type(error).__name__}: {error})"
            remedy = "check the network and run again: the tickers before this one are in the cache"
            raise MarketDataError("yahoo", ticker, rule, remedy) from error
        self._write(name, content)
        entry = {"ticker": ticker, "start": start, "end": end, "bytes": len(content)}
        self.manifest[name] = entry | {"sha256": hashlib.sha256(content).hexdigest()}
        self._write(MANIFEST, (json.dumps(self.manifest, indent=1, sort_keys=True) + "\n").encode())
        return content

    def _write(self, name: str, content: bytes) -> None:
        with replacing(self.folder / name) as partial:
            partial.write_bytes(content)
