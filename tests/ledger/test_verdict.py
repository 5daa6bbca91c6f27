"""The rules with made-up values: at, inside and outside each tolerance, and what caps or marks a verdict."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from dataclasses import replace

import pytest
import yaml

from anomaly_routing.claims import KINDS, Claim
from anomaly_routing.ledger.deciders.training import NEAR
from anomaly_routing.ledger.verdict import BY_MEAN, BY_READING, Difference, Finding, judge, middle
from tests.conftest import ROOT

RULES = yaml.safe_load((ROOT / "paper" / "verdict_rules.yaml").read_text())
AS_COMMITTED = "0db5fdbad208b08fcee9f4e12ec3d08c2de845769ba45678e09d5e8d2860f66b"  # of ba3f97f
FULL = {"tier": "gpu", "n_seeds": 10}
EPS = 1e-6


def claim(kind: str, value=None, direction: str = "") -> Claim:
    return Claim("X.1", "here", "something", kind, "a computation", False, value, direction=direction)


def verdict(kind: str, value, ours, by: str = "", **more) -> str:
    return str(judge(claim(kind, value), Finding(ours, by, **more), RULES))


# kind, way, the paper's value, match and close distance as the rules give them (absolute)
TOLERANCES = [
    ("data", "", 200.0, 0.0, 0.02 * 200),
    ("data", "market_quantity", 40.0, 0.10 * 40, 0.25 * 40),
    ("detection", "", 9.0, 0.0, 1.0),
    ("detection", "score_levels", 0.6, 0.02, 0.05),
    ("detection", "relative_rises", 58.0, 2.0, 5.0),
    ("detection", "rates", 76.9, 2.0, 7.7),
    ("lead_time", "", 3.8, 0.5, 1.0),
    ("attribution", "", 0.39, 0.02, 0.05),
    ("attribution", "relative_rises", 33.0, 5.0, 15.0),
    ("sensitivity", "", 91.2, 2.0, 5.0),
    ("sensitivity", "rates", 91.2, 2.0, 5.0),
    ("alert_distribution", "", 63.1, 2.0, 5.0),
    ("graph", "", 0.35, 0.05, 0.10),
    ("graph", "counts", 40.0, 0.0, 0.05 * 40),
    ("parameter_count", "", 270_000.0, 2_700.0, 27_000.0),
    ("runtime", "", 51.8, 5.0, 10.0),
]


@pytest.mark.parametrize(("kind", "by", "value", "match", "close"), TOLERANCES)
def test_at_inside_and_outside_each_tolerance(kind, by, value, match, close):
    for sign in (-1, 1):
        assert verdict(kind, value, value + sign * match, by) == "match"
        if match:
            assert verdict(kind, value, value + sign * match / 2, by) == "match"
        assert verdict(kind, value, value + sign * (match + EPS * value), by) == "close"
        assert verdict(kind, value, value + sign * close, by) == "close"
        assert verdict(kind, value, value + sign * (close + EPS * value), by) == "differs"


def test_an_ablation_needs_its_interval():
    """Half an event matches, one is close; but only when the difference is shown."""
    for ours, given in ((8.5, "match"), (7.5, "match"), (8.9, "close"), (7.0, "close"), (9.01, "differs")):
        assert verdict("ablation", 8.0, ours, low=0.5, high=2.0) == given
    assert verdict("ablation", 8.0, 8.0, low=-0.1, high=2.0) == "close (difference not shown)"
    assert verdict("ablation", 8.0, 8.0) == verdict("ablation", 8.0, 7.2) == "close (difference not shown)"
    assert verdict("ablation", 8.0, 9.01) == "differs"
    for off, given in ((50 / 13, "match"), (51 / 13, "close"), (100 / 13, "close"), (101 / 13, "differs")):
        assert verdict("ablation", -23.1, -23.1 + off, "rates", low=-30.0, high=-16.0) == given  # half an event, one
    assert verdict("ablation", -23.1, -23.1, "rates", low=-30.0, high=-16.0, **FULL) == "match"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_rule(kind):
    assert {"statistic", "unit", "match", "close"} <= set(RULES["rules"][kind])


def test_a_smaller_size_is_at_best_close():
    assert verdict("detection", 9, 9, **FULL) == "match"
    assert verdict("detection", 9, 9, tier="gpu", n_seeds=9) == "close (tier gpu, 9 seeds)"
    assert verdict("detection", 9, 9, tier="cpu", n_seeds=1) == "close (tier cpu, 1 seed)"
    assert verdict("detection", 9, 9) == "match"  # nothing was trained
    assert verdict("detection", 9, 4, tier="cpu", n_seeds=1) == "differs"


def test_seeds_need_their_tier():
    with pytest.raises(ValueError, match="2 seeds and no tier"):
        verdict("runtime", 9.5, 9.5, n_seeds=2)


def test_a_difference_is_judged_in_place_of_the_level():
    """Half an event matches, whatever the level; the interval is that of the difference."""
    for ours, given in ((-3.0, "match"), (-3.5, "match"), (-4.0, "close"), (-4.1, "differs")):
        assert verdict("ablation", 9.0, 2.5, difference=Difference(ours, -3.0, ours - 0.2, ours + 0.2)) == given
    wide = Difference(-3.0, -3.0, -7.0, 1.0)
    assert verdict("ablation", 9.0, 2.5, difference=wide, low=1.0, high=2.0) == "close (difference not shown)"
    assert verdict("sensitivity", 87.3, 46.0, difference=Difference(0.0, -3.9)) == "close"


def test_a_mean_near_the_claim_with_no_seed_near_says_so():
    alone = "the mean alone, no single seed near"
    assert verdict("attribution", 0.39, 0.40, by_seed=(0.0, 0.8), **FULL) == f"match ({alone})"
    small = {"tier": "cpu", "n_seeds": 2}
    assert verdict("attribution", 0.39, 0.40, by_seed=(0.0, 0.8), **small) == f"close (tier cpu, 2 seeds; {alone})"
    assert verdict("attribution", 0.39, 0.40, by_seed=(0.36, 0.44), **FULL) == "match"
    assert verdict("attribution", 0.39, 0.80, by_seed=(0.7, 0.9), **FULL) == "differs"


def test_a_range_over_few_seeds_is_no_interval():
    ends = {"low": 0.1, "high": 0.3}
    assert verdict("graph", None, 0.2, "direction", **ends) == "match"
    assert verdict("graph", None, 0.2, "direction", ranged=True, **ends) == "close"


def test_what_is_read_says_so():
    assert verdict("narrative", None, False, "holds", read=True) == "differs (by reading)"


def test_mean_or_median_over_seeds_is_that_of_the_rules():
    for kind, rule in RULES["rules"].items():
        text = rule["statistic"].lower()
        if "over seeds" in text:
            last = max(("mean", "median"), key=lambda word: text[: text.index("over seeds")].rfind(word))
            assert middle(kind)([0.0, 0.0, 3.0]) == {"mean": 1.0, "median": 0.0}[last], kind


def test_a_match_that_luck_gives_is_marked():
    assert verdict("detection", 9, 9, chance_p=0.051, **FULL) == "match (no better than chance)"
    assert verdict("detection", 9, 9, chance_p=0.05, **FULL) == "match"
    assert verdict("detection", 9, 8, chance_p=0.9, **FULL) == "close"


def test_a_method_beats_another_only_with_the_paired_test():
    assert verdict("detection", None, True, "holds", paired_p=0.049, **FULL) == "match"
    assert verdict("detection", None, True, "holds", paired_p=0.05, **FULL) == "close (the better count alone)"


def test_what_our_build_takes_over_says_so():
    assert verdict("data", 64, 64, "exact", built=True) == "match (by construction)"
    assert verdict("data", 64, 65, "exact", built=True) == "differs"


def test_directions():
    assert verdict("graph", None, 0.2, "direction", low=0.1, high=0.3) == "match"
    assert verdict("graph", None, 0.2, "direction", low=-0.1, high=0.5) == "close"
    assert verdict("graph", None, 0.2, "direction") == "close"
    for wrong in (-0.2, 0.0):
        assert verdict("graph", None, wrong, "direction", low=-0.3, high=-0.1) == "differs"


def test_ranges():
    inside, near = ((4, "match"), (6, "match"), ([4, 5, 6], "match")), ((7, "close"), (3, "close"))
    for ours, given in (*inside, *near, ([5, 8], "differs")):
        assert verdict("detection", [4, 6], ours, "range") == given


def test_checks_and_parts():
    assert verdict("narrative", None, True, "holds") == "match"
    assert verdict("narrative", None, False, "holds", part=0.5) == "close"
    assert verdict("narrative", None, False, "holds", part=0.0) == "differs"
    assert verdict("narrative", None, False, "holds") == "differs"


def test_orders_over_seeds_and_rank_correlations():
    for share, given in ((1.0, "match"), (0.8, "match"), (0.79, "close"), (0.6, "close"), (0.59, "differs")):
        assert verdict("attribution", None, share, "seeds", **FULL) == given
    for rank, given in ((0.8, "match"), (0.79, "close"), (0.5, "close"), (0.49, "differs")):
        assert verdict("ablation", None, rank, "rank", **FULL) == given


def test_vectors_count_by_their_worst_entry():
    assert verdict("attribution", [0.45, 0.48], [0.46, 0.47]) == "match"
    assert verdict("attribution", [0.45, 0.48], [0.45, 0.52]) == "close"
    with pytest.raises(ValueError, match="2 claimed"):
        verdict("attribution", [0.45, 0.48], [0.45])


def test_what_cannot_be_compared_is_an_error():
    with pytest.raises(ValueError, match="claims no number"):
        verdict("narrative", None, 3.0)
    with pytest.raises(ValueError, match="holds or does not"):
        verdict("narrative", None, 3.0, "holds")
    assert math.isclose(replace(Finding(1.0), value=2.0).value, 2.0)


def test_the_rules_are_those_committed_before_the_scores():
    """Their text has not moved since; what was settled later stands under `changes`, with its date and reason."""
    text = json.dumps([RULES["common"], RULES["rules"]], sort_keys=True).encode()
    assert hashlib.sha256(text).hexdigest() == AS_COMMITTED
    for change in RULES["changes"]:
        assert set(change) == {"date", "rule", "change", "reason"} and len(change["reason"]) > 20
        assert isinstance(change["date"], datetime.date) and change["rule"] in (*KINDS, "all kinds")
    listed = " ".join(change["change"] for change in RULES["changes"])
    assert "T5.epochs_avg" in listed and f"{NEAR:.0%}" in listed and "S42.gme_level" in listed
    assert BY_MEAN in listed and BY_READING in listed
    assert RULES["rules"]["detection"]["close"] == 1 and RULES["rules"]["lead_time"]["match"] == 0.5
