"""Several seeds of one method as one line of the scoreboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

CHANCES = ("chance_p", "chance_p_test", "chance_p_test_march_collapsed")
PER_SEED = ("hits", "hits_test", "lead_median", "alarm_rate_test", *CHANCES, "auc", "ap")


def over_seeds(results: Sequence[dict[str, dict[str, Any]]], seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """The results of `evaluate_daily` for several seeds as one line a protocol: that of the median seed, whole.

    The median seed has the (lower) median number of hits, ties by AUC, then by seed. Its hits, leads and alarm rates
    belong together, which separate medians of each would not. Not so the p values (`CHANCES`): each is the median over
    the seeds, since the median seed's own may be the smallest of all. Added: `seed`, `per_seed` (every seed's own
    figures), and for each event `hit_share`, the share of seeds that hit it.
    """
    if not results or len(results) != len(seeds):
        raise ValueError(f"{len(results)} results for {len(seeds)} seeds")
    return {protocol: _line([r[protocol] for r in results], list(seeds)) for protocol in results[0]}


def median_seed(lines: Sequence[dict[str, Any]], seeds: Sequence[int]) -> int:
    """Position of the median seed: the (lower) median number of hits, ties by AUC, then by seed."""
    order = sorted(range(len(lines)), key=lambda i: (lines[i]["hits"], lines[i]["auc"] or 0.0, seeds[i]))
    return order[(len(order) - 1) // 2]


def _line(lines: list[dict[str, Any]], seeds: list[int]) -> dict[str, Any]:
    middle = median_seed(lines, seeds)
    events = {
        event: verdict | {"hit_share": _share([line["per_event"][event]["hit"] for line in lines])}
        for event, verdict in lines[middle]["per_event"].items()
    }
    per_seed = {"seed": seeds} | {key: [line.get(key) for line in lines] for key in PER_SEED}
    chances = {key: _median(per_seed[key]) for key in CHANCES if key in lines[middle]}
    return lines[middle] | chances | {"per_event": events, "seed": seeds[middle], "per_seed": per_seed}


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _share(hits: list[bool | None]) -> float | None:
    judged = [hit for hit in hits if hit is not None]
    return float(np.mean(judged)) if judged else None
