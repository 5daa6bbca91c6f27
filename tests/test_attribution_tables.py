"""The tables and the rows of stability of notebook 08."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from anomaly_routing import attribution as a
from anomaly_routing import attribution_stability as stability
from anomaly_routing import attribution_tables as tables
from anomaly_routing import attribution_variants as variants
from anomaly_routing.attribution_figures import draw_calibration, draw_strength
from anomaly_routing.data.plants import MECHANISMS, STRENGTHS, mechanisms
from anomaly_routing.planting import Ground, calm_sessions
from anomaly_routing.taught_gate import TaughtGate, grade_gate, lessons
from tests.gardens import NONE, SESSIONS, small_ground


@pytest.fixture(scope="module")
def ground() -> Ground:
    return small_ground()


@pytest.fixture(scope="module")
def garden(ground) -> a.Garden:
    return a.grow(ground, calm_sessions(ground.tensors, NONE), {"medium": 3, "strong": 2}, "main", 0)


@pytest.fixture(scope="module")
def gates() -> list[TaughtGate]:
    taught = lessons([11, 12], 16, SESSIONS)
    return [TaughtGate.fit(taught.of([seed]), 2000) for seed in (11, 12)]


def known(garden, wrong: list[int]) -> a.Grade:
    """Everything seen; every mechanism named but those of the plants in `wrong`."""
    named = garden.truth.copy()
    named[wrong] = (named[wrong] + 1) % 4
    return a.Grade([np.ones(m.sum()) for m in garden.marks], {"w": np.eye(4)[named]}, 100)


def test_the_catalogue_names_every_stock_and_is_packed_when_it_is_large(garden, tmp_path, monkeypatch):
    table = tables.catalogue(garden.ground.bars, main=garden)
    tables.write_catalogue(tmp_path, table)
    read = pd.read_csv(tmp_path / "plants.csv")
    tickers = garden.ground.bars.tickers
    assert read.tickers.tolist() == [" ".join(tickers[list(p.plant.stocks)]) for p in garden.planted]
    assert len(pd.read_csv(tmp_path / "shapes.csv")) == 4
    monkeypatch.setattr(tables, "LARGEST_TABLE", 100)
    tables.write_catalogue(tmp_path, table)
    packed = (tmp_path / "plants.csv.gz").read_bytes()
    assert not (tmp_path / "plants.csv").exists() and pd.read_csv(tmp_path / "plants.csv.gz").equals(read)
    tables.write_catalogue(tmp_path, table)
    assert (tmp_path / "plants.csv.gz").read_bytes() == packed


def test_paired_counts_are_those_of_the_medium_plants(garden):
    one, other = known(garden, [5]), known(garden, [0, 1, 3, 5])
    row = tables.paired_table({"main": garden}, {"main": one}, {"main": other}, ("w", "w")).iloc[0]
    assert row["only the first"] == 2 and row["only the second"] == 0 and row.plants == 12 and row.both == 9


def test_the_chapter_s_types_at_every_strength(ground):
    types = [m for m in MECHANISMS if m not in mechanisms()]
    counts = dict.fromkeys(STRENGTHS, 2)
    chapter = a.grow(ground, calm_sessions(ground.tensors, NONE), counts, "main", 2, types)
    before = a.grow(ground, calm_sessions(ground.tensors, NONE), {"medium": 2}, "main", 2, types)
    medium = chapter.part(chapter.strength == "medium")
    assert [p.plant for p in medium.planted] == [p.plant for p in before.planted]  # more strengths move no draw
    grade = a.grade_plain(chapter)
    table = tables.type_table(chapter, {"plain": grade})
    assert len(table) == 9 and (table.plants == 2).all() and table.AUROC.between(0, 1).all()
    mine = [r for p, r in zip(chapter.planted, grade.rank, strict=True) if p.plant.mechanism == "point"]
    weak = table[(table.type == "point") & (table.strength == "weak")].iloc[0]
    assert weak["AUROC"] == pytest.approx(np.concatenate(mine[:2]).mean())
    assert weak["recall at 5%"] == pytest.approx((np.concatenate(mine[:2]) > 0.95).mean())


def test_intervals_by_session_and_delays_stand_beside_the_others(garden):
    figures = a.summary(garden, known(garden, [0]), "w")
    row = tables.result_line("gate", "w", figures)
    assert row["by session, low"] <= row["top1, medium"] <= row["by session, high"]
    assert figures["at_once"] == 1 and figures["delay"] == 0


def test_a_gate_agrees_with_itself_and_rows_say_over_what(garden, gates):
    rows = stability.gate_rows(gates[0], garden)
    same = {r["compared"]: r["same_argmax"] for r in rows}
    assert same["stocks in another order"] == 1 and same["noise"] > 0.5
    other = stability.gate_rows(gates[0], garden, other=gates[0])
    assert [r["over"] for r in other] == ["plants", "sessions"] and all(r["same_argmax"] == 1 for r in other)
    apart = stability.gate_rows(gates[0], garden, other=gates[1])
    assert all(-1 <= r["correlation"] < 1 for r in apart)
    daily = stability.session_weights(gates[0], garden.ground.tensors)
    t = np.flatnonzero(garden.ground.tensors.test)[7]
    own = gates[0].weights(garden.ground.tensors.x[t][garden.ground.tensors.active[t]])
    assert np.allclose(daily[7], own.mean(0)) and len(daily) == garden.ground.tensors.test.sum()


def test_shap_and_weights_are_read_on_the_same_stock_days(garden, gates, monkeypatch):
    """A network whose weights are a softmax of four features of the stock-day itself, and SHAP of a known share."""
    some, seen = garden.part(garden.first_of_each(1)), []

    def weights(x: np.ndarray) -> np.ndarray:
        return np.exp(x[..., :4]) / np.exp(x[..., :4]).sum(-1, keepdims=True)

    def look(net, tensors, x, active, stress):
        return {"routing": weights(x[-1:])}

    def shares(net, garden, seed=0, noise=0.0):
        days = zip(garden.planted, variants.single_days(garden, noise, seed), strict=True)
        seen.append(np.array([x[-1, p.plant.stocks[0]] for p, x in days]))
        return weights(seen[-1])

    monkeypatch.setattr(variants, "look", look)
    monkeypatch.setattr(stability, "shap_shares", shares)
    found = stability.shap_rows(None, gates[0], some)
    by = {(r["compared"], r["reading"]): r for r in found.rows}
    assert {r["n"] for r in found.rows} == {4} and {r["over"] for r in found.rows} == {"single stock-days"}
    alike = by["noise", "network, w"]["correlation"]
    assert by["noise", stability.SHAP]["correlation"] == pytest.approx(alike) and alike < 1
    assert np.allclose(found.spread["network, w"], found.spread[stability.SHAP], atol=1e-6)
    fixed = np.eye(4)[some.truth]
    more = stability.shap_rows(None, gates[0], some, {"right": lambda noise: fixed, "wrong": lambda noise: 1 - fixed})
    assert more.top1["right"] == 1 and more.top1["wrong"] == 0 and (more.spread["right"] == 0).all()
    assert [r["reading"] for r in more.rows if r["compared"] == "noise"][-2:] == ["right", "wrong"]
    own = np.array([p.x[-1, p.plant.stocks[0]] for p in some.planted])
    right = (gates[0].weights(own).argmax(1) == some.truth).mean()
    assert found.top1["taught gate, w"] == right and np.allclose(seen[0], own)


def test_seeds_are_compared_with_seed_0_of_their_own_variant():
    def grade(values: np.ndarray) -> a.Grade:
        return a.Grade([], dict.fromkeys(a.RULES, values))

    eye = np.eye(4)
    rows = stability.seed_rows({("x", 0): grade(eye), ("x", 1): grade(eye), ("y", 0): grade(eye), ("z", 1): grade(eye)})
    assert {r["reading"].split(",")[0] for r in rows} == {"x"} and all(r["same_argmax"] == 1 for r in rows)


def test_curves_and_reliability_draw_what_they_are_given(garden, gates):
    graded = {("taught gate", "w"): grade_gate(garden, gates[0]), ("literal", "w"): known(garden, [])}
    results = {key: a.summary(garden, grade, "w") for key, grade in graded.items()}
    fig = draw_strength(results, garden.strength, ["literal"])
    lines = {line.get_label(): line.get_ydata() for line in fig.axes[0].lines}
    expected = [results["taught gate", "w"]["by_strength"][s]["top1"] for s in ("medium", "strong")]
    assert list(lines["taught gate"]) == expected and list(lines["literal, w"]) == [1, 1]
    table, error = a.reliability(garden, known(garden, []), "w")
    assert error == 0 and table["n"].sum() == 20
    fig = draw_calibration({"sure": (table, error)})
    assert fig.axes[0].get_legend().get_texts()[0].get_text() == "sure: error 0.00"
    plt.close("all")


def test_confusion_counts_are_those_of_the_matrices():
    values = np.eye(4)[[0, 1, 1, 3]]
    table = tables.confusion_table({"far": {"rule": values}}, {"far": np.array([0, 0, 1, 2])})
    counts = table.filter(like="named ").to_numpy(int)
    assert counts[:4].tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert table.plants.tolist()[:4] == [2, 1, 1, 0] and set(table.method) == {"rule"} and set(table.set) == {"far"}
    assert list(table.columns[4:8]) == [f"named {MECHANISMS[name].label}" for name in mechanisms()[:4]]
