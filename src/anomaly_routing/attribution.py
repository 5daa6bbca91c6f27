"""Who names the mechanism of a planted anomaly: the network's weights and errors, plain rules, the taught gate.

Everything ends in a `Grade`: for each plant a rank of every stock-day (was it seen) and, for what attributes, four
values (which mechanism), means over the plant's stock-days.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from anomaly_routing.cores import over_cores
from anomaly_routing.data.changes import TooStrongError
from anomaly_routing.data.draw_plants import draw_plants
from anomaly_routing.data.plants import FIRST_SETS, MECHANISMS, STRENGTHS, Plant, mechanisms
from anomaly_routing.evaluation.injection import by_block, calibration, delays, detection, ranks, top1
from anomaly_routing.features.catalogue import GROUPS
from anomaly_routing.files import plain, replacing, write_arrays
from anomaly_routing.model.network import Network
from anomaly_routing.packing import shortened
from anomaly_routing.panel import FEATURE_WINDOW
from anomaly_routing.planting import Ground, Planted, plant_and_recompute
from anomaly_routing.tensors import Tensors

ATTRIBUTION_NUMERICS = 1  # raised by hand when the arithmetic of plants or grades changes
REACH = FEATURE_WINDOW - 1
SPARE = 20  # plants drawn beyond those wanted, for any that are too strong for their stocks
KEPT_BITS = 11  # of a reading of a plant that is kept: within 5e-4 of the value
TRAINING_STEP = 5  # every fifth training session gives the experts' usual errors
RULES = {  # of the network
    "w": "routing weight w",
    "w_l": "weight times expert error, w l",
    "l": "expert error l",
    "l_std": "expert error against its own calm distribution",
}


@dataclass(frozen=True)
class Grade:
    """rank : one float array a plant, over its stock-days (sessions first). by_rule : rule -> [P, 4].

    n_calm : stock-days that the ranks are among. reason : why there is no grade; then `rank` is empty.
    """

    rank: list[np.ndarray]
    by_rule: dict[str, np.ndarray] = field(default_factory=dict)
    n_calm: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Garden:
    """All plants of one market with the undisturbed market beside them. P plants."""

    ground: Ground
    calm: np.ndarray  # bool [S], sessions that may carry a plant; their stock-days are the calm ones
    planted: list[Planted]

    @cached_property
    def marks(self) -> list[np.ndarray]:
        """Bool [D, N] a plant: its stock-days."""
        n = len(self.ground.tensors.tickers)
        return [p.plant.graded(n) & p.active for p in self.planted]

    @cached_property
    def truth(self) -> np.ndarray:
        """Int [P], position in `mechanisms()`; -1 for the chapter's types, which have no mechanism."""
        names = mechanisms()
        return np.array([names.index(p.plant.mechanism) if p.plant.mechanism in names else -1 for p in self.planted])

    @cached_property
    def strength(self) -> np.ndarray:
        return np.array([p.plant.strength for p in self.planted])

    @cached_property
    def onset(self) -> np.ndarray:
        return np.array([p.plant.onset for p in self.planted])

    def nameable(self, values: np.ndarray) -> np.ndarray:
        """Bool [P]: plants for whose mechanism an attribution [P, K] has a column."""
        return (self.truth >= 0) & (self.truth < values.shape[1])

    def first_of_each(self, count: int) -> np.ndarray:
        """Bool [P]: the first `count` plants of each mechanism."""
        first = np.zeros(len(self.planted), bool)
        for k in np.unique(self.truth):
            first[np.flatnonzero(self.truth == k)[:count]] = True
        return first

    def part(self, keep: np.ndarray) -> Garden:
        """The plants with keep[p] True."""
        return replace(self, planted=[p for p, wanted in zip(self.planted, keep, strict=True) if wanted])


def grow(
    ground: Ground, calm: np.ndarray, counts: dict[str, int], shapes: str, seed: int, names: Iterable[str] | None = None
) -> Garden:
    """Draw and plant `counts[strength]` anomalies of each mechanism, each in a copy of the market of its own.

    names : default those of `mechanisms()` that have a shape in this set; the chapter's types are planted when they are
    named. A plant too strong for its stocks is passed over for the next one drawn.
    """
    names = [name for name in mechanisms() if shapes in MECHANISMS[name].shape] if names is None else names
    eligible, groups = ground.bars.traded & ground.tensors.active, []
    for name in names:
        for strength, count in counts.items():
            drawn = draw_plants(
                count + SPARE, mechanism=name, strength=strength, shapes=shapes, calm=calm, eligible=eligible,
                prior=ground.tensors.prior, seed=seed,
            )  # fmt: skip
            groups.append((drawn, count))
    said = {"desc": f"{ground.tensors.market} plants, {shapes}", "unit": "group"}
    planted = over_cores(partial(_possible, ground), groups, **said)
    return Garden(ground, calm, [one for group in planted for one in group])


def _possible(ground: Ground, group: tuple[list[Plant], int]) -> list[Planted]:
    """Of plants as drawn, the first `count` not too strong for their stocks; TooStrongError when there are fewer."""
    drawn, count = group
    planted, refused = [], None
    for plant in drawn:
        if len(planted) < count:
            try:
                planted.append(plant_and_recompute(ground, plant))
            except TooStrongError as error:
                refused = error
    if len(planted) < count:
        raise refused
    return planted


# --- what looks at x alone, stock-day by stock-day --------------------------------------------------------------------


def category_signal(x: np.ndarray, tensors: Tensors) -> np.ndarray:
    """Mean |scaled feature| of each category, [..., 4] (equation 10)."""
    group = np.array(tensors.categories)
    return np.stack([np.abs(x[..., group == k]).mean(-1) for k in range(len(GROUPS))], -1)


def mean_size(x: np.ndarray) -> np.ndarray:
    """Mean |scaled feature| of stock-days [..., F]: the plain rule's score."""
    return np.abs(x).mean(-1)


def grade_plain(garden: Garden) -> Grade:
    """The rule without a model: the category with the largest mean |scaled feature|, under `signal`."""
    tensors = garden.ground.tensors
    return grade_pointwise(garden, mean_size, {"signal": lambda x: category_signal(x, tensors)})


def grade_pointwise(
    garden: Garden, score: Callable[[np.ndarray], np.ndarray], rules: dict[str, Callable[[np.ndarray], np.ndarray]]
) -> Grade:
    """Grade functions of scaled features [n, F]: `score` gives [n], each rule [n, 4]."""
    tensors = garden.ground.tensors
    own = [p.x[REACH:][m] for p, m in zip(garden.planted, garden.marks, strict=True)]
    calm = score(tensors.x[garden.calm][tensors.active[garden.calm]])
    whole, ends = np.concatenate(own), np.cumsum([len(x) for x in own])[:-1]  # a function is called once
    values = {name: np.array([w.mean(0) for w in np.split(rule(whole), ends)]) for name, rule in rules.items()}
    return Grade(np.split(ranks(score(whole), calm), ends), values, len(calm))


# --- the network ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usual:
    """What the network says of the undisturbed market: mean and SD of ln l over training stock-days, E when calm."""

    centre: np.ndarray
    spread: np.ndarray
    calm_error: np.ndarray


@torch.no_grad()
def look(
    net: Network, tensors: Tensors, x: np.ndarray, active: np.ndarray, stress: np.ndarray
) -> dict[str, np.ndarray]:
    """routing, expert_error [D, N, 4] and error [D, N] for D consecutive samples; x [D + 19, N, F]."""
    rule = "rank" if net.config.psi_rule == "rank" else "minmax"
    scaled = tensors.normalised_stress(net.config.psi_norm, rule, stress)
    arrays = (np.ascontiguousarray(x), np.ascontiguousarray(active), tensors.prior, scaled)
    out = net(*(torch.as_tensor(a) for a in arrays))
    return {name: getattr(out, name).numpy() for name in ("routing", "expert_error", "error")}


def usual(net: Network, garden: Garden) -> Usual:
    """Score the calm sessions and every fifth training session of the undisturbed market."""
    tensors = garden.ground.tensors
    train, errors, calm = np.flatnonzero(tensors.train)[::TRAINING_STEP], [], []
    for t in (*train, *np.flatnonzero(garden.calm)):
        rows = slice(t - REACH, t + 1)
        found = look(net, tensors, tensors.x[rows], tensors.active[t : t + 1], tensors.stress[t : t + 1])
        own = tensors.active[t]
        (errors if tensors.train[t] else calm).append(found["expert_error" if tensors.train[t] else "error"][0][own])
    log = np.log(np.concatenate(errors) + 1e-8)
    return Usual(log.mean(0), log.std(0), np.concatenate(calm).astype(float))


def grade_network(net: Network, garden: Garden, known: Usual | None = None) -> Grade:
    """Grade a network: E as the score, and the four readings of its routing and errors (`RULES`)."""
    known = known or usual(net.eval(), garden)
    rank, values = [], {name: [] for name in RULES}
    for own, read in stock_days(net, garden, known):
        rank.append(own)
        for name in RULES:
            values[name].append(read[name].mean(0))
    return Grade(rank, {name: np.array(v) for name, v in values.items()}, len(known.calm_error))


def stock_days(net: Network, garden: Garden, known: Usual) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Plant by plant, of each of its n stock-days: the rank [n] and the readings `RULES`, [n, 4] each."""
    bar = tqdm(garden.planted, desc="network", unit="plant")
    for p, marks in zip(bar, garden.marks, strict=True):
        found = look(net, garden.ground.tensors, p.x, p.active, p.stress)
        w, error = found["routing"][marks], found["expert_error"][marks]
        surprise = (np.log(error + 1e-8) - known.centre) / known.spread
        rank = ranks(found["error"][marks].astype(float), known.calm_error)
        yield rank, dict(zip(RULES, (w, w * error, error, surprise), strict=True))


# --- what is kept -----------------------------------------------------------------------------------------------------


def key_of(belongs: dict[str, Any]) -> str:
    """Twelve letters that stand for exactly this content."""
    return hashlib.sha256(json.dumps(plain(belongs), sort_keys=True).encode()).hexdigest()[:12]


def grade_path(folder: Path, name: str, belongs: dict[str, Any]) -> Path:
    """Where the grade of `name` for exactly this input is kept."""
    return folder / f"{name}--{key_of(belongs | {'numerics': ATTRIBUTION_NUMERICS})}.npz"


def stored_grade(folder: Path, name: str, belongs: dict[str, Any], make: Callable[[], Grade]) -> Grade:
    """The grade that was kept under `name` for exactly this input, or a new one, kept; others of that name go."""
    path = grade_path(folder, name, belongs)
    if not path.exists():
        grade = make()
        with replacing(path) as partial:
            arrays = {
                "rank": np.rint(np.concatenate([np.empty(0), *grade.rank]) * 60_000).astype(np.uint16),
                "length": np.array([len(r) for r in grade.rank], int),
                "n_calm": np.array(grade.n_calm),
            } | {
                f"rule_{rule}": shortened(values, KEPT_BITS).astype(np.float32)
                for rule, values in grade.by_rule.items()
            }
            write_arrays(partial, arrays | ({"reason": np.array(grade.reason)} if grade.reason else {}))
    for old in set(folder.glob(f"{name}--*.npz")) - {path}:  # of other plants, or of other weights
        old.unlink()
    with np.load(path) as z:
        rank = np.split(z["rank"] / 60_000, np.cumsum(z["length"])[:-1]) if len(z["length"]) else []
        values = {key.removeprefix("rule_"): z[key].astype(float) for key in z.files if key.startswith("rule_")}
        return Grade(rank, values, int(z["n_calm"]), str(z["reason"]) if "reason" in z.files else "")


def belongs_to(garden: Garden) -> dict[str, Any]:
    """What a stored grade depends on, beside the method: the market, its data, every plant, and the shapes of its sets.

    `main` and `twin` are one: with either, the shapes of both.
    """
    tensors, sets = garden.ground.tensors, {p.plant.shapes for p in garden.planted}
    sets |= set(FIRST_SETS) if sets & set(FIRST_SETS) else set()
    return {
        "market": tensors.market,
        "data": tensors.data_hash,
        "plants": [p.plant.__dict__ for p in garden.planted],
        "shapes": {
            name: own for name, m in MECHANISMS.items() if (own := {s: m.shape[s] for s in m.shape if s in sets})
        },
    }


def summary(garden: Garden, grade: Grade, rule: str | None = None) -> dict[str, Any]:
    """The figures of one method over all strengths, and under `by_strength`; see `evaluation.injection`.

    Attribution is judged on the mechanisms for which the method has a column: the paper's four.
    """
    result = _figures(garden, grade, rule, np.ones(len(garden.planted), bool))
    by_strength = {s: _figures(garden, grade, rule, garden.strength == s) for s in STRENGTHS if s in garden.strength}
    return result | {"by_strength": by_strength}


def _figures(garden: Garden, grade: Grade, rule: str | None, keep: np.ndarray) -> dict[str, Any]:
    chosen = np.flatnonzero(keep)
    rank = [grade.rank[p] for p in chosen]
    marks = [garden.marks[p] for p in chosen]
    delay, share, at_once = delays([_spread_out(r, m) for r, m in zip(rank, marks, strict=True)], marks)
    found = detection(np.concatenate(rank), grade.n_calm) | {
        "delay": delay,
        "stocks_alarmed": share,
        "at_once": at_once,
    }
    if not rule:
        return found
    named = keep & garden.nameable(grade.by_rule[rule])
    values, truth, onset = grade.by_rule[rule][named], garden.truth[named], garden.onset[named]
    blocks = {"top1_interval_sessions": by_block(values.argmax(1) == truth, onset)}
    return top1(values, truth) | blocks | found


def _spread_out(rank: np.ndarray, marks: np.ndarray) -> np.ndarray:
    out = np.full(marks.shape, np.nan)
    out[marks] = rank
    return out


def reliability(garden: Garden, grade: Grade, rule: str) -> tuple[pd.DataFrame, float]:
    """Calibration of the weights on the plants that have a column; see `evaluation.injection.calibration`."""
    named = garden.nameable(grade.by_rule[rule])
    return calibration(grade.by_rule[rule][named], garden.truth[named])


def part_of(grade: Grade, keep: np.ndarray) -> Grade:
    """The grade of some of the plants."""
    rank = [r for r, wanted in zip(grade.rank, keep, strict=True) if wanted]
    return replace(grade, rank=rank, by_rule={rule: values[keep] for rule, values in grade.by_rule.items()})
