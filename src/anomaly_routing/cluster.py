"""Trainings on a Dask cluster whose workers may come late, die and come back; each has one training at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

POLL = 2.0  # seconds between two looks at who is there


@contextlib.contextmanager
def connected(scheduler: str, workers: int | None) -> Iterator[Client]:
    """A client of the scheduler, or of a cluster of local processes where none is named.

    Raises OSError for a scheduler that does not answer, ValueError for workers of several threads.
    """
    from distributed import Client

    own = {} if scheduler else {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with Client(scheduler or None, **own) as client:
        _refuse_shared_processes(client.nthreads())
        yield client


def results(
    client: Client,
    function: Callable,
    calls: Iterator[tuple],
    most: int | None,
    deadline: float,
    show: Callable[[str], object],
) -> Iterator[tuple[tuple, Any]]:
    """Each call with what `function(*call)` returned, or with the exception that it ended with, as they end.

    As many calls are out as there are workers, at most `most`: who joins gets work, and without a worker the first call
    waits for one. A call whose worker dies goes to another one; after the scheduler's `allowed-failures` of these it
    ends with KilledWorker. deadline : of time.time(); past it nothing waits for a worker any more, and a call that has
    none ends with TimeoutError. show : is told how many workers there are.
    Raises RuntimeError when the scheduler gives up its calls.
    """
    from distributed import wait

    going = {}
    while True:
        there = len(client.nthreads())
        show(f"{there} workers" if there else "waiting for a worker")
        out = max(there, 1) if most is None else min(most, max(there, 1))
        new = islice(calls, max(0, out - len(going)))
        going |= {client.submit(function, *call, pure=False): call for call in new}
        if not going:
            return
        if not there and time.time() > deadline:
            yield from ((call, TimeoutError("no worker came in time")) for call in going.values())
            return
        with contextlib.suppress(TimeoutError):
            try:
                wait(list(going), timeout=POLL, return_when="FIRST_COMPLETED")
            except CancelledError as error:
                raise RuntimeError(f"the cluster gave up its trainings ({error}): start again to go on") from error
        for future in [future for future in going if future.done()]:
            call = going.pop(future)
            yield call, future.exception() or future.result()


def _refuse_shared_processes(threads: dict[str, int]) -> None:
    """Those that join later train one after the other, by `dispatch.ALONE`."""
    if shared := [address for address, n in threads.items() if n > 1]:
        raise ValueError(
            f"{len(shared)} workers of the cluster, first {shared[0]}, would run several trainings in one process, and "
            "these would draw from one stream of random numbers: start workers of one thread, as many as there are "
            "cores (SLURMCluster(cores=2, processes=2), dask worker --nworkers 2 --nthreads 1)"
        )
