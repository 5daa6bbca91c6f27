"""The toy market's quiet anomalies, made once for all tests; see `anomaly_routing.baselines.toy`."""

from __future__ import annotations

from functools import lru_cache

from anomaly_routing.baselines.toy import KINDS, Toy, toy_market
from anomaly_routing.baselines.toy import toy_auroc as auroc

__all__ = ["KINDS", "auroc", "quiet_panel"]


@lru_cache(maxsize=3)
def quiet_panel(kind: str, seed: int = 0) -> Toy:
    return toy_market(kind, seed)
