"""Every rule of the data contract, broken one at a time, and every warning, planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.data.calendars import sessions
from anomaly_routing.data.quality import adjustment_warnings, split_warnings
from anomaly_routing.data.sources import from_frames, load_folder
from anomaly_routing.errors import MarketDataError

BOTH = pytest.mark.parametrize("suffix", [".parquet", ".csv"])


def refused(folder, **options) -> MarketDataError:
    with pytest.raises(MarketDataError) as caught:
        load_folder(folder, **options)
    return caught.value


def cell(row, **values):
    """Set cells of one 1-based data row."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        for column, value in values.items():
            frame.loc[row - 1, column] = value
        return frame

    return change


def swap(row):
    """Swap a data row with the next."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        order = np.arange(len(frame))
        order[[row - 1, row]] = order[[row, row - 1]]
        return frame.iloc[order]

    return change


def repeat(row):
    return lambda frame: frame.iloc[np.sort(np.append(np.arange(len(frame)), row - 1))]


# what is broken, the row that the message must name, words of the rule, words of the remedy
BROKEN_PRICES = {
    "missing column": (lambda f: f.drop(columns="volume"), "-", "missing column volume", "the file has: date"),
    "duplicate": (repeat(7), "row 8 (2020-01-10, AAA)", "same date and ticker", "drop_duplicates"),
    "unsorted dates": (swap(41), "row 42 (2020-01-16, BBB)", "not sorted by ticker, then date", "sort_values"),
    "unsorted tickers": (
        lambda f: f.sort_values(["date", "ticker"]),
        "row 4 (2020-01-03, AAA)",
        "not sorted by ticker, then date",
        'prices.sort_values(["ticker", "date"])',
    ),
    "negative price": (cell(5, low=-1.0), "row 5 (2020-01-08, AAA)", "price must be positive (low -1.0)", "drop it"),
    "zero price": (cell(5, adj_close=0.0), "row 5 (", "price must be positive (adj_close 0.0)", "no trade"),
    "high below low": (cell(35, high=10.0, low=90.0), "row 35 (", "high is below low (high 10.0, low 90.0)", "swapped"),
    "close above high": (cell(9, close=99.0), "row 9 (2020-01-14, AAA)", "close lies outside [low, high]", "factor"),
    "close below low": (cell(9, close=9.0), "row 9 (2020-01-14, AAA)", "close lies outside [low, high]", "factor"),
    "open above high": (cell(9, open=99.0), "row 9 (2020-01-14, AAA)", "open lies outside [low, high]", "factor"),
    "open below low": (cell(9, open=9.0), "row 9 (2020-01-14, AAA)", "open lies outside [low, high]", "factor"),
    "NaN price": (cell(61, close=np.nan), "row 61 (2020-01-02, CCC)", "empty (NaN) or infinite (close nan)", "source"),
    "NaN adj_close": (cell(61, adj_close=np.nan), "row 61 (", "empty (NaN) or infinite (adj_close nan)", "source"),
    "infinite price": (cell(61, high=np.inf), "row 61 (", "empty (NaN) or infinite (high inf)", "source"),
    "NaN volume": (cell(90, volume=np.nan), "row 90 (2020-02-13, CCC)", "infinite (volume nan)", "source"),
    "negative volume": (
        cell(90, volume=-5.0),
        "row 90 (",
        "volume must not be negative (volume -5.0)",
        "did not trade",
    ),
    "holiday": (
        cell(12, date=pd.Timestamp("2020-01-20")),
        "row 12 (2020-01-20, AAA)",
        "not a session of XNYS",
        "from_data",
    ),
    "ticker without universe row": (
        lambda f: f.assign(ticker=f["ticker"].replace("CCC", "ZZZ")),
        "row 61 (2020-01-02, ZZZ)",
        "ticker ZZZ has no row in",
        "add it to the universe",
    ),
    "empty ticker": (cell(3, ticker=""), "row 3 (2020-01-06, )", "the ticker is empty", "name the ticker"),
    "no data row": (lambda f: f.iloc[:0], "-", "empty: it has no data row", "at least one row"),
    "time of day": (
        cell(2, date=pd.Timestamp("2020-01-03 16:00")),
        "row 2 (2020-01-03, AAA)",
        "time of day",
        "session",
    ),
    "no date": (cell(2, date=pd.NaT), "row 2 (NaT, AAA)", "date is missing", "session"),
    "session missing for all": (
        lambda f: f[f["date"] != "2020-01-15"],
        "-",
        "1 sessions of XNYS have no row of any ticker, the first is 2020-01-15",
        "add the sessions",
    ),
}


@BOTH
@pytest.mark.parametrize("case", BROKEN_PRICES)
def test_broken_prices_are_refused(case, suffix, prices, universe, write):
    change, row, rule, remedy = BROKEN_PRICES[case]
    folder = write(suffix, prices=change(prices), universe=universe)
    error = refused(folder)
    assert error.file == str(folder / f"prices{suffix}")
    assert error.row.startswith(row) or (case == "no date" and error.row.startswith("row 2 ("))
    assert rule in error.rule
    assert remedy in error.remedy


def test_the_message_says_how_many_rows(prices, universe, write):
    error = refused(write(prices=cell(80, close=-1.0)(cell(20, open=-2.0)(prices)), universe=universe))
    assert error.row == "row 20 (2020-01-30, AAA)"
    assert error.rule.endswith("(open -2.0), 2 rows in all")


def test_rounding_of_adjusted_prices_is_no_error(prices, universe, write):
    prices.loc[3, "high"] = max(prices.loc[3, ["open", "close"]]) * (1 - 5e-7)
    load_folder(write(prices=prices, universe=universe))
    prices.loc[3, "high"] = max(prices.loc[3, ["open", "close"]]) * (1 - 5e-6)
    assert "outside [low, high]" in refused(write(prices=prices, universe=universe)).rule


UNIVERSE_CASES = {
    "missing column": (lambda u: u.drop(columns="is_bank"), "-", "missing column is_bank", "add or rename"),
    "ticker without prices": (cell(3, ticker="DDD"), "-", "", ""),
    "unknown sector": (cell(2, sector="Oil"), "row 2 (BBB)", "unknown sector (sector Oil)", "SECTORS="),
    "duplicate ticker": (lambda u: pd.concat([u, u.iloc[[0]]]), "row 4 (AAA)", "two rows in the universe", "keep one"),
    "neither true nor false": (
        lambda u: u.astype({"is_bank": "str"}).replace({"is_bank": {"True": "maybe"}}),
        "row 1 (AAA)",
        "is_bank is 'maybe'",
        "true or false",
    ),
    "empty ticker": (cell(2, ticker=""), "row 2 ()", "the ticker is empty", "drop the row"),
    "no row": (lambda u: u.iloc[:0], "-", "no data row", "at least one row"),
    "negative shares": (
        lambda u: u.assign(shares_outstanding=[1e6, -1.0, 1e6]),
        "row 2 (BBB)",
        "shares",
        "leave it empty",
    ),
}


@BOTH
@pytest.mark.parametrize("case", [case for case in UNIVERSE_CASES if case != "ticker without prices"])
def test_broken_universes_are_refused(case, suffix, prices, universe, write):
    change, row, rule, remedy = UNIVERSE_CASES[case]
    folder = write(suffix, prices=prices, universe=change(universe))
    error = refused(folder)
    assert error.file == str(folder / f"universe{suffix}")
    assert error.row == row
    assert rule in error.rule
    assert remedy in error.remedy


def test_a_universe_ticker_without_prices_is_refused(prices, universe, write):
    extra = pd.DataFrame({"ticker": ["DDD"], "name": "", "sector": "Energy", "hq_state": "Ohio", "is_bank": False})
    folder = write(prices=prices, universe=pd.concat([universe, extra]))
    error = refused(folder)
    assert (error.file, error.row) == (str(folder / "universe.parquet"), "row 4 (DDD)")
    assert "no row in" in error.rule
    assert "drop it from the universe" in error.remedy


def test_own_sectors(prices, universe, write):
    folder = write(prices=prices, universe=universe.assign(sector=["Commercial Banks", "Hydro", "Hydro"]))
    assert "unknown sector" in refused(folder).rule
    data = load_folder(folder, sectors=["Commercial Banks", "Hydro"])
    assert data.universe["sector"].tolist() == ["Commercial Banks", "Hydro", "Hydro"]


def test_benchmarks_need_only_close(prices, universe, benchmarks, write):
    slim = benchmarks[["date", "ticker", "close"]]
    data = load_folder(write(prices=prices, universe=universe, benchmarks=slim))
    assert list(data.benchmarks.columns) == list(data.prices.columns)
    assert data.benchmarks["adj_close"].equals(data.benchmarks["close"])
    assert data.benchmarks[["open", "high", "low", "volume"]].isna().all(axis=None)


@BOTH
@pytest.mark.parametrize(
    ("change", "row", "rule"),
    [
        (cell(4, close=np.nan), "row 4 (2020-01-07, SPY)", "empty (NaN) or infinite (close nan)"),
        (cell(4, close=-3.0), "row 4 (2020-01-07, SPY)", "must be positive"),
        (cell(4, high=3.0, low=1.0), "row 4 (2020-01-07, SPY)", "close lies outside"),
        (cell(12, date=pd.Timestamp("2020-01-20")), "row 12 (2020-01-20, SPY)", "not a session of XNYS"),
        (lambda f: f.drop(columns="close"), "-", "missing column close"),
    ],
)
def test_broken_benchmarks_are_refused(change, row, rule, suffix, prices, universe, benchmarks, write):
    folder = write(suffix, prices=prices, universe=universe, benchmarks=change(benchmarks))
    error = refused(folder)
    assert (error.file, error.row) == (str(folder / f"benchmarks{suffix}"), row)
    assert rule in error.rule


def test_benchmarks_outside_the_span_are_left_out_with_a_warning(prices, universe, benchmarks, write):
    early = pd.concat([benchmarks.iloc[[0]].assign(date=pd.Timestamp("2019-12-31")), benchmarks], ignore_index=True)
    data = load_folder(write(prices=prices, universe=universe, benchmarks=early))
    assert len(data.benchmarks) == 30
    assert data.warnings == ["benchmarks.parquet: 1 rows outside the prices' span are left out"]


# ---- warnings


def with_split(prices: pd.DataFrame, row: int, factor: float, volume_too: bool = True) -> pd.DataFrame:
    """AAA's prices before data row `row` as they stood before a `factor`-for-1 split."""
    early = prices.index[: row - 1]
    prices.loc[early, ["open", "high", "low", "close", "adj_close"]] *= factor
    if volume_too:
        prices.loc[early, "volume"] /= factor
    return prices


@pytest.mark.parametrize(
    ("factor", "kind"),
    [(n, f"{n}-for-1") for n in (1.5, 2, 4, 20)] + [(1 / n, f"1-for-{n}") for n in (2, 10)],
)
@pytest.mark.parametrize("row", [5, 30])  # early, and the last row of AAA
def test_an_unadjusted_split_is_a_warning_with_the_row(factor, kind, row, prices, universe):
    data = from_frames(with_split(prices, row, factor), universe)
    [warning] = data.warnings
    assert f"prices: row {row} ({prices['date'][row - 1]:%Y-%m-%d}, AAA)" in warning
    assert f"a {kind} split that is not adjusted for" in warning
    assert f"multiply the ticker's earlier prices by {1 / factor:.6g} " in warning


def test_the_remedy_of_a_split_removes_the_warning(prices, universe):
    broken = with_split(prices.copy(), 15, 4)
    early = broken.index[:14]
    broken.loc[early, ["open", "high", "low", "close", "adj_close"]] *= 0.25
    broken.loc[early, "volume"] /= 0.25
    pd.testing.assert_frame_equal(broken, prices)
    assert from_frames(broken, universe).warnings == []


def crash(prices):  # half the price is lost overnight for good, and five times as much is traded
    prices.loc[14:29, ["open", "high", "low", "close", "adj_close"]] *= 0.5
    prices.loc[14:29, "volume"] *= 5
    return prices


def fleeting(prices):  # the price doubles for one day as trading halves for good
    prices.loc[14, ["open", "high", "low", "close", "adj_close"]] *= 2
    prices.loc[14:29, "volume"] *= 0.5
    return prices


def odd_ratio(prices):  # volume makes up for it, but nobody splits 1.75 to 1
    return with_split(prices, 15, 1.75)


def adjusted_already(prices):  # the price falls to a half and volume stays
    return with_split(prices, 15, 2, volume_too=False)


def between_tickers(prices):  # another stock's price level is no overnight move
    prices.loc[30:59, ["open", "high", "low", "close", "adj_close"]] *= 0.25
    prices.loc[30:59, "volume"] *= 4
    return prices


@pytest.mark.parametrize("change", [crash, fleeting, odd_ratio, adjusted_already, between_tickers])
def test_other_moves_are_no_split(change, prices):
    assert split_warnings(change(prices).set_axis(range(1, 91)), "prices") == []


def test_missing_days_are_counted_and_long_gaps_named(prices, universe):
    gaps = prices.drop(index=[35, 40, 41, *range(62, 84)])
    data = from_frames(gaps, universe)
    assert data.warnings == [
        "prices: sessions missing inside a life: BBB 3, CCC 22",
        "prices: row 60 (2020-02-06, CCC): first row after a gap of 22 sessions: halted, or recycled?",
    ]


def test_lives_are_compared_with_what_the_universe_says(prices, universe):
    said = universe.assign(first_date=["2020-01-02", "2020-01-02", ""], last_date=["2020-02-13", "2024-12-31", None])
    assert from_frames(prices, said).warnings == [
        "universe: BBB: last_session is 2024-12-31, in the prices 2020-02-13",
    ]


def odd_adjustments(prices):
    """AAA's adj_close falls to 0.5 of what it was at row 11 and comes back at row 21; BBB's moves by just under 0.5."""
    prices.loc[10:19, "adj_close"] *= 0.5
    prices.loc[45:59, "adj_close"] *= np.exp(0.49)
    return prices


@BOTH
def test_a_jump_of_adj_close_against_close_is_a_warning_with_the_row(suffix, prices, universe, write):
    [warning] = load_folder(write(suffix, prices=odd_adjustments(prices), universe=universe)).warnings
    assert f"prices{suffix}: row 11 (2020-01-16, AAA): adj_close / close is 0.5 times" in warning
    assert "2 rows in all" in warning and "Remedy: compare adj_close with the source" in warning


def test_adj_close_of_another_scale_from_stock_to_stock_is_no_jump(prices, universe):
    prices.loc[30:59, "adj_close"] *= 0.1
    assert from_frames(prices, universe).warnings == []


def test_a_price_that_halves_with_its_adj_close_is_no_jump_of_the_adjustment(prices):
    assert adjustment_warnings(crash(prices).set_axis(range(1, 91)), "prices") == []


# ---- calendars


def test_a_market_that_trades_sunday_to_thursday(prices, universe):
    days = pd.date_range("2020-01-02", periods=60, freq="D")
    open_days = days[~days.day_name().isin(["Friday", "Saturday"])][:30].as_unit("ns")
    prices["date"] = np.tile(open_days, 3)
    data = from_frames(prices, universe, calendar="from_data")
    assert list(data.sessions) == list(open_days)
    with pytest.raises(MarketDataError, match=r"row 2 \(2020-01-05, AAA\).*not a session of XNYS"):
        from_frames(prices, universe, calendar="XNYS")


def oracle_sessions(prices: pd.DataFrame) -> list[pd.Timestamp]:
    """The docstring's rule, date by date and ticker by ticker."""
    week = pd.Timedelta(days=7)
    first, last = prices["date"].min(), prices["date"].max()
    found = []
    for date in sorted(set(prices["date"])):
        listed = rows = 0
        volume = 0.0
        for _, own in prices.groupby("ticker"):
            begin = first if own["date"].min() <= first + week else own["date"].min()
            end = last if own["date"].max() >= last - week else own["date"].max()
            listed += begin <= date <= end
            today = own[own["date"] == date]
            rows += len(today)
            volume = max([volume, *today["volume"]])
        if rows >= listed / 2 and volume > 0:
            found.append(date)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_sessions_from_data_against_the_plain_rule(seed):
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2021-01-01", periods=50, freq="D")
    frames = []
    for k in range(7):
        begin, end = sorted(rng.choice(51, 2, replace=False))
        own = dates[begin:end][rng.random(end - begin) < rng.uniform(0.3, 1)]
        volume = rng.integers(0, 2, len(own)) * 100.0
        frames.append(pd.DataFrame({"date": own, "ticker": f"T{k}", "volume": volume}))
    prices = pd.concat(frames, ignore_index=True)
    assert list(sessions("from_data", prices)) == oracle_sessions(prices)


@pytest.mark.parametrize("date", ["2020-01-20", "2020-02-15"])  # a holiday within, a Saturday at the end
def test_a_stray_row_makes_no_session(date, prices, universe):
    stray = prices.iloc[[5]].assign(date=pd.Timestamp(date))
    both = pd.concat([prices, stray]).sort_values(["ticker", "date"])
    with pytest.raises(MarketDataError, match=f"{date}, AAA.*fewer than half.*Remedy: drop the rows of days"):
        from_frames(both, universe, calendar="from_data")


def test_a_holiday_padded_without_volume_is_no_session(prices, universe):
    padding = prices[prices["date"] == "2020-01-17"].assign(date=pd.Timestamp("2020-01-20"), volume=0.0)
    both = pd.concat([prices, padding]).sort_values(["ticker", "date"])
    with pytest.raises(MarketDataError, match=r"2020-01-20, AAA.*none of them has volume, 3 rows in all"):
        from_frames(both, universe, calendar="from_data")


def shifted(prices, split_after: int, days: int):
    """The same rows, those of the sessions after the first `split_after` moved on by `days`."""
    dates = np.sort(prices["date"].unique())
    later = prices["date"] > dates[split_after - 1]
    return prices.assign(date=prices["date"].where(~later, prices["date"] + pd.Timedelta(days=days)))


def test_a_long_closure_is_a_matter_of_180_days(prices, universe):
    closed = int((prices["date"][10] - prices["date"][9]).days)
    data = from_frames(shifted(prices, 10, 180 - closed), universe, calendar="from_data")
    assert len(data.sessions) == 30 and np.diff(data.sessions).max() == pd.Timedelta(days=180)
    with pytest.raises(MarketDataError) as caught:
        from_frames(shifted(prices, 10, 181 - closed), universe, calendar="from_data")
    assert caught.value.row == "row 11 (2020-07-14, AAA)"
    assert "181 days from 2020-01-15 to 2020-07-14" in caught.value.rule


@pytest.mark.parametrize("calendar", ["from_data", "XNYS"])
@pytest.mark.parametrize(
    ("position", "date", "row"),
    [(89, "2150-01-02", "row 90 (2150-01-02, CCC)"), (30, "1950-01-03", "row 1 (2020-01-02, AAA)")],
)
def test_a_stray_date_far_away_is_refused(position, date, row, calendar, prices, universe):
    """A ticker whose life reaches there would otherwise vote alone, and its day would be a session."""
    prices.loc[position, "date"] = pd.Timestamp(date)
    with pytest.raises(MarketDataError, match="few rows") as caught:
        from_frames(prices, universe, calendar=calendar)
    assert (caught.value.file, caught.value.row) == ("prices", row)
    assert date in caught.value.rule


def test_listings_and_delistings_do_not_unmake_sessions(prices, universe):
    alone = (prices["ticker"] == "AAA") | prices["date"].between("2020-01-15", "2020-01-31")
    data = from_frames(prices[alone], universe, calendar="from_data")
    assert len(data.sessions) == 30
    assert data.warnings == []


def test_an_unknown_calendar_is_named(prices, universe):
    with pytest.raises(MarketDataError, match=r"params: calendar: no calendar 'NEPSE'.*from_data"):
        from_frames(prices, universe, calendar="NEPSE")


def test_exchange_sessions_reach_from_the_first_to_the_last_date(prices):
    found = sessions("XNYS", prices)
    assert (found.tz, found.dtype) == (None, np.dtype("datetime64[ns]"))
    assert list(found) == sorted(set(prices["date"]))
    single = prices[prices["date"] == "2020-01-02"]
    assert list(sessions("XNYS", single)) == [pd.Timestamp("2020-01-02")]
