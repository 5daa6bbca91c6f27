"""MemStream on its authors' synthetic stream: one feature, 10,000 records, 10% anomalies, level shifts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from anomaly_routing.baselines.streaming.memstream import Memory, MemStreamNetwork, scaled

MEMORY, BETA, NEIGHBOURS, GAMMA = 16, 1.0, 3, 0.0  # the authors' settings for this stream


def run(folder: Path, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """AUC from their start, 16 records labelled normal, and from ours, the first 16 records."""
    data = np.load(folder / "memstream_syn.npz")
    x, label = torch.as_tensor(data["x"].reshape(-1, 1), dtype=torch.float32), data["label"].ravel()
    normal = torch.as_tensor(label[:1000] == 0).nonzero()[:MEMORY, 0]
    common = {
        "detector": "memstream",
        "data": "synthetic stream of the authors (syn.txt)",
        "seeds": list(seeds),
        "published": 0.955,
        "known": "authors' code, run again",
        "source": "The authors' memstream-syn.py at 59b5ba0eb539, run once on two CPU cores.",
    }
    theirs, ours = (roc_auc_score(label, stream(x, start)) for start in (x[normal], x[:0]))
    same = "their script has no encoder for this stream (identity), so no seed matters"
    return [
        common | {"measure": measure, "ours": [value] * len(seeds), "note": f"{note}; {same}"}
        for measure, value, note in (
            ("AUC", theirs, "memory starts with records labelled normal, as in their script"),
            ("AUC, start without labels", ours, "memory starts empty, as in the panel"),
        )
    ]


@torch.no_grad()
def stream(x: torch.Tensor, start: torch.Tensor) -> np.ndarray:
    """Scores [S] of records [S, F], one at a time, the memory starting with the rows `start` [m, F]."""
    width = x.shape[1]
    net = MemStreamNetwork(width, 0, 0.0, torch.zeros(width), torch.ones(width)).eval()
    memory = Memory(MEMORY, start, start)
    memory.codes = net.encoder(scaled(start, *memory.moments()))
    discount = GAMMA ** torch.arange(NEIGHBOURS, dtype=x.dtype)
    every = torch.ones(len(x), 1, dtype=torch.bool)
    return net.stream(x[:, None], every, memory, discount, torch.tensor(BETA))[:, 0].numpy()
