"""Repairs of the model itself: lessons in its training span, a network that learns them, the choice of a design."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from anomaly_routing import attribution as a
from anomaly_routing import attribution_repairs as r
from anomaly_routing.attribution_variants import (
    by_day,
    graded_variant,
    placebo,
    trained,
    weights_alone,
    weights_of_all,
    weights_of_sessions,
)
from anomaly_routing.model.config import make_config
from anomaly_routing.model.errors import TrainingError
from anomaly_routing.model.network import Network
from anomaly_routing.model.training import Data, fit, make_training
from anomaly_routing.planting import Ground, calm_sessions
from tests.gardens import NONE, small_ground


@pytest.fixture(scope="module")
def ground() -> Ground:
    return small_ground()


@pytest.fixture(scope="module")
def lessons(ground):
    return r.routing_lessons(ground, 0)


def test_lessons_lie_in_the_training_span_and_change_what_they_name(ground, lessons):
    tensors = ground.tensors
    end = np.flatnonzero(tensors.train)[-1] + 1
    assert len(lessons) == r.COPIES
    for x, label in lessons:
        assert x.shape == (end, *tensors.x.shape[1:]) and label.shape == x.shape[:2]
        taught = label >= 0
        assert taught.any() and not taught[~tensors.train[:end]].any() and not taught[~tensors.active[:end]].any()
        assert (x[taught] != tensors.x[:end][taught]).any(-1).all()
        first = np.flatnonzero(taught.any(1))[0]
        untouched = slice(0, first - 40)  # longer than any lead-in
        assert np.array_equal(x[untouched], tensors.x[untouched]), "nothing moves before a lesson"
    assert not np.array_equal(lessons[0].label, lessons[1].label)
    assert set(np.unique(np.concatenate([x.label for x in lessons]))) == {-1, 0, 1, 2, 3}


def test_no_lesson_knows_a_later_session(ground, lessons):
    """Prices after the training span changed: the same lessons."""
    tensors, bars = ground.tensors, ground.bars.copy()
    end = np.flatnonzero(tensors.train)[-1] + 1
    for name in ("open", "high", "low", "close", "adj_close"):
        bars.columns[name][end:] *= 3
    again = r.routing_lessons(replace(ground, bars=bars), 0)
    assert all(
        np.array_equal(p.x, q.x) and np.array_equal(p.label, q.label) for p, q in zip(lessons, again, strict=True)
    )


def test_an_epoch_sees_one_copy_and_the_stop_rules_the_market_itself(ground, lessons):
    tensors, config = ground.tensors, make_config("intended", teach=1.0)
    data, rows = Data(tensors, config, torch.device("cpu"), lessons), np.flatnonzero(tensors.train)[60:64]
    first, last = int(rows[0]), int(rows[-1]) + 1
    for epoch in (0, 1, r.COPIES):
        batch, label = data.lesson(first, last, epoch)
        own = lessons[epoch % r.COPIES]
        assert np.array_equal(batch.x, own.x[first - 19 : last]) and np.array_equal(label, own.label[first:last])
    assert np.array_equal(data.batch(first, last).x, tensors.x[first - 19 : last])
    batch, label = Data(tensors, config, torch.device("cpu")).lesson(first, last, 0)
    assert label is None and np.array_equal(batch.x, tensors.x[first - 19 : last])


def test_taught_weights_name_lessons_that_untaught_ones_do_not(ground, lessons):
    """Fitted on the lessons' own copies: better than the untrained network, and than the largest share."""
    tensors, settings = ground.tensors, make_training(epochs=12, batch_sessions=16)
    config = make_config("intended", lstm_hidden=8, teach=10.0)
    x, label = lessons[0]

    def right(net: Network) -> float:
        named = []
        for t in np.flatnonzero((label >= 0).any(1)):
            rows = slice(t - 19, t + 1)
            w = a.look(net, tensors, x[rows], tensors.active[t : t + 1], tensors.stress[t : t + 1])["routing"][0]
            named += list((w.argmax(-1) == label[t])[label[t] >= 0])
        return float(np.mean(named))

    torch.manual_seed(0)
    net = Network(29, tensors.categories, config)
    before = right(net.eval())
    fitted = fit(net, tensors, settings, 0, torch.device("cpu"), rules=("tail",), lessons=lessons)
    assert fitted.history[-1]["teach"] < fitted.history[0]["teach"]
    largest = np.bincount(label[label >= 0]).max() / (label >= 0).sum()
    assert right(net.eval()) > max(before, largest) + 0.1


def test_lessons_and_the_loss_on_them_go_together(ground, lessons):
    def asked(teach: float, given) -> None:
        net = Network(29, ground.tensors.categories, make_config("intended", lstm_hidden=8, teach=teach))
        fit(net, ground.tensors, make_training(epochs=1), 0, torch.device("cpu"), lessons=given)

    for teach, given in ((1.0, ()), (0.0, lessons)):
        with pytest.raises(TrainingError, match="go together"):
            asked(teach, given)


def test_a_repaired_model_is_trained_once_and_graded_on_each_set(ground, tmp_path, monkeypatch):
    garden = a.grow(ground, calm_sessions(ground.tensors, NONE), {"medium": 1}, "main", 0)
    (job,) = r.full_jobs([{"name": "taught", "overrides": {"teach": 1.0}}], {"lstm_hidden": 8}, {"epochs": 1})
    assert job["overrides"] == {"lstm_hidden": 8, "teach": 1.0} and job["seed"] == 0
    told = "`lstm_hidden` 8, `teach` 1.0, at most 1 epochs, seed 0; "
    assert r.told_size(job, {"main": {}, "far": {}}) == told + "no other seed is trained"
    right = a.Grade(a.grade_plain(garden).rank, {"w": np.eye(4)[garden.truth]}, 9)
    wrong = a.Grade(right.rank, {"w": np.eye(4)[3 - garden.truth]}, 9)
    shares = r.of_other_seeds({"main": garden, "far": garden}, {1: {"main": right, "far": wrong}})
    assert shares == {"main": {"1": 1.0}, "far": {"1": 0.0}}
    shares["main"]["2"] = 0.0
    assert r.told_size(job, shares) == (told + "seed 1 names 100% of `main` and 0% of `far`, seed 2 names 0% of `main`")
    first = graded_variant(garden, tmp_path / "grades", weights=tmp_path / "weights", **job)
    monkeypatch.setattr("anomaly_routing.attribution_variants.fit", None)  # a second training would fail
    alone = graded_variant(
        garden, tmp_path / "grades", weights=tmp_path / "weights", part="alone", grader=weights_alone, **job
    )
    assert np.allclose(alone.by_rule["w"], first.by_rule["w"], atol=1e-6) and not len(alone.rank)
    one = garden.part(np.arange(len(garden.planted)) == 0)
    p = one.planted[0]
    every = graded_variant(
        one, tmp_path / "grades", weights=tmp_path / "weights", part="all", grader=weights_of_all, **job
    )
    inside = every.by_rule["w"].reshape(*p.active.shape, 4)
    assert np.allclose(inside[one.marks[0]].mean(0), first.by_rule["w"][0], rtol=2.0 ** (1 - a.KEPT_BITS), atol=0)


def test_the_design_that_names_most_without_loss_of_auroc_is_chosen():
    table = pd.DataFrame(
        {
            "design": [r.PLAIN, "printed", "a", "b", "c"],
            "mean top1": [0.9, 0.2, 0.5, 0.8, 0.8],
            "mean auroc": [0.9, 0.7, 0.75, 0.69, 0.7],
        }
    )
    table["keeps AUROC"] = np.where(table["mean auroc"] >= 0.7, "yes", "no")
    assert r.chosen_design(table) == "c", "b loses AUROC, the plain rule and the printed model are no candidates"
    table.loc[2:, "keeps AUROC"] = "no"
    assert r.chosen_design(table) == "b"
    table["chosen"] = np.where(table.design == "b", "yes", "")
    text = r.repair_sentence(table)
    assert "as printed 20% (AUROC 0.70), `a` 50% (AUROC 0.75)" in text and "although no design keeps" in text
    assert text.endswith("`b`.")


def test_the_table_is_of_the_grades(ground):
    garden = a.grow(ground, calm_sessions(ground.tensors, NONE), {"medium": 2}, "main", 0)
    rank = a.grade_plain(garden).rank
    right, wrong = (a.Grade(rank, {"w": np.eye(4)[(garden.truth + k) % 4]}, 9) for k in (0, 1))
    table = r.repair_table(
        {"m": garden, "n": garden}, {"printed": {"m": wrong, "n": wrong}, "mended": {"m": right, "n": wrong}}
    )
    assert table.design.tolist() == [r.PLAIN, "printed", "mended"] and table["mean top1"].tolist()[1:] == [0.0, 0.5]
    assert table.chosen.tolist() == ["", "", "yes"] and table["keeps AUROC"].tolist()[1:] == ["yes", "yes"]


def test_training_repeats_itself(ground):
    """The same seed, the same weights: lessons are drawn, not remembered."""
    config, settings = make_config("intended", lstm_hidden=8, teach=1.0), make_training(epochs=1)
    one, other = (trained(ground, config, settings, 3) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_what_single_stock_days_say_is_counted_one_by_one(ground):
    """Against a loop over the stock-days of every plant, each looked at on its own."""
    garden = a.grow(ground, calm_sessions(ground.tensors, NONE), {"strong": 2}, "main", 0)
    net = Network(29, ground.tensors.categories, make_config("intended", lstm_hidden=8)).eval()
    grade, alone = by_day(net, garden), placebo(net, garden)
    calm = []
    for t in np.flatnonzero(garden.calm):
        x, active = ground.tensors.x[t - 19 : t + 1], ground.tensors.active[t : t + 1]
        calm += a.look(net, ground.tensors, x, active, ground.tensors.stress[t : t + 1])["error"][active].tolist()
    for k, (p, marks) in enumerate(zip(garden.planted, garden.marks, strict=True)):
        found = a.look(net, ground.tensors, p.x, p.active, p.stress)
        days = [(found["error"][at], found["routing"][at]) for at in map(tuple, np.argwhere(marks))]
        alarms = [w for error, w in days if np.mean(np.array(calm) < error) > 0.95]
        names = [int(w.argmax()) for _, w in days]
        assert np.allclose(grade.by_rule["seen"][k], np.mean(alarms, 0) if alarms else 0, atol=1e-5)
        assert np.allclose(grade.by_rule["day"][k], [names.count(e) / len(names) for e in range(4)])
    assert grade.by_rule["seen"].any(1).sum() > 0 and np.allclose(
        grade.by_rule["w"], a.grade_network(net, garden).by_rule["w"]
    )
    assert set(alone.by_rule) == {"w", "seen", "day"} and not len(alone.rank)
    assert all(np.array_equal(alone.by_rule[rule], grade.by_rule[rule]) for rule in alone.by_rule)


def test_a_kept_grade_is_as_exact_as_it_says(tmp_path):
    values = np.random.default_rng(0).lognormal(0, 9, (50, 4)) * [1, -1, 1, 0]
    given = a.Grade([np.array([0.25, 1.0])], {"l": values}, 7)
    kept = a.stored_grade(tmp_path, "one", {}, lambda: given)
    assert np.allclose(kept.by_rule["l"], values, rtol=2.0**-a.KEPT_BITS, atol=0)
    assert np.array_equal(kept.by_rule["l"], a.stored_grade(tmp_path, "one", {}, None).by_rule["l"])
    again = a.stored_grade(tmp_path, "two", {}, lambda: kept)  # rounding twice changes nothing
    assert np.array_equal(again.by_rule["l"], kept.by_rule["l"])


def test_weights_of_sessions_are_means_over_the_stocks_that_trade(ground):
    garden = a.grow(ground, calm_sessions(ground.tensors, NONE), {"medium": 1}, "main", 0)
    net = Network(29, ground.tensors.categories, make_config("intended", lstm_hidden=8)).eval()
    kept, t = weights_of_sessions(net, garden.part(np.zeros(len(garden.planted), bool))), ground.tensors
    days = np.flatnonzero(t.test)
    assert kept.by_rule["w"].shape == (len(days), 4) and np.allclose(kept.by_rule["w"].sum(1), 1, atol=1e-5)
    last = days[-1]
    x, active = t.x[last - 19 : last + 1], t.active[last : last + 1]
    routing = a.look(net, t, x, active, t.stress[last : last + 1])["routing"][0]
    mean = np.mean([routing[i] for i in range(len(t.tickers)) if active[0, i]], axis=0)
    assert np.allclose(kept.by_rule["w"][-1], mean, atol=1e-6)
