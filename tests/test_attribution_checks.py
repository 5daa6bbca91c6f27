"""The placebo, names of what alarms, pictures of attribution, rows of the scorecard, against a method that is known."""

from __future__ import annotations

from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from anomaly_routing import attribution as a
from anomaly_routing import attribution_checks as checks
from anomaly_routing.attribution_figures import Spread, draw_confusion, draw_contagion
from anomaly_routing.ledger.summary import attribution_rows, named_lines
from anomaly_routing.planting import Ground, calm_sessions
from anomaly_routing.plots import BLUE, GREEN, RED, in_palette, use_style
from tests.gardens import NONE, small_ground


@pytest.fixture(scope="module")
def ground() -> Ground:
    return small_ground()


@pytest.fixture(scope="module")
def garden(ground) -> a.Garden:
    return a.grow(ground, calm_sessions(ground.tensors, NONE), {"medium": 3, "strong": 1}, "main", 0)


def test_with_nothing_planted_the_stock_days_are_those_of_the_market(ground, garden):
    tensors = ground.tensors
    for p, q in zip(garden.planted, checks.undisturbed(garden).planted, strict=True):
        assert np.array_equal(q.x[19:], tensors.x[p.plant.onset : p.plant.last + 1]) and q.x.shape == p.x.shape
        assert np.array_equal(q.returns, tensors.returns[p.plant.onset - 20 : p.plant.last + 1], equal_nan=True)
        assert q.stress.shape == p.stress.shape and q.log_volume.shape == p.log_volume.shape


class Known:
    """A gate that says momentum of an undisturbed stock-day and liquidity of every other; scores by size."""

    def __init__(self, garden: a.Garden, alarms: bool) -> None:
        tensors = garden.ground.tensors
        self.calm = {row.tobytes() for row in tensors.x.reshape(-1, tensors.x.shape[-1])}
        self.alarms = alarms

    def weights(self, x: np.ndarray) -> np.ndarray:
        return np.eye(4)[[3 if row.tobytes() in self.calm else 1 for row in x]]

    def score(self, x: np.ndarray) -> np.ndarray:
        planted = np.array([row.tobytes() not in self.calm for row in x])
        return np.where(planted == self.alarms, 1.0, 0.0)


def test_columns_are_what_a_known_gate_earns(garden):
    table = checks.mechanism_table({"main": garden}, Known(garden, alarms=True))
    mine = table[table.method == checks.TAUGHT].set_index("mechanism")
    assert (mine.plants == 3).all() and mine["named right"].tolist() == [0, 1, 0, 0]
    assert mine["nothing planted"].tolist() == [0, 0, 0, 1]
    assert mine["seen and named"].tolist() == [0, 1, 0, 0] and mine["one stock-day"]["liquidity freeze"] == 1
    assert checks.overall(table, "main", "named right") == 0.25
    assert checks.worst(table, "main").mechanism == "price shock"
    blind = checks.mechanism_table({"main": garden}, Known(garden, alarms=False))
    blind = blind[blind.method == checks.TAUGHT]
    assert (blind["seen and named"] == 0).all() and blind["named right"].tolist() == [0, 1, 0, 0]


class Loud(Known):
    """Loudest on the stock-days of the last plant, as they are without it."""

    def __init__(self, garden: a.Garden) -> None:
        super().__init__(garden, alarms=True)
        garden = garden.part(garden.strength == "medium")
        marked = [(p, marks) for p, marks in zip(checks.undisturbed(garden).planted, garden.marks, strict=True)]
        self.chosen = {row.tobytes() for p, marks in marked[-1:] for row in p.x[a.REACH :][marks]}

    def score(self, x: np.ndarray) -> np.ndarray:
        return np.array([float(row.tobytes() in self.chosen) for row in x])


def test_seen_and_named_by_luck(garden):
    """Its name for an undisturbed stock-day is momentum, so that one of three plants, of momentum, is seen and named
    when nothing is planted."""
    assert garden.part(garden.strength == "medium").truth[-1] == 3
    table = checks.mechanism_table({"main": garden}, Loud(garden))
    mine = table[table.method == checks.TAUGHT]
    assert mine[checks.BY_LUCK].tolist() == [0, 0, 0, pytest.approx(1 / 3)] and (mine["seen and named"] == 0).all()


def test_the_plain_rule_stands_beside_with_the_accuracy_of_its_grade(garden):
    table = checks.mechanism_table({"main": garden}, Known(garden, alarms=True))
    graded = a.summary(garden, a.grade_plain(garden), "signal")["by_strength"]["medium"]
    assert checks.overall(table, "main", "named right", checks.PLAIN) == pytest.approx(graded["top1"])


def test_a_row_of_matrices_a_set(garden):
    right, wrong = np.eye(4)[garden.truth], np.eye(4)[(garden.truth + 1) % 4]
    drawn = {"twin": {"gate": right}, "main": {"gate": wrong, "rule": right}}
    fig = draw_confusion(drawn, dict.fromkeys(drawn, garden.truth))
    shown = [ax for ax in fig.axes if ax.get_visible()]
    diagonal = [np.diag(ax.images[0].get_array()).tolist() for ax in shown]
    assert diagonal == [[1] * 4, [0] * 4, [1] * 4] and shown[1].get_ylabel() == "planted, set main"
    plt.close("all")


def test_the_contagion_has_its_curves_and_their_colours_in_a_stored_picture(ground, garden):
    p = next(q for q in garden.planted if q.plant.mechanism == "contagion")
    reached = p.plant.graded(16)
    taught, network, own = (np.where(reached, *pair) for pair in ((0.8, 0.1), (0.3, 0.5), (0.6, 0.2)))
    with plt.rc_context():
        use_style()
        fig = draw_contagion(ground, Spread(p, taught, own, network, taught))
    curves = {line.get_label(): line.get_ydata() for line in fig.axes[-2].lines if "," in line.get_label()}
    assert np.allclose(curves["taught gate, reached"], 0.8) and np.allclose(curves["as printed, not reached"], 0.5)
    assert (
        np.allclose(curves["repaired model, reached"], 0.6)
        and len(curves) == 6
        and p.plant.shapes in fig._suptitle.get_text()
    )
    names = {text.get_text() for text in fig.axes[0].texts}
    assert {ground.tensors.tickers[k] for k in np.flatnonzero(reached[0])} <= names
    raw = BytesIO()
    fig.savefig(raw, format="png", dpi=70)
    pixels = np.asarray(Image.open(BytesIO(in_palette(raw.getvalue()))).convert("RGB"), float).reshape(-1, 3)
    for colour in (RED, GREEN, BLUE):
        near = np.abs(pixels - 255 * np.array(to_rgb(colour))).max(1) < 16
        assert near.sum() > 50, colour
    plt.close("all")


def test_rows_of_the_repaired_model_count_its_own_names(garden):
    """All weight on the right mechanism, and with nothing planted all on contagion; momentum alarms never."""

    def grade(weights: np.ndarray, alarms: np.ndarray) -> dict[str, a.Grade]:
        return {"main": a.Grade([], {"w": weights, "seen": weights * alarms[:, None], "day": 0.5 * weights + 0.125})}

    right, usual = np.eye(4)[garden.truth], np.eye(4)[np.full(len(garden.truth), 2)]
    table = checks.repaired_rows({"main": garden}, grade(right, garden.truth != 3), grade(usual, garden.truth == 2))
    assert table["named right"].tolist() == [1.0] * 4 and table["nothing planted"].tolist() == [0, 0, 1, 0]
    assert table["seen and named"].tolist() == [1, 1, 1, 0] and table[checks.BY_LUCK].tolist() == [0, 0, 1, 0]
    assert table["one stock-day"].tolist() == [0.625] * 4
    assert table.plants.sum() == len(garden.planted) and set(table.method) == {checks.REPAIRED}
    wrong = np.eye(4)[(garden.truth + 1) % 4]
    never = grade(usual, garden.truth < 0)
    table = checks.repaired_rows({"main": garden}, grade(wrong, garden.truth >= 0), never)
    assert table["named right"].tolist() == [0.0] * 4 == table["seen and named"].tolist()


def test_rows_of_the_scorecard_begin_with_the_sternest_set():
    def one(top1: float) -> dict:
        return {"top1": top1, "top1_interval": [top1 - 0.1, top1 + 0.1], "n_plants": 9}

    def main(top1: float) -> dict:
        return one(0.1) | {"by_strength": {"medium": one(top1)}}

    rule = "largest mean |feature| / signal"
    graded = {
        "chance": 0.25,
        "by_arithmetic": {"intended": "collapsed: by arithmetic"},
        "headline": ["largest_mean_feature", "intended / w", "taught gate / w"],
        "variants": {"intended / w": main(0.25), "taught gate / w": main(0.9), "intended / l": main(0.3)},
        "plain_rules": {"largest_mean_feature": main(0.8)},
        "twin": {"intended / w": one(0.25), "taught gate / w": one(0.7), rule: one(0.5)},
    }
    rows = attribution_rows(graded)
    assert rows.set.tolist() == ["twin"] * 3 + ["main"] * 3
    assert rows["named right"].tolist() == [0.5, 0.25, 0.7, 0.8, 0.25, 0.9] and (rows.plants == 9).all()
    assert rows["95% low"][2] == pytest.approx(0.6) and rows.mark.ne("").tolist() == [False, True, False] * 2
    sterner = graded | {"fresh": graded["twin"] | {"taught gate / w": one(0.6)}}
    assert attribution_rows(sterner).set.iloc[0] == "fresh"
    again = graded | {"other_seeds": {"intended / w": {"twin": {"1": 0.3, "2": 0.2}}}}
    assert attribution_rows(again).seeds.tolist()[:2] == ["one seed", "seed 0, seed 1 30%, seed 2 20%"]
    told = named_lines(graded | {"market": "us100"}, "up/")
    assert len(told) == 3 and all("sternest set `twin`" in line and "9 planted" in line for line in told)
    assert "no model | no figure | 50% | 95% 40% to 60% |  | 25% | [notebook 08](up/reports/us100/" in told[0]
    assert "(`intended`) | no figure | 25% (collapsed: by arithmetic) | 95% 15% to 35% | one seed" in told[1]
