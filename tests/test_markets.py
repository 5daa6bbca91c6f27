"""Markets of one's own: `make market`, and the real one as the generated copy of the default pipeline."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from anomaly_routing.data import yahoo
from anomaly_routing.data.load import load_source
from anomaly_routing.data.simulate import simulate_market
from anomaly_routing.errors import MarketDataError
from anomaly_routing.markets import (
    MIN_SESSIONS,
    copy_raw,
    cost,
    create,
    default_splits,
    main,
    market_params,
    market_pipeline,
)
from anomaly_routing.panel import Splits
from tests.conftest import ROOT


def read(path):
    return yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def prices_folder(tmp_path_factory):
    """A folder as a user would bring it: CSV, own sector names, and a calendar of its own (Sunday to Thursday)."""
    folder = tmp_path_factory.mktemp("mine")
    market = simulate_market(seed=3, n_stocks=14, n_sessions=600)
    days = pd.DatetimeIndex(sorted(market.prices["date"].unique()))
    weekdays = pd.bdate_range("2019-01-01", periods=len(days)) - pd.Timedelta(days=1)  # Mon-Fri becomes Sun-Thu
    moved = market.prices.assign(date=market.prices["date"].map(dict(zip(days, weekdays, strict=True))))
    moved.to_csv(folder / "prices.csv", index=False, date_format="%Y-%m-%d")
    market.universe.assign(sector="Hydropower").to_csv(folder / "universe.csv", index=False)
    (folder / "notes.txt").write_text("stays behind")
    return folder


@pytest.fixture
def empty_root(tmp_path):
    """A repository without markets."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def test_a_users_market_on_its_own_calendar(prices_folder, empty_root):
    market = create("mine", prices_folder, root=empty_root, sectors=["Hydropower"])
    params = read(empty_root / "markets" / "mine" / "params.yaml")
    assert params["market"]["calendar"] == "from_data" and len(market.universe) == 14
    assert params["market"]["name"] == "mine" and params["data"]["source"] == "folder"
    splits = Splits(**params["market"]["splits"])
    counts = [int(getattr(splits, part)(market.sessions).sum()) for part in ("train", "val", "test")]
    assert sum(counts) == 600 - 60 - 40 and counts[0] / sum(counts) == pytest.approx(0.618, abs=0.01)
    raw = sorted(p.name for p in (empty_root / "data" / "raw" / "mine").iterdir())
    assert raw == ["prices.csv", "universe.csv"]
    assert "stock-sessions" in cost(params, empty_root) or "make bench" in cost(params, empty_root)


def test_a_second_create_keeps_what_the_user_changed(prices_folder, empty_root):
    create("mine", prices_folder, root=empty_root, sectors=["Hydropower"])
    path = empty_root / "markets" / "mine" / "params.yaml"
    changed = read(path)
    changed["baselines"]["seeds"], changed["baselines"]["gone"] = [5], 1
    changed["market"]["splits"]["val_end"] = "2021-01-05"
    path.write_text(yaml.safe_dump(changed))
    create("mine", prices_folder, root=empty_root)
    again = read(path)
    assert again["baselines"]["seeds"] == [5] and "gone" not in again["baselines"]
    assert again["market"]["splits"]["val_end"] == "2021-01-05" and again["data"]["sectors"] == ["Hydropower"]


def test_refusals_leave_nothing_behind(prices_folder, empty_root, tmp_path_factory):
    with pytest.raises(MarketDataError, match="Hydropower"):
        create("mine", prices_folder, root=empty_root)
    for name in ("simulated", "My Market", "../up"):
        with pytest.raises(ValueError, match="cannot name a market"):
            create(name, prices_folder, root=empty_root)
    short = tmp_path_factory.mktemp("short")
    prices = pd.read_csv(prices_folder / "prices.csv")
    prices[prices["date"] < "2020-06-01"].to_csv(short / "prices.csv", index=False)
    shutil.copy(prices_folder / "universe.csv", short)
    with pytest.raises(MarketDataError, match=f"at least {MIN_SESSIONS}"):
        create("mine", short, root=empty_root, sectors=["Hydropower"])
    assert not (empty_root / "markets").exists() and not (empty_root / "data").exists()


def test_the_command_says_what_is_wrong(prices_folder, empty_root, monkeypatch, capsys):
    monkeypatch.chdir(empty_root)
    with pytest.raises(SystemExit) as stopped:
        main(["create", "--name", "mine", "--prices", str(prices_folder)])
    assert "Remedy" in str(stopped.value)
    main(["create", "--name", "mine", "--prices", str(prices_folder), "--sectors", "Hydropower"])
    assert "14 stocks, 600 sessions" in capsys.readouterr().out


def test_raw_files_are_replaced_whole(prices_folder, tmp_path, monkeypatch):
    target = tmp_path / "raw"
    copy_raw(prices_folder, target)
    before = {p.name: p.read_bytes() for p in target.iterdir()}

    def broken(source, destination):
        raise OSError("disk full")

    monkeypatch.setattr(shutil, "copyfile", broken)
    with pytest.raises(OSError, match="disk full"):
        copy_raw(prices_folder, target)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == before


def test_default_splits_follow_the_papers_shares():
    days = pd.bdate_range("2010-01-01", periods=2139)
    splits = default_splits(days)
    counts = np.array([getattr(splits, part)(days).sum() for part in ("train", "val", "test")])
    assert counts[1] == 251 and counts[2] / counts.sum() == pytest.approx(0.255, abs=0.001)
    assert counts.sum() == 2139 - 126 - 40
    with pytest.raises(ValueError, match="too few"):
        default_splits(days[:300])


def test_the_real_markets_pipeline_is_that_of_the_root():
    """markets/us100 is generated: whoever changes the root's files runs `make us100` again."""
    folder = ROOT / "markets" / "us100"
    assert read(folder / "dvc.yaml") == market_pipeline(read(ROOT / "dvc.yaml"), "us100")
    expected = market_params(
        read(ROOT / "params.yaml"),
        "us100",
        {"calendar": "XNYS", "splits": dict(Splits().__dict__)},
        {"source": "folder", "select": "in_us100", "sectors": [], "events": "paper/events.yaml"},
    )
    assert read(folder / "params.yaml") == expected


@pytest.mark.real_data
def test_the_real_panel_passes_as_a_users_folder(us100_folder, empty_root):
    market = create("us100", us100_folder, root=empty_root, select="in_us100", splits=Splits())
    assert (len(market.universe), len(market.sessions)) == (100, 2139)
    assert read(empty_root / "markets" / "us100" / "params.yaml")["market"]["calendar"] == "XNYS"


def test_a_market_fetched_from_yahoo(empty_root, tmp_path, monkeypatch):
    """The download itself is tested in tests/data/test_yahoo.py; here it is answered by the simulated market."""
    market = simulate_market(seed=1, n_stocks=13, n_sessions=520)
    first, last = (f"{d:%Y-%m-%d}" for d in (market.prices["date"].min(), market.prices["date"].max()))
    asked = []

    def answer(ticker, start, end):
        asked.append((ticker, start, end))
        source = market.benchmarks if ticker in ("SPY", "^VIX") else market.prices
        rows = source[source["ticker"] == ticker].set_index("date")
        rows = rows.assign(**{c: rows[c].fillna(rows["close"]) for c in ("open", "high", "low", "adj_close", "volume")})
        names = {
            "open": "Open",
            "high": "High",
            "low": "Low",
            "close": "Close",
            "adj_close": "Adj Close",
            "volume": "Volume",
        }
        return pd.DataFrame() if ticker == gone else rows.rename(columns=names)[list(names.values())]

    gone = market.universe["ticker"].iloc[2]
    monkeypatch.setattr(yahoo, "yahoo_history", answer)
    folder = tmp_path / "mine"
    folder.mkdir()
    market.universe.to_csv(folder / "universe.csv", index=False)
    fetched = create("mine", folder, root=empty_root, source="yahoo", start=first, end=last, calendar="XNYS")
    assert gone not in set(fetched.universe["ticker"]) and len(fetched.universe) == 12
    assert any(gone in w for w in fetched.warnings) and asked[0][1:] == (first, last)
    count = len(asked)
    create("mine", folder, root=empty_root, source="yahoo", start=first, end=last, calendar="XNYS")
    assert len(asked) == count  # answered from what was kept


def test_an_unknown_source_is_refused(tmp_path):
    with pytest.raises(MarketDataError, match=r"no source 'csv'.*one of simulated, folder, yahoo"):
        load_source("csv", tmp_path)
