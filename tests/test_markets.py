"""Markets of one's own: `make market`, and the real one as the generated copy of the default pipeline."""

from __future__ import annotations

import json
import shutil

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
import yaml

from anomaly_routing.data.load import load_source
from anomaly_routing.data.simulate import simulate_market
from anomaly_routing.errors import MarketDataError
from anomaly_routing.markets import (
    MIN_SESSIONS,
    TRAINED,
    copy_raw,
    cost,
    create,
    default_splits,
    guess_calendar,
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


def test_the_cost_before_any_measurement(empty_root):
    assert cost(read(ROOT / "params.yaml"), empty_root) == (
        "no measurement yet (make bench writes one): the cost of this run is unknown"
    )


def test_the_cost_from_a_measurement(prices_folder, empty_root):
    """14 * 600 = 8,400 stock-sessions: 24 + 50 * 0.0084 = 24.42 s and 366 s, 6.507 min in all; 0.5 + 0.84 GiB."""
    stages = {
        "device": "2 cores",
        "seconds": {
            "data": {"fixed": 24.0, "per_million_cells": 50.0},
            "features": {"fixed": 366.0, "per_million_cells": 0.0},
        },
        "memory_gib": {"fixed": 0.5, "per_million_cells": 100.0},
    }
    (empty_root / "benchmarks").mkdir()
    (empty_root / "benchmarks" / "measured.json").write_text(json.dumps({"ratios": {}, "stages": stages}))
    create("mine", prices_folder, root=empty_root, sectors=["Hydropower"])
    assert cost(read(empty_root / "markets" / "mine" / "params.yaml"), empty_root).splitlines() == [
        "market mine: 8,400 stock-sessions, about 6.5 min on 2 cores if nothing is stored yet, one stage after "
        "the other, 1.3 GiB at most",
        "  data       about   0.4 min",
        "  features   about   6.1 min",
    ]
    simulated = {"market": {"name": "simulated"}, "data": {"source": "simulated", "n_stocks": 20, "n_sessions": 50_000}}
    head, data, _ = cost(simulated, empty_root).splitlines()
    assert head.startswith("market simulated: 1,000,000 stock-sessions, about 7.3 min")
    assert head.endswith("100.5 GiB at most") and data.endswith("about   1.2 min")


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


def test_options_given_now_win_over_the_stored_ones(prices_folder, empty_root, tmp_path):
    universe = pd.read_csv(prices_folder / "universe.csv").assign(half=lambda u: u.index % 2 == 0)
    folder = tmp_path / "more"
    shutil.copytree(prices_folder, folder)
    universe.to_csv(folder / "universe.csv", index=False)
    create("mine", folder, root=empty_root, sectors=["Hydropower"])
    path = empty_root / "markets" / "mine" / "params.yaml"
    days = sorted(pd.read_csv(folder / "prices.csv")["date"].unique())
    (empty_root / "my_events.yaml").write_text(f"calendar: from_data\nevents:\n- {{id: A, date: {days[500]}}}\n")
    (folder / "events.yaml").write_text("events: []\n")
    options = {"calendar": "24/7", "select": "half", "sectors": ["Hydropower", "Coal"], "events": "my_events.yaml"}
    with pytest.raises(MarketDataError, match="sessions of 24/7 have no row"):  # asked for, so it is taken
        create("mine", folder, root=empty_root, **options)
    assert read(path)["market"]["calendar"] == "from_data"
    changed = read(path)
    changed["market"]["calendar"], changed["baselines"]["epochs"] = "XNYS", 7
    path.write_text(yaml.safe_dump(changed))
    create("mine", folder, root=empty_root, **options | {"calendar": "from_data"})
    again = read(path)
    assert again["market"]["calendar"] == "from_data" and again["baselines"]["epochs"] == 7
    assert again["data"] == {"source": "folder"} | {key: options[key] for key in ("select", "sectors", "events")}
    assert len(pd.read_csv(empty_root / "data" / "raw" / "mine" / "universe.csv")) == 14
    market = create("mine", folder, root=empty_root, sectors=["Hydropower"])
    assert len(market.universe) == 7  # the stored selection stays
    assert read(path)["data"]["events"] == "my_events.yaml"


def test_events_in_the_folder_are_used_even_by_a_market_that_had_none(prices_folder, empty_root, tmp_path):
    folder = tmp_path / "more"
    shutil.copytree(prices_folder, folder)
    create("mine", folder, root=empty_root, sectors=["Hydropower"])
    params = empty_root / "markets" / "mine" / "params.yaml"
    assert read(params)["data"]["events"] == ""
    (folder / "events.yaml").write_text("events: []\n")
    create("mine", folder, root=empty_root)
    assert read(params)["data"]["events"] == "data/raw/mine/events.yaml"
    assert (empty_root / "data" / "raw" / "mine" / "events.yaml").read_text() == "events: []\n"
    (folder / "events.yaml").unlink()
    with pytest.raises(MarketDataError, match=r"more/events\.yaml: -: no such events file.*EVENTS="):
        create("mine", folder, root=empty_root)
    assert (empty_root / "data" / "raw" / "mine" / "events.yaml").exists()


def test_a_parameter_file_copied_from_another_market_is_not_taken_for_it(prices_folder, empty_root):
    create("first", prices_folder, root=empty_root, sectors=["Hydropower"])
    shutil.copytree(empty_root / "markets" / "first", empty_root / "markets" / "second")
    create("second", prices_folder, root=empty_root)
    params = read(empty_root / "markets" / "second" / "params.yaml")
    assert params["market"]["name"] == "second" and params["params_file"] == "markets/second/params.yaml"
    assert params["data"]["sectors"] == ["Hydropower"]


def test_the_events_file_is_an_input_of_the_first_stage():
    base = {"stages": {"data": {"deps": ["notebooks/01_data.ipynb"]}, "features": {"deps": ["x"]}}}

    def inputs(events: str) -> list[str]:
        pipeline = market_pipeline(base, "mine", events)
        assert pipeline["stages"]["features"] == {"deps": ["x"], "wdir": "../.."}
        return pipeline["stages"]["data"]["deps"][1:]

    assert inputs("") == ["data/raw/mine"]
    assert inputs("data/raw/mine/events.yaml") == ["data/raw/mine"]  # inside it already
    assert inputs("paper/events.yaml") == ["data/raw/mine", "paper/events.yaml"]
    assert inputs("notebooks/01_data.ipynb") == ["data/raw/mine"]  # DVC takes an input once
    assert base["stages"]["data"]["deps"] == ["notebooks/01_data.ipynb"]


def dates_folder(folder, dates):
    """Prices with nothing but dates: enough for a guess."""
    pd.DataFrame({"date": pd.DatetimeIndex(dates)}).to_parquet(folder / "prices.parquet")
    return folder


@pytest.mark.parametrize(
    ("exchange", "stray", "guess"),
    [
        ("XNYS", [], "XNYS"),
        ("XNYS", ["2023-07-04"], "XNYS"),
        ("XNYS", ["2150-01-01"], "XNYS"),
        ("XTSE", [], "from_data"),  # nearest to New York of all exchanges
        ("XTKS", [], "from_data"),
        ("XSAU", [], "from_data"),  # Sunday to Thursday
    ],
)
def test_the_calendar_is_guessed_from_most_of_the_dates(exchange, stray, guess, tmp_path):
    days = exchange_calendars.get_calendar(exchange, start="2022-01-01", end="2023-12-31").sessions
    assert guess_calendar(dates_folder(tmp_path, [*days, *map(pd.Timestamp, stray)])) == guess


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
    assert read(folder / "dvc.yaml") == market_pipeline(read(ROOT / "dvc.yaml"), "us100", "paper/events.yaml")
    expected = market_params(
        read(ROOT / "params.yaml"),
        "us100",
        {"calendar": "XNYS", "splits": dict(Splits().__dict__)},
        {"source": "folder", "select": "in_us100", "sectors": [], "events": "paper/events.yaml"},
    )
    own = read(folder / "params.yaml")
    # its own are: longer trainings and more of them, the paper's cases, more plants, the chapter's real series
    chosen = {stage: {} for stage in (*TRAINED, "baselines", "case_studies", "attribution", "value_at_risk", "chapter")}
    assert all(set(own[stage]) == set(expected[stage]) for stage in chosen)
    assert own | chosen == expected | chosen


@pytest.mark.real_data
def test_the_real_panel_passes_as_a_users_folder(us100_folder, empty_root):
    market = create("us100", us100_folder, root=empty_root, select="in_us100", splits=Splits())
    assert (len(market.universe), len(market.sessions)) == (100, 2139)
    assert read(empty_root / "markets" / "us100" / "params.yaml")["market"]["calendar"] == "XNYS"


def test_an_unknown_source_is_refused(tmp_path):
    with pytest.raises(MarketDataError, match=r"no source 'csv'.*one of simulated, folder, yahoo"):
        load_source("csv", tmp_path)
