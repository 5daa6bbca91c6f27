"""From a finding to a verdict, by `paper/verdict_rules.yaml` and nothing else.

Verdicts, from the top; the first that applies is given: refuted by the paper itself, not testable, not run, and by
tolerance match, close or differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from anomaly_routing.claims import Claim

REFUTED, NOT_TESTABLE, NOT_RUN = "refuted by the paper itself", "not testable", "not run"
MATCH, CLOSE, DIFFERS = "match", "close", "differs"
VERDICTS = (MATCH, CLOSE, DIFFERS, REFUTED, NOT_TESTABLE, NOT_RUN)
BY_LUCK, NOT_SHOWN, BUILT_SO = "no better than chance", "difference not shown", "by construction"
BY_READING, BY_MEAN = "by reading", "the mean alone, no single seed near"
FULL_TIER, FULL_SEEDS = "gpu", 10
LEVEL = 0.05
PAPER_MARKET = "us100"  # the market that the paper's claims are about
RELATIVE = ("data", "parameter_count")  # kinds whose tolerance is a share of the value, as the rules say beside it
BY_UNIT = {"correlation": "graph", "weight": "attribution"}  # of an ablation's figure that is no count of events
MEANS = ("attribution", "ablation", "sensitivity")  # kinds of which the rules compare the mean over seeds, else median
SLACK = 1e-9  # a figure on the edge of a tolerance is inside, whatever the last bit


class Undecided(Exception):
    """A claim that gets its verdict without a comparison; the text is the reason that is printed.

    read : decided by reading, not by a computation.
    """

    verdict = ""
    value: Any = None

    def __init__(self, reason: str, read: bool = False) -> None:
        super().__init__(reason)
        self.read = read


class Refuted(Undecided):
    """The paper's own numbers, tables or the calendar exclude it. `value` is what they give instead."""

    verdict = REFUTED

    def __init__(self, reason: str, value: Any = None, read: bool = False) -> None:
        super().__init__(reason, read)
        self.value = value


class NotTestable(Undecided):
    """What it is about cannot be had or has no definition."""

    verdict = NOT_TESTABLE


class NotRun(Undecided):
    """It could be computed here but has not been; the text ends with the command."""

    verdict = NOT_RUN


@dataclass(frozen=True)
class Difference:
    """A change against a base, ours and the paper's, in the claim's unit; low, high : 95% interval of ours."""

    ours: float
    paper: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Finding:
    """What a computation says.

    value : ours, in the claim's unit; bool for a check that holds or does not; for a claimed direction, an estimate
        that is positive when the claim is right.
    by : which tolerance judges it: "" (the kind's own), "market_quantity", "score_levels", "relative_rises", "rates",
        "counts", "range", "exact", "direction", "holds", "rank" (a rank correlation), "seeds" (share of seeds in which
        an order is as claimed).
    difference : judged in place of `value`, which is then only printed (rules: ablation, sensitivity).
    low, high : 95% interval, or, if `ranged`, the lowest and the highest seed, where seeds are too few for one.
    by_seed : a value a seed, where there are several. result : name of the figure, where several claims share one.
    part : share of the parts for which a check holds, if only for some.
    n_seeds, tier, protocol, device : what it was computed with; a tier means that training was needed.
    built : our build takes the value over from the paper, so a match says that and no more. read : decided by reading.
    chance_p : how often the same alarms, moved in time, do as well. beside : further figures, printed, not judged.
    paired_p : for "one method beats another", the exact paired test.
    """

    value: Any
    by: str = ""
    low: float | None = None
    high: float | None = None
    part: float | None = None
    n_seeds: int | None = None
    tier: str = ""
    protocol: str = ""
    device: str = ""
    chance_p: float | None = None
    paired_p: float | None = None
    built: bool = False
    note: str = ""
    beside: dict[str, Any] = field(default_factory=dict)
    difference: Difference | None = None
    ranged: bool = False
    by_seed: tuple[float, ...] = ()
    result: str = ""
    read: bool = False


@dataclass(frozen=True)
class Verdict:
    """One of `VERDICTS`, what qualifies it (printed in brackets), and the rule that gave it."""

    verdict: str
    qualifier: str = ""
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.verdict} ({self.qualifier})" if self.qualifier else self.verdict


def judge(claim: Claim, finding: Finding, rules: dict[str, Any]) -> Verdict:
    """The verdict on a finding; `rules` is the content of `verdict_rules.yaml`.

    Raises ValueError when the finding cannot be compared with the claim (a check without a truth value, a number
    against none) or names seeds without the tier that they were trained with.
    """
    if finding.n_seeds and not finding.tier:
        raise ValueError(f"{claim.id}: {finding.n_seeds} seeds and no tier; say with which tier they were trained")
    kind = BY_UNIT.get(claim.unit, claim.kind) if claim.kind == "ablation" else claim.kind
    verdict, text = _by_tolerance(claim, finding, kind, rules["rules"][kind])
    qualifier, alone = "", verdict in (MATCH, CLOSE) and _mean_alone(claim, finding, kind, rules["rules"][kind])
    judged_by_change = kind == "ablation" and finding.by in ("", "rates")
    if judged_by_change and verdict in (MATCH, CLOSE) and not _excludes_zero(finding):
        verdict, qualifier = CLOSE, NOT_SHOWN
    if finding.paired_p is not None and verdict == MATCH and not finding.paired_p < LEVEL:
        verdict, qualifier = CLOSE, "the better count alone"
    if finding.tier and not _full_size(finding) and verdict == MATCH:
        verdict, qualifier = CLOSE, _size(finding)
    if verdict == MATCH and finding.built:
        qualifier = BUILT_SO
    if verdict == MATCH and finding.chance_p is not None and finding.chance_p > LEVEL:
        qualifier = BY_LUCK
    more = [word for word, holds in ((BY_MEAN, alone), (BY_READING, finding.read)) if holds]
    return Verdict(verdict, "; ".join([qualifier, *more] if qualifier else more), text)


def middle(kind: str) -> Callable[..., Any]:
    """What the rules compare when there are several seeds: their mean or their median (`statistic` of the kind)."""
    return np.mean if kind in MEANS else np.median


def tolerance(kind: str, rule: dict[str, Any], by: str) -> tuple[float, float, bool]:
    """Match and close distance and whether they are relative, for a kind, its rule and the way of `Finding.by`."""
    if by == "rates" and "rates" in rule:
        return *_figures(rule["rates"], r"points, ([\d.]+) and ([\d.]+)"), False
    if by == "rates" and rule["unit"].startswith("events of"):  # percent of that many events
        (n,) = _figures(rule["unit"], r"events of (\d+)")
        return 100 * float(rule["match"]) / n, 100 * float(rule["close"]) / n, False
    part = rule[by] if by not in ("", "rates") else rule
    relative = by in ("market_quantity", "counts") or (not by and kind in RELATIVE)
    return float(part["match"]), float(part["close"]), relative


def _by_tolerance(claim: Claim, finding: Finding, kind: str, rule: dict[str, Any]) -> tuple[str, str]:
    value, by = finding.value, finding.by
    if by == "holds" or isinstance(value, bool):
        return _check(finding)
    if by == "direction":
        return _direction(finding)
    if by == "rank":
        match, close = _figures(rule["ordering"], r"at least ([\d.]+), close from ([\d.]+)")
        return _at_least(float(value), match, close), f"rank correlation at least {match}, {close}"
    if by == "seeds":
        (seeds,) = _figures(rule["ordering"], r"of (\d+) seeds")
        match, close = _figures(rule["ordering"], r"at least (\d+) of .* at least (\d+)")
        return _at_least(
            float(value), match / seeds, close / seeds
        ), f"in {match:.0f}, {close:.0f} of {seeds:.0f} seeds"
    if by == "exact":
        return (MATCH if value == claim.value else DIFFERS), "equal"
    if by == "range":
        return _range(claim, value, rule)
    if claim.value is None or isinstance(claim.value, str):
        raise ValueError(f"{claim.id} claims no number; its finding must be a check or a direction, not {value!r}")
    match, close, relative = tolerance(kind, rule, by)
    change = finding.difference
    wanted, found = (_vector(claim.value), _vector(value)) if change is None else ([change.paper], [change.ours])
    if len(wanted) != len(found):
        raise ValueError(f"{claim.id}: {len(found)} numbers against the {len(wanted)} claimed")
    distance = max(_distance(a, b, relative) for a, b in zip(found, wanted, strict=True))
    unit = "of the value" if relative else ""
    return within(distance, match, close), f"within {match:g}, {close:g} {unit}".rstrip()


def _check(finding: Finding) -> tuple[str, str]:
    if not isinstance(finding.value, bool):
        raise ValueError(f"a check holds or does not; it was {finding.value!r}")
    if finding.value:
        return MATCH, "the check holds"
    return (CLOSE, "holds for a part") if finding.part else (DIFFERS, "the check fails")


def _direction(finding: Finding) -> tuple[str, str]:
    if not finding.value > 0:
        return DIFFERS, "sign"
    return (MATCH if _excludes_zero(finding) else CLOSE), "sign, and the interval excludes zero"


def _range(claim: Claim, value: Any, rule: dict[str, Any]) -> tuple[str, str]:
    """Inside matches, within one tolerance `close` outside is close; of a list, the farthest counts."""
    low, high = _vector(claim.value)
    _, close, relative = tolerance(claim.kind, rule, "")
    outside = max(max(low - v, v - high, 0.0) for v in _vector(value))
    return within(outside / (high if relative else 1), 0.0, close), f"inside, within {close:g} outside"


def _mean_alone(claim: Claim, finding: Finding, kind: str, rule: dict[str, Any]) -> bool:
    """Whether the figure over seeds is near and that of no single seed is."""
    if len(finding.by_seed) < 2 or finding.by == "direction":
        return False
    alone = (replace(finding, value=value, by_seed=()) for value in finding.by_seed)
    return all(_by_tolerance(claim, one, kind, rule)[0] == DIFFERS for one in alone)


def _excludes_zero(finding: Finding) -> bool:
    """Of the interval of what is judged; a range over few seeds is no interval."""
    ends = finding.difference or finding
    if finding.ranged or ends.low is None or ends.high is None:
        return False
    return ends.low > 0 or ends.high < 0


def within(distance: float, match: float, close: float) -> str:
    """The verdict on a distance from the paper's value."""
    return MATCH if distance <= match + SLACK else CLOSE if distance <= close + SLACK else DIFFERS


def _at_least(value: float, match: float, close: float) -> str:
    return MATCH if value >= match - SLACK else CLOSE if value >= close - SLACK else DIFFERS


def _distance(ours: float, theirs: float, relative: bool) -> float:
    gap = abs(ours - theirs)
    return gap / abs(theirs) if relative and theirs else gap


def _vector(value: Any) -> list[float]:
    return [float(v) for v in value] if isinstance(value, list | tuple) else [float(value)]


def _full_size(finding: Finding) -> bool:
    return finding.tier == FULL_TIER and (finding.n_seeds or 0) >= FULL_SEEDS


def _size(finding: Finding) -> str:
    seeds = finding.n_seeds or 0
    return f"tier {finding.tier}, {seeds} seed{'s' if seeds != 1 else ''}"


def _figures(text: str, pattern: str) -> tuple[float, ...]:
    """Tolerances that the rules give in a sentence."""
    found = re.search(pattern, text, flags=re.S)
    if not found:
        raise ValueError(f"verdict_rules.yaml: no {pattern!r} in {text!r}")
    return tuple(float(part) for part in found.groups())
