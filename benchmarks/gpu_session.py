"""What to do with some minutes of a GPU: `python benchmarks/gpu_session.py --tensors FILE --out DIR --minutes 9`.

First the benchmark of `model.py`, then trainings of both presets, seed by seed, at full size, while there is time for
another one. What is done is packed after every training into archives below 15 MB in DIR, so a machine that is taken
away leaves all but the last. A run that this checkout's store has is not trained again: merge, then go on.
Needs what `model.py` and `anomaly_routing.train` need, and pyyaml to learn from the market's parameters which sessions
keep their routing.

`python benchmarks/gpu_session.py --merge DIR` brings archives and benchmark into the checkout. A run of other data or
other arithmetic than this checkout's is refused.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from anomaly_routing.files import read_json, replacing, write_json  # noqa: E402
from anomaly_routing.model.checkpoints import load_checkpoint  # noqa: E402
from anomaly_routing.model.config import PRESETS  # noqa: E402
from anomaly_routing.model.errors import TrainingError  # noqa: E402
from anomaly_routing.paths import MarketPaths, repository  # noqa: E402
from anomaly_routing.runs import RunKey, RunStore, read_meta  # noqa: E402
from anomaly_routing.tensors import Tensors  # noqa: E402
from anomaly_routing.train import MODEL_NUMERICS, Job, Keep, keep_of, train_one  # noqa: E402
from benchmarks import model  # noqa: E402
from benchmarks.model_table import table  # noqa: E402

SHARD_BYTES, MOST_SHARDS = 15_000_000, 7
KINDS = {"runs": ".npz", "checkpoints": ".safetensors"}


# --- training --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Work:
    """Where trainings read and write. case : section `model` of a market's parameters. threads : 0 for torch's own."""

    tensors: Path
    folder: Path
    device: str
    case: dict[str, Any]
    threads: int

    def train(self, job: Job) -> dict[str, Any]:
        """One line of the closing table."""
        if self.threads:
            torch.set_num_threads(self.threads)
        tensors, started = Tensors.load(self.tensors), time.perf_counter()
        line = {"method": job.method, "seed": job.seed}
        try:
            key = train_one(tensors, job, RunStore(self.folder / "runs"), device=self.device, tier="gpu",
                            scratch=self.folder / "unfinished", keep=self._keep(tensors, job))  # fmt: skip
        except TrainingError as error:
            return line | {"seconds": time.perf_counter() - started, "failed": str(error)}
        info = read_meta(self.folder / "runs" / key.filename)["info"]
        line |= {"seconds": time.perf_counter() - started, "epochs": info["epochs"], "stopped": info["stopped"]}
        return line | {rule: best["loss"] for rule, best in info["best"].items()}

    def _keep(self, tensors: Tensors, job: Job) -> Keep | None:
        """Seed 0 keeps its weights, and routing and graphs on the sessions of the case studies."""
        if job.seed:
            return None
        checkpoint = self.folder / "checkpoints" / f"{job.method}.safetensors"
        return keep_of(tensors, self.case.get("case_spans", []), self.case.get("graph_days", []), checkpoint)


def train_all(
    jobs: list[Job], work: Work, deadline: float, at_once: int, longest: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Lines as trainings end. None starts that would end after `deadline` if it took as long as the longest so far."""
    running, waiting = set(), list(jobs)
    with _workers(at_once) as pool:
        while waiting or running:
            while waiting and len(running) < at_once and time.monotonic() + longest <= deadline:
                running.add(pool.submit(work.train, waiting.pop(0)))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for line in (future.result() for future in done):
                longest = max(longest, line["seconds"])
                yield line


def _workers(at_once: int) -> Executor:
    return ThreadPoolExecutor(1) if at_once == 1 else ProcessPoolExecutor(at_once, mp_context=get_context("spawn"))


# --- archives --------------------------------------------------------------------------------------------------------
def pack(folder: Path, out: Path, limit: int = SHARD_BYTES) -> list[Path]:
    """Runs and checkpoints of a folder as `shard<i>.zip` in `out`, each below `limit` bytes.

    Older files come first, so an archive that is full stays as it is. Raises ValueError for more than seven archives.
    """
    files = [path for kind, ending in KINDS.items() for path in (folder / kind).glob(f"*{ending}")]
    shards: list[list[Path]] = []
    for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name)):
        fitting = (s for s in shards if sum(p.stat().st_size + 512 for p in [*s, path]) <= limit)
        if (shard := next(fitting, None)) is None:
            shards.append(shard := [])
        shard.append(path)
    if len(shards) > MOST_SHARDS:
        raise ValueError(f"{len(shards)} archives, more than {MOST_SHARDS}: merge, then go on with the rest")
    packed = []
    for i, shard in enumerate(shards):
        with replacing(out / f"shard{i}.zip") as partial, zipfile.ZipFile(partial, "w") as archive:
            for path in shard:
                archive.write(path, f"{path.parent.name}/{path.name}")
        packed.append(out / f"shard{i}.zip")
    return packed


def merge(folder: Path, root: Path) -> list[str]:
    """Bring archives and benchmark of `folder` into the checkout at `root`; returns what was refused, and why."""
    refused: list[str] = []
    local: dict[str, Tensors] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for archive in sorted(folder.glob("*.zip")):
            with zipfile.ZipFile(archive) as stored:
                for name in stored.namelist():
                    kind, _, file = name.partition("/")
                    if Path(file).suffix != KINDS.get(kind) or Path(file).name != file:
                        refused.append(f"{archive.name}: {name} is neither a run nor a checkpoint")
                    else:
                        stored.extract(name, scratch)
        accepted: dict[str, MarketPaths] = {}
        for path in sorted((Path(scratch) / "runs").glob("*")):
            key = RunKey(**read_meta(path)["key"])
            paths = MarketPaths(key.market, root)
            if reason := _foreign(path.name, key, paths, local):
                refused.append(f"{path.name}: {reason}")
                continue
            accepted[path.name] = paths
            _bring(path, paths.runs("model") / path.name)
        for path in sorted((Path(scratch) / "checkpoints").glob("*")):
            run = load_checkpoint(path)[1]["run"]
            if run in accepted:
                _bring(path, accepted[run].checkpoints / path.name)
            else:
                refused.append(f"{path.name}: its run {run} is not among those accepted")
    if (folder / model.FILE).exists():
        measured = root / "benchmarks" / "measured.json"
        known = read_json(measured) if measured.exists() else {}
        write_json(measured, known | {"model": known.get("model", {}) | {"gpu": read_json(folder / model.FILE)}})
    return refused


def _foreign(name: str, key: RunKey, paths: MarketPaths, local: dict[str, Tensors]) -> str:
    """Why a run cannot be one of this checkout's, or nothing."""
    if key.filename != name:
        return "its name is not that of its content"
    if key.market not in local:
        try:
            local[key.market] = Tensors.load(paths.interim / "tensors.npz")
        except FileNotFoundError as error:
            return str(error)
    here = local[key.market]
    for what, theirs, own in (
        ("data_hash", key.data_hash, here.data_hash),
        ("numerics of the model", key.numerics, MODEL_NUMERICS),
        ("numerics of the features", key.config["features_numerics"], here.features_numerics),
        ("splits", key.config["splits"], here.splits.__dict__),
    ):
        if theirs != own:
            return f"{what} {theirs}, here {own}"
    return ""


def _bring(path: Path, target: Path) -> None:
    with replacing(target) as partial:
        shutil.copyfile(path, partial)


# --- command ---------------------------------------------------------------------------------------------------------
def session(args: argparse.Namespace, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Benchmark and trainings within the minutes; returns a line for each training."""
    deadline = time.monotonic() + 60 * args.minutes
    tensors = Tensors.load(args.tensors)
    stored = RunStore(MarketPaths(tensors.market).reports / "runs" / "model")
    jobs = [Job(m, seed=seed, training={"epochs": args.epochs}) for seed in args.seeds for m in args.methods]
    jobs = [job for job in jobs if job.key(tensors) not in stored]
    params = args.params or repository() / "markets" / tensors.market / "params.yaml"
    folder = Path(args.scratch or tempfile.mkdtemp())
    args.out.mkdir(parents=True, exist_ok=True)
    record = None
    if args.bench:
        plan = model.Plan.tiny if args.bench == "tiny" else model.Plan
        record = model.measure(plan(tensors=str(args.tensors)).on(args.device))
        write_json(args.out / model.FILE, record)
        say(table(record))

    lines: list[dict[str, Any]] = []
    for part, at_once in ((jobs[:1], 1), (jobs[1:], args.at_once)):  # the first one alone: its time is the benchmark's
        threads = 0 if at_once == 1 else max(1, (os.cpu_count() or 1) // at_once)
        work = Work(args.tensors, folder, args.device, _case(params, say), threads)
        for line in train_all(part, work, deadline, at_once, max([line["seconds"] for line in lines], default=0.0)):
            lines.append(line)
            pack(folder, args.out)
            if record and len(lines) == 1 and "failed" not in line:
                record["training"] = {name: line[name] for name in ("method", "seed", "seconds", "epochs")}
                write_json(args.out / model.FILE, record)
    say(pd.DataFrame(lines).to_string(index=False) if lines else "no training")
    say(f"{len(lines)} of {len(jobs)} trainings; {(deadline - time.monotonic()) / 60:.1f} minutes left")
    return lines


def _case(params: Path, say: Callable[[str], None]) -> dict[str, Any]:
    if not params.exists():
        say(f"no {params}: seed 0 keeps no routing and no graphs")
        return {}
    import yaml

    return yaml.safe_load(params.read_text(encoding="utf-8")).get("model", {})


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--merge", type=Path, metavar="DIR", help="bring what a session left in DIR into this checkout")
    parser.add_argument("--tensors", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10)))
    parser.add_argument("--methods", nargs="*", choices=list(PRESETS), default=["intended", "literal"])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--at-once", type=int, default=1, help="trainings that share the GPU, after the first one")
    parser.add_argument("--bench", choices=("full", "tiny", ""), default="full", help="'' leaves it out")
    parser.add_argument("--params", type=Path, help="default: markets/<market>/params.yaml")
    parser.add_argument("--scratch", type=Path, help="folder for runs before they are packed; unfinished ones go on")
    args = parser.parse_args(argv)
    if args.merge:
        if refused := merge(args.merge, repository()):
            sys.exit("\n".join(["refused:", *refused]))
        return
    if not (args.tensors and args.out):
        parser.error("give --tensors and --out, or --merge")
    try:
        session(args)
    except (TrainingError, ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
