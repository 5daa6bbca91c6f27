"""The universe table: flags, aliases, optional columns."""

from __future__ import annotations

import pandas as pd
import pytest

from anomaly_routing.data.tables import Table
from anomaly_routing.data.universe import GICS_SECTORS, parse_universe
from anomaly_routing.errors import MarketDataError


def table(frame: pd.DataFrame, is_text: bool = False) -> Table:
    return Table(frame.set_axis(range(1, len(frame) + 1)), "universe.csv", is_text)


def test_there_are_eleven_sectors():
    assert len(set(GICS_SECTORS)) == 11


@pytest.mark.parametrize(
    ("cells", "is_text"),
    [
        ([True, False, True], False),
        ([1, 0, 1], False),
        ([1.0, 0.0, 1.0], False),
        (["True", "False", "TRUE"], True),
        (["yes", " no ", "Yes"], True),
        (["1", "0", "1.0"], True),
    ],
)
def test_bank_flags(cells, is_text, universe):
    parsed, _ = parse_universe(table(universe.assign(is_bank=cells), is_text), GICS_SECTORS)
    assert parsed["is_bank"].tolist() == [True, False, True]
    assert parsed["is_bank"].dtype == bool


@pytest.mark.parametrize("cell", ["", "maybe", "2", None])
def test_a_flag_is_true_or_false(cell, universe):
    flags = pd.Series([True, cell, False], dtype="object")
    with pytest.raises(MarketDataError, match=r"universe.csv: row 2 \(BBB\): is_bank is .*true or false"):
        parse_universe(table(universe.assign(is_bank=flags)), GICS_SECTORS)


def test_selection_keeps_rows_and_knows_all_tickers(universe):
    parsed, known = parse_universe(table(universe.assign(chosen=[False, True, True])), GICS_SECTORS, "chosen")
    assert parsed["ticker"].tolist() == ["BBB", "CCC"]
    assert parsed.index.tolist() == [2, 3]  # rows of the file
    assert known == {"AAA", "BBB", "CCC"}


def test_a_duplicate_is_refused_even_where_it_is_not_selected(universe):
    twice = pd.concat([universe, universe.iloc[[1]]]).assign(chosen=[True, False, True, False])
    with pytest.raises(MarketDataError, match=r"row 4 \(BBB\): the ticker has two rows"):
        parse_universe(table(twice), GICS_SECTORS, "chosen")


def test_the_head_office_is_kept_as_printed(universe):
    parsed, _ = parse_universe(table(universe.assign(hq_state=["United Kingdom", "D.C.", None])), GICS_SECTORS)
    assert parsed["hq_state"].tolist() == ["United Kingdom", "D.C.", ""]


def test_shares_may_be_unknown_for_some(universe):
    parsed, _ = parse_universe(table(universe.assign(shares_outstanding=[1e9, None, 2e9])), GICS_SECTORS)
    assert parsed["shares_outstanding"].isna().tolist() == [False, True, False]


@pytest.mark.real_data
def test_the_real_universe(us100_folder):
    raw = pd.read_csv(us100_folder / "universe.csv")
    parsed, known = parse_universe(table(raw), GICS_SECTORS, "in_us100")
    assert len(known) == 145
    # SPEC 1: 29 banks are the whole Financials sector, then 15, 10, 10, 8, 8, 6, 6, 3, 3, 2
    assert sorted(parsed["sector"].value_counts(), reverse=True) == [29, 15, 10, 10, 8, 8, 6, 6, 3, 3, 2]
    assert (parsed["sector"] == "Financials").equals(parsed["is_bank"])
