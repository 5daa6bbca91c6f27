"""Lessons of random shape, readings of a taught gate, and the rule that chooses a recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from anomaly_routing import gate_choice as choice
from anomaly_routing.data.bars import Bars
from anomaly_routing.data.lesson_plants import LEAD_IN, REST, write_lessons
from anomaly_routing.data.plants import MECHANISMS, PAPER
from anomaly_routing.planting import Ground
from anomaly_routing.taught_gate import CALM, READINGS, Lessons, TaughtGate, joined, varied_lessons
from tests.gardens import SESSIONS, small_ground


@pytest.fixture(scope="module")
def ground() -> Ground:
    return small_ground()


def written(ground: Ground, seed: int) -> tuple[Bars, np.ndarray]:
    return write_lessons(ground.bars, ground.tensors.active, ground.tensors.prior, seed)


def moved(new: Bars, old: Bars) -> np.ndarray:
    """Bool [S, N]: another return, volume or range than before."""
    ratio = {name: new.columns[name] / old.columns[name] for name in new.columns}
    steps = np.abs(np.diff(np.log(ratio["adj_close"]), axis=0, prepend=0)) > 1e-9
    wider = np.abs(np.log(ratio["high"] / ratio["low"])) > 1e-9
    return (steps | wider | (ratio["volume"] != 1)) & old.traded


def test_lessons_move_the_stock_days_that_they_label_and_trends_before(ground):
    new, truth = written(ground, 1)
    changed = moved(new, ground.bars)
    assert set(truth[truth >= 0]) == set(range(4)) and changed[truth >= 0].mean() > 0.95
    trends = truth == PAPER.index("momentum")
    for t, stock in np.argwhere(changed & (truth < 0)):
        ahead = slice(t + 1, t + LEAD_IN["momentum"][1] + 1)
        assert trends[ahead, stock].any() or (truth[t : t + 6, stock] == PAPER.index("contagion")).any()
    busy = np.flatnonzero((truth >= 0).any(1))
    gaps = np.diff(busy)
    assert gaps[gaps > 1].min() > REST and len(gaps[gaps > 1]) > 8


def test_lessons_repeat_themselves_and_know_nothing_of_planted_sets(ground, monkeypatch):
    new, truth = written(ground, 2)
    assert not np.array_equal(truth, written(ground, 3)[1])
    for name in PAPER:
        other = {shapes: {} for shapes in MECHANISMS[name].shape}
        monkeypatch.setitem(MECHANISMS, name, replace(MECHANISMS[name], shape=other))
    again, same = written(ground, 2)
    assert np.array_equal(truth, same)
    assert all(np.array_equal(new.columns[k], again.columns[k], equal_nan=True) for k in new.columns)


def test_no_two_shocks_have_the_same_shape(ground):
    """The volumes of the labelled price shocks, lesson by lesson."""
    new, truth = written(ground, 4)
    factor = new.columns["volume"] / ground.bars.columns["volume"]
    first = [t for t in np.flatnonzero((truth == 0).any(1)) if not (truth[t - 1] == 0).any()]
    sizes = [factor[t][truth[t] == 0].max() for t in first]
    assert len(first) > 2 and len(set(np.round(sizes, 6))) == len(first)


def test_the_far_set_lies_outside_the_lessons(ground):
    """Over many lessons: no volume as high, no freeze with as much trading, no build-up as long."""
    far = {name: MECHANISMS[name].shape["far"] for name in PAPER}
    factor = {name: [] for name in PAPER}
    for seed in range(5, 10):
        new, truth = written(ground, seed)
        ratio = new.columns["volume"] / ground.bars.columns["volume"]
        for k, name in enumerate(PAPER):
            factor[name].append(ratio[truth == k])
    ranges = {name: (np.concatenate(v).min(), np.concatenate(v).max()) for name, v in factor.items()}
    assert ranges["price_shock"][1] < far["price_shock"]["volume"]
    assert ranges["liquidity"][1] < far["liquidity"]["volume"] and ranges["contagion"][0] > far["contagion"]["volume"]
    assert LEAD_IN["momentum"][1] < MECHANISMS["momentum"].lead_in["far"]


def test_varied_lessons_hold_every_class_of_every_market():
    taught = varied_lessons([11, 12], 16, SESSIONS, copies=1)
    assert np.isfinite(taught.x).all() and len(taught.x) == len(taught.label) == len(taught.seed)
    for seed in (11, 12):
        assert set(taught.of([seed]).label) == set(range(CALM + 1))
    both = joined([taught.of([11]), taught.of([12])])
    assert np.array_equal(both.x, taught.x) and np.array_equal(both.label, taught.label)


def blobs(n: int = 300) -> Lessons:
    """Five Gaussian classes, the last at the origin."""
    rng = np.random.default_rng(0)
    centre = np.zeros((5, 29))
    centre[range(4), range(4)] = 4.0
    label = np.repeat(np.arange(5), n)
    return Lessons((centre[label] + rng.standard_normal((5 * n, 29))).astype(np.float32), label, 0 * label)


@pytest.mark.parametrize("shrinkage", [10.0, None])
def test_readings_agree_where_the_gate_is_sure_and_differ_on_calm_days(shrinkage):
    gate, own = TaughtGate.fit(blobs(), shrinkage), blobs()
    sure = np.eye(29, dtype=np.float32)[:4] * 5
    for reading in READINGS:
        weights = gate.read(reading).weights(sure)
        assert np.allclose(weights.sum(-1), 1) and (weights.argmax(1) == np.arange(4)).all(), reading
    calm, p = own.x[own.label == CALM], gate.probabilities(own.x[own.label == CALM])
    assert np.allclose(gate.read("even").weights(calm), p[:, :4] + p[:, 4:] / 4)
    given = gate.read("given").weights(calm)
    assert np.allclose(given[:, 1:] / given[:, :1], p[:, 1:4] / p[:, :1]) and np.allclose(given.sum(1), 1)
    assert np.allclose(gate.usual, p.mean(0))
    quiet = p[(p[:, :4] < gate.usual[:4]).all(1)]
    rows = gate.read("surplus").weights(calm)[(p[:, :4] < gate.usual[:4]).all(1)]
    assert len(quiet) and np.allclose(rows, 0.25)
    with pytest.raises(ValueError, match="no reading 'other'; there are: given, even, surplus"):
        gate.read("other")


def test_the_largest_accuracy_wins_unless_it_loses_auroc():
    rows = [
        ("rule", choice.PLAIN, 0.9, 0.70),
        ("net, w", choice.NETWORK, 0.95, 0.99),
        ("dated a", choice.TAUGHT, 0.8, 0.69),
        ("varied b", choice.TAUGHT, 0.6, 0.70),
        ("varied c", choice.TAUGHT, 0.6, 0.90),
    ]
    table = pd.DataFrame(rows, columns=["candidate", "kind", "mean top1", "mean AUROC"])
    table["keeps AUROC"] = np.where(table["mean AUROC"] >= 0.7, "yes", "no")
    assert choice.chosen(table) == "varied b"
    assert choice.chosen(table.assign(**{"keeps AUROC": "no"})) == "dated a"
    table["chosen"] = np.where(table.candidate == "varied b", "yes", "")
    text = choice.choice_sentence(table)
    assert "of 3 recipes" in text and "*varied b*, 60%" in text and "plain rule names 90% with 0.70" in text
    assert "without varied lessons 80%" in text and "(net, w) 95% with 0.99" in text


def test_candidates_are_graded_on_the_trial_set_alone(monkeypatch):
    """The gate that knows the truth by its lessons is the one that is marked; every recipe has a row."""
    monkeypatch.setattr(choice, "CHOICE_STOCKS", 16)
    gardens = choice.trial_gardens([101], SESSIONS, 2)
    garden = gardens["market seed 101"]
    assert {p.plant.shapes for p in garden.planted} == {"trial"} and len(garden.planted) == 8
    days = [p.x[19:][m] for p, m in zip(garden.planted, garden.marks, strict=True)]
    label = np.concatenate([np.full(len(d), k) for d, k in zip(days, garden.truth, strict=True)])
    calm = garden.ground.tensors.x[garden.calm][garden.ground.tensors.active[garden.calm]]
    cheat = Lessons(
        np.concatenate([*days, calm]), np.r_[label, np.full(len(calm), CALM)], np.zeros(len(label) + len(calm))
    )
    useless = replace(cheat, label=np.random.default_rng(0).permutation(cheat.label))
    tried = [choice.Recipe(which, 1.0, "given") for which in ("dated", "varied")]
    table = choice.choice_table(gardens, tried, {"dated": useless, "varied": cheat}, {})
    assert table.candidate.tolist() == ["largest mean |feature|", *(r.title for r in tried)]
    assert table[table.chosen == "yes"].candidate.tolist() == [tried[1].title]
    assert table["mean top1"].iloc[2] > 0.85 > table["mean top1"].iloc[1]
    assert choice.chosen_recipe(table, tried) == tried[1]
    assert "varied lessons, linear, shrinkage 1, weights given" in choice.choice_sentence(table)
    assert len(choice.recipes([1.0, 2.0])) == 3 * 3 * len(READINGS)


@pytest.mark.parametrize("shrinkage", [10.0, None])
def test_a_mechanism_without_lessons_gets_no_probability(shrinkage):
    own = blobs()
    known = own.label != 2
    gate = TaughtGate.fit(Lessons(own.x[known], own.label[known], own.seed[known]), shrinkage)
    p = gate.probabilities(own.x)
    assert p.shape == (len(own.x), 5) and (p[:, 2] == 0).all() and np.allclose(p.sum(1), 1)
    assert (p.argmax(1) == own.label)[known].mean() > 0.9
