"""Every claim has a decider; absent results say which command makes them; present ones are read as they stand."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from anomaly_routing.claims import load_claims
from anomaly_routing.errors import MarketDataError
from anomaly_routing.ledger import build, summary
from anomaly_routing.ledger.intervals import DRAWS, over_events, over_seeds, t_interval
from anomaly_routing.ledger.registry import decider_of, deciders, without_claim, without_decider
from anomaly_routing.ledger.sources import PAPER_MARKET, Sources
from anomaly_routing.ledger.verdict import NOT_RUN, NOT_TESTABLE, REFUTED, Finding, NotRun
from anomaly_routing.paths import MarketPaths
from anomaly_routing.sweep import _arguments, tasks
from anomaly_routing.variants import read_catalogue
from tests.conftest import ROOT

CLAIMS = load_claims(ROOT / "paper" / "claims.yaml")


@pytest.fixture
def empty(tmp_path) -> Sources:
    """The real market's name and nothing behind it."""
    return Sources(MarketPaths(PAPER_MARKET, tmp_path), ROOT / "paper", methods={})


def row(sources: Sources, name: str) -> dict:
    return build._row(CLAIMS[name], decider_of(name, deciders()), sources)


def put(sources: Sources, name: str, table: pd.DataFrame) -> None:
    path = sources.paths.reports / "tables" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def test_every_claim_has_a_decider_and_every_decider_a_claim():
    assert without_decider(CLAIMS) == []
    assert without_claim(CLAIMS) == []


def test_a_claim_without_a_decider_is_an_error(empty):
    assert decider_of("T99.new", deciders()) is None
    with pytest.raises(LookupError, match=r"no decider for T99\.new"):
        build._row(CLAIMS["ABS.lead"].__class__(**CLAIMS["ABS.lead"].__dict__ | {"id": "T99.new"}), None, empty)


def test_each_verdict_leads_to_the_line_that_decides():
    for decider in deciders().values():
        text = (ROOT / decider.file).read_text().splitlines()
        assert 1 <= decider.line <= len(text) and decider.file.startswith("src/anomaly_routing/"), decider
    temperature = decider_of("S3.tau_sharp", deciders())
    assert "S3.tau_sharp" in "".join((ROOT / temperature.file).read_text().splitlines()[temperature.line - 1])
    constant = decider_of("S3.topk", deciders())
    assert "S3.topk" in (ROOT / constant.file).read_text().splitlines()[constant.line - 1]


def test_the_most_specific_decider_wins():
    known = deciders()
    assert decider_of("T1.evolvegcn.rate", known).pattern == "T1.evolvegcn.rate"
    assert decider_of("T1.tranad.rate", known).pattern == "T1.*.rate"
    assert decider_of("T4.gamma1.0.01", known).pattern == "T4.*.*"
    assert decider_of("T2.full.hits", known).pattern == "T2.full.hits"


def test_without_results_nothing_is_claimed(empty):
    """A bare clone: only what the paper's own figures, the calendar, shapes and reading decide."""
    table = build.ledger(empty).set_index("id")
    assert len(table) == len(CLAIMS)
    waiting = table[table.verdict == NOT_RUN]
    assert waiting.reason.str.contains("python -m anomaly_routing.runner").all()
    assert table.loc[["ABS.detection", "T2.no_moe.hits", "F3.ps.mar10", "T8.40.lead"], "verdict"].eq(NOT_RUN).all()
    silent = table[table.verdict == NOT_TESTABLE].reason
    assert (silent.str.len() > 40).all()
    refuted = table[table.verdict == REFUTED]
    assert {"ABS.gain_over_best_baseline", "S41.days", "S41.date.sbny", "T4.within2", "C.ops"} <= set(refuted.index)
    assert (refuted.reason.str.len() > 15).all()
    trained = table.index.map(lambda name: not CLAIMS[name].checkable_without_training)
    agreed = table[trained & table.verdict.isin(["match", "close"])]
    assert set(agreed.index) <= {"S2.w_simplex", "T5.total.pct"}  # sums to one untrained; a sum of printed shares


def test_the_simulated_market_decides_nothing_about_markets(tmp_path):
    sources = Sources(MarketPaths("simulated", tmp_path), ROOT / "paper", methods={"intended": {}})
    for name in ("T1.tranad.hits", "F3.ps.mar10", "S42.alerts.L0", "F1a.corr_crisis", "T2.no_moe.hits"):
        found = row(sources, name)
        assert found["verdict"] == NOT_TESTABLE and "simulated" in found["reason"], name
    assert row(sources, "S41.days")["verdict"] == REFUTED
    assert row(sources, "S3.topk")["verdict"] == "match"


SWEEP = pd.DataFrame(
    {
        "variant": ["full", "no_moe", "no_mpi", "alpha1", "topk.10"],
        "paper_rate": [92.3, 61.5, 69.2, 76.9, 87.3],
        "paper_lead": [3.8, 2.3, 2.1, 2.9, np.nan],
        "hits": [12.0, 8.0, 11.0, 10.0, 12.0],
        "n_events": [13] * 5,
        "lead": [3.5, 2.0, 2.0, 5.0, 3.0],
        "alarm_rate": [0.1] * 5,
        "n_seeds": [10] * 5,
        "tier": ["gpu"] * 5,
        "status": ["run", "run", "run", "not run", "run"],
        "delta": [0.0, -4.0, -1.0, -2.0, 0.0],
        "delta_low": [0.0, -5.0, -1.5, -3.0, 0.0],
        "delta_high": [0.0, -3.0, -0.5, -1.0, 0.0],
    }
)


def test_the_sweeps_tables(empty):
    """Judged by the difference to `full`, but what is printed as ours is the level that was measured."""
    put(empty, "table2", SWEEP)
    found = row(empty, "T2.no_moe.hits")
    assert found["verdict"] == "match" and found["ours"] == "8"  # 4 events fewer, as the paper says, and shown
    found = row(empty, "T2.no_mpi.hits")
    assert (found["verdict"], found["ours"]) == ("differs", "11")
    assert "difference -1 events (95% -1.5 to -0.5), paper -3" in found["reason"]
    lower = SWEEP.assign(hits=SWEEP.hits - 6)  # all rows worse, so the differences stay
    put(empty, "table2", lower)
    found = row(empty, "T2.no_moe.hits")
    assert (found["verdict"], found["ours"]) == ("match", "2")
    found = row(empty, "T2.no_moe.rate")
    assert found["verdict"] == "match" and float(found["ours"]) == pytest.approx(100 * 2 / 13, abs=0.01)
    assert "difference -30.8 points (95% -38.5 to -23.1), paper -30.8" in found["reason"]
    put(empty, "table2", SWEEP)
    assert row(empty, "S44.no_moe.delta")["verdict"] == "match"
    assert row(empty, "S44.no_mpi.delta")["verdict"] == "differs"  # one event fewer against three
    assert row(empty, "T2.no_mpi.lead")["verdict"] == "match"
    assert row(empty, "T2.alpha1.hits")["verdict"] == NOT_RUN  # its line says so itself
    put(empty, "table2", SWEEP.drop(columns=["delta", "delta_low", "delta_high"]))
    found = row(empty, "T2.no_moe.hits")
    assert (found["verdict"], found["qualifier"]) == ("close", "difference not shown")
    paired = pd.DataFrame(
        {"variant": ["no_moe"], "tier": ["gpu"], "mean": [-4.0], "difference of each seed": ["-4, -4"]}
    )
    put(empty, "ablations/differences", paired.assign(seeds=10, **{"95% low": -4.5, "95% high": -3.5}))
    assert row(empty, "T2.no_moe.hits")["verdict"] == "match"
    put(empty, "ablations/differences", paired.assign(seeds=2, **{"95% low": -4.5, "95% high": -3.5}))
    found = row(empty, "T2.no_moe.hits")  # the interval of two seeds is none
    assert found["qualifier"] == "difference not shown" and "by seed -4, -4" in found["reason"]
    put(empty, "ablations/differences", paired.assign(seeds=10, tier="cpu", **{"95% low": -4.5, "95% high": -3.5}))
    assert row(empty, "T2.no_moe.hits")["qualifier"] == "difference not shown"  # of another tier
    put(empty, "table2", SWEEP.assign(p=[0.01, 0.2, 0.01, np.nan, 0.3]))
    found = row(empty, "T2.no_moe.hits")  # the rules: a match that chance gives with p above 0.05 is marked
    assert (found["verdict"], found["qualifier"], found["chance_p"]) == ("match", "no better than chance", 0.2)
    found = row(empty, "S44.no_moe.delta")  # a difference is no count of hits
    assert (found["verdict"], found["qualifier"], found["chance_p"]) == ("match", "", None)
    put(empty, "table2", SWEEP.assign(tier="cpu", n_seeds=1))
    found = row(empty, "S44.no_moe.delta")
    assert (found["verdict"], found["qualifier"]) == ("close", "tier cpu, 1 seed")


def test_sensitivity_compares_differences_to_the_default(empty):
    put(empty, "table4", SWEEP)
    assert row(empty, "T4.topk.20")["verdict"] == "match"  # 92.3 against 91.2, within two points
    found = row(empty, "T4.topk.10")  # ours does not move, the paper's falls by 3.9 points
    assert found["ours"] == "92.31" and found["verdict"] == "close"
    put(
        empty, "table4", SWEEP.assign(hits=SWEEP.hits - 6)
    )  # far from the paper's levels, the difference is what it was
    found = row(empty, "T4.topk.10")
    assert found["ours"] == "46.15" and found["verdict"] == "close"
    assert "difference +0 points (95% +0 to +0), paper -3.9" in found["reason"]
    assert row(empty, "T4.topk.20")["verdict"] == "differs"
    level = SWEEP.drop(columns=["delta", "delta_low", "delta_high"]).assign(n_seeds=1)
    put(empty, "table4", level.assign(hits=[9.0, 8.0, 11.0, 10.0, 8.0]))  # the default: the median of three seeds
    paired = {"variant": ["top_k_10"], "tier": ["gpu"], "mean": [0.0], "difference of each seed": ["+0"], "seeds": [1]}
    paired = pd.DataFrame(paired).assign(**{"95% low": np.nan, "95% high": np.nan})
    put(empty, "table4", level.assign(hits=[9.0, 8.0, 11.0, 10.0, 8.0], variant=[*level.variant[:4], "top_k_10"]))
    put(empty, "ablations/differences", paired)
    found = row(empty, "T4.topk.10")  # the same seed hits as many: paired, not eight against the other seeds' nine
    assert "difference +0 points, paper -3.9; events by seed +0" in found["reason"]
    assert row(empty, "T4.lr.0.01")["verdict"] == NOT_RUN


def test_other_names_of_a_variant(empty):
    put(empty, "table6", SWEEP.assign(status="run"))
    assert row(empty, "T6.prior.rate")["verdict"] == "match"  # alpha1 in the sweep
    assert row(empty, "T6.stress.lead")["verdict"] == NOT_RUN  # the full model's own runs decide it
    assert row(empty, "T6.trainable.rate")["verdict"] == NOT_RUN


@pytest.mark.parametrize("number", [2, 4, 6, 7, 8])
def test_what_was_not_trained_names_the_sweep_that_trains_it(empty, number):
    """The command's variants are variants of that table, the sweep takes it, and the row is found once it is run."""
    catalogue = read_catalogue(ROOT / "variants.yaml")
    rows = dict(catalogue.tables[f"table{number}"])
    lines = pd.DataFrame({"variant": list(rows.values()), "tier": "cpu", "status": "not run", "n_seeds": 0})
    put(empty, f"table{number}", lines.drop_duplicates())
    claims = [name for name in CLAIMS if name.startswith(f"T{number}.") and name.rpartition(".")[0] in rows]
    claims = [n for n in claims + list(rows) if n in CLAIMS and decider_of(n, deciders()).group == "tables"]
    assert claims
    for name in claims:
        found = row(empty, name)
        assert found["verdict"] == NOT_RUN, name
        command = re.search(r"-m anomaly_routing.sweep (.*); then python -m anomaly_routing.runner", found["reason"])
        given = _arguments().parse_args(command.group(1).split())
        variant = rows.get(name) or rows[name.rpartition(".")[0]]
        assert (given.variants, given.tier, given.market) == ([variant], "cpu", PAPER_MARKET), name
        assert tasks(catalogue, given.variants, 1, given.tier)
    run = lines.drop_duplicates().assign(status="run", hits=5.0, n_events=13, lead=2.0, alarm_rate=0.1, n_seeds=3)
    full = run.iloc[:1].assign(variant="full")
    put(empty, f"table{number}", pd.concat([run, full]))
    assert all(row(empty, name)["verdict"] != NOT_RUN for name in claims)


def test_a_training_that_ended_at_its_cap_names_the_parameter_to_raise():
    sources = Sources(MarketPaths(PAPER_MARKET, ROOT), ROOT / "paper")
    metas = [({"info": {"stopped": "cap", "epochs": 30}}, None)] * 2
    sources.__dict__["model_runs"] = metas
    reason = row(sources, "T5.epochs_avg")["reason"]
    assert "set `epochs: 100` under model: training: in markets/us100/params.yaml" in reason
    file = yaml.safe_load((ROOT / "markets" / "us100" / "params.yaml").read_text())
    assert "epochs" in file["model"]["training"]  # the parameter that the reason names


def test_a_stage_that_ran_may_have_no_answer(empty):
    """A gate that always answers the same leaves nothing to measure; a stage that was not run is another matter."""
    assert row(empty, "S5.ood")["verdict"] == NOT_RUN
    ran = Sources(empty.paths, empty.paper, methods={})
    put(ran, "attribution/claims", pd.DataFrame({"id": ["S1.shap_variance"], "holds": [False], "by": ["holds"]}))
    found = row(ran, "S5.ood")
    assert found["verdict"] == NOT_TESTABLE and "one expert" in found["reason"]


def test_a_stage_may_decide_claims_itself(empty):
    answers = pd.DataFrame(
        {"id": ["Z000.evt.violation", "Z002.cl.overlap", "F3.sequence"], "n_seeds": [10, None, None]}
    )
    answers["tier"] = ["gpu", None, None]
    answers["value"], answers["holds"], answers["by"] = [0.011, None, None], [None, True, True], "holds"
    answers.loc[0, "by"] = "rates"
    put(empty, "value_at_risk/claims", answers)
    assert row(empty, "Z000.evt.violation")["verdict"] == "match"
    assert row(empty, "Z002.cl.overlap")["verdict"] == "match"
    assert row(empty, "F3.sequence")["verdict"] == REFUTED  # what the paper excludes itself comes first
    assert row(empty, "Z000.evt.volume")["verdict"] == NOT_RUN
    other = Sources(empty.paths, empty.paper, methods={})
    put(other, "chapter/claims", pd.DataFrame({"id": ["Z002.cl.overlap"], "verdict": ["match"]}))
    with pytest.raises(ValueError, match="unknown columns verdict"):
        _ = other.answers


def test_no_small_training_is_a_plain_match():
    """The ledger over the committed runs: what needs training matches at the paper's size alone."""
    sources = Sources(MarketPaths(PAPER_MARKET, ROOT), ROOT / "paper")
    trained = [name for name, claim in CLAIMS.items() if not claim.checkable_without_training]
    found = pd.DataFrame([row(sources, name) for name in trained])
    assert (found.n_seeds.fillna(0) > 0).sum() > 30  # there are runs, and they are read
    assert found.tier[found.n_seeds.notna()].ne("").all()
    plain = found[(found.verdict == "match") & (found.qualifier == "")]
    small = plain[~((plain.tier == "gpu") & (plain.n_seeds >= 10))]
    assert set(small.id) <= {"T5.total.pct"}  # a sum of printed shares; none of ours


def test_a_claim_is_answered_once_and_is_a_claim(empty):
    put(empty, "chapter/claims", pd.DataFrame({"id": ["Z002.cl.overlap"], "holds": [True]}))
    put(empty, "model/claims", pd.DataFrame({"id": ["S3.xmodal_reading"], "holds": [True]}))
    assert set(Sources(empty.paths, empty.paper).answers) == {"Z002.cl.overlap", "S3.xmodal_reading"}
    put(empty, "model/claims", pd.DataFrame({"id": ["Z002.cl.overlap"], "holds": [False]}))
    with pytest.raises(ValueError, match=r"model.claims.csv: Z002\.cl\.overlap answered by another stage"):
        _ = Sources(empty.paths, empty.paper).answers
    put(empty, "model/claims", pd.DataFrame({"id": ["Z002.cl.overlapp"], "holds": [False]}))
    with pytest.raises(ValueError, match=r"overlapp in no line of claims\.yaml"):
        _ = Sources(empty.paths, empty.paper).answers


def test_totals_add_up(empty):
    table = build.ledger(empty)
    counted = build.totals(table)
    assert counted.iloc[-1].claims == len(CLAIMS) and counted.claims.iloc[:-1].sum() == len(CLAIMS)
    assert build.totals(table, "source").claims.iloc[:-1].tolist() == [414, 19, 45]
    assert build.outstanding(table).claims.sum() == (table.verdict == NOT_RUN).sum()
    assert counted["by reading"].iloc[-1] == table.qualifier.str.contains("by reading").sum() > 3
    head = build.headline(table, {"detection": 22.6})
    assert list(head.part) == ["detection", "lead", "gain", "attribution", "cost"] and head.chance[0] == "22.6"


def test_the_totals_keep_texts_and_restatements_apart():
    """Made-up ledger: three claims on one result, one on its own, a wrong equation number, a text beside the paper."""
    rows = [("A", "the paper", "differs", "hits of full")] * 3 + [("B", "the paper", "differs", "B")]
    rows += [("T3.eqref.x", "the paper", REFUTED, "x"), ("S41.days", "the paper", REFUTED, "days")]
    rows += [("Z002.a", "the chapter", "match", "Z002.a")]
    table = pd.DataFrame(rows, columns=["id", "source", "verdict", "result"]).assign(
        qualifier="", group="tables", file="f.py", line=1
    )
    text = summary.totals_sentence(table)
    assert "Of the paper's 6 checkable claims 0 match" in text and "4 differ, 1 is refuted" in text
    assert "and 1 more by a wrong equation number" in text and "the 4 that differ rest on 2 distinct results" in text
    assert "3 of them restate one (`hits of full`)" in text and "Of the 1 claims of the chapter 1 matches" in text
    lists = summary.three_lists(table.assign(reason=""))
    assert "4 claims about results come out otherwise here, on 2 distinct results" in lists
    assert "**Wrong equation numbers:** 1 " in lists and "**Excluded by its own figures:** 1 " in lists


def test_marks_repeat_the_audit(empty):
    found = {name: build.marks(CLAIMS[name], empty) for name in CLAIMS}
    impossible = [name for name, text in found.items() if "A04" in text and name.startswith("T1")]
    assert len(impossible) == 10 and not found["T1.lstm_ae.lead"] and not found["T2.no_div.lead"]
    assert found["T6.trainable.rate"] and not found["T6.fixed.rate"] and found["S42.alerts.L1"]


def test_an_absent_file_names_its_stage(empty):
    with pytest.raises(NotRun, match=r"no tables/table2.csv \(stage ablations\): python -m anomaly_routing.runner"):
        empty.table("table2")


def test_claims_that_restate_one_figure_share_a_result(empty):
    put(empty, "table4", SWEEP)
    found = {name: row(empty, name)["result"] for name in ("T4.topk.20", "T4.bilstm.128", "T4.topk.10", "S41.days")}
    assert found["T4.topk.20"] == found["T4.bilstm.128"] == "hits of full" != found["T4.topk.10"]
    assert found["S41.days"] == "S41.days"
    same, other, none = Finding(0.5, by_seed=(0.25, 0.75)), Finding(0.5, by_seed=(0.5, 0.5)), Finding(0, by_seed=(0, 0))
    names = [build.result_of(CLAIMS["ABS.lead"], finding) for finding in (same, other, none)]
    assert len(set(names)) == 3 and names[0] == build.result_of(CLAIMS["F3.ps.mar10"], same)
    assert names[2] == "ABS.lead"  # zeros are alike without being one figure


def test_intervals_of_few_seeds():
    assert over_seeds([0.9]) == {}
    assert over_seeds([0.9, 0.1]) == {"low": 0.1, "high": 0.9, "ranged": True, "by_seed": (0.9, 0.1)}
    enough = over_seeds([0.1, 0.2, 0.3, 0.4, 0.5])
    assert not enough["ranged"] and (enough["low"], enough["high"]) == t_interval([0.1, 0.2, 0.3, 0.4, 0.5])
    assert t_interval(np.array([1.0])) == (None, None)
    low, high = t_interval(np.array([1.0, 3.0]))
    assert low == pytest.approx(2 - 12.7062) and high == pytest.approx(2 + 12.7062)


def test_an_interval_over_events_against_a_plain_loop():
    leads = np.array([1.0, 5.0, np.nan, 2.0, np.nan, 4.0])
    draws = np.random.default_rng(0).integers(0, 6, (DRAWS, 6))
    medians = [np.median(kept) for row in draws if len(kept := [v for v in leads[row] if v == v])]
    assert over_events(leads, np.nanmedian) == pytest.approx(tuple(np.quantile(medians, (0.025, 0.975))))
    assert over_events([np.nan, np.nan]) == (None, None) and over_events([7.0, 7.0]) == (7.0, 7.0)
    low, high = over_events(np.r_[np.ones(40), np.zeros(60)])  # a share of 0.4 of a hundred
    half = 1.96 * np.sqrt(0.4 * 0.6 / 100)
    assert (low, high) == pytest.approx((0.4 - half, 0.4 + half), abs=0.02)


def scored(hits: list[int], leads: dict[str, int | None], **more) -> dict:
    """What `scoreboard.evaluate_runs` gives of a method, as far as the ledger reads it."""
    line = {
        "n_events": 13,
        "hits": hits[0],
        "hits_low": 2.0,
        "hits_high": 10.0,
        "chance_p": 0.1,
        "alarm_rate_test": 0.1,
    }
    line |= {"expected_hits_by_chance": 3.0, "lead_median": 2.0}
    line["per_event"] = {i: {"hit": v is not None, "lead": v} for i, v in leads.items()}
    line["per_seed"] = {"hits": hits, "lead_median": [2.0, 3.0]}
    kept = {"method": "intended", "n_seeds": 2, "tier": "cpu", "device": "cpu", "lookahead": False}
    return kept | {"family": "full model", "paper": line, "matched": line | {"hits": 3}} | more


def test_lead_and_gain_have_intervals_over_events(empty):
    ids = [f"E{k:02d}" for k in range(1, 14)]
    ours = dict.fromkeys(ids) | {"E01": 1, "E02": 2, "E03": 5, "E04": 2}
    theirs = dict.fromkeys(ids) | {"E01": 4, "E05": 1}
    methods = {"intended": scored([4, 4], ours), "tranad": scored([2], theirs, method="tranad")}
    sources = Sources(empty.paths, empty.paper, methods=methods)
    sources.__dict__["model_runs"] = [({"info": {"tier": "cpu", "device": "cpu"}}, None)] * 2
    lead = row(sources, "ABS.lead")
    assert float(lead["ours"]) == 2.0 and lead["low"] <= 2.0 and lead["high"] >= 3.0  # every seed's median is inside
    methods["tranad"]["paper"]["lead_median"] = None
    none = row(sources, "T1.tranad.lead")
    assert not none["ours"] and none["verdict"] == "differs", none
    assert "the median seed hits no event, so no lead; 2 of 2 seeds hit any" in none["reason"]
    gain = row(sources, "S1.gain_contrib")
    assert float(gain["ours"]) == pytest.approx(100 * 2 / 13, abs=0.01)
    apart = [100.0 * ((ours[i] is not None) - (theirs[i] is not None)) for i in ids]
    assert (gain["low"], gain["high"]) == over_events(apart) and gain["low"] < 0 < gain["high"]
    head = build.headline(pd.DataFrame([lead, gain] + [row(empty, n) | {"id": n} for n in (
        "ABS.detection", "ABS.svb.ps_peak", "C.params.total")]), {"lead": 3.2449})  # fmt: skip
    line = head.set_index("part")
    assert line.loc["lead", "size"] == "2 seeds, cpu" and line.loc["lead", "chance"] == "3.2"
    assert line.loc["gain", "interval"].startswith("95% -") and "`intended` has" in line.loc["cost", "size"]


def test_a_number_outside_its_own_interval_is_an_error(empty):
    inside = {"id": ["Z000.evt.violation"], "value": [0.011], "by": ["rates"], "low": [0.01], "high": [0.02]}
    put(empty, "value_at_risk/claims", pd.DataFrame(inside))
    assert row(empty, "Z000.evt.violation")["low"] == 0.01
    other = Sources(empty.paths, empty.paper, methods={})
    put(other, "value_at_risk/claims", pd.DataFrame(inside | {"low": [0.012]}))
    with pytest.raises(ValueError, match=r"Z000\.evt\.violation: 0\.011 lies outside its interval 0\.012 to 0\.02"):
        row(other, "Z000.evt.violation")


def test_what_beats_chance_is_counted_alike_everywhere():
    """Look-ahead methods are left out, trivial ones counted apart, random scores named."""

    def method(p: float, family: str = "statistical", lookahead: bool = False) -> dict:
        line = dict.fromkeys(("chance_p", "chance_p_test", "chance_p_test_march_collapsed"), p)
        never = dict.fromkeys(line)
        return {"family": family, "lookahead": lookahead, "paper": line, "matched": never}

    methods = {"a": method(0.01), "b": method(0.2), "cheat": method(0.001, lookahead=True)}
    methods |= {"null": method(0.9, "trivial"), "lagged": method(0.02, "trivial")}
    assert summary.beats(methods, "paper")["all events"] == ["a", "lagged"]
    assert not any(summary.beats(methods, "matched").values())
    text = summary.beats_sentence(methods)
    assert "Of 4 causal methods, 2 of them trivial" in text and "under `paper` 2 (1 trivial) on all events" in text
    assert "under `matched` 0 (0 trivial)" in text and "Random scores are not among them" in text
    text = summary.beats_sentence(methods | {"random": method(0.04, "trivial")})
    assert "Random scores are among them (`paper`, all events; `paper`, test events;" in text


def test_a_missed_event_costs_one_and_so_does_a_false_alarm():
    def method(hits: int, rate: float | None, lookahead: bool = False) -> dict:
        line = {"n_events_test": 9, "hits_test": hits, "false_alarm_rate": rate}
        return {"matched": line, "lookahead": lookahead}

    methods = {"null": method(0, None), "good": method(7, 0.01), "loud": method(9, 0.2), "cheat": method(9, 0.0, True)}
    found = summary.costs(methods, quiet=300)
    assert found.to_dict() == pytest.approx({"good": 5.0, "null": 9.0, "loud": 60.0})
    assert found.index.tolist() == ["good", "null", "loud"]


def test_what_stands_beside_the_verdicts_is_counted():
    rows = [("match", "tables", 1.0, 2.0, "95%", 0.1), ("differs", "tables", np.nan, 2.0, "", np.nan)]
    rows += [
        ("close", "cases", 0.5, 3.0, "lowest and highest seed", np.nan),
        ("match", "prices", 0.1, np.nan, "95%", np.nan),
    ]
    rows += [("not run", "tables", np.nan, np.nan, "", np.nan), ("match", "settings", 1.0, 2.0, "95%", 0.1)]
    table = pd.DataFrame(rows, columns=["verdict", "group", "low", "n_seeds", "interval", "chance_p"])
    text = summary.support_sentence(table.assign(qualifier=""))
    assert "of the 4 verdicts that rest on results of ours, 3 on trained ones" in text
    assert "3 have an interval or, on few seeds, the range over them (1), 1 the chance" in text


def test_a_broken_list_of_claims_is_refused(tmp_path):
    text = (ROOT / "paper" / "claims.yaml").read_text()
    for old, new, rule in (
        ("kind: lead_time", "kind: leed_time", "unknown kind 'leed_time'"),
        ("- id: ABS.lead", "- id: ABS.detection", "used twice"),
        ("  unit: days", "  units: days", "unknown key units"),
        ("claims:", "claim:", "cannot be read"),
    ):
        path = tmp_path / "claims.yaml"
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(MarketDataError, match=rule):
            load_claims(path)
    shutil.rmtree(tmp_path)
