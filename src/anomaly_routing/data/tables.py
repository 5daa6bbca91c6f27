"""Read a Parquet or CSV file into typed columns, or say which cell is wrong."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from anomaly_routing.errors import MarketDataError

BLANKS = {"", "na", "nan", "n/a", "null", "none"}  # how CSV files spell an empty cell of numbers
FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
ISO_DATE = r"\d{4}-\d{2}-\d{2}"
TIME_ZONE = r".*\d{2}:\d{2}.*(Z|[+-]\d{2}:?\d{2})"


def row_label(frame: pd.DataFrame, row: int) -> str:
    """``"row 17 (2023-03-10, SIVB)"``; the index holds 1-based data rows; date and ticker if they are columns."""
    cells = [str(frame.loc[row, column])[:10].strip() for column in ("date", "ticker") if column in frame.columns]
    return f"row {row} ({', '.join(cells)})" if cells else f"row {row}"


@dataclass(frozen=True)
class Table:
    """What was read: cells as they stand, before any type is trusted.

    frame : index = 1-based data row (the line below a CSV header is row 1).
    file : the file as the user named it, for error messages.
    is_text : CSV, every cell is a string; otherwise (Parquet, memory) the stored types must be right.
    """

    frame: pd.DataFrame
    file: str
    is_text: bool

    @property
    def name(self) -> str:
        """The file without its folder, for warnings that are kept: they must not depend on the machine."""
        return Path(self.file).name

    def fail(self, row: int | None, rule: str, remedy: str) -> NoReturn:
        """Raise MarketDataError about one row, or about the whole file if `row` is None."""
        raise MarketDataError(self.file, "-" if row is None else row_label(self.frame, row), rule, remedy)

    def require(self, columns: list[str]) -> None:
        """Raise unless every column is there and there is at least one row."""
        missing = [column for column in columns if column not in self.frame.columns]
        if missing:
            found = ", ".join(map(str, self.frame.columns))
            self.fail(None, f"missing column {', '.join(missing)}", f"add or rename it; the file has: {found}")
        if self.frame.empty:
            self.fail(None, "the file is empty: it has no data row", "export it again, with at least one row")

    def _wrong_type(self, column: str, wanted: str) -> NoReturn:
        rule = f"wrong dtype: {column} is stored as {self.frame[column].dtype}, not as {wanted}"
        self.fail(None, rule, f"convert the column {column} to {wanted} before you save the file")

    def numbers(self, column: str) -> pd.Series:
        """The column as float64; an empty cell becomes NaN."""
        cells = self.frame[column]
        if not self.is_text:
            if pd.api.types.is_bool_dtype(cells) or not pd.api.types.is_numeric_dtype(cells):
                self._wrong_type(column, "a number")
            return cells.astype("float64")
        values = pd.to_numeric(cells, errors="coerce").astype("float64")
        suspects = cells[values.isna()]
        wrong = suspects[~suspects.str.strip().str.lower().isin(BLANKS)]
        if len(wrong):
            remedy = "write numbers with a decimal point and without thousands separators"
            self.fail(wrong.index[0], f"{column} is {wrong.iloc[0]!r}, not a number", remedy)
        return values

    def texts(self, column: str) -> pd.Series:
        """The column as str without surrounding blanks; an empty cell becomes ``""``."""
        cells = self.frame[column]
        if isinstance(cells.dtype, pd.CategoricalDtype):
            cells = cells.astype(cells.cat.categories.dtype)
        if not (pd.api.types.infer_dtype(cells, skipna=True) == "string" or cells.isna().all()):
            self._wrong_type(column, "text")
        return cells.astype("str").fillna("").str.strip()

    def flags(self, column: str) -> pd.Series:
        """The column as bool, from true/false, yes/no or 1/0 in any case."""
        cells = self.frame[column]
        values = cells.map(lambda cell: FLAGS.get(str(cell).strip().lower().removesuffix(".0")))
        wrong = values.isna()
        if wrong.any():
            row = wrong.idxmax()
            self.fail(row, f"{column} is {cells[row]!r}, neither true nor false", "write true or false in every row")
        return values.astype(bool)

    def dates(self, column: str) -> pd.Series:
        """The column as datetime64[ns], without time zone or time of day.

        A CSV must hold ISO dates (2023-03-10): in 03/10/2023 nobody can tell the day from the month.
        """
        cells = self.frame[column]
        if isinstance(cells.dtype, pd.DatetimeTZDtype):
            remedy = f"keep the exchange's own date: {column}.dt.tz_localize(None).dt.normalize()"
            self.fail(None, f"{column} carries the time zone {cells.dtype.tz}", remedy)
        if self.is_text:
            cells = self._parse_dates(column)
        elif not pd.api.types.is_datetime64_dtype(cells):
            self._wrong_type(column, "a date")
        for wrong, rule in (
            (cells.isna(), f"{column} is missing"),
            ((cells < "1900-01-01") | (cells >= "2200-01-01"), f"{column} is outside 1900-2199"),
            (cells != cells.dt.normalize(), f"{column} carries a time of day"),
        ):
            if wrong.any():
                self.fail(wrong.idxmax(), rule, "one row per ticker and session, dated by the session (2023-03-10)")
        return cells.astype("datetime64[ns]")

    def _parse_dates(self, column: str) -> pd.Series:
        cells = self.frame[column].str.strip()
        spellings = pd.Series(cells.unique(), dtype="str")  # few thousand, against a row for each ticker
        zoned = spellings[spellings.str.fullmatch(TIME_ZONE)]
        if len(zoned):
            row = (cells == zoned.iloc[0]).idxmax()
            self.fail(
                row, f"{column} {zoned.iloc[0]!r} carries a time zone", "write the session's date only, 2023-03-10"
            )
        iso = spellings.str.fullmatch(ISO_DATE + "([ T].*)?")
        parsed = pd.to_datetime(spellings.where(iso), format="ISO8601", errors="coerce")
        wrong = spellings[parsed.isna() & (spellings != "")]
        if len(wrong):
            row = (cells == wrong.iloc[0]).idxmax()
            self.fail(row, f"{column} {wrong.iloc[0]!r} is not a date", "write ISO dates: year-month-day, 2023-03-10")
        return cells.map(dict(zip(spellings, parsed, strict=True)))


def find_file(folder: Path, stem: str) -> Path | None:
    """`stem`.parquet or `stem`.csv in `folder`, None if there is neither; raises MarketDataError if there are both."""
    found = [folder / f"{stem}{suffix}" for suffix in (".parquet", ".csv") if (folder / f"{stem}{suffix}").exists()]
    if len(found) == 2:
        raise MarketDataError(folder, "-", f"both {stem}.parquet and {stem}.csv are here", "keep one of the two")
    return found[0] if found else None


def read_table(path: Path) -> Table:
    """Read a .parquet or .csv file (UTF-8, commas, decimal points), one row per line.

    Raises MarketDataError for an empty, truncated or unreadable file, for other separators, for a line with too
    many or too few fields (which is what a decimal comma makes of it), and for a column that is named twice.
    """
    if path.stat().st_size == 0:
        raise MarketDataError(path, "-", "the file is empty: it has no bytes", "export or copy it again")
    frame = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise MarketDataError(path, "-", f"the column {twice} is there twice", "keep one column of each name")
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return Table(frame, str(path), is_text=path.suffix == ".csv")


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        with pa.parquet.ParquetFile(path) as file:
            # the columns as stored: an index that pandas saved along comes back as a column
            return file.read().to_pandas(ignore_metadata=True, date_as_object=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        rule = f"not a whole Parquet file ({str(error).splitlines()[0]})"
        raise MarketDataError(
            path, "-", rule, "the copy or download was cut short: fetch or export it again"
        ) from error


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(csv.reader(file), [])
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        remedy = (
            'save it with commas and decimal points: pd.read_csv(file, sep=";", decimal=",").to_csv(file, index=False)'
        )
        raise MarketDataError(path, "-", "the columns are not separated by commas", remedy)
    bad_rows = []

    def note(row: pa.csv.InvalidRow) -> str:
        bad_rows.append(row)
        return "error"

    try:
        return pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(use_threads=False),  # row numbers are known only without threads
            parse_options=pa.csv.ParseOptions(invalid_row_handler=note),
            convert_options=pa.csv.ConvertOptions(column_types={name: pa.string() for name in header}),
        ).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        if bad_rows:
            bad = bad_rows[0]
            rule = f"the row has {bad.actual_columns} fields, the header {bad.expected_columns}"
            remedy = "use a decimal point, not a comma, quote names that hold a comma, and check for a cut-off line"
            raise MarketDataError(path, f"row {bad.number - 1}", rule, remedy) from error
        rule = f"not a readable CSV file ({str(error).splitlines()[0]})"
        raise MarketDataError(path, "-", rule, "save it as UTF-8 text with commas and decimal points") from error
