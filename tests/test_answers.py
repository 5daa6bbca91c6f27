"""What the stages answer of the claims, on made-up runs, graphs and cases whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from anomaly_routing import graph_claims
from anomaly_routing.ablation_claims import FIXED, OUTAGE, QUESTIONS, SVB, fixed_weights, variant_answers
from anomaly_routing.ablations import find_runs
from anomaly_routing.case_answers import case_answers, complementary, concentration, reading_of_attention, strongest_tie
from anomaly_routing.case_claims import finding
from anomaly_routing.claims import load_claims
from anomaly_routing.files import write_csv
from anomaly_routing.graph_claims import across, graph_answers, graph_days, in_crisis, turnover
from anomaly_routing.ledger import build
from anomaly_routing.ledger.answers import ANSWERS, answer, answer_table, read_answers
from anomaly_routing.ledger.deciders.companions import ELSEWHERE, WAITS
from anomaly_routing.ledger.registry import decider_of, deciders
from anomaly_routing.ledger.sources import PAPER_MARKET, Sources
from anomaly_routing.ledger.verdict import NOT_RUN, judge
from anomaly_routing.model.network import Network
from anomaly_routing.paths import MarketPaths
from anomaly_routing.runs import Run, RunStore
from anomaly_routing.sweep import Task, key_of
from anomaly_routing.variants import read_catalogue
from tests.conftest import ROOT
from tests.model.small_networks import small_network, small_tensors

CLAIMS = load_claims(ROOT / "paper" / "claims.yaml")
RULES = yaml.safe_load((ROOT / "paper" / "verdict_rules.yaml").read_text())
DAYS = pd.bdate_range("2022-01-03", "2023-04-28")
LINE = {"smooth": 0.01, "corr_l1_l2": 0.3, "mean_w": [0.3, 0.3, 0.2, 0.2], "mean_max_w": 0.5}


def verdict(line: dict) -> str:
    """As the ledger gives it."""
    with NamedTemporaryFile(suffix=".csv") as file:
        answer_table([line]).to_csv(file.name, index=False)
        return str(judge(CLAIMS[line["id"]], read_answers(Path(file.name))[line["id"]], RULES))


# --- the table --------------------------------------------------------------------------------------------------------
def test_a_line_is_a_number_or_a_check():
    assert answer("S3.h1_h5", np.bool_(True))["holds"] is True and answer("S5.ood", 1, "direction")["value"] == 1.0
    with pytest.raises(ValueError, match="no column verdict"):
        answer("S5.ood", 1.0, verdict="match")
    with pytest.raises(ValueError, match=r"answered twice: S5\.ood"):
        answer_table([answer("S5.ood", 1.0), answer("S5.ood", 2.0)])
    assert list(answer_table([]).columns) == list(ANSWERS)


@pytest.fixture
def sources(tmp_path) -> Sources:
    return Sources(MarketPaths(PAPER_MARKET, tmp_path), ROOT / "paper", methods={})


def row(sources: Sources, name: str) -> dict:
    return build._row(CLAIMS[name], decider_of(name, deciders()), sources)


def test_the_ledger_reads_what_was_answered(sources):
    how = {"n_seeds": 1, "tier": "cpu", "device": "made-up"}
    lines = [
        answer("S3.xmodal_reading", 0.1, "direction", **how),
        answer("S3.h1_h5", False, part=0.5, protocol="paper", **how),
        answer("S44.gme_biotech", 0.40),
        answer("S44.xmodal_focus", 0.70, "range", **how),
    ]
    write_csv(sources.paths.tables("case_studies") / "claims.csv", answer_table(lines))
    found = {line["id"]: row(sources, line["id"]) for line in lines}
    assert found["S3.xmodal_reading"]["verdict"] == "close" and found["S3.xmodal_reading"]["device"] == "made-up"
    assert found["S3.h1_h5"]["verdict"] == "close" and found["S44.gme_biotech"]["verdict"] == "match"
    assert found["S44.xmodal_focus"]["verdict"] == "close"  # a hundredth below the range, and one seed
    write_csv(sources.paths.tables("attribution") / "claims.csv", answer_table([]))
    assert row(Sources(sources.paths, sources.paper, methods={}), "S5.ood")["verdict"] == NOT_RUN


def test_what_waits_for_a_run_names_it_and_the_command(sources):
    assert {name: question.variants for name, question in QUESTIONS.items()} == WAITS
    assert set(WAITS) < set(ELSEWHERE["ablations"])
    for name, variants in WAITS.items():
        found = row(sources, name)
        assert found["verdict"] == NOT_RUN and "(stage ablations)" in found["reason"]
        assert variants[0] in found["reason"] and "python -m anomaly_routing.runner ablations" in found["reason"]
    assert "sweep --market us100 --variants no_div;" in row(sources, "S44.collapse_r")["reason"]


def test_speed_is_read_off_the_table_of_costs(sources):
    cost = pd.DataFrame({"method": ["metric_vmf", "lstm_ae"], "score_milliseconds": [1.0, 4.0]})
    write_csv(sources.paths.tables("deep_baselines") / "cost.csv", cost)
    found = row(sources, "Z000.res.speed")
    assert (found["verdict"], found["ours"]) == ("close", "0.75")
    write_csv(sources.paths.tables("deep_baselines") / "cost.csv", cost.assign(method=cost.method[::-1].to_numpy()))
    assert row(sources, "Z000.res.speed")["verdict"] == "differs"


# --- questions to runs ------------------------------------------------------------------------------------------------
EVENT = pd.DataFrame({"id": [SVB], "date": [pd.Timestamp("2023-03-10")], "alternatives": [[]]})
SPLITS = small_tensors().splits.__class__(
    first_session="2022-01-03", train_end="2021-12-31", val_end="2022-12-31", test_end="2023-04-28"
)


def made_up(lead: int = 0, losses: tuple[float, ...] = (3, 2, 1), errors: list | None = None, **line) -> Run:
    """A run with one alarm, `lead` sessions before the event, and this line in its log."""
    alarm = pd.DataFrame(0.4 + 0.01 * np.random.default_rng(0).random((len(DAYS), 2)), DAYS, ["mean@val", "mpi@val"])
    alarm[alarm.index > "2022-12-31"] = 0.4
    if lead:
        alarm.iloc[DAYS.get_loc(EVENT.date[0]) - lead] = 0.9
    info = {"device": "cpu", "best": {"val": {"epoch": 2}}, "losses": {"rec": list(losses)}}
    info |= {"channels": {"paper": {"I": "mean@val", "M": "mpi@val"}}, "history": [LINE | line | {"epoch": 2}]}
    extras = {}
    if errors is not None:
        extras = {"days": np.array([OUTAGE[1]], "datetime64[D]"), "expert_error": np.array([[errors]], np.float16)}
    return Run(np.zeros((0, 1), np.float32), DAYS[:0], [OUTAGE[0]], alarm, info, extras)


@pytest.fixture
def answered(tmp_path):
    """Answers to (variant, seed, tier) -> run, by claim."""

    def ask(runs: dict[tuple[str, int, str], Run]) -> dict[str, dict]:
        found: dict[str, dict] = {"gpu": {}, "cpu": {}, "narrow": {}}
        for (variant, seed, tier), run in runs.items():
            path = tmp_path / f"{variant}-{seed}-{tier}.npz"
            RunStore(tmp_path).save(SimpleNamespace(filename=path.name), run)
            found[tier][variant, seed] = path
        return {line["id"]: line for line in variant_answers(found, EVENT, SPLITS)}

    return ask


def seeds(variant: str, runs: list[Run], tier: str = "gpu") -> dict:
    return {(variant, seed, tier): run for seed, run in enumerate(runs)}


def test_a_collapse_is_judged_by_the_rule_of_its_unit(answered):
    collapsed = [made_up(corr_l1_l2=0.81 + 0.02 * (-1) ** k, mean_w=[0.67, 0.2, 0.1, 0.03]) for k in range(10)]
    found = answered(seeds("no_div", collapsed))
    assert set(found) == {"S44.collapse_r", "S44.collapse_weight"}
    assert found["S44.collapse_r"]["value"] == pytest.approx(0.81) and found["S44.collapse_r"]["n_seeds"] == 10
    assert verdict(found["S44.collapse_r"]) == verdict(found["S44.collapse_weight"]) == "match"
    apart = answered(seeds("no_div", [made_up(corr_l1_l2=-0.81, mean_w=[0.25] * 4)] * 10))
    assert verdict(apart["S44.collapse_r"]) == verdict(apart["S44.collapse_weight"]) == "differs"
    narrow = answered(seeds("no_div", collapsed[:2], "narrow"))
    assert verdict(narrow["S44.collapse_r"]) == "close (tier narrow, 2 seeds)"


@pytest.mark.parametrize("right", [True, False])
def test_a_direction_flips_with_its_sign(answered, right):
    smooth = [made_up(smooth=0.010 + 0.001 * k) for k in range(10)]
    rough = [made_up(smooth=0.020 + 0.002 * k) for k in range(10)]
    full, other = (smooth, rough) if right else (rough, smooth)
    line = answered(seeds("full", full) | seeds("no_smooth", other))["S3.lsmooth"]
    assert line["value"] == pytest.approx(0.0145 if right else -0.0145)
    assert verdict(line) == ("match" if right else "differs")


def test_weights_that_stand_still_have_no_change_to_smooth(answered):
    """A gate that gives every stock-day to one expert: the sign of a rounding decides nothing."""
    still, less = made_up(smooth=8e-34), made_up(smooth=5e-36)
    line = answered({("full", 0, "narrow"): less, ("no_smooth", 0, "narrow"): still})["S3.lsmooth"]
    assert line["value"] == 0 and verdict(line) == "differs"
    moving = answered({("full", 0, "narrow"): less, ("no_smooth", 0, "narrow"): made_up(smooth=1e-3)})["S3.lsmooth"]
    assert moving["value"] == 1e-3


def test_few_seeds_have_a_range_and_no_interval(answered):
    runs = [made_up(corr_l1_l2=r) for r in (0.9, 0.5, 0.7)]
    line = answered(seeds("no_div", runs, "narrow"))["S44.collapse_r"]
    assert (line["low"], line["high"], line["ranged"]) == (0.5, 0.9, True) and line["by_seed"] == "0.9; 0.5; 0.7"
    many = answered(seeds("no_div", [*runs, *runs], "narrow"))["S44.collapse_r"]
    assert not many["ranged"] and many["low"] > 0.5 and many["high"] < 0.9


def test_the_lead_that_a_fixed_share_costs(answered):
    def asked(full: int, fixed: int) -> float:
        return answered({("full", 0, "narrow"): made_up(full), ("fixed05", 0, "narrow"): made_up(fixed)})[
            "S44.fixed_delays"
        ]

    assert asked(4, 1)["value"] == 3 and verdict(asked(4, 1)) == "close"
    assert asked(1, 4)["value"] == -3 and verdict(asked(1, 4)) == "differs"
    assert asked(2, 0)["value"] == 2, "no alarm is no lead"
    assert asked(0, 0)["value"] == 0 and verdict(asked(0, 0)) == "differs"


def test_fixed_weights_are_compared_on_seeds_that_all_have(tmp_path):
    catalogue = read_catalogue(ROOT / "variants.yaml")
    assert {v: catalogue.variants[v].model["alpha_fixed"] for v in FIXED} == FIXED
    found: dict[str, dict] = {"cpu": {}, "narrow": {}}
    for variant, leads in {"alpha0": (4, 0), "fixed05": (2, 1), "alpha1": (3,)}.items():
        for seed, lead in enumerate(leads):
            found["narrow"][variant, seed] = tmp_path / f"{variant}-{seed}.npz"
            RunStore(tmp_path).save(SimpleNamespace(filename=f"{variant}-{seed}.npz"), made_up(lead))
    held = fixed_weights(found, EVENT, SPLITS)
    assert held.set_index("alpha").lead.to_dict() == {0: 4, 0.5: 2, 1: 3} and set(held.seed) == {0}
    assert set(held.tier) == {"narrow"} and set(held.device) == {"cpu"}
    assert fixed_weights({"cpu": {}}, EVENT, SPLITS).empty and fixed_weights(found, EVENT.iloc[:0], SPLITS).empty


def test_single_stocks_are_asked_of_runs_that_keep_them(answered):
    full = made_up(errors=[0.1, 2.34, 0.1, 0.1])
    kept = answered({("full", 0, "cpu"): full, ("no_moe", 0, "cpu"): made_up(errors=[0.68])})
    assert kept["S44.single_misses_liq"]["value"] == pytest.approx(1.66, abs=2e-3)
    worse = answered({("full", 0, "cpu"): full, ("no_moe", 0, "cpu"): made_up(errors=[3.0])})
    assert verdict(worse["S44.single_misses_liq"]) == "differs"
    assert "S44.single_misses_liq" not in answered({("full", 0, "cpu"): full, ("no_moe", 0, "cpu"): made_up()})


def test_instability_and_six_experts(answered):
    calm, wild = made_up(losses=(4, 3, 2, 2.5, 1)), made_up(losses=(4, 5, 3, 6, 2))  # 1 and 2 of 4 steps go up
    found = answered({("full", 0, "narrow"): calm, ("learning_rate_0.01", 0, "narrow"): wild})
    assert found["T4.lr_unstable"]["value"] == pytest.approx(0.25)
    six = answered(seeds("six_experts", [made_up(mean_max_w=0.37)] * 10))
    assert six["D2.maxw6"]["value"] == pytest.approx(0.37) and verdict(six["D2.maxw6"]) == "match"


def test_tiers_and_seeds_are_never_mixed(answered):
    smooth, rough = made_up(), made_up(smooth=0.02)
    assert not answered({("full", 0, "cpu"): smooth, ("no_smooth", 0, "narrow"): rough})
    assert not answered({("full", 0, "narrow"): smooth, ("no_smooth", 1, "narrow"): rough})
    both = seeds("full", [smooth] * 2, "narrow") | seeds("no_smooth", [rough] * 3, "narrow")
    assert answered(both)["S3.lsmooth"]["n_seeds"] == 2


def test_a_run_is_found_as_soon_as_the_sweep_stores_it(tmp_path):
    catalogue, tensors = read_catalogue(ROOT / "variants.yaml"), small_tensors()
    assert {v for question in QUESTIONS.values() for v in question.variants} <= set(catalogue.variants)

    catalogue = replace(catalogue, variants={name: catalogue.variants[name] for name in ("full", "no_div")})

    def found() -> set[str]:
        runs = {"narrow": find_runs(catalogue, tensors, "narrow", [tmp_path], seeds=1)}
        return {line["id"] for line in variant_answers(runs, EVENT, SPLITS)}

    assert found() == set()
    RunStore(tmp_path).save(key_of(Task("no_div", 0), catalogue, tensors, "narrow"), made_up())
    assert found() == {"S44.collapse_r", "S44.collapse_weight"}


# --- the learned graph ------------------------------------------------------------------------------------------------
def test_turnover_by_hand():
    one = np.array([[0, 2, 0], [1, 0, 1], [0, 0, 0]], float)
    assert turnover(one, 5 * one) == 0  # rows are scaled to one
    assert turnover(one, np.array([[0, 0, 3], [1, 0, 1], [1, 0, 0]], float)) == 0.5  # all of row 0, none of row 1
    assert np.isnan(turnover(one, np.zeros((3, 3))))
    assert across(one, np.array(["a", "a", "b"])) == pytest.approx(1 / 4)


def test_graphs_cut_at_fewer_neighbours_are_those_of_a_network_that_has_fewer(monkeypatch):
    tensors = small_tensors()
    net = small_network(tensors, top_k=4)
    n = len(tensors.tickers)
    sector, rows = np.arange(n) % 2, np.flatnonzero(tensors.test)[:6]
    monkeypatch.setattr(graph_claims, "FEWER", 2)
    days = graph_days(net, tensors, sector, rows)
    thin = Network(len(tensors.features), tensors.categories, replace(net.config, top_k=2))
    thin.load_state_dict(net.state_dict())
    again = graph_days(thin, tensors, sector, rows)
    np.testing.assert_allclose(days.across_fewer, again.across, atol=1e-6)
    assert np.isnan(days.turnover.iloc[0]) and days.turnover[1:].between(0, 1).all()
    assert net.graph.config.top_k == 4 and not np.allclose(
        days.across, days.across_fewer
    )  # the network is left as it was


@pytest.mark.parametrize("sign", [1, -1])
def test_a_graph_that_settles_near_events_flips_the_sign(sign):
    crisis = np.arange(40) % 4 == 0
    days = pd.DataFrame({"turnover": 0.3 + 0.1 * sign * crisis, "across": 0.6, "across_fewer": 0.6 - 0.1 * sign})
    first, second = graph_answers(days, crisis, {"n_seeds": 1, "tier": "cpu"})
    assert first["value"] == pytest.approx(0.1 * sign) and second["value"] == pytest.approx(0.1 * sign)
    assert {verdict(first), verdict(second)} == {"close" if sign > 0 else "differs"}


def test_a_crisis_is_around_its_event():
    inside = in_crisis(DAYS, pd.Series([DAYS[50], pd.Timestamp("1999-01-04")]))
    assert np.flatnonzero(inside).tolist() == list(range(45, 61))


# --- cases ------------------------------------------------------------------------------------------------------------
def test_attention_from_even_to_one_stock():
    active, rows = np.array([True] * 4 + [False]), np.array([True, True, False, False, True])
    even = np.full((5, 5), 0.25) * active
    assert concentration(even, active, rows) == pytest.approx(0, abs=1e-12)
    assert concentration(np.eye(5), active, rows) == pytest.approx(1)
    two = np.tile([0.5, 0.5, 0, 0, 0], (5, 1))
    assert concentration(two, active, rows) == pytest.approx(0.5)  # one bit of two
    market = SimpleNamespace(tensors=SimpleNamespace(active=np.tile(active, (3, 1))))
    days = np.stack([even, two, np.eye(5)])
    late, calm = reading_of_attention(market, days, np.arange(3), rows, np.array([False, True, True]), np.arange(3) < 1)
    assert (late, calm) == (pytest.approx(0.75), pytest.approx(0, abs=1e-12))


def test_horizons_complement_each_other_only_both_ways():
    assert complementary({1: {"a", "b"}, 3: set(), 5: {"b", "c"}})[:2] == (True, 1.0)
    assert complementary({1: {"a", "b"}, 5: {"b"}})[:2] == (False, 0.5)
    assert complementary({1: {"a"}, 5: {"a"}})[:2] == (False, 0.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_lines_of_the_cases(sign, tmp_path):
    runs = pd.DataFrame({"preset": ["intended"] * 2, "seed": [1, 0], "tier": ["no", "cpu"], "device": ["no", "cpu"]})
    hits = {1: {"a"}, 5: {"b"}} if sign > 0 else {1: {"a"}, 5: set()}
    judged = {
        "S44.gme_biotech": strongest_tie(sign * 0.43),
        "F3.ph3.ps": finding(CLAIMS["F3.ph3.ps"], [(0.45, 0.48)], tier="cpu"),
        "F3.top3": finding(CLAIMS["F3.top3"], [False], tier="cpu"),
    }
    write_csv(tmp_path / "claims.csv", case_answers(SimpleNamespace(runs=runs), (0.5 + 0.1 * sign, 0.5), hits, judged))
    found = read_answers(tmp_path / "claims.csv")
    lines = {name: str(judge(CLAIMS[name], answer, RULES)) for name, answer in found.items()}
    assert set(ELSEWHERE["case_studies"]) <= set(lines)
    assert lines["S3.xmodal_reading"] == ("close" if sign > 0 else "differs")
    assert lines["S3.h1_h5"].startswith("close")
    assert lines["S44.gme_biotech"] == ("match" if sign > 0 else "differs")
    assert lines["F3.ph3.ps"] == "close (tier cpu, 1 seed)"
    assert lines["F3.top3"] == "differs"
