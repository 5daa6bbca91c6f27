"""What notebook 08, attribution.json and the README say of the routing weights in words; every figure is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.attribution_checks import (
    BY_LUCK,
    ERROR,
    MENDED,
    PLAIN,
    REPAIRED,
    TAUGHT,
    UNTAUGHT,
    by_default,
    overall,
    without_default,
    worst,
)
from anomaly_routing.attribution_repairs import repaired_clause, repaired_elsewhere
from anomaly_routing.attribution_seeds import PRINTED, by_arithmetic, titled
from anomaly_routing.prose import sentence

GOAL, PLAIN_AT_MOST, CHANCE = 0.80, 0.65, 0.25
MOVES = 0.2  # spread over mechanisms of one expert's share of largest weights, up to which they hardly move
DETECTION = {"auroc": "AUROC", "ap": "average precision", "recall_at_5": "recall"}
Figures = Mapping[str, Any]
REPLACED = {  # of `MENDED`
    REPAIRED: "as repaired inside the model, by a loss on its routing,",
    TAUGHT: "a separate taught gate in their place",
}
BEYOND = ("far",)  # sets whose shapes lie outside the ranges of the lessons
Sets = Mapping[str, Mapping[str, Figures]]  # set of shapes -> taught gate, plain rule and presets -> figures


def variants_sentence(grades: Mapping[tuple[str, int], Any], figures: Mapping[str, Figures], count: int) -> str:
    """What the trained variants' weights name, apart from gates that are dead. grades : (variant, seed) -> grade.

    figures : `titled` variant -> of its weights, at medium strength, on `count` plants; those that are compared.
    """
    of = {titled(*job): grade for job, grade in grades.items()}
    dead = [f"`{v}`" for v in figures if by_arithmetic(of[v].by_rule["w"])]
    alive = [v for v in figures if not by_arithmetic(of[v].by_rule["w"])]
    text = "Trained for this grading alone, on {n} of the medium plants: {names}; compare them with each other. "
    if dead:
        text += "These gates route every plant to one expert, so that what they name right is arithmetic: {dead}. "
    text += "By the weights, {best}." if alive else "By the weights nothing can be compared."
    best = max(alive, key=lambda v: figures[v]["top1"], default="")
    told = "`{}` names most of the others, {:.0%} ({:.0%} to {:.0%})"
    return sentence(
        text, n=count, names=", ".join(f"`{v}`" for v in figures), dead=", ".join(dead),
        best=told.format(best, figures[best]["top1"], *figures[best]["top1_interval"]) if best else "",
    )  # fmt: skip


def unshown_sentence(found: Mapping[tuple[str, str], Figures], sets: Sets) -> str:
    """The best reading of the first set that was shown no example, and what it and the taught gate name elsewhere.

    found : (method, reading) -> figures at medium strength.
    """
    method, reading = max((key for key in found if key[0] not in MENDED), key=lambda key: found[key]["top1"])
    others = [f"{of[PLAIN]['top1']:.0%} on `{shapes}`" for shapes, of in sets.items() if shapes != "main"]
    rest = f"and {', '.join(others)}" if method == PLAIN else "and is not graded on the other sets"
    if method in PRINTED:
        rest = f"and by its weights {found[method, 'w']['top1']:.0%}"
    return sentence(
        "On `main` the best reading that was shown no example, {best}, names {top:.0%} {rest}; the taught gate {own}.",
        best=f"`{method} / {reading}`", top=found[method, reading]["top1"], rest=rest,
        own=", ".join(f"{of[TAUGHT]['top1']:.0%} on `{shapes}`" for shapes, of in sets.items()),
    )  # fmt: skip


# --- can they be trusted? ---------------------------------------------------------------------------------------------
def moves_sentence(weights: np.ndarray, truth: np.ndarray) -> str:
    """How much routing weights [P, 4] move with what is planted [P]: one expert's share, mechanism by mechanism."""
    named = weights.argmax(1)
    expert = np.bincount(named, minlength=weights.shape[1]).argmax()
    shares = [float((named[truth == k] == expert).mean()) for k in np.unique(truth)]
    return sentence(
        "One expert has the largest weight for {same:.0%} of the plants ({low:.0%} to {high:.0%} by what is planted), "
        "and its mean weight is {mean:.2f}: {moves}; {right:.0%} are named right.",
        same=(named == expert).mean(), low=min(shares), high=max(shares), mean=weights.mean(0)[expert],
        moves="the weights move with the plant" if max(shares) - min(shares) > MOVES else
        "the weights hardly move with what is planted",
        right=(named == truth).mean(),
    )  # fmt: skip


def sternest(sets: Sets) -> str:
    """The set on which the taught gate names least."""
    return min(sets, key=lambda shapes: sets[shapes][TAUGHT]["top1"])


def goal(sets: Sets, who: str = TAUGHT) -> tuple[bool, str]:
    """Does `who`, of `MENDED`, meet the aim on every set, and what is missing: accuracy, a weak plain rule, no loss of
    AUROC or recall against the plain rule and every printed preset."""
    missing = []
    for shapes, found in sets.items():
        mended, plain, lacks = found[who], found[PLAIN], []
        if mended["top1"] < GOAL:
            lacks.append(f"the {who} names {mended['top1']:.0%}")
        if plain["top1"] > PLAIN_AT_MOST:
            lacks.append(f"the plain rule names {plain['top1']:.0%}")
        if ERROR in found and found[ERROR]["top1"] > PLAIN_AT_MOST:
            lacks.append(f"the largest expert error names {found[ERROR]['top1']:.0%}")
        for key, name in DETECTION.items():
            best = max((other for other in found if other not in (*MENDED, ERROR)), key=lambda other: found[other][key])
            if key != "ap" and mended[key] < found[best][key]:
                lacks.append(f"{name} falls to {mended[key]:.3f} from {found[best][key]:.3f} of {best}")
        missing += [f"on `{shapes}` {' and '.join(lacks)}"] if lacks else []
    return not missing, "; ".join(missing)


def goal_sentence(sets: Sets) -> str:
    told = []
    for who in mended_in(sets):
        met, missing = goal(sets, who)
        told.append(f"met by the {who}" if met else f"not met by the {who} ({missing})")
    return sentence(
        "The aim, {goal:.0%} right at medium strength where the plain rule has at most {most:.0%}, no loss of AUROC or "
        "recall, on {sets}, is {met}.",
        goal=GOAL, most=PLAIN_AT_MOST, sets=" and ".join(f"`{s}`" for s in sets), met="; ".join(told),
    )  # fmt: skip


def mended_in(sets: Sets) -> list[str]:
    """Which of `MENDED` are graded on every set."""
    return [who for who in MENDED if all(who in found for found in sets.values())]


def printed_clause(found: Mapping[str, Figures]) -> str:
    """The weights as printed, preset by preset, in one set of plants."""
    told = [f"{PRINTED[preset]} {found[preset]['top1']:.0%}" for preset in PRINTED if preset in found]
    return " and ".join(told)


def trusted(found: Figures, collapsed: str = "") -> bool:
    """Whether weights name as much as the aim asks for, and that is not arithmetic."""
    return not collapsed and found["top1"] >= GOAL


def _where(shapes: str) -> str:
    return "beyond" if shapes in BEYOND else "within"


def _other_sets(sets: Sets, but: str) -> str:
    """What the taught gate names in the other sets, those within the lessons first."""
    parts = []
    for where in ("within", "beyond"):
        told = [f"{sets[s][TAUGHT]['top1']:.0%} in `{s}`" for s in sets if s != but and _where(s) == where]
        parts += [f"{', '.join(told)} ({where} them)"] if told else []
    return "; ".join(parts)


def trust_clause(
    sets: Sets, able: bool, table: pd.DataFrame, others: Mapping[str, Mapping[str, float]] | None = None
) -> str:
    """Yes or no, as printed and as replaced, by the aim's mark, with and without the name that is said by default; of
    the repaired model every seed must reach it, the others with that name.

    table : `attribution_checks.mechanism_table`, with the repaired model's rows where it is graded. others : set ->
    seed -> share that the repaired model names right.
    """
    told = [f"As printed {'yes' if able else 'no'}"]
    for who in mended_in(sets):
        earned = {s: trusted(of[who]) and not without_default(table, s, who) < GOAL for s, of in sets.items()}
        again = others if others and who == REPAIRED else {}
        earned = {s: good and all(share >= GOAL for share in again.get(s, {}).values()) for s, good in earned.items()}
        yes, no = ([f"`{s}`" for s, good in earned.items() if good == wanted] for wanted in (True, False))
        parts = [f"{answer} on {' and '.join(names)}" for answer, names in (("yes", yes), ("no", no)) if names]
        told.append(f"{REPLACED[who]} {', '.join(parts)}")
    seeds = others and any(others.values()) and REPAIRED in mended_in(sets)
    every = "; of the repaired model every seed, seed 0 alone without that name" if seeds else ""
    return f"{'; '.join(told)} (mark: {GOAL:.0%} right, also without the name said by default{every})"


def verdict(
    sets: Sets,
    collapsed: Mapping[str, str],
    table: pd.DataFrame,
    size: str = "",
    others: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """For the README: the answer in one sentence, then what it rests on, on the sternest set: the plain rule, the
    weights as printed, and the separate gate.

    collapsed : preset -> `collapse_note`. table : `attribution_checks.mechanism_table`. size : of the repaired model.
    others : as in `trust_clause`.
    """
    shapes = sternest(sets)
    found, weakest = sets[shapes], worst(table, shapes)
    taught, presets = found[TAUGHT], [preset for preset in PRINTED if preset in found]
    best = max(found[preset]["top1"] for preset in presets)
    no_model = f"the largest mean absolute feature, a rule without any model, names {found[PLAIN]['top1']:.0%}"
    if ERROR in found:
        no_model += f", the largest expert error {found[ERROR]['top1']:.0%}"
    weights = f"the routing weights {printed_clause(found)} (chance {CHANCE:.0%})"
    able = any(trusted(found[preset], collapsed.get(preset, "")) for preset in presets)
    told = sentence(
        "{trust}. Of {n} anomalies planted in the sternest set, `{shapes}`, {first}, {second}{repaired}; the taught "
        "gate, a classifier that mends nothing in the model, names {top:.0%} ({low:.0%} to {high:.0%}). `{shapes}` "
        "lies {where} its lessons; it names {others}. It is worst at {worst}, {share:.0%} ({again}), and both sees and "
        "names {seen:.0%} at five false alarms in a hundred stock-days ({luck:.0%} with nothing planted).{more}",
        trust=trust_clause(sets, able, table, others), n=taught["n_plants"], shapes=shapes,
        first=no_model if found[PLAIN]["top1"] >= best else weights,
        second=weights if found[PLAIN]["top1"] >= best else no_model,
        repaired=repaired_clause(found[REPAIRED], found[PLAIN], size, found.get(UNTAUGHT)) if REPAIRED in found else "",
        more=repaired_elsewhere(sets, shapes, table) if REPAIRED in found else "",
        top=taught["top1"], low=taught["top1_interval"][0], high=taught["top1_interval"][1],
        where=_where(shapes), others=_other_sets(sets, shapes),
        worst=weakest.mechanism, share=weakest["named right"],
        again=f"with nothing planted the same stock-days are named so in {weakest['nothing planted']:.0%}",
        seen=overall(table, shapes, "seen and named"), luck=overall(table, shapes, BY_LUCK),
    )  # fmt: skip
    untold = [f"`{preset}` is not trained on this market." for preset in PRINTED if preset not in found]
    return " ".join([told, *untold, *(note for preset, note in collapsed.items() if preset in presets)])


# --- smaller findings -------------------------------------------------------------------------------------------------
def lost_sentence(title: str, taught: Figures, others: Mapping[str, Figures]) -> str:
    """Where the taught gate sees less than another method on the same plants, figure by figure."""
    told = []
    for key, name in DETECTION.items():
        best = max(others, key=lambda method: others[method][key])
        below = taught[key] < others[best][key]
        against = f"{taught[key]:.3f} against {others[best][key]:.3f} of {best}"
        told.append(f"{name} {'lower, ' if below else 'not lower, '}{against}")
    return sentence("Detection by the taught gate on the {t} set: {told}.", t=title, told="; ".join(told))


def worst_sentence(table: pd.DataFrame, shapes: str) -> str:
    """The mechanism that the taught gate names least, before the others, and what it is worth beside the placebo."""
    rows = table[(table.set == shapes) & (table.method == TAUGHT)].sort_values("named right", kind="stable")
    told = "; ".join(
        f"{r.mechanism} {r['named right']:.0%} ({r['95% low']:.0%} to {r['95% high']:.0%}), with nothing planted "
        f"{r['nothing planted']:.0%}, seen and named {r['seen and named']:.0%}, one stock-day {r['one stock-day']:.0%}"
        for _, r in rows.iterrows()
    )
    usual = rows.sort_values("nothing planted", kind="stable").iloc[-1]
    return sentence(
        "Set `{shapes}`, worst mechanism first: {told}. Over all plants {right:.0%}; at five false alarms in a hundred "
        "{seen:.0%} are both seen and named. Of stock-days with nothing in them {usual} is what the gate says most.",
        shapes=shapes, told=told, right=overall(table, shapes, "named right"),
        seen=overall(table, shapes, "seen and named"), usual=usual.mechanism,
    )  # fmt: skip


def repaired_sentence(table: pd.DataFrame) -> str:
    """The repaired model set by set: what it names worst, what it says by default, and what is left without that."""
    told = []
    for shapes in dict.fromkeys(table[table.method == REPAIRED].set):
        least, usual = worst(table, shapes, REPAIRED), by_default(table, shapes, REPAIRED)
        others = without_default(table, shapes, REPAIRED)
        line = (
            f"`{shapes}` {overall(table, shapes, 'named right', REPAIRED):.0%}, worst {least.mechanism} "
            f"{least['named right']:.0%} ({least['95% low']:.0%} to {least['95% high']:.0%}), by default "
            f"{usual.mechanism} ({usual['nothing planted']:.0%} with nothing planted)"
        )
        line += "" if np.isnan(others) else f", without that {others:.0%}"
        seen, luck = (overall(table, shapes, column, REPAIRED) for column in ("seen and named", BY_LUCK))
        told.append(f"{line}; seen and named {seen:.0%} ({luck:.0%} with nothing planted)")
    return sentence("The repaired model's own weights, set by set: {told}.", told="; ".join(told))


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
    apart = weight[-1][reached[-1]].mean() - weight[-1][~reached[-1]].mean()
    return sentence(
        "Mean weight on contagion, {title}, session by session: {t}. At the end those reached lie {apart:.2f} {side} "
        "those not reached.",
        title=title, t="; ".join(told), apart=abs(apart), side="above" if apart > 0 else "below",
    )  # fmt: skip


def lead_in_sentence(gardens: Mapping[str, Any]) -> str:
    """How many plants alter sessions before their graded ones that are not calm. gardens : set -> `Garden`."""
    told = []
    for shapes, garden in gardens.items():
        early = [p.plant for p in garden.planted if p.plant.first < p.plant.onset]
        stirred = sum(not garden.calm[plant.first : plant.onset].all() for plant in early)
        told.append(sentence("{k} of {n} in `{s}`", k=stirred, n=len(early), s=shapes))
    return sentence(
        "The graded sessions are calm. What leads up to them need not be: of the plants that alter earlier sessions, "
        "these alter one of higher volatility or near an event: {told}.",
        told=", ".join(told),
    )


def events_sentence(table: pd.DataFrame) -> str:
    """The taught gate beside the plain rule on the dated events. table : `attribution_tables.event_table`."""
    lines = {(r["method"], r["protocol"]): r for r in table.to_dict("records")}
    auc = {who: float(lines[who, "paper"]["AUC"]) for who in (TAUGHT, PLAIN)}
    told = [
        f"{lines[TAUGHT, protocol]['hits']:.0f} hits against {lines[PLAIN, protocol]['hits']:.0f} (`{protocol}`; on "
        f"the test events p {lines[TAUGHT, protocol]['p, test']:.2g} against {lines[PLAIN, protocol]['p, test']:.2g})"
        for protocol in ("paper", "matched")
    ]
    return sentence(
        "On the dated events the taught gate has a day-level AUC of {a:.2f}, the mean absolute feature {b:.2f}; "
        "{told}. Seeing planted anomalies of single stocks is one thing, announcing the events of a market another.",
        a=auc[TAUGHT], b=auc[PLAIN], told=" and ".join(told),
    )  # fmt: skip


def blind_sentence(board: pd.DataFrame, mechanism: str) -> str:
    """Which methods see a mechanism better than the taught gate. board : `attribution_tables.detection_board`."""
    seen = board.set_index("method")[mechanism].astype(float)
    ahead = seen[seen > seen[TAUGHT]].sort_values(ascending=False)
    return sentence(
        "Of {m}, which the taught gate names worst, {n} of the other methods see more than it does ({own:.2f}){best}.",
        m=mechanism, n=len(ahead), own=seen[TAUGHT],
        best=f": first `{ahead.index[0]}`, {ahead.iloc[0]:.2f}" if len(ahead) else "",
    )  # fmt: skip
