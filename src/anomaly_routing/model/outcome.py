"""From trained weights to everything that is said of a session: errors, scores, routing, stress, pressure (SPEC 7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from anomaly_routing.model import pressure_index
from anomaly_routing.model.network import Network
from anomaly_routing.model.scoring import block_scores, score_statistics, scores
from anomaly_routing.model.training import Data, TrainingConfig, evaluate
from anomaly_routing.tensors import Tensors


@dataclass(frozen=True)
class Outcome:
    """Arrays over the S scored sessions (`rows` of the tensors), N stocks, K = 4 mechanisms.

    error, score : [S, N]; E and s, NaN where inactive. routing, expert_error : [S, N, K], 0 where inactive.
    psi, alpha, tau : [S]. source_weights : [S, 3]. components : [S, 5]; mpi : [S].
    mu, sigma : of the error (None under the literal block rule); theta_s, the cut of a stock's score.
    """

    rows: np.ndarray
    active: np.ndarray
    error: np.ndarray
    score: np.ndarray
    routing: np.ndarray
    expert_error: np.ndarray
    psi: np.ndarray
    alpha: np.ndarray
    tau: np.ndarray
    source_weights: np.ndarray
    components: np.ndarray
    mpi: np.ndarray
    mu: float | None
    sigma: float | None
    theta_s: float


def outcome(net: Network, tensors: Tensors, device: torch.device, config: TrainingConfig | None = None) -> Outcome:
    """Score every sample of a market with trained weights; statistics are frozen on the training samples (SPEC 7.2)."""
    rows = np.flatnonzero(tensors.scored)
    by_stock, by_session = ("error", "routing", "expert_error"), ("psi", "alpha", "tau", "source_weights")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in by_stock + by_session}
    data = Data(tensors, net.config, device)
    for _, out in evaluate(net.to(device), data, rows, config or TrainingConfig()):
        for name, collected in parts.items():
            collected.append(getattr(out, name).cpu().numpy())
    found = {name: np.concatenate(collected) for name, collected in parts.items()}
    active, error = tensors.active[rows], found.pop("error").astype(np.float64)
    train, val, test = (getattr(tensors, part)[rows] for part in ("train", "val", "test"))
    mu = sigma = None
    if net.config.score_stats == "train":
        mu, sigma = score_statistics(error, active, train)
        score = scores(error, active, mu, sigma)
    else:
        score = block_scores(error, active, [train, val, test])
    theta_s = pressure_index.theta(score, active, val)
    parts_of_mpi = pressure_index.components(score, active, found["routing"], found["psi"], theta_s, net.config)
    return Outcome(
        rows=rows,
        active=active,
        error=np.where(active, error, np.nan),
        score=score,
        **found,
        components=parts_of_mpi,
        mpi=pressure_index.pressure_index(parts_of_mpi, found["routing"].shape[-1]),
        mu=mu,
        sigma=sigma,
        theta_s=theta_s,
    )


def on_sessions(
    net: Network, tensors: Tensors, days: np.ndarray, device: torch.device, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Fields of the network's output on some sessions (positions in the tensors): name -> [len(days), ...]."""
    data = Data(tensors, net.config, device)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for day in days if len(days) else np.flatnonzero(tensors.scored)[:1]:  # no days: one, for the shapes
        _, out = next(evaluate(net.to(device), data, np.array([day]), TrainingConfig()))
        for name, collected in parts.items():
            collected.append(getattr(out, name)[0].cpu().numpy())
    return {name: np.stack(collected)[: len(days)] for name, collected in parts.items()}


def learned_graphs(net: Network, tensors: Tensors, days: np.ndarray, device: torch.device) -> np.ndarray:
    """A_learned of some sessions (positions in the tensors), [len(days), N, N], on the checkpoint's weights."""
    return on_sessions(net, tensors, days, device, ("learned",))["learned"]
