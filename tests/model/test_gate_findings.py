"""What notebook 05 says of the gate, against loops, finite differences and a step of Adam written here."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from small_networks import SMALL, small_network, small_tensors

from anomaly_routing.model import gate_findings
from anomaly_routing.model.training import Data
from anomaly_routing.panel import BURN_IN
from anomaly_routing.runs import Run, RunStore
from anomaly_routing.train import Job, train_one

DAYS = pd.bdate_range("2020-01-01", periods=200)
ROWS = (BURN_IN + 10, BURN_IN + 17)


@pytest.fixture(scope="module")
def tensors():
    return small_tensors()


def run_of(largest: list[float], daily: dict | None = None) -> Run:
    """The log holds these mean largest weights, an entropy of one minus them; the last line is in use."""
    lines = [{"mean_max_w": w, "routing_entropy": 1 - w} for w in largest]
    info = {"best": {"tail": {"epoch": len(lines) - 1}}, "history": lines}
    frame = pd.DataFrame(daily or {"x": 0.0}, index=DAYS)
    return Run(np.zeros((0, 1)), DAYS[:0], ["A"], frame, info)


# --- collapse ---------------------------------------------------------------------------------------------------------
def test_the_epoch_of_a_collapse():
    """From which on the routing stays with one expert: a dip afterwards starts the count again."""
    logs = {1: [1, 1, 1], 2: [0.5, 1, 1], 4: [1, 0.5, 0.6, 1], None: [1, 1, 0.9]}
    for epoch, log in logs.items():
        assert gate_findings.collapsed_from(run_of(log)) == epoch


def test_starting_weights_are_those_of_a_training(tensors, tmp_path, monkeypatch):
    """Seen where `train_one` hands the network over to `fit`."""
    seen = {}

    def stop(net, *rest, **settings):
        seen.update(deepcopy(net.state_dict()))
        raise InterruptedError

    monkeypatch.setattr("anomaly_routing.train.fit", stop)
    with pytest.raises(InterruptedError):
        job = Job("literal", "full", 3, SMALL, {"epochs": 1})
        train_one(tensors, job, RunStore(tmp_path), device="cpu", tier="quick", scratch=tmp_path)
    start = gate_findings.starting_weights(tensors.categories, "literal", 3, SMALL)
    assert start.keys() == seen.keys() and all(torch.equal(start[name], value) for name, value in seen.items())
    other = gate_findings.starting_weights(tensors.categories, "intended", 3, SMALL)
    assert gate_findings.same_start(start, other)
    assert not gate_findings.same_start(start, gate_findings.starting_weights(tensors.categories, "literal", 4, SMALL))
    one_bit = {name: value.clone() for name, value in other.items()}
    one_bit["experts.gate.mlp.0.weight"][0, 0] += 1e-6
    assert not gate_findings.same_start(start, one_bit)


def test_two_collapses_from_one_start_count_once():
    a, b = ({"w": torch.full((5,), float(k))} for k in range(2))
    runs = {"one": run_of([1, 1]), "two": run_of([0.5, 0.6]), "three": run_of([0.5, 1])}
    told = gate_findings.collapse_words(runs, {"one": a, "two": b, "three": a})
    assert told.startswith("one: since epoch 1; two: not; three: since epoch 2. ")
    assert "seed: one and three. Of 3 runs the number of independent starts is 2" in told
    assert gate_findings.collapse_words(dict(list(runs.items())[:2]), {"one": a, "two": b}).endswith("of its own")


# --- temperature ------------------------------------------------------------------------------------------------------
def test_stored_routing_against_a_loop():
    rng = np.random.default_rng(0)
    w, psi = rng.dirichlet([1, 2, 3, 4], len(DAYS)), rng.random(len(DAYS))
    run = run_of([0.5], {f"w{k + 1}": w[:, k] for k in range(4)} | {"psi": psi})
    row = gate_findings.stored_routing({"a": run}, DAYS[50]).iloc[0]
    entropy = np.array([-sum(v * np.log(v) for v in day) for day in w])[50:]
    high = psi[50:] > np.median(psi[50:])
    assert row["entropy, calm"] == pytest.approx(entropy[~high].mean())
    assert row["entropy, stressed"] == pytest.approx(entropy[high].mean())
    ranks = [np.argsort(np.argsort(v)) for v in (entropy, psi[50:])]
    assert row["rank correlation with psi"] == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_what_is_said_of_the_temperature():
    """Of a collapsed run that there is nothing to act on; of a live one its figures, kept weights or not."""
    runs = {name: run_of([w]) for name, w in {"a": 1.0, "b": 0.4, "c": 0.5}.items()}
    names = ["entropy, calm", "entropy, stressed", "rank correlation with psi"]
    stored = pd.DataFrame([[n, 1.1687, 1.1695, -0.004] for n in runs], columns=["run", *names])
    flatter = {"p": 0.0, "q": 0.125}
    told = gate_findings.temperature_words(runs, {"p": "a", "q": "b"}, flatter, {"p": 0.01, "q": 0.02}, stored)
    before, after, dead, daily = told.split("; ")
    assert before.endswith("with the same weights: untrained p +0.0100 nats and q +0.0200 nats")
    assert after == "trained b +0.1250 nats" and dead.startswith("a (entropy 0.00) collapsed")
    assert "b 1.1687 nats in the calm half and 1.1695 in the stressed one, rank correlation with psi -0.004, c" in daily
    assert ": a" not in daily
    none = gate_findings.temperature_words({"a": runs["a"]}, {"p": "a"}, flatter, {"p": 0.01}, stored[:1])
    assert "; trained" not in none and "daily" not in none
    assert none.endswith("none is left to test it on") and "none is left" not in told


# --- diversity --------------------------------------------------------------------------------------------------------
def live(tensors, **overrides):
    """A network whose gate answers unevenly."""
    net = small_network(tensors, **overrides)
    with torch.no_grad():
        for value in net.experts.gate.parameters():
            value.mul_(1.5)
    return net


def terms_of(net, batch) -> dict[str, torch.Tensor]:
    """The three terms by loops over sessions and stocks."""
    out, on = net(*batch), batch.active
    rec, entropy, smooth = [], [], []
    for t in range(on.shape[0]):
        for i in torch.nonzero(on[t])[:, 0]:
            rec.append(out.horizon_error[t, i].sum() + out.expert_error[t, i].sum())
            entropy.append(-sum(v * torch.log(v) for v in out.routing[t, i]))
            if t and on[t - 1, i]:
                smooth.append((out.routing[t, i] - out.routing[t - 1, i]).square().sum())
    return {k: torch.stack(v).mean() for k, v in (("rec", rec), ("entropy", entropy), ("smooth", smooth))}


def test_the_pull_on_the_gate_is_the_steepest_slope_by_finite_differences(tensors):
    """In double precision: along no direction does a term change faster, and along its own gradient just as fast."""
    net = live(tensors)
    pull = gate_findings.gate_pull(net, tensors, ROWS)
    double = deepcopy(net).double()
    batch = Data(tensors, net.config, "cpu").batch(*ROWS)
    batch = batch._replace(**{k: getattr(batch, k).double() for k in ("x", "prior", "stress")})
    gate, weight = list(double.experts.gate.parameters()), {"rec": 1.0, "entropy": 0.01, "smooth": 0.001}
    start = [p.detach().clone() for p in gate]

    def along(direction, name, h=1e-4):
        values = []
        for side in (h, -h):
            with torch.no_grad():
                for p, own, d in zip(gate, start, direction, strict=True):
                    p.copy_(own + side * d)
                values.append(float(weight[name] * terms_of(double, batch)[name]))
        return (values[0] - values[1]) / (2 * h)

    for name in gate_findings.TERMS:
        with torch.no_grad():
            for p, own in zip(gate, start, strict=True):
                p.copy_(own)
        slopes = torch.autograd.grad(terms_of(double, batch)[name], gate)
        length = torch.cat([s.flatten() for s in slopes]).norm()
        assert along([s / length for s in slopes], name) == pytest.approx(pull[name], rel=1e-3)
        noise = [torch.randn(s.shape, dtype=s.dtype, generator=torch.Generator().manual_seed(0)) for s in slopes]
        size = torch.cat([d.flatten() for d in noise]).norm()
        assert abs(along([d / size for d in noise], name)) < 0.5 * pull[name]
    assert gate_findings.gate_pull(live(tensors, gamma1=0.02), tensors, ROWS)["entropy"] == pytest.approx(
        2 * pull["entropy"], rel=1e-4
    )


def test_a_step_of_each_sign_is_a_first_step_of_adam(tensors):
    """Whose first step is learning rate x gradient / (|gradient| + 1e-8), after clipping at norm one."""
    net, batch = live(tensors), Data(tensors, small_network(tensors).config, "cpu").batch(*ROWS)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for sign in (1, 0, -1):
        own = deepcopy(net)
        terms = terms_of(own, batch)
        (terms["rec"] + sign * 0.01 * terms["entropy"] + 0.001 * terms["smooth"]).backward()
        moved = [p for p in own.parameters() if p.grad is not None]
        norm = torch.cat([p.grad.flatten() for p in moved]).norm()
        with torch.no_grad():
            for p in moved:
                g = p.grad / max(1.0, float(norm))
                p -= 0.001 * g / (g.abs() + 1e-8)
            expected = float(terms_of(own, batch)["entropy"])
        found = gate_findings.entropy_after_a_step(net, tensors, ROWS, sign)
        assert found == pytest.approx(expected, abs=2e-5)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_the_sign_acts_as_audit_a58_says_where_nothing_else_pulls(tensors):
    """With a heavy term the printed sign lowers the entropy, the prose's raises it; a collapsed gate feels neither."""
    heavy, dead = live(tensors, gamma1=50.0), live(tensors)
    with torch.no_grad():
        dead.experts.gate.b_div[1] = 1e4
    table = gate_findings.diversity_test({"heavy": heavy, "dead": dead}, tensors, ROWS)
    first = table.iloc[0]
    assert first["step, printed, +"] < -1e-3 and first["step, the prose's, -"] > 1e-3
    assert first["step, printed, +"] < first["step, without the term"] < first["step, the prose's, -"]
    assert first["diversity / L_rec"] == pytest.approx(first["of the diversity term"] / first["gradient of L_rec"])
    assert table.iloc[1]["of the diversity term"] < 1e-12 and table.iloc[1]["entropy"] < 1e-6
    told = gate_findings.diversity_words(table)
    assert "(as A58 says); dead: collapsed" in told and told.startswith("heavy: gradient norm on the gate")
    turned = table.rename(
        columns={"step, printed, +": "step, the prose's, -", "step, the prose's, -": "step, printed, +"}
    )
    assert "in 0 of the 1 tested" in gate_findings.diversity_brief(turned)
    assert "(not in the order of A58)" in gate_findings.diversity_words(turned)


def test_what_trainings_say_of_the_sign():
    def told(*ends):
        runs = {str(i): run_of([1 - e]) for i, (_, e) in enumerate(ends)}
        table = gate_findings.diversity_ends(runs, {str(i): sign for i, (sign, _) in enumerate(ends)})
        assert table["entropy at the end"].tolist() == pytest.approx([e for _, e in ends])
        return gate_findings.sign_words(table)

    overlap = told((-1, 1.2), (-1, 0.0), (1, 0.0))  # any number of runs of a sign
    assert "the prose's, - 0.00 to 1.20 (runs: 2)" in overlap and "the ranges overlap" in overlap
    assert "seed moves it by up to 1.20, the sign its mean by 0.60" in overlap
    assert "one run of a sign" in told((-1, 1.2), (-1, 1.1), (1, 0.0))
    assert told((-1, 1.2), (-1, 1.0), (1, 0.0), (1, 0.1)).endswith(
        "the signs lie apart, their means by 1.05, seeds of one sign by up to 0.20"
    )
    assert told((1, 0.5)).endswith("one sign alone was trained")
