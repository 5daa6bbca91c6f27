"""Independent parts of one computation, on several processor cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed, parallel_config
from tqdm import tqdm

SETTING = "ANOMALY_ROUTING_PROCESSES"  # environment variable: how many processes; unset or 0: one a core
Item, Result = TypeVar("Item"), TypeVar("Result")


def processes() -> int:
    """How many processes may be used. Raises ValueError where the setting is not a whole number from 0."""
    asked = os.environ.get(SETTING) or "0"
    if not asked.isdecimal():
        raise ValueError(f"{SETTING}={asked!r}: give a whole number of processes, or 0 for one a core")
    return int(asked) or cpu_count()


def over_cores(function: Callable[[Item], Result], items: Sequence[Item], **bar: Any) -> list[Result]:
    """[function(item) for item in items], one thread a process, so that the result is the same on any machine.

    function : of a module (or a `partial` of one), with arguments and result that pickle. bar : settings of tqdm.
    """
    workers = min(processes(), len(items))
    if workers < 2:
        return [function(item) for item in tqdm(items, **bar)]
    with parallel_config("loky", inner_max_num_threads=1):
        results = Parallel(n_jobs=workers, return_as="generator")(delayed(function)(item) for item in items)
        return list(tqdm(results, total=len(items), **bar))
