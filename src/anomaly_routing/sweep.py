"""Train variants x seeds into the run store: `python -m anomaly_routing.sweep --market us100 --tables table2`.

What the store has is skipped; a training that was killed goes on from its last epoch; a worker that dies costs the
epoch it was in. The most informative runs come first: every variant's first seed, then the second seeds.

`--workers N` trains in N local processes, on one card if the device is one; `--backend dask` sends the trainings to a
Dask cluster instead (`--scheduler ADDRESS`; without it, one of local workers). `--budget-minutes` starts no training
that is not expected to end in time. `--out DIR` also writes the new runs there as a few files, to be merged elsewhere:
`python -m anomaly_routing.sweep --market us100 --merge DIR`.

Needs what `train` needs, and PyYAML unless `--variants-file` is the same content as JSON; several workers need joblib,
a cluster needs distributed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from tqdm import tqdm

from anomaly_routing.packing import lean
from anomaly_routing.paths import MarketPaths, repository
from anomaly_routing.runs import RunKey, RunStore
from anomaly_routing.shards import export, foreign, merge
from anomaly_routing.tensors import Tensors
from anomaly_routing.train import train_one
from anomaly_routing.variants import Catalogue, placed, read_catalogue, view

STAGE = "sweep"
NO_TIME = "no time"
FUTILE = 3  # times in a row that the workers may die without finishing a run
DEATHS = ("BrokenProcessPool", "TerminatedWorkerError", "KilledWorker")  # by name: joblib and distributed are optional
ON_ONE_CARD = 4  # trainings; one alone waits for the launch of its small kernels


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


def tasks(catalogue: Catalogue, names: list[str], seeds: int) -> list[Task]:
    """Every variant's first seed, then the second ones; shared runs once.

    Raises ValueError for an unknown variant, listing what there is.
    """
    if unknown := sorted(set(names) - set(catalogue.variants)):
        raise ValueError(f"no variant {', '.join(unknown)}; there are: {', '.join(catalogue.variants)}")
    runs = list(dict.fromkeys(catalogue.variants[name].run for name in names))
    return [Task(run, seed) for seed in range(seeds) for run in runs]


def key_of(task: Task, catalogue: Catalogue, tensors: Tensors, tier: str) -> RunKey:
    """What identifies the run of a task."""
    return catalogue.job(task.variant, task.seed, tier).key(placed(tensors, catalogue.variants[task.variant].data))


def lacking(plan: list[Task], catalogue: Catalogue, tensors: Tensors, tier: str, stores: list[RunStore]) -> list[Task]:
    """The tasks that no store holds, in order."""
    keys = [(task, key_of(task, catalogue, tensors, tier)) for task in plan]
    return [task for task, key in keys if not any(key in store for store in stores)]


def work(task: Task, plan: Plan, seconds: float = 0.0) -> tuple[Task, str, float]:
    """Train one task in this process; returns it, "" or what went wrong or "no time", and the seconds it took."""
    if time.time() + seconds > plan.deadline:
        return task, NO_TIME, 0.0
    torch.set_num_threads(plan.threads)
    started = time.time()
    try:
        tensors, catalogue = _inputs(plan.tensors, plan.variants)
        train_one(
            view(tensors, catalogue.variants[task.variant].data),
            catalogue.job(task.variant, task.seed, plan.tier),
            RunStore(plan.store),
            device=plan.device,
            tier=plan.tier,
            scratch=plan.scratch,
            keep=None,
            pack=partial(lean, train_end=tensors.splits.train_end),
        )
    except Exception as error:  # whatever stops one training is named; the others go on
        return task, f"{type(error).__name__}: {error}", time.time() - started
    return task, "", time.time() - started


@lru_cache(maxsize=1)
def _inputs(tensors: Path, variants: Path) -> tuple[Tensors, Catalogue]:
    return Tensors.load(tensors), read_catalogue(variants)


def run(
    plan: Plan,
    pending: list[Task],
    workers: int,
    backend: str = "loky",
    scheduler: str = "",
    after: Callable[[], object] = lambda: None,
) -> dict[Task, str]:
    """Train the tasks in `workers` processes; returns what went wrong, by task ("no time" where it ran out).

    A worker that dies may take the pool with it: the rest is started again, unless that happens `FUTILE` times without
    a finished run in between. Raises RuntimeError then, and OSError when the disk is full. after : called after a run.
    """
    problems: dict[Task, str] = {}
    taken: list[float] = []
    futile = 0
    with tqdm(total=len(pending), desc="trainings", unit="run") as bar, _backend(backend, scheduler, workers, plan):
        while pending:
            done: set[Task] = set()
            try:
                for task, problem, seconds in _results(plan, pending, workers, backend, taken):
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
    plan: Plan, pending: list[Task], workers: int, backend: str, taken: list[float]
) -> Iterator[tuple[Task, str, float]]:
    """What `work` returns, in the order in which the trainings end."""
    expected = ((task, plan, statistics.median(taken) if taken else 0.0) for task in pending)
    if backend == "loky" and workers == 1:
        yield from (work(*call) for call in expected)
        return
    from joblib import Parallel, delayed

    calls = (delayed(work)(*call) for call in expected)
    yield from Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)(calls)


@contextlib.contextmanager
def _backend(name: str, scheduler: str, workers: int, plan: Plan) -> Iterator[None]:
    """This process, local processes with capped threads, or a Dask cluster."""
    if name == "loky" and workers == 1:
        yield
        return
    from joblib import parallel_config

    if name == "loky":
        with parallel_config(backend="loky", inner_max_num_threads=plan.threads):
            yield
        return
    from distributed import Client

    own = {} if scheduler else {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with Client(scheduler or None, **own), parallel_config(backend="dask"):
        yield


def main(argv: list[str] | None = None) -> None:
    args = _arguments().parse_args(argv)
    try:
        problems = _run(args)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(str(error))
    late = [task for task, problem in problems.items() if problem == NO_TIME]
    for task, problem in problems.items():
        if problem != NO_TIME:
            print(f"{task.variant}, seed {task.seed}: {problem}", file=sys.stderr)
    if late:
        print(f"{len(late)} trainings did not fit into the budget: start again to go on")
    if len(problems) > len(late):
        sys.exit(1)


def _run(args: argparse.Namespace) -> dict[Task, str]:
    paths, began = MarketPaths(args.market), time.time()
    file, listed = args.tensors or paths.interim / "tensors.npz", args.variants_file
    tensors, catalogue = _inputs(file, listed)
    if tensors.market != args.market:
        raise ValueError(f"the tensor file is of market {tensors.market}, not {args.market}: name the right one")
    store = RunStore(args.store or paths.runs(STAGE))
    for path, reason in foreign(store.folder, tensors).items():
        print(f"left alone: {path.name}, {reason}", file=sys.stderr)
    if args.merge:
        print(f"{len(merge(args.merge, store, tensors))} new runs in {store.folder}")
        return {}
    card = args.device == "cuda" or (args.device == "auto" and torch.cuda.is_available())
    tier = args.tier or ("gpu" if card else "cpu")
    if tier not in catalogue.tiers:
        raise ValueError(f"no tier {tier!r}; there are: {', '.join(catalogue.tiers)}")
    workers = args.workers or (ON_ONE_CARD if card else 1)
    threads = args.threads or max(1, (os.cpu_count() or 1) // workers)
    deadline = began + 60 * args.budget_minutes if args.budget_minutes else float("inf")
    scratch = args.scratch or paths.interim / "unfinished"
    plan = Plan(file, listed, store.folder, scratch, tier, args.device, threads, deadline)
    every = tasks(catalogue, _chosen(args, catalogue), args.seeds or catalogue.seeds[tier])
    known = [*args.known, *filter(Path.is_dir, [paths.reports / "runs" / "model"])]
    stores = [store, *map(RunStore, known)]
    pending = lacking(every, catalogue, tensors, tier, stores)
    there = set(store.folder.glob("[!.]*.npz"))
    after = partial(export, store.folder, args.out, there) if args.out else lambda: None
    print(f"{len(pending)} of {len(every)} trainings to do, tier {tier}, {workers} workers of {threads} threads")
    return run(plan, pending, workers, args.backend, args.scheduler, after)


def _chosen(args: argparse.Namespace, catalogue: Catalogue) -> list[str]:
    if unknown := sorted(set(args.tables) - set(catalogue.tables)):
        raise ValueError(f"no table {', '.join(unknown)}; there are: {', '.join(catalogue.tables)}")
    names = [*args.variants, *(name for table in args.tables for _, name in catalogue.tables[table])]
    return list(dict.fromkeys(names or catalogue.variants))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--market", required=True)
    parser.add_argument("--variants", nargs="+", default=[], help="default: all, or those of --tables")
    parser.add_argument("--tables", nargs="+", default=[], help="table2, table4, table6, table7, table8, designs")
    parser.add_argument("--seeds", type=int, help="how many, from 0; default: the tier's")
    parser.add_argument("--tier", help="a section `tiers` of the variants file; default: gpu on a card, else cpu")
    parser.add_argument("--workers", type=int, help=f"default: {ON_ONE_CARD} on a card, else 1")
    parser.add_argument("--threads", type=int, help="of a worker; default: the cores, shared out")
    parser.add_argument("--backend", choices=("loky", "dask"), default="loky")
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="of a running Dask cluster")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--budget-minutes", type=float)
    parser.add_argument("--variants-file", type=Path, default=repository() / "variants.yaml")
    parser.add_argument("--tensors", type=Path, help="default: data/interim/<market>/tensors.npz")
    parser.add_argument("--store", type=Path, help="default: reports/<market>/runs/sweep")
    parser.add_argument("--known", type=Path, nargs="+", default=[], help="other stores whose runs need no training")
    parser.add_argument("--scratch", type=Path, help="unfinished trainings; default: data/interim/<market>/unfinished")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write the new runs here, as a few files")
    parser.add_argument("--merge", type=Path, metavar="DIR", help="take the runs of DIR into the store, train nothing")
    return parser


if __name__ == "__main__":
    from anomaly_routing.sweep import main as imported  # by this name its workers can find it

    imported()
