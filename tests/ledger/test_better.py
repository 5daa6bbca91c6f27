"""Better than chance at an equal allowance: the rule on planted methods, the correction against another package's."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from anomaly_routing.ledger.better import against_chance, better_sentence, holm


def method(
    hits: int, p: float | None, once: float | None, days: float = 0.05, family: str = "deep", cheat: bool = False
):
    line = {"hits_test": hits, "n_events_test": 9, "alarm_rate_test": days}
    return {
        "lookahead": cheat,
        "family": family,
        "matched": line | {"chance_p_test": p, "chance_p_test_march_collapsed": once},
    }


METHODS = {
    "cheat": method(9, 0.0001, 0.0001, cheat=True),
    "loud": method(6, 0.02, 0.04, days=0.12),
    "quiet": method(6, 0.01, 0.03, days=0.04, family="trivial"),
    "march": method(5, 0.01, 0.2),
    "blind": method(1, 0.9, 0.8),
    "never": method(0, None, None),
    "intended": method(5, 0.03, 0.15),
}


def test_the_most_hits_on_the_fewest_alarm_days_first_and_both_tests_count():
    table = against_chance(METHODS)
    assert table.index.tolist()[:2] == ["quiet", "loud"] and "cheat" not in table.index
    assert table.p_both.to_dict() == pytest.approx(
        {"quiet": 0.03, "loud": 0.04, "march": 0.2, "intended": 0.15, "blind": 0.9, "never": np.nan}, nan_ok=True
    )


def test_holms_correction_is_that_of_statsmodels():
    p = pd.Series(np.random.default_rng(0).uniform(0, 0.2, 30), index=list(range(30, 0, -1)))
    assert holm(p).to_numpy() == pytest.approx(multipletests(p, method="holm")[1])
    p[5] = np.nan
    assert np.isnan(holm(p)[5]) and holm(p).dropna().to_numpy() == pytest.approx(
        multipletests(p.dropna(), method="holm")[1]
    )
    assert holm(pd.Series([np.nan])).isna().all()


def test_the_sentence_says_who_how_and_what_is_left():
    text = better_sentence(METHODS)
    assert "2 of 6 causal methods hit more of the 9 test events" in text and "March 2023 as one" in text
    assert "most hits: `quiet`, trivial (6 on 4% alarm days, p 0.01 and 0.03); `loud` (6 on 12%" in text
    assert "The paper's model is not among them: `intended` (5 on 5% alarm days, p 0.03 and 0.15)" in text
    assert "After Holm's correction for 5 tries none is left (smallest p 0.15): 9 events are too few" in text
    assert "p 0.02)" in better_sentence(METHODS | {"twice": method(9, 0.0151, 0.0249)})  # both read alike: said once
    strong = METHODS | {"strong": method(8, 0.001, 0.001)}
    assert "`strong` is left (smallest p 0.01)." in better_sentence(strong) and "too few" not in better_sentence(strong)


def test_a_market_without_such_events_and_one_without_any_verdict():
    plain = {name: method(m["matched"]["hits_test"], 0.3, 0.3) for name, m in METHODS.items()}
    text = better_sentence(plain)
    assert "None of 7 causal methods" in text and "March" not in text and "p 0.30)" in text
    assert "No method was judged" in better_sentence({"never": METHODS["never"]})
