"""The verdict on a claim from our values of it, one a seed: what notebook 07 prints beside the paper's sentences.

Rules, tolerances and words are those of `verdict`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from anomaly_routing.ledger import verdict as rulebook
from anomaly_routing.ledger.verdict import CLOSE, DIFFERS, FULL_SEEDS, FULL_TIER, MATCH, NOT_RUN, PAPER_MARKET, within

BY_MEAN = " (the mean alone, no seed)"  # seeds on either side of the paper's value: the rule's verdict, marked


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
        verdict = MATCH if values[0] == claim["value"] else DIFFERS
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
    if not claim["checkable_without_training"] and (tier != FULL_TIER or len(pairs) < FULL_SEEDS):
        verdict = CLOSE if verdict == MATCH else verdict
    if verdict != DIFFERS and len(pairs) > 1 and all(_compare(claim, p, [p], rule) == DIFFERS for p in pairs):
        verdict += BY_MEAN
    if market != PAPER_MARKET:
        verdict = "none: another market"
    shown = ours if isinstance(claim.get("value"), list) and ours[0] != ours[1] else ours[0]
    return {"ours": shown, "low": float(low.min()), "high": float(high.max()), "n": len(pairs), "verdict": verdict}


def _compare(claim: dict[str, Any], ours: tuple[float, float], pairs: list[tuple], rule: dict[str, Any]) -> str:
    """The last three verdicts, before anything is said of size."""
    paper = claim.get("value")
    if paper is None:  # a direction or a check
        holds = np.mean([bool(p[0]) for p in pairs])
        return MATCH if holds == 1 else CLOSE if holds > 0 else DIFFERS
    match, close = tolerance(claim, rule)
    if str(claim.get("unit", "")).endswith("(greater than)"):
        gap = max(float(paper) - ours[0], 0.0)
    elif isinstance(paper, list):
        gap = max(float(paper[0]) - ours[0], ours[1] - float(paper[-1]), 0.0)
        match = 0.0  # inside, or close
    else:
        gap = abs(ours[0] - _number(paper))
    return within(gap, match, close)


def tolerance(claim: dict[str, Any], rule: dict[str, Any]) -> tuple[float, float]:
    """(match, close) as absolute distances from the paper's value; by unit, the part of the rule."""
    kind, unit, paper = claim["kind"], str(claim.get("unit") or ""), claim.get("value")
    if kind == "alert_distribution":  # a level, not a share: the next level is close
        return 0.0, 1.0
    by = ""
    if unit == "percent" and "relative_rises" in rule:
        by = "relative_rises"
    elif kind == "detection" and unit in ("score", "MPI"):
        by = "score_levels"
    elif kind == "data" and unit not in ("stocks", "sessions", "days (calendar)", ""):
        by = "market_quantity"
    if not by and not _is_number(rule["match"]):
        return 0.0, 0.0
    match, close, relative = rulebook.tolerance(kind, rule, by)
    scale = abs(_number(paper[0] if isinstance(paper, list) else paper)) if relative else 1.0
    return match * scale, close * scale


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float:
    """A claimed value as a number: L1 is 1."""
    if _is_number(value):
        return float(value)
    found = re.fullmatch(r"L(\d)", str(value))
    return float(found.group(1)) if found else np.nan
