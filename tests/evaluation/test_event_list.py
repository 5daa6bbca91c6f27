"""The event list against the calendar and the audit's table, and what a wrong list is told."""

from __future__ import annotations

import string

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from anomaly_routing.errors import MarketDataError
from anomaly_routing.evaluation.detection import detection_windows
from anomaly_routing.evaluation.events import load_events, write_events
from anomaly_routing.panel import Splits

# Windows as printed in the audit's table of resolved events (AUDIT section 2)
AUDIT_WINDOWS = {
    "E01": ("2023-03-03", "2023-03-09"),
    "E02": ("2023-03-06", "2023-03-10"),
    "E03": ("2023-03-13", "2023-03-17"),
    "E04": ("2023-04-24", "2023-04-28"),
    "E05": ("2022-10-26", "2022-11-01"),
    "E06": ("2023-08-08", "2023-08-14"),
    "E07": ("2023-01-27", "2023-02-02"),
    "E08": ("2024-07-12", "2024-07-18"),
    "E09": ("2024-07-29", "2024-08-02"),
    "E10": ("2024-05-06", "2024-05-10"),
    "E11": ("2022-11-01", "2022-11-07"),
    "E12": ("2022-11-28", "2022-12-02"),
    "E13": ("2022-03-24", "2022-03-30"),
}
ENTRY = {"id": "A", "date": "2023-03-10", "kind": "banking"}
WEEK = pd.date_range("2023-03-05", "2023-03-16")  # every day, a market that never closes


def _write(path, entries, **top):
    path.write_text(yaml.safe_dump({"calendar": "XNYS", "events": entries} | top), encoding="utf-8")
    return path


def test_calendar_and_split_counts_of_the_study(nyse):
    splits = Splits()
    assert len(nyse) == 2012
    assert nyse.year.value_counts().sort_index().tolist() == [251, 251, 252, 253, 252, 251, 250, 252]
    counts = [int(getattr(splits, name)(nyse).sum()) for name in ("train", "val", "test")]
    assert counts == [1219, 251, 502]
    assert nyse[splits.scored(nyse)][0] == pd.Timestamp("2017-03-02")


def test_the_papers_thirteen(paper_events):
    assert paper_events["kind"].value_counts().to_dict() == {
        "banking": 4,
        "monetary": 2,
        "market_shock": 5,
        "energy": 2,
    }
    assert paper_events["split"].value_counts().to_dict() == {"test": 9, "val": 4}
    assert set(paper_events.loc[paper_events["exogenous"], "id"]) == {"E08", "E10"}
    assert paper_events.set_index("id")["collapse_with"].dropna().to_dict() == {"E02": "E01", "E03": "E01"}
    assert paper_events[["paper_text", "reason", "label"]].notna().all().all()
    assert paper_events["alternatives"].map(len).tolist() == [2, 1, 1, 1, 4, 3, 2, 0, 1, 2, 2, 3, 2]


def test_windows_are_those_of_the_audit(paper_events, nyse):
    windows = detection_windows(nyse, nyse.get_indexer(paper_events["date"]))
    spans = {
        event: tuple(f"{day:%Y-%m-%d}" for day in nyse[window][[0, -1]])
        for event, window in zip(paper_events["id"], windows, strict=True)
    }
    assert spans == AUDIT_WINDOWS
    assert (windows.sum(axis=1) == 5).all()
    assert windows.any(axis=0).sum() == 60  # AUDIT A19
    shared = nyse[windows[0] & windows[1]]
    assert [f"{day:%m-%d}" for day in shared] == ["03-06", "03-07", "03-08", "03-09"]


@pytest.mark.parametrize("sunday, monday", [("2023-03-12", "2023-03-13"), ("2023-03-19", "2023-03-20")])
@pytest.mark.parametrize("key", ["date", "alternatives", "end"])
def test_sundays_are_rejected_with_the_remedy(tmp_path, sunday, monday, key):
    value = [sunday] if key == "alternatives" else sunday
    path = _write(tmp_path / "mine.yaml", [ENTRY | {key: value}])
    with pytest.raises(MarketDataError) as caught:
        load_events(path)
    error = caught.value
    assert error.file == str(path) and "A" in error.row
    assert sunday in error.rule and "Sunday" in error.rule and monday in error.remedy


def test_a_sunday_is_fine_where_the_market_trades_on_sundays(tmp_path):
    path = _write(tmp_path / "e.yaml", [ENTRY | {"date": "2023-03-12"}], calendar="from_data")
    assert load_events(path, WEEK)["split"].tolist() == ["test"]
    with pytest.raises(MarketDataError, match="no sessions were given"):
        load_events(path)


@pytest.mark.parametrize(
    "entries, where, rule",
    [
        ([ENTRY | {"colour": "red"}], "entry 1 (A)", "unknown key colour"),
        ([ENTRY, ENTRY | {"date": "2023-03-13"}], "entry 2 (A)", "used twice"),
        ([{"id": "A"}], "entry 1 (A)", "no date"),
        ([{"date": "2023-03-10"}], "entry 1", "no id"),
        ([ENTRY | {"id": 7}], "entry 1", "id is 7"),
        ([ENTRY | {"date": "10.3.23 noon"}], "entry 1 (A)", "date"),
        ([ENTRY | {"date": "2023-03-10 16:00"}], "entry 1 (A)", "plain date"),
        ([ENTRY | {"date": 20230310}], "entry 1 (A)", "not a date"),
        ([ENTRY | {"alternatives": "2023-03-09"}], "entry 1 (A)", "alternatives"),
        ([ENTRY | {"exogenous": "no"}], "entry 1 (A)", "exogenous is 'no'"),
        ([ENTRY | {"strength": True}], "entry 1 (A)", "strength is True"),
        ([ENTRY | {"tickers": ["SIVB", 3]}], "entry 1 (A)", "tickers"),
        ([ENTRY | {"mechanism": "panic"}], "entry 1 (A)", "unknown mechanism"),
        ([ENTRY | {"end": "2023-03-09"}], "A", "end lies before"),
        ([ENTRY | {"split": "train"}], "A", "split is 'train'"),
        ([ENTRY | {"collapse_with": "B"}], "entry 1 (A)", "collapse_with"),
        ([ENTRY | {"collapse_with": "A"}], "entry 1 (A)", "collapse_with"),
        (["A"], "entry 1", "block"),
        ("A", "events", "not a list"),
    ],
)
def test_wrong_entries_name_file_entry_rule_and_remedy(tmp_path, entries, where, rule):
    path = _write(tmp_path / "mine.yaml", entries)
    with pytest.raises(MarketDataError) as caught:
        load_events(path)
    error = caught.value
    assert error.file == str(path) and error.row == where and rule in error.rule and error.remedy


@pytest.mark.parametrize("text", ["events: [", "- id: A", "dates: []", "calendar: MOON\nevents: []"])
def test_wrong_files_are_named(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MarketDataError, match=r"mine\.yaml"):
        load_events(path)
    with pytest.raises(MarketDataError, match=r"absent\.yaml.*cannot be read"):
        load_events(tmp_path / "absent.yaml")


def test_splits_before_and_after_the_study(tmp_path):
    sessions = pd.bdate_range("2016-07-01", "2025-03-31")
    dates = ["2016-09-01", "2017-01-10", "2019-05-07", "2022-06-15", "2024-08-05", "2025-02-03"]
    path = _write(tmp_path / "e.yaml", [{"id": date, "date": date} for date in dates])
    assert load_events(path, sessions)["split"].tolist() == ["outside", "outside", "train", "val", "test", "outside"]


@pytest.mark.parametrize("text", ["", "calendar: XNYS\n", "calendar: XNYS\nevents: []\n"])
def test_a_list_may_be_empty(tmp_path, text, paper_events):
    path = tmp_path / "none.yaml"
    path.write_text(text, encoding="utf-8")
    events = load_events(path, WEEK)
    assert len(events) == 0 and events.dtypes.equals(paper_events.dtypes)
    write_events(events, path)
    assert len(load_events(path, WEEK)) == 0


def test_the_papers_list_survives_a_round_trip(tmp_path, paper_events):
    write_events(paper_events, tmp_path / "a.yaml", calendar="XNYS")
    again = load_events(tmp_path / "a.yaml")
    pd.testing.assert_frame_equal(again, paper_events)
    write_events(again, tmp_path / "b.yaml", calendar="XNYS")
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml", "b.yaml"]


_days = st.sampled_from([day for day in WEEK])
_text = st.text(string.ascii_letters + " :#'é-", min_size=1, max_size=12).filter(str.strip)
_rows = st.fixed_dictionaries(
    {
        "date": _days,
        "alternatives": st.lists(_days, max_size=2),
        "kind": _text,
        "exogenous": st.booleans(),
        "label": _text,
        "mechanism": st.sampled_from(["price_shock", "liquidity", "contagion", "momentum"]),
        "tickers": st.lists(_text, max_size=3),
        "strength": st.floats(-9, 9) | st.just(np.nan),
        "precursor": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(_rows, min_size=1, max_size=4))
def test_any_table_survives_a_round_trip(tmp_path, rows):
    table = pd.DataFrame([{"id": f"S{n}", "end": pd.NaT if n % 2 else row["date"]} | row for n, row in enumerate(rows)])
    table = table.astype({"date": "datetime64[ns]", "end": "datetime64[ns]"})
    write_events(table, tmp_path / "e.yaml")
    again = load_events(tmp_path / "e.yaml", WEEK)[table.columns]
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


def test_a_refused_table_leaves_the_old_file(tmp_path, paper_events):
    path = tmp_path / "e.yaml"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="colour"):
        write_events(paper_events.assign(colour="red"), path)
    assert path.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [path]
