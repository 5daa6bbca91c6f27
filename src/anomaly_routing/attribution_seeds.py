"""The seeds of which notebook 08 grades the weights, and the others: dead gates, and what is said of them in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.attribution import summary
from anomaly_routing.evaluation.injection import agreement
from anomaly_routing.model.findings import COLLAPSED, collapsed_runs, kept_line
from anomaly_routing.prose import sentence
from anomaly_routing.runs import RunStore, read_meta, read_run

PRINTED = {"intended": "as the prose describes it (`intended`)", "literal": "as the equations stand (`literal`)"}
WEIGHTS = ("w1", "w2", "w3", "w4")  # daily series of a stored run: mean routing weights of the active stocks
COLLAPSED_SAID = "collapsed: by arithmetic"  # beside a share of right names
SAME_NAME = "by arithmetic (not collapsed, yet it gives every plant the same name)"


def routing_of_seeds(runs: Path, graded: str) -> pd.DataFrame:
    """Routing of the stored runs of one design, by their training logs: run, seed, graded, weights, collapsed.

    graded : file name of the run whose weights are graded. Empty where it is not stored.
    """
    rows, path = [], runs / graded
    if path.exists():
        key = read_meta(path)["key"]
        for other in sorted({path, *RunStore(runs).current()}):
            own = read_meta(other)["key"]
            if (own["method"], own["variant"]) == (key["method"], key["variant"]):
                run = read_run(other)
                weights = [float(w) for w in kept_line(run)["mean_w"]]
                dead = bool(collapsed_runs({other.name: run}))
                one = {"run": other.name, "seed": own["seed"], "graded": other == path}
                rows.append(one | {"weights": weights, "collapsed": dead})
    return pd.DataFrame(rows, columns=["run", "seed", "graded", "weights", "collapsed"]).sort_values("seed")


def is_collapsed(seeds: pd.DataFrame) -> bool:
    """Whether the graded run is known to route everything to one expert."""
    return bool(seeds[seeds.graded.astype(bool)].collapsed.any())


def collapse_note(preset: str, seeds: pd.DataFrame, again: str = "") -> str:
    """Of a collapsed graded run, in a sentence: why its accuracy is arithmetic, and what the other seeds did; else "".

    again : `again_clause` of the seeds that were trained once more for these plants.
    """
    if not is_collapsed(seeds):
        return ""
    others = seeds[~seeds.graded.astype(bool)]
    dead = [str(row.seed) for row in others.itertuples() if row.collapsed]
    alive = [str(row.seed) for row in others.itertuples() if not row.collapsed]
    told = [f"seed {' and '.join(n)} {verb}" for n, verb in ((alive, "did not collapse"), (dead, "collapsed too")) if n]
    rest = f"; {', '.join(told)}, by the training log, the weights not being stored" if told else ""
    text = "What `{p}` names right is arithmetic: the graded seed's gate has collapsed to one expert{rest}{again}."
    return sentence(text, p=preset, rest=rest, again=f"; {again}" if again else "")


def titled(variant: str, seed: int) -> str:
    """A trained variant's name on the board: the first seed has none of its own."""
    return f"{variant} (seed {seed})" if seed else variant


def again_clause(preset: str, grades: Mapping[tuple[str, int], Any], sample: Any, plain: Any) -> str:
    """What a preset's seeds name that were trained once more for these plants, beside the plain rule on the same ones.

    grades : (variant, seed) -> grade of the plants `sample`; plain : grade of the plain rule. "" without such a seed.
    """
    told = []
    for (variant, seed), grade in grades.items():
        if variant == preset:
            found = summary(sample, grade, "w")
            mark = ", collapsed too" if is_constant(grade.by_rule["w"]) else ""
            low, high = found["top1_interval"]
            right = f"({low:.0%} to {high:.0%}{mark})" if mark or not one_name(grade.by_rule["w"]) else SAME_NAME
            told.append(f"seed {seed} names {found['top1']:.0%} {right}")
    if not told:
        return ""
    rule = summary(sample, plain, "signal")["top1"]
    return (
        f"trained once more, {', '.join(told)} of {len(sample.planted)} medium plants of `main` by its weights, the "
        f"plain rule {rule:.0%}"
    )


def one_name(weights: np.ndarray) -> bool:
    """Whether the largest of routing weights [P, 4] is the same for every plant: then a share of right names is
    arithmetic, collapsed or not."""
    return len(set(weights.argmax(1))) == 1


def by_arithmetic(weights: np.ndarray) -> str:
    """What stands beside a share of right names that any constant answer has; else nothing."""
    if is_constant(weights):
        return COLLAPSED_SAID
    return "one name for every plant: by arithmetic" if one_name(weights) else ""


def is_constant(weights: np.ndarray) -> bool:
    """Whether routing weights [P, 4] give every plant to the same expert, all but entirely."""
    return bool((weights.mean(0) > COLLAPSED).any())


def seeds_sentence(preset: str, seeds: pd.DataFrame, figures: Mapping[str, Any]) -> str:
    """Whether the graded weights have collapsed, and what the log says of the seeds whose weights are not stored."""
    if not len(seeds):
        return sentence("The training log of {p} is not stored.", p=PRINTED[preset])

    def told(row: Any) -> str:
        weights = ", ".join(f"{w:.2f}" for w in row.weights)
        return f"seed {row.seed}: {weights}, {'collapsed' if row.collapsed else 'not collapsed'}"

    mine = next(seeds[seeds.graded.astype(bool)].itertuples())
    others = [told(row) for row in seeds.itertuples() if not row.graded]
    text = "Graded {p}: {mine} (mean routing weights by the training log). "
    if mine.collapsed:
        text += (
            "With constant weights every plant gets the same name: the {top:.0%} that are right are so by arithmetic, "
            "the share of one mechanism among the plants, and the interval around them says nothing. "
        )
    none = "The stage `model` stores no other seed of it."
    text += "Other seeds, whose weights are not stored: {others}." if others else none
    return sentence(text, p=PRINTED[preset], mine=told(mine), top=figures["top1"], others="; ".join(others))


def seeds_over_sessions(runs: Path, seeds: pd.DataFrame) -> list[dict[str, Any]]:
    """Agreement of every two seeds on the daily mean weights, over the sessions that both keep."""
    daily = {row.seed: read_run(runs / row.run).daily[list(WEIGHTS)].astype(float) for row in seeds.itertuples()}
    rows = []
    for first, second in combinations(daily, 2):
        both = daily[first].index.intersection(daily[second].index)
        one, other = (daily[seed].loc[both].to_numpy() for seed in (first, second))
        rows.append(
            {"compared": f"seeds {first} and {second}", "over": "sessions", "n": len(both)} | agreement(one, other)
        )
    return rows


def seeds_agree_sentence(rows: Iterable[Mapping[str, Any]]) -> str:
    """How far another seed gives the same attribution by the weights, over plants and over sessions."""
    told = [
        f"{r['compared']}, {r['reading']}: the same largest weight for {r['same_argmax']:.0%} of the {r['over']}, "
        + (
            f"correlation {r['correlation']:.2f}"
            if np.isfinite(r["correlation"])
            else "no correlation: at least one is constant"
        )
        for r in rows
        if r["compared"].startswith("seed") and r["reading"].endswith(", w")
    ]
    return sentence("{t}.", t="; ".join(told)) if told else "There is no second seed to compare with."
