"""What is said of the routing weights follows from the figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anomaly_routing import attribution_words as w
from anomaly_routing.attribution_tables import CLOSE, LIKENESS, shape_table
from anomaly_routing.data.plants import MECHANISMS, PAPER
from anomaly_routing.data.simulate_events import MECHANISMS as SIMULATED
from anomaly_routing.runs import Run, RunKey, RunStore


def figures(top1: float, auroc: float = 0.8, half: float = 0.05) -> dict:
    interval = [top1 - half, top1 + half]
    return {"top1": top1, "top1_interval": interval, "auroc": auroc, "ap": auroc, "recall_at_5": auroc}


SETS = {"main": (figures(0.9), figures(0.6), figures(0.3)), "twin": (figures(0.85), figures(0.4), figures(0.2))}


def test_the_aim_is_met_or_says_what_is_missing():
    assert w.goal(SETS) == (True, "") and "is met." in w.goal_sentence(SETS)
    for change, words in (
        ((figures(0.7), figures(0.6), figures(0.3)), "on the main set the taught gate names 70%"),
        ((figures(0.9), figures(0.66), figures(0.3)), "on the main set the plain rule names 66%"),
        ((figures(0.9, 0.7), figures(0.6), figures(0.3)), "AUROC falls from 0.80 to 0.70"),
    ):
        assert not w.goal(SETS | {"main": change})[0] and words in w.goal_sentence(SETS | {"main": change})


def test_repaired_weights_are_trusted_as_far_as_they_were_right():
    assert "and on others" in w.repaired_sentence(SETS)
    only = SETS | {"twin": (figures(0.68), figures(0.4), figures(0.2))}
    assert "on shapes like those it was taught, not beyond" in w.repaired_sentence(only)
    assert "cannot be trusted either" in w.repaired_sentence(only | {"main": only["twin"]})


def test_prose_and_equations_are_called_by_their_names():
    both = {"intended": figures(0.32), "literal": figures(0.9)}
    text = w.printed_sentence(both, {})
    assert "as the prose describes it (`intended`) they name mechanisms better than chance, too seldom" in text
    assert "as the equations stand (`literal`) they can be trusted" in text and "not trained here" not in text
    alone = w.verdict({"intended": figures(0.25)}, {"intended": ", by arithmetic"}, SETS)
    assert "cannot be trusted to name a mechanism (25% right, chance 25%, by arithmetic" in alone
    assert "as the equations stand (`literal`) the model is not trained here" in alone


def test_weights_hardly_move_only_where_they_do():
    still, moving = np.tile([0.1, 0.7, 0.1, 0.1], (8, 1)), np.eye(4)[np.arange(8) % 4]
    assert "for 100% of the plants, and its mean weight is 0.70: the weights hardly move" in w.moves_sentence(still)
    assert "for 25% of the plants" in w.moves_sentence(moving) and "move with the plant" in w.moves_sentence(moving)


@pytest.fixture
def store(tmp_path) -> RunStore:
    """Three seeds of one design, the first collapsed, and a run of another design."""
    store, keys = RunStore(tmp_path), []
    days = pd.bdate_range("2020-01-01", periods=6)
    for method, seed, largest in (
        ("intended", 0, 1.0),
        ("intended", 1, 0.4),
        ("intended", 2, 0.4),
        ("literal", 0, 0.5),
    ):
        rest = (1 - largest) / 3
        log = {"mean_max_w": largest, "mean_w": [rest, rest, rest, largest]}
        level = np.linspace(0, 1, 6) * (1 if seed < 2 else -1)
        daily = pd.DataFrame({name: level + k for k, name in enumerate(w.WEIGHTS)}, index=days).iloc[seed:]
        info = {"history": [log], "best": {"tail": {"epoch": 0}}}
        key = RunKey("simulated", method, "full", seed, {}, "data", 1)
        store.save(key, Run(np.zeros((1, 1)), days[:1], ["A"], daily, info))
        keys.append(key)
    store.mark_current(keys)
    return store


def test_what_the_log_says_of_other_seeds(store):
    graded = next(p.name for p in store.current() if p.name.startswith("intended--full--seed0"))
    seeds = w.routing_of_seeds(store.folder, graded)
    assert seeds.seed.tolist() == [0, 1, 2] and seeds.collapsed.tolist() == [True, False, False]
    assert w.is_collapsed(seeds) and seeds.graded.tolist() == [True, False, False]
    text = w.seeds_sentence("intended", seeds, figures(0.25))
    assert "seed 0: 0.00, 0.00, 0.00, 1.00, collapsed" in text and "by arithmetic" in text
    assert "seed 1: 0.20, 0.20, 0.20, 0.40, not collapsed" in text
    assert "weights are not stored, 1 and 2 did not collapse" in w.collapse_note(seeds)
    assert "2 did not collapse, 1 collapsed too" in w.collapse_note(seeds.assign(collapsed=[True, True, False]))
    assert w.collapse_note(seeds.assign(collapsed=False)) == ""
    rows = w.seeds_over_sessions(store.folder, seeds)
    assert [r["correlation"] for r in rows] == pytest.approx([1.0, -1.0, -1.0])
    other = next(p.name for p in store.current() if p.name.startswith("literal"))
    alone = w.routing_of_seeds(store.folder, other)
    assert not w.is_collapsed(alone) and w.seeds_over_sessions(store.folder, alone) == []
    assert "There is no other seed." in w.seeds_sentence("literal", alone, figures(0.3))
    assert not len(w.routing_of_seeds(store.folder, "none.npz"))


def test_smaller_findings_follow_the_figures():
    better, worse = figures(0.9, 0.9), figures(0.9, 0.7)
    assert "AUROC lower, 0.70 against 0.90 of norm" in w.lost_sentence("main", worse, {"norm": better})
    assert "AUROC not lower" in w.lost_sentence("main", better, {"norm": worse})
    by = {
        "gate": {"medium": figures(0.9), "strong": figures(0.7)},
        "rule": {"medium": figures(0.5), "strong": figures(0.6)},
    }
    text = w.strength_sentence(by)
    assert "gate falls from 90% to 70% (the intervals are apart)" in text and "rule does not fall" in text
    assert w.strength_sentence({"gate": {"medium": figures(0.9)}}) == ""
    sure = pd.DataFrame({"n": [1, 3], "weight": [0.5, 0.9], "accuracy": [0.5, 0.6]})
    assert "gate is over-confident (mean largest weight 0.80, 57% right)" in w.confidence_sentence({"gate": sure})
    assert "under-confident" in w.confidence_sentence({"gate": sure.assign(weight=0.3)})
    reached = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0]], bool)
    weight = np.array([[0.2, 0.5, 0.5], [0.3, 0.5, 0.4], [0.6, 0.8, 0.3]])
    text = w.contagion_sentence("taught", weight, reached)
    assert "reached 0.20, 0.40, 0.70: it rises on every session and ends higher" in text
    assert "not reached 0.50, 0.40, 0.30: it does not rise on every session and ends not higher" in text
    rows = [
        {
            "compared": "seed 0 and 1",
            "reading": "network, w",
            "over": "plants",
            "same_argmax": 0.0,
            "correlation": np.nan,
        }
    ]
    assert "the same largest weight for 0% of the plants, no correlation: one is constant." in w.seeds_agree_sentence(
        rows
    )
    assert "no second seed" in w.seeds_agree_sentence([])


def test_the_main_set_flatters_only_what_resembles_the_lessons():
    rows = [("main", "a", "yes", 0.9), ("main", "b", "no", 0.8), ("twin", "a", "no", 0.1), ("twin", "b", "no", 0.7)]
    table = pd.DataFrame(rows, columns=["set", "mechanism", "close to its lesson", "named right"]).assign(plants=10)
    text = w.likeness_sentence(table)
    assert "a (shapes like the lessons in the main set): 90%, 10%" in text and "flatters the gate" in text
    table.loc[2, "named right"] = 0.95
    assert "does not explain" in w.likeness_sentence(table)


def test_the_shapes_called_close_to_the_lessons_are_those_that_are():
    """Main: a single jump of as many standard deviations; a constant trend, then a turn. The twin: neither."""
    jump, lesson = MECHANISMS["price_shock"].shape, SIMULATED["price_shock"].returns
    assert (jump["main"]["sigmas"],) == lesson and jump["main"]["days"] == (1.0,) and len(jump["twin"]["days"]) > 1
    trend = SIMULATED["momentum"]
    assert len(set(trend.returns[: trend.turn])) == 1 and not MECHANISMS["momentum"].shape["main"]["accelerate"]
    assert MECHANISMS["momentum"].shape["twin"]["accelerate"] and max(trend.returns[trend.turn :]) < 0
    assert not any(SIMULATED["liquidity"].returns) and set(LIKENESS) == set(PAPER) and set(CLOSE) < set(PAPER)
    table = shape_table()
    assert len(table) == len(PAPER) and "sigmas 6.0" in table["planted, main"][0] and "returns 6" in table.iloc[0, 1]
