"""Planting with recomputed features, grading, the taught gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from anomaly_routing import attribution as a
from anomaly_routing import attribution_claims, attribution_variants, metric_claims
from anomaly_routing.attribution_claims import (
    consensus_answer,
    day_variance,
    explained_days,
    largest_variance,
    shap_answer,
    shap_by_day,
    shap_days,
)
from anomaly_routing.attribution_detectors import panel_of
from anomaly_routing.attribution_variants import disturbed, graded_variant
from anomaly_routing.baselines.registry import create
from anomaly_routing.data.changes import PlantError, TooStrongError
from anomaly_routing.data.draw_plants import draw_plants
from anomaly_routing.data.plants import MECHANISMS, PAPER, alter, mechanisms
from anomaly_routing.data.simulate_events import MECHANISMS as SIMULATED
from anomaly_routing.features.panel import build_panel, compute_features
from anomaly_routing.metric_claims import NOISE, labelled_series, metric_answers, metric_grades, noisy
from anomaly_routing.model.config import make_config
from anomaly_routing.model.network import Network
from anomaly_routing.model.training import Data
from anomaly_routing.planting import LONG, Ground, calm_sessions, plant_and_recompute
from anomaly_routing.taught_gate import CALM, Lessons, TaughtGate, lessons
from tests.gardens import NONE, SESSIONS, small_ground


@pytest.fixture(scope="module")
def ground() -> Ground:
    return small_ground()


@pytest.fixture(scope="module")
def garden(ground) -> a.Garden:
    return a.grow(ground, calm_sessions(ground.tensors, NONE), {"medium": 2, "strong": 2}, "main", 0)


@pytest.fixture(scope="module")
def net(ground) -> Network:
    torch.manual_seed(0)
    return Network(29, ground.tensors.categories, make_config("intended")).eval()


@pytest.mark.parametrize(("mechanism", "shapes"), [(name, s) for name, m in MECHANISMS.items() for s in m.shape])
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
    quoted = slice(plant.onset - 20, plant.last + 1)
    assert np.allclose(short.returns, panel.returns[quoted], equal_nan=True)
    assert np.allclose(short.log_volume, panel.log_volume[quoted], equal_nan=True)


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


def test_a_stock_that_trades_but_is_not_active_is_refused(ground, garden):
    """Its scores would be missing, and a grade over no stock-day is no number."""
    plant = garden.planted[0].plant
    stock, tensors = plant.stocks[0], ground.tensors
    active = tensors.active.copy()
    active[plant.last, stock] = False
    assert ground.bars.traded[plant.last, stock]
    with pytest.raises(PlantError, match=f"{tensors.tickers[stock]} trades but is not active"):
        plant_and_recompute(replace(ground, tensors=replace(tensors, active=active)), plant)
    assert plant_and_recompute(ground, plant).active[-1, stock]


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
    (tmp_path / "plain--of-another-time.npz").touch()
    a.stored_grade(tmp_path, "plain", a.belongs_to(fewer), make)
    assert len(calls) == 3 and len(list(tmp_path.iterdir())) == 1


def test_a_new_set_of_shapes_leaves_the_key_of_a_stored_grade(garden, ground, monkeypatch):
    """Keys of `main` and `twin` hold the shapes of both, as they always did; of another set, its own alone."""
    first = {name: {s: m.shape[s] for s in ("main", "twin")} for name, m in MECHANISMS.items()}
    known = a.belongs_to(garden)
    assert known["shapes"] == first
    calm = calm_sessions(ground.tensors, NONE)
    fresh = a.belongs_to(a.grow(ground, calm, {"medium": 1}, "fresh", 0))["shapes"]
    assert fresh == {name: {"fresh": MECHANISMS[name].shape["fresh"]} for name in PAPER}
    other = MECHANISMS["momentum"]
    monkeypatch.setitem(MECHANISMS, "momentum", replace(other, shape=other.shape | {"fifth": {}}))
    assert a.belongs_to(garden) == known
    monkeypatch.setitem(MECHANISMS, "momentum", replace(other, shape=other.shape | {"twin": {"trend": 9.0}}))
    assert a.belongs_to(garden) != known


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


def test_variants_on_two_cores_are_those_of_one(garden, tmp_path, monkeypatch):
    jobs = [{"name": "masked", "overrides": {"expert_task": "predict"}}, {"name": "seed one", "seed": 1}]
    some, found = garden.part(np.arange(len(garden.planted)) % 8 == 0), []
    for setting in ("1", "2"):
        monkeypatch.setenv("ANOMALY_ROUTING_PROCESSES", setting)
        grades = attribution_variants.graded_variants(jobs, some, tmp_path / setting, {"epochs": 1})
        found.append({key: grade.by_rule["w"] for key, grade in grades.items()})
    assert found[0].keys() == found[1].keys() == {("masked", 0), ("seed one", 1)}
    assert all(np.array_equal(found[0][key], found[1][key]) for key in found[0])
    monkeypatch.setattr(attribution_variants, "over_cores", lambda work, left, **bar: left and pytest.fail("again"))
    attribution_variants.graded_variants(jobs, some, tmp_path / "2", {"epochs": 1})


def test_weights_of_a_variant_are_found_again_for_other_plants(garden, tmp_path, monkeypatch):
    """Other plants need another grade and no other training; another training does."""
    calls, true = [], attribution_variants.trained
    monkeypatch.setattr(attribution_variants, "trained", lambda *how: calls.append(how) or true(*how))
    job = {"name": "masked", "preset": "intended", "overrides": {"expert_task": "predict"}, "seed": 0}
    job |= {"weights": tmp_path / "weights", "training": {"epochs": 1}}
    one, two = (garden.part(np.arange(len(garden.planted)) % 8 == k) for k in (0, 1))
    first = graded_variant(one, tmp_path / "a", **job)
    graded_variant(two, tmp_path / "b", **job)
    assert len(calls) == 1 and len(list((tmp_path / "weights").iterdir())) == 1
    again = graded_variant(one, tmp_path / "c", **job)
    assert np.array_equal(first.by_rule["w"], again.by_rule["w"])
    direct = a.grade_network(true(*calls[0]), one)
    kept = {"rtol": 2.0**-a.KEPT_BITS, "atol": 1e-6}
    assert np.allclose(first.by_rule["w"], direct.by_rule["w"], **kept) and len(calls) == 1
    graded_variant(one, tmp_path / "c", **job | {"training": {"epochs": 2}})
    assert len(calls) == 2 and len(list((tmp_path / "weights").iterdir())) == 2


def test_a_plant_too_strong_for_its_stocks_is_passed_over(ground, monkeypatch):
    """The others are those that would have been drawn anyway, in their order."""
    calm = calm_sessions(ground.tensors, NONE)
    usual = [p.plant for p in a.grow(ground, calm, {"medium": 4}, "main", 0, ["price_shock"]).planted]
    true = a.plant_and_recompute

    def strict(ground, plant):
        if plant == usual[1]:
            raise TooStrongError("too strong")
        return true(ground, plant)

    monkeypatch.setattr(a, "plant_and_recompute", strict)
    passed = [p.plant for p in a.grow(ground, calm, {"medium": 3}, "main", 0, ["price_shock"]).planted]
    assert passed == [usual[0], usual[2], usual[3]]
    monkeypatch.setattr(a, "SPARE", 0)
    with pytest.raises(TooStrongError, match="too strong"):
        a.grow(ground, calm, {"medium": 3}, "main", 0, ["price_shock"])


# --- the taught gate --------------------------------------------------------------------------------------------------


def test_the_simulator_s_mechanisms_are_the_first_that_are_planted_and_begin_with_the_paper_s():
    """The columns of the taught gate, and the positions of `truth`."""
    assert tuple(SIMULATED) == mechanisms()[: len(SIMULATED)] and len(SIMULATED) == CALM
    assert tuple(SIMULATED)[: len(PAPER)] == PAPER


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


# --- sentences that the bench decides ---------------------------------------------------------------------------------
def test_shares_of_an_additive_score_are_its_terms(ground, monkeypatch):
    """The Shapley value of a feature in a mean of absolute values is its own term."""

    class MeanAbsFeature:
        def fit(self, panel, train_mask):
            return self

        def decision_function(self, panel):
            return np.abs(panel.x).mean(-1)

    monkeypatch.setattr(attribution_claims, "create", lambda name: MeanAbsFeature())
    tensors = ground.tensors
    rows, stocks = explained_days(tensors, 3, 2)
    x = np.abs(tensors.x[np.ix_(rows, stocks)]).astype(float)
    by_hand = np.stack([x[..., np.array(tensors.categories) == k].sum(-1) for k in range(4)], -1)
    found = shap_by_day(tensors, rows, stocks)
    assert np.allclose(found, by_hand / by_hand.sum(-1, keepdims=True), atol=1e-4)


def test_the_variance_is_over_days(ground, net, monkeypatch):
    shares = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])[:, None].repeat(4, 1)
    assert day_variance(shares) == pytest.approx(0.25) and day_variance(shares[:1].repeat(3, 0)) == 0
    monkeypatch.setattr(attribution_claims, "shap_by_day", lambda tensors, rows, stocks: shares)
    assert shap_answer(shap_days(ground.tensors, net), 0.19)["holds"]
    assert shap_answer(shap_days(ground.tensors, net), 0.3) is None  # of twenty days no four shares can have it
    monkeypatch.setattr(attribution_claims, "shap_by_day", lambda tensors, rows, stocks: shares / 2)
    assert not shap_answer(shap_days(ground.tensors, net), 0.19)["holds"]
    assert "0.0625, the routing" in shap_days(ground.tensors, net).sentence()


def test_no_shares_vary_more_than_an_even_alternation():
    assert day_variance(np.eye(4)[np.arange(20) % 4][:, None]) == pytest.approx(largest_variance(20, 4))
    drawn = np.random.default_rng(0).dirichlet(np.full(4, 0.01), size=(20, 5000))
    assert (
        0.9 * largest_variance(20, 4) < max(day_variance(drawn[:, [i]]) for i in range(5000)) <= largest_variance(20, 4)
    )


@pytest.mark.parametrize("scattered", [True, False])
def test_consensus_falls_when_a_plant_scatters_the_routing(garden, net, monkeypatch, scattered):
    """Two answers of the network: all stocks routed alike, or each to an expert of its own."""
    market, info = garden.ground.tensors, {"mu_tail": 0.0, "sigma_tail": 1.0, "theta_s_tail": 0.5, "tier": "cpu"}

    def look(net, tensors, x, active, stress):
        planted = not any(np.shares_memory(x, part) for part in (market.x,))
        n = active.shape[1]
        alike, apart = np.eye(4)[np.zeros(n, int)], np.eye(4)[np.arange(n) % 4]
        routing = apart if planted == scattered else alike
        return {"error": np.full(active.shape, 9.0), "routing": np.tile(routing, (len(active), 1, 1))}

    monkeypatch.setattr(attribution_claims, "look", look)
    line = consensus_answer(net, garden, info | {"device": "cpu"})
    n = len(market.tickers)
    fall = 2 * np.eye(4)[np.arange(n) % 4].std(axis=0).mean()  # with every stock active
    assert line["value"] == pytest.approx(fall if scattered else -fall, abs=0.02)


def test_a_gate_that_always_answers_the_same_says_nothing_of_consensus(garden, net, monkeypatch):
    info = {"mu_tail": 0.0, "sigma_tail": 1.0, "theta_s_tail": 0.5, "tier": "cpu", "device": "cpu"}

    def look(net, tensors, x, active, stress):
        routing = np.tile(np.eye(4)[2], (*active.shape, 1))
        return {"error": np.full(active.shape, 9.0), "routing": routing}

    monkeypatch.setattr(attribution_claims, "look", look)
    assert consensus_answer(net, garden, info) is None


def test_a_market_of_quiet_stocks_says_nothing_of_consensus(garden, net):
    info = {"mu_tail": 1e6, "sigma_tail": 1.0, "theta_s_tail": 0.9, "tier": "cpu", "device": "cpu"}
    line = consensus_answer(net, garden, info)
    assert line["value"] == 0 and f"the 0 of {len(garden.planted)}" in line["note"]


def graded(garden, seen: float) -> a.Grade:
    """Every planted stock-day above this share of the calm ones."""
    return a.Grade([np.full(m.sum(), seen) for m in garden.marks], {}, 1000)


def test_adjectives_are_judged_half_way_from_chance(garden):
    others, how = pd.DataFrame({"recall at 5%": [0.2], "AUROC": [0.7]}), {"tier": "gpu", "device": "cpu"}

    def asked(clean: float, disturbed: float, rand: list[float]) -> dict:
        grades = {0.0: graded(garden, clean)} | {level: graded(garden, disturbed) for level in NOISE}
        return {line["id"]: line for line in metric_answers(garden, grades, rand, others, how)}

    good = asked(1.0, 1.0, [0.9, 1.0, 0.95])
    assert good["Z000.res.accuracy"]["value"] == pytest.approx(0.5, abs=0.01)
    assert good["Z000.res.sensitivity"]["value"] > 0 and good["Z000.res.robust"]["holds"]
    assert good["Z000.res.classify"]["value"] == pytest.approx(0.45) and good["Z000.res.classify"]["low"] > 0
    poor = asked(0.7, 0.5, [0.4, 0.5, 0.45])  # 0.7 is two fifths of the way, and all of it is lost
    assert poor["Z000.res.accuracy"]["value"] == pytest.approx(-0.1, abs=0.01)
    assert poor["Z000.res.sensitivity"]["value"] < 0 and poor["Z000.res.classify"]["value"] < 0
    assert not poor["Z000.res.robust"]["holds"] and poor["Z000.res.robust"]["part"] == 0
    some = asked(1.0, 0.85, [0.9])["Z000.res.robust"]  # three tenths lost: less than the largest noise alone
    assert not some["holds"] and some["part"] == pytest.approx(1 / len(NOISE))


def test_noise_has_the_size_that_it_says(garden):
    tensors, loud = garden.ground.tensors, noisy(garden, 0.5).ground.tensors
    for name in ("returns", "log_volume"):
        before, after = getattr(tensors, name), getattr(loud, name)
        sd = np.nanstd(before[tensors.train], axis=0)
        assert np.allclose(np.nanstd(after - before, axis=0) / sd, 0.5, rtol=0.1)
    assert np.array_equal(noisy(garden, 0.5).planted[0].returns, noisy(garden, 0.5).planted[0].returns, equal_nan=True)


def test_the_metric_detector_is_fitted_once_and_kept(garden, tmp_path, monkeypatch):
    found = metric_grades(garden, tmp_path, 1)
    assert set(found) == {0.0, *NOISE} and len(list(tmp_path.glob("metric_vmf*.npz"))) == 1 + len(NOISE)
    directly = create("metric_vmf", epochs=1, device="cpu").fit(panel_of(garden), garden.ground.tensors.train)
    usual = directly.decision_function(panel_of(garden))  # sessions without a trade are left to the detector here
    again = directly.decision_function(panel_of(metric_claims.carried(garden)))
    assert np.allclose(usual, again, equal_nan=True)
    assert found[0.0].n_calm == garden.ground.tensors.active[garden.calm].sum()
    monkeypatch.setattr(metric_claims, "grade_fitted", None)
    assert set(metric_grades(garden, tmp_path, 1)) == set(found)


def test_the_groups_differ_in_what_ties_price_to_volume():
    panel, group = labelled_series(0)
    price = panel.returns.cumsum(0)
    tie = np.array([np.corrcoef(price[:, i], panel.log_volume[:, i])[0, 1] for i in range(len(group))])
    assert (tie[group == 0] > 0.9).all() and (tie[group == 1] < -0.9).all() and (np.abs(tie[group == 2]) < 0.3).all()


def test_a_variant_may_have_its_own_training_and_preset(garden, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(attribution_variants, "graded_variant", lambda *a, **k: asked.append(k) or "grade")
    jobs = [{"name": "one"}, {"name": "two", "seed": 1, "preset": "literal", "training": {"epochs": 9}}]
    assert set(attribution_variants.graded_variants(jobs, garden, tmp_path, {"epochs": 2, "patience": 3})) == {
        ("one", 0), ("two", 1)
    }  # fmt: skip
    asked = asked[: len(jobs)]  # made first, read afterwards
    assert [k["training"] for k in asked] == [{"epochs": 2, "patience": 3}, {"epochs": 9, "patience": 3}]
    assert [k["preset"] for k in asked] == ["intended", "literal"] and "training" in jobs[1]
