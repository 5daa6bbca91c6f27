"""What notebook 05 says of the model beside the mean absolute feature, on rows whose winner is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anomaly_routing.model import comparison

ROW = {
    "family": "trivial", "seeds": "1", "of": 13, "by chance": 2.0, "hits": 5, "hits, test": 5, "median lead": 3.5,
    "episode precision": 0.25, "AUC": 0.5, "AP": 0.13, "p": 0.05, "p, test": 0.01, "p, test collapsed": 0.03,
    "false alarms": 0.036, "noise to signal": 0.4, "alarm days": 0.025,
}  # fmt: skip
PLAIN = pd.Series(ROW)


def row(**changed) -> pd.Series:
    return pd.Series(ROW | {"family": "full model"} | {k.replace("_", " "): v for k, v in changed.items()})


def test_every_measure_is_won_lost_or_equal():
    """Each alone, a little better and a little worse: for half of them lower is better."""
    for measure in (*comparison.HIGHER, *comparison.LOWER):
        for change, up in ((1.1, True), (0.9, False)):
            own = PLAIN.copy()
            own[measure] = own[measure] * change
            found = comparison.won_and_lost(own, PLAIN)
            kind, other = ("won", "lost") if up == (measure in comparison.HIGHER) else ("lost", "won")
            name = comparison.SAID.get(measure, measure)
            assert [text.split(" (")[0] for text in found[kind]] == [name] and not found[other]
            assert len(found["equal"]) == len(comparison.HIGHER + comparison.LOWER) - 1
    without = comparison.won_and_lost(row(median_lead=np.nan), PLAIN)
    assert without["unknown"] == ["median lead"] and not without["lost"]


def test_a_lead_in_hits_does_not_hide_what_it_costs():
    own = row(hits=6, median_lead=2.5, false_alarms=0.067, episode_precision=0.14, noise_to_signal=0.43)
    own["alarm days"] = 0.0875
    assert comparison.hits_beside_days(own, PLAIN) == "6 hits on 8.8% alarm days against 5 on 2.5%, 3.5 times the days"
    told = comparison.verdict(own, PLAIN)
    lost, won = told.split("; ")[:2]
    assert lost == (
        "**it loses on median lead (2.5 against 3.5), episode precision (0.14 against 0.25), "
        "false alarms (0.067 against 0.036), noise to signal (0.43 against 0.4)**"
    )
    assert won == "**it wins on hits (6 against 5)**"
    assert comparison.verdict(PLAIN, PLAIN).startswith("it loses on nothing; it wins on nothing; equal: hits (5)")


def test_lines_and_bullets_name_protocol_method_and_who_is_ahead():
    table = pd.DataFrame([
        PLAIN.rename("").to_dict() | {"method": "mean_abs_z"},
        row(hits=4, AP=0.1).to_dict() | {"method": "intended"},
        PLAIN.to_dict() | {"method": "random", "seeds": "2-6 (3)", "AP": 0.05},
    ])  # fmt: skip
    lines = comparison.verdicts({"paper": table, "matched": table}).split("\n")
    assert [line.split(":")[0] for line in lines] == ["- `intended` under `paper`", "- `intended` under `matched`"]
    assert "4 hits on 2.5% alarm days against 5 on 2.5%, 1.0 times the days of `mean_abs_z`" in lines[0]
    (told,) = comparison.bullets({"paper": table}, ["intended"]).split("\n")
    assert "it loses on hits, AP and wins on nothing" in told and "precision: `mean_abs_z`." in told
    assert "hits by seed: 2-6 (3)" in told
    quiet = comparison.hits_beside_days(row(), PLAIN.replace({0.025: 0.0}))
    assert quiet.endswith("on 0.0%")
