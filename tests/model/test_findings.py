"""The tables of notebook 05 on runs whose truth is planted, and against plain loops."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from small_networks import TRAINED, VALIDATED, small_network, small_tensors

from anomaly_routing.model import findings, pressure_index
from anomaly_routing.model.config import make_config
from anomaly_routing.model.outcome import outcome
from anomaly_routing.model.training import Data
from anomaly_routing.panel import BURN_IN
from anomaly_routing.runs import Run
from tests.oracles import pressure_oracle as oracle

DAYS = pd.bdate_range("2020-01-01", periods=300)
VAL = np.arange(BURN_IN + TRAINED, BURN_IN + TRAINED + VALIDATED)


@pytest.fixture(scope="module")
def tensors():
    return small_tensors()


def run_of(daily: dict, days=DAYS, line: dict | None = None) -> Run:
    info = {"best": {"tail": {"epoch": 1}}, "history": [{"mean_max_w": 1.0}, {"mean_max_w": 0.5} | (line or {}), {}]}
    return Run(np.zeros((0, 1)), days[:0], ["A"], pd.DataFrame(daily, index=days), info)


def steered(a: float, b: float, days=DAYS, seed: int = 0) -> Run:
    """A run whose alpha is clamp(sigmoid(a + b psi)) for a psi that spans most of [0, 1]."""
    psi = np.random.default_rng(seed).uniform(0.05, 0.95, len(days))
    return run_of({"psi": psi, "alpha": np.clip(1 / (1 + np.exp(-a - b * psi)), 0.2, 0.8)}, days)


# --- the fusion weight ------------------------------------------------------------------------------------------------
def test_the_fusion_table_finds_what_was_planted():
    runs = {"steep": steered(0.6, -3.0), "flat": steered(0.5, -0.5, DAYS[100:], seed=1)}
    assert findings.common_start(runs) == DAYS[100]
    table = findings.fusion_table(runs, (DAYS[100], DAYS[0]), (0.6, 0.28))
    assert list(zip(table.run, table["from"], table.sessions, strict=True)) == [
        ("steep", DAYS[0], 300),
        ("steep", DAYS[100], 200),
        ("flat", DAYS[100], 200),
    ]
    for row, (a, b) in zip(table.itertuples(), [(0.6, -3.0)] * 2 + [(0.5, -0.5)], strict=True):
        assert (row.a, row.b) == (pytest.approx(a, abs=1e-6), pytest.approx(b, abs=1e-6))
    assert table["0.6 inside"].tolist() == [True, True, True]
    assert table["0.28 inside"].tolist() == [True, True, False]
    steep = runs["steep"].daily
    assert (
        table["on the lower clamp"][0] == pytest.approx(np.mean([v <= 0.2 for v in steep.alpha]))
        and 0 < table["on the lower clamp"][0] < 1
    )
    calm, stressed = (float(steep.alpha[steep.psi == v].iloc[0]) for v in (steep.psi.min(), steep.psi.max()))
    expected = np.log(calm / (1 - calm)) - np.log(stressed / (1 - stressed))
    assert table["fall of the logit"][0] == pytest.approx(expected) and expected > 1
    flat = runs["flat"].daily.psi
    assert table["fall of the logit"][2] == pytest.approx(0.5 * (flat.max() - flat.min()))


def test_a_fusion_weight_that_does_not_move_and_one_that_is_always_clamped():
    psi = np.linspace(0, 1, 300)
    still, clamped = (run_of({"psi": psi, "alpha": np.full(300, v)}) for v in (0.5, 0.2))
    table = findings.fusion_table({"still": still, "clamped": clamped}, (DAYS[0],), (0.5,))
    assert table["fall of the logit"].tolist() == [0, 0] and table["0.5 inside"].tolist() == [True, False]
    assert table.b[0] == pytest.approx(0, abs=1e-9) and np.isnan(table.b[1]) and table["on the lower clamp"][1] == 1


def test_names_in_a_sentence():
    assert findings.among([], ["a", "b"]) == "none" and findings.among(["a", "b"], ["a", "b"]) == "all"
    assert findings.among(["b", "c"], ["a", "b", "c"]) == "b and c" and findings.among(["a"], ["a"]) == "a"


# --- the learned graph ------------------------------------------------------------------------------------------------
def test_facts_of_a_graph():
    """Four stocks, one inactive, one row empty, the others spread evenly over two and one stocks."""
    learned, prior = np.zeros((4, 4)), np.zeros((4, 4))
    learned[0, 1] = learned[0, 2] = 0.5
    learned[1, 0] = 1
    prior[0, 1] = prior[1, 0] = 1
    active = np.array([True, True, True, False])
    fused = 0.4 * prior + 0.6 * learned
    facts = findings.graph_facts(learned, fused, 0.4, prior, active)
    assert (facts["non-zeros a row"], facts["fewest"], facts["empty rows"]) == (1.0, 0, pytest.approx(1 / 3))
    assert facts["effective neighbours"] == pytest.approx((2 + 1) / 2)
    assert facts["learned mass along prior edges"] == pytest.approx((0.5 + 1) / 2)
    assert facts["prior's share of fused mass"] == pytest.approx(0.8 / (0.8 + 1.2))


def test_what_is_said_of_the_graphs_of_both_presets():
    named = ["preset", "mood", "alpha", "prior's share of fused mass", "effective neighbours", "non-zeros a row"]
    rows = [["p", "calm", 0.4, 0.41, 23.1, 27.3], ["p", "stress", 0.3, 0.31, 23.6, 27.0]]
    rows += [["q", "calm", 0.41, 0.93, 95.8, 97], ["q", "stress", 0.35, 0.92, 98.7, 100]]
    one, two = findings.graph_words(pd.DataFrame(rows, columns=named), 100).split(". `q`")
    assert one.startswith("`p`: `alpha` 0.400 in calm and 0.300 in stress") and "41% and 31%" in one
    assert "93% and 92%; effective neighbours 95.8 and 98.7, of rows that name 97 and 100 of 100 stocks" in two
    size = findings.stored_graphs_words(109, 6, 100)
    assert "all of them would take 2.08 MiB" in size and "those take 0.11" in size and size.endswith("other 103")


def test_neighbours_are_counted_from_the_weights(tensors):
    net = small_network(tensors)
    counts = []
    for row in VAL:
        with torch.no_grad():
            out = net(*Data(tensors, net.config, "cpu").batch(int(row), int(row) + 1))
        counts += [int((out.learned[0, i] > 0).sum()) for i in np.flatnonzero(tensors.active[row])]
    runs = {"a": run_of({"x": 0.0})}
    told = findings.neighbours_words(runs, {"p": net}, {"p": "a"}, tensors)
    empty = np.mean(np.array(counts) == 0)
    assert told.startswith(f"a {np.mean(counts):.1f} on average, {min(counts)} at least, {empty:.1%} of the rows empty")
    assert told.endswith("the log of a is older than this count")
    runs["a"].info["history"][-1]["neighbours"] = {"mean": 1.0}
    assert findings.neighbours_words(runs, {}, {}, tensors).endswith("each log has it by epoch")


# --- trainings --------------------------------------------------------------------------------------------------------
def test_times_and_losses_of_the_trainings():
    """One epoch was held up: the median does not see it, the sum does."""
    run = run_of({"x": 0.0})
    lines = [{"seconds": s, "entropy": 0.5, "smooth": 0.1, "rec": 5.0, "mean_max_w": 0.4} for s in (60, 60, 6000, 60)]
    best = {rule: {"epoch": k, "loss": 2.0 + k} for k, rule in ((1, "tail"), (2, "val"))}
    run.info.update(history=lines, best=best, epochs=4, stopped="cap", device="cpu", tier="cpu")
    (row,) = findings.trainings_table({"a": run}).to_dict("records")
    assert (row["best epoch, tail"], row["best epoch, val"], row["L_rec, val"]) == (2, 3, 4.0)
    assert (row["minutes, median x epochs"], row["minutes, all epochs"]) == (4, 103)
    assert row["epochs of over ten medians"] == 1 and row["seconds an epoch, median"] == 60 and row["collapsed"] == ""
    assert findings.loss_shares({"a": run}, {"a": make_config("literal", gamma1=0.02)}) == "a 0.20% and 0.0020%"


# --- temperature ------------------------------------------------------------------------------------------------------
def test_the_temperature_test_is_that_of_a_plain_loop(tensors):
    net = small_network(tensors)
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(1.5)
    table = findings.temperature_test(net, tensors, VAL).set_index("temperature")
    assert list(table.index) == ["rising", "falling"] and table["trained with"].tolist() == [False, True]
    for rule in table.index:
        other = small_network(tensors, tau_rule=rule)
        other.load_state_dict(net.state_dict())
        data, psi, tau, entropy = Data(tensors, other.config, "cpu"), [], [], []
        for row in VAL:
            with torch.no_grad():
                out = other(*data.batch(int(row), int(row) + 1))
            w = out.routing[0].double().numpy()
            entropy.append(np.mean([-sum(v * np.log(v) for v in w[i]) for i in np.flatnonzero(tensors.active[row])]))
            psi.append(float(out.psi))
            tau.append(float(out.tau))
        high = np.array(psi) > np.median(psi)
        for what, values in (("tau", tau), ("entropy", entropy)):
            ends = ("tau, calm half", "tau, stressed half") if what == "tau" else ("entropy, calm", "entropy, stressed")
            for name, half in zip(ends, (~high, high), strict=True):
                assert table.loc[rule, name] == pytest.approx(np.array(values)[half].mean(), rel=1e-5)
        change = table.loc[rule, "entropy, stressed"] - table.loc[rule, "entropy, calm"]
        assert table.loc[rule, "stress makes it"] == (
            "neither" if abs(change) < 0.001 else "sharper" if change < 0 else "flatter"
        )
    assert table.loc["rising", "tau, stressed half"] > table.loc["rising", "tau, calm half"]
    assert table.loc["falling", "tau, stressed half"] < table.loc["falling", "tau, calm half"]


# --- copying ----------------------------------------------------------------------------------------------------------
def expert_that_rebuilds(share: float):
    """Stands in for a network: each expert rebuilds this share of what it is shown."""
    columns = [[0, 1], [2, 3], [4, 5], [6, 7]]

    def forward(x, active, prior, stress):
        last = x[-1] * (1 - share)
        error = torch.stack([last[:, own].norm(dim=-1) for own in columns], -1) * active[0][:, None]
        return SimpleNamespace(expert_error=error[None])

    forward.config, forward.experts = make_config("intended", window=5), SimpleNamespace(columns=columns)
    forward.eval = lambda: None
    return forward


def test_planted_shifts_of_an_expert_that_copies_nothing_and_of_one_that_copies_all(tensors):
    table = findings.planted_shifts(expert_that_rebuilds(0.0), tensors, VAL[:6], every=2)
    assert table.expert.tolist() == ["shock", "liquidity", "contagion", "momentum"]
    for k, row in enumerate(table.itertuples(index=False)):
        before, after, share, ordinary = [], [], [], []
        for t in VAL[:6]:
            on = np.flatnonzero(tensors.active[t])
            x = tensors.x[t][:, [2 * k, 2 * k + 1]].astype(float)
            ordinary += [np.hypot(*x[i]) for i in on]
            for i in on[::2]:
                moved = np.minimum(x[i] + 5, 8)
                before.append(np.hypot(*x[i]))
                after.append(np.hypot(*moved))
                share.append((after[-1] - before[-1]) / np.hypot(*(moved - x[i])))
        expected = np.mean(before), np.mean(after), np.mean(share), np.mean(after > np.quantile(ordinary, 0.95))
        assert tuple(row)[1:] == pytest.approx(expected, rel=1e-5)
    copies = findings.planted_shifts(expert_that_rebuilds(1.0), tensors, VAL[:6])
    assert copies["left of the shift"].abs().max() < 1e-6 and (table["left of the shift"] > 0.2).all()


# --- alert levels -----------------------------------------------------------------------------------------------------
def test_alert_shares_by_source(tensors, monkeypatch):
    """A run that keeps all its sessions, and one that keeps the later ones alone."""
    monkeypatch.setattr(pressure_index, "EXPANDING_FROM", 30)
    scored = tensors.sessions[tensors.scored]
    mpi = np.linspace(0.3, 0.6, len(scored)) + 0.3 * np.random.default_rng(0).random(len(scored))
    whole = run_of({"mpi": mpi}, scored)
    runs = {"whole": whole, "later": run_of({"mpi": mpi[50:]}, scored[50:])}
    test = range(TRAINED + VALIDATED, len(scored))
    past = {
        "val": lambda t: mpi[TRAINED : TRAINED + VALIDATED],
        "train": lambda t: mpi[:TRAINED],
        "expanding": lambda t: mpi[:t],
    }
    table = findings.alert_sources(runs, tensors)
    assert table.run.tolist() == ["whole"] * 3 and table["cuts from"].tolist() == list(past)
    names = [f"L{k}" for k in range(5)]
    for _, row in table.iterrows():
        cuts = {t: [oracle.quantile(past[row["cuts from"]](t), q) for q in pressure_index.LEVELS] for t in test}
        level = [oracle.alert_levels([mpi[t]], cuts[t])[0] for t in test]
        assert row[names].tolist() == pytest.approx([100 * level.count(k) / len(level) for k in range(5)])
        assert row["L3+L4"] == pytest.approx(row.L3 + row.L4)
    assert table["L4"].nunique() == 3
    shares = findings.alert_table(runs, tensors, {"L0": 63.1, "L3+L4": 11.5}).set_index("run")
    assert list(shares.index) == ["whole", "later", "nominal", "the paper"]
    assert shares.loc["nominal", [*names, "L3+L4"]].tolist() == pytest.approx([75, 10, 10, 4, 1, 5])
    for name in runs:  # the same validation and test sessions, whatever else is kept
        assert shares.loc[name, names].tolist() == pytest.approx(table.loc[0, names].tolist())
    assert shares.loc["the paper", "L3+L4"] == 11.5 and np.isnan(shares.loc["the paper", "L1"])


# --- stored scores ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("preset", ["intended", "literal"])
def test_rescored_is_what_was_stored_and_with_other_weights_is_not(tensors, preset):
    net = small_network(tensors, preset)
    found = outcome(net, tensors, torch.device("cpu"))
    info = {"mu_tail": found.mu, "sigma_tail": found.sigma}
    kept = slice(TRAINED, None)
    run = replace(
        run_of({"x": 0.0}), score=found.score[kept], score_sessions=tensors.sessions[found.rows[kept]], info=info
    )
    again, stored = findings.rescored(net, run, tensors, VAL[:32])
    np.testing.assert_array_equal(stored, found.score[TRAINED : TRAINED + 32])
    np.testing.assert_allclose(again, stored, rtol=1e-4)
    other, _ = findings.rescored(small_network(tensors, preset, seed=1), run, tensors, VAL[:32])
    assert np.nanmax(np.abs(other - stored)) > 0.01
