"""Registered detectors on planted stretches, and a mechanism that a reader adds."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from anomaly_routing import attribution as a
from anomaly_routing import attribution_detectors as d
from anomaly_routing.attribution_figures import draw_confusion, draw_plants
from anomaly_routing.attribution_tables import catalogue, detection_board, result_line
from anomaly_routing.baselines.registry import detectors
from anomaly_routing.data.plants import MECHANISMS, PAPER, Change, Mechanism, mechanisms
from anomaly_routing.evaluation.injection import confusion
from anomaly_routing.planting import Ground, calm_sessions
from tests.gardens import NONE, small_ground


@pytest.fixture(scope="module")
def ground() -> Ground:
    return small_ground()


@pytest.fixture(scope="module")
def calm(ground) -> np.ndarray:
    return calm_sessions(ground.tensors, NONE)


@pytest.fixture(scope="module")
def garden(ground, calm) -> a.Garden:
    return a.grow(ground, calm, {"medium": 2, "strong": 2}, "main", 0)


def test_a_pointwise_detector_and_its_registered_twin_agree(garden):
    """The norm of x as a function, and as the detector of notebook 03 on joined stretches."""
    by_function = a.grade_pointwise(garden, lambda x: np.linalg.norm(x, axis=-1), {})
    by_detector = d.grade_detector(garden, detectors()["l2_norm"])
    for one, other in zip(by_function.rank, by_detector.rank, strict=True):
        assert np.allclose(one, other, atol=1e-3)


def test_a_return_is_compared_with_the_twenty_before_it(garden):
    """mean_abs_z on planted stock-days by hand, from the 21 returns that a stretch carries."""
    grade = d.grade_detector(garden, detectors()["mean_abs_z"])
    tensors = garden.ground.tensors
    z = np.array(
        [
            np.abs(r - r_before.mean(0)) / r_before.std(0, ddof=1)
            for t in np.flatnonzero(garden.calm)
            for r, r_before in [(tensors.returns[t], tensors.returns[t - 20 : t].astype(float))]
        ]
    )
    full = np.array([np.isfinite(tensors.returns[t - 20 : t + 1]).all(0) for t in np.flatnonzero(garden.calm)])
    calm_z = z[full & tensors.active[garden.calm]]
    for p, marks, rank in zip(garden.planted, garden.marks, grade.rank, strict=True):
        assert len(p.returns) == len(p.x) + 1 == 20 + p.plant.sessions
        day, stock = np.argwhere(marks)[0]
        before = p.returns[day : day + 20, stock]
        by_hand = abs(p.returns[day + 20, stock] - before.mean()) / before.std(ddof=1)
        assert rank[0] == pytest.approx((calm_z < by_hand).mean(), abs=0.02)


def test_a_detector_that_cannot_be_graded_says_why(garden):
    entries = detectors()
    assert d.grade_detector(garden, entries["rolling_z"]).reason == d.ANOTHER_SCORE
    assert "benchmark:^VIX" in d.grade_detector(garden, entries["lagged_vix"]).reason or (
        "no benchmark" in d.grade_detector(garden, entries["lagged_vix"]).reason
    )
    assert d.grade_detector(garden, entries["l2_norm"]).reason == ""


def test_every_registered_detector_is_graded_or_left_out_with_a_reason(garden, tmp_path, monkeypatch):
    """Two neural ones on a tiny ground; what is fitted once is found again, its reason too."""
    fitted = []
    real = d.grade_detector

    def counted(garden, entry, seed=0, **params):
        fitted.append(entry.name)
        if entry.name == "rolling_z" or entry.stage == "deep_baselines":
            return real(garden, entry, seed, **params)
        return real(garden, detectors()["l2_norm"])

    monkeypatch.setattr(d, "grade_detector", counted)
    settings = {"names": [], "neural": ["gcn_ae", "memstream"], "epochs": 1, "max_rows": 100}
    seen, left_out = d.graded_detectors(garden, tmp_path, **settings)
    assert sorted([*seen, *left_out.detector]) == sorted(detectors()) and (left_out.reason != "").all()
    why = left_out.set_index("detector").reason
    assert "gcn_ae" in seen and why["rolling_z"] == d.ANOTHER_SCORE and "parameter `neural`" in why["dominant"]
    assert "checkpoint" in why["intended"]
    assert {"gcn_ae", "memstream"} <= set(fitted)
    fitted.clear()
    again, why_again = d.graded_detectors(garden, tmp_path, **settings)
    assert not {"gcn_ae", "memstream"} & set(fitted) and list(again) == list(seen) and why_again.equals(left_out)
    assert np.allclose(np.concatenate(again["gcn_ae"].rank), np.concatenate(seen["gcn_ae"].rank))
    some, others = d.graded_detectors(garden, tmp_path, **settings | {"names": ["l2_norm"], "neural": []})
    assert set(some) == {"l2_norm"} and "parameter `detectors`" in others.set_index("detector").reason["knn1"]
    with pytest.raises(ValueError, match="no detector nobody; there are"):
        d.graded_detectors(garden, tmp_path, **settings | {"names": ["nobody"]})


# --- a mechanism in one place ----------------------------------------------------------------------------------------
def test_a_reader_adds_a_mechanism_in_one_place(ground, calm, tmp_path, monkeypatch):
    """Drawn, planted, graded, in the tables and the pictures; in no attribution's accuracy, since none can name it."""

    def halt(scene, share):
        return Change(scene.simple * (1 - share * min(scene.strength, 1)), volume=0.5)

    halted = Mechanism(halt, "half halt", {"main": {"share": 0.9}, "twin": {"share": 0.7}}, stocks=(2, 4))
    before = a.grow(ground, calm, {"medium": 2}, "main", 0)
    monkeypatch.setitem(MECHANISMS, "half_halt", halted)
    assert mechanisms() == (*PAPER, "half_halt")
    garden = a.grow(ground, calm, {"medium": 2}, "main", 0)
    assert [p.plant for p in garden.planted[:8]] == [p.plant for p in before.planted]  # the draws of the others stay
    assert garden.truth.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4] and garden.first_of_each(1).sum() == 5
    plants = catalogue(ground.bars, main=garden)
    assert (plants.mechanism == "half_halt").sum() == 2 and plants.plant.is_unique
    assert len(a.grow(ground, calm, {"medium": 1}, "fresh", 0).planted) == len(PAPER)  # it has no shape in that set

    grade = a.grade_pointwise(
        garden, lambda x: np.abs(x).mean(-1), {"signal": lambda x: a.category_signal(x, ground.tensors)}
    )
    found = a.summary(garden, grade, "signal")
    assert found["n_plants"] == 8 and found["n_stock_days"] == sum(len(r) for r in grade.rank)
    matrix = confusion(grade.by_rule["signal"], garden.truth)
    assert matrix.shape == (5, 4) and (matrix.sum(1) == 2).all()
    assert result_line("plain", "signal", found)["plants"] == 8
    board = detection_board(
        (garden, {"plain": grade}), (garden, {"norm": d.grade_detector(garden, detectors()["l2_norm"])})
    )
    assert board["half halt"].notna().all() and board.plants.tolist() == [10, 10]
    stored = a.stored_grade(tmp_path, "plain", a.belongs_to(garden), lambda: grade)
    assert np.allclose(stored.by_rule["signal"], grade.by_rule["signal"], rtol=2.0**-a.KEPT_BITS, atol=1e-5)

    drawn = draw_plants(ground, garden.planted)
    assert [ax.get_title() for ax in drawn.axes[:5]] == [MECHANISMS[m].label for m in mechanisms()]
    fig = draw_confusion({"main": {"plain": grade.by_rule["signal"]}}, {"main": garden.truth})
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()][-1] == "half"
    assert len(fig.axes[0].texts) == 20
    plt.close("all")
