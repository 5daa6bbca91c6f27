"""A tiny market with a catalogue of three trainings, and orders to sweep it."""

from __future__ import annotations

from pathlib import Path

import yaml

from anomaly_routing.dispatch import Plan
from anomaly_routing.runs import read_run
from tests.conftest import ROOT
from tests.model.small_networks import SMALL, small_tensors

NAMES = ["full", "no_mpi", "no_moe", "fast_scalars"]
RUNS = ["full", "no_moe", "fast_scalars"]  # those with a training of their own


def small_market(folder: Path) -> Path:
    """The folder with a tiny market and a catalogue of three trainings."""
    small_tensors().save(folder / "tensors.npz")
    content = yaml.safe_load((ROOT / "variants.yaml").read_text())
    content["variants"] = {name: content["variants"][name] for name in NAMES}
    content["tables"] = {"table2": {"T2.full": "full", "T2.no_mpi": "no_mpi", "T2.no_moe": "no_moe"}}
    training = {"epochs": 4, "batch_sessions": 8}
    content["tiers"] = {"tiny": {"seeds": 2, "model": SMALL, "training": training}}
    (folder / "variants.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def plan(market: Path, out: Path, **changes) -> Plan:
    return Plan(market / "tensors.npz", market / "variants.yaml", out, out / "unfinished", "tiny", "cpu", **changes)


def command(market: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--market", "m", "--tensors", str(market / "tensors.npz"), "--tier", "tiny", "--device", "cpu"),
        *("--variants-file", str(market / "variants.yaml"), "--store", str(out), "--scratch", str(out / "unfinished")),
        *("--threads", "1", *more),
    ]


def content(out: Path) -> dict[str, bytes]:
    """File name -> the series of the run: what two stores with the same runs have in common."""
    return {path.name: read_run(path).daily.to_numpy().tobytes() for path in sorted(out.glob("*.npz"))}
