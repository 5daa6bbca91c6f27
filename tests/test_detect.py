"""From detectors to stored runs and from runs to the scoreboard."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import anomaly_routing.detect as detect
from anomaly_routing.baselines.registry import detectors
from anomaly_routing.detect import as_run, plan, run_all
from anomaly_routing.evaluation.protocols import evaluate_daily
from anomaly_routing.evaluation.summary import over_seeds
from anomaly_routing.features.panel import build_panel, compute_features, fit_scaler
from anomaly_routing.panel import Splits
from anomaly_routing.paths import MarketPaths
from anomaly_routing.readme import (
    END,
    START,
    SUMMARY_END,
    SUMMARY_START,
    TIMES_END,
    TIMES_START,
    headline,
    with_headline,
)
from anomaly_routing.runs import RunStore, read_meta, read_run
from anomaly_routing.scoreboard import board, by_aggregation, collect, evaluate_runs
from anomaly_routing.table1 import COSTS, home_clause, read_costs, table1
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


def test_plan_takes_the_detectors_of_one_stage(panel):
    default, model = plan(panel, [0, 1], {}), plan(panel, [0, 1], {"epochs": 1}, stage="model")
    assert set(model["method"]) == {"intended", "literal"} and set(model["family"]) == {"full model"}
    assert not set(model["method"]) & set(default["method"])
    assert {detectors()[name].stage for name in default["method"]} == {"baselines"}
    rows = model.set_index("method")
    assert list(rows.loc["intended", "seed"]) == [0, 1] and rows.loc["literal", "seed"] == 0  # it looks ahead
    assert set(rows["reason"]) == {"the panel has no prior graph"}
    assert rows["params"].iloc[0] == {"epochs": 1}


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


def test_prices_cannot_be_read_back_from_stored_runs(panel, tmp_path):
    """The real panel stays out of the repository: no stored array follows a raw series."""
    rng = np.random.default_rng(0)
    vix = pd.Series(20 * np.exp(0.05 * np.cumsum(rng.standard_normal(len(panel.sessions)))), index=panel.sessions)
    whole = type(panel)(**{**panel.__dict__, "benchmarks": pd.DataFrame({"^VIX": vix})})
    everything = plan(whole, [0], {"epochs": 1, "max_rows": 300, "n_estimators": 10})
    keys = run_all(whole, SPLITS, RunStore(tmp_path), everything, "m", "hash", "quick", keep_stocks=True)
    raw = np.abs(whole.returns)
    for key in keys:
        run = RunStore(tmp_path).load(key)
        if len(run.score_sessions):
            rows = whole.sessions.get_indexer(run.score_sessions)
            both = np.isfinite(run.score) & np.isfinite(raw[rows])
            mine, theirs = run.score[both], raw[rows][both]
            assert np.ptp(mine) == 0 or abs(np.corrcoef(mine, theirs)[0, 1]) < 0.95, key.method
        if key.method == "lagged_vix":
            assert set(run.daily["mean"] * 2 % 1) == {0.0}  # ranks
            order = np.argsort(vix.shift(1).reindex(run.daily.index).to_numpy())
            assert (np.diff(run.daily["mean"].to_numpy()[order]) >= 0).all()


def test_no_causal_run_sees_past_the_training_span(panel, tmp_path):
    """Every row after the training span is replaced: no causal daily score up to its end moves. In-sample modes do."""
    late = panel.sessions > pd.Timestamp(SPLITS.train_end)
    changed = type(panel)(**{
        **panel.__dict__,
        "returns": np.where(late[:, None], -3 * panel.returns + 0.01, panel.returns),
        "log_volume": np.where(late[:, None], panel.log_volume * 0.5 + 3, panel.log_volume),
        "x": np.where(late[:, None, None], -panel.x + 2, panel.x),
    })  # fmt: skip
    everything = plan(panel, [0], {"epochs": 1, "max_rows": 200, "n_estimators": 10, "draws": 2})
    stores = [RunStore(tmp_path / name) for name in ("before", "after")]
    moved = {}
    for store, version in zip(stores, (panel, changed), strict=True):
        run_all(version, SPLITS, store, everything, "m", "hash", "quick", keep_stocks=True)
    for first, second in zip(*(s.current() for s in stores), strict=True):
        key = read_meta(first)["key"]
        a, b = (read_run(path).daily["mean"].loc[: SPLITS.train_end] for path in (first, second))
        moved[key["method"], key["variant"]] = not a.equals(b)
    assert {m for (m, mode), changed_ in moved.items() if mode == "causal" and changed_} == set()
    assert moved["zscore", "chapter"] and moved["isolation_forest", "chapter"]
    assert len(moved) > 30


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
    assert {"hits", "by chance", "p", "p, test", "p, test collapsed", "alarm days", "AUC", "AP"} <= set(table.columns)
    assert len(runs) == 6


def test_the_scoreboard_holds_what_the_evaluator_says_of_the_mean(scored):
    _, runs, events, methods = scored
    path = runs[runs["label"] == "zscore"]["path"].iloc[0]
    direct = evaluate_daily(read_run(path).daily["mean"], events, splits=SPLITS)
    for protocol in ("paper", "matched"):
        line = direct[protocol]
        row = board(methods, protocol).set_index("method").loc["zscore"]
        expected = {
            "hits": "hits", "by chance": "expected_hits_by_chance", "p": "chance_p", "hits, test": "hits_test",
            "p, test": "chance_p_test", "p, test collapsed": "chance_p_test_march_collapsed",
            "median lead": "lead_median",
            "alarm days": "alarm_rate_test", "alarm days, val": "alarm_rate_val", "AUC": "auc", "AP": "ap",
        }  # fmt: skip
        for column, key in expected.items():
            ours, theirs = row[column], line[key]
            assert ours == theirs or (pd.isna(ours) and theirs is None), column
    other = evaluate_daily(read_run(path).daily["max"], events, splits=SPLITS)
    assert other["paper"]["auc"] != direct["paper"]["auc"]  # the two statistics can be told apart here


def test_other_aggregations(scored):
    _, runs, events, _ = scored
    table = by_aggregation(runs, events, SPLITS).set_index("method")
    assert "zscore [chapter]" not in table.index
    daily = read_run(runs[runs["label"] == "zscore"]["path"].iloc[0]).daily["share"]
    test = SPLITS.test(daily.index)
    assert table.loc["zscore", "alarm days, any"] == (daily[test] > 0).mean()
    assert table.loc["zscore", "alarm days, any"] > table.loc["zscore", "alarm days, mean"]


def test_runs_of_other_data_are_refused(panel, planned, scored):
    paths = scored[0]
    store = RunStore(paths.runs("other"))
    run_all(panel, SPLITS, store, planned[planned["method"] == "null"], "m", "another hash", "quick")
    with pytest.raises(ValueError, match="different data"):
        collect(paths)
    (store.folder / "index.json").unlink()
    assert len(collect(paths)) == 6


def test_the_median_seed_speaks_for_all():
    def line(hits, auc, hit, p):
        return {"paper": {"hits": hits, "auc": auc, "chance_p": p, "per_event": {"a": {"hit": hit, "lead": 2}}}}

    lines = [line(6, 0.5, True, 0.5), line(3, 0.9, False, 0.3), line(4, 0.7, True, None), line(4, 0.6, None, 0.01)]
    merged = over_seeds(lines, [7, 8, 9, 10])["paper"]
    assert (merged["hits"], merged["seed"]) == (4, 10)  # 3, 4, 4, 6: the lower middle
    assert merged["chance_p"] == 0.3 and merged["per_seed"]["chance_p"] == [0.5, 0.3, None, 0.01]  # not that seed's own
    assert merged["per_event"]["a"]["hit_share"] == pytest.approx(2 / 3)
    assert merged["per_seed"]["hits"] == [6, 3, 4, 4] and merged["per_seed"]["seed"] == [7, 8, 9, 10]
    with pytest.raises(ValueError, match="0 results"):
        over_seeds([], [])


def test_headline_is_made_from_metrics(scored):
    methods = scored[3]
    metrics = {"market": "m", "n_events": 3, "test_sessions": 100, "methods": methods}
    claims = {"T1.lstm_ae.hits": 6, "T1.lstm_ae.lead": 1.5}
    table = table1(methods, claims, {"random": dict(zip(COSTS, (12.34, 0.5, 1.0), strict=False))})
    text = headline(metrics, table)
    assert text.count("| *null (1)* | 0/3 |") == 2 and "zscore" not in text
    found = methods["random"]["matched"]
    hits, chances = found["per_seed"]["hits"], sorted(f"{p:.2f}" for p in found["per_seed"]["chance_p"])
    matched = f"| {found['hits']}/3 ({min(hits)}-{max(hits)}) | {found['hits_low']:.0f}-{found['hits_high']:.0f} |"
    line = next(line for line in text.split("matched allowance")[1].splitlines() if "*random" in line)
    assert f"| {found['chance_p']:.2f} ({chances[0]}-{chances[-1]}) |" in line
    assert matched in line and line.endswith("| 12.3 | 0.5 | 1 |  |  |")
    assert next(line for line in text.splitlines()[::-1] if "*null" in line).endswith("|  |  |  |  |")
    assert text.count("| lstm_ae | not run |") == 2 and "| LSTM-AE |" not in text
    claimed = headline(metrics | {"market": "us100"}, table)
    assert "| LSTM-AE | lstm_ae | 6 | not run |" in claimed
    for said in (text, claimed):
        tables = [part.splitlines() for part in said.split("\n\n") if part.startswith("|")]
        assert len(tables) == 2 and len(tables[0]) == len(tables[1]) == len(table) + 2
        assert all(len({line.count("|") for line in lines}) == 1 for lines in tables)


def test_costs_of_a_market_are_those_that_were_measured_on_it(tmp_path):
    assert read_costs(tmp_path / "costs.json", "m") == {}
    old = {"method": "cola", "epoch_seconds": 2.0, "peak_gib": 1.5}
    new = {"method": "tranad", "fit_seconds": 60.5, "session_milliseconds": 0.25}
    new |= {"fit_gib": 1.5, "session_gib": 0.4, "score_gib": 0.5}
    (tmp_path / "costs.json").write_text(json.dumps({"market": "m", "rows": [old, new]}))
    found = read_costs(tmp_path / "costs.json", "m")
    assert found["tranad"] == dict(zip(COSTS, (60.5, 0.25, 1.5, 0.4, 0.5), strict=True))
    assert set(found["cola"].values()) == {None} and read_costs(tmp_path / "costs.json", "other") == {}


def test_table_one_has_the_papers_rows_in_their_order_and_says_what_was_not_run(scored):
    methods = scored[3]
    table = table1(methods, {"T1.ours.hits": 12}, {"random": {"seconds": 12.3}})
    rows = [row for row in table["row of the paper"] if row]
    assert rows[0] == "LSTM-AE" and rows.count("GHRN") == rows.count("Full model") == 2 and len(set(rows)) == 13
    assert table.loc[table["row of the paper"] == "Full model, one channel", "method"].tolist() == [
        "intended -MPI",
        "literal -MPI",
    ]
    assert set(table.loc[table["status"] == "not run", "method"]) == set(table["method"]) - set(methods)
    line = table.set_index("method").loc["random"]
    assert line["seconds"] == 12.3 and line["paper: hits"] == methods["random"]["paper"]["hits"]
    for name in ("paper: hits", "matched: hits", "matched: p, test"):
        own = methods["random"][name.split(":")[0]]["per_seed"][{"h": "hits", "p": "chance_p_test"}[name.split()[1][0]]]
        assert (line[f"{name}, lowest seed"], line[f"{name}, highest seed"]) == (min(own), max(own))
        assert min(own) <= line[name] <= max(own)
    assert table.set_index("method").loc["intended", "the paper: hits"] == 12
    second = methods["random"] | {"paper": methods["random"]["paper"] | {"hits": 99}}
    again = table1(methods | {"random +MPI": second}, {}, {}).set_index("method")
    assert again.loc["random", "paper +MPI: hits"] == 99 and again.loc["random", "paper: hits"] == line["paper: hits"]


def test_a_readme_keeps_what_stands_outside_its_markers():
    summary = f"{SUMMARY_START}\noldest\n{SUMMARY_END}"
    readme = f"before\n{summary}\n{START}\nold\n{END}\n{TIMES_START}\nolder\n{TIMES_END}\nafter"
    written = with_headline(readme, ROOT)
    assert written.startswith("before") and written.endswith("after") and "\nold\n" not in written
    assert "\nolder\n" not in written and "\noldest\n" not in written and "make reproduce" in written


def test_home_figures_stand_beside_the_lowest_published():
    def row(detector: str, ours: list[float], published: object, measure: str = "AUC") -> dict:
        return {"detector": detector, "ours": ours, "published": published, "measure": measure}

    rows = [row("gcn_ae", [0.7, 0.75, 0.71], 0.77), row("cola", [0.87, 0.9], [0.88, 0.89]), row("gat_ae", [0.99], None)]
    rows += [row("dominant", [0.9], 0.8), row("dominant", [0.7], None, "AUC, as on the panel"), row("rank", [0.1], 0.9)]
    rows += [row("anomaly_dae", [0.5], [0.6, 0.65]), row("anomaly_dae", [0.62], 0.61)]
    told = home_clause(rows)
    assert told.startswith("GCN-AE 0.71 (0.77), CoLA 0.89 (0.88), GAT-AE 0.99 (none), DOMINANT 0.70 (0.80, of another")
    assert told.endswith("form), AnomalyDAE 0.50 to 0.62 (0.60)")
