"""Speed and memory, as ratios with medians: `make bench`.

Prints tables and writes `benchmarks/measured.json`, from which the cost of a market is estimated. Timings are of this
machine; the ratios are what should hold elsewhere. `--quick` writes nothing and leaves out the pipeline and the model;
`--model` measures the full model alone, `--stages` the pipeline alone, `--reproduce` the README's first command alone,
`--costs` the model and every neural baseline side by side (`reports/costs.json`). Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from anomaly_routing.data.simulate import default_splits, simulate_market  # noqa: E402
from anomaly_routing.evaluation.protocols import evaluate_daily  # noqa: E402
from anomaly_routing.features.panel import compute_features  # noqa: E402
from anomaly_routing.files import read_json, write_json  # noqa: E402
from anomaly_routing.panel import Splits  # noqa: E402
from benchmarks import costs  # noqa: E402
from benchmarks import model as full_model  # noqa: E402
from benchmarks.model_table import paper_values, table  # noqa: E402
from tests.oracles.feature_oracle import Oracle  # noqa: E402

STAGES = tuple(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
MEASURED = ROOT / "benchmarks" / "measured.json"
US100 = ROOT / "data" / "interim" / "us100" / "tensors.npz"
NOT_RUN = "not run"
SIZES = ((16, 700), (32, 1400))  # stocks, sessions: two points of a line


def median_seconds(action: Callable[[], object], runs: int = 5) -> float:
    """Median wall time after one warm-up."""
    action()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def features() -> dict[str, float]:
    """The 29 features: the paper's size, against the slow oracle on one small market, and over the number of stocks."""
    paper = simulate_market(n_stocks=100, n_sessions=2012)
    small = simulate_market(n_stocks=30, n_sessions=350)
    fast = median_seconds(lambda: compute_features(small.prices, small.universe))
    started = time.perf_counter()
    Oracle(small.prices, small.universe).table()
    slow = time.perf_counter() - started
    out = {
        "features_100_stocks_2012_sessions_seconds": median_seconds(
            lambda: compute_features(paper.prices, paper.universe)
        ),
        "oracle_over_vectorised_30_stocks_350_sessions": slow / fast,
    }
    base = simulate_market(n_stocks=100, n_sessions=500, with_events=False)
    for copies in (1, 4, 16):
        prices, universe = widened(base.prices, copies), widened(base.universe, copies)
        seconds = median_seconds(lambda p=prices, u=universe: compute_features(p, u), runs=3)
        out[f"microseconds_per_stock_session_{100 * copies}_stocks"] = 1e6 * seconds / (100 * copies * 500)
    return out


def widened(table: pd.DataFrame, copies: int) -> pd.DataFrame:
    """The same stocks several times, under new tickers."""
    return pd.concat([table.assign(ticker=table["ticker"] + f"_{k}") for k in range(copies)], ignore_index=True)


def evaluation() -> dict[str, float]:
    """One method, both protocols, 2,012 sessions."""
    days = pd.bdate_range("2017-01-03", "2024-12-31")
    scores = pd.DataFrame(np.random.default_rng(0).random((len(days), 2)), index=days, columns=["I", "M"])
    dates = days[days > "2022-02-01"][::55][:13]
    events = pd.DataFrame({"id": [f"E{i}" for i in range(13)], "date": dates})
    return {"evaluate_two_channels_seconds": median_seconds(lambda: evaluate_daily(scores, events, splits=Splits()))}


def pipeline() -> dict[str, dict]:
    """Seconds and memory of each stage on two simulated markets, one a core, and the line through them."""
    with ThreadPoolExecutor(len(SIZES)) as pool:
        found = list(pool.map(stages_of, *zip(*SIZES, strict=True)))
    seconds = {stage: line([(cells, taken[stage]) for cells, taken, _ in found]) for stage in STAGES}
    return {"seconds": seconds, "memory_gib": line([(cells, peak) for cells, _, peak in found])}


def stages_of(stocks: int, sessions: int) -> tuple[float, dict[str, float], float]:
    """Millions of stock-sessions, seconds of each stage, and the largest peak of one in GiB: nothing is stored yet."""
    taken, peak = {}, 0.0
    with tempfile.TemporaryDirectory() as scratch:
        copy = fresh_copy(Path(scratch))
        params = yaml.safe_load((copy / "params.yaml").read_text())
        params["data"] |= {"n_stocks": stocks, "n_sessions": sessions}
        params["market"]["splits"] = dict(default_splits(sessions).__dict__)
        (copy / "params.yaml").write_text(yaml.safe_dump(params))
        for stage in STAGES:
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "anomaly_routing.runner", stage], cwd=copy, stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise RuntimeError(f"stage {stage} of {stocks} stocks failed: run it by itself to see why")
            taken[stage], peak = time.perf_counter() - started, max(peak, usage.ru_maxrss / 2**20)
            print(f"  {stocks} stocks: {stage} {taken[stage]:.0f} s", file=sys.stderr, flush=True)
    return stocks * sessions / 1e6, taken, peak


def fresh_copy(scratch: Path) -> Path:
    """What git tracks, without any market's results."""
    copy = scratch / "clone"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if not name.startswith("reports/") or name.count("/") == 1:  # what notebooks read
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


def reproduce() -> dict[str, float]:
    """Wall time of the README's first command, environment there, nothing stored, and the number of its stages."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = fresh_copy(Path(scratch))
        (copy / "dvc.lock").unlink()
        subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
        started = time.perf_counter()
        command = ["make", "--old-file=setup", "reproduce", f"VENV={sys.prefix}"]
        where = os.environ | {"PYTHONPATH": str(copy / "src")}
        subprocess.run(command, cwd=copy, env=where, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        done = len(yaml.safe_load((copy / "dvc.lock").read_text())["stages"])
    return {"seconds": round(seconds, 1), "stages": done}


def line(points: list[tuple[float, float]]) -> dict[str, float]:
    """Through two points; never a negative part."""
    (x0, y0), (x1, y1) = points
    slope = max(0.0, (y1 - y0) / (x1 - x0))
    return {"fixed": round(max(0.0, y0 - slope * x0), 2), "per_million_cells": round(slope, 2)}


def model(before: dict[str, Any]) -> dict[str, Any]:
    """The full model on the CPU and on a GPU. Where there is none, what a GPU gave elsewhere stays as it was."""
    plan = full_model.Plan(str(US100) if US100.exists() else None)
    paper, gpu = paper_values(), before.get("gpu", NOT_RUN)
    if torch.cuda.is_available():
        gpu = full_model.measure(replace(plan.on("cuda"), training_epochs=100))
    cpu = full_model.measure(plan)
    print(table(cpu, paper), table(gpu, paper) if gpu != NOT_RUN else f"on a GPU: {NOT_RUN}", sep="\n")
    return {"paper": paper, "cpu": cpu, "gpu": gpu}


def stages(device: str) -> dict[str, Any]:
    """Cost of the pipeline, printed and returned."""
    found = pipeline()
    for name, part in found["seconds"].items():
        print(
            f"  stage {name:<49} {part['fixed']:7.1f} s + {part['per_million_cells']:8.1f} s per million stock-sessions"
        )
    peak = found["memory_gib"]["fixed"] + found["memory_gib"]["per_million_cells"] * SIZES[1][0] * SIZES[1][1] / 1e6
    whole = reproduce()
    print(
        f"  make reproduce, environment there, nothing stored: {whole['seconds'] / 60:.1f} min; a stage: {peak:.2f} GiB"
    )
    return found | {"reproduce": whole, "device": device}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without the pipeline and the model; nothing is written")
    parser.add_argument("--model", action="store_true", help="the full model alone")
    parser.add_argument("--stages", action="store_true", help="the pipeline alone: each stage, and `make reproduce`")
    parser.add_argument("--reproduce", action="store_true", help="`make reproduce` alone, from an empty store")
    parser.add_argument("--costs", action="store_true", help="the neural baselines beside the full model alone")
    args = parser.parse_args()
    device = f"{os.cpu_count()} {platform.machine()} cores"
    print(f"{device}, Python {platform.python_version()}, medians after one warm-up", flush=True)
    measured = read_json(MEASURED) if MEASURED.exists() else {}
    if args.costs:
        costs.main([])
        return
    if args.stages:
        write_json(MEASURED, measured | {"stages": stages(device)})
        return
    if args.reproduce:
        measured["stages"]["reproduce"] = reproduce()
        print(measured["stages"]["reproduce"])
        write_json(MEASURED, measured)
        return
    if not args.model:
        ratios = {**features(), **evaluation()}
        for name, value in ratios.items():
            print(f"  {name:<55} {value:10.3f}", flush=True)
        if args.quick:
            return
        measured["ratios"] = {name: float(f"{value:.4g}") for name, value in ratios.items()}
        measured["stages"] = stages(device)
    measured["model"] = model(measured.get("model", {}))
    write_json(MEASURED, measured)
    if not args.model:
        costs.main([])


if __name__ == "__main__":
    main()
