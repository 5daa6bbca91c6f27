"""After each close: `python -m anomaly_routing.watch --prices FOLDER --model us100/intended`.

Takes the sessions of the folder that it has not seen yet, one at a time, prints a line for each and appends alerts as
JSON lines. What it remembers lies in the folder `--state`; a run that was killed goes on where it was, and no alert is
lost or written twice. What is fitted on the first start is kept there too and never fitted again. A price of the last
22 sessions that the source has corrected since, or a row that came late, stops it, with day and stock; a correction
older than that it cannot see. It says what is unusual by the standards of the past. It is not investment advice.

`--model` names a market of this repository and a preset: its checkpoint and run in `reports/<market>`, its calendar,
splits and selection of stocks in the market's params.yaml. The folder must hold the market's history from before its
training on: scaling and thresholds are computed from it on the first start.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from anomaly_routing.data.sources import MarketData, load_folder
from anomaly_routing.data.universe import GICS_SECTORS
from anomaly_routing.errors import MarketDataError
from anomaly_routing.files import replacing, write_json
from anomaly_routing.model.checkpoints import load_checkpoint
from anomaly_routing.model.errors import TrainingError
from anomaly_routing.model.network import Network
from anomaly_routing.panel import Splits
from anomaly_routing.paths import MarketPaths, repository
from anomaly_routing.realtime.alerts import AlertLog, alerts_of, highest
from anomaly_routing.realtime.monitor import Monitor, Report
from anomaly_routing.realtime.prepare import METHODS, fit_methods, read_history, start_monitor, trained_model
from anomaly_routing.realtime.sessions import replay

ADVICE = "Unusual is not good or bad, and not a forecast: this is not investment advice."
STATE, FITTED, ALERTS, START = "state.npz", "fitted.pkl", "alerts.jsonl", "start.json"
EPOCHS = 100


def watch(
    prices: Path,
    model: str,
    state: Path,
    *,
    methods: tuple[str, ...],
    root: Path,
    until: str = "",
    epochs: int = EPOCHS,
) -> list[Report]:
    """Take in every session of the folder that the state has not seen; returns their reports.

    until : stop after this session. epochs : cap of MemStream's fit, on the first start. Raises MarketDataError,
    TrainingError or FileNotFoundError; the state is then that of the last session taken in.
    """
    started = time.monotonic()
    name, _, preset = model.partition("/")
    params = market_params(name, root)
    market = load_folder(prices, **door(params))
    for warning in market.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if (state / STATE).exists():
        monitor, mechanisms = resumed(market, state, checkpoint_of(params, preset, root), methods)
    else:
        monitor, mechanisms = prepared(market, params, checkpoint_of(params, preset, root), methods, root, epochs)
        put_away(monitor, mechanisms, state)
    log, reports = AlertLog(state / ALERTS), []
    print(f"ready after {time.monotonic() - started:.0f} s, at {monitor.state.last:%Y-%m-%d}", file=sys.stderr)
    waiting = [s for s in replay(market.prices, monitor.state.last) if not until or s.date <= pd.Timestamp(until)]
    for session in waiting:
        report = monitor.update(session)
        new = log.append(alerts_of(report, monitor.gate.tickers, mechanisms))
        monitor.save(state / STATE)
        reports.append(report)
        print(line(report, monitor.gate.tickers, len(new)), flush=True)
    return reports


def market_params(name: str, root: Path) -> dict[str, Any]:
    """The parameters of a market of this repository."""
    file = root / ("params.yaml" if name == "simulated" else f"markets/{name}/params.yaml")
    if not file.exists():
        raise FileNotFoundError(f"{file} is not there: name a market of this repository, such as us100/intended")
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def door(params: dict[str, Any]) -> dict[str, Any]:
    """How the market's folder of prices is read."""
    data = params["data"]
    return {
        "calendar": params["market"]["calendar"],
        "select": data.get("select") or None,
        "sectors": data.get("sectors") or GICS_SECTORS,
    }


def checkpoint_of(params: dict[str, Any], preset: str, root: Path) -> Path:
    """The committed weights of a preset of the market. Raises FileNotFoundError for a preset without weights, whether
    or not the methods need them: the name was mistyped."""
    folder = MarketPaths(params["market"]["name"], root).checkpoints
    found = folder / f"{preset or 'intended'}.safetensors"
    if not found.exists():
        there = ", ".join(sorted(path.stem for path in folder.glob("*.safetensors"))) or "none"
        raise FileNotFoundError(f"{found} is not there; presets with weights: {there}")
    return found


def prepared(
    market: MarketData,
    params: dict[str, Any],
    checkpoint: Path,
    methods: tuple[str, ...],
    root: Path,
    epochs: int = EPOCHS,
) -> tuple[Monitor, list[str]]:
    """A monitor that stands at the end of the validation split, and the names of the four mechanisms."""
    splits, paths = Splits(**params["market"]["splits"]), MarketPaths(params["market"]["name"], root)
    until = market.sessions[market.sessions <= pd.Timestamp(splits.val_end)]
    if not len(until) or market.sessions[0] > pd.Timestamp(splits.first_session):
        rule = f"the folder begins {market.sessions[0]:%Y-%m-%d}, the training on {splits.first_session}"
        raise MarketDataError("prices", "-", rule, "bring the whole history: scaling and thresholds come from it")
    history = read_history(market, splits, until[-1])
    fitted = fit_methods([m for m in methods if m != "model"], history, epochs=epochs)
    if "model" in methods:
        fitted["model"] = trained_model(checkpoint, paths.reports / "runs" / "model", history)
    named = f"{paths.name}/{checkpoint.name}"
    return start_monitor(history, fitted, params["market"]["calendar"], named), list(dict.fromkeys(history.panel.group))


def put_away(monitor: Monitor, mechanisms: list[str], state: Path) -> None:
    """Keep what was fitted: a fit on prices that a dividend has rescaled since would be another one."""
    state.mkdir(parents=True, exist_ok=True)
    write_json(state / START, {"model": monitor.model, "note": ADVICE, "from": f"{monitor.state.last:%Y-%m-%d}"})
    with replacing(state / FITTED) as partial:
        partial.write_bytes(pickle.dumps((replace(monitor, state=None), mechanisms)))


def resumed(market: MarketData, state: Path, checkpoint: Path, methods: tuple[str, ...]) -> tuple[Monitor, list[str]]:
    """The fitted parts and the saved state, after what has rescaled the past since then.

    Raises MarketDataError when they do not belong together, to these methods, stocks and weights, or when the past has
    been corrected.
    """
    anew = f"delete {state} to start anew"
    try:
        monitor, mechanisms = pickle.loads((state / FITTED).read_bytes())  # written by `put_away`, by nobody else
    except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError) as error:
        raise MarketDataError(state / FITTED, "-", f"no readable fitted parts ({error})", anew) from error
    wanted = {
        "methods": (sorted(monitor.methods), sorted(methods)),
        "stocks": (monitor.gate.tickers, market.universe["ticker"].tolist()),
        "model": (monitor.model, f"{checkpoint.parent.parent.name}/{checkpoint.name}"),
    }
    if different := [name for name, (kept, asked) in wanted.items() if kept != asked]:
        raise MarketDataError(state, "-", f"the state is of other {', '.join(different)}", anew)
    if "model" in methods and not same_weights(monitor.methods["model"].net, checkpoint):
        raise MarketDataError(checkpoint, "-", "its weights are not those that the state was made with", anew)
    if "shares_outstanding" in market.universe:  # a split moves them, so they are read anew
        shares = market.universe["shares_outstanding"].to_numpy(float)
        monitor = replace(monitor, stream=replace(monitor.stream, shares=shares))
    monitor.restore(state / STATE)
    seen = market.prices[market.prices["date"] <= monitor.state.last]
    if not len(seen) or market.sessions[-1] < monitor.state.last:
        rule = f"the folder ends {market.sessions[-1]:%Y-%m-%d}, the state {monitor.state.last:%Y-%m-%d}"
        raise MarketDataError("prices", "-", rule, "bring the newer prices")
    for change in monitor.rebase(seen):
        print(f"changed in the source since: {change}", file=sys.stderr)
    return monitor, mechanisms


def same_weights(net: Network, checkpoint: Path) -> bool:
    """Whether a network is that of the checkpoint file, to the last bit."""
    theirs = load_checkpoint(checkpoint)[0].state_dict()
    return all(torch.equal(values, theirs[name]) for name, values in net.state_dict().items())


def line(report: Report, tickers: list[str], new_alerts: int) -> str:
    """One session in one line: the levels of all methods, MPI and routing of the model, its highest stocks, flags."""
    levels = " ".join(f"{name} L{v.level}{'!' if v.alarm else ' '}" for name, v in report.verdicts.items())
    parts = [f"{report.date:%Y-%m-%d}", levels]
    if model := report.verdicts.get("model"):
        weights = model.routing[report.active].mean(axis=0)
        parts += [f"MPI {model.mpi:.3f}", "routing " + " ".join(f"{w:.2f}" for w in weights)]
        parts.append("top " + " ".join(highest(model, tickers, 3)))
    parts += [f"alerts {new_alerts}"] * (new_alerts > 0) + [f"flags: {'; '.join(report.flags)}"] * bool(report.flags)
    return " | ".join(parts)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=ADVICE)
    parser.add_argument("--prices", type=Path, required=True, help="folder with prices and universe, whole history")
    parser.add_argument("--model", required=True, help="market and preset, such as us100/intended")
    parser.add_argument("--state", type=Path, help="what it remembers; default: data/watch/<market>")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"with commas; default: {','.join(METHODS)}")
    parser.add_argument("--until", default="", help="stop after this session")
    args = parser.parse_args(argv)
    methods = tuple(dict.fromkeys(m for m in args.methods.split(",") if m))
    if not methods:
        parser.error(f"--methods is empty; there are: {', '.join(METHODS)}")
    if unknown := [m for m in methods if m not in METHODS]:
        parser.error(f"no method {', '.join(unknown)}; there are: {', '.join(METHODS)}")
    root = repository()
    state = args.state or root / "data" / "watch" / args.model.partition("/")[0]
    print(ADVICE, flush=True)
    try:
        watch(args.prices, args.model, state, methods=methods, root=root, until=args.until)
    except (MarketDataError, TrainingError, FileNotFoundError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
