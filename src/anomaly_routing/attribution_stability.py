"""Is an attribution the same again: with noise, with the stocks in another order, between seeds, between lessons; and
SHAP's beside it. Rows for one table: what is compared, which reading, over what, agreement (`evaluation.injection`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anomaly_routing.attribution import RULES, Garden, Grade, grade_network, usual
from anomaly_routing.attribution_variants import disturbed, shap_shares
from anomaly_routing.evaluation.injection import agreement, top1
from anomaly_routing.model.network import Network
from anomaly_routing.taught_gate import TaughtGate, grade_gate
from anomaly_routing.tensors import Tensors

NOISE = 0.1  # SD, in robust SDs of a feature


def altered(garden: Garden) -> dict[str, Garden]:
    """The same plants with a little noise, and with the stocks in another order."""
    order = np.random.default_rng(0).permutation(len(garden.ground.tensors.tickers))
    return {"noise": disturbed(garden, noise=NOISE), "stocks in another order": disturbed(garden, order=order)}


def _row(compared: str, reading: str, one: np.ndarray, other: np.ndarray, over: str = "plants") -> dict[str, Any]:
    return {"compared": compared, "reading": reading, "over": over} | agreement(one, other)


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


def session_weights(gate: TaughtGate, tensors: Tensors) -> np.ndarray:
    """Mean weights [S, K] of the active stocks on each test session of the undisturbed market."""
    weights = gate.weights(tensors.x[tensors.test])
    return np.stack([w[on].mean(0) for w, on in zip(weights, tensors.active[tensors.test], strict=True)])


def seed_rows(grades: dict[tuple[str, int], Grade]) -> list[dict[str, Any]]:
    """Other seeds against seed 0 of the same variant, on the same plants. grades : (variant, seed) -> grade."""
    return [
        _row(f"seed 0 and {seed}", f"{variant}, {rule}", grades[variant, 0].by_rule[rule], grade.by_rule[rule])
        for (variant, seed), grade in grades.items()
        if seed and (variant, 0) in grades
        for rule in RULES
    ]


@dataclass(frozen=True)
class ShapRows:
    """rows of the table; spread [P, 4], SD of each share with and without noise; top1 and number of the plants."""

    rows: list[dict[str, Any]]
    spread: np.ndarray
    top1: float
    plants: int


def shap_rows(net: Network, garden: Garden) -> ShapRows:
    """SHAP of E by category: again with another draw of the sampling, and with noise."""
    once = shap_shares(net, garden)
    again = {"other draw": shap_shares(net, garden, seed=1), "noise": shap_shares(net, garden, noise=NOISE)}
    rows = [_row(what, "SHAP of E, by category", once, shares) for what, shares in again.items()]
    named = garden.nameable(once)
    found = top1(once[named], garden.truth[named])
    return ShapRows(rows, np.std([once, again["noise"]], axis=0), found["top1"], found["n_plants"])
