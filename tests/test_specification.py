"""The specification curve and the index of the flags, on a stored run that keeps everything."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from anomaly_routing.ablations import differences, judge, judge_all, missing, table
from anomaly_routing.dispatch import Task
from anomaly_routing.evaluation import evaluate_daily
from anomaly_routing.evaluation.thresholds import BUDGETS
from anomaly_routing.model.config import make_config
from anomaly_routing.model.pressure_index import components, pressure_index
from anomaly_routing.panel import Splits
from anomaly_routing.runs import Run, RunKey, RunStore, read_run
from anomaly_routing.specification import ONE, curve_models, specification_curve
from anomaly_routing.sweep import tasks
from anomaly_routing.variants import read_catalogue
from tests.conftest import ROOT
from tests.model.small_networks import small_tensors


def models_of(catalogue, *rows) -> pd.DataFrame:
    """rows : model, seed, path, name of the variant."""
    columns = ["model", "seed", "tier", "path", "variant"]
    return pd.DataFrame([(m, s, "narrow", path, catalogue.variants[v]) for m, s, path, v in rows], columns=columns)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A stored run that keeps everything, on a market with a year of past: random, the same under both stop rules."""
    tensors, rng = small_tensors(), np.random.default_rng(5)
    sessions = pd.bdate_range("2020-01-01", periods=700)
    splits = Splits(*(f"{sessions[k]:%Y-%m-%d}" for k in (0, 299, 449, 699)))
    n = len(tensors.tickers)
    score = rng.random((400, n)).astype(np.float16).astype(np.float32)
    score[:, 0] = np.nan
    routing = rng.dirichlet(np.ones(4), (700, n))
    all_scores = np.vstack([rng.random((300, n)), score])
    active, psi = np.isfinite(all_scores), rng.random(700)
    daily = {}
    for key in (None, "mpi_c3", "mpi_c4"):
        config = make_config("intended", **({key: "std"} if key else {}))
        parts = components(all_scores, active, routing, psi, 0.9, config)
        daily[key or "mpi"] = pressure_index(parts)
        daily |= {} if key else {"dispersion": parts[:, 2], "consensus": parts[:, 3], "share": parts[:, 0]}
    daily |= {"mean": np.nanmean(all_scores, 1), "max": np.nanmax(all_scores, 1)}
    daily["banks"] = np.nanmean(np.where(tensors.is_bank, all_scores, np.nan), 1)
    series = pd.DataFrame(daily, index=sessions)
    series = pd.concat([series, series.add_suffix("@val")], axis=1)
    info = {"theta_s_tail": 0.9, "lookahead": False, "tier": "cpu",
            "channels": {"paper": {"I": "mean@val", "M": "mpi@val"}, "matched": {"I": "mean", "M": "mpi"}}}  # fmt: skip
    run = Run(score, sessions[300:], list(tensors.tickers), series, info)
    events = pd.DataFrame({"id": [f"E{k}" for k in (330, 400, 470, 520, 560, 610, 680)]})
    events["date"] = [sessions[int(name[1:])] for name in events.id]
    events["alternatives"] = [[sessions[int(name[1:]) + 9]] if name in ("E400", "E520") else [] for name in events.id]
    market = SimpleNamespace(splits=splits, is_bank=tensors.is_bank)
    key = RunKey("m", "intended", "full", 0, {}, "hash", 1)
    path = RunStore(tmp_path_factory.mktemp("whole")).save(key, run)
    return SimpleNamespace(path=path, run=read_run(path), events=events, market=market, survivors=np.arange(n) % 3 > 0)


@pytest.fixture(scope="module")
def everything():
    return read_catalogue(ROOT / "variants.yaml")


@pytest.fixture(scope="module")
def every_reading(whole, everything):
    models = models_of(everything, *((v, 0, whole.path, v) for v in ("full", "literal_mpi_c3", "literal_mpi_c4")))
    return specification_curve(models, whole.events, whole.market, whole.survivors)


def test_what_a_whole_run_allows(every_reading):
    """By hand: per stop rule four scores by six cuts and *any* by one, each with and without the index; the survivors
    once more by one rule and the score alone; the other two indices only where there is an index. The survivors' scores
    begin with the validation year, so that four budgets judge no event of it: no *all* of their four scores."""
    counts = every_reading.groupby("model").size()
    assert counts["full"] == 30 * (2 * 2 * (4 * 6 + 1) + (4 * 6 + 1)) - 15 * 4 * 4
    assert counts["literal_mpi_c3"] == counts["literal_mpi_c4"] == 30 * 2 * (4 * 6 + 1)
    assert set(every_reading.cuts) == {"validation", "shared budget", *(f"matched_{b}" for b in BUDGETS)}
    away = every_reading[every_reading.universe == "survivors"]
    assert set(away.second) == {ONE} and set(away.aggregation) == {"mean", "max", "banks", "share", "any"}
    assert set(away.stop) == {"tail"} and set(away[away.cuts.str.startswith("matched")].events) == {"test"}


@pytest.mark.parametrize(
    ("model", "column"), [("full", "mpi"), ("literal_mpi_c3", "mpi_c3"), ("literal_mpi_c4", "mpi_c4")]
)
def test_readings_are_those_of_the_full_evaluator(every_reading, whole, model, column):
    """Every budget, window and set of events, with the index made from the whole scores."""
    scores = whole.run.daily[["mean", column]].set_axis(["I", "M"], axis=1)
    lines = evaluate_daily(scores, whole.events, splits=whole.market.splits)
    at = {"model": model, "stop": "tail", "universe": "all", "aggregation": "mean", "second": "score or index"}
    own = every_reading[np.logical_and.reduce([every_reading[k] == v for k, v in at.items()])]
    own = own.set_index(["cuts", "window", "dates", "events"]).sort_index()
    for cuts, line in (("validation", lines["paper"]), ("matched_05", lines["matched"])):
        for kind in ("calendar_5", "with_event", "lookback_10"):
            assert own.loc[(cuts, kind, "primary", "all"), "hits"] == line["variants"][kind]["hits"]
        assert own.loc[(cuts, "fresh_5", "primary", "all"), "hits"] == line["variants"]["fresh"]["hits"]
        assert own.loc[(cuts, "sessions_5", "primary", "test"), "hits"] == line["hits_test"]
        assert own.loc[(cuts, "sessions_5", "primary", "test"), "n_events"] == line["n_events_test"] == 5
        assert own.loc[(cuts, "sessions_5", "least lucky", "all"), "hits"] == line["hits_min"]
        assert own.loc[(cuts, "sessions_5", "luckiest", "all"), "hits"] == line["hits_max"]
    for name, line in lines["matched"]["budgets"].items():
        found = own.loc[(f"matched_{name}", "sessions_5", "primary", "all")]
        assert (found.hits, found.alarm_rate) == (line["hits"], line["alarm_rate_test"])
    shared = own.loc[("shared budget", "sessions_5", "primary", "all")]
    assert shared.hits == lines["paper"]["variants"]["or_budget"]["hits"]


@pytest.mark.parametrize("aggregation", ["mean", "max", "banks", "share", "any"])
def test_the_survivors_are_scored_without_the_others(every_reading, whole, aggregation):
    score = whole.run.score[:, whole.survivors].astype(float)
    bank = whole.market.is_bank[whole.survivors]
    with np.errstate(invalid="ignore"):
        daily = {
            "mean": np.nanmean(score, 1), "max": np.nanmax(score, 1), "banks": np.nanmean(score[:, bank], 1),
            "share": np.mean(score > 0.9, 1), "any": (score > 0.9).any(1).astype(float),
        }[aggregation]  # fmt: skip
    fixed = {"I": 0.0} if aggregation == "any" else None
    series = pd.Series(daily, index=whole.run.score_sessions)
    line = evaluate_daily(series, whole.events, splits=whole.market.splits, cuts=fixed)["paper"]
    at = {"model": "full", "universe": "survivors", "aggregation": aggregation, "cuts": "validation"}
    at |= {"window": "sessions_5", "dates": "primary", "events": "all"}
    (own,) = every_reading[np.logical_and.reduce([every_reading[k] == v for k, v in at.items()])].to_dict("records")
    assert (own["hits"], own["alarm_rate"]) == (line["hits"], line["alarm_rate_test"])


def test_the_models_of_the_curve_are_all_stored_seeds_of_the_presets_and_flags(everything, whole, tmp_path):
    def stored(method: str, variant: str, seed: int):
        return RunStore(tmp_path).save(RunKey("m", method, variant, seed, {}, "hash", 1), whole.run)

    current = [stored("intended", "full", seed) for seed in (0, 1, 2)]
    current += [stored("literal", "full", 0), stored("intended", "all_samples", 0)]
    later = replace(whole.run, info=whole.run.info | {"lookahead": True})
    ahead = RunStore(tmp_path).save(RunKey("m", "intended", "literal_score_stats", 0, {}, "hash", 1), later)
    swept = {("full", 0): current[0], ("literal_tau_rule", 4): whole.path, ("no_moe", 0): tmp_path / "none"}
    swept |= {("literal_score_stats", 0): ahead}
    got = curve_models(current, {"cpu": swept, "narrow": {("full", 1): whole.path}}, everything)
    assert got.groupby("model").seed.agg(list).to_dict() == {
        "intended, cpu": [0, 1, 2], "literal, cpu": [0], "literal_tau_rule, cpu": [4], "full, narrow": [1],
        "literal_score_stats (sees later days), cpu": [0],
        **{f"literal_mpi_c{k}, cpu": [0, 1, 2] for k in (3, 4)}, **{f"literal_mpi_c{k}, narrow": [1] for k in (3, 4)},
    }  # fmt: skip


def test_a_flag_of_the_index_needs_no_training(whole, everything, tmp_path):
    """It is judged from the full model's run where that keeps its parts, and no sweep would train it."""
    assert {everything.variants[f"literal_mpi_c{k}"].run for k in (3, 4)} == {"full"}
    none = {name: {} for name in everything.variants}
    lines = judge_all({("full", 0): whole.path}, everything, whole.events, whole.market.splits, "cpu")
    assert lines["literal_mpi_c3"].keys() == lines["literal_mpi_c4"].keys() == {0}
    store = RunStore(tmp_path)
    bare = replace(whole.run, daily=whole.run.daily[["mean", "mpi", "mean@val", "mpi@val"]])
    path = store.save(RunKey("m", "intended", "full", 0, {}, "hash", 1), bare)
    lines = judge_all({("full", 0): path}, everything, whole.events, whole.market.splits, "cpu")
    assert lines["full"] and not lines["literal_mpi_c3"]
    assert "literal_mpi_c3" not in missing(everything.tables, everything, none, "m", "cpu").variants.str.cat()


def test_a_default_cell_is_the_full_model_but_in_a_tier_where_it_is_not(whole, everything):
    """Table 4's 128 hidden units stand as `full` with its hits; in tier narrow they wait for a run of their own."""
    row = [("T4.bilstm.128", "lstm_hidden_128")]
    for tier, shown, status in (("cpu", "full", "run"), ("narrow", "lstm_hidden_128", "not run")):
        lines = judge_all({("full", 0): whole.path}, everything, whole.events, whole.market.splits, tier)
        line = table(row, {tier: lines}, {}).iloc[0]
        assert (line.variant, line.status) == (shown, status)
        lacking = missing({"table4": row}, everything, lines, "m", tier)
        assert lacking.variants.tolist() == ([] if status == "run" else ["lstm_hidden_128"])
        assert differences(["lstm_hidden_128"], lines).empty
    assert tasks(everything, ["full", "lstm_hidden_128"], 1, "cpu") == [Task("full", 0)]
    assert tasks(everything, ["full", "lstm_hidden_128"], 1, "narrow")[1] == Task("lstm_hidden_128", 0)


def test_channel_i_alone_is_ranked_by_itself(whole):
    """AUROC of the day's score on the validation year, not of an index that this row does not have."""
    days = whole.run.daily[whole.market.splits.val(whole.run.daily.index)]
    first = int(np.flatnonzero(whole.run.daily.index == days.index[0])[0])
    labels = np.zeros(len(days), bool)
    for event in (330, 400):
        labels[event - first - 5 : event - first] = True
    for channel, column in (("score", "mean@val"), ("both", "mpi@val")):
        line = judge(whole.run, channel, whole.events, whole.market.splits)["paper"]
        assert line["auc_val"] == pytest.approx(roc_auc_score(labels, days[column]))
