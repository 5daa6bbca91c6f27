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

from anomaly_routing.data.calendars import sessions as calendar_sessions
from anomaly_routing.data.load import load_source
from anomaly_routing.data.sources import MarketData
from anomaly_routing.data.tables import find_file, read_table
from anomaly_routing.errors import MarketDataError
from anomaly_routing.files import read_json, replacing
from anomaly_routing.panel import BURN_IN, Splits
from anomaly_routing.paths import repository

RAW_FILES = ("prices", "universe", "benchmarks", "events")
HISTORY = 126  # sessions of history before the first sample, when there are that many to spare
TRAIN_SHARE, VAL_SESSIONS, TEST_SHARE = 0.618, 251, 0.255  # the paper's split (4.1)
MIN_SESSIONS = 500
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
    """XNYS when every date of the prices is one of its sessions, `from_data` otherwise."""
    path = find_file(folder, "prices")
    try:
        dates = read_table(path).dates("date") if path else pd.Series(dtype="datetime64[ns]")
        known = calendar_sessions("XNYS", pd.DataFrame({"date": dates}))
    except (MarketDataError, ValueError):  # the door will say what is wrong
        return "XNYS"
    return "XNYS" if dates.isin(known).all() else "from_data"


def market_params(base: dict[str, Any], name: str, market: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """The root's parameters with this market's own `market` and `data` sections."""
    params = copy.deepcopy(base)
    params["params_file"] = f"markets/{name}/params.yaml"
    params["market"] = {"name": name, "tier": base["market"]["tier"]} | market
    params["data"] = data
    return params


def market_pipeline(base: dict[str, Any], name: str) -> dict[str, Any]:
    """The root's stages, run from the root, with the raw prices as a further input of the first."""
    pipeline = copy.deepcopy(base)
    for stage in pipeline["stages"].values():
        stage["wdir"] = "../.."
    pipeline["stages"]["data"]["deps"].append(f"data/raw/{name}")
    return pipeline


def write_market(root: Path, params: dict[str, Any]) -> Path:
    """Write markets/<name>/params.yaml and dvc.yaml; returns the folder."""
    name = params["market"]["name"]
    base = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    folder = root / "markets" / name
    for filename, content in {"params.yaml": params, "dvc.yaml": market_pipeline(base, name)}.items():
        with replacing(folder / filename) as partial:
            text = yaml.safe_dump(content, sort_keys=False, default_flow_style=False, width=120, allow_unicode=True)
            partial.write_text(
                "# Written by `make market` from the root's file; edit params.yaml, not dvc.yaml.\n" + text
            )
    return folder


def copy_raw(source: Path, target: Path) -> None:
    """Copy the known files of a price folder, all or none; other files stay behind."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if (target / "yahoo").is_dir():  # answers that were downloaded before
        shutil.copytree(target / "yahoo", partial / "yahoo")
    for path in sorted(source.iterdir()):
        if path.stem in RAW_FILES and path.suffix in {".parquet", ".csv", ".yaml"}:
            shutil.copyfile(path, partial / path.name)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


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
    splits : default `default_splits`.
    data : entries of the market's `data` section: source, select, sectors, events, start, end. None is as not given.

    Values in an existing `markets/<name>/params.yaml` are kept: they may be the user's own choices. Raises
    MarketDataError for prices that break the contract and ValueError for a name that cannot be a folder name.
    """
    root = root or repository()
    if not SAFE_NAME.fullmatch(name) or name == "simulated":
        raise ValueError(f"{name!r} cannot name a market: small letters, digits and _ only, and not 'simulated'")
    raw = root / "data" / "raw" / name
    own_events = f"data/raw/{name}/events.yaml" if (prices / "events.yaml").exists() else ""
    given = {key: value for key, value in data.items() if value}
    params = market_params(
        yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")),
        name,
        {"calendar": calendar or guess_calendar(prices), "splits": {}},
        {"source": "folder", "select": "", "sectors": [], "events": own_events} | given,
    )
    params_file = root / "markets" / name / "params.yaml"
    if params_file.exists():
        params = _keep_choices(params, yaml.safe_load(params_file.read_text(encoding="utf-8")))
    if params["data"]["source"] == "yahoo":  # what is downloaded is kept beside the universe
        copy_raw(prices, raw)
        market = _load(params, raw)
    else:
        market = _load(params, prices)
    if not params["market"]["splits"]:
        try:
            params["market"]["splits"] = dict((splits or default_splits(market.sessions)).__dict__)
        except ValueError as error:
            raise MarketDataError(prices, "-", str(error), "bring a longer history") from error
    if params["data"]["source"] != "yahoo":
        copy_raw(prices, raw)
    write_market(root, params)
    return market


def _load(params: dict[str, Any], raw: Path) -> MarketData:
    """The market that a parameter file describes, from its raw folder."""
    source = {key: value for key, value in params["data"].items() if key != "events"}
    return load_source(source.pop("source"), raw, calendar=params["market"]["calendar"], **source)[0]


def _keep_choices(fresh: dict[str, Any], existing: dict[str, Any]) -> dict[str, Any]:
    """`fresh`, with the values that `existing` has for the same keys; keys that are gone stay gone."""
    return {
        key: _keep_choices(value, existing[key])
        if isinstance(value, dict) and value and isinstance(existing.get(key), dict)
        else existing.get(key, value)
        for key, value in fresh.items()
    }


def cost(params: dict[str, Any], root: Path) -> str:
    """One line a stage: about how long, from the last `make bench`, in proportion to stock-sessions."""
    measured = root / MEASURED
    if not measured.exists():
        return "no measurement yet (make bench writes one): the cost of this run is unknown"
    bench = read_json(measured)["stages"]
    cells = _cells(params, root)
    lines, total = [], 0.0
    for stage, timing in bench["seconds"].items():
        seconds = timing["fixed"] + timing["per_million_cells"] * cells / 1e6
        total += seconds
        lines.append(f"  {stage:<10} about {seconds / 60:5.1f} min")
    size = f"market {params['market']['name']}: {cells:,} stock-sessions"
    memory = bench["memory_gib"]["fixed"] + bench["memory_gib"]["per_million_cells"] * cells / 1e6
    head = f"{size}, about {total / 60:.1f} min on {bench['device']} if nothing is stored yet, {memory:.1f} GiB at most"
    return "\n".join([head, *lines])


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
    new.add_argument("--events", help="an events file; default: events.yaml in the folder")
    new.add_argument(
        "--sectors", type=lambda text: text.split(","), help="own sector names, with commas; default: GICS"
    )
    price = commands.add_parser("cost")
    price.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
    root = repository()
    if args.command == "cost":
        print(cost(yaml.safe_load(args.params.read_text(encoding="utf-8")), root), flush=True)
        return
    splits = Splits() if args.name == "us100" else None
    try:
        options = {key: value for key, value in vars(args).items() if key not in ("command", "name", "prices")}
        market = create(args.name, args.prices, splits=splits, **options)
    except (MarketDataError, ValueError) as error:
        sys.exit(str(error))
    for warning in market.warnings:
        print(f"warning: {warning}")
    print(f"market {args.name}: {len(market.universe)} stocks, {len(market.sessions)} sessions, in markets/{args.name}")


if __name__ == "__main__":
    main()
