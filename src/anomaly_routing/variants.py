"""Ablations and sensitivity cells as data: `variants.yaml` read, checked and turned into jobs (SPEC 10, 11).

A variant is the full model with some keys of its configuration, its training or its data changed; nothing here or
elsewhere asks for a variant by name.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.model.config import PRESETS, make_config
from anomaly_routing.model.pressure_index import other_reading
from anomaly_routing.model.training import make_training
from anomaly_routing.panel import Splits
from anomaly_routing.paths import repository
from anomaly_routing.runs import Run
from anomaly_routing.tensors import Tensors
from anomaly_routing.train import Job

REFERENCE = "full"  # what every variant is compared with
SAYS = ("run", "channel", "index", "model", "training", "data")
CHANNELS = ("both", "score")  # score and pressure index, or the score alone
INDEX = ("mpi_c3", "mpi_c4")  # keys of the model that change the index alone
DATA = ("later", "without")
CLIP, MAD_TO_SD, MIN_TRAINING_ROWS = 8.0, 1.4826, 120  # of scaled features (SPEC 3)


@dataclass(frozen=True)
class Variant:
    """One named set of overrides. `run` names the variant whose training it shares, itself if it has its own.

    channel : of `CHANNELS`. index : "", or the part of the pressure index that is read as it is printed (`INDEX`).
    """

    name: str
    run: str
    channel: str = "both"
    index: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Catalogue:
    """All variants by name, the rows of each table as (claim, variant), what each tier lays over a variant, and how
    many seeds a tier has."""

    preset: str
    variants: dict[str, Variant]
    tables: dict[str, list[tuple[str, str]]]
    tiers: dict[str, dict[str, dict[str, Any]]]
    seeds: dict[str, int]

    def job(self, name: str, seed: int, tier: str) -> Job:
        """The training behind a variant; what the variant says itself wins over the tier."""
        variant = self.variants[self.variants[name].run]
        over = self.tiers[tier]
        return Job(
            self.preset,
            variant.name,
            seed,
            over.get("model", {}) | variant.model,
            over.get("training", {}) | variant.training,
        )


def read_catalogue(path: Path) -> Catalogue:
    """Raises ValueError, before anything runs, for a key that does not exist, a value that cannot be, overrides that
    contradict each other, a table row or a shared run that names an unknown variant."""
    content = _content(path)
    if unknown := sorted(set(content) - {"preset", "variants", "tables", "tiers"}):
        raise ValueError(f"{path}: no section is called {', '.join(unknown)}")
    preset = content["preset"]
    if preset not in PRESETS:
        raise ValueError(f"{path}: no preset {preset!r}; there are: {', '.join(PRESETS)}")
    try:
        variants = {name: _variant(name, own or {}, preset) for name, own in content["variants"].items()}
        _check_runs(variants, preset)
        tables = {table: _rows(table, rows, variants) for table, rows in content["tables"].items()}
        tiers = {tier: _tier(tier, over or {}, preset) for tier, over in content["tiers"].items()}
        seeds = {tier: (over or {}).get("seeds", 1) for tier, over in content["tiers"].items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Catalogue(preset, variants, tables, tiers, seeds)


def _content(path: Path) -> dict[str, Any]:
    """Of a YAML file, or of a JSON one, which a machine without PyYAML can read."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    import yaml  # a machine that trains need not have it

    return yaml.safe_load(text)


def _variant(name: str, own: dict[str, Any], preset: str) -> Variant:
    if unknown := sorted(set(own) - set(SAYS)):
        raise ValueError(f"variant {name} says {', '.join(unknown)}; it can say {', '.join(SAYS)}")
    variant = Variant(name, own.get("run", name), **{k: v for k, v in own.items() if k != "run"})
    if variant.run != name and (variant.model or variant.training or variant.data):
        raise ValueError(f"variant {name} shares the run of {variant.run}, so it can change nothing of its own")
    if variant.channel not in CHANNELS:
        raise ValueError(f"variant {name}: channel {variant.channel!r}; use {' or '.join(CHANNELS)}")
    if unknown := sorted(set(variant.data) - set(DATA)):
        raise ValueError(f"variant {name}: no data key {', '.join(unknown)}; there are: {', '.join(DATA)}")
    try:
        make_config(preset, **variant.model)
        make_training(**variant.training)
    except ValueError as error:
        raise ValueError(f"variant {name}: {error}") from error
    if "alpha_fixed" in variant.model and variant.model.get("alpha_rule") != "fixed":
        raise ValueError(f"variant {name}: alpha_fixed says nothing without alpha_rule: fixed")
    if (later := variant.data.get("later", 0)) and not (isinstance(later, int) and later > 0):
        raise ValueError(f"variant {name}: later is {later!r}; it must be a number of sessions")
    if (span := variant.data.get("without")) is not None:
        days = pd.to_datetime(pd.Series(span), errors="coerce")
        if len(days) != 2 or days.isna().any() or days[0] > days[1]:
            raise ValueError(f"variant {name}: without is {span!r}; it must be two dates in order")
    return variant


def _check_runs(variants: dict[str, Variant], preset: str) -> None:
    for variant in variants.values():
        other = variants.get(variant.run)
        if other is None or other.run != other.name:
            raise ValueError(f"variant {variant.name} shares the run of {variant.run}, which has none of its own")
        if not variant.index:
            continue
        config = make_config(preset, **other.model)
        parts = (config.mpi_c3, config.mpi_c4, config.mechanisms)
        if variant.index not in INDEX or other is variant or parts != ("double_std", "agreement", "four"):
            raise ValueError(
                f"variant {variant.name}: index is {variant.index!r}; it can be {' or '.join(INDEX)}, of the run of "
                "another variant that has four experts and the index of `intended`"
            )


def as_read(run: Run, variant: Variant) -> Run | None:
    """A run of `variant.run` as the variant reads it: with the other pressure index, if it names one.

    None where the run does not keep the parts that this index is made of.
    """
    if not variant.index:
        return run
    daily = run.daily.copy()
    for ending in ("", "@val"):
        names = [f"{part}{ending}" for part in ("mpi", "dispersion", "consensus")]
        if not set(names) <= set(daily):
            return None
        daily[names[0]] = other_reading(*(run.daily[name].to_numpy(float) for name in names), variant.index)
    return replace(run, daily=daily)


def _rows(table: str, rows: dict[str, Any], variants: dict[str, Variant]) -> list[tuple[str, str]]:
    found = [(claim, name) for claim, said in rows.items() for name in ([said] if isinstance(said, str) else said)]
    if unknown := sorted({name for _, name in found} - set(variants)):
        raise ValueError(f"{table} names unknown variants: {', '.join(unknown)}")
    return found


def _tier(tier: str, over: dict[str, Any], preset: str) -> dict[str, dict[str, Any]]:
    if unknown := sorted(set(over) - {"model", "training", "seeds"}):
        raise ValueError(f"tier {tier} says {', '.join(unknown)}; it can say model, training, seeds")
    if not (isinstance(over.get("seeds", 1), int) and over.get("seeds", 1) >= 1):
        raise ValueError(f"tier {tier}: seeds is {over['seeds']!r}; it must be an integer from 1 up")
    make_config(preset, **over.get("model", {}))
    make_training(**over.get("training", {}))
    return over


# --- data ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class SplitsWithout(Splits):
    """Splits whose training span has a hole: its sessions are scored, but nothing is fitted on them."""

    without_first: str = ""
    without_last: str = ""

    def train(self, sessions: pd.DatetimeIndex) -> np.ndarray:
        hole = (sessions >= pd.Timestamp(self.without_first)) & (sessions <= pd.Timestamp(self.without_last))
        return super().train(sessions) & ~np.asarray(hole)

    def scored(self, sessions: pd.DatetimeIndex) -> np.ndarray:
        return super().train(sessions) | self.val(sessions) | self.test(sessions)


def placed(tensors: Tensors, data: dict[str, Any]) -> Tensors:
    """The market with a variant's samples; features as they are, which is enough for the key of its run.

    later : the first sample ends so many sessions later. without : nothing is fitted on the span.
    """
    splits = tensors.splits.__dict__.copy()
    if later := data.get("later"):
        first = int(tensors.sessions.searchsorted(pd.Timestamp(splits["first_session"]))) + later
        splits["first_session"] = f"{tensors.sessions[first]:%Y-%m-%d}"
    if span := data.get("without"):
        return replace(tensors, splits=SplitsWithout(**splits, without_first=span[0], without_last=span[1]))
    return replace(tensors, splits=Splits(**splits)) if later else tensors


def view(tensors: Tensors, data: dict[str, Any]) -> Tensors:
    """The market as a variant's training sees it: `placed`, and scaled without the span that nothing is fitted on."""
    seen = placed(tensors, data)
    return replace(seen, x=rescaled(seen)) if data.get("without") else seen


def rescaled(tensors: Tensors) -> np.ndarray:
    """x with each stock's features at median 0 and scaled MAD 1 over the training samples of `tensors.splits`.

    Exact for what was not clipped. What is exactly 0 (undefined, or the old median) stays so, and so do flags, features
    whose MAD is 0 and stocks with fewer than 120 of those samples, whose scale was pooled over their sector.
    """
    x = tensors.x.copy()
    for i in range(x.shape[1]):
        fitted = x[tensors.train & tensors.active[:, i], i]
        if len(fitted) < MIN_TRAINING_ROWS:
            continue
        middle = np.median(fitted, axis=0)
        spread = MAD_TO_SD * np.median(np.abs(fitted - middle), axis=0)
        flags = np.array([len(np.unique(column)) <= 2 for column in fitted.T])
        moved = np.clip((x[:, i] - middle) / np.where(spread > 0, spread, 1), -CLIP, CLIP)
        x[:, i] = np.where((x[:, i] != 0) & (spread > 0) & ~flags, moved, x[:, i])
    return x


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write the variants as JSON, for a machine without PyYAML.")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--file", type=Path, default=repository() / "variants.yaml")
    args = parser.parse_args(argv)
    try:
        read_catalogue(args.file)
        args.json.write_text(json.dumps(_content(args.file), indent=1) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
