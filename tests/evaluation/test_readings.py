"""The quick counts agree with the full evaluator wherever both say something."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from anomaly_routing.evaluation import evaluate_daily
from anomaly_routing.evaluation.readings import (
    count_hits,
    of_split,
    raise_alarms,
    smooth_companions,
)
from anomaly_routing.panel import Splits

SESSIONS = pd.bdate_range("2020-01-01", periods=1100)
SPLITS = Splits(*(f"{SESSIONS[k]:%Y-%m-%d}" for k in (0, 299, 599, 1099)))
AT = (330, 460, 610, 700, 705, 820, 990)


@pytest.fixture(params=[0, 1, 2])
def scores(request) -> pd.DataFrame:
    values = np.random.default_rng(request.param).normal(size=(len(SESSIONS), 2)).cumsum(axis=0) * 0.1
    noise = np.random.default_rng(request.param + 9).normal(size=values.shape)
    return pd.DataFrame(values + noise, index=SESSIONS, columns=["I", "M"])


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    alternatives = [[SESSIONS[k + 8], SESSIONS[k - 12]] if k in (330, 820) else [] for k in AT]
    return pd.DataFrame({"id": [f"E{k}" for k in AT], "date": SESSIONS[list(AT)], "alternatives": alternatives})


def test_validation_cuts_windows_and_dates(scores, events):
    line, alarms = evaluate_daily(scores, events, splits=SPLITS)["paper"], raise_alarms(scores, events, SPLITS)
    found = count_hits(alarms)
    assert (found["hits"], found["n_events"]) == (line["hits"], line["n_events"]) == (line["hits"], len(AT))
    assert found["lead"] == line["lead_median"] and alarms.rate == line["alarm_rate_test"]
    assert {e: v["hit"] for e, v in line["per_event"].items()} == {e: v["hit"] for e, v in found["per_event"].items()}
    for window in ("calendar_5", "with_event", "lookback_10"):
        assert count_hits(alarms, window)["hits"] == line["variants"][window]["hits"]
    assert count_hits(alarms, dates="least lucky")["hits"] == line["hits_min"]
    assert count_hits(alarms, dates="luckiest")["hits"] == line["hits_max"]
    for split in ("val", "test"):
        assert count_hits(of_split(alarms, split))["hits"] == line[f"hits_{split}"]


def test_other_cuts(scores, events):
    lines = evaluate_daily(scores, events, splits=SPLITS)
    shared = raise_alarms(scores, events, SPLITS, "shared budget")
    assert count_hits(shared)["hits"] == lines["paper"]["variants"]["or_budget"]["hits"]
    assert shared.rate == lines["paper"]["variants"]["or_budget"]["alarm_rate_test"]
    matched = raise_alarms(scores, events, SPLITS, "matched")
    assert count_hits(matched)["hits"] == lines["matched"]["hits"]
    assert matched.rate == lines["matched"]["alarm_rate_test"]
    late = raise_alarms(scores[300:], events, SPLITS, "matched")  # too little past for the validation events
    assert count_hits(late)["n_events"] == 5 and count_hits(late)["per_event"]["E460"]["hit"] is None
    assert count_hits(late, dates="luckiest")["n_events"] == 5


def test_a_fixed_cut_is_that_of_its_channel_alone(scores, events):
    line = evaluate_daily(scores["I"], events, splits=SPLITS, cuts={"I": 0.3})["paper"]
    alarms = raise_alarms(scores["I"], events, SPLITS, fixed={"I": 0.3})
    assert count_hits(alarms)["hits"] == line["hits"] and alarms.rate == line["alarm_rate_test"]
    never = raise_alarms(scores, events, SPLITS, fixed={"I": np.inf})
    assert np.array_equal(never.alarm, raise_alarms(scores["M"], events, SPLITS).alarm)


def test_the_smooth_companions_count_sessions(scores, events):
    alarms = raise_alarms(scores, events, SPLITS)
    got = smooth_companions(alarms, scores["M"])
    inside = sorted({k - d for k in AT for d in range(1, 6)})
    assert got["recall"] == np.mean([alarms.alarm[k] for k in inside])
    labels = [k in inside for k in range(300, 600)]
    assert got["auc_val"] == roc_auc_score(labels, scores["M"][300:600])
    assert not np.isclose(got["auc_val"], smooth_companions(alarms, -scores["M"])["auc_val"])


def test_what_does_not_exist_is_refused(scores, events):
    with pytest.raises(ValueError, match="use one of validation, shared budget, matched"):
        raise_alarms(scores, events, SPLITS, "P95")
    with pytest.raises(ValueError, match="the last without fixed"):
        raise_alarms(scores, events, SPLITS, "matched", {"I": 1.0})
    with pytest.raises(ValueError, match="use one of primary, least lucky, luckiest"):
        count_hits(raise_alarms(scores, events, SPLITS), dates="best")
