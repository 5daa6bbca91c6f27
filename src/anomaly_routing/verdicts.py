"""A claim of the paper, our values of it over seeds, and the verdict by `paper/verdict_rules.yaml`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

SEEDS_FOR_MATCH = 10  # `common.size`: fewer seeds, or another tier than gpu, allow `close` at best
NOT_RUN = "not run"
BY_MEAN = " (the mean alone, no seed)"  # seeds on either side of the paper's value: the rule's verdict, marked
ORDER = ("match", "close", "differs")


def judge(
    claim: dict[str, Any],
    values: Sequence[float | bool | tuple[float, float] | str],
    rules: dict[str, Any],
    *,
    market: str,
    tier: str = "gpu",
) -> dict[str, Any]:
    """Our figure for a claim and its verdict.

    Parameters
    ----------
    claim : an entry of claims.yaml. values : ours, one a seed (one in all where nothing is random); NaN is left out. A
        direction or a check is True or False a seed. For a range [a, b] of the paper a value may be (low, high).
    rules : verdict_rules.yaml as read. market : only us100 can give a verdict. tier : of the trainings behind `values`.

    Returns ours, low, high (over seeds), n and verdict; a verdict that the mean has and no single seed is marked so.
    ValueError for a kind of claim without a rule.
    """
    if claim["kind"] not in rules["rules"]:
        raise ValueError(f"{claim['id']}: no rule for claims of kind {claim['kind']!r} in verdict_rules.yaml")
    if any(isinstance(v, str) for v in values):  # a date or a name: equal or not
        verdict = "match" if values[0] == claim["value"] else "differs"
        return {"ours": values[0], "low": np.nan, "high": np.nan, "n": 1, "verdict": verdict}
    pairs = [v if isinstance(v, tuple) else (v, v) for v in values]
    pairs = [p for p in pairs if all(np.isfinite(p))]
    if not pairs:
        return {"ours": np.nan, "low": np.nan, "high": np.nan, "n": 0, "verdict": NOT_RUN}
    low, high = (np.array([p[side] for p in pairs], dtype=float) for side in (0, 1))
    middle = np.mean if claim["kind"] in ("attribution", "ablation") else np.median
    ours = (float(middle(low)), float(middle(high)))
    rule = rules["rules"][claim["kind"]]
    verdict = _compare(claim, ours, pairs, rule)
    if not claim["checkable_without_training"] and (tier != "gpu" or len(pairs) < SEEDS_FOR_MATCH):
        verdict = "close" if verdict == "match" else verdict
    if verdict in ORDER[:2] and len(pairs) > 1 and all(_compare(claim, p, [p], rule) == ORDER[2] for p in pairs):
        verdict += BY_MEAN
    if market != "us100":
        verdict = "none: another market"
    shown = ours if isinstance(claim.get("value"), list) and ours[0] != ours[1] else ours[0]
    return {"ours": shown, "low": float(low.min()), "high": float(high.max()), "n": len(pairs), "verdict": verdict}


def _compare(claim: dict[str, Any], ours: tuple[float, float], pairs: list[tuple], rule: dict[str, Any]) -> str:
    """The last three verdicts, before anything is said of size."""
    paper = claim.get("value")
    if paper is None:  # a direction or a check
        holds = np.mean([bool(p[0]) for p in pairs])
        return "match" if holds == 1 else "close" if holds > 0 else "differs"
    match, close = tolerance(claim, rule)
    if str(claim.get("unit", "")).endswith("(greater than)"):
        gap = max(float(paper) - ours[0], 0.0)
    elif isinstance(paper, list):
        gap = max(float(paper[0]) - ours[0], ours[1] - float(paper[-1]), 0.0)
    else:
        gap = abs(ours[0] - _number(paper))
    return ORDER[0] if gap <= match + 1e-12 else ORDER[1] if gap <= close + 1e-12 else ORDER[2]


def tolerance(claim: dict[str, Any], rule: dict[str, Any]) -> tuple[float, float]:
    """(match, close) as absolute distances from the paper's value, from the rule of the claim's kind."""
    kind, unit, paper = claim["kind"], str(claim.get("unit") or ""), claim.get("value")
    size = abs(_number(paper[0] if isinstance(paper, list) else paper))
    own: dict[str, Any] = rule
    if unit == "percent" and "relative_rises" in rule:
        own = rule["relative_rises"]
    elif kind == "detection" and unit in ("score", "MPI"):
        own = rule["score_levels"]
    elif kind == "data" and unit not in ("stocks", "sessions", "days (calendar)", ""):
        own = rule["market_quantity"]
    elif kind == "alert_distribution":  # a level, not a share: the next level is close
        return 0.0, 1.0
    relative = kind in ("data", "parameter_count")
    scale = size if relative else 1.0
    return tuple(float(own[key]) * scale if _is_number(own[key]) else 0.0 for key in ("match", "close"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float:
    """A claimed value as a number: L1 is 1."""
    if _is_number(value):
        return float(value)
    found = re.fullmatch(r"L(\d)", str(value))
    return float(found.group(1)) if found else np.nan
