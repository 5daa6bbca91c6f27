"""Train variants x seeds into the run store: `python -m anomaly_routing.sweep --market us100 --tables table2`.

What the store has is skipped; a training that was killed goes on from its last epoch; a worker that dies costs the
epoch it was in. The most informative runs come first: every variant's first seed, then the second seeds.

`--workers N` trains in N local processes, on one card if the device is one; `--backend dask` sends the trainings to a
Dask cluster instead (`--scheduler ADDRESS`; without it, one of local workers). `--budget-minutes` starts no training
that is not expected to end in time, and stops one that does not after an epoch; the state of such a training stays in
`--scratch`. `--out DIR` also adds the runs that were asked for to a few files there, to be merged elsewhere:
`python -m anomaly_routing.sweep --market us100 --merge DIR`.

Needs what `train` needs, and PyYAML unless `--variants-file` is what `python -m anomaly_routing.variants --json FILE`
has written; a cluster needs distributed, several local workers take joblib if it is there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from anomaly_routing.dispatch import NO_TIME, Plan, Task, inputs, run
from anomaly_routing.model.config import make_config
from anomaly_routing.model.training import choose_device
from anomaly_routing.paths import MarketPaths, repository
from anomaly_routing.runs import RunKey, RunStore
from anomaly_routing.shards import brought, export, foreign, merge
from anomaly_routing.tensors import Tensors
from anomaly_routing.variant_data import placed
from anomaly_routing.variants import Catalogue

STAGE = "sweep"
ON_ONE_CARD = 4  # trainings; one alone waits for the launch of its small kernels
REMEDIES = {
    "yaml": "write the variants as JSON where it is, `python -m anomaly_routing.variants --json FILE`, and name that "
    "file with --variants-file",
    "distributed": "--backend dask needs it; local workers do not",
}


def tasks(catalogue: Catalogue, names: list[str], seeds: int, tier: str) -> list[Task]:
    """Every variant's first seed, then the second ones; shared runs once.

    Raises ValueError for an unknown variant, listing what there is.
    """
    if unknown := sorted(set(names) - set(catalogue.variants)):
        raise ValueError(f"no variant {', '.join(unknown)}; there are: {', '.join(catalogue.variants)}")
    runs = list(dict.fromkeys(catalogue.run_of(name, tier) for name in names))
    return [Task(run, seed) for seed in range(seeds) for run in runs]


def key_of(task: Task, catalogue: Catalogue, tensors: Tensors, tier: str) -> RunKey:
    """What identifies the run of a task. Raises ValueError where the market has not the samples or the past that it
    asks for."""
    try:
        market = placed(tensors, catalogue.variants[task.variant].data)
    except ValueError as error:
        raise ValueError(f"variant {task.variant}: {error}") from error
    job = catalogue.job(task.variant, task.seed, tier)
    window, first = make_config(job.method, **job.overrides).window, int(np.flatnonzero(market.train)[0])
    if first < window - 1:
        raise ValueError(
            f"variant {task.variant}: the first sample has {first} sessions before it, too few for a window of "
            f"{window}: say data: {{later: {window - 1 - first}}} or more"
        )
    return job.key(market)


def remaining(
    plan: list[Task], catalogue: Catalogue, tensors: Tensors, tier: str, stores: list[RunStore]
) -> list[Task]:
    """The tasks that no store holds, in order."""
    keys = [(task, key_of(task, catalogue, tensors, tier)) for task in plan]
    return [task for task, key in keys if not any(key in store for store in stores)]


def main(argv: list[str] | None = None) -> None:
    args = _arguments().parse_args(argv)
    try:
        problems = _run(args)
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed here: {REMEDIES.get(error.name, f'pip install {error.name}')}")
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
    _check_numbers(args)
    file, listed = args.tensors or paths.interim / "tensors.npz", args.variants_file
    tensors, catalogue = inputs(file, listed)
    if tensors.market != args.market:
        raise ValueError(f"the tensor file is of market {tensors.market}, not {args.market}: name the right one")
    store = RunStore(args.store or paths.runs(STAGE))
    for path, reason in foreign(store.folder, tensors).items():
        print(f"left alone: {path.name}, {reason}", file=sys.stderr)
    if args.merge:
        print(f"{len(merge(args.merge, store, tensors))} new runs in {store.folder}")
        return {}
    if not args.scheduler:
        choose_device(args.device)  # a card that is not there is refused once, not by every training
    card = args.device == "cuda" or (args.device == "auto" and torch.cuda.is_available())
    tier = args.tier or ("gpu" if card else "cpu")
    if tier not in catalogue.tiers:
        raise ValueError(f"no tier {tier!r}; there are: {', '.join(catalogue.tiers)}")
    workers = args.workers or (None if args.scheduler else ON_ONE_CARD if card else 1)
    threads = args.threads or (1 if args.scheduler else max(1, (os.cpu_count() or 1) // workers))
    deadline = float("inf") if args.budget_minutes is None else began + 60 * args.budget_minutes
    scratch = args.scratch or paths.interim / "unfinished"
    plan = Plan(file, listed, store.folder, scratch, tier, args.device, threads, deadline)
    chosen = _of_market(_chosen(args, catalogue), args.variants, catalogue, tensors)
    every = tasks(catalogue, chosen, args.seeds or catalogue.seeds[tier], tier)
    known = [*args.known, *filter(Path.is_dir, [paths.reports / "runs" / "model"])]
    stores = [store, *map(RunStore, known)]
    pending = remaining(every, catalogue, tensors, tier, stores)
    asked = [store.path(key_of(task, catalogue, tensors, tier)) for task in every]

    def carry() -> None:
        if args.out:
            export(filter(Path.exists, asked), args.out)

    if args.out:
        brought(args.out, tensors)  # what it holds is kept, so it must be of these data
    carry()
    print(
        f"{len(pending)} of {len(every)} trainings to do, tier {tier}, {workers or 'all'} workers of {threads} threads"
    )
    return run(plan, pending, workers, args.backend, args.scheduler, carry)


def _of_market(names: list[str], asked: list[str], catalogue: Catalogue, tensors: Tensors) -> list[str]:
    """The variants that the market has samples for; one that was asked for by name is refused later on."""
    kept = []
    for name in names:
        try:
            placed(tensors, catalogue.variants[name].data if name in catalogue.variants else {})
        except ValueError as error:
            if name not in asked:
                print(f"left out: {name}, {error}", file=sys.stderr)
                continue
        kept.append(name)
    return kept


def _check_numbers(args: argparse.Namespace) -> None:
    for name in ("seeds", "workers", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value}; it must be an integer from 1 up")
    if args.scheduler and args.backend != "dask":
        raise ValueError(f"--scheduler {args.scheduler} needs --backend dask")
    if args.budget_minutes is not None and not args.budget_minutes >= 0:
        raise ValueError(f"--budget-minutes is {args.budget_minutes:g}; it must be a number that is not negative")


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
    parser.add_argument("--workers", type=int, help=f"default: {ON_ONE_CARD} on a card, all of --scheduler, else 1")
    parser.add_argument("--threads", type=int, help="of a worker; default: the cores, shared out; 1 on a cluster")
    parser.add_argument("--backend", choices=("loky", "dask"), default="loky")
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="of a running Dask cluster")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--budget-minutes", type=float, help="default: no limit")
    parser.add_argument("--variants-file", type=Path, default=repository() / "variants.yaml")
    parser.add_argument("--tensors", type=Path, help="default: data/interim/<market>/tensors.npz")
    parser.add_argument("--store", type=Path, help="default: reports/<market>/runs/sweep")
    parser.add_argument("--known", type=Path, nargs="+", default=[], help="other stores whose runs need no training")
    parser.add_argument("--scratch", type=Path, help="unfinished trainings; default: data/interim/<market>/unfinished")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also add the runs asked for here, as a few files")
    parser.add_argument("--merge", type=Path, metavar="DIR", help="take the runs of DIR into the store, train nothing")
    return parser


if __name__ == "__main__":
    from anomaly_routing.sweep import main as imported  # by this name its workers can find it

    imported()
