"""What is measured for the claims about cases, on made-up tracks with known answers; words and tables from them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from anomaly_routing import case_alarms, case_measures, case_words
from anomaly_routing.case_claims import Mark, _told, claims_table, figure3_marks, finding, measured, printed_weights
from anomaly_routing.case_market import CaseError
from anomaly_routing.case_measures import CROWDSTRIKE, FUSION, GAMESTOP, MEASURES, OF_STOCKS, SVB, Track, stocks_above
from anomaly_routing.case_tables import (
    breadth_by_chance,
    breadth_crossings,
    days_around,
    no_moe_error,
    silent_consensus,
)
from anomaly_routing.claims import load_claims
from anomaly_routing.files import write_csv
from anomaly_routing.first_alarms import first_alarms, window_rate
from anomaly_routing.ledger.answers import answers_table
from anomaly_routing.ledger.registry import decider_of, deciders
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding, NotRun, NotTestable
from anomaly_routing.paths import MarketPaths
from anomaly_routing.runs import Run, RunKey, RunStore
from tests.conftest import ROOT

CLAIMS = load_claims(ROOT / "paper" / "claims.yaml")
VALUE = {name: claim.value for name, claim in CLAIMS.items()}
DAY, BASELINE = pd.Timestamp("2023-03-10"), ("2023-02-08", "2023-02-17")


def track_of(days: pd.DatetimeIndex, day: pd.Timestamp, baseline: pd.DatetimeIndex, study=None, **columns) -> Track:
    daily = pd.DataFrame(columns, index=days)
    return Track(daily, daily, day, baseline, study, theta_s=0.9, theta_tail=0.8)


@pytest.fixture(scope="module")
def march():
    """Every series of the main case is a straight line or a step, so that each answer can be written down."""
    days = pd.bdate_range("2023-02-08", "2023-03-31")
    late = np.asarray(days >= "2023-03-08", float)
    count = np.arange(len(days), dtype=float)
    columns = {"MPI": 0.4 + 0.2 * late, "S": 0.5 + 0.1 * late, "banks": 0.4 + 0.4 * late, "nonbanks": 0.4 - 0.1 * late}
    columns |= {"w1": 0.2 + 0.01 * count, "w2": 0.3 - 0.1 * late, "w3": 0.1 + 0.05 * late, "w4": 0.4 - 0.02 * late}
    columns |= {"alpha": 0.6 - 0.3 * late, "psi": 0.3 + 0.4 * late, "c1": 0.03 * late, "n_active": 100.0}
    columns["banks"][days.get_loc(pd.Timestamp("2023-03-15"))] = 0.9
    return track_of(days, DAY, days[:8], **columns)


def test_every_measure_of_the_main_case_by_hand(march):
    at = march.daily.index.get_loc
    w1 = {d: 0.2 + 0.01 * at(pd.Timestamp(f"2023-{d}")) for d in ("03-09", "03-10", "03-13", "03-17")}
    base = 0.2 + 0.01 * 3.5
    by_hand = {
        "F3.mpi.event_day": 0.6, "F3.mpi.baseline": 0.4, "F3.mpi.rel": 50.0, "F3.indiv.rel": 20.0,
        "F3.mpi_gt_indiv": 30.0, "F3.bank.peak": 0.9, "F3.bank.rel": 125.0, "F3.nonbank.peak": 0.3,
        "F3.nonbank.rel": -25.0, "F3.gap": 0.6, "F3.ps.baseline": base, "F3.ps.mar10": w1["03-10"],
        "F3.ps.mar17": w1["03-17"], "F3.sc.level": 0.15, "F3.sc.rel": 50.0, "F3.liq.level": 0.2, "F3.mom.level": 0.38,
        "F3.liq.dir": 0.1, "F3.mom.dir": 0.02, "F3.ph1.ps": w1["03-09"], "F3.ph2.ps": w1["03-10"], "F3.ph2.sc": 0.15,
        "F3.ph3.sc": 0.15,
        "F3.ph3.ps": (w1["03-13"], w1["03-17"]), "ABS.svb.ps_on_closure": w1["03-10"],
        "ABS.svb.ps_on_closure_rel": 100 * (w1["03-10"] / base - 1), "ABS.svb.ps_peak": w1["03-17"],
        "ABS.svb.ps_peak_rel": 100 * (w1["03-17"] / base - 1), "S5.ps_track": (base, w1["03-17"]),
    }  # fmt: skip
    assert set(by_hand) == set(SVB) - OF_STOCKS
    for name, answer in by_hand.items():
        assert SVB[name](march) == pytest.approx(answer), name


def test_measures_of_the_other_cases_by_hand(march):
    assert GAMESTOP["S42.gme_n"](march) == 3 and stocks_above(march)[march.day] == 3
    assert FUSION["S42.alpha_svb"](march) == pytest.approx(0.3) and FUSION["S44.psi_svb"](march) == pytest.approx(0.7)
    assert "S44.alpha_opt_svb" not in FUSION  # the weight of one run is no comparison of weights
    assert set(MEASURES) == {"svb", "crowdstrike", "gamestop", "fusion"}


def outage(w1: float, step: float = 0.0) -> Track:
    days = pd.bdate_range("2024-07-08", "2024-07-31")
    rise = np.asarray(days >= "2024-07-19", float)
    own = {"preset": "intended", "session": days, "ticker": "CRWD", "w1": w1 + step * rise, "w2": 0.3 + 0.2 * rise}
    stocks = pd.DataFrame(own | {"l2": 1.0 + rise})
    return track_of(days, pd.Timestamp("2024-07-19"), days[:8], SimpleNamespace(stocks=stocks), S=0.5)


def test_a_truth_value_is_judged_as_a_check():
    """Also where an array gave it: 0.0 against no number would be judged by another rule."""
    for values, holds in (([np.bool_(False)], False), ([np.bool_(True), True], True)):
        found = finding(CLAIMS["F3.progress"], values, tier="cpu")
        assert found.value is holds and found.by == "holds"


def test_a_dead_weight_neither_stays_nor_leaves():
    assert np.isnan(CROWDSTRIKE["S42.crwd_ps"](outage(1e-20))) and np.isnan(CROWDSTRIKE["S42.crwd_ps"](outage(5e-4)))
    assert CROWDSTRIKE["S42.crwd_ps"](outage(0.2)) is True and CROWDSTRIKE["S42.crwd_ps"](outage(0.2, 0.2)) is False
    assert CROWDSTRIKE["S42.crwd_liq"](outage(0.2)) == pytest.approx(0.5)
    assert CROWDSTRIKE["S44.crwd.err_liq"](outage(0.2)) == 2.0


def test_stocks_are_cut_at_the_threshold_of_their_own_rule(march):
    """Scores between the two thresholds (0.8 of `tail`, 0.9 of `val`) are above the first alone."""
    days = march.daily.index
    score = np.full((len(days), 4), 0.1)
    for first, count in (("2023-03-08", 1), ("2023-03-10", 2), ("2023-03-13", 3)):
        score[days >= first, :count] = 0.85
    run = SimpleNamespace(score=score, score_sessions=days, tickers=list("ABCD"))
    tensors = SimpleNamespace(is_bank=np.array([False] * 4))
    market = SimpleNamespace(tensors=tensors, first_run=lambda preset: run)
    track = track_of(days, DAY, days[:8], SimpleNamespace(market=market), banks=0.5)
    assert SVB["F3.progress"](track) is True
    assert SVB["F3.progress"](Track(track.daily, track.whole, DAY, days[:8], track.study, theta_tail=0.9)) is False


def test_a_baseline_outside_the_case_is_refused():
    days = pd.bdate_range("2023-03-01", periods=6)
    daily = pd.DataFrame({"S": 0.5}, index=days)
    with pytest.raises(CaseError, match=r"2023-02-24 of the baseline is outside .* 2023-03-01 to 2023-03-08"):
        Track(daily, daily, days[4], pd.DatetimeIndex(["2023-02-24", "2023-03-01"]))
    with pytest.raises(CaseError, match="2023-03-11 is no session of the case: 2023-03-01 to 2023-03-08"):
        Track(daily, daily, days[4], days[:2]).at("S", "2023-03-11")


# --- the switch in the index, breadth, what came first ----------------------------------------------------------------
def test_the_switch_of_consensus_by_hand():
    days = pd.bdate_range("2023-03-01", periods=6)
    c1 = np.array([0.02, 0.01, 0.02, 0.01, 0.05, 0.05])  # of 100 stocks: the second and the fourth day have one each
    c4 = np.array([0.8, 0.0, 0.8, 0.0, 1.0, 0.9])
    mpi = np.array([0.50, 0.38, 0.50, 0.38, 0.60, 0.58])
    switch = silent_consensus(track_of(days, days[4], days[:3], c1=c1, c4=c4, MPI=mpi, n_active=100.0))
    assert list(switch["days"]) == [days[1], days[3]] and switch["jump_day"] == days[4]
    assert switch["rise"] == pytest.approx(100 * (0.60 / 0.46 - 1))
    assert switch["rise_without"] == pytest.approx(100 * (0.60 / 0.50 - 1))
    assert switch["jump"] == pytest.approx(0.22) and switch["of_consensus"] == pytest.approx(0.15)


def test_days_around_and_the_first_raised_level():
    days = pd.bdate_range("2023-02-20", "2023-03-31")
    level = np.zeros(len(days))
    level[days.get_indexer(["2023-02-22", "2023-03-08", "2023-03-13"])] = 2, 3, 4
    track = track_of(days, DAY, days[:8], level=level, MPI=0.5, S=0.5)
    table = days_around({("intended", 0): track})
    assert len(table) == 13 and table.session.iloc[[0, -1]].tolist() == [*pd.to_datetime(["2023-03-01", "2023-03-17"])]
    assert table["level intended 0"].tolist() == [0] * 5 + [3, 0, 0, 4] + [0] * 4
    assert "intended, seed 0: 8 March (L3, 2 ahead)" in case_alarms.crossing_words({("intended", 0): track}, table)
    told = case_alarms.index_words({("intended", 0): track}, DAY, "that day")
    assert "level L0; in the five sessions before L3 on 8 March, L0 on 4 of 5" in told
    late = case_alarms.span_words({("intended", 0): track}, ("2023-03-06", "2023-03-09"))
    assert "within L3 on 8 March, after L4 on 13 March" in late and "counted on 10 March" in late


def test_a_fall_of_the_sector_is_one_net_of_the_market():
    """On a day on which everybody falls alike, many banks fall and no bank falls behind."""
    sessions, bank = pd.bdate_range("2023-01-02", periods=60), np.arange(8) < 4
    returns = np.tile(np.where(np.arange(8) % 2, 0.01, -0.01), (60, 1))
    returns[10], returns[20, :4], returns[20, 4:] = -0.05, -0.05, 0.01
    tensors = SimpleNamespace(active=np.ones((60, 8), bool), returns=returns, sessions=sessions, is_bank=bank,
                              test=np.ones(60, bool))  # fmt: skip
    market, sector = (case_words.fallen_words(tensors, f"{sessions[k]:%Y-%m-%d}") for k in (10, 20))
    assert "100% of the banks fell" in market and "median return 0% fell" in market and "no sign" in market
    assert "median return 100% fell, on 2%" in sector and "of the sector, not of one bank" in sector


def test_the_days_of_the_switch_are_named():
    days = pd.bdate_range("2023-02-08", periods=20)
    assert case_words._spans(days[[1, 4, 5, 6, 9]], days) == "9 February, 14 February to 16 February, 21 February"
    assert case_words._spans(days, days) == "every session" and case_words._spans(days[:0], days) == "no session"


def test_breadth_is_cut_without_the_events_own_sessions():
    days = pd.bdate_range("2022-01-03", periods=200)
    c1, at = np.linspace(0.0, 0.1, 200), 150
    c1[at - 5 : at + 11] = 0.9  # the event itself: it would raise a cut of all sessions above everything before it
    c1[at - 3] = 0.5
    daily = pd.DataFrame({"c1": c1}, index=days)
    track = Track(daily, daily, days[at], days[:5])
    tensors = SimpleNamespace(sessions=days, val=np.ones(200, bool))
    found = breadth_crossings(SimpleNamespace(tensors=tensors), {("intended", 0): track})
    outside = [c1[k] for k in range(200) if not at - 5 <= k <= at + 10]
    first = next(k for k in range(at - 10, at) if c1[k] > np.quantile(outside, 0.95))
    assert found["intended, seed 0"] == f"{at - first} sessions ahead, on {days[first]:%-d %B}"
    assert np.quantile(c1, 0.95) > c1[at - 10 : at - 5].max() and np.quantile(c1, 0.95) >= 0.9
    assert breadth_by_chance(10) == pytest.approx(1 - 0.95**10)


def test_the_window_rate_turns_all_methods_together():
    days, rng = pd.bdate_range("2023-01-02", periods=40), np.random.default_rng(0)
    runs = {("a", 0): rng.random(40) < 0.1, ("a", 1): rng.random(40) < 0.1, ("b", 0): rng.random(40) < 0.2}
    runs["b", 0][20:23] = runs["a", 0][20:23] = True
    table = pd.DataFrame(runs, index=days)
    table.columns.names = ["method", "seed"]

    def methods(turn: int) -> float:
        inside = {run: any(np.roll(raised, turn)[k] for k in range(18, 23)) for run, raised in runs.items()}
        return (inside["a", 0] + inside["a", 1]) / 2 + inside["b", 0]

    turned = [methods(turn) for turn in range(1, 40)]
    rate = window_rate(table, days[23])
    assert rate["found"] == methods(0) and rate["expected"] == pytest.approx(np.mean(turned))
    assert rate["p"] == pytest.approx((1 + sum(t >= methods(0) for t in turned)) / 40)
    found = first_alarms(table, days[23]).set_index(["method", "seed"])
    assert rate["expected"] == pytest.approx(found.by_chance.groupby("method").mean().sum())


def test_before_the_eve_is_within_the_window():
    """An alarm nine sessions ahead, or on the eve itself, is none before the eve."""
    days = pd.bdate_range("2023-01-02", periods=30)
    table = pd.DataFrame({("far", 0): False, ("eve", 0): False, ("early", 0): False}, index=days)
    table.columns.names = ["method", "seed"]
    table.loc[days[11], ("far", 0)] = table.loc[days[19], ("eve", 0)] = table.loc[days[15], ("early", 0)] = True
    found = first_alarms(table, days[20]).set_index("method")
    assert found.before_eve.to_dict() == {"far": False, "eve": False, "early": True}
    assert found.in_window.to_dict() == {"far": False, "eve": True, "early": True}
    assert found.sessions_ahead["far"] == 9


# --- words, marks, tables ---------------------------------------------------------------------------------------------
def test_reasons_by_hand():
    values = {"F3.ps.mar10": [1e-20, 0.05], "F3.mpi.rel": [np.nan, 60.0], "F3.top3": [True, np.nan]}
    said = case_words.reasons(values, [0, 1], CLAIMS)
    assert said["F3.ps.mar10"] == "the expert gets nothing in seed 0; seeds below, the nearest (1) off by 0.34"
    assert said["F3.mpi.rel"] == "seeds above, the nearest (1) off by 2; no value from seed 0"
    assert said["F3.top3"] == "no value from seed 1"
    none = case_words.reasons({"S42.crwd_ps": [np.nan, np.nan]}, [0, 1], CLAIMS)
    assert none["S42.crwd_ps"].startswith("no value from seed 0, 1 (not kept, or of an expert")
    both = case_words.reasons({"F3.ps.mar10": [0.3, 0.4]}, [0, 1], CLAIMS)
    assert both["F3.ps.mar10"] == "seeds on both sides, the nearest (1) off by 0.01"


def test_the_marks_of_figure_3_are_the_claims():
    marks = figure3_marks(VALUE, list(BASELINE))
    raw = {c["id"]: c.get("value") for c in yaml.safe_load((ROOT / "paper" / "claims.yaml").read_text())["claims"]}
    printed = {panel: [m.value for m in own if not m.implied and m.top is None] for panel, own in marks.items()}
    assert printed == {"a": [0.38, 0.60], "focus": [0.87], "others": [0.44], "w1": [0.29, 0.35, 0.39, 0.41, 0.48],
                       "w2": [0.18], "w3": [0.13], "w4": [0.21], "SIVB": [0.95], "FRC": [0.91],
                       "SBNY": [0.89]}  # fmt: skip
    ids = {"a": ["F3.mpi.baseline", "F3.mpi.event_day"], "focus": ["F3.bank.peak"], "others": ["F3.nonbank.peak"],
           "w1": ["F3.ps.baseline", "F3.ph1.ps", "F3.ps.mar10", "F3.ph2.ps", "F3.ps.mar17"], "w2": ["F3.liq.level"],
           "w3": ["F3.sc.level"], "w4": ["F3.mom.level"], "SIVB": ["F3.score.sivb"], "FRC": ["F3.score.frc"],
           "SBNY": ["F3.score.sbny"]}  # fmt: skip
    assert printed == {panel: [raw[i] for i in names] for panel, names in ids.items()}
    implied = {panel: m.value for panel, own in marks.items() for m in own if m.implied}
    assert implied == pytest.approx({"focus": 0.87 / 2.49, "others": 0.44 / 1.19, "w3": 0.13 / 1.16})
    band = next(m for m in marks["w1"] if m.top is not None)
    assert band == Mark("2023-03-13", "2023-03-17", 0.45, 0.48, joined=False)
    assert [m.value for m in marks["w1"] if not m.joined] == [0.41, 0.45]


def test_the_papers_weights_of_a_day():
    """Two of the event's day, all four of 17 March, which add up to one (A30)."""
    given = printed_weights(VALUE)
    assert given["the paper, 17 Mar"] == [0.48, 0.18, 0.13, 0.21]
    assert sum(given["the paper, 17 Mar"]) == pytest.approx(1)
    np.testing.assert_array_equal(given["the paper, 10 Mar"], [0.39, np.nan, 0.13, np.nan])


def test_the_error_without_experts_is_read_where_it_is_kept(tmp_path):
    paths = MarketPaths("made_up", tmp_path)
    market = SimpleNamespace(paths=paths)
    assert no_moe_error(market, "AAA").empty
    days = pd.bdate_range("2024-07-08", periods=3)
    error = np.arange(6, dtype=np.float16).reshape(3, 2, 1)
    extras = {"days": days.to_numpy("datetime64[D]"), "expert_error": error}
    daily = pd.DataFrame({"mean": 0.5}, index=days)
    run = Run(np.zeros((3, 2), np.float32), days, ["AAA", "BBB"], daily, {"tier": "cpu"}, extras)
    store = RunStore(paths.runs("model"))
    key = RunKey("made_up", "intended", "no_moe", 0, {}, "data", 1)
    store.save(key, run)
    store.mark_current([key])
    assert no_moe_error(market, "BBB").to_dict() == dict(zip(days, [1.0, 3.0, 5.0], strict=True))


def test_a_measure_without_a_value_is_not_testable_and_not_unrun(tmp_path):
    """Run, but the expert gets nothing: running it again would not help."""
    paths, claim = MarketPaths("us100", tmp_path), CLAIMS["S42.crwd_ps"]
    compute = decider_of(claim.id, deciders()).compute
    with pytest.raises(NotRun, match="runner case_studies"):
        compute(claim, Sources(paths, ROOT / "paper"))
    write_csv(paths.tables("case_studies") / "claims.csv", answers_table({"S42.crwd_liq": Finding(0.5, n_seeds=1)}))
    stores = {seeds: Sources(paths, ROOT / "paper") for seeds in ("all keep stocks", "one does not")}
    whole, bare = (({"key": {}}, SimpleNamespace(score_sessions=[0] * n)) for n in (3, 0))
    stores["all keep stocks"].__dict__["model_runs"] = [whole, whole]
    stores["one does not"].__dict__["model_runs"] = [whole, bare]
    with pytest.raises(NotTestable, match="no stored seed has a value"):
        compute(claim, stores["all keep stocks"])
    with pytest.raises(NotRun, match=r"1 of 2 seeds keep no single stocks.*runner model"):
        compute(claim, stores["one does not"])  # a seed that was not looked at may have one
    compute(CLAIMS["S42.crwd_liq"], Sources(paths, ROOT / "paper"))  # has one
    runs = pd.DataFrame({"preset": ["intended"], "seed": [0], "tier": ["cpu"], "device": ["cpu"]})
    own = {"S42.crwd_ps": CROWDSTRIKE["S42.crwd_ps"]}
    table = measured(own, {("intended", 0): outage(1e-20)}, "intended", CLAIMS, runs)
    sentence = {"paragraph": "", "says": "", "why": "", "claims": ["S42.crwd_ps"]}
    row = claims_table([sentence], {("intended", "val"): table}, {}, stores["all keep stocks"]).iloc[0]
    assert row["intended"] == "" and row["intended: verdict"] == "not testable"


def test_what_no_rule_can_judge_has_no_verdict_in_any_preset(tmp_path):
    """And what a later stage decides is not run here, in the ledger's word."""
    sources = Sources(MarketPaths("us100", tmp_path), ROOT / "paper")
    norm = {"S44.crwd.err_liq": Finding(2.34, n_seeds=1, tier="cpu")}
    ours = {("intended", "val"): norm, ("literal", "val"): norm}
    sentence = {"paragraph": "", "says": "", "why": "", "claims": ["S44.crwd.err_liq", "S44.alpha_opt_svb"]}
    table = claims_table([sentence], ours, {}, sources).set_index("claim")
    assert table.loc["S44.crwd.err_liq", ["intended: verdict", "literal: verdict"]].eq("not testable").all()
    later = table.loc["S44.alpha_opt_svb"]
    assert later["intended: verdict"] == "not run" and later["in our runs"] == "decided by stage ablations"


def test_a_check_that_holds_in_part_says_for_which():
    assert _told(Finding(False, "holds", part=0.75)) == "fails, holds for 75% of its parts"
    assert _told(Finding(False, "holds", part=0.5, n_seeds=2)) == "holds in 1 of 2"


def test_the_best_weight_waits_for_the_runs_that_fix_it(tmp_path):
    sources = Sources(MarketPaths("us100", tmp_path), ROOT / "paper")
    claim = CLAIMS["S44.alpha_opt_svb"]
    decider = decider_of(claim.id, deciders())
    with pytest.raises(NotRun, match=r"stage ablations.*sweep --market us100 --variants alpha0 alpha1 fixed05"):
        decider.compute(claim, sources)

    def held(*leads: tuple[float, float, float]) -> None:
        rows = [
            ("narrow", "cpu", k, a, lead) for k, of in enumerate(leads) for a, lead in zip((0, 0.5, 1), of, strict=True)
        ]
        write_csv(
            sources.paths.tables("ablations") / "fixed_weights.csv",
            pd.DataFrame(rows, columns=["tier", "device", "seed", "alpha", "lead"]),
        )

    held((1, 3, 0), (4, 2, 2))
    found = decider.compute(claim, sources)
    assert (found.value, found.n_seeds, found.tier) == (0.25, 2, "narrow") and (found.low, found.high) == (0, 0.5)
    held((1, 1, 0), (4, 2, 2))
    with pytest.raises(NotTestable, match=r"0: 1 4; 0\.5: 1 2; 1: 0 2; tier narrow"):
        decider.compute(claim, sources)
    held()
    with pytest.raises(NotRun, match="no comparison"):
        decider.compute(claim, sources)
    assert decider.stage == "ablations" and case_measures.DEFAULT_PRESET == "intended"
