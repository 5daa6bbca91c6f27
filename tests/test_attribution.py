"""Planting with recomputed features, grading, the taught gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from anomaly_routing import attribution as a
from anomaly_routing.attribution_variants import disturbed, graded_variant
from anomaly_routing.baselines.registry import detectors
from anomaly_routing.data.draw_plants import draw_plants
from anomaly_routing.data.plants import MECHANISMS, PAPER, SETS, alter
from anomaly_routing.data.simulate import default_splits
from anomaly_routing.data.simulate_events import MECHANISMS as SIMULATED
from anomaly_routing.features.panel import build_panel, compute_features
from anomaly_routing.model.config import make_config
from anomaly_routing.model.network import Network
from anomaly_routing.model.training import Data
from anomaly_routing.planting import LONG, Ground, calm_sessions, plant_and_recompute, simulated_ground
from anomaly_routing.taught_gate import CALM, Lessons, TaughtGate, lessons

SESSIONS = 700
NONE = pd.DataFrame({"date": pd.DatetimeIndex([])})


@pytest.fixture(scope="module")
def ground() -> Ground:
    return simulated_ground(4, 16, SESSIONS, default_splits(SESSIONS))


@pytest.fixture(scope="module")
def garden(ground) -> a.Garden:
    return a.grow(ground, calm_sessions(ground.tensors, NONE), {"medium": 2, "strong": 2}, "main", 0)


@pytest.fixture(scope="module")
def net(ground) -> Network:
    torch.manual_seed(0)
    return Network(29, ground.tensors.categories, make_config("intended")).eval()


@pytest.mark.parametrize("shapes", SETS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_window_of_sessions_is_the_whole_recomputation(ground, mechanism, shapes):
    """Features, activity and stress of the short recomputation, against the whole panel made from altered prices."""
    tensors = ground.tensors
    calm = calm_sessions(tensors, NONE)
    calm[: LONG + 60] = False  # so that the cut lies inside the panel
    plant = draw_plants(
        1, mechanism=mechanism, strength="strong", shapes=shapes, calm=calm, eligible=ground.bars.traded,
        prior=tensors.prior, seed=1,
    )[0]  # fmt: skip
    short = plant_and_recompute(ground, plant)
    bars = alter(ground.bars, [plant])
    prices = bars.table()
    raw = compute_features(prices, ground.universe, bars.sessions)
    panel = build_panel(raw, ground.scaler, prices, ground.universe, None, tensors.prior)
    window = slice(plant.onset - 19, plant.last + 1)
    assert np.abs(short.x - panel.x[window]).max() < 1e-5
    assert np.array_equal(short.active, panel.active[plant.onset : plant.last + 1])
    assert np.allclose(short.stress, panel.stress[plant.onset : plant.last + 1], atol=1e-6)
    assert np.allclose(short.returns, panel.returns[window], equal_nan=True)
    assert np.allclose(short.log_volume, panel.log_volume[window], equal_nan=True)


def test_a_plant_moves_nothing_before_it(ground, garden):
    """The leak test: rows before the first altered session are those of the undisturbed market."""
    for p in garden.planted:
        before = max(0, p.plant.first - (p.plant.onset - 19))
        assert np.array_equal(p.x[:before], ground.tensors.x[p.plant.onset - 19 : p.plant.onset - 19 + before])
        assert (p.x[19:] != ground.tensors.x[p.plant.onset : p.plant.last + 1]).any()


def test_a_plant_in_one_stock_reaches_the_others_through_the_market_mean(ground, garden):
    others = ~garden.marks[0].any(0)
    p = garden.planted[0]
    moved = p.x[19:][:, others] != ground.tensors.x[p.plant.onset : p.plant.last + 1][:, others]
    assert moved.any() and not moved[..., list(ground.tensors.features).index("ext_z")].any()


def test_calm_sessions_keep_away_from_events(ground):
    tensors = ground.tensors
    free = calm_sessions(tensors, NONE)
    day = np.flatnonzero(free)[len(np.flatnonzero(free)) // 2]
    near = calm_sessions(tensors, pd.DataFrame({"date": tensors.sessions[[day]]}))
    assert not near[day - 20 : day + 21].any() and (near == free)[: day - 20].all() and (near == free)[day + 21 :].all()
    assert (free <= tensors.test).all()


def test_the_network_sees_an_undisturbed_stretch_as_it_sees_the_market(ground, net):
    tensors, t = ground.tensors, int(np.flatnonzero(ground.tensors.test)[30])
    rows = slice(t - 19, t + 3)
    seen = a.look(net, tensors, tensors.x[rows], tensors.active[t : t + 3], tensors.stress[t : t + 3])
    with torch.no_grad():
        out = net(*Data(tensors, net.config, torch.device("cpu")).batch(t, t + 3))
    assert np.allclose(seen["routing"], out.routing.numpy(), atol=1e-6)
    assert np.allclose(seen["error"], out.error.numpy(), atol=1e-5)


def test_a_perfect_attribution_and_a_perfect_score_get_full_marks(garden):
    marks, truth = garden.marks, garden.truth
    perfect = a.Grade([np.ones(m.sum()) for m in marks], {"w": np.eye(4)[truth]}, 100)
    figures = a.summary(garden, perfect, "w")
    assert figures["top1"] == figures["auroc"] == figures["recall_at_5"] == 1 and figures["delay"] == 0
    assert set(figures["by_strength"]) == {"medium", "strong"} and figures["n_plants"] == 16
    wrong = a.Grade(perfect.rank, {"w": np.eye(4)[(truth + 1) % 4]}, 100)
    assert a.summary(garden, wrong, "w")["top1"] == 0


def test_a_pointwise_detector_and_its_registered_twin_agree(garden):
    """The norm of x as a function, and as the detector of notebook 03 on joined stretches."""
    by_function = a.grade_pointwise(garden, lambda x: np.linalg.norm(x, axis=-1), {})
    by_detector = a.grade_detector(garden, detectors()["l2_norm"])
    for one, other in zip(by_function.rank, by_detector.rank, strict=True):
        assert np.allclose(one, other, atol=1e-3)


def test_a_detector_that_looks_back_further_is_left_out(garden):
    assert a.grade_detector(garden, detectors()["rolling_z"]) is None


def test_the_network_grades_the_same_whatever_the_order_of_the_stocks(garden, net):
    order = np.random.default_rng(3).permutation(16)
    some = garden.part(np.arange(len(garden.planted)) % 4 == 0)
    one, other = a.grade_network(net, some), a.grade_network(net, disturbed(some, order=order))
    for rule in a.RULES:
        assert np.allclose(one.by_rule[rule], other.by_rule[rule], atol=1e-4), rule


def test_a_grade_is_kept_and_found_again_for_the_same_plants_alone(garden, tmp_path):
    calls = []

    def make() -> a.Grade:
        calls.append(1)
        return a.grade_pointwise(garden, lambda x: np.abs(x).mean(-1), {"w": lambda x: x[:, :4]})

    first = a.stored_grade(tmp_path, "plain", a.belongs_to(garden), make)
    again = a.stored_grade(tmp_path, "plain", a.belongs_to(garden), make)
    assert len(calls) == 1 and np.array_equal(first.by_rule["w"], again.by_rule["w"])
    assert np.abs(np.concatenate(first.rank) - np.concatenate(make().rank)).max() < 1e-4
    fewer = garden.part(np.arange(len(garden.planted)) > 0)
    a.stored_grade(tmp_path, "plain", a.belongs_to(fewer), make)
    assert len(calls) == 3 and len(list(tmp_path.iterdir())) == 1


def test_a_variant_is_trained_once(garden, tmp_path):
    job = {"name": "masked", "preset": "intended", "overrides": {"expert_task": "predict"}, "seed": 0}
    some = garden.part(np.arange(len(garden.planted)) % 8 == 0)
    first = graded_variant(some, tmp_path, training={"epochs": 1}, **job)
    stamp = next(tmp_path.iterdir()).stat().st_mtime_ns
    again = graded_variant(some, tmp_path, training={"epochs": 1}, **job)
    assert next(tmp_path.iterdir()).stat().st_mtime_ns == stamp
    assert np.allclose(first.by_rule["w"].sum(1), 1, atol=1e-3) and np.array_equal(
        first.by_rule["l"], again.by_rule["l"]
    )


# --- the taught gate --------------------------------------------------------------------------------------------------


def test_the_mechanisms_are_those_of_the_simulator_in_the_paper_s_order():
    assert tuple(SIMULATED) == PAPER and len(SIMULATED) == CALM


def test_the_gate_learns_what_is_there_to_learn():
    """Five Gaussian classes with known centres; two of them differ by sign alone in one feature."""
    rng = np.random.default_rng(0)
    centre = np.zeros((5, 29))
    centre[range(4), range(4)] = 3.0
    label = np.repeat(np.arange(5), 300)
    gate = TaughtGate.fit(
        Lessons((centre[label] + rng.standard_normal((1500, 29))).astype(np.float32), label, 0 * label), 10.0
    )
    fresh = (centre[label] + rng.standard_normal((1500, 29))).astype(np.float32)
    named = gate.weights(fresh)
    assert named.shape == (1500, 4) and np.allclose(named.sum(1), 1)
    assert (named.argmax(1) == label)[label < CALM].mean() > 0.9
    assert gate.score(fresh)[label < CALM].mean() > gate.score(fresh)[label == CALM].mean() + 0.3
    assert np.allclose(gate.probabilities(fresh.reshape(5, 300, 29)).reshape(1500, 5), gate.probabilities(fresh))


def test_lessons_hold_every_mechanism_and_repeat_themselves():
    one, again = (lessons([11], 16, SESSIONS) for _ in range(2))
    assert set(one.label) == set(range(5)) and np.array_equal(one.x, again.x)
    assert np.isfinite(one.x).all() and one.x.shape[1] == 29
    assert len(one.of([11]).x) == len(one.x) and not len(one.of([12]).x)


def test_a_gate_taught_elsewhere_names_more_than_chance(ground):
    """Another market, plants of another family: the lower end of the exact interval must lie above one in four."""
    garden = a.grow(ground, calm_sessions(ground.tensors, NONE), {"strong": 8}, "main", 3)
    gate = TaughtGate.fit(lessons([11, 12], 16, SESSIONS), 2000)
    graded = a.grade_pointwise(garden, gate.score, {"w": gate.weights})
    assert a.summary(garden, graded, "w")["top1_interval"][0] > 0.25
    blind = replace(graded, by_rule={"w": np.random.default_rng(0).random((32, 4))})
    assert a.summary(garden, blind, "w")["top1_interval"][0] < 0.25
