"""From detectors to stored runs and from runs to the scoreboard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import anomaly_routing.detect as detect
from anomaly_routing.detect import as_run, plan, run_all
from anomaly_routing.evaluation.summary import over_seeds
from anomaly_routing.features.panel import build_panel, compute_features, fit_scaler
from anomaly_routing.panel import Splits
from anomaly_routing.paths import MarketPaths
from anomaly_routing.readme import END, START, headline, with_headline
from anomaly_routing.runs import RunStore
from anomaly_routing.scoreboard import board, collect, evaluate_runs
from tests.conftest import ROOT
from tests.markets import random_prices, universe

SPLITS = Splits("2020-01-01", "2020-09-30", "2021-09-30", "2022-02-28")
CHEAP = ["null", "random", "zscore", "lagged_volatility", "lagged_vix"]


@pytest.fixture(scope="module")
def panel():
    prices, members = random_prices(days=560), universe()
    features = compute_features(prices, members)
    train = SPLITS.train(pd.DatetimeIndex(features["session"].to_numpy()))
    return build_panel(features, fit_scaler(features, train, members["sector"].to_numpy(object)), prices, members)


@pytest.fixture(scope="module")
def planned(panel):
    everything = plan(panel, [4, 5], {"epochs": 1})
    return everything[everything["method"].isin(CHEAP)].reset_index(drop=True)


def test_plan_runs_what_can_run_and_says_why_the_rest_cannot(panel, planned):
    counts = planned.groupby(["method", "mode"]).size()
    assert counts["random", "causal"] == 2 and counts["null", "causal"] == 1  # seeds only where they matter
    assert counts["zscore", "chapter"] == 1 == counts["zscore", "causal"]
    assert planned.set_index("method").loc["lagged_vix", "reason"] == "the panel has no benchmark ^VIX"
    assert "epochs" in plan(panel, [0], {"epochs": 1}).set_index("method").loc["vae", "params"].iloc[0]


def test_an_interrupted_sweep_goes_on_where_it_stopped(panel, planned, tmp_path, monkeypatch):
    store, made, real = RunStore(tmp_path), [], detect.create

    def counting(name, *args, **kwargs):
        if len(made) == 2 and not counting.resumed:
            raise KeyboardInterrupt
        made.append(name)
        return real(name, *args, **kwargs)

    counting.resumed = False
    monkeypatch.setattr(detect, "create", counting)
    with pytest.raises(KeyboardInterrupt):
        run_all(panel, SPLITS, store, planned, "m", "hash", "quick")
    assert len(list(tmp_path.glob("*.npz"))) == 2 and store.current() == []
    counting.resumed = True
    keys = run_all(panel, SPLITS, store, planned, "m", "hash", "quick")
    assert len(made) == len(keys) == 6  # the two finished ones were not made again
    assert set(store.current()) == {store.path(k) for k in keys}


def test_daily_series_are_those_of_a_plain_loop(panel):
    score = np.random.default_rng(1).random(panel.active.shape).astype(np.float32)
    run = as_run(score, panel, SPLITS, {})
    val = SPLITS.val(panel.sessions)
    cut = np.quantile(score[val][panel.active[val]].astype(float), 0.95)
    for day in (60, 300, 500):
        row, active = score[day].astype(float), panel.active[day]
        expected = [
            row[active].mean(),
            row[active].max(),
            row[active & panel.is_bank].mean(),
            (row[active] > cut).mean(),
        ]
        np.testing.assert_allclose(
            run.daily.loc[panel.sessions[day], ["mean", "max", "banks", "share"]], expected, rtol=1e-6
        )
    assert len(run.daily) == SPLITS.scored(panel.sessions).sum()
    assert (run.score_sessions > pd.Timestamp(SPLITS.train_end)).all()


def test_no_run_looks_ahead(panel, tmp_path):
    """Altering the test span moves no causal daily score before it (the chapter's in-sample modes do move)."""
    late = SPLITS.test(panel.sessions)
    other = np.where(late[:, None], -3 * panel.returns + 0.01, panel.returns)
    changed = type(panel)(**{**panel.__dict__, "returns": other, "x": np.where(late[:, None, None], 7.0, panel.x)})
    moved = {}
    for name in ("zscore",):
        for mode in ("causal", "chapter"):
            before, after = (
                as_run(
                    detect.create(name, mode).fit(p, SPLITS.train(p.sessions)).decision_function(p), p, SPLITS, {}
                ).daily["mean"]
                for p in (panel, changed)
            )
            head = before.index <= pd.Timestamp(SPLITS.val_end)
            moved[mode] = np.abs(before - after)[head].max()
    assert moved["causal"] == 0 and moved["chapter"] > 0


@pytest.fixture(scope="module")
def scored(panel, planned, tmp_path_factory):
    paths = MarketPaths("m", tmp_path_factory.mktemp("root"))
    run_all(panel, SPLITS, RunStore(paths.runs("baselines")), planned, "m", "hash", "quick")
    days = panel.sessions[SPLITS.test(panel.sessions)]
    events = pd.DataFrame({"id": ["a", "b", "c"], "date": days[[20, 50, 80]]})
    runs = collect(paths)
    return paths, runs, events, evaluate_runs(runs, events, SPLITS)


def test_scoreboard(scored):
    _, runs, _, methods = scored
    assert set(methods) == {"null", "random", "zscore", "zscore [chapter]", "lagged_volatility"}
    assert methods["random"]["n_seeds"] == 2 and methods["random"]["seeds"] == [4, 5]
    assert methods["zscore [chapter]"]["lookahead"] and not methods["zscore"]["lookahead"]
    table = board(methods, "matched")
    assert table["method"].iloc[-1] == "zscore [chapter]"  # what looks ahead stands last
    assert table.set_index("method").loc["null", "hits"] == 0
    assert {"hits", "by chance", "chance p", "alarm days", "AUC", "AP"} <= set(table.columns)
    assert len(runs) == 6


def test_runs_of_other_data_are_refused(panel, planned, scored):
    paths = scored[0]
    store = RunStore(paths.runs("other"))
    run_all(panel, SPLITS, store, planned[planned["method"] == "null"], "m", "another hash", "quick")
    with pytest.raises(ValueError, match="different data"):
        collect(paths)
    (store.folder / "index.json").unlink()
    assert len(collect(paths)) == 6


def test_over_seeds_by_hand():
    one = {
        "paper": {"hits": 3, "auc": 0.5, "per_event": {"a": {"hit": True, "lead": 2}}, "shares": [0.1, 0.9], "t": "x"}
    }
    two = {
        "paper": {
            "hits": 6,
            "auc": None,
            "per_event": {"a": {"hit": False, "lead": None}},
            "shares": [0.3, 0.7],
            "t": "y",
        }
    }
    merged = over_seeds([one, two])["paper"]
    assert merged["hits"] == 4.5 and merged["auc"] == 0.5 and merged["per_event"]["a"] == {"hit": 0.5, "lead": 2.0}
    assert merged["shares"] == pytest.approx([0.2, 0.8]) and merged["t"] is None
    assert merged["per_seed"]["hits"] == [3, 6]
    with pytest.raises(ValueError, match="no result"):
        over_seeds([])


def test_headline_is_made_from_metrics(scored):
    metrics = {
        "market": "m", "n_events": 3, "test_sessions": 100, "methods": scored[3],
        "paper_claim": {"hits": 12, "n_events": 13, "status": "not run"},
    }  # fmt: skip
    text = headline(metrics)
    assert "| null | trivial | 0 / 3 |" in text and "zscore [chapter]" not in text
    assert "as claimed" not in text and "as claimed" in headline(metrics | {"market": "us100"})
    readme = f"before\n{START}\nold\n{END}\nafter"
    written = with_headline(readme, ROOT)
    assert written.startswith("before") and written.endswith("after") and "\nold\n" not in written
