"""The Yahoo source, through the real yfinance: only the HTTP session underneath it is replaced.

`recorded/` holds answers in the shape of Yahoo's chart endpoint with made-up values; no test reaches the network.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.data.yahoo import load_yahoo
from anomaly_routing.errors import MarketDataError

yfinance = pytest.importorskip("yfinance")
from yfinance import _http, data  # noqa: E402

RECORDED = Path(__file__).parent / "recorded"
START, END = "2020-01-02", "2020-01-31"
CHART = "/v8/finance/chart/"


class Answer:
    """As much of an HTTP response as yfinance looks at."""

    def __init__(self, url: str, status_code: int, text: str) -> None:
        self.url, self.status_code, self.text, self.content = url, status_code, text, text.encode()

    def json(self):
        return json.loads(self.text)

    def raise_for_status(self):
        if self.status_code >= 400:
            raise _http.HTTPError(f"HTTP Error {self.status_code}", 0, self)


class RecordedSession(_http.requests.Session):
    """Answers from `recorded/`; anything that is not there is not found."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.down: set[str] = set()
        self.profiles, self.profile_status = 0, 404

    def get(self, url, params=None, **kwargs):
        path = urlsplit(url).path
        if "getcrumb" in path:
            return Answer(url, 200, "crumb")
        if CHART not in path:
            self.profiles += "quoteSummary" in path
            return Answer(url, self.profile_status, json.dumps({"quoteSummary": {"result": None, "error": "refused"}}))
        ticker = unquote(path.split(CHART)[1])
        self.asked.append(ticker)
        if ticker in self.down:
            raise ConnectionError("no route to host")
        file = RECORDED / f"{ticker.replace('^', 'INDEX_')}.json"
        if file.exists():
            text = file.read_text()
            return Answer(url, 200 if json.loads(text)["chart"]["result"] else 404, text)
        return Answer(url, 404, (RECORDED / "GONE.json").read_text())


@pytest.fixture
def session(tmp_path, monkeypatch):
    yfinance.cache.set_cache_location(str(tmp_path / "yfinance"))
    data.YfData.cache_get.cache_clear()
    monkeypatch.setattr(
        data.YfData, "_instances", {}, raising=False
    )  # the singleton keeps the session it was born with
    recorded = RecordedSession()
    data.YfData(session=recorded)
    yield recorded
    data.YfData.cache_get.cache_clear()


@pytest.fixture
def names() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ticker": ["BRK-B", "GONE", "AAA"],
            "name": ["Second", "Gone", "First"],
            "sector": ["Financials", "Financials", "Energy"],
            "hq_state": ["Nebraska", "California", "Texas"],
            "is_bank": [False, True, False],
        }
    )


def recorded_chart(ticker: str) -> dict:
    return json.loads((RECORDED / f"{ticker}.json").read_text())["chart"]["result"][0]


def test_recorded_answers_become_a_market(session, names, tmp_path):
    market = load_yahoo(names, START, END, tmp_path / "cache")
    assert market.universe["ticker"].tolist() == ["BRK-B", "AAA"]
    assert market.warnings == ["absent at Yahoo: GONE, SPY (delete their files in the cache to ask again)"]
    assert market.benchmarks["ticker"].unique().tolist() == ["^VIX"]
    assert (market.benchmarks["volume"] == 0).all()
    for ticker in ("AAA", "BRK-B"):
        chart, own = recorded_chart(ticker), market.prices[market.prices["ticker"] == ticker]
        for column, values in chart["indicators"]["quote"][0].items():
            np.testing.assert_allclose(own[column], values, rtol=1e-12)
        np.testing.assert_allclose(own["adj_close"], chart["indicators"]["adjclose"][0]["adjclose"], rtol=1e-12)
        stamps = pd.to_datetime(chart["timestamp"], unit="s", utc=True).tz_convert("America/New_York")
        assert own["date"].dt.strftime("%Y-%m-%d").tolist() == stamps.strftime("%Y-%m-%d").tolist()
    aaa = market.prices[market.prices["ticker"] == "AAA"]
    assert (aaa["adj_close"] < aaa["close"]).sum() == 8  # close is not adjusted for the dividend of the ninth session


@pytest.mark.parametrize("profiles_asked", [0, 2])  # yfinance asks for the profile of the first two failures only
@pytest.mark.parametrize("status", [404, 401])
def test_both_ways_in_which_yfinance_reports_an_absent_ticker(
    status, profiles_asked, session, names, tmp_path, monkeypatch
):
    monkeypatch.setattr(yfinance.base, "_tz_info_fetch_ctr", profiles_asked)
    session.profile_status = status
    market = load_yahoo(names, START, END, tmp_path / "cache", benchmarks=())
    assert (session.profiles > 0) == (profiles_asked == 0)
    assert market.warnings == ["absent at Yahoo: GONE (delete their files in the cache to ask again)"]


def test_the_second_call_needs_no_network(session, names, tmp_path):
    first = load_yahoo(names, START, END, tmp_path / "cache")
    session.asked.clear()
    again = load_yahoo(names, START, END, tmp_path / "cache")
    assert session.asked == []
    pd.testing.assert_frame_equal(again.prices, first.prices, check_exact=True)
    assert again.warnings == first.warnings


def test_other_dates_are_another_answer(session, names, tmp_path):
    load_yahoo(names, START, END, tmp_path / "cache")
    session.asked.clear()
    data.YfData.cache_get.cache_clear()
    load_yahoo(names, START, "2020-01-30", tmp_path / "cache")
    assert set(session.asked) == {"AAA", "BRK-B", "GONE", "SPY", "^VIX"}


def test_a_changed_cache_file_is_named(session, names, tmp_path):
    load_yahoo(names, START, END, tmp_path / "cache")
    file = tmp_path / "cache" / f"AAA_{START}_{END}.csv"
    file.write_bytes(file.read_bytes().replace(b"2020-01-03", b"2020-01-04"))
    with pytest.raises(MarketDataError, match=rf"{file.name}.*not the one that came.*delete it and run again"):
        load_yahoo(names, START, END, tmp_path / "cache")
    file.unlink()
    session.asked.clear()
    data.YfData.cache_get.cache_clear()
    load_yahoo(names, START, END, tmp_path / "cache")
    assert set(session.asked) == {"AAA"}


def test_a_broken_manifest_is_named(session, names, tmp_path):
    (tmp_path / "manifest.json").write_text('{"AAA')
    with pytest.raises(MarketDataError, match=r"manifest\.json.*not readable.*fetch anew"):
        load_yahoo(names, START, END, tmp_path)


def test_a_failing_network_is_no_absent_ticker(session, names, tmp_path):
    session.down.add("AAA")
    with pytest.raises(MarketDataError, match=r"yahoo: AAA: the download failed.*no route to host.*run again"):
        load_yahoo(names, START, END, tmp_path / "cache")
    manifest = json.loads((tmp_path / "cache" / "manifest.json").read_text())
    assert {entry["ticker"] for entry in manifest.values()} == {"BRK-B", "GONE"}
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"manifest.json", *manifest}
    session.down.clear()
    session.asked.clear()
    market = load_yahoo(names, START, END, tmp_path / "cache")
    assert set(session.asked) == {"AAA", "SPY", "^VIX"}  # it goes on from where it stopped
    assert market.universe["ticker"].tolist() == ["BRK-B", "AAA"]


def test_yfinance_is_left_as_it_was(session, names, tmp_path):
    session.down.add("AAA")
    before = yfinance.config.debug.hide_exceptions
    with pytest.raises(MarketDataError):
        load_yahoo(names, START, END, tmp_path / "cache")
    assert yfinance.config.debug.hide_exceptions == before


def test_none_of_the_tickers_is_there(session, names, tmp_path):
    with pytest.raises(MarketDataError, match="Yahoo has none of the tickers"):
        load_yahoo(names[names["ticker"] == "GONE"], START, END, tmp_path, benchmarks=())


# ---- what needs no yfinance: the same cache and door behind another downloader


def some_rows(ticker, start, end) -> pd.DataFrame:
    if ticker == "GONE":
        return pd.DataFrame()
    index = pd.DatetimeIndex(["2020-01-02", "2020-01-03", "2020-01-06"], tz="America/New_York", name="Date")
    columns = {"Open": 10.0, "High": 11.0, "Low": 9.0, "Close": 10.5, "Adj Close": 10.4, "Volume": 100}
    return pd.DataFrame(columns, index=index)


def test_the_same_door(names, tmp_path):
    def half_a_row(ticker, start, end):
        return some_rows(ticker, start, end).replace({"Low": {9.0: np.nan}})

    market = load_yahoo(names, START, END, tmp_path / "good", some_rows)
    assert market.prices["date"].dt.strftime("%d").tolist() == ["02", "03", "06"] * 2
    with pytest.raises(
        MarketDataError, match=r"yahoo prices: row 1 \(2020-01-02, AAA\): the cell is empty.*\(low nan\)"
    ):
        load_yahoo(names, START, END, tmp_path / "bad", half_a_row)


def test_a_faulty_universe_is_refused_before_anything_is_downloaded(names, tmp_path):
    with pytest.raises(MarketDataError, match=r"yahoo universe: row 2 \(GONE\): unknown sector \(sector Oil\)"):
        load_yahoo(names.assign(sector=["Energy", "Oil", "Energy"]), START, END, tmp_path / "cache", some_rows)
    assert not (tmp_path / "cache").exists()


def test_the_manifest_holds_hashes_and_no_clock(names, tmp_path):
    for folder in ("a", "b"):
        load_yahoo(names, START, END, tmp_path / folder, some_rows)
    a, b = ((tmp_path / folder / "manifest.json").read_bytes() for folder in ("a", "b"))
    assert a == b
    assert all(len(entry["sha256"]) == 64 for entry in json.loads(a).values())


def test_without_yfinance_the_error_says_what_to_install(names, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yfinance", None)
    with pytest.raises(ImportError, match=r"pip install anomaly-routing\[yahoo\]"):
        load_yahoo(names, START, END, tmp_path)
