"""What is logged while the network is fitted: where the time goes, and what stress, fusion and routing do (SPEC 8)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomaly_routing.model.network import MODULES, Output

QUANTILES = (0.05, 0.5, 0.95)


class Clock:
    """Seconds in each module, forward and backward. On a GPU through events, read once an epoch: no sync in a step.

    A module's forward pass ends at its `mark`; its backward pass ends when the gradient of its input, the output of the
    module before, is complete.
    """

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.stamps: list[tuple[str, Any]] = []
        self.whole = True

    def start(self) -> None:
        """Begin a step."""
        self._stamp("")

    def mark(self, name: str, output: Tensor | None = None) -> None:
        """What ran since the last stamp was `name`; watch the gradient of its output for the next module's sake."""
        self._stamp(name)
        if output is not None and output.requires_grad and name != MODULES[-1]:
            after = MODULES[MODULES.index(name) + 1]
            output.register_hook(lambda gradient: self._stamp(after))

    def read(self) -> dict[str, dict[str, float]]:
        """{"module_seconds": {name: seconds}} since the last reading; empty where a batch was done in pieces."""
        if self.cuda:
            torch.cuda.synchronize()
        seconds: dict[str, float] = {}
        for (_, before), (name, now) in zip(self.stamps, self.stamps[1:], strict=False):
            if name:
                passed = before.elapsed_time(now) / 1000 if self.cuda else now - before
                seconds[name] = seconds.get(name, 0.0) + passed
        self.stamps.clear()
        return {"module_seconds": seconds if self.whole else {}}

    def _stamp(self, name: str) -> None:
        if self.cuda:
            now = torch.cuda.Event(enable_timing=True)
            now.record()
        else:
            now = time.perf_counter()
        self.stamps.append((name, now))


def small_parts(batch: Any, out: Output, window: int) -> dict[str, Tensor]:
    """What the diagnostics need of a batch: of the graph its counts alone, so that many batches fit into memory."""
    by_stock = {name: getattr(out, name)[batch.active] for name in ("routing", "expert_error", "rebuilt")}
    by_session = {name: getattr(out, name) for name in ("alpha", "psi", "source_weights", "tau")}
    neighbours = (out.learned > 0).sum(-1)[batch.active]  # non-zeros a row (SPEC 15, test 5)
    return by_stock | by_session | {"truth": batch.x[window - 1 :][batch.active], "neighbours": neighbours}


def routing_diagnostics(columns: list[list[int]], collected: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Quantiles of alpha and psi, source weights, tau, how experts and weights behave, and the non-zeros of a row of
    A_learned (mean, fewest, share of empty rows); of `small_parts` batches.

    columns : the features of each expert. Explained variance is over stock-days and features of the category.
    """
    joined = {name: torch.cat([part[name] for part in collected]) for name in collected[0]}
    weights, errors, neighbours = joined["routing"], joined["expert_error"], joined["neighbours"]
    explained = []
    for own in columns:
        target, rebuilt = joined["truth"][:, own], joined["rebuilt"][:, own]
        explained.append(float(1 - (target - rebuilt).square().sum() / (target - target.mean(0)).square().sum()))
    return {
        "alpha": _quantiles(joined["alpha"]),
        "psi": _quantiles(joined["psi"]),
        "source_weights": joined["source_weights"].mean(0).tolist(),
        "tau": float(joined["tau"].mean()),
        "mean_w": weights.mean(0).tolist(),
        "mean_max_w": float(weights.amax(-1).mean()),
        "routing_entropy": float(-(weights * weights.clamp(min=1e-8).log()).sum(-1).mean()),
        "corr_l1_l2": float(torch.corrcoef(errors[:, :2].T)[0, 1]) if errors.shape[1] > 1 else None,
        "explained_variance": explained,
        "neighbours": {"mean": float(neighbours.double().mean()), "min": int(neighbours.min())},
        "without_neighbours": float((neighbours == 0).double().mean()),
    }


def _quantiles(values: Tensor) -> list[float]:
    return np.quantile(values.cpu().numpy(), QUANTILES).tolist()
