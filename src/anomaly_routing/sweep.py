"""Train variants x seeds into the run store: `python -m anomaly_routing.sweep --market us100 --tables table2`.

What the store has is skipped; a training that was killed goes on from its last epoch; a worker that dies costs the
epoch it was in. The most informative runs come first: every variant's first seed, then the second seeds.

`--backend dask` sends the trainings to a Dask cluster instead of local processes (`--scheduler ADDRESS`; without it, a
cluster of local workers). `--device cuda` packs `--workers` small models on one card. `--budget-minutes` starts no
training that is not expected to end in time. `--out DIR` writes the runs there, as shards to be merged later:
`python -m anomaly_routing.sweep --market us100 --merge DIR`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import BrokenProcessPool
from tqdm import tqdm

from anomaly_routing.model.errors import TrainingError
from anomaly_routing.paths import MarketPaths, repository
from anomaly_routing.runs import RunKey, RunStore, read_meta
from anomaly_routing.tensors import Tensors
from anomaly_routing.train import train_one
from anomaly_routing.variants import Catalogue, read_catalogue, view

STAGE = "sweep"
NO_TIME = "no time"
FUTILE = 3  # times in a row that the workers may die without finishing a run


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
    out: Path
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
    return catalogue.job(task.variant, task.seed, tier).key(view(tensors, catalogue.variants[task.variant].data))


def lacking(plan: list[Task], catalogue: Catalogue, tensors: Tensors, tier: str, stores: list[RunStore]) -> list[Task]:
    """The tasks that no store holds, in order."""
    keys = [(task, key_of(task, catalogue, tensors, tier)) for task in plan]
    return [task for task, key in keys if not any(key in store for store in stores)]


def work(task: Task, plan: Plan, seconds: float = 0.0) -> tuple[Task, str, float]:
    """Train one task in this process; returns it, "" or what went wrong or "no time", and the seconds it took."""
    if time.time() + seconds > plan.deadline:
        return task, NO_TIME, 0.0
    torch.set_num_threads(plan.threads)
    tensors, catalogue = _inputs(plan.tensors, plan.variants)
    started = time.time()
    try:
        train_one(
            view(tensors, catalogue.variants[task.variant].data),
            catalogue.job(task.variant, task.seed, plan.tier),
            RunStore(plan.out),
            device=plan.device,
            tier=plan.tier,
            scratch=plan.scratch,
            keep=None,
        )
    except (TrainingError, ValueError, OSError) as error:
        return task, f"{type(error).__name__}: {error}", time.time() - started
    return task, "", time.time() - started


@lru_cache(maxsize=1)
def _inputs(tensors: Path, variants: Path) -> tuple[Tensors, Catalogue]:
    return Tensors.load(tensors), read_catalogue(variants)


def run(plan: Plan, pending: list[Task], workers: int, backend: str = "loky", scheduler: str = "") -> dict[Task, str]:
    """Train the tasks in `workers` processes; returns what went wrong, by task ("no time" where it ran out).

    A worker that dies takes the pool with it: the rest is started again, unless that happens `FUTILE` times without a
    finished run in between. Raises RuntimeError then, and OSError when the disk is full.
    """
    problems: dict[Task, str] = {}
    taken: list[float] = []
    futile = 0
    with tqdm(total=len(pending), desc="trainings", unit="run") as bar, _backend(backend, scheduler, workers, plan):
        while pending:
            done: set[Task] = set()
            try:
                for task, problem, seconds in _results(plan, pending, workers, taken):
                    done.add(task)
                    bar.update()
                    if problem:
                        problems[task] = problem
                    else:
                        taken.append(seconds)
                    if "No space left" in problem:
                        raise OSError(f"{problem}: free some space below {plan.out}, then start again")
            except BrokenProcessPool as error:
                reason = str(error).splitlines()[0]
                bar.write(f"a worker died ({reason}): what it had not finished goes on from its last epoch")
            pending = [task for task in pending if task not in done]
            futile = 0 if done else futile + 1
            if pending and futile == FUTILE:
                raise RuntimeError(
                    f"the workers died {FUTILE} times without finishing a run, first in line {pending[0]}: "
                    "they may lack memory; use fewer --workers"
                )
    return problems


def _results(plan: Plan, pending: list[Task], workers: int, taken: list[float]) -> Iterator[tuple[Task, str, float]]:
    calls = (delayed(work)(task, plan, statistics.median(taken) if taken else 0.0) for task in pending)
    yield from Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch="n_jobs")(calls)


@contextlib.contextmanager
def _backend(name: str, scheduler: str, workers: int, plan: Plan) -> Iterator[None]:
    """Local processes with capped threads, or a Dask cluster."""
    if name == "loky":
        with parallel_config(backend="loky", inner_max_num_threads=plan.threads):
            yield
        return
    from distributed import Client

    own = {} if scheduler else {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with Client(scheduler or None, **own), parallel_config(backend="dask"):
        yield


def merge(shards: Path, store: RunStore, tensors: Tensors) -> list[str]:
    """Copy the runs of a folder into the store; returns the names of the new ones.

    Raises ValueError, and copies nothing, when one is of another market or of other data.
    """
    found = sorted(shards.rglob("[!.]*.npz"))
    for path in found:
        key = read_meta(path)["key"]
        if (key["market"], key["data_hash"]) != (tensors.market, tensors.data_hash):
            raise ValueError(
                f"{path} is a run on {key['market']} with data {key['data_hash']}, not on {tensors.market} with "
                f"{tensors.data_hash}: nothing was merged"
            )
    new = [path for path in found if not (store.folder / path.name).exists()]
    store.folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        partial = store.folder / f".{path.name}"
        shutil.copyfile(path, partial)
        partial.replace(store.folder / path.name)
    return [path.name for path in new]


def main(argv: list[str] | None = None) -> None:
    args = _arguments().parse_args(argv)
    try:
        problems = _run(args)
    except (TrainingError, ValueError, OSError, RuntimeError) as error:
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
    out = args.out or paths.runs(STAGE)
    if args.merge:
        print(f"{len(merge(args.merge, RunStore(out), tensors))} new runs in {out}")
        return {}
    if args.tier not in catalogue.tiers:
        raise ValueError(f"no tier {args.tier!r}; there are: {', '.join(catalogue.tiers)}")
    names = _chosen(args, catalogue)
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.workers)
    deadline = began + 60 * args.budget_minutes if args.budget_minutes else float("inf")
    scratch = (args.out or paths.interim) / "unfinished"
    plan = Plan(file, listed, out, scratch, args.tier, args.device, threads, deadline)
    stores = [RunStore(out), RunStore(paths.runs(STAGE)), RunStore(paths.runs("model"))]
    pending = lacking(tasks(catalogue, names, args.seeds), catalogue, tensors, args.tier, stores)
    print(f"{len(pending)} trainings to do, tier {args.tier}, {args.workers} workers of {threads} threads")
    return run(plan, pending, args.workers, args.backend, args.scheduler)


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
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    parser.add_argument("--tier", default="cpu", help="a section `tiers` of the variants file")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of a worker; default: the cores, shared out")
    parser.add_argument("--backend", choices=("loky", "dask"), default="loky")
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="of a running Dask cluster")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--budget-minutes", type=float)
    parser.add_argument("--variants-file", type=Path, default=repository() / "variants.yaml")
    parser.add_argument("--tensors", type=Path, help="default: data/interim/<market>/tensors.npz")
    parser.add_argument("--out", type=Path, help="default: reports/<market>/runs/sweep")
    parser.add_argument("--merge", type=Path, metavar="DIR", help="take the runs of DIR into the store, train nothing")
    return parser


if __name__ == "__main__":
    from anomaly_routing.sweep import main as imported  # by this name its workers can find it

    imported()
