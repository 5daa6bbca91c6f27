"""Every claim has a decider; absent results say which command makes them; present ones are read as they stand."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.claims import load_claims
from anomaly_routing.errors import MarketDataError
from anomaly_routing.ledger import build
from anomaly_routing.ledger.intervals import t_interval
from anomaly_routing.ledger.registry import decider_of, deciders, without_claim, without_decider
from anomaly_routing.ledger.sources import PAPER_MARKET, Sources
from anomaly_routing.ledger.verdict import NOT_RUN, NOT_TESTABLE, REFUTED, NotRun
from anomaly_routing.paths import MarketPaths
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
    put(empty, "table2", SWEEP)
    assert row(empty, "T2.no_moe.hits")["verdict"] == "match"  # 4 events fewer, as the paper says, and shown
    assert row(empty, "S44.no_moe.delta")["verdict"] == "match"
    assert row(empty, "S44.no_mpi.delta")["verdict"] == "differs"  # one event fewer against three
    assert row(empty, "T2.no_mpi.lead")["verdict"] == "match"
    assert row(empty, "T2.alpha1.hits")["verdict"] == NOT_RUN  # its line says so itself
    put(empty, "table2", SWEEP.drop(columns=["delta", "delta_low", "delta_high"]))
    found = row(empty, "T2.no_moe.hits")
    assert (found["verdict"], found["qualifier"]) == ("close", "difference not shown")
    put(empty, "table2", SWEEP.assign(tier="cpu", n_seeds=1))
    found = row(empty, "S44.no_moe.delta")
    assert (found["verdict"], found["qualifier"]) == ("close", "tier cpu, 1 seed")


def test_sensitivity_compares_differences_to_the_default(empty):
    put(empty, "table4", SWEEP)
    assert row(empty, "T4.topk.20")["verdict"] == "match"  # 92.3 against 91.2, within two points
    found = row(empty, "T4.topk.10")  # ours does not move, the paper's falls by 3.9 points
    assert found["ours"] == "91.2" and found["verdict"] == "close"
    assert row(empty, "T4.lr.0.01")["verdict"] == NOT_RUN


def test_other_names_of_a_variant(empty):
    put(empty, "table6", SWEEP.assign(status="run"))
    assert row(empty, "T6.prior.rate")["verdict"] == "match"  # alpha1 in the sweep
    assert row(empty, "T6.stress.lead")["verdict"] == NOT_RUN  # the full model's own runs decide it
    assert row(empty, "T6.trainable.rate")["verdict"] == NOT_RUN


def test_a_stage_may_decide_claims_itself(empty):
    answers = pd.DataFrame({"id": ["Z000.evt.violation", "Z002.cl.overlap", "F3.sequence"], "n_seeds": [5, None, None]})
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


def test_totals_add_up(empty):
    table = build.ledger(empty)
    counted = build.totals(table)
    assert counted.iloc[-1].claims == len(CLAIMS) and counted.claims.iloc[:-1].sum() == len(CLAIMS)
    assert build.totals(table, "source").claims.iloc[:-1].tolist() == [414, 19, 45]
    assert build.outstanding(table).claims.sum() == (table.verdict == NOT_RUN).sum()
    head = build.headline(table, {"detection": 22.6})
    assert list(head.part) == ["detection", "lead", "gain", "attribution", "cost"] and head.chance[0] == "22.6"


def test_marks_repeat_the_audit(empty):
    found = {name: build.marks(CLAIMS[name], empty) for name in CLAIMS}
    impossible = [name for name, text in found.items() if "A04" in text and name.startswith("T1")]
    assert len(impossible) == 10 and not found["T1.lstm_ae.lead"] and not found["T2.no_div.lead"]
    assert found["T6.trainable.rate"] and not found["T6.fixed.rate"] and found["S42.alerts.L1"]


def test_an_absent_file_names_its_stage(empty):
    with pytest.raises(NotRun, match=r"no tables/table2.csv \(stage ablations\): python -m anomaly_routing.runner"):
        empty.table("table2")


def test_intervals_of_few_seeds():
    assert t_interval(np.array([1.0])) == (None, None)
    low, high = t_interval(np.array([1.0, 3.0]))
    assert low == pytest.approx(2 - 12.7062) and high == pytest.approx(2 + 12.7062)


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
