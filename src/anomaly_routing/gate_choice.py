"""Which taught gate: recipes tried on the set `trial` in simulated markets, and the rule that chooses one of them.

Nothing here looks at `main`, `twin`, `fresh` or `far`, nor at a real market.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from anomaly_routing.attribution import RULES, Garden, Grade, grade_network, grade_plain, grade_pointwise, grow, summary
from anomaly_routing.model.network import Network
from anomaly_routing.planting import calm_sessions, simulated_ground
from anomaly_routing.prose import sentence
from anomaly_routing.taught_gate import READINGS, Lessons, TaughtGate, joined, lessons, varied_lessons

SHAPES = "trial"
CHOICE_STOCKS = 32
LESSONS = {
    "dated": "the dated events of simulated markets",
    "varied": "anomalies of random shape in simulated markets",
    "both": "the two together",
}
PLAIN, NETWORK, TAUGHT = "plain rule", "network", "taught gate"


@dataclass(frozen=True)
class Recipe:
    """lessons : of `LESSONS`. shrinkage : of a linear gate; None for boosted trees. reading : of `READINGS`."""

    lessons: str
    shrinkage: float | None
    reading: str

    @property
    def title(self) -> str:
        how = "boosted trees" if self.shrinkage is None else f"linear, shrinkage {self.shrinkage:g}"
        return f"{self.lessons} lessons, {how}, weights {self.reading}"

    def gate(self, taught: dict[str, Lessons]) -> TaughtGate:
        return TaughtGate.fit(taught[self.lessons], self.shrinkage).read(self.reading)


def all_lessons(seeds: list[int], n_sessions: int) -> dict[str, Lessons]:
    """Name of `LESSONS` -> the lessons of these markets."""
    dated, varied = lessons(seeds, n_sessions=n_sessions), varied_lessons(seeds, n_sessions=n_sessions)
    return {"dated": dated, "varied": varied, "both": joined([dated, varied])}


def recipes(shrinkages: list[float]) -> list[Recipe]:
    return [Recipe(*parts) for parts in product(LESSONS, [*shrinkages, None], READINGS)]


def trial_gardens(seeds: list[int], n_sessions: int, plants: int) -> dict[str, Garden]:
    """Market seed -> `plants` of each mechanism at medium strength in a simulated market without events."""
    none, found = pd.DataFrame({"date": pd.DatetimeIndex([])}), {}
    for seed in seeds:
        ground = simulated_ground(seed, CHOICE_STOCKS, n_sessions, name=f"market seed {seed}")
        calm = calm_sessions(ground.tensors, none)
        found[f"market seed {seed}"] = grow(ground, calm, {"medium": plants}, SHAPES, seed)
    return found


def choice_table(
    gardens: dict[str, Garden], tried: list[Recipe], taught: dict[str, Lessons], nets: dict[str, Network]
) -> pd.DataFrame:
    """One row a candidate, the chosen one marked: the plain rule, the readings of networks, every recipe.

    Columns: candidate, kind, top1 and AUROC by market and their means, keeps AUROC, chosen; see `chosen`.
    """
    graded: dict[tuple[str, str], list[tuple[Grade, str]]] = {}

    def note(kind: str, title: str, grades: list[Grade], rule: str) -> None:
        graded[kind, title] = [(grade, rule) for grade in grades]

    note(PLAIN, "largest mean |feature|", [grade_plain(g) for g in gardens.values()], "signal")
    for name, net in nets.items():
        grades = [grade_network(net, g) for g in gardens.values()]
        for rule in RULES:
            note(NETWORK, f"{name}, {rule}", grades, rule)
    for which, shrinkage in dict.fromkeys((r.lessons, r.shrinkage) for r in tried):
        gate = TaughtGate.fit(taught[which], shrinkage)
        mine = [r for r in tried if (r.lessons, r.shrinkage) == (which, shrinkage)]
        rules = {r.reading: gate.read(r.reading).weights for r in mine}
        grades = [grade_pointwise(g, gate.score, rules) for g in gardens.values()]
        for r in mine:
            note(TAUGHT, r.title, grades, r.reading)
    rows = []
    for (kind, title), found in graded.items():
        figures = {m: summary(g, *one) for (m, g), one in zip(gardens.items(), found, strict=True)}
        row = {"candidate": title, "kind": kind} | {f"top1, {m}": f["top1"] for m, f in figures.items()}
        row |= {f"AUROC, {m}": f["auroc"] for m, f in figures.items()}
        means = {f"mean {what}": np.mean([f[what.lower()] for f in figures.values()]) for what in ("top1", "AUROC")}
        rows.append(row | means)
    table = pd.DataFrame(rows)
    plain = table[table.kind == PLAIN]["mean AUROC"].iloc[0]
    table["keeps AUROC"] = np.where(table["mean AUROC"] >= plain, "yes", "no")
    table["chosen"] = np.where(table.candidate == chosen(table), "yes", "")
    return table


def chosen(table: pd.DataFrame) -> str:
    """The candidate that is chosen: of the taught gates whose mean AUROC over the markets is not below the plain rule's
    (of all taught gates where none keeps it) the one with the largest mean top-1; of equals the first.

    The readings of networks stand beside them: they need no teaching, so one of them would be preferred in words.
    """
    gates = table[table.kind == TAUGHT]
    able = gates[gates["keeps AUROC"] == "yes"]
    return (able if len(able) else gates).set_index("candidate")["mean top1"].idxmax()


def chosen_recipe(table: pd.DataFrame, tried: list[Recipe]) -> Recipe:
    return next(recipe for recipe in tried if recipe.title == chosen(table))


def choice_sentence(table: pd.DataFrame) -> str:
    """What was chosen, what the rule asked, and how the best of the others do on the same plants."""
    won = table[table.chosen == "yes"].iloc[0]
    plain, networks = table[table.kind == PLAIN].iloc[0], table[table.kind == NETWORK]
    before = table[table.candidate.str.startswith("dated")].sort_values("mean top1", kind="stable").iloc[-1]
    text = (
        "Chosen of {n} recipes by mean accuracy, without loss of AUROC against the plain rule ({kept}): *{won}*, "
        "{top:.0%} of the trial plants named, AUROC {auc:.2f}. The plain rule names {plain:.0%} with {plain_auc:.2f}, "
        "the best recipe without varied lessons {before:.0%}"
    )
    best = networks.sort_values("mean top1", kind="stable").iloc[-1] if len(networks) else None
    text += ", the best reading of a network ({net}) {net_top:.0%} with {net_auc:.2f}." if best is not None else "."
    return sentence(
        text, n=int((table.kind == TAUGHT).sum()), won=won.candidate, top=won["mean top1"], auc=won["mean AUROC"],
        kept="kept" if won["keeps AUROC"] == "yes" else "no recipe keeps it", plain=plain["mean top1"],
        plain_auc=plain["mean AUROC"], before=before["mean top1"], net=None if best is None else best.candidate,
        net_top=None if best is None else best["mean top1"], net_auc=None if best is None else best["mean AUROC"],
    )  # fmt: skip
