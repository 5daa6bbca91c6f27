"""Trainings spread over processes: on this machine, on one card, or on a Dask cluster; what a dead worker costs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import torch
from tqdm import tqdm

from anomaly_routing import cluster
from anomaly_routing.model.errors import OutOfTimeError
from anomaly_routing.packing import lean
from anomaly_routing.runs import RunStore
from anomaly_routing.tensors import Tensors
from anomaly_routing.train import train_one
from anomaly_routing.variant_data import view
from anomaly_routing.variants import Catalogue, read_catalogue

NO_TIME = "no time"
FUTILE = 3  # times in a row that the workers may die without finishing a run
DEATHS = ("BrokenProcessPool", "TerminatedWorkerError")  # by name: joblib is optional
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ALONE = threading.Lock()  # two trainings in one process would draw from one stream of random numbers


@dataclass(frozen=True)
class Task:
    """One training: of a variant with its own run, and a seed."""

    variant: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """Where and how the tasks run; what every worker gets."""

    tensors: Path
    variants: Path
    store: Path
    scratch: Path
    tier: str
    device: str = "auto"
    threads: int = 1
    deadline: float = float("inf")  # of time.time()


def work(task: Task, plan: Plan, seconds: float = 0.0) -> tuple[Task, str, float]:
    """Train one task in this process, after any other; returns it, "" or what went wrong, and the seconds it took.

    seconds : how long it is expected to take. "no time" : it would not end before the deadline, or it did not; what it
    has done is kept in `plan.scratch`.
    """
    with ALONE:
        started = time.time()
        if started + seconds > plan.deadline:
            return task, NO_TIME, 0.0
        torch.set_num_threads(plan.threads)
        try:
            tensors, catalogue = inputs(plan.tensors, plan.variants)
            train_one(
                view(tensors, catalogue.variants[task.variant].data),
                catalogue.job(task.variant, task.seed, plan.tier),
                RunStore(plan.store),
                device=plan.device,
                tier=plan.tier,
                scratch=plan.scratch,
                keep=None,
                pack=partial(lean, train_end=tensors.splits.train_end),
                deadline=plan.deadline,
            )
        except OutOfTimeError:
            return task, NO_TIME, time.time() - started
        except Exception as error:  # whatever stops one training is named; the others go on
            return task, f"{type(error).__name__}: {error}", time.time() - started
        return task, "", time.time() - started


@lru_cache(maxsize=1)
def _read(tensors: Path, variants: Path, stamps: tuple) -> tuple[Tensors, Catalogue]:
    return Tensors.load(tensors), read_catalogue(variants)


def inputs(tensors: Path, variants: Path) -> tuple[Tensors, Catalogue]:
    """The market and the catalogue, read once a process, and again when a file is another: workers live long."""
    files = [path.stat() for path in (tensors, variants)] if tensors.is_file() and variants.is_file() else []
    return _read(tensors, variants, tuple((file.st_ino, file.st_mtime_ns, file.st_size) for file in files))


def run(
    plan: Plan,
    pending: list[Task],
    workers: int | None,
    backend: str = "loky",
    scheduler: str = "",
    after: Callable[[], object] = lambda: None,
) -> dict[Task, str]:
    """Train the tasks in `workers` processes; returns what went wrong, by task ("no time" where it ran out).

    workers : None for as many as the cluster behind `scheduler` has. after : called after a run.
    A local worker that dies may take the pool with it: the rest is started again, unless that happens `FUTILE` times
    without a finished run in between. Raises RuntimeError then, OSError when the disk is full, ValueError for a cluster
    whose workers run several trainings in one process.
    """
    problems: dict[Task, str] = {}
    taken: list[float] = []
    futile = 0
    with (
        tqdm(total=len(pending), desc="trainings", unit="run") as bar,
        _backend(backend, scheduler, workers, plan) as client,
    ):
        while pending:
            done: set[Task] = set()
            try:
                for task, problem, seconds in _results(plan, pending, workers, client, taken, bar):
                    done.add(task)
                    bar.update()
                    if problem:
                        problems[task] = problem
                    else:
                        taken.append(seconds)
                        after()
                    if "No space left" in problem:
                        full = f"{plan.store} and {plan.scratch}"
                        raise OSError(f"{problem}: free some space for {full}, then start again")
            except Exception as error:
                if type(error).__name__ not in DEATHS:
                    raise
                reason = str(error).strip().splitlines()[0]
                bar.write(f"a worker died ({reason}): what it had not finished goes on from its last epoch")
            pending = [task for task in pending if task not in done]
            futile = 0 if done else futile + 1
            if pending and futile == FUTILE:
                raise RuntimeError(
                    f"the workers died {FUTILE} times without finishing a run, first in line {pending[0]}: "
                    "they may lack memory; use fewer --workers"
                )
    return problems


def _results(
    plan: Plan, pending: list[Task], workers: int | None, client: object | None, taken: list[float], bar: tqdm
) -> Iterator[tuple[Task, str, float]]:
    """What `work` returns, in the order in which the trainings end. A task is handed out when a worker is free, with
    the median of the seconds that others took."""
    calls = ((task, plan, statistics.median(taken) if taken else 0.0) for task in pending)
    if client:
        for (task, *_), result in cluster.results(client, work, calls, workers, plan.deadline, bar.set_postfix_str):
            if isinstance(result, TimeoutError):
                result = task, NO_TIME, 0.0
            yield (task, f"{type(result).__name__}: {result}", 0.0) if isinstance(result, Exception) else result
    elif workers == 1:
        yield from (work(*call) for call in calls)
    elif not find_spec("joblib"):
        yield from _spawned(calls, workers)
    else:
        from joblib import Parallel, delayed

        jobs = (delayed(work)(*call) for call in calls)
        yield from Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)(jobs)


def _spawned(calls: Iterator[tuple[Task, Plan, float]], workers: int) -> Iterator[tuple[Task, str, float]]:
    """Local processes without joblib."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        going = {pool.submit(work, *call) for _, call in zip(range(workers), calls, strict=False)}
        while going:
            ended, going = wait(going, return_when=FIRST_COMPLETED)
            for one in ended:
                yield one.result()
            going |= {pool.submit(work, *call) for _, call in zip(ended, calls, strict=False)}


@contextlib.contextmanager
def _backend(name: str, scheduler: str, workers: int | None, plan: Plan) -> Iterator[object | None]:
    """This process, local processes with capped threads, or a Dask cluster, of which a client is given."""
    if name == "dask":
        with cluster.connected(scheduler, workers) as client:
            yield client
    elif workers == 1:
        yield
    elif not find_spec("joblib"):
        before = {key: os.environ.get(key) for key in THREADS}
        os.environ |= dict.fromkeys(THREADS, str(plan.threads))  # the processes inherit it
        try:
            yield
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.update({key: value})
    else:
        from joblib import parallel_config

        with parallel_config(backend="loky", inner_max_num_threads=plan.threads):
            yield
