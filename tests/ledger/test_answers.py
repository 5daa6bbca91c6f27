"""What a stage decides itself survives being written and read."""

from __future__ import annotations

import pandas as pd
import pytest

from anomaly_routing.files import write_csv
from anomaly_routing.ledger.answers import ANSWERS, answers_table, read_answers
from anomaly_routing.ledger.intervals import over_stocks
from anomaly_routing.ledger.verdict import Finding

FOUND = {
    "a.check": Finding(False, "holds", part=0.5, n_seeds=5, tier="quick", note="half of them, so to say"),
    "a.direction": Finding(0.25, "direction", low=-0.5, high=1.0, chance_p=0.2),
    "a.count": Finding(3, "exact", built=True),
    "a.mean": Finding(0.5, low=0.25, high=0.75, ranged=True, by_seed=(0.25, 0.75), n_seeds=2, tier="cpu"),
}


def test_findings_come_back_as_they_were(tmp_path):
    table = answers_table(FOUND)
    assert set(table.columns) <= set(ANSWERS) and "protocol" not in table  # no finding fills it
    write_csv(tmp_path / "claims.csv", table)
    assert read_answers(tmp_path / "claims.csv") == FOUND
    assert ",5," in (tmp_path / "claims.csv").read_text()  # a count of seeds is no decimal


def test_checks_only(tmp_path):
    write_csv(tmp_path / "claims.csv", answers_table({"a": Finding(True, "holds")}))
    assert read_answers(tmp_path / "claims.csv") == {"a": Finding(True, "holds")}


def test_a_foreign_column_is_refused(tmp_path):
    pd.DataFrame({"id": ["a"], "verdict": ["match"]}).to_csv(tmp_path / "claims.csv", index=False)
    with pytest.raises(ValueError, match="unknown columns verdict"):
        read_answers(tmp_path / "claims.csv")


def test_the_interval_over_stocks_holds_the_mean():
    value, low, high = over_stocks([1.0, 2.0, 3.0, 4.0])
    assert value == 2.5 and 1 < low < value < high < 4
    assert over_stocks([2.0, 2.0]) == (2.0, 2.0, 2.0)
