"""What a market's parameter file says of a training, so that the command and the notebook make one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from anomaly_routing.paths import MarketPaths


def market_settings(
    paths: MarketPaths, stage: str, method: str, variant: str = "full", seed: int = 0
) -> tuple[dict[str, Any], str]:
    """({"overrides", "training", "keep"}, tier) of a stage's section, with what its job of this name says, if listed.

    keep : (case_spans, graph_days) for the first listed seed of a preset as it is, whose weights and single stocks the
        notebook reads; else nothing.

    Empty without a parameter file, and without PyYAML to read it, as on a bare GPU machine; the latter is said.
    """
    found, path = {"overrides": {}, "training": {}, "keep": ()}, parameter_file(paths)
    if path is None:
        return found, ""
    try:
        import yaml
    except ImportError:
        print(f"{path} is not read, for PyYAML is missing: the defaults hold but for --epochs, --training, --tier, so "
              "this may be another run than the notebook's", file=sys.stderr)  # fmt: skip
        return found, ""
    section = yaml.safe_load(path.read_text(encoding="utf-8")).get(stage) or {}
    listed = [j for j in section.get("jobs", []) if (j["method"], j.get("variant", "full")) == (method, variant)]
    job = listed[0] if listed else {}
    training = section.get("training", {}) | job.get("training", {})
    found = {"overrides": job.get("overrides", {}), "training": training, "keep": ()}
    if stage == "model" and variant == "full" and seed == min((s for j in listed for s in j["seeds"]), default=None):
        found["keep"] = (section.get("case_spans", []), section.get("graph_days", []))
    return found, section.get("tier", "")


def parameter_file(paths: MarketPaths) -> Path | None:
    """The market's own, else the root's if it is of this market; told by its text, as PyYAML may be missing."""
    try:
        base = paths.base
    except FileNotFoundError:  # outside a repository
        return None
    own, root = base / "markets" / paths.name / "params.yaml", base / "params.yaml"
    if own.exists():
        return own
    return root if root.exists() and f"\n  name: {paths.name}\n" in root.read_text(encoding="utf-8") else None
