"""What notebook 08, attribution.json and the README say of the routing weights in words; every figure is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.evaluation.injection import agreement
from anomaly_routing.model.findings import collapsed_runs, kept_line
from anomaly_routing.prose import sentence
from anomaly_routing.runs import RunStore, read_meta, read_run

PRINTED = {"intended": "as the prose describes it (`intended`)", "literal": "as the equations stand (`literal`)"}
GOAL, PLAIN_AT_MOST, CHANCE = 0.80, 0.65, 0.25
MOVES = 0.5  # share of plants with the same largest weight, from which on the weights are said hardly to move
DETECTION = {"auroc": "AUROC", "ap": "average precision", "recall_at_5": "recall"}
WEIGHTS = ("w1", "w2", "w3", "w4")  # daily series of a stored run: mean routing weights of the active stocks
Figures = Mapping[str, Any]


# --- the seeds of which the weights are graded, and the others --------------------------------------------------------
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


def collapse_note(seeds: pd.DataFrame) -> str:
    """Of a collapsed graded run, in a clause: why its accuracy is arithmetic, and what the other seeds did; else ""."""
    if not is_collapsed(seeds):
        return ""
    others = seeds[~seeds.graded.astype(bool)]
    dead = [str(row.seed) for row in others.itertuples() if row.collapsed]
    alive = [str(row.seed) for row in others.itertuples() if not row.collapsed]
    told = [f"{' and '.join(n)} {verb}" for n, verb in ((alive, "did not collapse"), (dead, "collapsed too")) if n]
    rest = f"; of the seeds whose weights are not stored, {', '.join(told)}" if told else ""
    return f", by arithmetic, since the graded seed's gate has collapsed to one expert{rest}"


def seeds_sentence(preset: str, seeds: pd.DataFrame, figures: Figures) -> str:
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
    text += "Other seeds, whose weights are not stored: {others}." if others else "There is no other seed."
    return sentence(text, p=PRINTED[preset], mine=told(mine), top=figures["top1"], others="; ".join(others))


def seeds_over_sessions(runs: Path, seeds: pd.DataFrame) -> list[dict[str, Any]]:
    """Agreement of every two seeds on the daily mean weights, over the sessions that both keep."""
    daily = {row.seed: read_run(runs / row.run).daily[list(WEIGHTS)].astype(float) for row in seeds.itertuples()}
    rows = []
    for first, second in combinations(daily, 2):
        both = daily[first].index.intersection(daily[second].index)
        one, other = (daily[seed].loc[both].to_numpy() for seed in (first, second))
        rows.append({"compared": f"seeds {first} and {second}", "over": "sessions"} | agreement(one, other))
    return rows


def seeds_agree_sentence(rows: Iterable[Mapping[str, Any]]) -> str:
    """How far another seed gives the same attribution by the weights, over plants and over sessions."""
    told = [
        f"{r['compared']}, {r['reading']}: the same largest weight for {r['same_argmax']:.0%} of the {r['over']}, "
        + (
            f"correlation {r['correlation']:.2f}"
            if np.isfinite(r["correlation"])
            else "no correlation: one is constant"
        )
        for r in rows
        if r["compared"].startswith("seed") and r["reading"].endswith(", w")
    ]
    return sentence("{t}.", t="; ".join(told)) if told else "There is no second seed to compare with."


# --- can they be trusted? ---------------------------------------------------------------------------------------------
def moves_sentence(weights: np.ndarray) -> str:
    """How much routing weights [P, 4] move with what is planted."""
    named = np.bincount(weights.argmax(1), minlength=weights.shape[1])
    same = named.max() / len(weights)
    return sentence(
        "One expert has the largest weight for {same:.0%} of the plants, and its mean weight is {mean:.2f}: {moves}.",
        same=same,
        mean=weights.mean(0)[named.argmax()],
        moves="the weights hardly move with what is planted" if same > MOVES else "the weights move with the plant",
    )


def goal(sets: Mapping[str, tuple[Figures, Figures, Figures]]) -> tuple[bool, str]:
    """Is the aim met on every set, and what is missing. sets : title -> taught gate, plain rule, printed weights."""
    missing = []
    for title, (taught, plain, printed) in sets.items():
        if taught["top1"] < GOAL:
            missing.append(f"on the {title} set the taught gate names {taught['top1']:.0%}")
        if plain["top1"] > PLAIN_AT_MOST:
            missing.append(f"on the {title} set the plain rule names {plain['top1']:.0%}")
        if taught["auroc"] < printed["auroc"]:
            missing.append(f"on the {title} set AUROC falls from {printed['auroc']:.2f} to {taught['auroc']:.2f}")
    return not missing, "; ".join(missing)


def printed_sentence(printed: Mapping[str, Figures], collapsed: Mapping[str, str]) -> str:
    """Can the weights be trusted as printed: the prose's version, and the equations' where it was trained.

    collapsed : preset -> `collapse_note`.
    """
    parts = []
    for preset, found in printed.items():
        why = collapsed.get(preset, "")
        if why or found["top1_interval"][0] <= CHANCE:
            judged = "cannot be trusted to name a mechanism"
        elif found["top1"] < GOAL:
            judged = "name mechanisms better than chance, too seldom to be trusted"
        else:
            judged = "can be trusted to name a mechanism"
        parts.append(f"{PRINTED[preset]} they {judged} ({found['top1']:.0%} right, chance {CHANCE:.0%}{why})")
    if "literal" not in printed:
        parts.append(f"{PRINTED['literal']} the model is not trained here")
    return sentence("The routing weights: {parts}.", parts="; ".join(parts))


def repaired_sentence(sets: Mapping[str, tuple[Figures, Figures, Figures]]) -> str:
    """Can the taught gate be trusted: on shapes like its lessons (`main`) and beyond (`twin`)."""
    (main, plain, _), (twin, plain_twin, _) = sets["main"], sets["twin"]
    if main["top1"] >= GOAL and twin["top1"] >= GOAL:
        judged = "can be trusted on shapes like those it was taught and on others"
    elif main["top1"] >= GOAL:
        judged = "can be trusted on shapes like those it was taught, not beyond"
    else:
        judged = "cannot be trusted either"
    return sentence(
        "Repaired, by a gate taught on simulated events, they {judged}: {m:.0%} right, {t:.0%} on a twin set of other "
        "shapes; the largest mean absolute feature names {p:.0%} and {q:.0%}.",
        judged=judged, m=main["top1"], t=twin["top1"], p=plain["top1"], q=plain_twin["top1"],
    )  # fmt: skip


def goal_sentence(sets: Mapping[str, tuple[Figures, Figures, Figures]]) -> str:
    met, missing = goal(sets)
    return sentence(
        "The aim, {goal:.0%} right at medium strength where the plain rule has at most {most:.0%}, no loss of AUROC, "
        "on both sets, is {met}.",
        goal=GOAL,
        most=PLAIN_AT_MOST,
        met="met" if met else f"not met: {missing}",
    )


def verdict(
    printed: Mapping[str, Figures], collapsed: Mapping[str, str], sets: Mapping[str, tuple[Figures, Figures, Figures]]
) -> str:
    """For the README: the weights as printed, as repaired, and the aim."""
    return " ".join((printed_sentence(printed, collapsed), repaired_sentence(sets), goal_sentence(sets)))


# --- smaller findings -------------------------------------------------------------------------------------------------
def lost_sentence(title: str, taught: Figures, others: Mapping[str, Figures]) -> str:
    """Where the taught gate sees less than another method on the same plants, figure by figure."""
    told = []
    for key, name in DETECTION.items():
        best = max(others, key=lambda method: others[method][key])
        below = taught[key] < others[best][key]
        against = f"{taught[key]:.2f} against {others[best][key]:.2f} of {best}"
        told.append(f"{name} {'lower, ' if below else 'not lower, '}{against}")
    return sentence("Detection by the taught gate on the {t} set: {told}.", t=title, told="; ".join(told))


def likeness_sentence(table: pd.DataFrame) -> str:
    """Does the main set flatter the taught gate: accuracy in both sets where the main shape is close to the lesson, and
    elsewhere. table : `attribution_tables.by_likeness`."""
    close = set(table[table["close to its lesson"] == "yes"].mechanism)
    told, fall = [], {}
    for name, group in (("shapes like the lessons", close), ("other shapes", set(table.mechanism) - close)):
        mine = table[table.mechanism.isin(group)]
        by_set = {s: np.average(part["named right"], weights=part.plants) for s, part in mine.groupby("set")}
        told.append(
            f"{' and '.join(sorted(group))} ({name} in the main set): {by_set['main']:.0%}, {by_set['twin']:.0%}"
        )
        fall[name] = by_set["main"] - by_set["twin"]
    flatters = fall["shapes like the lessons"] > max(fall["other shapes"], 0)
    return sentence(
        "Named right by the taught gate in the main and the twin set: {t}. {judged}.",
        t="; ".join(told),
        judged="The main set flatters the gate, the twin set is the sterner test"
        if flatters
        else "Likeness to the lessons does not explain the difference between the sets",
    )


def strength_sentence(by_method: Mapping[str, Figures]) -> str:
    """Does a stronger plant get its name more often? From medium to strong; by_method : title -> `by_strength`."""
    told = []
    for title, by in by_method.items():
        if {"medium", "strong"} <= set(by):
            medium, strong = by["medium"], by["strong"]
            way = "falls" if round(strong["top1"], 2) < round(medium["top1"], 2) else "does not fall"
            apart = strong["top1_interval"][1] < medium["top1_interval"][0]
            note = " (the intervals are apart)" if way == "falls" and apart else ""
            told.append(f"{title} {way} from {medium['top1']:.0%} to {strong['top1']:.0%}{note}")
    return sentence("Named right, from medium to strong plants: {t}.", t="; ".join(told)) if told else ""


def confidence_sentence(tables: Mapping[str, pd.DataFrame]) -> str:
    """Over- or under-confident: mean largest weight against the share named right."""
    told = []
    for title, table in tables.items():
        weight, right = (np.average(table[column], weights=table["n"]) for column in ("weight", "accuracy"))
        judged = "over" if weight > right else "under"
        told.append(f"{title} is {judged}-confident (mean largest weight {weight:.2f}, {right:.0%} right)")
    return sentence("{t}.", t="; ".join(told))


def contagion_sentence(title: str, weight: np.ndarray, reached: np.ndarray) -> str:
    """Does the weight on contagion [D, N] rise from session to session, for reached and other stocks; reached bool."""
    told = []
    for name, mask in (("reached", reached), ("not reached", ~reached)):
        mean = [weight[d][mask[d]].mean() for d in range(len(weight)) if mask[d].any()]
        steps = np.diff(mean)
        way = "rises on every session" if len(steps) and (steps > 0).all() else "does not rise on every session"
        change = "higher" if mean[-1] > mean[0] else "not higher"
        told.append(f"{name} {', '.join(f'{m:.2f}' for m in mean)}: it {way} and ends {change} than it began")
    return sentence("Mean weight on contagion, {title}, session by session: {t}.", title=title, t="; ".join(told))
