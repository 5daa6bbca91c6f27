"""Is an attribution the same again: with noise, with the stocks in another order, between seeds, between lessons; and
SHAP's beside it. Rows for one table: what is compared, which reading, over what, agreement (`evaluation.injection`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from anomaly_routing.attribution import RULES, Garden, Grade, grade_network, usual
from anomaly_routing.attribution_checks import REPAIRED
from anomaly_routing.attribution_variants import disturbed, shap_shares, single_days, single_weights
from anomaly_routing.evaluation.injection import agreement, top1
from anomaly_routing.model.network import Network
from anomaly_routing.taught_gate import TaughtGate, grade_gate
from anomaly_routing.tensors import Tensors

SHAP, SINGLE = "SHAP of E, by category", "single stock-days"
NOISE = 0.1  # SD, in robust SDs of a feature


def altered(garden: Garden) -> dict[str, Garden]:
    """The same plants with a little noise, and with the stocks in another order."""
    order = np.random.default_rng(0).permutation(len(garden.ground.tensors.tickers))
    return {"noise": disturbed(garden, noise=NOISE), "stocks in another order": disturbed(garden, order=order)}


def _row(compared: str, reading: str, one: np.ndarray, other: np.ndarray, over: str = "plants") -> dict[str, Any]:
    return {"compared": compared, "reading": reading, "over": over, "n": len(one)} | agreement(one, other)


def network_rows(net: Network, garden: Garden) -> list[dict[str, Any]]:
    """The four readings of a network on undisturbed and on altered plants."""
    known = usual(net, garden)
    first = grade_network(net, garden, known)
    again = {what: grade_network(net, other, known) for what, other in altered(garden).items()}
    return [
        _row(what, f"network, {rule}", first.by_rule[rule], grade.by_rule[rule])
        for what, grade in again.items()
        for rule in RULES
    ]


def gate_rows(gate: TaughtGate, garden: Garden, other: TaughtGate | None = None) -> list[dict[str, Any]]:
    """A taught gate on undisturbed and on altered plants; or, beside another gate, on plants and on test sessions."""
    name, first = "taught gate, w", grade_gate(garden, gate).by_rule["w"]
    if other is None:
        return [_row(what, name, first, grade_gate(g, gate).by_rule["w"]) for what, g in altered(garden).items()]
    daily = [session_weights(g, garden.ground.tensors) for g in (gate, other)]
    return [
        _row("other lessons", name, first, grade_gate(garden, other).by_rule["w"]),
        _row("other lessons", name, *daily, over="sessions"),
    ]


def repaired_rows(garden: Garden, weights: Callable[[Garden, str], Grade]) -> list[dict[str, Any]]:
    """The repaired model on undisturbed and on altered plants. weights : plants and their name -> its weights there."""
    first = weights(garden, "steady").by_rule["w"]
    again = {what: weights(other, f"steady-{what.replace(' ', '-')}") for what, other in altered(garden).items()}
    return [_row(what, f"{REPAIRED}, w", first, grade.by_rule["w"]) for what, grade in again.items()]


def session_weights(gate: TaughtGate, tensors: Tensors) -> np.ndarray:
    """Mean weights [S, K] of the active stocks on each test session of the undisturbed market."""
    weights = gate.weights(tensors.x[tensors.test])
    return np.stack([w[on].mean(0) for w, on in zip(weights, tensors.active[tensors.test], strict=True)])


def seed_rows(grades: dict[tuple[str, int], Grade], over: str = "plants") -> list[dict[str, Any]]:
    """Other seeds against seed 0 of the same variant, on the same plants. grades : (variant, seed) -> grade."""
    return [
        _row(f"seed 0 and {seed}", f"{variant}, {rule}", grades[variant, 0].by_rule[rule], grade.by_rule[rule], over)
        for (variant, seed), grade in grades.items()
        if seed and (variant, 0) in grades
        for rule in RULES
        if rule in grade.by_rule
    ]


@dataclass(frozen=True)
class ShapRows:
    """rows of the table; spread : reading -> [P, 4], SD of each value with and without noise; top1 : reading -> share
    named right; number of the plants."""

    rows: list[dict[str, Any]]
    spread: dict[str, np.ndarray]
    top1: dict[str, float]
    plants: int


def shap_rows(
    net: Network, gate: TaughtGate, garden: Garden, more: Mapping[str, Callable[[float], np.ndarray]] | None = None
) -> ShapRows:
    """SHAP of E by category, the network's weights and the taught gate's, all on the same single stock-days: again with
    noise, and SHAP with another draw of its sampling. more : another reading -> what it gives for a noise, [P, 4]."""

    def taught(noise: float) -> np.ndarray:
        days = zip(garden.planted, single_days(garden, noise), strict=True)
        return np.array([gate.weights(x[-1, p.plant.stocks[0]]) for p, x in days])

    readings = {
        SHAP: partial(shap_shares, net, garden),
        "network, w": partial(single_weights, net, garden),
        "taught gate, w": taught,
    }
    readings |= {name: (lambda noise, read=read: read(noise)) for name, read in (more or {}).items()}
    once = {name: read(noise=0.0) for name, read in readings.items()}
    again = {name: read(noise=NOISE) for name, read in readings.items()}
    rows = [_row("other draw", SHAP, once[SHAP], shap_shares(net, garden, seed=1), over=SINGLE)]
    rows += [_row("noise", name, once[name], again[name], over=SINGLE) for name in readings]
    named = garden.nameable(once[SHAP])
    right = {name: top1(values[named], garden.truth[named])["top1"] for name, values in once.items()}
    spread = {name: np.std([once[name], again[name]], axis=0) for name in readings}
    return ShapRows(rows, spread, right, int(named.sum()))
