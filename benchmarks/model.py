"""Speed and size of the full model, as ratios with medians: `python benchmarks/model.py --tensors FILE --out DIR`.

Against the plain reference, over the number of stocks, by module, and beside the arithmetic that cannot be avoided.
`make bench` runs it on the CPU (and a GPU if there is one) and keeps the result in `benchmarks/measured.json`.
Needs torch, numpy, pandas, tqdm, safetensors and torch-geometric, with PYTHONPATH=src; on a CPU every part runs in a
process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from anomaly_routing.files import write_json  # noqa: E402
from anomaly_routing.model.allocator import tune_allocator  # noqa: E402
from anomaly_routing.model.config import make_config  # noqa: E402
from anomaly_routing.model.diagnostics import Clock  # noqa: E402
from anomaly_routing.model.errors import TrainingError  # noqa: E402
from anomaly_routing.model.network import MODULES, PAPER_GROUPS, Network  # noqa: E402
from anomaly_routing.model.training import (  # noqa: E402
    Data,
    TrainingConfig,
    choose_device,
    chunks,
    fit,
    reconstruction,
    train_epoch,
)
from anomaly_routing.packing import device_name  # noqa: E402
from anomaly_routing.panel import BURN_IN, Splits  # noqa: E402
from anomaly_routing.tensors import Tensors  # noqa: E402
from benchmarks.model_table import rounded, table  # noqa: E402
from benchmarks.operations import counts, multiply_accumulates  # noqa: E402

FILE = "model.json"


@dataclass(frozen=True)
class Plan:
    """What is measured, and on what."""

    tensors: str | None = None  # a tensor file; None: random numbers of the paper's size
    device: str = "cpu"
    preset: str = "intended"
    matmul: str = "highest"  # as in TrainingConfig
    stocks: int = 100  # without a tensor file
    market_sessions: int = 2012  # without a tensor file
    sessions: int = 32  # in a step
    steps: int = 5
    reference_steps: int = 3
    epochs: int = 3
    sizes: tuple[int, ...] = (100, 400, 1600)
    matmul_size: int = 4096  # of the square product that sets the device's speed
    training_epochs: int = 0  # cap of a whole training; 0: none is run
    apart: bool = True  # each part in a process of its own, on a CPU

    @classmethod
    def tiny(cls, **changes: Any) -> Plan:
        """Everything once, in seconds: for tests."""
        small = {"stocks": 6, "market_sessions": 130, "sessions": 8, "sizes": (5, 7, 9), "matmul_size": 64}
        return cls(**{**small, "steps": 1, "reference_steps": 1, "epochs": 1, "apart": False} | changes)

    def on(self, device: str) -> Plan:
        """The same on `cpu` or `cuda`; a GPU is fast enough to be asked more often."""
        more = {"steps": 4 * self.steps, "matmul_size": 2 * self.matmul_size} if device == "cuda" else {}
        return replace(self, device=device, **more)


class Bench:
    """A market, a network and its optimiser on the plan's device. tuned : with the package's care for memory."""

    def __init__(self, plan: Plan, stocks: int | None = None, tuned: bool = True) -> None:
        self.device = choose_device(plan.device)
        if tuned:
            tune_allocator()
        torch.manual_seed(0)
        torch.set_float32_matmul_precision(plan.matmul)
        if stocks:
            self.tensors = random_tensors(stocks, BURN_IN + plan.sessions + 2)
        else:
            self.tensors = load(plan)
        self.config = TrainingConfig(matmul=plan.matmul, batch_sessions=plan.sessions)
        self.net = Network(len(self.tensors.features), self.tensors.categories, make_config(plan.preset))
        self.net.to(self.device)
        self.data = Data(self.tensors, self.net.config, self.device)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=self.config.learning_rate, fused=True)
        self.clock = Clock(self.device)
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def train(self, order: list[tuple[int, int]]) -> None:
        """The package's own training pass over these batches; it waits for the device at its end."""
        train_epoch(self.net, self.optimiser, self.data, order, self.config, self.clock)

    def first(self, sessions: int) -> tuple[int, int]:
        """The first batch of the training samples."""
        start = int(self.data.train[0])
        return start, start + sessions


def peak_gib(device: torch.device) -> float:
    """Of the GPU's memory, or of this process's, imports included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status")  # unlike getrusage, it forgets the process that started this one
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**20
    scale = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def load(plan: Plan) -> Tensors:
    return Tensors.load(plan.tensors) if plan.tensors else random_tensors(plan.stocks, plan.market_sessions)


def random_tensors(stocks: int, sessions: int) -> Tensors:
    """Random features, every stock active, a prior of eleven sectors; split as the paper splits."""
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2017-01-03", periods=sessions)
    last = BURN_IN + np.cumsum(np.maximum(1, np.array([0.618, 0.127]) * (sessions - BURN_IN - 2)).astype(int)) - 1
    sector = rng.integers(11, size=stocks)
    prior = (sector[:, None] == sector).astype(np.float32)
    np.fill_diagonal(prior, 0)
    return Tensors(
        market="random numbers",
        sessions=days,
        tickers=[f"R{i:04d}" for i in range(stocks)],
        features=[f"f{j}" for j in range(len(PAPER_GROUPS))],
        group=[str(k) for k in PAPER_GROUPS],
        x=rng.standard_normal((sessions, stocks, len(PAPER_GROUPS)), dtype=np.float32),
        active=np.ones((sessions, stocks), bool),
        returns=rng.standard_normal((sessions, stocks), dtype=np.float32),
        log_volume=rng.standard_normal((sessions, stocks), dtype=np.float32),
        prior=prior,
        stress=rng.random((sessions, 4)),
        is_bank=sector == 0,
        splits=Splits(*(f"{days[t]:%Y-%m-%d}" for t in (0, *last, -1))),
        data_hash="",
        features_numerics=0,
    )


def median_seconds(action: Callable[[], Any], repeats: int, at_most: float = 240.0) -> tuple[float, int]:
    """Median wall time, and of how many: no further one starts after `at_most` seconds."""
    times: list[float] = []
    while len(times) < repeats and sum(times) < at_most:
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times), len(times)


# --- the parts; each is given the plan and a number of stocks, or None for the plan's market --------------------------
def ours(plan: Plan, stocks: int | None) -> dict[str, Any]:
    """A training step of the package after a warm-up on two sessions, or on a whole batch of the plan's market."""
    bench = Bench(plan, stocks)
    batch = [bench.first(plan.sessions)]
    bench.train([bench.first(2)] if stocks else batch)
    seconds, n = median_seconds(lambda: bench.train(batch), plan.steps, at_most=60)
    return {"step_seconds": seconds, "steps_timed": n, "peak_gib": peak_gib(bench.device)}


def reference(plan: Plan, stocks: int | None) -> dict[str, Any]:
    """The same step of the plain model, on the same sessions."""
    from benchmarks.model_reference import Reference, training_step

    bench = Bench(plan, stocks, tuned=False)
    plain = Reference(bench.net).to(bench.device)
    optimiser = torch.optim.Adam(plain.parameters(), lr=bench.config.learning_rate)
    batch = bench.data.batch(*bench.first(plan.sessions))
    training_step(plain, optimiser, batch)
    seconds, n = median_seconds(lambda: training_step(plain, optimiser, batch), plan.reference_steps)
    return {"step_seconds": seconds, "steps_timed": n, "peak_gib": peak_gib(bench.device)}


def epoch(plan: Plan, stocks: int | None) -> dict[str, Any]:
    """Epochs as a training does them: a pass over the fitted samples, then the loss on both validation sets."""
    bench = Bench(plan, stocks)
    head, tail = bench.data.split_tail(bench.config.tail_share)
    order = chunks(head, plan.sessions, 0, 0)
    bench.train(order if bench.device.type == "cuda" else order[:1])
    bench.clock.read()
    modules: list[dict[str, float]] = []

    def passing() -> None:
        bench.train(order)
        modules.append(bench.clock.read()["module_seconds"])

    def validating() -> None:
        for samples in (tail, bench.data.val):
            reconstruction(bench.net, bench.data, samples, bench.config)

    training, n = median_seconds(passing, plan.epochs)
    validation, _ = median_seconds(validating, plan.epochs, at_most=60)
    by_module = {name: statistics.median(m[name] for m in modules) for name in modules[0]}
    four = sum(by_module[name] for name in MODULES)
    return {
        "steps": len(order),
        "sessions": sum(last - first for first, last in order),
        "epochs_timed": n,
        "training_seconds": training,
        "validation_seconds": validation,
        "seconds": training + validation,
        "module_share_percent": {name: 100 * by_module[name] / four for name in MODULES},
        "outside_modules_seconds": {name: by_module[name] for name in ("loss", "optimiser")},
        "peak_gib": peak_gib(bench.device),
    }


def training(plan: Plan, stocks: int | None) -> dict[str, Any]:
    """A whole training, seed 0, to its stop rule or the cap."""
    bench = Bench(plan, stocks)
    config = replace(bench.config, epochs=plan.training_epochs)
    started = time.perf_counter()
    done = fit(bench.net, bench.tensors, config, 0, bench.device)
    return {"seconds": time.perf_counter() - started, "epochs": len(done.history), "peak_gib": peak_gib(bench.device)}


def speed(plan: Plan, stocks: int | None) -> dict[str, Any]:
    """Floating-point operations a second in a large float32 product, at the plan's matmul precision."""
    device, n = choose_device(plan.device), plan.matmul_size
    torch.set_float32_matmul_precision(plan.matmul)
    a, b = (torch.randn(n, n, device=device) for _ in range(2))

    def product() -> None:
        c = a
        for _ in range(8):
            c = c @ b / n**0.5
        float(c[0, 0])

    product()
    return {"flops": 8 * 2 * n**3 / median_seconds(product, 5, at_most=30)[0]}


PARTS = {part.__name__: part for part in (ours, reference, epoch, training, speed)}


def run(name: str, plan: Plan, stocks: int | None = None) -> dict[str, Any]:
    """One part, in a process of its own where the plan says so."""
    print(f"  {plan.device}: {name}{f', {stocks} stocks' if stocks else ''}", file=sys.stderr, flush=True)
    if plan.device == "cuda" or not plan.apart:
        return PARTS[name](plan, stocks)
    command = [sys.executable, __file__, "--part", name, "--plan", json.dumps(asdict(plan))]
    command += ["--stocks", str(stocks)] if stocks else []
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(said.splitlines()[-1])


# --- the whole -------------------------------------------------------------------------------------------------------
def measure(plan: Plan) -> dict[str, Any]:
    """Everything on one device: step and epoch against the reference, modules, sizes, floor, counts."""
    tensors, device = load(plan), choose_device(plan.device)
    fast, plain, whole = run("ours", plan), run("reference", plan), run("epoch", plan)
    sizes = {n: run("ours", plan, n) for n in plan.sizes}
    record = {
        "device": device_name(device) if device.type == "cuda" else f"{os.cpu_count()} {platform.machine()} cores",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "market": tensors.market,
        "stocks": len(tensors.tickers),
        "preset": plan.preset,
        "sessions_a_step": plan.sessions,
        "ours": fast,
        "reference": plain,
        "reference_over_ours": plain["step_seconds"] / fast["step_seconds"],
        "epoch": whole,
        "reference_epoch": {
            "training_seconds": plain["step_seconds"] * whole["sessions"] / plan.sessions,
            "note": f"scaled from the median of {plain['steps_timed']} steps",
        },
        "sizes": {str(n): part for n, part in sizes.items()},
        "growth": {name: growth(sizes, name) for name in ("step_seconds", "peak_gib")},
        "floor": {plan.matmul: floor(plan, whole, tensors)},
        "counts": counts(make_config(plan.preset), tensors),
    }
    if device.type == "cuda":
        tf32 = replace(plan, matmul="high")
        record["epoch_tf32"] = run("epoch", tf32)
        record["floor"]["high"] = floor(tf32, record["epoch_tf32"], tensors)
    if plan.training_epochs:
        record["training"] = run("training", plan)
    return rounded(record)


def growth(sizes: dict[int, dict[str, Any]], name: str) -> dict[str, float]:
    """Exponent of the growth with the number of stocks between neighbouring sizes, and of a line through all."""
    stocks = sorted(sizes)
    x, y = np.log(stocks), np.log([sizes[n][name] for n in stocks])
    between = zip(stocks, stocks[1:], np.diff(y) / np.diff(x), strict=False)
    return {f"{a}-{b}": float(slope) for a, b, slope in between} | {"all": float(np.polyfit(x, y, 1)[0])}


def floor(plan: Plan, whole: dict[str, Any], tensors: Tensors) -> dict[str, float]:
    """Time that the arithmetic of a training pass takes at the speed of a large product: three times the forward's."""
    flops = run("speed", plan)["flops"]
    size = len(tensors.tickers), tuple(tensors.categories)
    operations = sum(multiply_accumulates(make_config(plan.preset), *size).values())
    seconds = 3 * 2 * operations * whole["sessions"] / flops
    return {"tflops": flops / 1e12, "seconds": seconds, "share_of_training_pass": seconds / whole["training_seconds"]}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tensors", help="default: random numbers of the paper's size")
    parser.add_argument("--out", type=Path, help=f"folder for {FILE}")
    parser.add_argument(
        "--training", type=int, default=0, metavar="EPOCHS", help="also a whole training, at most so long"
    )
    parser.add_argument("--tiny", action="store_true", help="everything once on a tiny market")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--plan", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--stocks", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.part:
        print(json.dumps(PARTS[args.part](Plan(**args.plan), args.stocks)))
        return
    plan = Plan.tiny(tensors=args.tensors, apart=True) if args.tiny else Plan(args.tensors)
    try:
        record = measure(replace(plan.on(args.device), training_epochs=args.training))
    except TrainingError as error:
        sys.exit(str(error))
    if args.out:
        write_json(args.out / FILE, record)
    print(table(record))


if __name__ == "__main__":
    main()
