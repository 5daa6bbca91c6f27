"""The door: folders and files as they come, what is written, and what is read back."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomaly_routing.data import sources
from anomaly_routing.data.sources import data_hash, from_frames, load_folder, load_market, read_universe, save_market
from anomaly_routing.errors import MarketDataError


def refused(folder, **options) -> MarketDataError:
    with pytest.raises(MarketDataError) as caught:
        load_folder(folder, **options)
    return caught.value


def assert_same_market(a, b):
    for name in ("prices", "universe", "benchmarks"):
        pd.testing.assert_frame_equal(getattr(a, name), getattr(b, name), check_exact=True)
    assert a.warnings == b.warnings


# ---- what goes in comes out


def test_csv_parquet_and_memory_give_the_same_market(prices, universe, benchmarks, tmp_path):
    tables = {"prices": prices, "universe": universe, "benchmarks": benchmarks}
    (tmp_path / "csv").mkdir()
    (tmp_path / "parquet").mkdir()
    for stem, frame in tables.items():
        frame.to_csv(tmp_path / "csv" / f"{stem}.csv", index=False)
        frame.to_parquet(tmp_path / "parquet" / f"{stem}.parquet", index=False)
    memory = from_frames(prices, universe, benchmarks)
    pd.testing.assert_frame_equal(memory.prices, prices)
    pd.testing.assert_frame_equal(memory.universe, universe)
    pd.testing.assert_frame_equal(memory.benchmarks, benchmarks)
    assert_same_market(load_folder(tmp_path / "csv"), memory)
    assert_same_market(load_folder(tmp_path / "parquet"), memory)


def test_what_a_parquet_file_may_look_like(prices, universe, tmp_path):
    """Whole-number volume, dates as dates, dictionary-encoded tickers, a date index and columns nobody asked for."""
    odd = prices.astype({"volume": "int64", "ticker": "category"})
    odd["date"] = odd["date"].dt.date
    odd["source"] = "vendor"
    odd.set_index("date").to_parquet(tmp_path / "prices.parquet")
    universe.assign(hq_state=[None, None, None]).to_parquet(tmp_path / "universe.parquet")
    data = load_folder(tmp_path)
    pd.testing.assert_frame_equal(data.prices, prices)
    assert data.universe["hq_state"].tolist() == ["", "", ""]


def test_what_a_csv_file_may_look_like(prices, universe, tmp_path):
    """A byte-order mark, dates with a midnight, tickers that look like numbers or like nothing."""
    renamed = dict(zip(["AAA", "BBB", "CCC"], ["0007", "NA", "TRUE"], strict=True))
    prices["ticker"] = prices["ticker"].map(renamed)
    universe["ticker"] = universe["ticker"].map(renamed)
    prices.to_csv(tmp_path / "prices.csv", index=False, encoding="utf-8-sig", date_format="%Y-%m-%d 00:00:00")
    universe.assign(is_bank=["yes", "NO", "0"]).to_csv(tmp_path / "universe.csv", index=False)
    data = load_folder(tmp_path)
    pd.testing.assert_frame_equal(data.prices, prices)
    assert data.universe["ticker"].tolist() == ["0007", "NA", "TRUE"]
    assert data.universe["is_bank"].tolist() == [True, False, False]
    save_market(data, tmp_path / "saved")
    assert_same_market(load_market(tmp_path / "saved"), data)


def test_columns_are_renamed_and_defaulted(prices, universe, write):
    theirs = universe.rename(columns={"sector": "gics_sector"}).assign(name=["", "Second", "Third"])
    data = load_folder(write(".csv", prices=prices.drop(columns="adj_close"), universe=theirs))
    assert data.prices["adj_close"].equals(data.prices["close"])
    assert data.universe["sector"].equals(universe["sector"])
    assert data.universe["name"].tolist() == ["AAA", "Second", "Third"]
    assert list(data.benchmarks.columns) == list(data.prices.columns)
    assert data.benchmarks.empty


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_select_drops_the_rest_without_a_word(suffix, prices, universe, write):
    prices.loc[35, "close"] = -1.0  # BBB is not asked for, so its faults are nobody's business
    chosen = universe.assign(study=[True, False, True], sector=["Financials", "Oil", "Financials"])
    folder = write(suffix, prices=prices, universe=chosen)
    data = load_folder(folder, select="study")
    assert data.universe["ticker"].tolist() == ["AAA", "CCC"]
    assert set(data.prices["ticker"]) == {"AAA", "CCC"}
    assert data.prices.index.equals(pd.RangeIndex(60))
    assert data.warnings == []
    assert "unknown sector" in refused(folder).rule


def test_row_numbers_are_those_of_the_file_even_after_select(prices, universe, write):
    prices.loc[65, "close"] = -1.0
    folder = write(prices=prices, universe=universe.assign(study=[True, False, True]))
    assert refused(folder, select="study").row == "row 66 (2020-01-09, CCC)"


def test_select_needs_a_column_with_a_true_row(prices, universe, write):
    folder = write(prices=prices, universe=universe.assign(study=False))
    assert "missing column in_us100" in refused(folder, select="in_us100").rule
    assert "no row is selected by study" in refused(folder, select="study").rule


def test_the_universe_alone(universe, write):
    folder = write(".csv", universe=universe.assign(study=[True, False, True]))
    assert read_universe(folder)["ticker"].tolist() == ["AAA", "BBB", "CCC"]
    assert read_universe(folder, select="study")["ticker"].tolist() == ["AAA", "CCC"]
    for bad in (folder / "nowhere", folder / "universe.csv"):
        with pytest.raises(MarketDataError, match=r"folder.*Remedy"):
            read_universe(bad)


# ---- files that are not what they should be


def test_no_folder_no_file_two_files(prices, universe, tmp_path, write):
    missing = refused(tmp_path / "nowhere")
    assert (missing.file, missing.rule) == (str(tmp_path / "nowhere"), "no such folder")
    (tmp_path / "file").write_text("x")
    assert refused(tmp_path / "file").rule == "not a folder"
    write(prices=prices)
    error = refused(tmp_path)
    assert error.rule == "no universe.parquet or universe.csv in the folder"
    assert "put universe.parquet or universe.csv there" in error.remedy
    write(".csv", prices=prices, universe=universe)
    assert "both prices.parquet and prices.csv" in refused(tmp_path).rule


@pytest.mark.parametrize("name", ["prices.parquet", "prices.csv", "universe.csv"])
def test_a_file_without_bytes(name, prices, universe, write):
    folder = write(".csv" if name == "universe.csv" else ".parquet", prices=prices, universe=universe)
    (folder / "prices.parquet").unlink(missing_ok=True)
    (folder / name).write_bytes(b"")
    error = refused(folder)
    assert error.file == str(folder / name)
    assert "no bytes" in error.rule


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_parquet_file(keep, prices, universe, write):
    folder = write(prices=prices, universe=universe)
    content = (folder / "prices.parquet").read_bytes()
    (folder / "prices.parquet").write_bytes(content[: int(keep * len(content))])
    error = refused(folder)
    assert error.file == str(folder / "prices.parquet")
    assert "not a whole Parquet file" in error.rule
    assert "cut short" in error.remedy


def test_a_truncated_csv_file(prices, universe, write):
    folder = write(".csv", prices=prices, universe=universe)
    content = (folder / "prices.csv").read_bytes().rstrip(b"\n")
    (folder / "prices.csv").write_bytes(content[: content.rindex(b",")])  # the last line has lost its last field
    error = refused(folder)
    assert (error.file, error.row) == (str(folder / "prices.csv"), "row 90")
    assert error.rule == "the row has 7 fields, the header 8"
    assert "cut-off line" in error.remedy


def rewrite_csv(folder, change):
    path = folder / "prices.csv"
    path.write_text(change(path.read_text()), newline="")


def test_a_csv_with_semicolons_and_decimal_commas(prices, universe, write):
    folder = write(".csv", universe=universe)
    prices.to_csv(folder / "prices.csv", index=False, sep=";", decimal=",")
    error = refused(folder)
    assert (error.file, error.row) == (str(folder / "prices.csv"), "-")
    assert error.rule == "the columns are not separated by commas"
    assert 'sep=";", decimal=","' in error.remedy


def test_a_csv_with_quoted_decimal_commas(prices, universe, write):
    folder = write(".csv", universe=universe)
    commas = prices.assign(close=prices["close"].map(lambda value: f"{value:.2f}".replace(".", ",")))
    commas.to_csv(folder / "prices.csv", index=False)
    error = refused(folder)
    assert error.row == "row 1 (2020-01-02, AAA)"
    assert error.rule == f"close is {commas['close'][0]!r}, not a number"
    assert "decimal point" in error.remedy


def test_a_csv_with_bare_decimal_commas(prices, universe, write):
    folder = write(".csv", prices=prices, universe=universe)
    rewrite_csv(folder, lambda text: text.replace("AAA,", "AAA,12,", 1))
    error = refused(folder)
    assert (error.row, error.rule) == ("row 1", "the row has 9 fields, the header 8")
    assert "decimal point" in error.remedy


@pytest.mark.parametrize("cell", ["n.a.", "12 000", "1'000", "abc", "$5"])
def test_a_csv_cell_that_is_no_number(cell, prices, universe, write):
    prices = prices.astype({"volume": "object"})
    prices.loc[44, "volume"] = cell
    error = refused(write(".csv", prices=prices, universe=universe))
    assert error.row == "row 45 (2020-01-23, BBB)"
    assert error.rule == f"volume is {cell!r}, not a number"


@pytest.mark.parametrize("cell", ["", "NaN", "nan", "NA", "null"])
def test_an_empty_csv_cell_is_a_missing_number(cell, prices, universe, write):
    prices = prices.astype({"volume": "object"})
    prices.loc[44, "volume"] = cell
    error = refused(write(".csv", prices=prices, universe=universe))
    assert error.row == "row 45 (2020-01-23, BBB)"
    assert "empty (NaN)" in error.rule


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ("01/24/2020", "date '01/24/2020' is not a date"),
        ("2020-13-01", "date '2020-13-01' is not a date"),
        ("43854", "date '43854' is not a date"),
        ("2020-01", "date '2020-01' is not a date"),
        ("2020-01-24T00:00:00Z", "date '2020-01-24T00:00:00Z' carries a time zone"),
        ("2020-01-24 00:00:00-05:00", "date '2020-01-24 00:00:00-05:00' carries a time zone"),
        ("2020-01-24 16:00", "date carries a time of day"),
        ("0020-01-24", "date is outside 1900-2199"),
        ("", "date is missing"),
    ],
)
def test_a_csv_cell_that_is_no_session_date(cell, rule, prices, universe, write):
    prices["date"] = prices["date"].dt.strftime("%Y-%m-%d")
    prices.loc[44, "date"] = cell
    error = refused(write(".csv", prices=prices, universe=universe))
    assert error.row.startswith("row 45 (")
    assert error.rule == rule
    assert "2023-03-10" in error.remedy


@pytest.mark.parametrize(
    ("column", "change", "rule"),
    [
        ("close", lambda c: c.astype("str"), "wrong dtype: close is stored as str, not as a number"),
        ("volume", lambda c: c > 0, "wrong dtype: volume is stored as bool, not as a number"),
        ("date", lambda c: c.dt.strftime("%Y-%m-%d"), "wrong dtype: date is stored as str, not as a date"),
        ("date", lambda c: c.astype("int64"), "wrong dtype: date is stored as int64, not as a date"),
        ("date", lambda c: c.dt.tz_localize("America/New_York"), "date carries the time zone America/New_York"),
        (
            "ticker",
            lambda c: c.map({"AAA": 1, "BBB": 2, "CCC": 3}),
            "wrong dtype: ticker is stored as int64, not as text",
        ),
    ],
)
def test_wrong_types_in_parquet(column, change, rule, prices, universe, write):
    prices[column] = change(prices[column])
    folder = write(prices=prices, universe=universe)
    error = refused(folder)
    assert (error.file, error.rule) == (str(folder / "prices.parquet"), rule)
    assert column in error.remedy


def test_a_column_that_is_named_twice(prices, universe, write):
    folder = write(".csv", prices=prices, universe=universe)
    rewrite_csv(folder, lambda text: text.replace("adj_close", "close", 1))
    assert refused(folder).rule == "the column close is there twice"
    table = pa.Table.from_pandas(prices, preserve_index=False)
    (folder / "prices.csv").unlink()
    pq.write_table(table.rename_columns([n.replace("adj_", "") for n in table.column_names]), folder / "prices.parquet")
    assert refused(folder).rule == "the column close is there twice"


def test_a_csv_that_is_not_utf8(prices, universe, write):
    folder = write(".csv", prices=prices, universe=universe)
    universe.assign(name=["Société", "x", "y"]).to_csv(folder / "universe.csv", index=False, encoding="latin-1")
    error = refused(folder)
    assert error.file == str(folder / "universe.csv")
    assert "not a readable CSV file" in error.rule
    assert "UTF-8" in error.remedy


# ---- the canonical form


@pytest.fixture
def data(prices, universe, benchmarks):
    shares = universe.assign(shares_outstanding=[1 / 3 * 1e9, np.nan, 123456789.0])
    return from_frames(prices.drop(index=35), shares, benchmarks)


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_saved_market_comes_back(data, tmp_path):
    assert data.warnings  # so that the test sees them come back
    save_market(data, tmp_path)
    assert_same_market(load_market(tmp_path), data)
    assert data_hash(load_market(tmp_path)) == data_hash(data)


def test_two_saves_give_the_same_bytes(data, tmp_path):
    save_market(data, tmp_path / "a")
    save_market(load_market(tmp_path / "a"), tmp_path / "b")
    save_market(data, tmp_path / "a")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert set(content(tmp_path / "a")) == {"prices.parquet", "universe.csv", "benchmarks.parquet", "data.json"}


def test_the_seal_counts(data, tmp_path):
    save_market(data, tmp_path)
    facts = json.loads((tmp_path / "data.json").read_text())
    assert facts | {"files": 0} == {
        "rows": 89,
        "tickers": 3,
        "banks": 1,
        "sessions": 30,
        "first": "2020-01-02",
        "last": "2020-02-13",
        "benchmarks": ["SPY"],
        "sha256": data_hash(data),
        "warnings": ["prices: sessions missing inside a life: BBB 1"],
        "files": 0,
    }


@pytest.mark.parametrize("had_a_market", [True, False])
@pytest.mark.parametrize("fails_at", range(9))
def test_a_failed_save_leaves_the_folder_as_it_was(
    fails_at, had_a_market, data, prices, universe, tmp_path, monkeypatch
):
    folder = tmp_path / "market"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    if had_a_market:
        save_market(from_frames(prices, universe), folder)
    before = content(folder)
    calls, replace = [], os.replace

    def failing(source, target):
        calls.append(target)
        if len(calls) == fails_at + 1:
            raise OSError("disk full")
        return replace(source, target)

    monkeypatch.setattr(sources.os, "replace", failing)
    moves = 8 if had_a_market else 4  # old files out, new files in
    if fails_at < moves:
        with pytest.raises(OSError, match="disk full"):
            save_market(data, folder)
        assert content(folder) == before
    else:
        save_market(data, folder)
        assert_same_market(load_market(folder), data)


def test_a_save_that_fails_while_writing_leaves_the_folder_as_it_was(data, tmp_path, monkeypatch):
    save_market(data, tmp_path)
    before = content(tmp_path)

    def broken(*args):
        raise RuntimeError("power cut")

    monkeypatch.setattr(sources, "_seal", broken)
    with pytest.raises(RuntimeError):
        save_market(data, tmp_path)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["prices.parquet", "universe.csv", "benchmarks.parquet"])
def test_load_market_refuses_other_files_than_those_sealed(name, data, tmp_path):
    save_market(data, tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(MarketDataError, match=f"{name}.*not the one that data.json describes.*save it again"):
        load_market(tmp_path)
    path.unlink()
    with pytest.raises(MarketDataError, match=f"{name}.*the file is missing"):
        load_market(tmp_path)


def test_load_market_needs_the_seal(tmp_path):
    with pytest.raises(MarketDataError, match=r"data\.json.*no readable seal"):
        load_market(tmp_path)


def test_the_hash_sees_every_cell_and_no_file_format(prices, universe, benchmarks, write):
    data = from_frames(prices, universe, benchmarks)
    assert data_hash(load_folder(write(".csv", prices=prices, universe=universe, benchmarks=benchmarks))) == data_hash(
        data
    )
    seen = {data_hash(data)}
    nudged = prices.copy()
    nudged.loc[50, "open"] = np.nextafter(nudged.loc[50, "open"], np.inf)
    for change in (
        {"prices": nudged},
        {"prices": prices.drop(index=35)},
        {"universe": universe.assign(is_bank=[True, True, False])},
        {"universe": universe.assign(hq_state=["New York", "Texas", "Ohio"])},
        {"universe": universe.iloc[[1, 0, 2]]},
        {"benchmarks": None},
    ):
        seen.add(data_hash(from_frames(**{"prices": prices, "universe": universe, "benchmarks": benchmarks} | change)))
    assert len(seen) == 7


# ---- the real panel: the counts of its PROVENANCE file


@pytest.mark.real_data
def test_the_real_panel(us100_folder):
    data = load_folder(us100_folder, select="in_us100")
    assert len(data.prices) == 211_828
    assert len(data.universe) == 100
    assert data.universe["is_bank"].sum() == 29
    assert len(data.sessions) == 2139
    assert (data.prices.groupby("ticker").size() == 2139).sum() == 96
    assert data.universe.loc[data.universe["is_bank"], "sector"].eq("Financials").all()
    last = data.prices.groupby("ticker")["date"].max()
    assert [str(last[t].date()) for t in ("SIVB", "SBNY", "FRC")] == ["2023-03-09", "2023-03-10", "2023-04-28"]
    assert sorted(data.benchmarks["ticker"].unique()) == ["KRE", "SPY", "XLF", "^VIX"]
    assert data.benchmarks["open"].isna().sum() == 640
    assert data.warnings == []


@pytest.mark.real_data
def test_the_real_panel_without_selection(us100_folder):
    data = load_folder(us100_folder)
    assert (len(data.prices), len(data.universe), data.universe["is_bank"].sum()) == (304_001, 145, 30)
    assert data.universe["sector"].nunique() == 11
    assert data.warnings == []  # AMC's unit distribution of 2022-08-22 is no split: volume does not undo it


@pytest.mark.real_data
def test_adj_close_of_the_real_panel_never_jumps(us100_folder):
    """The limit of the warning (0.5) lies above the largest real step, a spin-off, and not far above."""
    raw = pd.read_parquet(us100_folder / "prices.parquet").sort_values(["ticker", "date"])
    steps = [np.diff(np.log(own["adj_close"] / own["close"])) for _, own in raw.groupby("ticker")]
    assert 0.4 < np.abs(np.concatenate(steps)).max() < 0.5
    data = load_folder(us100_folder)
    prices = data.prices.copy()
    row = prices.index[prices["ticker"] == "JPM"][1000]
    prices.loc[(prices["ticker"] == "JPM") & (prices.index >= row), "adj_close"] *= 3
    [warning] = from_frames(prices, data.universe).warnings
    assert f"row {row + 1} ({prices['date'][row]:%Y-%m-%d}, JPM)" in warning


@pytest.mark.real_data
def test_the_real_panel_has_the_same_sessions_from_data(us100_folder):
    a, b = (load_folder(us100_folder, select="in_us100", calendar=c) for c in ("XNYS", "from_data"))
    assert a.sessions.equals(b.sessions)


@pytest.mark.real_data
def test_splits_planted_in_the_real_panel_are_found(us100_folder):
    data = load_folder(us100_folder, select="in_us100")
    rng = np.random.default_rng(0)
    prices, planted = data.prices, set()
    for ticker, own in data.prices.groupby("ticker"):
        at = int(rng.integers(20, len(own) - 20))
        early = own.index[:at]
        prices.loc[early, ["open", "high", "low", "close", "adj_close"]] *= 3
        prices.loc[early, "volume"] /= 3
        planted.add(f"({own['date'].iloc[at]:%Y-%m-%d}, {ticker})")
    warnings = from_frames(prices, data.universe).warnings
    found = {where for where in planted if any(where in line for line in warnings)}
    assert len(found) >= 90
    assert len(warnings) == len(found)
