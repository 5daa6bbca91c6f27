"""Tables, differences and readings of stored runs, on runs whose alarms are planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import ttest_1samp

from anomaly_routing import ablations
from anomaly_routing.ablations import best_case, differences, events_needed, find_runs, judge, judge_all, missing, table
from anomaly_routing.evaluation.detection import WINDOWS
from anomaly_routing.runs import Run, RunKey, RunStore, read_run
from anomaly_routing.scoreboard import evaluate_run
from anomaly_routing.specification import CHOICES, ONE, by_choice, over_seeds, specification_curve
from anomaly_routing.sweep import Task, key_of
from anomaly_routing.variants import read_catalogue
from tests.conftest import ROOT
from tests.model.small_networks import small_tensors

CLAIMS = {"T2.full.hits": 12, "T2.no_mpi.hits": 9, "T2.few.hits": 6, "T2.full.rate": 92.3, "T2.full.lead": 3.8}
ROWS = [("T2.full", "full"), ("T2.no_mpi", "no_mpi"), ("T2.no_moe", "no_moe")]
LEADS = (2, 5)  # sessions between the planted alarm and the event; the third event has none


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    content = yaml.safe_load((ROOT / "variants.yaml").read_text())
    names = ["full", "no_mpi", "no_moe"]
    content["variants"] = {name: content["variants"][name] for name in names}
    content["tables"] = {"table2": dict(ROWS)}
    path = tmp_path_factory.mktemp("catalogue") / "variants.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_catalogue(path)


@pytest.fixture(scope="module")
def tensors():
    return small_tensors()


@pytest.fixture(scope="module")
def events(tensors):
    test = tensors.sessions[tensors.test]
    days = [test[k] for k in (10, 20, 30)]
    return pd.DataFrame({"id": ["A", "B", "C"], "date": days, "alternatives": [[], [], [test[k] for k in (12,)]]})


def planted(tensors, events, caught: int) -> Run:
    """Flat scores; the index alarms before the first events, the score before the first one alone."""
    sessions = tensors.sessions[tensors.val | tensors.test]
    rng = np.random.default_rng(caught)
    daily = pd.DataFrame({name: 0.4 + 0.01 * rng.random(len(sessions)) for name in ("mean", "mpi")}, index=sessions)
    below = sessions > tensors.sessions[tensors.val][-1]
    daily[below] = 0.4
    for k, lead in enumerate(LEADS[:caught]):
        at = sessions.get_loc(events.date[k]) - lead
        daily.iloc[at, 1] = 0.9
        if k == 0:
            daily.iloc[at, 0] = 0.9
    daily = pd.concat([daily, daily.add_suffix("@val")], axis=1)
    daily["share@val"] = (daily["mean@val"] > 0.8) * 0.2
    info = {"channels": {"paper": {"I": "mean@val", "M": "mpi@val"}, "matched": {"I": "mean", "M": "mpi"}}}
    return Run(np.zeros((0, 0), np.float32), sessions[:0], [], daily, info)


@pytest.fixture(scope="module")
def found(catalogue, tensors, events, tmp_path_factory):
    """Two seeds of `full` that catch two and one events, one of `no_moe` that catches none."""
    store = RunStore(tmp_path_factory.mktemp("store"))
    for variant, seed, caught in (("full", 0, 2), ("full", 1, 1), ("no_moe", 0, 0)):
        store.save(key_of(Task(variant, seed), catalogue, tensors, "narrow"), planted(tensors, events, caught))
    return find_runs(catalogue, tensors, "narrow", [store.folder])


@pytest.fixture(scope="module")
def lines(found, catalogue, tensors, events):
    return judge_all(found, catalogue, events, tensors.splits, "narrow")


def test_runs_are_found_by_key_alone(found, catalogue, tensors):
    assert set(found) == {("full", 0), ("full", 1), ("no_moe", 0)}
    folder = found["full", 0].parent
    assert find_runs(catalogue, tensors, "cpu", [folder]) == {}, "another tier is another run"
    assert find_runs(catalogue, tensors, "narrow", [folder], training={"epochs": 3}) == {}
    assert set(find_runs(catalogue, tensors, "narrow", [folder.parent / "none", folder], seeds=1)) == set(found) - {
        ("full", 1)
    }


def test_what_was_planted_is_judged(lines):
    first, second = (lines["full"][seed]["paper"] for seed in (0, 1))
    assert (first["hits"], first["n_events"], first["lead"]) == (2, 3, np.mean(LEADS)) and second["hits"] == 1
    assert lines["no_mpi"][0]["paper"]["hits"] == 1, "channel I alone misses what the index saw"
    assert lines["no_moe"][0]["paper"]["hits"] == 0 and lines["no_moe"][0]["paper"]["lead"] is None
    assert first["alarm_rate"] == 2 / 40 and first["recall"] == 2 / 15 and first["auc_val"] is None
    assert first["hits_test"] == 2 and first["n_val"] == 0


def test_chance_is_that_of_the_full_evaluation(found, lines, events, tensors):
    """The quick count against `evaluate_run`, and against alarms rolled by hand through the test split."""
    for (variant, seed), path in found.items():
        whole = evaluate_run(read_run(path), events, tensors.splits)
        for protocol, quick in lines[variant][seed].items():
            if protocol in ("paper", "matched"):
                slow = whole[protocol]
                assert (quick["p"], quick["p_test"]) == (slow["chance_p"], slow["chance_p_test"])
                assert quick["chance"] == slow["expected_hits_by_chance"] and quick["p_val"] is None
    days = tensors.sessions[tensors.test]
    at = days.get_indexer(events.date)
    alarm = np.zeros(len(days), bool)
    alarm[[k - lead for k, lead in zip(at, LEADS, strict=False)]] = True
    hits = [sum(np.roll(alarm, by)[k - 5 : k].any() for k in at) for by in range(len(days))]
    first = lines["full"][0]["paper"]
    assert first["chance"] == pytest.approx(np.mean(hits[1:])) and 0 < first["chance"] < first["hits"]
    assert first["p"] == (1 + sum(h >= hits[0] for h in hits[1:])) / len(days)


def test_a_table_has_the_interface_and_says_what_was_not_run(lines, catalogue):
    without = lines | {"no_moe": {}}
    got = table(ROWS, {"narrow": without, "cpu": {v: {} for v in lines} | {"no_moe": lines["no_moe"]}}, CLAIMS)
    assert got.columns[:10].tolist() == ablations.INTERFACE
    assert got.status.tolist() == ["run", "run", "not run", "run"] and got.tier.tolist() == ["narrow"] * 3 + ["cpu"]
    full = got.iloc[0]
    assert (full.paper_rate, full.paper_lead, full.hits, full.n_seeds) == (92.3, 3.8, 1, 2)
    assert (full["lowest seed"], full["highest seed"], full["mean hits"]) == (1, 2, 1.5)
    assert got.iloc[2][["hits", "lead", "alarm_rate"]].isna().all() and got.n_seeds.tolist() == [2, 2, 0, 1]
    lacking = missing(catalogue.tables, catalogue, without, "m", "narrow")
    assert lacking.variants.tolist() == ["full (1), no_moe (3)"] and lacking["trainings missing"].tolist() == [4]
    assert "--market m --tier narrow --tables table2 --seeds 3" in lacking.command[0]
    whole = {name: {seed: {} for seed in range(3)} for name in lines}
    assert missing(catalogue.tables, catalogue, whole, "m", "narrow").empty
    assert missing(catalogue.tables, catalogue, whole, "m", "gpu")["seeds wanted"].tolist() == [10]
    other = {"table4": ROWS}  # one seed in a cheap tier
    assert missing(other, catalogue, without, "m", "narrow").variants.tolist() == ["no_moe"]


def test_differences_are_of_the_same_seed_with_students_interval(lines):
    got = differences(["full", "no_mpi", "no_moe"], lines).set_index("variant")
    assert got.loc["no_mpi", "difference of each seed"] == "-1, +0" and got.loc["no_mpi", "mean"] == -0.5
    expected = ttest_1samp([-1, 0], 0).confidence_interval()
    assert got.loc["no_mpi", ["95% low", "95% high"]].tolist() == pytest.approx([expected.low, expected.high])
    assert (got.real == "too few seeds").all()
    assert got.loc["no_moe", "seeds"] == 1 and got["95% low"].isna()["no_moe"]
    assert got.loc["no_moe", ["only variant", "only base", "p, first seed"]].tolist() == [0, 2, 0.5]
    assert differences(["full"], lines).empty
    own = differences(["no_moe"], lines, {"no_moe": "no_mpi"}).iloc[0]
    assert (own.base, own["difference of each seed"], own["mean"]) == ("no_mpi", "-1", -1)


def test_a_row_is_compared_with_the_default_of_its_own_setting():
    own = ablations.bases(read_catalogue(ROOT / "variants.yaml").tables)
    assert own["lstm_hidden_64"] == own["lstm_hidden_256"] == "lstm_hidden_128" and own["window_40"] == "window_20"
    assert not {"no_moe", "top_k_10", "gamma1_0.02"} & set(own), "these change one key of `full`"


def test_every_seed_says_whether_its_gate_collapsed(catalogue, tmp_path):
    paths = {}
    for variant, seed, largest in (("full", 0, 1.0), ("full", 1, 0.4), ("full", 2, 0.5), ("no_moe", 0, 1.0)):
        line = {"epoch": 3, "mean_max_w": largest}
        info = {"history": [line | {"epoch": 2, "mean_max_w": 0.1}, line], "best": {"val": {"epoch": 3}}}
        run = Run(np.zeros((0, 0), np.float32), pd.DatetimeIndex([]), [], pd.DataFrame(), info)
        paths[variant, seed] = RunStore(tmp_path).save(RunKey("m", "intended", variant, seed, {}, "", 1), run)
    weights = ablations.largest_weights(paths)
    assert weights == {"full": [1.0, 0.4, 0.5], "no_moe": [1.0]}
    assert ablations.collapsed(weights, catalogue, 0.99) == {"full": (1, 3)}, "one expert alone cannot collapse"


def test_only_ten_seeds_call_a_difference_real_or_not(lines):
    """SPEC 10: real only if its 10-seed interval excludes 0; the hits differ by 2 or 3, or by 1 to either side."""
    found = {}
    for seeds in (2, 9, 10, 11):
        apart, even, none = (
            {s: {"paper": lines["full"][0]["paper"] | {"hits": hits(s)}} for s in range(seeds)}
            for hits in (lambda s: 4 + s % 2, lambda s: 1 + 2 * (s % 2), lambda s: 2)
        )
        found[seeds] = differences(["a", "b"], {"a": apart, "b": even, "full": none}).real.tolist()
    few, enough = ["too few seeds"] * 2, ["yes", "no"]
    assert found == {2: few, 9: few, 10: enough, 11: enough}


def test_the_best_case_of_a_paired_test_is_a_coin():
    got = best_case([("T2.full", "full"), ("T2.no_mpi", "no_mpi"), ("T2.few", "few")], CLAIMS).set_index("variant")
    assert got["smallest p"].to_dict() == {"full": 1.0, "no_mpi": 2 * 0.5**3, "few": 2 * 0.5**6}
    assert events_needed() == 6 and events_needed(0.2) == 4


# --- readings --------------------------------------------------------------------------------------------------------
def models_of(catalogue, *rows) -> pd.DataFrame:
    """rows : model, seed, path, name of the variant."""
    columns = ["model", "seed", "tier", "path", "variant"]
    return pd.DataFrame([(m, s, "narrow", path, catalogue.variants[v]) for m, s, path, v in rows], columns=columns)


@pytest.fixture(scope="module")
def curve(found, catalogue, tensors, events):
    models = models_of(catalogue, *(("full", seed, found["full", seed], "full") for seed in (0, 1)))
    return specification_curve(models, events, tensors, np.arange(len(tensors.tickers)) < 3)


READING = [*CHOICES]


def test_every_reading_stands_once(curve):
    assert not curve.duplicated([*READING, "seed"]).any()
    # mean by two stop rules, share by one: two channels, cuts (the matched ones have no verdict: too short a past);
    # five windows, three dates, all events or those of the test split, which all three are
    assert len(curve) == 2 * 30 * ((2 + 1) * 2 * 2 + 2) and set(curve.aggregation) == {"mean", "share", "any"}
    assert set(curve.universe) == {"all"} and set(curve.window) == {*WINDOWS, "fresh_5"}
    readings = over_seeds(curve)
    assert len(readings) == len(curve) / 2 and (readings.seeds == 2).all() and readings.share.is_monotonic_decreasing
    pair = curve.set_index(READING).loc[tuple(readings.loc[0, READING])]
    assert readings.loc[0, ["share", "lowest", "highest"]].tolist() == [
        pair.share.median(), pair.share.min(), pair.share.max()
    ]  # fmt: skip
    assert (readings.lowest < readings.highest).any()


def test_a_reading_says_what_the_judge_says(curve, lines, found, tensors, events):
    at = {
        "seed": 0,
        "stop": "val",
        "aggregation": "mean",
        "cuts": "validation",
        "window": "sessions_5",
        "events": "all",
    }
    own = curve[np.logical_and.reduce([curve[k] == v for k, v in at.items()])].set_index(["second", "dates"])
    assert own.loc[("score or index", "primary"), "hits"] == lines["full"][0]["paper"]["hits"] == 2
    assert own.loc[(ONE, "primary"), "hits"] == lines["no_mpi"][0]["paper"]["hits"] == 1
    alone = judge(planted(tensors, events, 2), "score", events, tensors.splits)["paper"]
    assert own.loc[(ONE, "primary"), "alarm_rate"] == alone["alarm_rate"]
    assert own.loc[("score or index", "luckiest"), "hits"] == 3, "the third event's other date follows the first alarm"
    assert own.loc[("score or index", "least lucky"), "hits"] == 2


def test_readings_are_summed_up_by_choice(curve):
    readings = over_seeds(curve)
    got = by_choice(readings, 0.8).set_index("value")
    assert got.loc[["primary", "least lucky", "luckiest"], "readings"].tolist() == [len(readings) // 3] * 3
    reached = readings[(readings.dates == "luckiest") & (readings.share >= 0.8)]
    assert got.loc["luckiest", "reach the paper's"] == len(reached) > 0
    assert got.loc["primary", "reach the paper's"] == 0


def test_a_change_compares_readings_that_are_alike_in_all_else():
    """By hand: four readings, of which one exists for one window alone and would move the medians by itself."""
    plain = {c: "x" for c in CHOICES} | {"dates": "primary", "window": "sessions_5", "cuts": "validation"}
    rows = [plain | {"share": 0.5}, plain | {"dates": "luckiest", "share": 0.7}]
    rows += [plain | {"window": "with_event", "share": 0.1}, plain | {"cuts": "matched_05", "share": 0.4}]
    got = by_choice(pd.DataFrame(rows).assign(alarm_rate=0.1), 0.9).set_index("value")
    assert got["change"].dropna().to_dict() == pytest.approx({"luckiest": 0.2, "with_event": -0.4, "matched_05": -0.1})
    assert got.loc["luckiest", ["against", "alike"]].tolist() == ["primary", 1] and got.against["primary"] == ""
    assert got.loc["validation", "median share"] == 0.5 and got.alike["validation"] == 0
