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
SIZES = {100: 100, 1000: 20}  # stocks -> sessions timed
BASE, HISTORY, WARM = 100, 500, 2


def copies(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """The same stocks several times, under new tickers."""
    return pd.concat([table.assign(ticker=table["ticker"] + f"_{k}") for k in range(n)], ignore_index=True)


def prepared(stocks: int, base: int, sessions: int) -> tuple[Monitor, list]:
    """A monitor at the end of validation and the sessions that wait."""
    drawn = simulate_market(n_stocks=base, n_sessions=sessions, with_events=False)
    market = MarketData(copies(drawn.prices, stocks // base), copies(drawn.universe, stocks // base))
    splits = Splits(**default_splits(sessions).__dict__)
    history = read_history(market, splits, market.sessions[market.sessions <= splits.val_end][-1])
    fitted = fit_methods(FITTED, history, epochs=1)
    torch.manual_seed(0)
    dummy = Calibration(1.0, 1.0, 0.9, np.array([0.2, 0.3, 0.4, 0.5]), 0.9)
    fitted["model"] = (model_method(build_model("intended"), history), dummy)
    return start_monitor(history, fitted, "XNYS"), list(replay(market.prices, history.panel.sessions[-1]))


def measure(monitor: Monitor, waiting: list, n: int) -> dict[str, Any]:
    """Milliseconds of each part and of the whole update, a session at a time, after a warm-up."""
    times: dict[str, list[float]] = {}

    def timed(name: str, action):
        started = time.perf_counter()
        result = action()
        times.setdefault(name, []).append(1000 * (time.perf_counter() - started))
        return result

    for k, session in enumerate(tqdm(waiting[: n + WARM], desc=f"{len(monitor.gate.tickers)} stocks", unit="session")):
        old = monitor.state
        present = np.isfinite(old.close)
        bar = timed(
            "checks", lambda s=session, o=old, p=present: monitor.gate.admit(s, o.last, o.close, o.adjusted, p)
        ).bar
        row = timed("29 features", lambda o=old, b=bar: monitor.stream.advance(o.features, b))[1]
        for name, method in monitor.methods.items():
            timed(name, lambda m=method, o=old, r=row, i=name: m.advance(o.methods[i], r))
        timed("update, all of it", lambda s=session: monitor.update(s))
        if k < WARM:
            times.clear()
    parts = {name: {"median": float(np.median(t)), "p99": float(np.percentile(t, 99))} for name, t in times.items()}
    return {"sessions": len(times["checks"]), "milliseconds": parts}


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
        found["stocks"][str(stocks)] = measure(*prepared(stocks, base, HISTORY), n)
    found["load"] = round(os.getloadavg()[0], 1)
    for stocks, part in found["stocks"].items():
        for name, t in part["milliseconds"].items():
            print(f"  {stocks:>5} stocks  {name:<20} median {t['median']:9.1f} ms   99% {t['p99']:9.1f} ms")
    if not args.small:
        for part in found["stocks"].values():
            for t in part["milliseconds"].values():
                t.update({k: float(f"{v:.3g}") for k, v in t.items()})
        write_json(REPORT, found)


if __name__ == "__main__":
    sys.exit(main())
