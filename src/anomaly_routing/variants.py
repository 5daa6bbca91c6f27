"""Ablations and sensitivity cells as data: `variants.yaml` read, checked and turned into jobs (SPEC 10, 11).

A variant is the full model with some keys of its configuration, its training or its data changed; nothing here or
elsewhere asks for a variant by name.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from anomaly_routing.model.config import PRESETS, is_count, make_config
from anomaly_routing.model.pressure_index import other_reading
from anomaly_routing.model.training import make_training
from anomaly_routing.paths import repository
from anomaly_routing.runs import Run
from anomaly_routing.train import Job

REFERENCE = "full"  # what every variant is compared with
SAYS = ("run", "channel", "index", "model", "training", "data")
CHANNELS = ("both", "score")  # score and pressure index, or the score alone
INDEX = ("mpi_c3", "mpi_c4")  # keys of the model that change the index alone
DATA = ("later", "without")
NAME = re.compile(r"[A-Za-z0-9]([._-]?[A-Za-z0-9])*")  # it is part of a file's name, between two "--"
DEAD = (  # key of the model, and what makes it say nothing
    ("source_w", "sources", ("temporal",)),
    ("fusion_scale", "use_prior", (False,)),
    ("gcn_loops", "use_prior", (False,)),
    ("rec_rule", "routing_rule", ("uniform",)),
    ("div_sign", "gamma1", (0,)),
    *((key, "routing_rule", ("uniform", "hard")) for key in ("tau_rule", "gamma1", "gamma2", "div_sign", "balance")),
    *((key, "mechanisms", ("one",)) for key in ("tau_rule", "gamma1", "gamma2", "div_sign", "rec_rule", "mpi_c4")),
    *((key, "mechanisms", ("one",)) for key in ("contagion_sees", "balance", "gate_prior")),
)
DEAD_AT = {0: ("fusion_scale",), 1: ("top_k", "topk_rule", "sources", "source_w")}  # with `alpha_fixed` so


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
        name = self.run_of(name, tier)
        return Job(self.preset, name, seed, self._laid(name, tier, "model"), self._laid(name, tier, "training"))

    def run_of(self, name: str, tier: str) -> str:
        """The variant whose runs stand for this one: itself, the one that it shares the run of, or `full`, where the
        tier makes the two alike (128 hidden units are the full model's own, but not where a tier has fewer)."""
        name = self.variants[name].run
        alike = REFERENCE in self.variants and self._identity(name, tier) == self._identity(REFERENCE, tier)
        return REFERENCE if alike else name

    def _laid(self, name: str, tier: str, part: str) -> dict[str, Any]:
        return self.tiers[tier].get(part, {}) | getattr(self.variants[name], part)

    def _identity(self, name: str, tier: str) -> tuple[dict[str, Any], ...]:
        model, training = (self._laid(name, tier, part) for part in ("model", "training"))
        return (
            make_config(self.preset, **model).identity(),
            make_training(**training).identity(),
            self.variants[name].data,
        )


def read_catalogue(path: Path) -> Catalogue:
    """Raises ValueError, before anything runs, for a key that does not exist or stands twice, a value that cannot be,
    overrides that contradict each other or change nothing, a table row or a shared run that names an unknown variant.
    """
    try:
        content = _sections(_content(path))
        preset = content["preset"]
        if preset not in PRESETS:
            raise ValueError(f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
        variants = {name: _variant(name, own, preset) for name, own in content["variants"].items()}
        _check_runs(variants, preset)
        tables = {table: _rows(table, rows, variants) for table, rows in content["tables"].items()}
        tiers = {tier: _tier(tier, over, preset) for tier, over in content["tiers"].items()}
        seeds = {tier: over.get("seeds", 1) for tier, over in tiers.items()}
        catalogue = Catalogue(preset, variants, tables, tiers, seeds)
        _check_changes(catalogue)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return catalogue


def _content(path: Path) -> Any:
    """Of a YAML file, or of a JSON one, which a machine without PyYAML can read; no key of a mapping stands twice."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text, object_pairs_hook=_once)
    import yaml  # a machine that trains need not have it

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            _once([(self.construct_object(key, deep=True), None) for key, _ in node.value])
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Strict)
    except yaml.YAMLError as error:
        raise ValueError(f"no valid YAML: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [str(key) for key, _ in pairs]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"{', '.join(twice)} stands twice: keep one")
    return dict(pairs)


def _sections(content: Any) -> dict[str, Any]:
    wanted = {"preset", "variants", "tables", "tiers"}
    if not isinstance(content, dict) or set(content) != wanted:
        given = set(content) if isinstance(content, dict) else set()
        if unknown := sorted(map(str, given - wanted)):
            raise ValueError(f"no section is called {', '.join(unknown)}")
        raise ValueError(f"the section {', '.join(sorted(wanted - given))} is missing")
    for section in ("variants", "tables", "tiers"):
        block = _block(section, content[section])
        content[section] = {name: _block(f"{section}: {name}", own) for name, own in block.items()}
    return content


def _block(what: str, own: Any) -> dict[str, Any]:
    """`key: value` lines with names for keys; nothing is an empty block."""
    if not isinstance(own, dict | None) or not all(isinstance(key, str) for key in own or {}):
        raise ValueError(f"{what} is {own!r}; it must be a block of `name: value`")
    return own or {}


def _variant(name: str, own: dict[str, Any], preset: str) -> Variant:
    if not NAME.fullmatch(name):
        raise ValueError(f"variant {name!r}: a name is letters and digits, with single . _ - between them")
    if unknown := sorted(set(own) - set(SAYS)):
        raise ValueError(f"variant {name} says {', '.join(unknown)}; it can say {', '.join(SAYS)}")
    parts = {part: _block(f"variant {name}: {part}", own.get(part)) for part in ("model", "training", "data")}
    texts = {part: own.get(part, default) for part, default in (("run", name), ("channel", "both"), ("index", ""))}
    if bad := [part for part, text in texts.items() if not isinstance(text, str)]:
        raise ValueError(f"variant {name}: {bad[0]} is {texts[bad[0]]!r}; it must be a name")
    variant = Variant(name, **texts, **parts)
    if variant.run != name and (variant.model or variant.training or variant.data):
        raise ValueError(f"variant {name} shares the run of {variant.run}, so it can change nothing of its own")
    if variant.channel not in CHANNELS:
        raise ValueError(f"variant {name}: channel {variant.channel!r}; use {' or '.join(CHANNELS)}")
    if unknown := sorted(set(variant.data) - set(DATA)):
        raise ValueError(f"variant {name}: no data key {', '.join(unknown)}; there are: {', '.join(DATA)}")
    try:
        config = make_config(preset, **variant.model)
        make_training(**variant.training)
    except ValueError as error:
        raise ValueError(f"variant {name}: {error}") from error
    for key, other, values in DEAD:
        if key in variant.model and getattr(config, other) in values:
            raise ValueError(f"variant {name}: {key} says nothing with {other}: {getattr(config, other)}")
    if (config.use_prior, config.alpha_rule, config.alpha_fixed) == (False, "fixed", 1):
        raise ValueError(f"variant {name}: use_prior: false and alpha_fixed: 1 leave no graph at all")
    for key in DEAD_AT.get(config.alpha_fixed, ()) if config.alpha_rule == "fixed" else ():
        if key in variant.model:
            raise ValueError(f"variant {name}: {key} says nothing with alpha_fixed: {config.alpha_fixed:g}")
    if config.teach:
        raise ValueError(f"variant {name}: teach needs lessons, which notebook 08 alone writes")
    if variant.channel == "score" and variant.index:
        raise ValueError(f"variant {name}: index says nothing with channel: score")
    if "alpha_fixed" in variant.model and config.alpha_rule != "fixed":
        raise ValueError(f"variant {name}: alpha_fixed says nothing without alpha_rule: fixed")
    if "later" in variant.data and not is_count(variant.data["later"]):
        raise ValueError(f"variant {name}: later is {variant.data['later']!r}; it must be a number of sessions")
    if (span := variant.data.get("without")) is not None:
        said = isinstance(span, list) and all(isinstance(day, str | date) for day in span)
        days = pd.to_datetime(pd.Series(span if said else []), errors="coerce")
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


def _check_changes(catalogue: Catalogue) -> None:
    """No variant is, in every tier, another name of `full`, of another variant, or of the run that it shares."""
    seen: dict[str, tuple] = {}
    for name, variant in catalogue.variants.items():
        judged_alike = variant.channel == CHANNELS[0] and not variant.index
        shares = {name != REFERENCE and catalogue.run_of(name, tier) == REFERENCE for tier in catalogue.tiers}
        if judged_alike and (variant.run != name or shares == {True}):
            raise ValueError(f"variant {name} changes nothing")
        own = [catalogue._identity(variant.run, tier) for tier in catalogue.tiers], variant.channel, variant.index
        if first := next((first for first, other in seen.items() if other == own), None):
            raise ValueError(f"variant {name} is {first} under another name: keep one")
        seen[name] = own


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
    lists = {claim: [said] if isinstance(said, str) else said for claim, said in rows.items()}
    if not all(isinstance(said, list) and all(isinstance(name, str) for name in said) for said in lists.values()):
        raise ValueError(f"{table} must say `claim: variant`, or several variants in brackets")
    found = [(claim, name) for claim, said in lists.items() for name in said]
    if unknown := sorted({name for _, name in found} - set(variants)):
        raise ValueError(f"{table} names unknown variants: {', '.join(unknown)}")
    return found


def _tier(tier: str, over: dict[str, Any], preset: str) -> dict[str, Any]:
    if unknown := sorted(set(over) - {"model", "training", "seeds"}):
        raise ValueError(f"tier {tier} says {', '.join(unknown)}; it can say model, training, seeds")
    if not is_count(over.get("seeds", 1)):
        raise ValueError(f"tier {tier}: seeds is {over['seeds']!r}; it must be an integer from 1 up")
    parts = {part: _block(f"tier {tier}: {part}", over.get(part)) for part in ("model", "training")}
    make_config(preset, **parts["model"])
    make_training(**parts["training"])
    return over | parts


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
