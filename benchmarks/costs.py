"""What each neural baseline costs beside the full model: `python benchmarks/costs.py` (behind `make bench`).

One machine, one run, one method after the other; fitting and scoring each in a process of its own, the second from the
saved weights, so that each phase has a peak of its own. Writes `reports/costs.json`, one row a method:

epoch_seconds : a pass over the fitted samples and the loss on both validation sets, as trainings do them; the mean of
    as many as there are from one renewal to the next, where a method renews something in every so many epochs.
outside_seconds : of a fit, what is no epoch: thresholds, clusters, memory, setting up.
epochs : of the stored training, the middle seed; fit_seconds : outside_seconds + epochs x epoch_seconds. Both are null
    where no training is stored.
score_milliseconds : a pass over the `scored_sessions` (for all the same), divided by them.
session_milliseconds : one session alone, from the `window` of sessions that it needs; median of `REPEATS`.
fit_gib, score_gib : most memory held in each phase, libraries and data included; session_gib : until one session alone
    is scored, before the pass over all.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from anomaly_routing.baselines.deep import DeepDetector, Series  # noqa: E402
from anomaly_routing.baselines.metric_learning.metric_vmf import RELABEL, MetricVMF  # noqa: E402
from anomaly_routing.baselines.streaming.memstream import MemStream  # noqa: E402
from anomaly_routing.files import write_json  # noqa: E402
from anomaly_routing.model.allocator import tune_allocator  # noqa: E402
from anomaly_routing.model.config import PRESETS, make_config  # noqa: E402
from anomaly_routing.model.network import Network  # noqa: E402
from anomaly_routing.model.outcome import outcome  # noqa: E402
from anomaly_routing.model.training import Data, TrainingConfig, choose_device, evaluate, fit  # noqa: E402
from anomaly_routing.packing import device_name  # noqa: E402
from anomaly_routing.panel import Panel  # noqa: E402
from anomaly_routing.runs import INDEX, RunStore, read_meta  # noqa: E402
from anomaly_routing.tensors import Tensors  # noqa: E402
from anomaly_routing.train_baseline import trainable  # noqa: E402
from benchmarks.model import Plan, load, peak_gib  # noqa: E402

TARGET = ROOT / "reports" / "costs.json"
US100 = ROOT / "data" / "interim" / "us100" / "tensors.npz"
EPOCHS = 2  # of a baseline that renews nothing, the first one warms up; one of the full model is long enough by itself
REPEATS = 7  # of a single session


# --- the two phases, each in a process of its own ---------------------------------------------------------------------
def cost_of_fit(method: str, tensors: Tensors, device: str, epochs: int, saved: Path) -> dict[str, Any]:
    """Fit one method in this process and save what scoring needs."""
    train = _fit_model if method in PRESETS else _fit_baseline
    started = time.perf_counter()
    history, numbers, fitted, period = train(method, tensors, device, epochs)
    outside = time.perf_counter() - started - sum(line["seconds"] for line in history)
    saved.write_bytes(pickle.dumps(fitted))
    return {
        "epoch_seconds": statistics.mean(line["seconds"] for line in history[-period:]),
        "outside_seconds": outside,
        "parameters": numbers,
        "fit_gib": peak_gib(choose_device(device)),
    }


def cost_of_score(method: str, tensors: Tensors, device: str, saved: Path) -> dict[str, Any]:
    """Score with what was saved: the last session alone, whose peak comes first, then every session."""
    fitted = pickle.loads(saved.read_bytes())
    whole, alone, window = (_score_model if method in PRESETS else _score_baseline)(method, fitted, tensors, device)
    count = int(tensors.scored.sum())
    _seconds(alone)  # warms up
    single = statistics.median(_seconds(alone) for _ in range(REPEATS))
    held = peak_gib(choose_device(device))
    passed = _seconds(whole)
    return {
        "score_milliseconds": 1000 * passed / count,
        "session_milliseconds": 1000 * single,
        "session_gib": held,
        "scored_sessions": count,
        "window": window,
        "score_gib": peak_gib(choose_device(device)),
    }


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


# --- a baseline -------------------------------------------------------------------------------------------------------
def _fit_baseline(method: str, tensors: Tensors, device: str, epochs: int) -> tuple[list[dict], int, DeepDetector, int]:
    detector = trainable()[method].factory(seed=0, epochs=epochs, device=device)
    if (period := renewal(detector)) > 1:
        detector = trainable()[method].factory(seed=0, epochs=epochs + period - 1, device=device)
    detector.fit(tensors.panel(), tensors.train, tensors.val)
    numbers = sum(p.numel() for p in detector.net.parameters() if p.requires_grad)
    return detector.history, numbers, detector, period


def renewal(detector: DeepDetector) -> int:
    """Epochs from one renewal to the next: of clusters, of the split into a low part and outliers; 1 without any."""
    return RELABEL if isinstance(detector, MetricVMF) else getattr(detector, "inner", 1)


def _score_baseline(
    method: str, detector: DeepDetector, tensors: Tensors, device: str
) -> tuple[Callable, Callable, int]:
    rows = np.flatnonzero(tensors.scored)
    panel = sessions_of(tensors.panel(), slice(rows[0], rows[-1] + 1))
    return lambda: detector.decision_function(panel), single_session(detector, panel), detector.net.window


def sessions_of(panel: Panel, rows: slice) -> Panel:
    """Some sessions of a panel without benchmarks."""
    names = ("sessions", "x", "active", "returns", "log_volume", "stress")
    return replace(panel, **{name: getattr(panel, name)[rows] for name in names})


def single_session(detector: DeepDetector, panel: Panel) -> Callable[[], np.ndarray]:
    """Work that scores the panel's last session alone, [N], from the sessions of its window.

    MemStream needs its memory in place of a window: the sessions before have gone through it when the work begins.
    """
    window = detector.net.window
    last = sessions_of(panel, slice(-window, None))
    if isinstance(detector, MetricVMF):
        return lambda: detector.score_rows(last, np.argwhere(last.active & _only_last(window)))[-1]
    if isinstance(detector, MemStream):
        return _next_of_stream(detector, panel)

    @torch.no_grad()
    def forward() -> np.ndarray:
        batch = Series(last, window, detector._device).batch(window - 1, window)
        return detector.net.eval().score(batch)[0].cpu().numpy()

    return forward


def _only_last(window: int) -> np.ndarray:
    return (np.arange(window) == window - 1)[:, None]


def _next_of_stream(detector: MemStream, panel: Panel) -> Callable[[], np.ndarray]:
    before = detector.memory_after(sessions_of(panel, slice(0, -1)))
    last = sessions_of(panel, slice(-1, None))
    return lambda: detector.score_next(last, before)


# --- the full model ---------------------------------------------------------------------------------------------------
def _fit_model(method: str, tensors: Tensors, device: str, epochs: int) -> tuple[list[dict], int, dict, int]:
    config = TrainingConfig(epochs=1 if device == "cpu" else epochs)
    tune_allocator()
    torch.manual_seed(0)
    net = Network(len(tensors.features), tensors.categories, make_config(method))
    fitted = fit(net, tensors, config, 0, choose_device(device))
    numbers = sum(net.parameters_by_module().values())
    return fitted.history, numbers, {name: value.cpu() for name, value in net.state_dict().items()}, 1


def _score_model(method: str, weights: dict, tensors: Tensors, device: str) -> tuple[Callable, Callable, int]:
    config, chosen = TrainingConfig(), choose_device(device)
    tune_allocator()
    net = Network(len(tensors.features), tensors.categories, make_config(method))
    net.load_state_dict(weights)
    net = net.to(chosen)
    last, data = np.flatnonzero(tensors.scored)[-1:], Data(tensors, net.config, chosen)

    @torch.no_grad()
    def alone() -> list[np.ndarray]:
        return [out.error.cpu().numpy() for _, out in evaluate(net, data, last, config)]

    return lambda: outcome(net, tensors, chosen, config), alone, net.config.window


# --- all of them ------------------------------------------------------------------------------------------------------
def stored_epochs(runs: Path) -> dict[str, int]:
    """Method -> epochs of its stored training, the lower middle one of its seeds; runs: a market's folder of stores."""
    found: dict[str, list[int]] = {}
    for index in sorted(runs.rglob(INDEX)):
        for path in RunStore(index.parent).current():
            meta = read_meta(path)
            if meta["key"]["variant"] in ("causal", "full") and "epochs" in meta["info"]:
                found.setdefault(meta["key"]["method"], []).append(int(meta["info"]["epochs"]))
    return {method: statistics.median_low(epochs) for method, epochs in found.items()}


def measure(tensors: str | None, device: str, epochs: int = EPOCHS, runs: Path | None = None) -> dict[str, Any]:
    """Every method, one after the other. runs : where stored trainings say how many epochs they took."""
    market, chosen = load(Plan(tensors)), choose_device(device)
    trained = stored_epochs(runs or ROOT / "reports" / market.market / "runs")
    rows = []
    for method in (bar := tqdm([*PRESETS, *trainable()], desc="costs", unit="method")):
        bar.set_postfix_str(method)
        with tempfile.TemporaryDirectory() as folder:
            row = {"method": method, "epochs": trained.get(method), "fit_seconds": None}
            for phase in ("fit", "score"):
                row |= _phase(phase, method, Path(folder) / "fitted.pickle", tensors, device, epochs)
        if row["epochs"] is not None:
            row["fit_seconds"] = row["outside_seconds"] + row["epochs"] * row["epoch_seconds"]
        rows.append(row)
    name = device_name(chosen) if chosen.type == "cuda" else f"{os.cpu_count()} {platform.machine()} cores"
    return {
        "market": market.market,
        "stocks": len(market.tickers),
        "sessions": len(market.sessions),
        "device": name,
        "torch": torch.__version__,
        "rows": rows,
    }


def _phase(phase: str, method: str, saved: Path, tensors: str | None, device: str, epochs: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--method", method, "--phase", phase, "--saved", str(saved)]
    command += ["--device", device, "--epochs", str(epochs)] + (["--tensors", tensors] if tensors else [])
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    return json.loads(said.splitlines()[-1])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensors", help="default: us100's, or random numbers of its size where there are none")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--runs", type=Path, help="folder of the stored trainings; default: those of the market")
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--method", choices=[*PRESETS, *trainable()], help=argparse.SUPPRESS)
    parser.add_argument("--phase", choices=("fit", "score"), help=argparse.SUPPRESS)
    parser.add_argument("--saved", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    tensors = args.tensors or (str(US100) if US100.exists() else None)
    if args.method:
        market = load(Plan(tensors))
        if args.phase == "fit":
            found = cost_of_fit(args.method, market, args.device, args.epochs, args.saved)
        else:
            found = cost_of_score(args.method, market, args.device, args.saved)
        print(json.dumps(found))
        return
    found = measure(tensors, args.device, args.epochs, args.runs)
    for row in found["rows"]:
        row |= {k: float(f"{v:.4g}") for k, v in row.items() if isinstance(v, float)}
        shown = row["epoch_seconds"], row["session_milliseconds"], row["fit_gib"], row["session_gib"]
        text = "{:9.2f} s an epoch{:10.3f} ms for one session{:8.2f} GiB to fit{:8.2f} GiB for a session".format(*shown)
        print(f"  {row['method']:<22}{text}")
    write_json(args.out, found)


if __name__ == "__main__":
    main()
