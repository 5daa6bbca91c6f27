"""What the page shows of a table is what its columns say; seeds that are equal stand side by side in the picture."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from anomaly_routing.ablation_view import compact, draw_rates, inventory
from anomaly_routing.ablations import COLUMNS, INTERFACE, NOT_RUN, RUN, table


def line(hits: int, p: float = 0.2, lookahead: bool = False, matched: int | None = 3) -> dict:
    """Of `judge`, what a table reads."""
    own = {"hits": hits, "n_events": 13, "lead": 2.5, "alarm_rate": 0.0637, "chance": 2.75, "p": p, "n_test": 9}
    own |= {
        "hits_test": hits - 1,
        "p_test": p / 2,
        "hits_val": 1,
        "n_val": 4,
        "recall": 0.25,
        "auc": 0.6,
        "auc_val": 0.625,
    }
    return {"paper": own | {"lookahead": lookahead}, "matched": own | {"hits_test": matched, "alarm_rate": 0.05}}


@pytest.fixture
def rows() -> pd.DataFrame:
    lines = {
        "narrow": {"full": {0: line(7), 1: line(7), 2: line(5)}, "tail": {0: line(4, lookahead=True)}, "none": {}},
        "cpu": {"full": {0: line(6, matched=None)}, "tail": {}, "none": {}},
    }
    claims = {"T2.full.rate": 92.3, "T2.full.lead": 3.8, "T2.none.rate": 61.5}
    return table([(f"T2.{name}", name) for name in ("full", "tail", "none")], lines, claims)


def test_every_column_of_the_page_is_one_of_the_file(rows):
    page = compact(rows)
    assert page.variant.tolist() == ["full", "tail", "none", "full"] and page.tier.tolist() == ["narrow"] * 3 + ["cpu"]
    assert page.hits.tolist() == ["7/13 (5-7)", "4/13", NOT_RUN, "6/13"]
    assert page["look-ahead"].tolist()[1] == "yes" and page["look-ahead"].isna().sum() == 3
    assert page["alarm days"].tolist()[:2] == ["6.4%", "6.4%"] and page["matched: alarm days"].tolist()[0] == "5.0%"
    assert page["test hits"].tolist()[:2] == ["6/9", "3/9"]
    assert page["matched: test hits"].tolist()[0] == "3/9" and pd.isna(page["matched: test hits"].iloc[3])
    assert page["paper, %"].tolist()[0] == 92.3 and page["p, test"].tolist()[0] == pytest.approx(0.1)
    four = compact(rows, companions=True)
    assert four.claim.tolist()[0] == "T2.full" and four["val hits"].tolist()[0] == "1/4"
    assert four.auc_val.tolist()[0] == 0.625 and "test hits" not in four


def test_a_table_without_a_run_has_all_its_columns():
    empty = table([("T2.full", "full")], {"narrow": {"full": {}}}, {"T2.full.rate": 92.3})
    assert empty.columns.tolist() == COLUMNS and COLUMNS[: len(INTERFACE)] == INTERFACE
    assert compact(empty).to_dict("records") == [
        {"variant": "full", "tier": "narrow", "seeds": 0, "paper, %": 92.3, "hits": NOT_RUN}
    ]
    assert compact(empty[empty.status == RUN]).empty


def test_the_runs_by_tier():
    runs = pd.DataFrame(
        {"variant": ["full", "full", "no_moe", "full"], "seed": [0, 1, 0, 0], "epochs": [20, 20, 7, 30]}
    )
    runs = runs.assign(tier=["narrow"] * 3 + ["cpu"], device="cpu", minutes=[10.0, 30.0, 2.0, 75.0])
    runs = runs.assign(bytes=[9000, 11000, 13000, 300000])
    runs["stopped by"] = ["cap", "cap", "patience", "cap"]
    found = inventory(runs).set_index("tier")
    assert found.index.tolist() == ["narrow", "cpu"] and found.runs.tolist() == [3, 1]
    assert found.trainings.tolist() == [2, 1] and found.seeds.tolist() == ["0, 1", "0"]
    assert found["ended at the cap"].tolist() == [2, 1] and found["minutes, median"].tolist() == [10.0, 75.0]
    assert found["kB of a run, median"].tolist() == [11.0, 300.0] and inventory(runs.iloc[:0]).empty


def test_equal_seeds_stand_side_by_side():
    lines = {"full": {k: line(7) for k in range(3)}, "tail": {0: line(4)}, "none": {}}
    rows = table([(f"T2.{name}", name) for name in lines], {"narrow": lines}, {})
    fig, ax = plt.subplots()
    draw_rates(ax, rows, lines)
    dots = [drawn for drawn in ax.lines if drawn.get_marker() == "o" and len(drawn.get_xdata())]
    places = [sorted(zip(drawn.get_xdata(), drawn.get_ydata(), strict=True)) for drawn in dots]
    plt.close(fig)
    assert [len(set(of)) for of in places] == [3, 1]
    assert {x for x, _ in places[0]} == {100 * 7 / 13} and max(abs(y - 2) for _, y in places[0]) < 0.5
