"""Markets beside the default one; behind `make market`, `make us100` and the cost line of `make reproduce`.

`python -m anomaly_routing.markets create` takes a folder of prices through the door, copies it to `data/raw/<name>` and
writes `markets/<name>/params.yaml` and `dvc.yaml` from those in the root. `... markets cost` says what a run will take,
scaled from the last `make bench`.
"""

from __future__ import annotations

import argparse
import copy
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from anomaly_routing.data.calendars import FROM_DATA
from anomaly_routing.data.calendars import sessions as calendar_sessions
from anomaly_routing.data.load import load_source
from anomaly_routing.data.sources import MarketData
from anomaly_routing.data.tables import find_file, read_table
from anomaly_routing.errors import MarketDataError
from anomaly_routing.evaluation.events import load_events
from anomaly_routing.files import read_json, replacing
from anomaly_routing.panel import BURN_IN, Splits
from anomaly_routing.paths import repository

RAW_FILES = ("prices", "universe", "benchmarks", "events")
DATA = {"source": "folder", "select": "", "sectors": [], "events": ""}
XNYS_SHARE = 0.99
HISTORY = 126  # sessions of history before the first sample, when there are that many to spare
TRAIN_SHARE, VAL_SESSIONS, TEST_SHARE = 0.618, 251, 0.255  # the paper's split (4.1)
MIN_SESSIONS = 500
TRAINED = ("deep_baselines", "model")  # stages whose time goes with epochs
SAFE_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
MEASURED = Path("benchmarks") / "measured.json"


def default_splits(days: pd.DatetimeIndex) -> Splits:
    """The paper's shares on any span: about 62% training, a year of validation (or 12.7%), 25.5% test.

    Raises ValueError for fewer than 500 sessions: the windows, a year of validation and a test need that many.
    """
    if len(days) < MIN_SESSIONS:
        raise ValueError(f"{len(days)} sessions are too few: at least {MIN_SESSIONS} are needed")
    first = min(HISTORY, len(days) // 10)
    scored = len(days) - first - BURN_IN
    test, val = round(TEST_SHARE * scored), min(VAL_SESSIONS, round((1 - TRAIN_SHARE - TEST_SHARE) * scored))
    ends = days[[first, -test - val - 1, -test - 1, -1]]
    return Splits(*(f"{day:%Y-%m-%d}" for day in ends))


def guess_calendar(folder: Path) -> str:
    """XNYS when at least 99% of the dates in the prices are its sessions, `from_data` otherwise.

    A stray date or two leave a market XNYS, and the door names their rows. Other exchanges that trade Monday to Friday
    share 96.6% (Tokyo) to 98.2% (Toronto) of their dates with it. Prices whose dates cannot be read give XNYS too: the
    door will say what is wrong with them.
    """
    try:
        path = find_file(folder, "prices")
        if path is None:
            return "XNYS"
        table = read_table(path)
        table.require(["date"])
        days = pd.DataFrame({"date": table.dates("date").unique()})
        known = calendar_sessions("XNYS", days)
    except MarketDataError:
        return "XNYS"
    return "XNYS" if days["date"].isin(known).mean() >= XNYS_SHARE else FROM_DATA


def market_params(base: dict[str, Any], name: str, market: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """The root's parameters with this market's own `market` and `data` sections."""
    params = copy.deepcopy(base)
    params["params_file"] = f"markets/{name}/params.yaml"
    params["market"] = {"name": name, "tier": base["market"]["tier"]} | market
    params["data"] = data
    return params


def market_pipeline(base: dict[str, Any], name: str, events: str = "") -> dict[str, Any]:
    """The root's stages, run from the root; the raw prices and the events file are further inputs of the first."""
    pipeline = copy.deepcopy(base)
    for stage in pipeline["stages"].values():
        stage["wdir"] = "../.."
    inputs, raw = pipeline["stages"]["data"]["deps"], f"data/raw/{name}"
    inputs.append(raw)
    if events and events not in inputs and not Path(events).is_relative_to(raw):
        inputs.append(events)
    return pipeline


def write_market(root: Path, params: dict[str, Any]) -> Path:
    """Write markets/<name>/params.yaml and dvc.yaml; returns the folder."""
    name = params["market"]["name"]
    folder = root / "markets" / name
    pipeline = market_pipeline(_read_yaml(root / "dvc.yaml"), name, params["data"]["events"])
    for filename, content in {"params.yaml": params, "dvc.yaml": pipeline}.items():
        text = yaml.safe_dump(content, sort_keys=False, default_flow_style=False, width=120, allow_unicode=True)
        head = "# Written by `make market` from the root's file; edit params.yaml, not dvc.yaml.\n"
        with replacing(folder / filename) as partial:
            partial.write_text(head + text, encoding="utf-8")
    return folder


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise MarketDataError(path, "-", f"not valid YAML ({' '.join(str(error).split())})", "repair it") from error


def copy_raw(source: Path, target: Path) -> None:
    """Copy the known files of a price folder, all or none; other files stay behind."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        if (target / "yahoo").is_dir():  # answers that were downloaded before
            shutil.copytree(target / "yahoo", partial / "yahoo")
        for path in sorted(source.iterdir()):
            if path.stem in RAW_FILES and path.suffix in {".parquet", ".csv", ".yaml"}:
                shutil.copyfile(path, partial / path.name)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def create(
    name: str,
    prices: Path,
    *,
    root: Path | None = None,
    calendar: str | None = None,
    splits: Splits | None = None,
    **data: Any,
) -> MarketData:
    """Check a folder of prices, bring it in and write the market's pipeline.

    Parameters
    ----------
    name : small letters, digits and _.
    prices : folder with prices and universe; with `source="yahoo"` the universe alone is enough.
    calendar : a name of exchange_calendars or from_data; guessed when left out.
    splits : of a market that has none yet; default `default_splits`.
    data : entries of the market's `data` section: source, select, sectors, events (a path from the repository's root;
        left out, the events.yaml in the folder), start, end. What is empty is as not given.

    What is given here wins over an existing `markets/<name>/params.yaml`; its other values are kept, because they may
    be the user's own choices. Raises MarketDataError for prices or events that break the contract, and ValueError for a
    name that cannot be a folder name; nothing is written then, but that answers which yahoo had downloaded stay in
    `data/raw/<name>/yahoo`, so that the next call goes on from there.
    """
    root = root or repository()
    if not SAFE_NAME.fullmatch(name) or name == "simulated":
        raise ValueError(f"{name!r} cannot name a market: small letters, digits and _ only, and not 'simulated'")
    raw = root / "data" / "raw" / name
    params = _choose(root, name, prices, calendar, {key: value for key, value in data.items() if value})
    market = _load(params, prices, answers=raw / "yahoo")
    if not params["market"]["splits"]:
        try:
            params["market"]["splits"] = dict((splits or default_splits(market.sessions)).__dict__)
        except ValueError as error:
            raise MarketDataError(prices, "-", str(error), "bring a longer history") from error
    _check_events(params, root, prices, market.sessions)
    copy_raw(prices, raw)
    write_market(root, params)
    return market


def _choose(root: Path, name: str, prices: Path, calendar: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The market's parameters: the root's, then what its own file says, then what is given now."""
    file = root / "markets" / name / "params.yaml"
    own = _read_yaml(file) if file.exists() else {}
    fresh = market_params(_read_yaml(root / "params.yaml"), name, {"calendar": "", "splits": {}}, {})
    params = _keep_choices(fresh, own)
    kept = {key: value for key, value in (own.get("data") or {}).items() if key in (*DATA, "start", "end") and value}
    params["data"] = copy.deepcopy(DATA) | kept | given
    if not params["data"]["events"] and (prices / "events.yaml").exists():
        params["data"]["events"] = f"data/raw/{name}/events.yaml"
    params["params_file"] = fresh["params_file"]  # the market's own, even in a file copied from another
    params["market"] |= {"name": name, "calendar": calendar or params["market"]["calendar"] or guess_calendar(prices)}
    return params


def _keep_choices(fresh: dict[str, Any], existing: dict[str, Any]) -> dict[str, Any]:
    """`fresh`, with the values that `existing` has for the same keys; keys that are gone stay gone."""
    return {
        key: _keep_choices(value, existing[key])
        if isinstance(value, dict) and value and isinstance(existing.get(key), dict)
        else existing.get(key, value)
        for key, value in fresh.items()
    }


def _load(params: dict[str, Any], folder: Path, answers: Path | None = None) -> MarketData:
    """The market that a parameter file describes, from a folder of prices."""
    source = {key: value for key, value in params["data"].items() if key != "events"}
    calendar = params["market"]["calendar"]
    return load_source(source.pop("source"), folder, calendar=calendar, answers=answers, **source)[0]


def _check_events(params: dict[str, Any], root: Path, prices: Path, days: pd.DatetimeIndex) -> None:
    """Raise MarketDataError if the market's events file is missing or not a list of events on its sessions."""
    name, events = params["market"]["name"], params["data"]["events"]
    if not events:
        return
    raw = f"data/raw/{name}"  # written anew from the folder of prices, so it is the folder's file that counts
    file = prices / Path(events).relative_to(raw) if Path(events).is_relative_to(raw) else root / events
    if not file.is_file():
        remedy = f"put it there, or name another: EVENTS=<file>, or `events` in markets/{name}/params.yaml"
        raise MarketDataError(file, "-", "no such events file", remedy)
    load_events(file, days, Splits(**params["market"]["splits"]))


def cost(params: dict[str, Any], root: Path) -> str:
    """One line a stage: about how long, from the last `make bench`, in proportion to stock-sessions."""
    measured = root / MEASURED
    if not measured.exists():
        return "no measurement yet (make bench writes one): the cost of this run is unknown"
    bench = read_json(measured)["stages"]
    cells = _cells(params, root)
    seconds = stage_seconds(bench["seconds"], cells, params, root)
    lines, total = [f"  {stage:<10} about {s / 60:5.1f} min" for stage, s in seconds.items()], sum(seconds.values())
    size = f"market {params['market']['name']}: {cells:,} stock-sessions"
    memory = bench["memory_gib"]["fixed"] + bench["memory_gib"]["per_million_cells"] * cells / 1e6
    when = f"on {bench['device']} if nothing is stored yet, one stage after the other"
    return "\n".join([f"{size}, about {total / 60:.1f} min {when}, {memory:.1f} GiB at most", *lines])


def stage_seconds(timings: dict[str, Any], cells: int, params: dict[str, Any], root: Path) -> dict[str, float]:
    """Seconds of each stage by what `make bench` measured on the default market: in proportion to stock-sessions, and
    for the stages that train to epochs of training as well."""
    seconds = {s: t["fixed"] + t["per_million_cells"] * cells / 1e6 for s, t in timings.items()}
    for stage in TRAINED:
        if stage in seconds and stage in params:
            seconds[stage] *= _epochs(params[stage]) / _epochs(_read_yaml(root / "params.yaml")[stage])
    return seconds


def _epochs(own: dict[str, Any]) -> int:
    """Epochs of all trainings of a stage, if each runs to its cap."""
    return sum(len(job["seeds"]) * (own["training"] | job.get("training", {}))["epochs"] for job in own["jobs"])


def _cells(params: dict[str, Any], root: Path) -> int:
    """Stocks times sessions."""
    data = params["data"]
    if data["source"] == "simulated":
        return data["n_stocks"] * data["n_sessions"]
    market = _load(params, root / "data" / "raw" / params["market"]["name"])
    return len(market.universe) * len(market.sessions)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("create")
    new.add_argument("--name", required=True)
    new.add_argument("--prices", type=Path, required=True)
    new.add_argument("--calendar", help="a name of exchange_calendars, or from_data; guessed when left out")
    new.add_argument("--select", help="a true/false column of the universe: only its true rows")
    new.add_argument("--source", choices=("folder", "yahoo"), help="default: the prices in the folder")
    new.add_argument("--start", help="first date to ask yahoo for, 2016-07-01")
    new.add_argument("--end", help="last date to ask yahoo for")
    new.add_argument("--events", help="an events file; default: events.yaml in the folder")
    new.add_argument("--sectors", type=_names, help="own sector names, with commas; default: GICS")
    price = commands.add_parser("cost")
    price.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
    try:
        if args.command == "cost":
            print(cost(_read_yaml(args.params), repository()), flush=True)
        else:
            _report(args)
    except (ValueError, OSError, ImportError) as error:  # MarketDataError is a ValueError
        sys.exit(str(error))


def _names(text: str) -> list[str]:
    """`"A, B"` as `["A", "B"]`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _report(args: argparse.Namespace) -> None:
    """Create a market from the command's options and say what came of it."""
    options = {key: value for key, value in vars(args).items() if key not in ("command", "name", "prices")}
    market = create(args.name, args.prices, splits=Splits() if args.name == "us100" else None, **options)
    for warning in market.warnings:
        print(f"warning: {warning}")
    print(f"market {args.name}: {len(market.universe)} stocks, {len(market.sessions)} sessions, in markets/{args.name}")


if __name__ == "__main__":
    main()
