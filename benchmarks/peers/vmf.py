"""The von Mises-Fisher fit on directions drawn from a known distribution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_routing.baselines.metric_learning.directional import VonMisesFisher

DRAWS = 10_000
CASES = {3: (1.0, 20.0), 29: (20.0, 200.0), 128: (100.0, 1000.0)}  # dimension -> true kappa


def run(folder: Path, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """kappa from 10,000 directions, one sample a seed; needs no data."""
    return [
        {
            "detector": "metric_vmf",
            "data": f"{DRAWS:,} sampled directions, dimension {p}",
            "measure": "kappa",
            "seeds": list(seeds),
            "ours": [_recovered(p, kappa, seed) for seed in seeds],
            "published": kappa,
            "known": "true value",
            "source": "The kappa that the sample was drawn with (Ulrich 1984, Wood 1994).",
            "note": "Banerjee's start and two Newton steps",
        }
        for p, kappas in CASES.items()
        for kappa in kappas
    ]


def _recovered(p: int, kappa: float, seed: int) -> float:
    rng = np.random.default_rng([seed, p])
    mean = rng.normal(size=p)
    drawn = VonMisesFisher(mean / np.linalg.norm(mean), kappa).sample(DRAWS, rng)
    return VonMisesFisher.fit(drawn).kappa
