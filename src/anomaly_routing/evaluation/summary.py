"""Several seeds of one method as one line of the scoreboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

PER_SEED = ("hits", "hits_test", "lead_median", "alarm_rate_test", "chance_p", "auc", "ap")


def over_seeds(results: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The results of `evaluate_daily` for several seeds, merged protocol by protocol.

    A number becomes its median over the seeds that have one, a true or false (`hit` of an event) the share of true;
    text stays where all seeds agree, else it is None. `per_seed` keeps every seed's own hits, leads, rates and chances.
    """
    if not results:
        raise ValueError("no result to summarise")
    merged = {protocol: _merge([r[protocol] for r in results]) for protocol in results[0]}
    for protocol, line in merged.items():
        line["per_seed"] = {key: [r[protocol].get(key) for r in results] for key in PER_SEED}
    return merged


def _merge(values: Sequence[Any]) -> Any:
    present = [v for v in values if v is not None]
    if not present:
        return None
    first = present[0]
    if isinstance(first, dict):
        return {key: _merge([v.get(key) for v in present]) for key in first}
    if isinstance(first, bool):
        return float(np.mean(present))
    if isinstance(first, int | float):
        return float(np.median(present))
    if isinstance(first, list) and all(isinstance(v, list) and len(v) == len(first) for v in present):
        return [_merge(column) for column in zip(*present, strict=True)]
    return first if all(v == first for v in present) else None
