"""Variants of the network, trained for the grading of their attribution alone, and how steady an attribution is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anomaly_routing.attribution import (
    ATTRIBUTION_NUMERICS,
    REACH,
    RULES,
    Garden,
    Grade,
    belongs_to,
    grade_network,
    grade_path,
    key_of,
    look,
    stock_days,
    stored_grade,
    usual,
)
from anomaly_routing.attribution_repairs import routing_lessons
from anomaly_routing.cores import over_cores
from anomaly_routing.evaluation.injection import FALSE_ALARMS
from anomaly_routing.model.checkpoints import load_checkpoint, rounded, save_checkpoint
from anomaly_routing.model.config import make_config
from anomaly_routing.model.network import Network
from anomaly_routing.model.training import fit, make_training
from anomaly_routing.planting import Ground


def graded_checkpoint(path: Path, garden: Garden, folder: Path, part: str = "") -> Grade:
    """Grade the network of a committed checkpoint; kept in `folder`. part : name of the set of plants, "" for main."""
    net, info = load_checkpoint(path)
    name = f"{path.stem}-{part}" if part else path.stem
    return stored_grade(folder, name, belongs_to(garden) | {"weights": info}, lambda: grade_network(net, garden))


def graded_variants(
    jobs: list[dict[str, Any]],
    garden: Garden,
    folder: Path,
    training: dict[str, Any],
    weights: Path | None = None,
    **how: Any,
) -> dict[tuple[str, int], Grade]:
    """(name, seed) -> grade. A job has `name` and may have `preset` (default intended), `overrides`, `seed` and its own
    `training`, whose entries take the place of the common ones. folder, weights, how : as in `graded_variant`."""
    full = [{"preset": "intended", "overrides": {}, "seed": 0, "training": {}} | job for job in jobs]
    full = [job | {"training": training | job["training"]} for job in full]
    names = [_name(job, how.get("part", "")) for job in full]
    paths = [grade_path(folder, n, belongs_to(garden) | _design(job)) for n, job in zip(names, full, strict=True)]
    grade = partial(_graded, garden, folder, weights, how)
    left = [job for job, path in zip(full, paths, strict=True) if not path.exists()]
    over_cores(grade, left, desc="variants", unit="variant")
    return {(job["name"], job["seed"]): grade(job) for job in full}


def _graded(garden: Garden, folder: Path, weights: Path | None, how: dict[str, Any], job: dict[str, Any]) -> Grade:
    return graded_variant(garden, folder, weights=weights, **how, **job)


def _name(job: dict[str, Any], part: str = "") -> str:
    return f"{job['name']}-seed{job['seed']}" + (f"-{part}" if part else "")


def _design(job: dict[str, Any]) -> dict[str, Any]:
    """What a variant's weights depend on, beside the market."""
    model = make_config(job["preset"], **job["overrides"]).identity()
    return {"model": model, "training": asdict(make_training(**job["training"])), "seed": job["seed"]}


def graded_variant(
    garden: Garden,
    folder: Path,
    *,
    name: str,
    preset: str,
    overrides: dict[str, Any],
    seed: int,
    training: dict[str, Any],
    weights: Path | None = None,
    part: str = "",
    grader: Callable[[Network, Garden], Grade] = grade_network,
) -> Grade:
    """Grade a variant, trained on the undisturbed market and stopped on the tail of its training samples.

    With `teach` it is fitted on copies of that market with lessons in them (`attribution_repairs`).
    part : name of what is graded, "" for the first set of plants. grader : what is kept of the network's look at it.
    The grade is kept in `folder`; the weights, where `weights` names a folder, there (a checkpoint for each design,
    training, seed and market data): with the same plants nothing is graded again, with others nothing trained again.
    """
    job = {"name": name, "preset": preset, "overrides": overrides, "seed": seed, "training": training}
    own = _design(job)

    def train_and_grade() -> Grade:
        config, settings = make_config(preset, **overrides), make_training(**training)
        make = partial(trained, garden.ground, config, settings, seed, name)
        if weights is None:
            return grader(make(), garden)
        tensors = garden.ground.tensors
        started = own | {"market": tensors.market, "data": tensors.data_hash, "numerics": ATTRIBUTION_NUMERICS}
        path = weights / f"{_name(job)}--{key_of(started)}.safetensors"
        if not path.exists():
            weights.mkdir(parents=True, exist_ok=True)
            save_checkpoint(path, make(), started)
        return grader(load_checkpoint(path)[0], garden)

    return stored_grade(folder, _name(job, part), belongs_to(garden) | own, train_and_grade)


def by_weights(net: Network, garden: Garden) -> Grade:
    """`grade_network` without the readings of the errors: what is kept is half as large."""
    grade = grade_network(net, garden)
    return replace(grade, by_rule={"w": grade.by_rule["w"]})


def by_day(net: Network, garden: Garden) -> Grade:
    """`grade_network` with what single stock-days say. `seen`: the mean weights over those of a plant that are among
    the alarms at `FALSE_ALARMS`, zeros where none is. `day`: of its stock-days the share that each expert names."""
    known = usual(net.eval(), garden)
    rank, values = [], {name: [] for name in (*RULES, "seen", "day")}
    for own, read in stock_days(net, garden, known):
        rank.append(own)
        w, alarm = read["w"], own > 1 - FALSE_ALARMS
        named = np.bincount(w.argmax(1), minlength=w.shape[1]) / len(w)
        means = {name: read[name].mean(0) for name in RULES}
        means |= {"seen": w[alarm].mean(0) if alarm.any() else np.zeros(w.shape[1]), "day": named}
        for name, mean in means.items():
            values[name].append(mean)
    return Grade(rank, {name: np.array(v) for name, v in values.items()}, len(known.calm_error))


def placebo(net: Network, garden: Garden) -> Grade:
    """Of `by_day` what a placebo needs: the weights, those of alarms and the names of stock-days; no ranks."""
    grade = by_day(net, garden)
    return replace(grade, rank=[], by_rule={rule: grade.by_rule[rule] for rule in ("w", "seen", "day")})


def weights_alone(net: Network, garden: Garden) -> Grade:
    """Only the routing weights of each plant, the mean over its stock-days, under `w`: no ranks."""
    values = []
    for p, marks in zip(garden.planted, garden.marks, strict=True):
        found = look(net, garden.ground.tensors, p.x, p.active, p.stress)
        values.append(found["routing"][marks].mean(0))
    return Grade([], {"w": np.array(values)})


def weights_of_sessions(net: Network, garden: Garden) -> Grade:
    """Mean routing weights [S, K] of the active stocks on each test session of the undisturbed market, under `w`."""
    tensors, means = garden.ground.tensors, []
    for t in np.flatnonzero(tensors.test):
        rows, day = slice(t - REACH, t + 1), slice(t, t + 1)
        found = look(net, tensors, tensors.x[rows], tensors.active[day], tensors.stress[day])
        means.append(found["routing"][0][tensors.active[t]].mean(0))
    return Grade([], {"w": np.array(means)})


def weights_of_single_days(net: Network, garden: Garden, noise: float = 0.0) -> Grade:
    """`single_weights` under `w`."""
    return Grade([], {"w": single_weights(net, garden, noise)})


def weights_of_all(net: Network, garden: Garden) -> Grade:
    """The routing weights of every stock on every session of the one plant, [D * N, K], under `w`."""
    (p,) = garden.planted
    return Grade([], {"w": look(net, garden.ground.tensors, p.x, p.active, p.stress)["routing"].reshape(-1, 4)})


def trained(ground: Ground, config: Any, settings: Any, seed: int, label: str = "") -> Network:
    """A network trained as the stage `model` does it, with lessons if it is to be taught, rounded as a checkpoint."""
    tensors = ground.tensors
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Network(len(tensors.features), tensors.categories, config)
    lessons = routing_lessons(ground, seed) if config.teach else ()
    fitted = fit(net, tensors, settings, seed, torch.device("cpu"), label=label, rules=("tail",), lessons=lessons)
    net.load_state_dict(rounded(fitted.weights["tail"]))
    return net.eval()


def disturbed(garden: Garden, noise: float = 0.0, order: np.ndarray | None = None, seed: int = 0) -> Garden:
    """The same plants with Gaussian noise of SD `noise` on every feature, or with the stocks in another order."""
    rng = np.random.default_rng(seed)
    n = len(garden.ground.tensors.tickers)
    order = np.arange(n) if order is None else order
    place = np.argsort(order)  # where each stock went
    planted = []
    for p in garden.planted:
        x = p.x + noise * rng.standard_normal(p.x.shape).astype(np.float32)
        plant = replace(p.plant, stocks=tuple(int(place[s]) for s in p.plant.stocks))
        planted.append(replace(p, plant=plant, x=x[:, order], active=p.active[:, order]))
    t = garden.ground.tensors
    moved = replace(
        t, x=t.x[:, order], active=t.active[:, order], prior=t.prior[np.ix_(order, order)],
        tickers=[t.tickers[i] for i in order], returns=t.returns[:, order], log_volume=t.log_volume[:, order],
        is_bank=t.is_bank[order],
    )  # fmt: skip
    return replace(garden, ground=replace(garden.ground, tensors=moved), planted=planted)


def single_days(garden: Garden, noise: float = 0.0, seed: int = 0) -> list[np.ndarray]:
    """The last window [20, N, F] of each plant, with noise on every feature: what `shap_shares` explains, and what any
    other reading must be read on to be compared with it."""
    rng = np.random.default_rng(seed)
    windows = [p.x[-REACH - 1 :] for p in garden.planted]
    return [x + noise * rng.standard_normal(x.shape).astype(np.float32) for x in windows]


def single_weights(net: Network, garden: Garden, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Routing weights [P, 4] of the network on the stock-days that `shap_shares` explains."""
    seen = zip(garden.planted, single_days(garden, noise, seed), strict=True)
    parts = [(p.plant.stocks[0], look(net, garden.ground.tensors, x, p.active[-1:], p.stress[-1:])) for p, x in seen]
    return np.array([found["routing"][0, stock] for stock, found in parts])


def shap_shares(net: Network, garden: Garden, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """Shares [P, 4] of the categories in the SHAP values of E, on the first stock and last session of each plant.

    The 29 features of that stock-day are the players, absent ones are at their training median (0); permutation
    sampling of the library `shap` (Lundberg & Lee 2017). One forward pass of the network a coalition.
    """
    with warnings.catch_warnings():  # shap asks for progress bars of a notebook, which need not be installed
        warnings.simplefilter("ignore")
        import shap

    tensors = garden.ground.tensors
    group, shares = np.array(tensors.categories), []
    for p, x in zip(garden.planted, single_days(garden, noise, seed), strict=True):
        stock = p.plant.stocks[0]

        def error(rows: np.ndarray, x: np.ndarray = x, p: Any = p, stock: int = stock) -> np.ndarray:
            out = np.empty(len(rows))
            for k, row in enumerate(rows):
                changed = x.copy()
                changed[-1, stock] = row
                out[k] = look(net, tensors, changed, p.active[-1:], p.stress[-1:])["error"][0, stock]
            return out

        masker = shap.maskers.Independent(np.zeros((1, x.shape[-1])))
        explainer = shap.PermutationExplainer(error, masker, seed=seed)
        values = explainer(x[-1:, stock], max_evals=2 * x.shape[-1] + 1, silent=True).values[0]
        size = np.array([np.abs(values[group == k]).sum() for k in range(group.max() + 1)])
        shares.append(size / size.sum())
    return np.array(shares)
