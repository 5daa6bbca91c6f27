"""The one door through which prices enter: a folder, or frames in memory, checked once and trusted after."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from anomaly_routing.data import quality
from anomaly_routing.data.calendars import sessions
from anomaly_routing.data.tables import Table, find_file, read_table
from anomaly_routing.data.universe import GICS_SECTORS, UNIVERSE_COLUMNS, life_warnings, parse_universe
from anomaly_routing.errors import MarketDataError

SEAL = "data.json"


def _no_benchmarks() -> pd.DataFrame:
    kinds = {"date": "datetime64[ns]", "ticker": "str"}
    return pd.DataFrame({column: pd.Series(dtype=kinds.get(column, "float64")) for column in quality.COLUMNS})


@dataclass(frozen=True)
class MarketData:
    """A market that has passed the door.

    prices : date (datetime64[ns]), ticker, open, high, low, close, adj_close, volume; sorted by (ticker, date), unique.
        Prices in the market's currency and split-adjusted; adj_close is also adjusted for dividends; volume in shares
        on the same split basis.
    universe : ticker, name, sector, hq_state, is_bank, optional shares_outstanding; one row per ticker, file order.
    benchmarks : columns of prices, cells other than close may be empty; may have no row.
    warnings : what a reader should know, one sentence each.
    """

    prices: pd.DataFrame
    universe: pd.DataFrame
    benchmarks: pd.DataFrame = field(default_factory=_no_benchmarks)
    warnings: list[str] = field(default_factory=list)

    @property
    def sessions(self) -> pd.DatetimeIndex:
        """The market's sessions: every one has a row, or the door would have refused."""
        return pd.DatetimeIndex(np.sort(self.prices["date"].unique()), name="date")


def load_folder(
    folder: Path | str,
    *,
    calendar: str = "XNYS",
    select: str | None = None,
    sectors: Iterable[str] = GICS_SECTORS,
) -> MarketData:
    """Load a folder with ``prices``, ``universe`` and, if there, ``benchmarks``, each as .parquet or .csv.

    calendar : see `calendars.sessions`.
    select : true/false column of the universe, such as ``in_us100``; other stocks and their prices are left out.
    sectors : the names that `sector` (or `gics_sector`) may take.

    Raises MarketDataError, which names file, row (1-based data row), rule and remedy, for anything that breaks the data
    contract (DESIGN 3): the rules are in `quality.RULES`, and each function called here names its own. An unadjusted
    split, a jump of adj_close against close, missing days inside a life and lives that disagree with the universe file
    are warnings. `adj_close` defaults to close. Benchmarks need only date, ticker, close; their rows outside the
    prices' span are left out.
    """
    tables = {stem: _read(Path(folder), stem) for stem in ("prices", "universe", "benchmarks")}
    return _admit(**tables, calendar=calendar, select=select, sectors=sectors)


def read_universe(
    folder: Path | str, *, sectors: Iterable[str] = GICS_SECTORS, select: str | None = None
) -> pd.DataFrame:
    """The checked universe of a folder alone, for a source that fetches the prices; options as in `load_folder`."""
    return parse_universe(_read(Path(folder), "universe"), sectors, select)[0]


def _read(folder: Path, stem: str) -> Table | None:
    """One table of a folder; None for benchmarks that are not there."""
    if not folder.is_dir():
        rule = "not a folder" if folder.exists() else "no such folder"
        raise MarketDataError(folder, "-", rule, "name a folder with prices.parquet (or .csv) and universe.csv")
    path = find_file(folder, stem)
    if path is None and stem != "benchmarks":
        remedy = f"put {stem}.parquet or {stem}.csv there"
        raise MarketDataError(folder, "-", f"no {stem}.parquet or {stem}.csv in the folder", remedy)
    return read_table(path) if path else None


def from_frames(
    prices: pd.DataFrame,
    universe: pd.DataFrame,
    benchmarks: pd.DataFrame | None = None,
    *,
    calendar: str = "XNYS",
    select: str | None = None,
    sectors: Iterable[str] = GICS_SECTORS,
    source: str = "",
) -> MarketData:
    """The same door for frames in memory (simulated, yahoo); `source` goes before the file names in messages."""
    frames = {"prices": prices, "universe": universe, "benchmarks": benchmarks}
    tables = {
        stem: None
        if frame is None or (stem == "benchmarks" and frame.empty)
        else Table(frame.set_axis(pd.RangeIndex(1, len(frame) + 1)), f"{source} {stem}".strip(), is_text=False)
        for stem, frame in frames.items()
    }
    return _admit(**tables, calendar=calendar, select=select, sectors=sectors)


def _admit(
    prices: Table,
    universe: Table,
    benchmarks: Table | None,
    calendar: str,
    select: str | None,
    sectors: Iterable[str],
) -> MarketData:
    members, known = parse_universe(universe, sectors, select)
    rows = _parse_prices(prices, [column for column in quality.COLUMNS if column != "adj_close"])
    stranger = ~rows["ticker"].isin(known)
    if stranger.any():
        row = stranger.idxmax()
        rule = f"the ticker {rows.loc[row, 'ticker']} has no row in {universe.file}"
        prices.fail(row, rule, "add it to the universe, or drop its prices")
    rows = rows[rows["ticker"].isin(members["ticker"].to_list())]
    priceless = ~members["ticker"].isin(rows["ticker"].unique())
    if priceless.any():
        row = priceless.idxmax()
        universe.fail(row, f"the ticker has no row in {prices.file}", "add its prices, or drop it from the universe")
    quality.validate(quality.PRICES, rows, prices.file)
    quality.check_no_long_closure(rows, prices.file)
    market_sessions = sessions(calendar, rows)
    quality.check_calendar(rows, market_sessions, calendar, prices.file)
    quality.check_no_session_missing(rows, market_sessions, calendar, prices.file)
    warnings = [
        *life_warnings(members, rows, universe.name),
        *quality.gap_warnings(rows, market_sessions, prices.name),
        *quality.split_warnings(rows, prices.name),
        *quality.adjustment_warnings(rows, prices.name),
    ]
    market_rows = _no_benchmarks()
    if benchmarks is not None:
        market_rows, more = _parse_benchmarks(benchmarks, market_sessions, calendar)
        warnings += more
    members = members.drop(columns=["first_session", "last_session"], errors="ignore")
    tidy = [frame.reset_index(drop=True) for frame in (rows, members, market_rows)]
    return MarketData(*tidy, warnings=warnings)


def _parse_prices(table: Table, required: list[str]) -> pd.DataFrame:
    """Typed columns in the contract's order; a column that is not required may be missing."""
    table.require(required)
    rows = pd.DataFrame({"date": table.dates("date"), "ticker": table.texts("ticker")})
    for column in quality.COLUMNS[2:]:
        rows[column] = table.numbers(column) if column in table.frame else np.nan
    if "adj_close" not in table.frame:
        rows["adj_close"] = rows["close"]
    nameless = rows["ticker"] == ""
    if nameless.any():
        table.fail(nameless.idxmax(), "the ticker is empty", "name the ticker, or drop the row")
    return rows


def _parse_benchmarks(table: Table, market_sessions: pd.DatetimeIndex, calendar: str) -> tuple[pd.DataFrame, list[str]]:
    rows = _parse_prices(table, ["date", "ticker", "close"])
    quality.validate(quality.BENCHMARKS, rows, table.file)
    inside = rows["date"].between(market_sessions[0], market_sessions[-1])
    warnings = [] if inside.all() else [f"{table.name}: {(~inside).sum()} rows outside the prices' span are left out"]
    rows = rows[inside]
    quality.check_calendar(rows, market_sessions, calendar, table.file)
    return rows, warnings + quality.gap_warnings(rows, market_sessions, table.name)


def data_hash(data: MarketData) -> str:
    """SHA-256 of what the market holds (prices, universe, benchmarks), whatever file format it came from."""
    digest = hashlib.sha256()
    for frame in (data.prices, data.universe, data.benchmarks):
        digest.update(f"{len(frame)}\n".encode())
        for column in frame.columns:
            cells = frame[column]
            digest.update(f"{column}\n".encode())
            if pd.api.types.is_string_dtype(cells):
                digest.update("\n".join(cells).encode())
            elif pd.api.types.is_datetime64_dtype(cells):
                digest.update(cells.astype("datetime64[ns]").astype("int64").to_numpy().astype("<i8").tobytes())
            else:
                digest.update(cells.to_numpy().astype("<f8").tobytes())
    return digest.hexdigest()


def save_market(data: MarketData, folder: Path | str) -> None:
    """Write prices.parquet, universe.csv, benchmarks.parquet and data.json (the seal: counts, hashes, warnings).

    The same market gives the same bytes. Everything is first written under a temporary name in `folder`; if anything
    fails, the folder is left as it was.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "prices.parquet": _parquet_bytes(data.prices),
        "universe.csv": data.universe.to_csv(index=False, lineterminator="\n").encode(),
        "benchmarks.parquet": _parquet_bytes(data.benchmarks),
    }
    contents[SEAL] = _seal(data, contents)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
        new, old = Path(temporary, "new"), Path(temporary, "old")
        new.mkdir()
        old.mkdir()
        for name, content in contents.items():
            (new / name).write_bytes(content)
        try:
            for name in contents:
                if (folder / name).exists():
                    os.replace(folder / name, old / name)
                os.replace(new / name, folder / name)
        except BaseException:
            for name in contents:  # put back what was moved, remove what was new
                if (old / name).exists():
                    os.replace(old / name, folder / name)
                elif not (new / name).exists():
                    (folder / name).unlink(missing_ok=True)
            raise


def _parquet_bytes(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pa.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _seal(data: MarketData, contents: dict[str, bytes]) -> bytes:
    market_sessions = data.sessions
    facts = {
        "rows": len(data.prices),
        "tickers": len(data.universe),
        "banks": int(data.universe["is_bank"].sum()),
        "sessions": len(market_sessions),
        "first": f"{market_sessions[0]:%Y-%m-%d}",
        "last": f"{market_sessions[-1]:%Y-%m-%d}",
        "benchmarks": sorted(data.benchmarks["ticker"].unique()),
        "sha256": data_hash(data),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "warnings": data.warnings,
    }
    return (json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def load_market(folder: Path | str) -> MarketData:
    """Read back what `save_market` wrote; the rules are not checked again, only that every file is the one sealed.

    Raises MarketDataError if a file is missing or is not the one that data.json describes.
    """
    folder = Path(folder)
    remedy = "load the market from its source and save it again"
    try:
        facts = json.loads((folder / SEAL).read_bytes())
    except (OSError, ValueError) as error:
        raise MarketDataError(folder / SEAL, "-", f"no readable seal ({error})", remedy) from error
    for name, sha256 in facts["files"].items():
        path = folder / name
        if not path.exists():
            raise MarketDataError(path, "-", "the file is missing", remedy)
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise MarketDataError(path, "-", f"the file is not the one that {SEAL} describes", remedy)
    texts = dict.fromkeys([column for column in UNIVERSE_COLUMNS if column != "is_bank"], "str")
    universe = pd.read_csv(
        folder / "universe.csv",
        dtype=texts | {"is_bank": bool},
        keep_default_na=False,
        na_values={"shares_outstanding": [""]},
    )
    prices, benchmarks = (pd.read_parquet(folder / f"{stem}.parquet") for stem in ("prices", "benchmarks"))
    return MarketData(prices, universe, benchmarks, facts["warnings"])
