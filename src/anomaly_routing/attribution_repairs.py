"""Repairs inside the model: what its gate and its loss must be given so that the routing weights name a mechanism.

The paper's gate gets a gradient through the decoders' mixture alone, which rewards no name (AUDIT A57). Tried in its
place (`model.config`): balanced loads, a prior from each expert's calibrated surprise, and a loss on the routing itself
(`teach`), with lessons written into the market's own training sessions through prices and volumes
(`data.lesson_plants`). The design is chosen on the set `trial` in simulated markets (`gate_choice`), where each design
is trained on the market without its plants.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.attribution import Garden, Grade, grade_plain, summary
from anomaly_routing.attribution_checks import BY_LUCK, REPAIRED, by_default, overall, worst
from anomaly_routing.cores import over_cores
from anomaly_routing.model.training import LessonCopy
from anomaly_routing.planting import Ground
from anomaly_routing.prose import sentence
from anomaly_routing.taught_gate import with_lessons

COPIES, STREAM = 8, 57  # of the market, each with other lessons; and what tells their random numbers from others
PLAIN = "plain rule"


def routing_lessons(ground: Ground, seed: int) -> list[LessonCopy]:
    """Copies of a market's training span with lessons in it; no copy knows of a later session."""
    return over_cores(partial(_copy, ground, seed), range(COPIES), desc="lessons in the training span", unit="copy")


def _copy(ground: Ground, seed: int, copy: int) -> LessonCopy:
    tensors = ground.tensors
    end = int(np.flatnonzero(tensors.train)[-1]) + 1
    x, truth = with_lessons(ground, end, [seed, STREAM, copy])
    return LessonCopy(x, np.where(tensors.active[:end] & tensors.train[:end, None], truth, -1))


def repair_table(gardens: Mapping[str, Garden], grades: Mapping[str, Mapping[str, Grade]]) -> pd.DataFrame:
    """One row a design, by its routing weights, and the plain rule; columns as of `gate_choice.choice_table`.

    grades : design -> market -> grade; the first design is the model as printed.
    """
    rows = []
    for design, of in ({PLAIN: {m: grade_plain(g) for m, g in gardens.items()}} | dict(grades)).items():
        rule = "signal" if design == PLAIN else "w"
        found = {m: summary(gardens[m], grade, rule) for m, grade in of.items()}
        row = {"design": design} | {f"{what}, {m}": f[what] for what in ("top1", "auroc") for m, f in found.items()}
        rows.append(row | {f"mean {what}": np.mean([f[what] for f in found.values()]) for what in ("top1", "auroc")})
    table = pd.DataFrame(rows)
    table["keeps AUROC"] = np.where(table["mean auroc"] >= table["mean auroc"].iloc[1], "yes", "no")
    table["chosen"] = np.where(table.design == chosen_design(table), "yes", "")
    return table


def chosen_design(table: pd.DataFrame) -> str:
    """Of the designs after the plain rule and the printed model: the largest mean top-1 of those whose mean AUROC is
    not below the printed model's (of all where none keeps it); of equals the first."""
    tried = table.iloc[2:]
    able = tried[tried["keeps AUROC"] == "yes"]
    return str((able if len(able) else tried).set_index("design")["mean top1"].idxmax())


def repair_sentence(table: pd.DataFrame) -> str:
    """What each kind of repair does to what the weights name, and which is chosen."""
    plain, printed, tried = table.iloc[0], table.iloc[1], table.iloc[2:]
    told = ", ".join(f"`{r['design']}` {r['mean top1']:.0%} (AUROC {r['mean auroc']:.2f})" for _, r in tried.iterrows())
    won = table[table.chosen == "yes"].iloc[0]
    return sentence(
        "Right names by the routing weights on the trial plants, mean over the markets: as printed {own:.0%} (AUROC "
        "{own_auc:.2f}), {told}; the plain rule {plain:.0%}. Chosen, {kept}: `{won}`.",
        own=printed["mean top1"], own_auc=printed["mean auroc"], told=told, plain=plain["mean top1"], won=won.design,
        kept="without loss of AUROC against the printed model" if won["keeps AUROC"] == "yes" else
        "although no design keeps the printed model's AUROC",
    )  # fmt: skip


def told_size(job: dict[str, Any], others: Mapping[str, Mapping[str, float]]) -> str:
    """How large a trained design is, where it differs from the full model, how long it was trained, and other seeds.

    others : set -> seed -> share named right (`of_other_seeds`).
    """
    parts = [f"`{key}` {value}" for key, value in job["overrides"].items()]
    parts += [f"at most {job['training']['epochs']} epochs", f"seed {job['seed']}"]
    seeds = dict.fromkeys(seed for of in others.values() for seed in of)
    told = [
        f"seed {seed} names " + " and ".join(f"{of[seed]:.0%} of `{s}`" for s, of in others.items() if seed in of)
        for seed in seeds
    ]
    return f"{', '.join(parts)}; {', '.join(told) or 'no other seed is trained'}"


def of_other_seeds(
    gardens: Mapping[str, Garden], again: Mapping[int, Mapping[str, Grade]]
) -> dict[str, dict[str, float]]:
    """Set -> seed -> share named right by the weights. gardens : set -> the plants; again : seed -> set -> grade."""
    return {
        s: {str(seed): summary(garden, of[s], "w")["top1"] for seed, of in again.items()}
        for s, garden in gardens.items()
    }


def full_jobs(designs: list[dict[str, Any]], overrides: dict[str, Any], training: dict[str, Any]) -> list[dict]:
    """Jobs of `attribution_variants.graded_variant`: each design with the overrides and training of all."""
    return [
        {"name": d["name"], "preset": "intended", "overrides": overrides | d["overrides"], "seed": d.get("seed", 0)}
        | {"training": training}
        for d in designs
    ]


# --- what the verdict says of the repaired model ----------------------------------------------------------------------
def repaired_clause(
    own: Mapping[str, Any], plain: Mapping[str, Any], size: str, untaught: Mapping[str, Any] | None = None
) -> str:
    """What the repaired model's weights name in the sternest set, and where its detection lies.

    untaught : the figures of the same network without the loss.
    """
    return sentence(
        "; the repaired model's own weights{size} name {top:.0%} ({low:.0%} to {high:.0%}; AUROC {auroc:.3f}, of that "
        "rule {other:.3f}{without})",
        size=f" ({size})" if size else "", top=own["top1"], auroc=own["auroc"], other=plain["auroc"],
        low=own["top1_interval"][0], high=own["top1_interval"][1],
        without=f", of the same network untaught {untaught['auroc']:.3f}" if untaught else "",
    )  # fmt: skip


def repaired_elsewhere(sets: Mapping[str, Mapping[str, Any]], shapes: str, table: pd.DataFrame) -> str:
    """The repaired model in the other sets, its worst mechanism and its default in the sternest one."""
    least, most = worst(table, shapes, REPAIRED), by_default(table, shapes, REPAIRED)
    usual = [by_default(table, s, REPAIRED) for s in dict.fromkeys(table[table.method == REPAIRED].set)]
    shares = [row["nothing planted"] for row in usual]
    often = f"{most['nothing planted']:.0%}"
    if len(usual) > 1 and len({row.mechanism for row in usual}) == 1:
        often = f"in every set {min(shares):.0%} to {max(shares):.0%}"
    others = [f"{of[REPAIRED]['top1']:.0%} in `{s}`" for s, of in sets.items() if s != shapes]
    return sentence(
        " The repaired model, taught by lessons of that kind in the market's own training sessions, names {others}; "
        "in `{s}` it is worst at {worst}, {share:.0%}, and {often} of the plants of {usual} get that name with "
        "nothing planted too: it is what the weights say by default, and no evidence. At five false alarms in a "
        "hundred stock-days it both sees and names {seen:.0%} in `{s}` ({luck:.0%} with nothing planted).",
        others=", ".join(others), s=shapes, worst=least.mechanism, share=least["named right"],
        usual=most.mechanism, often=often,
        seen=overall(table, shapes, "seen and named", REPAIRED), luck=overall(table, shapes, BY_LUCK, REPAIRED),
    )  # fmt: skip
