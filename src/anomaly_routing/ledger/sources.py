"""What the stages left behind, read when a decider asks for it. What is absent raises NotRun with the command."""

from __future__ import annotations

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
from anomaly_routing.ledger.intervals import t_interval
from anomaly_routing.ledger.verdict import PAPER_MARKET, Finding, NotRun
from anomaly_routing.panel import Splits
from anomaly_routing.paths import MarketPaths
from anomaly_routing.runs import INDEX, Run, RunStore, read_meta, read_run
from anomaly_routing.tensors import Tensors

TEXTS = ("id", "by", "tier", "device", "protocol", "note")  # columns of a stage's answers

# file below reports/<market> -> the stage that writes it. A decider that asks for an absent one gives `not run`.
WRITTEN_BY = {
    "metrics.json": "scorecard",
    **{f"tables/table{n}.csv": "ablations" for n in (2, 4, 6, 7, 8)},
    "tables/model/temperature.csv": "model",
    "tables/data/sectors.csv": "data",
    "tables/scorecard/aggregations.csv": "scorecard",
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

    def command(self, stage: str) -> str:
        """What runs a stage on this market."""
        file = f"markets/{self.paths.name}/params.yaml" if self.real else "params.yaml"
        return f"python -m anomaly_routing.runner {stage} --params {file}"

    def not_run(self, stage: str, what: str) -> NotRun:
        return NotRun(f"{what} (stage {stage}): {self.command(stage)}")

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
        """n_seeds, tier and device of the stored runs, as `Finding` takes them."""
        return self._trained_with(self.model_runs)

    @staticmethod
    def _trained_with(runs: list[tuple[dict[str, Any], Run]]) -> dict[str, Any]:
        metas = [meta for meta, _ in runs]
        return {
            "n_seeds": len(metas),
            "tier": "/".join(sorted({m["info"]["tier"] for m in metas})),
            "device": "/".join(sorted({m["info"]["device"] for m in metas})),
        }

    def over_seeds(self, per_run: Any, statistic: Any = np.mean, by: str = "", runs: list | None = None) -> Finding:
        """A figure of each stored run of the full model: `statistic` over seeds, with the t-interval if there are two
        or more. `per_run(meta, run)` gives a number; `runs` are all of the default preset unless given."""
        chosen = self.model_runs if runs is None else runs
        found = np.array([per_run(meta, run) for meta, run in chosen], float)
        low, high = t_interval(found)
        shown = " ".join(f"{v:.3g}" for v in found)
        note = f"by seed: {shown}" if len(found) > 1 else ""
        return Finding(float(statistic(found)), by, low=low, high=high, note=note, **self._trained_with(chosen))

    @cached_property
    def answers(self) -> dict[str, Finding]:
        """What the stages decided themselves, from `tables/<stage>/claims.csv`."""
        found: dict[str, Finding] = {}
        for path in sorted((self.paths.reports / "tables").glob("*/claims.csv")):
            found |= read_answers(path)
        return found

    def answer(self, claim: Claim, stage: str) -> Finding:
        """The stage's own decision on a claim."""
        if claim.id not in self.answers:
            raise self.not_run(stage, f"no line in tables/{stage}/claims.csv")
        return self.answers[claim.id]
