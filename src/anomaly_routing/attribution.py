"""Who names the mechanism of a planted anomaly: the network's weights and errors, plain rules, the taught gate.

Everything ends in a `Grade`: for each plant a rank of every stock-day (was it seen) and, for what attributes, four
values (which mechanism), means over the plant's stock-days.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from anomaly_routing.baselines.registry import Detector, Entry, create
from anomaly_routing.data.draw_plants import draw_plants, plant_table
from anomaly_routing.data.plants import MECHANISMS, PAPER, STRENGTHS
from anomaly_routing.evaluation.injection import delays, detection, ranks, top1
from anomaly_routing.features.catalogue import GROUPS
from anomaly_routing.files import plain, replacing
from anomaly_routing.model.network import Network
from anomaly_routing.panel import FEATURE_WINDOW, Panel
from anomaly_routing.planting import Ground, Planted, plant_and_recompute
from anomaly_routing.tensors import Tensors

ATTRIBUTION_NUMERICS = 1  # raised by hand when the arithmetic of plants or grades changes
REACH = FEATURE_WINDOW - 1
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

    n_calm : stock-days that the ranks are among.
    """

    rank: list[np.ndarray]
    by_rule: dict[str, np.ndarray] = field(default_factory=dict)
    n_calm: int = 0


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
        """Int [P], position in `PAPER`; -1 for the chapter's types, which have no mechanism."""
        return np.array([PAPER.index(p.plant.mechanism) if p.plant.mechanism in PAPER else -1 for p in self.planted])

    @cached_property
    def strength(self) -> np.ndarray:
        return np.array([p.plant.strength for p in self.planted])

    def part(self, keep: np.ndarray) -> Garden:
        """The plants with keep[p] True."""
        return replace(self, planted=[p for p, wanted in zip(self.planted, keep, strict=True) if wanted])


def grow(
    ground: Ground, calm: np.ndarray, counts: dict[str, int], shapes: str, seed: int, names: Iterable[str] = PAPER
) -> Garden:
    """Draw and plant `counts[strength]` anomalies of each mechanism, each in a copy of the market of its own."""
    eligible = ground.bars.traded & ground.tensors.active
    plants = [
        plant
        for name in names
        for strength, count in counts.items()
        for plant in draw_plants(
            count, mechanism=name, strength=strength, shapes=shapes, calm=calm, eligible=eligible,
            prior=ground.tensors.prior, seed=seed,
        )
    ]  # fmt: skip
    bar = tqdm(plants, desc=f"{ground.tensors.market} plants, {shapes}", unit="plant")
    return Garden(ground, calm, [plant_and_recompute(ground, plant) for plant in bar])


def catalogue(*gardens: Garden) -> pd.DataFrame:
    """One row a plant of all gardens; see `data.draw_plants.plant_table`."""
    return plant_table([p.plant for garden in gardens for p in garden.planted], gardens[0].ground.bars)


# --- detectors that look at x alone, stock-day by stock-day -----------------------------------------------------------


def category_signal(x: np.ndarray, tensors: Tensors) -> np.ndarray:
    """Mean |scaled feature| of each category, [..., 4] (equation 10)."""
    group = np.array(tensors.categories)
    return np.stack([np.abs(x[..., group == k]).mean(-1) for k in range(len(GROUPS))], -1)


def grade_pointwise(
    garden: Garden, score: Callable[[np.ndarray], np.ndarray], rules: dict[str, Callable[[np.ndarray], np.ndarray]]
) -> Grade:
    """Grade functions of scaled features [n, F]: `score` gives [n], each rule [n, 4]."""
    tensors = garden.ground.tensors
    own = [p.x[REACH:][m] for p, m in zip(garden.planted, garden.marks, strict=True)]
    calm = score(tensors.x[garden.calm][tensors.active[garden.calm]])
    values = {name: np.array([rule(x).mean(0) for x in own]) for name, rule in rules.items()}
    return Grade([ranks(score(x), calm) for x in own], values, len(calm))


def grade_detector(garden: Garden, entry: Entry, seed: int = 0, **params: Any) -> Grade | None:
    """Fit a registered detector on the training sessions and grade it; None if it needs more than 20 past sessions."""
    whole = panel_of(garden)
    if entry.missing(whole):
        return None
    return grade_fitted(garden, create(entry.name, seed=seed, **params).fit(whole, garden.ground.tensors.train))


def panel_of(garden: Garden) -> Panel:
    """The undisturbed market with its sectors."""
    return replace(garden.ground.tensors.panel(), sector=garden.ground.universe["sector"].to_numpy(object))


def grade_fitted(garden: Garden, detector: Detector) -> Grade | None:
    """Grade a fitted detector; None if it needs more than 20 past sessions.

    The planted stretches are joined to one long panel. A detector that gives an undisturbed stretch another score
    than the market has for it looks back further than a stretch reaches, and is not graded.
    """
    tensors, whole = garden.ground.tensors, panel_of(garden)
    usual = detector.decision_function(whole)
    calm = usual[garden.calm][tensors.active[garden.calm]]
    ends = np.flatnonzero(garden.calm)[:: max(1, garden.calm.sum() // 20)]
    alike = _with_everybody(tensors, [_stretch(tensors, t) for t in ends])
    again = detector.decision_function(_joined(whole, alike))[REACH :: REACH + 1][: len(ends)]
    if not np.allclose(again, usual[ends], rtol=1e-3, atol=1e-5, equal_nan=True):
        return None
    found = detector.decision_function(_joined(whole, _with_everybody(tensors, garden.planted)))
    rank, row = [], 0
    for marks in garden.marks:
        row += REACH
        rank.append(ranks(found[row : row + len(marks)][marks].astype(float), calm.astype(float)))
        row += len(marks)
    return Grade(rank, {}, len(calm))


def _stretch(tensors: Tensors, end: int) -> Planted:
    """The undisturbed sessions end-19 .. end, as if something had been planted."""
    rows = slice(end - REACH, end + 1)
    return Planted(
        None, tensors.x[rows], tensors.active[end : end + 1], tensors.stress[end : end + 1],
        tensors.returns[rows].astype(float), tensors.log_volume[rows].astype(float),
    )  # fmt: skip


def _with_everybody(tensors: Tensors, stretches: list[Planted]) -> list[Planted]:
    """The stretches, and behind them an undisturbed one for each stock that trades in none: a trained detector refuses
    a panel in which a stock is never active."""
    absent = ~np.any([s.active.any(0) for s in stretches], axis=0)
    last = [REACH + np.flatnonzero(tensors.active[REACH:, i])[-1] for i in np.flatnonzero(absent)]
    return [*stretches, *(_stretch(tensors, end) for end in dict.fromkeys(last))]


def _joined(panel: Panel, stretches: list[Planted]) -> Panel:
    """Stretches one after the other, on made-up dates; all rows active wherever the last ones are."""
    active = [np.concatenate([np.repeat(s.active[:1], len(s.x) - len(s.active), 0), s.active]) for s in stretches]
    rows = sum(map(len, active))
    return replace(
        panel,
        sessions=pd.bdate_range("2000-01-03", periods=rows),
        x=np.concatenate([s.x for s in stretches]),
        active=np.concatenate(active),
        returns=np.concatenate([s.returns for s in stretches]),
        log_volume=np.concatenate([s.log_volume for s in stretches]),
        benchmarks=pd.DataFrame(index=pd.bdate_range("2000-01-03", periods=rows)),
        stress=None,
    )


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
    tensors, rank = garden.ground.tensors, []
    values: dict[str, list[np.ndarray]] = {name: [] for name in RULES}
    bar = tqdm(garden.planted, desc="network", unit="plant")
    for p, marks in zip(bar, garden.marks, strict=True):
        found = look(net, tensors, p.x, p.active, p.stress)
        w, error = found["routing"][marks], found["expert_error"][marks]
        rank.append(ranks(found["error"][marks].astype(float), known.calm_error))
        surprise = (np.log(error + 1e-8) - known.centre) / known.spread
        for name, value in zip(RULES, (w, w * error, error, surprise), strict=True):
            values[name].append(value.mean(0))
    return Grade(rank, {name: np.array(v) for name, v in values.items()}, len(known.calm_error))


# --- what is kept -----------------------------------------------------------------------------------------------------


def stored_grade(folder: Path, name: str, belongs: dict[str, Any], make: Callable[[], Grade]) -> Grade:
    """The grade that was kept under `name` for exactly this input, or a new one, kept."""
    content = json.dumps(plain(belongs | {"numerics": ATTRIBUTION_NUMERICS}), sort_keys=True)
    path = folder / f"{name}--{hashlib.sha256(content.encode()).hexdigest()[:12]}.npz"
    if not path.exists():
        grade = make()
        for old in folder.glob(f"{name}--*.npz"):
            old.unlink()
        with replacing(path) as partial:
            np.savez_compressed(
                partial,
                rank=np.rint(np.concatenate(grade.rank) * 60_000).astype(np.uint16),
                length=np.array([len(r) for r in grade.rank]),
                n_calm=grade.n_calm,
                **{f"rule_{rule}": values.astype(np.float32) for rule, values in grade.by_rule.items()},
            )
    with np.load(path) as z:
        rank = np.split(z["rank"] / 60_000, np.cumsum(z["length"])[:-1])
        values = {key.removeprefix("rule_"): z[key].astype(float) for key in z.files if key.startswith("rule_")}
        return Grade(rank, values, int(z["n_calm"]))


def belongs_to(garden: Garden) -> dict[str, Any]:
    """What a stored grade depends on, beside the method: the market, its data, every plant and every shape."""
    tensors = garden.ground.tensors
    return {
        "market": tensors.market,
        "data": tensors.data_hash,
        "plants": [p.plant.__dict__ for p in garden.planted],
        "shapes": {name: m.shape for name, m in MECHANISMS.items()},
    }


def summary(garden: Garden, grade: Grade, rule: str | None = None) -> dict[str, Any]:
    """The figures of one method over all strengths, and under `by_strength`; see `evaluation.injection`.

    Attribution is judged on the paper's four mechanisms alone.
    """
    result = _figures(garden, grade, rule, np.ones(len(garden.planted), bool))
    by_strength = {s: _figures(garden, grade, rule, garden.strength == s) for s in STRENGTHS if s in garden.strength}
    return result | {"by_strength": by_strength}


def _figures(garden: Garden, grade: Grade, rule: str | None, keep: np.ndarray) -> dict[str, Any]:
    chosen = np.flatnonzero(keep)
    rank = [grade.rank[p] for p in chosen]
    marks = [garden.marks[p] for p in chosen]
    delay, share = delays([_spread_out(r, m) for r, m in zip(rank, marks, strict=True)], marks)
    found = detection(np.concatenate(rank), grade.n_calm) | {"delay": delay, "stocks_alarmed": share}
    named = keep & (garden.truth >= 0)
    return (top1(grade.by_rule[rule][named], garden.truth[named]) if rule else {}) | found


def _spread_out(rank: np.ndarray, marks: np.ndarray) -> np.ndarray:
    out = np.full(marks.shape, np.nan)
    out[marks] = rank
    return out


def detection_board(garden: Garden, seen: dict[str, Grade]) -> pd.DataFrame:
    """Detection figures of each method, best AUROC first, with the AUROC of each mechanism alone."""
    rows = []
    for method, grade in seen.items():
        r = summary(garden, grade)
        by = {
            MECHANISMS[m].label: np.concatenate([grade.rank[p] for p in np.flatnonzero(garden.truth == k)]).mean()
            for k, m in enumerate(PAPER)
        }
        figures = {"AUROC": r["auroc"], "AP": r["ap"], "recall at 5%": r["recall_at_5"], "delay": r["delay"]}
        rows.append({"method": method, **figures, "stocks alarmed": r["stocks_alarmed"], **by})
    return pd.DataFrame(rows).sort_values("AUROC", ascending=False, kind="stable")


def part_of(grade: Grade, keep: np.ndarray) -> Grade:
    """The grade of some of the plants."""
    rank = [r for r, wanted in zip(grade.rank, keep, strict=True) if wanted]
    return Grade(rank, {rule: values[keep] for rule, values in grade.by_rule.items()}, grade.n_calm)


def result_line(method: str, reading: str, figures: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of accuracy: the medium strength, and the accuracy at the others."""
    medium, others = figures["by_strength"]["medium"], figures["by_strength"]
    row = {"method": method, "reading": reading, "plants": medium["n_plants"], "top1, medium": medium["top1"]}
    row |= dict(zip(("95% low", "95% high"), medium["top1_interval"], strict=True))
    row |= {s: others[s]["top1"] if s in others else np.nan for s in STRENGTHS if s != "medium"}
    return row | {"AUROC": medium["auroc"], "recall at 5%": medium["recall_at_5"]}
