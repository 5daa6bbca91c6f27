"""A decider gives another answer when what it looks at is another; the code that it names is the code that computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import skew

from anomaly_routing.claims import load_claims
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


def test_alert_shares_decide_how_cautious_the_alarm_is(empty):
    assert verdict(empty, "S42.conservative") == "refuted by the paper itself"
    shares = {"L0": 92.0, "L1": 3.0, "L2": 2.0, "L3": 2.0, "L4": 1.0}
    whole = {f"S42__alerts__{level}": share for level, share in shares.items()}
    many = changed(empty, **whole, S42__alerts__L3L4=3.0)  # fit many numbers of sessions
    assert verdict(many, "S42.conservative") == "not testable"
    calm = changed(empty, S42__alerts__L3L4=4.3)
    assert verdict(calm, "S42.conservative") == "match"


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
