"""Variants of the network, trained for the grading of their attribution alone, and how steady an attribution is."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anomaly_routing.attribution import REACH, Garden, Grade, belongs_to, grade_network, look, stored_grade
from anomaly_routing.model.checkpoints import load_checkpoint, rounded
from anomaly_routing.model.config import make_config
from anomaly_routing.model.network import Network
from anomaly_routing.model.training import fit, make_training
from anomaly_routing.tensors import Tensors


def graded_checkpoint(path: Path, garden: Garden, folder: Path, part: str = "") -> Grade:
    """Grade the network of a committed checkpoint; kept in `folder`. part : name of the set of plants, "" for main."""
    net, info = load_checkpoint(path)
    name = f"{path.stem}-{part}" if part else path.stem
    return stored_grade(folder, name, belongs_to(garden) | {"weights": info}, lambda: grade_network(net, garden))


def graded_variants(
    jobs: list[dict[str, Any]], garden: Garden, folder: Path, training: dict[str, Any]
) -> dict[tuple[str, int], Grade]:
    """(name, seed) -> grade. A job has `name` and may have `preset` (default intended), `overrides`, `seed` and its own
    `training`, whose entries take the place of the common ones."""
    grades = {}
    for job in jobs:
        job = {"preset": "intended", "overrides": {}, "seed": 0} | job
        own = training | job.pop("training", {})
        grades[job["name"], job["seed"]] = graded_variant(garden, folder, training=own, **job)
    return grades


def graded_variant(
    garden: Garden,
    folder: Path,
    *,
    name: str,
    preset: str,
    overrides: dict[str, Any],
    seed: int,
    training: dict[str, Any],
) -> Grade:
    """Grade a variant, trained on the undisturbed market and stopped on the tail of its training samples.

    What is kept in `folder` is the grade, not the weights: with the same plants nothing is trained again.
    """
    config, settings = make_config(preset, **overrides), make_training(**training)

    def train_and_grade() -> Grade:
        return grade_network(trained(garden.ground.tensors, config, settings, seed, name), garden)

    belongs = belongs_to(garden) | {"model": config.identity(), "training": asdict(settings), "seed": seed}
    return stored_grade(folder, f"{name}-seed{seed}", belongs, train_and_grade)


def trained(tensors: Tensors, config: Any, settings: Any, seed: int, label: str = "") -> Network:
    """A network trained as the stage `model` does it, rounded as a checkpoint is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Network(len(tensors.features), tensors.categories, config)
    fitted = fit(net, tensors, settings, seed, torch.device("cpu"), label=label, rules=("tail",))
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


def shap_shares(net: Network, garden: Garden, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """Shares [P, 4] of the categories in the SHAP values of E, on the first stock and last session of each plant.

    The 29 features of that stock-day are the players, absent ones are at their training median (0); permutation
    sampling of the library `shap` (Lundberg & Lee 2017). One forward pass of the network a coalition.
    """
    with warnings.catch_warnings():  # shap asks for progress bars of a notebook, which need not be installed
        warnings.simplefilter("ignore")
        import shap

    tensors, rng = garden.ground.tensors, np.random.default_rng(seed)
    group, shares = np.array(tensors.categories), []
    for p in garden.planted:
        stock = p.plant.stocks[0]
        x = p.x[-REACH - 1 :] + noise * rng.standard_normal(p.x[-REACH - 1 :].shape).astype(np.float32)

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
