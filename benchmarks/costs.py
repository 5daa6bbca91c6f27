"""What each neural baseline costs beside the full model: `python benchmarks/costs.py` (behind `make bench`).

Seconds of an epoch (a pass over the fitted samples and the loss on both validation sets, as trainings do them),
milliseconds to score a session (a pass over all of them, divided), and peak memory of both. One machine, one run, one
method after the other, each in a process of its own. Writes `reports/costs.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from anomaly_routing.files import write_json  # noqa: E402
from anomaly_routing.model.allocator import tune_allocator  # noqa: E402
from anomaly_routing.model.config import PRESETS, make_config  # noqa: E402
from anomaly_routing.model.network import Network  # noqa: E402
from anomaly_routing.model.outcome import outcome  # noqa: E402
from anomaly_routing.model.training import TrainingConfig, choose_device, fit  # noqa: E402
from anomaly_routing.packing import device_name  # noqa: E402
from anomaly_routing.tensors import Tensors  # noqa: E402
from anomaly_routing.train_baseline import trainable  # noqa: E402
from benchmarks.model import Plan, load, peak_gib  # noqa: E402

TARGET = ROOT / "reports" / "costs.json"
US100 = ROOT / "data" / "interim" / "us100" / "tensors.npz"
EPOCHS = 2  # of a baseline, the first one warms up; one of the full model is long enough by itself


def cost(method: str, tensors: Tensors, device: str, epochs: int = EPOCHS) -> dict[str, Any]:
    """One method on one device, in this process."""
    train_and_score = _model if method in PRESETS else _baseline
    found = train_and_score(method, tensors, device, epochs)
    return {"method": method} | found | {"peak_gib": peak_gib(choose_device(device))}


def _baseline(method: str, tensors: Tensors, device: str, epochs: int) -> dict[str, Any]:
    panel = tensors.panel()
    detector = trainable()[method].factory(seed=0, epochs=epochs, device=device)
    detector.fit(panel, tensors.train, tensors.val)
    started = time.perf_counter()
    detector.decision_function(panel)
    return {
        "epoch_seconds": statistics.median(line["seconds"] for line in detector.history[-max(1, epochs - 1) :]),
        "score_milliseconds": 1000 * (time.perf_counter() - started) / len(panel.sessions),
        "parameters": sum(p.numel() for p in detector.net.parameters() if p.requires_grad),
    }


def _model(method: str, tensors: Tensors, device: str, epochs: int) -> dict[str, Any]:
    epochs = 1 if device == "cpu" else epochs
    config, chosen = TrainingConfig(epochs=epochs), choose_device(device)
    tune_allocator()
    torch.manual_seed(0)
    net = Network(len(tensors.features), tensors.categories, make_config(method))
    fitted = fit(net, tensors, config, 0, chosen)
    started = time.perf_counter()
    outcome(net, tensors, chosen, config)
    return {
        "epoch_seconds": statistics.median(line["seconds"] for line in fitted.history[-max(1, epochs - 1) :]),
        "score_milliseconds": 1000 * (time.perf_counter() - started) / int(tensors.scored.sum()),
        "parameters": sum(net.parameters_by_module().values()),
    }


def measure(tensors: str | None, device: str, epochs: int = EPOCHS) -> dict[str, Any]:
    """Every method, one after the other."""
    methods = [*PRESETS, *trainable()]
    rows = []
    for method in (bar := tqdm(methods, desc="costs", unit="method")):
        bar.set_postfix_str(method)
        command = [sys.executable, __file__, "--method", method, "--device", device, "--epochs", str(epochs)]
        command += ["--tensors", tensors] if tensors else []
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
        rows.append(json.loads(said.splitlines()[-1]))
    market, chosen = load(Plan(tensors)), choose_device(device)
    name = device_name(chosen) if chosen.type == "cuda" else f"{os.cpu_count()} {platform.machine()} cores"
    return {
        "market": market.market,
        "stocks": len(market.tickers),
        "sessions": len(market.sessions),
        "device": name,
        "torch": torch.__version__,
        "rows": rows,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensors", help="default: us100's, or random numbers of its size where there are none")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--method", choices=[*PRESETS, *trainable()], help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    tensors = args.tensors or (str(US100) if US100.exists() else None)
    if args.method:
        print(json.dumps(cost(args.method, load(Plan(tensors)), args.device, args.epochs)))
        return
    found = measure(tensors, args.device, args.epochs)
    for row in found["rows"]:
        row |= {k: float(f"{v:.4g}") for k, v in row.items() if isinstance(v, float)}
        epoch, score, peak = (row[k] for k in ("epoch_seconds", "score_milliseconds", "peak_gib"))
        print(f"  {row['method']:<22}{epoch:9.2f} s an epoch{score:10.3f} ms a session{peak:8.2f} GiB")
    write_json(args.out, found)


if __name__ == "__main__":
    main()
