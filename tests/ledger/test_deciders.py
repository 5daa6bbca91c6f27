"""A decider gives another answer when what it looks at is another; the code that it names is the code that computes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import skew

from anomaly_routing.claims import load_claims
from anomaly_routing.evaluation import readings
from anomaly_routing.ledger import build
from anomaly_routing.ledger.deciders import companions, prices, settings
from anomaly_routing.ledger.intervals import BLOCK, block_weights, blocks
from anomaly_routing.ledger.registry import computed_in, decider_of, deciders
from anomaly_routing.ledger.sources import PAPER_MARKET, Sources
from anomaly_routing.model import dynamic_graph, experts
from anomaly_routing.paths import MarketPaths
from tests.conftest import ROOT

CLAIMS = load_claims(ROOT / "paper" / "claims.yaml")


@pytest.fixture
def empty(tmp_path) -> Sources:
    return Sources(MarketPaths(PAPER_MARKET, tmp_path), ROOT / "paper", methods={})


def verdict(sources: Sources, name: str) -> str:
    found = build._row(sources.claims[name], decider_of(name, deciders()), sources)
    return f"{found['verdict']} ({found['qualifier']})" if found["qualifier"] else found["verdict"]


def changed(sources: Sources, **values) -> Sources:
    """The same with other printed values; `__` stands for a dot."""
    given = {name.replace("__", "."): value for name, value in values.items()}
    other = Sources(sources.paths, sources.paper, methods={})
    other.__dict__["claims"] = {n: replace(c, value=given.get(n, c.value)) for n, c in sources.claims.items()}
    return other


def test_a_gate_that_runs_twice_is_not_free(empty, monkeypatch):
    free = [verdict(empty, name) for name in ("F3.zero_cost", "ABS.no_posthoc")]
    assert free == ["match (by construction)"] * 2
    settings.trial()  # kept: what is counted is another pass
    old = experts.Experts.forward

    def twice(self, *inputs):
        self.gate(*inputs_of_the_gate)
        return old(self, *inputs)

    inputs_of_the_gate = []
    hook = settings.network().experts.gate.register_forward_pre_hook(lambda _, given: inputs_of_the_gate.extend(given))
    settings.trial.__wrapped__()
    hook.remove()
    monkeypatch.setattr(experts.Experts, "forward", twice)
    assert settings.extra_passes() == 1
    assert [verdict(empty, name) for name in ("F3.zero_cost", "ABS.no_posthoc")] == ["differs"] * 2


def test_source_weights_that_move_are_not_refuted(empty, monkeypatch):
    assert verdict(empty, "S3.wprior_calm") == "refuted by the paper itself"
    moving = lambda self, psi: torch.softmax(torch.outer(psi, torch.tensor([0.5, 0.5, -1.0])), -1)  # noqa: E731
    monkeypatch.setattr(dynamic_graph.Sources, "forward", moving)
    assert verdict(empty, "S3.wprior_calm") == "close"  # a direction without an interval


@pytest.mark.parametrize(
    ("rate", "p", "expected"),
    [(0.04, 0.01, "close (tier cpu, 2 seeds)"), (0.04, 0.2, "close"), (0.07, 0.01, "close"), (0.07, 0.2, "differs")],
)
def test_false_alarms_and_chance_decide_how_cautious_the_alarm_is(empty, rate, p, expected):
    assert verdict(empty, "S42.conservative") == "not run"
    line = {"false_alarm_rate": rate, "chance_p": p, "expected_hits_by_chance": 3.0, "alarm_rate_test": 0.1}
    entry = {"paper": line, "matched": {"hits": 5, "chance_p": 0.1}, "n_seeds": 2, "tier": "cpu", "device": "cpu"}
    planted = replace(empty, methods={"intended": entry})
    assert verdict(planted, "S42.conservative") == expected


def test_its_own_alert_shares_stay_the_mark_of_a_cautious_alarm(empty):
    claim = CLAIMS["S42.conservative"]
    assert "11.5% of the test days, 2.3 times the 5%" in build.marks(claim, empty)
    assert not build.marks(claim, changed(empty, S42__alerts__L3L4=4.3))


def test_the_four_families_of_the_papers_baselines(empty):
    found = {
        family: verdict(empty, f"S41.n_base.{family}") for family in ("temporal", "static", "dynamic", "streaming")
    }
    assert set(found.values()) == {"match (by construction)"}, found
    one_more = changed(empty, S41__n_base__streaming=2)
    assert verdict(one_more, "S41.n_base.streaming") == "differs"


def test_one_channel_is_not_either(empty, monkeypatch):
    assert verdict(empty, "S2.or_rule") == "match (by construction)"
    old = readings.raise_alarms
    monkeypatch.setattr(readings, "raise_alarms", lambda two, *rest: old(two[["score"]], *rest))
    assert verdict(empty, "S2.or_rule") == "differs"


def routed(peaked: list[bool], sharp: float) -> list:
    """Seeds with four made-up weights: psi runs from 0 to 1 over the test days; the first weight gains `sharp` with it,
    or has all in a seed that is not `peaked`."""
    days = pd.bdate_range("2023-01-03", "2024-12-31")
    psi = np.linspace(0, 1, len(days))
    runs = []
    for seed, own in enumerate(peaked):
        first = 0.4 + sharp * psi if own else np.ones(len(days))
        rest = np.outer(1 - first, [0.5, 0.3, 0.2])
        daily = pd.DataFrame(np.column_stack([first, rest]), days, [f"w{k}@val" for k in range(1, 5)])
        info = {"tier": "gpu", "device": "cpu"}
        runs.append(({"key": {"seed": seed}, "info": info}, SimpleNamespace(daily=daily.assign(**{"psi@val": psi}))))
    return runs


def test_sharper_routing_is_the_mean_over_seeds(empty):
    def found(peaked, sharp):
        other = replace(empty)
        other.__dict__["model_runs"] = routed(peaked, sharp)
        return build._row(CLAIMS["S1.sharp_in_crisis"], decider_of("S1.sharp_in_crisis", deciders()), other)

    one = found([True], 0.1)
    assert float(one["ours"]) == pytest.approx(0.09, abs=1e-3)  # psi of the two tenths lies 0.9 apart
    two = found([True, False], 0.1)
    assert float(two["ours"]) == pytest.approx(0.045, abs=1e-3) and two["n_seeds"] == 2 and two["verdict"] == "close"
    assert "seed 0 0.4950 against 0.4050" in two["reason"] and "seed 1 1.0000 against 1.0000" in two["reason"]
    assert "nothing to sharpen" in two["reason"] and "nothing to sharpen" not in one["reason"]
    assert found([True, True], -0.1)["verdict"] == "differs"
    assert found([True] * 10, 0.1)["verdict"] == "match"
    assert found([True], 0.6)["verdict"] == "close"
    flat = routed([True], 0.1)
    daily = flat[0][1].daily
    daily[["w2@val", "w3@val", "w4@val"]] = 0.2  # the rest does not shrink, and -w ln w still rises there
    daily["w1@val"] = 0.25 + 0.05 * daily["psi@val"]
    other = replace(empty)
    other.__dict__["model_runs"] = flat
    assert verdict(other, "S1.sharp_in_crisis") == "differs"


def test_what_is_read_is_counted_as_read(empty):
    read = ("S42.ghrn_hawkes", "Z002.cl.twitter", "Z002.cl.vae_prob", "S1.ghrn_static", "S2.qualitative_attr")
    for name in (*read, "Z000.meta.mismatch", "S41.date.cuts"):
        assert verdict(empty, name).endswith("(by reading)"), name


def test_a_period_in_which_nothing_happened_is_wrong(empty):
    assert verdict(empty, "S41.date.cuts") == verdict(empty, "S41.date.crypto") == "differs (by reading)"
    assert verdict(empty, "S41.date.eu") == "match (by construction)" and verdict(empty, "S41.date.svb") == "match"
    other = changed(empty)
    other.__dict__["events"] = empty.events.assign(reason="It happened.")
    assert verdict(other, "S41.date.cuts") == "match (by construction)"
    assert verdict(other, "S41.date.crypto") == "differs"  # our date lies in another year
    late = changed(empty, S41__date__eu="2022-Q3")
    assert verdict(late, "S41.date.eu") == "differs"


def test_a_prior_that_knows_the_day_is_not_static(empty, monkeypatch):
    assert verdict(empty, "F1a.static_same") == "match (by construction)"
    monkeypatch.setattr("anomaly_routing.data.prior_graph.prior_graph", lambda universe, day: None)
    assert verdict(empty, "F1a.static_same") == "differs"


# --- who computes ----------------------------------------------------------------------------------------------------
def test_claims_of_other_stages_lead_to_the_code_that_computes_them():
    """Not to the table that lists them; each line is a function or an entry of that claim's own."""
    known = deciders()
    for stage, rows in companions.ELSEWHERE.items():
        for name, (file, begins) in rows.items():
            decider = known[name]
            line = (ROOT / decider.file).read_text().splitlines()[decider.line - 1]
            assert decider.file.endswith(file) and line.startswith(begins) and decider.stage == stage
            assert begins.startswith("def ") or name in begins
            assert decider.group == "companions"
    with pytest.raises(ValueError, match=r"no line of claims\.py begins with 'def gone'"):
        computed_in("X.1", ("claims.py", "def gone"), lambda claim, sources: None, "model")


# --- intervals over sessions -----------------------------------------------------------------------------------------
def test_weights_are_counts_of_the_draws():
    rows, weights = blocks(65), block_weights(65)
    assert rows.shape == weights.shape and (weights.sum(axis=1) == 65).all()
    assert (np.diff(rows[:, :BLOCK], axis=1) % 65 == 1).all()  # blocks are whole, and go round the end
    assert weights[7].tolist() == [float((rows[7] == k).sum()) for k in range(65)]


def test_statistics_over_sessions_against_a_plain_loop():
    rng = np.random.default_rng(1)
    x = rng.standard_gamma(2.0, (70, 3))
    x[rng.random(x.shape) < 0.1] = np.nan
    powers = {("x", k): x**k for k in (1, 2, 3)}
    value, low, high = prices.over_sessions(powers, lambda mean: prices.skewness(mean, "x"))
    assert value == pytest.approx(np.mean([skew(x[np.isfinite(x[:, i]), i]) for i in range(3)]))
    drawn = []
    for rows in blocks(70):
        columns = [x[rows, i][np.isfinite(x[rows, i])] for i in range(3)]
        drawn.append(np.mean([skew(column) for column in columns]))
    half = 1.959964 * np.std(drawn, ddof=1)
    assert (low, high) == pytest.approx((value - half, value + half)) and low < value < high
