"""What the stages left behind, read when a decider asks for it. What is absent raises NotRun with the command."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from anomaly_routing.claims import Claim, load_claims
from anomaly_routing.evaluation.events import load_events
from anomaly_routing.files import read_json
from anomaly_routing.ledger.answers import read_answers
from anomaly_routing.ledger.intervals import over_seeds
from anomaly_routing.ledger.verdict import PAPER_MARKET, Finding, NotRun, middle
from anomaly_routing.panel import Splits
from anomaly_routing.paths import MarketPaths
from anomaly_routing.runs import INDEX, Run, RunStore, read_meta, read_run
from anomaly_routing.tensors import Tensors

# file below reports/<market> -> the stage that writes it. A decider that asks for an absent one gives `not run`.
WRITTEN_BY = {
    "metrics.json": "scorecard",
    **{f"tables/table{n}.csv": "ablations" for n in (2, 4, 6, 7, 8)},
    "tables/data/sectors.csv": "data",
    "tables/baselines/chapter_snippets.csv": "baselines",
    "tables/deep_baselines/cost.csv": "deep_baselines",
}


@dataclass(frozen=True)
class Sources:
    """The results of one market.

    paths : of the market. paper : folder of claims.yaml, events.yaml and verdict_rules.yaml. splits : the market's.
    methods : what `scoreboard.evaluate_runs` gave; None reads metrics.json.
    """

    paths: MarketPaths
    paper: Path
    splits: Splits = field(default_factory=Splits)
    methods: dict[str, Any] | None = None

    @property
    def real(self) -> bool:
        """Whether this is the market that the paper is about."""
        return self.paths.name == PAPER_MARKET

    @property
    def params_file(self) -> str:
        """Of this market, from the root of the repository."""
        return f"markets/{self.paths.name}/params.yaml" if self.real else "params.yaml"

    def command(self, stage: str) -> str:
        """What runs a stage on this market."""
        return f"python -m anomaly_routing.runner {stage} --params {self.params_file}"

    def not_run(self, stage: str, what: str) -> NotRun:
        return NotRun(f"{what} (stage {stage}): {self.command(stage)}")

    def not_trained(self, variants: Iterable[str], what: str, stage: str = "ablations", tier: str = "") -> NotRun:
        """A stage that trains nothing waits for these variants of `variants.yaml`: their sweep, then the stage."""
        chosen = f"--tier {tier} " if tier else ""
        train = f"python -m anomaly_routing.sweep --market {self.paths.name} {chosen}--variants {' '.join(variants)}"
        return NotRun(f"{what} (stage {stage}): {train}; then {self.command(stage)}")

    @cached_property
    def variant_of(self) -> dict[str, str]:
        """Row of Tables 2, 4, 6, 7 or 8, as in `T4.bilstm.64` -> the variant that answers for it."""
        listed = yaml.safe_load((self.paper.parent / "variants.yaml").read_text(encoding="utf-8"))["tables"]
        return {row: variant for rows in listed.values() for row, variant in rows.items()}

    @cached_property
    def claims(self) -> dict[str, Claim]:
        return load_claims(self.paper / "claims.yaml")

    def claimed(self, name: str) -> Any:
        """The paper's value of a claim."""
        return self.claims[name].value

    @cached_property
    def rules(self) -> dict[str, Any]:
        return yaml.safe_load((self.paper / "verdict_rules.yaml").read_text(encoding="utf-8"))

    @cached_property
    def events(self) -> pd.DataFrame:
        """The paper's 13 events, resolved."""
        return load_events(self.paper / "events.yaml")

    def _file(self, name: str) -> Path:
        path = self.paths.reports / name
        if not path.exists():
            raise self.not_run(WRITTEN_BY[name], f"no {name}")
        return path

    def table(self, name: str) -> pd.DataFrame:
        """`tables/<name>.csv`; a cell `null` is a name, not a missing value."""
        return pd.read_csv(self._file(f"tables/{name}.csv"), keep_default_na=False, na_values=[""])

    def json(self, name: str) -> Any:
        return read_json(self._file(name))

    @cached_property
    def scored(self) -> dict[str, Any]:
        """label -> protocols' lines of every method."""
        return self.methods if self.methods is not None else self.json("metrics.json")["methods"]

    def method(self, name: str, stage: str = "deep_baselines") -> dict[str, Any]:
        """The lines of one method."""
        if name not in self.scored:
            raise self.not_run(stage, f"no stored run of {name}")
        return self.scored[name]

    @cached_property
    def model_runs(self) -> list[tuple[dict[str, Any], Run]]:
        """The stored runs of the full model in its default preset, by seed: (meta, run)."""
        folder = self.paths.reports / "runs" / "model"
        files = RunStore(folder).current() if (folder / INDEX).exists() else []
        found = [(read_meta(path), path) for path in files]
        chosen = [(m, p) for m, p in found if (m["key"]["method"], m["key"]["variant"]) == ("intended", "full")]
        if not chosen:
            raise self.not_run("model", "no stored run of the full model")
        return [(meta, read_run(path)) for meta, path in sorted(chosen, key=lambda pair: pair[0]["key"]["seed"])]

    @cached_property
    def scored_runs(self) -> list[tuple[dict[str, Any], Run]]:
        """Those of `model_runs` that keep the score of every stock (the first seed)."""
        kept = [(meta, run) for meta, run in self.model_runs if len(run.score_sessions)]
        if not kept:
            raise self.not_run("model", "no run that keeps the scores of single stocks")
        return kept

    @cached_property
    def tensors(self) -> Tensors:
        """The market as the model sees it."""
        path = self.paths.interim / "tensors.npz"
        if not path.exists():
            raise self.not_run("features", "no tensors.npz")
        return Tensors.load(path)

    @property
    def training(self) -> dict[str, Any]:
        """n_seeds, tier, device and protocol of the stored runs, as `Finding` takes them: their thresholds and weights
        are those of stop rule `val`, which is protocol `paper`."""
        return self._trained_with(self.model_runs)

    @staticmethod
    def _trained_with(runs: list[tuple[dict[str, Any], Run]]) -> dict[str, Any]:
        metas = [meta for meta, _ in runs]
        return {
            "n_seeds": len(metas),
            "tier": "/".join(sorted({m["info"]["tier"] for m in metas})),
            "device": "/".join(sorted({m["info"]["device"] for m in metas})),
            "protocol": "paper",
        }

    def over_seeds(self, claim: Claim, per_run: Any, by: str = "") -> Finding:
        """A figure of each stored run of the full model, `per_run(meta, run)`: the mean or the median over seeds as the
        rules say for the claim's kind, and how the seeds spread."""
        found = np.array([per_run(meta, run) for meta, run in self.model_runs], float)
        note = f"by seed: {' '.join(f'{v:.3g}' for v in found)}" if len(found) > 1 else ""
        value = float(middle(claim.kind)(found))
        return Finding(value, by, note=note, **over_seeds(found), **self.training)

    @cached_property
    def answers(self) -> dict[str, Finding]:
        """What the stages decided themselves, from `tables/<stage>/claims.csv`.

        Raises ValueError for an id that is no claim, and for one that two stages answer.
        """
        found: dict[str, Finding] = {}
        for path in sorted((self.paths.reports / "tables").glob("*/claims.csv")):
            new = read_answers(path)
            if unknown := sorted(set(new) - set(self.claims)):
                raise ValueError(f"{path}: {', '.join(unknown)} in no line of claims.yaml; use its ids")
            if again := sorted(set(new) & set(found)):
                raise ValueError(f"{path}: {', '.join(again)} answered by another stage too; one stage decides a claim")
            found |= new
        return found

    def answer(self, claim: Claim, stage: str) -> Finding:
        """The stage's own decision on a claim."""
        if claim.id not in self.answers:
            raise self.not_run(stage, f"no line in tables/{stage}/claims.csv")
        return self.answers[claim.id]
