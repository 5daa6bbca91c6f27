"""Milliseconds a session of the stream, median and 99th percentile: `python benchmarks/realtime.py` writes
`reports/realtime.json`, which notebook 11 shows. Let nothing else run meanwhile.

A simulated market of 100 stocks, and ten copies of it side by side. The time of the full model does not depend on its
weights, so they are random here. `--small` measures a few sessions of a tiny market and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]

from anomaly_routing.data.simulate import default_splits, simulate_market  # noqa: E402
from anomaly_routing.data.sources import MarketData  # noqa: E402
from anomaly_routing.files import write_json  # noqa: E402
from anomaly_routing.model.network import build_model  # noqa: E402
from anomaly_routing.panel import Splits  # noqa: E402
from anomaly_routing.realtime.monitor import Calibration, Monitor  # noqa: E402
from anomaly_routing.realtime.prepare import fit_methods, model_method, read_history, start_monitor  # noqa: E402
from anomaly_routing.realtime.sessions import replay  # noqa: E402

REPORT = ROOT / "reports" / "realtime.json"
FITTED = ("zscore", "isolation_forest", "memstream")
SIZES = {100: 300, 1000: 200}  # stocks -> sessions timed: a 99th percentile needs some
EPOCHS = {100: 100, 1000: 1}  # of MemStream, which only the start depends on: what `watch` takes; the least
BASE, WARM = 100, 2
SHARE = 0.24  # of the sessions drawn, at least, lies after validation
WHOLE = "update, all of it"


def copies(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """The same stocks several times, under new tickers."""
    return pd.concat([table.assign(ticker=table["ticker"] + f"_{k}") for k in range(n)], ignore_index=True)


def prepared(stocks: int, base: int, waiting: int, epochs: int = 1) -> tuple[Monitor, list, float]:
    """A monitor at the end of validation, the sessions that wait (at least so many), and the seconds that its start
    took from the prices on: features, scaling and fits."""
    sessions = max(500, int((waiting + WARM) / SHARE))
    drawn = simulate_market(n_stocks=base, n_sessions=sessions, with_events=False)
    market = MarketData(copies(drawn.prices, stocks // base), copies(drawn.universe, stocks // base))
    splits = Splits(**default_splits(sessions).__dict__)
    started = time.perf_counter()
    history = read_history(market, splits, market.sessions[market.sessions <= splits.val_end][-1])
    fitted = fit_methods(FITTED, history, epochs=epochs)
    torch.manual_seed(0)
    dummy = Calibration(1.0, 1.0, 0.9, np.array([0.2, 0.3, 0.4, 0.5]), 0.9)
    fitted["model"] = (model_method(build_model("intended"), history), dummy)
    monitor = start_monitor(history, fitted, "XNYS")
    return monitor, list(replay(market.prices, history.panel.sessions[-1])), time.perf_counter() - started


class Timed:
    """Stands in for an object; the milliseconds that one of its methods takes are noted each time it is called."""

    def __init__(self, inner: Any, method: str, note: Callable[[float], None]) -> None:
        self._inner, self._method, self._note = inner, method, note

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._method:
            return found

        def call(*args: Any) -> Any:
            started = time.perf_counter()
            result = found(*args)
            self._note(1000 * (time.perf_counter() - started))
            return result

        return call


def measure(monitor: Monitor, waiting: list, n: int) -> dict[str, Any]:
    """Milliseconds of each update and of the parts inside that same update, n sessions after a warm-up.

    `sessions` is how many the figures rest on; `p99` of fewer than a hundred is their maximum or nearly so. Raises
    ValueError when fewer sessions wait, and AssertionError when the parts of an update take longer than all of it.
    """
    if len(waiting) < n + WARM:
        raise ValueError(f"{len(waiting)} sessions wait, {n + WARM} are needed: ask for {len(waiting) - WARM} at most")
    times: dict[str, list[float]] = {}

    def clock(name: str, inner: Any, method: str) -> Any:
        return Timed(inner, method, times.setdefault(name, []).append)

    timed = replace(
        monitor,
        gate=clock("checks", monitor.gate, "admit"),
        stream=clock("29 features", monitor.stream, "advance"),
        methods={name: clock(name, method, "advance") for name, method in monitor.methods.items()},
    )
    whole = times.setdefault(WHOLE, [])
    for session in tqdm(waiting[: n + WARM], desc=f"{len(monitor.gate.tickers)} stocks", unit="session"):
        started = time.perf_counter()
        timed.update(session)
        whole.append(1000 * (time.perf_counter() - started))
    kept = {name: np.array(values[WARM:]) for name, values in times.items()}
    parts = np.sum([values for name, values in kept.items() if name != WHOLE], axis=0)
    assert (parts <= kept[WHOLE]).all(), "the parts of an update took longer than all of it"
    figures = {name: {"median": float(np.median(v)), "p99": float(np.percentile(v, 99))} for name, v in kept.items()}
    assert all(figures[name][q] <= figures[WHOLE][q] for name in figures for q in ("median", "p99"))
    return {"sessions": n, "milliseconds": figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sessions", type=int, nargs=2, default=list(SIZES.values()), help="timed at 100 and 1,000 stocks"
    )
    parser.add_argument("--small", action="store_true", help="a tiny market, nothing is written")
    args = parser.parse_args()
    sizes, base = ({14: 3, 28: 3}, 14) if args.small else (dict(zip(SIZES, args.sessions, strict=True)), BASE)
    device = f"{os.cpu_count()} {platform.machine()} cores, {torch.get_num_threads()} threads"
    found: dict[str, Any] = {"device": device, "torch": torch.__version__, "stocks": {}}
    for stocks, n in sizes.items():
        epochs = EPOCHS.get(stocks, 1)
        monitor, waiting, seconds = prepared(stocks, base, n, epochs)
        start = {"start_seconds": round(seconds, 1), "memstream_epochs": epochs}
        found["stocks"][str(stocks)] = start | measure(monitor, waiting, n)
    found["load"] = round(os.getloadavg()[0], 1)
    for stocks, part in found["stocks"].items():
        print(f"  {stocks:>5} stocks  start {part['start_seconds']} s, then {part['sessions']} sessions")
        for name, t in part["milliseconds"].items():
            print(f"  {stocks:>5} stocks  {name:<20} median {t['median']:9.1f} ms   99% {t['p99']:9.1f} ms")
    if not args.small:
        for part in found["stocks"].values():
            for t in part["milliseconds"].values():
                t.update({k: float(f"{v:.3g}") for k, v in t.items()})
        write_json(REPORT, found)


if __name__ == "__main__":
    sys.exit(main())
