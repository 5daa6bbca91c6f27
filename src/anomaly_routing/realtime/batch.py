"""What the stream must equal: the same methods by the batch code, on the whole panel at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_routing.model.pressure_index import alert_levels, components, pressure_index
from anomaly_routing.model.scoring import scores
from anomaly_routing.panel import Panel
from anomaly_routing.realtime.methods import Method, StreamingModel
from anomaly_routing.realtime.monitor import Calibration
from anomaly_routing.tensors import normalised
from anomaly_routing.train_baseline import generic_pressure

BATCH = 32  # sessions, as in training


def batch_readings(
    panel: Panel, fitted: dict[str, tuple[Method, Calibration]], dates: pd.DatetimeIndex
) -> dict[str, dict[str, np.ndarray]]:
    """For each method score [D, N], MPI [D], level [D], and of the full model routing [D, N, 4], on the D `dates`."""
    rows, out = panel.sessions.get_indexer(dates), {}
    for name, (method, own) in fitted.items():
        routing = None
        if isinstance(method, StreamingModel):
            raw, routing, psi = model_batches(method, panel, rows)
        else:
            raw = method.batch.decision_function(panel)[rows].astype(float)
        active = panel.active[rows] & np.isfinite(raw)
        s = scores(raw, active, own.mu, own.sigma)
        if routing is None:
            mpi = generic_pressure(s, active, own.theta)
        else:
            mpi = pressure_index(components(s, active, routing, psi, own.theta, method.net.config))
        out[name] = {"score": s, "MPI": mpi, "level": alert_levels(mpi, own.cuts)}
        out[name] |= {} if routing is None else {"routing": routing}
    return out


@torch.no_grad()
def model_batches(method: StreamingModel, panel: Panel, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Error E [D, N], routing [D, N, 4] and psi [D] of consecutive sessions `rows`, 32 at a time."""
    net, reach = method.net.eval(), method.net.config.window - 1
    rule = "rank" if net.config.psi_rule == "rank" else "minmax"
    stress = normalised(panel.stress, method.reference, rule)
    parts: list[dict[str, Any]] = []
    for start in range(0, len(rows), BATCH):
        first, last = rows[start], rows[min(start + BATCH, len(rows)) - 1] + 1
        arrays = panel.x[first - reach : last], panel.active[first:last], method.prior, stress[first:last]
        found = net(*(torch.as_tensor(a) for a in arrays))
        parts.append({k: getattr(found, k).numpy() for k in ("error", "routing", "psi")})
    error, routing, psi = (np.concatenate([p[k] for p in parts]) for k in ("error", "routing", "psi"))
    return np.where(panel.active[rows], error, np.nan).astype(float), routing, psi
