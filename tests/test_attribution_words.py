"""What is said of the routing weights follows from the figures."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from anomaly_routing import attribution_seeds as seeded
from anomaly_routing import attribution_words as w
from anomaly_routing.attribution import Grade
from anomaly_routing.attribution_checks import BY_LUCK, ERROR, PLAIN, REPAIRED, TAUGHT, UNTAUGHT, without_default
from anomaly_routing.attribution_tables import TAUGHT_ON, shape_table
from anomaly_routing.data.plants import MECHANISMS, PAPER
from anomaly_routing.data.plants import SETS as ALL_SETS
from anomaly_routing.data.simulate_events import MECHANISMS as SIMULATED
from anomaly_routing.runs import Run, RunKey, RunStore


def figures(top1: float, auroc: float = 0.8, half: float = 0.05) -> dict:
    interval = [top1 - half, top1 + half]
    return {"top1": top1, "top1_interval": interval, "n_plants": 100, "auroc": auroc, "ap": auroc, "recall_at_5": auroc}


def found(taught: dict, plain: dict, intended: dict, **more: dict) -> dict:
    return {TAUGHT: taught, PLAIN: plain, "intended": intended} | more


SETS = {
    "twin": found(figures(0.85), figures(0.4), figures(0.2)),
    "fresh": found(figures(0.95), figures(0.5), figures(0.2)),
    "main": found(figures(0.9), figures(0.6), figures(0.3)),
}
ROWS = [("twin", "shock", 0.1, 0.06, 0.05), ("twin", "freeze", 0.9, 0.3, 0.7), ("fresh", "shock", 1.0, 0.0, 1.0)]
TABLE = pd.DataFrame(ROWS, columns=["set", "mechanism", "named right", "nothing planted", "seen and named"]).assign(
    method=TAUGHT,
    plants=[30, 10, 40],
    **{"95% low": 0.0, "95% high": 1.0, "one stock-day": 0.5, BY_LUCK: [0.1, 0.5, 0]},
)


def test_the_aim_is_met_or_says_what_is_missing():
    assert w.goal(SETS) == (True, "") and "is met by the taught gate." in w.goal_sentence(SETS)
    for shapes, change, words in (
        ("main", {TAUGHT: figures(0.7)}, "on `main` the taught gate names 70%"),
        ("main", {PLAIN: figures(0.66)}, "on `main` the plain rule names 66%"),
        ("twin", {TAUGHT: figures(0.9, 0.7)}, "AUROC falls to 0.700 from 0.800 of largest mean |feature|"),
        ("twin", {"literal": figures(0.2, 0.85)}, "AUROC falls to 0.800 from 0.850 of literal"),
        ("fresh", {TAUGHT: figures(0.9) | {"recall_at_5": 0.5}}, "recall falls to 0.500 from 0.800"),
    ):
        changed = SETS | {shapes: SETS[shapes] | change}
        assert not w.goal(changed)[0] and words in w.goal_sentence(changed)


def test_the_verdict_leads_with_the_sternest_set_and_the_plain_rule():
    """Of 40 plants of the twin set, 30 of them shocks: seen and named are 0.05 x 30 + 0.7 x 10."""
    text = w.verdict(SETS, {}, TABLE)
    mark = "(mark: 80% right, also without the name said by default). "
    trust = f"As printed no; a separate taught gate in their place yes on `fresh` and `main`, no on `twin` {mark}"
    assert text.startswith(trust + "Of 100 anomalies planted in the sternest set, `twin`, the largest mean absolute")
    assert text.index("names 40%") < text.index("the routing weights") < text.index("names 85%")
    within = "(80% to 90%). `twin` lies within its lessons; it names 95% in `fresh`, 90% in `main` (within them)."
    assert within in text and "mends nothing in the model" in text
    assert "worst at shock, 10% (with nothing planted the same stock-days are named so in 6%)" in text
    assert f"both sees and names {(0.05 * 30 + 0.7 * 10) / 40:.0%} at five" in text and text.count(". ") == 4
    assert f"stock-days ({(0.1 * 30 + 0.5 * 10) / 40:.0%} with nothing planted)" in text
    assert text.endswith(" `literal` is not trained on this market.")
    assert w.verdict(SETS, {"intended": "A note.", "literal": "Not graded."}, TABLE) == f"{text} A note."
    error = {shapes: of | {ERROR: figures(0.44)} for shapes, of in SETS.items()}
    assert "names 40%, the largest expert error 44%, the routing weights" in w.verdict(error, {}, TABLE)
    assert w.goal(error) == (True, "") and not w.goal(error | {"main": error["main"] | {ERROR: figures(0.66)}})[0]
    other = w.verdict(SETS | {"fresh": found(figures(0.5), figures(0.1), figures(0.2))}, {}, TABLE)
    far = w.verdict(SETS | {"far": found(figures(0.5), figures(0.4), figures(0.2))}, {}, TABLE.assign(set="far"))
    assert (
        "(45% to 55%). `far` lies beyond its lessons; it names 85% in `twin`, 95% in `fresh`, 90% in `main` "
        "(within them)." in far
    )
    kind = w.verdict(SETS | {"far": found(figures(0.99), figures(0.4), figures(0.2))}, {}, TABLE)
    assert "90% in `main` (within them); 99% in `far` (beyond them)." in kind
    assert (
        "`fresh`, the routing weights as the prose describes it (`intended`) 20%" in other and "worst at shock" in other
    )


def test_the_repaired_model_stands_beside_the_separate_gate():
    mended = {"twin": 0.82, "fresh": 0.5, "main": 0.9}
    sets = {shapes: of | {REPAIRED: figures(mended[shapes])} for shapes, of in SETS.items()}
    table = pd.concat([TABLE, TABLE.assign(method=REPAIRED)])
    text = w.verdict(sets, {}, table, "`lstm_hidden` 8")
    own = "as repaired inside the model, by a loss on its routing, yes on `main`, no on `twin` and `fresh`; a separate"
    assert own in text
    assert "own weights (`lstm_hidden` 8) name 82% (77% to 87%; AUROC 0.800, of that rule 0.800); the taught" in text
    assert "names 50% in `fresh`, 90% in `main`; in `twin` it is worst at shock, 10%, and 30% of the plants of" in text
    assert "of freeze get that name with nothing planted too" in text
    told = w.repaired_sentence(table)
    assert (
        "`twin` 30%, worst shock 10% (0% to 100%), by default freeze (30% with nothing planted), without that" in told
    )
    assert "that 10%; seen and named 21% (20% with nothing planted); `fresh` 100%" in told
    ending = "by default shock (0% with nothing planted); seen and named 100% (0% with nothing planted)."
    assert told.endswith(ending)
    assert (
        text.count("both sees and names") == 2
        and "both sees and names 21% in `twin` (20% with nothing planted)." in text
    )
    beside = {shapes: of | {UNTAUGHT: figures(0.1, 0.7)} for shapes, of in sets.items()}
    assert "of that rule 0.800, of the same network untaught 0.700)" in w.verdict(beside, {}, table)
    same = table.assign(**{"nothing planted": [0.7, 0.3, 0.9] * 2})
    said = "and in every set 70% to 90% of the plants of shock get that name with nothing planted too"
    assert said in w.verdict(sets, {}, same)
    seeds = {"main": {"1": 0.9, "2": 0.79}, "twin": {"1": 0.99}}
    wary = w.trust_clause(sets, False, table, seeds)
    assert "loss on its routing, no on `twin` and `fresh` and `main`; a separate" in wary
    every = "also without the name said by default; of the repaired model every seed, seed 0 alone without that name)"
    assert wary.endswith(f"(mark: 80% right, {every}")
    assert w.trust_clause(sets, False, table, {"main": {"1": 0.8}}).count("yes on `main`, no on `twin`") == 1
    told = w.goal_sentence(sets)
    assert "is not met by the repaired model (on `fresh` the repaired model names 50%); met by the taught gate." in told
    assert not w.goal(sets, REPAIRED)[0] and w.goal(sets) == (True, "")
    loud = sets | {"main": sets["main"] | {REPAIRED: figures(0.9, 0.99)}}
    assert w.goal(loud) == (True, ""), "what is mended is no rival of the other"
    of_main = {(PLAIN, "signal"): figures(0.7), (REPAIRED, "w"): figures(0.99)}
    assert f"`{PLAIN} / signal`" in w.unshown_sentence(of_main, SETS)


def test_printed_weights_are_trusted_only_where_they_earn_it():
    able = SETS | {"twin": found(figures(0.85), figures(0.4), figures(0.2), literal=figures(0.9))}
    assert w.verdict(able, {}, TABLE).startswith("As printed yes; a separate")
    assert w.verdict(able, {"literal": "By arithmetic."}, TABLE).startswith("As printed no; a separate")
    assert "(`intended`) 20% and as the equations stand (`literal`) 90%" in w.printed_clause(able["twin"])


def test_a_gate_is_trusted_set_by_set():
    mixed = SETS | {"far": found(figures(0.79), figures(0.4), figures(0.2))}
    told = w.trust_clause(mixed, False, TABLE[TABLE.set == "fresh"])
    assert "place yes on `twin` and `fresh` and `main`, no on `far` (mark: 80% right, also without" in told
    assert "place no on `far` (mark" in w.trust_clause({"far": mixed["far"]}, False, TABLE)


def test_a_name_that_is_said_by_default_earns_no_trust():
    """On `twin` freezes are what is said with nothing planted; without them 10% of the shocks are left."""
    only = {"twin": SETS["twin"]}
    assert without_default(TABLE, "twin") == pytest.approx(0.1) and np.isnan(without_default(TABLE, "fresh"))
    assert "in their place no on `twin`" in w.trust_clause(only, False, TABLE)
    better = TABLE.assign(**{"named right": [0.81, 0.9, 1.0]})
    assert "in their place yes on `twin`" in w.trust_clause(only, False, better)


def test_dead_gates_are_not_compared():
    dead, alive = np.eye(4)[np.full(8, 2)], np.eye(4)[np.arange(8) % 4]
    assert seeded.is_constant(dead) and seeded.is_constant(0.995 * dead + 0.00125) and not seeded.is_constant(alive)
    assert not seeded.is_constant(np.tile([0.05, 0.9, 0.05, 0.0], (8, 1)))
    grades = {("a", 0): Grade([], {"w": dead}), ("a", 1): Grade([], {"w": alive}), ("b", 0): Grade([], {"w": alive})}
    shown = {"a": figures(0.9), "b": figures(0.3)}
    text = w.variants_sentence(grades, shown, 60)
    assert "what they name right is arithmetic: `a`. By the weights, `b` names most of the others, 30%" in text
    second = w.variants_sentence(grades, shown | {seeded.titled("a", 1): figures(0.4)}, 60)
    assert "arithmetic: `a`. By the weights, `a (seed 1)` names most of the others, 40%" in second
    none = w.variants_sentence({("a", 0): grades["a", 0]}, {"a": shown["a"]}, 60)
    assert none.endswith("By the weights nothing can be compared.")


def test_the_best_reading_that_was_shown_nothing():
    of_main = {(PLAIN, "signal"): figures(0.7), (TAUGHT, "w"): figures(0.99), ("variant", "l_std"): figures(0.75)}
    text = w.unshown_sentence(of_main, SETS)
    assert "`variant / l_std`, names 75% and is not graded on the other sets; the taught gate 85% on `twin`" in text
    del of_main["variant", "l_std"]
    assert f"`{PLAIN} / signal`, names 70% and 40% on `twin`" in w.unshown_sentence(of_main, SETS)
    printed = of_main | {("intended", "l"): figures(0.8), ("intended", "w"): figures(0.25)}
    assert "`intended / l`, names 80% and by its weights 25%; the taught gate" in w.unshown_sentence(printed, SETS)


def test_the_worst_mechanism_comes_first():
    text = w.worst_sentence(TABLE, "twin")
    assert text.index("shock 10%") < text.index("freeze 90%") and "Over all plants 30%" in text
    assert "seen and named 5%" in text and "nothing in them freeze is what the gate says most" in text


def test_weights_hardly_move_only_where_they_do():
    still, moving, truth = np.tile([0.1, 0.7, 0.1, 0.1], (8, 1)), np.eye(4)[np.arange(8) % 4], np.arange(8) % 4
    told = w.moves_sentence(still, truth)
    assert (
        "for 100% of the plants (100% to 100% by what is planted), and its mean weight is 0.70: the weights hard"
        in told
    )
    assert told.endswith("25% are named right.")
    assert "for 25% of the plants (0% to 100% by" in w.moves_sentence(moving, truth)
    wrong = w.moves_sentence(np.roll(moving, 1, axis=1), truth)
    assert "move with the plant; 0% are named right." in wrong
    halves = np.eye(4)[[0, 1, 0, 1, 0, 1, 0, 1]]  # half of every mechanism: nothing to do with the plant
    assert "(50% to 50% by what is planted)" in w.moves_sentence(halves, np.repeat(np.arange(4), 2))


def test_lead_ins_that_are_not_calm_are_counted():
    calm = np.array([False, True, True, True, True, True])

    def planted(first: int, onset: int) -> SimpleNamespace:
        return SimpleNamespace(plant=SimpleNamespace(first=first, onset=onset))

    garden = SimpleNamespace(calm=calm, planted=[planted(0, 3), planted(1, 3), planted(4, 4)])
    assert "higher volatility or near an event: 1 of 2 in `far`." in w.lead_in_sentence({"far": garden})


def test_the_dated_events_are_told_by_every_figure():
    rows = [(TAUGHT, "paper", 3, 0.195, 0.53), (TAUGHT, "matched", 5, 0.066, 0.53), (PLAIN, "paper", 1, 0.219, 0.71)]
    rows += [(PLAIN, "matched", 3, 0.139, 0.71)]
    text = w.events_sentence(pd.DataFrame(rows, columns=["method", "protocol", "hits", "p, test", "AUC"]))
    assert "AUC of 0.53, the mean absolute feature 0.71; 3 hits against 1 (`paper`; on the test events p 0.2 " in text
    assert "and 5 hits against 3 (`matched`; on the test events p 0.066 against 0.14)." in text


def test_who_sees_a_mechanism_better_is_said():
    board = pd.DataFrame({"method": [TAUGHT, "a", "b", "c"], "contagion": [0.7, 0.85, 0.6, 0.75]})
    assert "2 of the other methods see more than it does (0.70): first `a`, 0.85." in w.blind_sentence(
        board, "contagion"
    )
    assert "0 of the other methods see more than it does (0.70)." in w.blind_sentence(board.head(1), "contagion")


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
        daily = pd.DataFrame({name: level + k for k, name in enumerate(seeded.WEIGHTS)}, index=days).iloc[seed:]
        info = {"history": [log], "best": {"tail": {"epoch": 0}}}
        key = RunKey("simulated", method, "full", seed, {}, "data", 1)
        store.save(key, Run(np.zeros((1, 1)), days[:1], ["A"], daily, info))
        keys.append(key)
    store.mark_current(keys)
    return store


def test_what_the_log_says_of_other_seeds(store):
    graded = next(p.name for p in store.current() if p.name.startswith("intended--full--seed0"))
    seeds = seeded.routing_of_seeds(store.folder, graded)
    assert seeds.seed.tolist() == [0, 1, 2] and seeds.collapsed.tolist() == [True, False, False]
    assert seeded.is_collapsed(seeds) and seeds.graded.tolist() == [True, False, False]
    text = seeded.seeds_sentence("intended", seeds, figures(0.25))
    assert "seed 0: 0.00, 0.00, 0.00, 1.00, collapsed" in text and "by arithmetic" in text
    assert "seed 1: 0.20, 0.20, 0.20, 0.40, not collapsed" in text
    note = seeded.collapse_note("intended", seeds)
    assert note.endswith(
        "one expert; seed 1 and 2 did not collapse, by the training log, the weights not being stored."
    )
    one = seeded.collapse_note("intended", seeds.assign(collapsed=[True, True, False]), "trained once more, so")
    assert "seed 2 did not collapse, seed 1 collapsed too" in one and one.endswith("stored; trained once more, so.")
    assert seeded.collapse_note("intended", seeds.assign(collapsed=False), "trained once more") == ""
    rows = seeded.seeds_over_sessions(store.folder, seeds)
    assert [r["correlation"] for r in rows] == pytest.approx([1.0, -1.0, -1.0])
    other = next(p.name for p in store.current() if p.name.startswith("literal"))
    alone = seeded.routing_of_seeds(store.folder, other)
    assert not seeded.is_collapsed(alone) and seeded.seeds_over_sessions(store.folder, alone) == []
    assert "stores no other seed of it." in seeded.seeds_sentence("literal", alone, figures(0.3))
    assert not len(seeded.routing_of_seeds(store.folder, "none.npz"))


def test_smaller_findings_follow_the_figures():
    better, worse = figures(0.9, 0.9), figures(0.9, 0.7)
    assert "AUROC lower, 0.700 against 0.900 of norm" in w.lost_sentence("main", worse, {"norm": better})
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
    agreed = seeded.seeds_agree_sentence(rows)
    assert "the same largest weight for 0% of the plants, no correlation: at least one is constant." in agreed
    assert "no second seed" in seeded.seeds_agree_sentence([])


def test_what_the_shapes_and_the_lessons_are_stands_in_one_table():
    """And that the twin set has no shape of the simulator's events while `main` has two, as the notebook says."""
    jump, lesson = MECHANISMS["price_shock"].shape, SIMULATED["price_shock"].returns
    assert (jump["main"]["sigmas"],) == lesson and jump["main"]["days"] == (1.0,) and len(jump["twin"]["days"]) > 1
    trend = SIMULATED["momentum"]
    assert len(set(trend.returns[: trend.turn])) == 1 and not MECHANISMS["momentum"].shape["main"]["accelerate"]
    assert MECHANISMS["momentum"].shape["twin"]["accelerate"]
    table = shape_table().set_index(["mechanism", "of"])["shape"]
    assert "sigmas 6.0" in table["price shock", "main"] and "returns 6" in table["price shock", "dated lessons"]
    assert set(TAUGHT_ON) == set(PAPER) and "26 sessions" in table["trend and reversal", "fresh"]
    assert len(table) == len(PAPER) * (2 + len(ALL_SETS))


def test_what_a_seed_names_that_was_trained_once_more(monkeypatch):
    """Only the preset's own seeds, beside the plain rule on the same plants; a dead gate is called one."""
    share = {"w": 0.4, "signal": 0.7}
    monkeypatch.setattr(seeded, "summary", lambda sample, grade, rule: figures(share[rule]))
    sample = SimpleNamespace(planted=range(60))
    alive, dead = (Grade([], {"w": np.eye(4)[rows]}) for rows in (np.arange(8) % 4, np.full(8, 2)))
    text = seeded.again_clause("intended", {("intended", 1): alive, ("other", 0): dead}, sample, Grade([], {}))
    assert text.startswith(
        "trained once more, seed 1 names 40% (35% to 45%) of 60 medium plants of `main` by its weights"
    )
    assert text.endswith("the plain rule 70%")
    assert "45%, collapsed too)" in seeded.again_clause("intended", {("intended", 1): dead}, sample, Grade([], {}))
    assert seeded.again_clause("literal", {("intended", 1): alive}, sample, Grade([], {})) == ""
    soft = Grade([], {"w": np.tile([0.2, 0.5, 0.2, 0.1], (4, 1))})
    told = seeded.again_clause("intended", {("intended", 1): soft}, sample, Grade([], {}))
    assert "seed 1 names 40% by arithmetic (not collapsed, yet it gives every plant the same name) of 60" in told
    marks = [seeded.by_arithmetic(grade.by_rule["w"]) for grade in (alive, dead, soft)]
    assert marks == ["", "collapsed: by arithmetic", "one name for every plant: by arithmetic"]
