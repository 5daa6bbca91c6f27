"""The tables of notebook 09 and its answers, where the better forecast and the right tail are planted."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from planted_assets import planted_asset
from scipy.stats import norm, t

from anomaly_routing.claims import load_claims
from anomaly_routing.ledger.verdict import judge
from anomaly_routing.risk import claims as page
from anomaly_routing.risk import comparison
from anomaly_routing.risk.comparison import ORDER, Redrawn
from anomaly_routing.risk.realised_variance import autocorrelation, memory
from anomaly_routing.risk.systems import PRICE_ONLY, VOLUME, backtest_all
from tests.conftest import ROOT

N, NAMES, P = 600, ["A", "B", "C"], 0.01
CLAIMS = load_claims(ROOT / "paper" / "claims.yaml")
RULES = yaml.safe_load((ROOT / "paper" / "verdict_rules.yaml").read_text())


def planted_losses(means: dict[str, float], noise: float = 0.1, seeds: int = 3) -> dict[str, np.ndarray]:
    """Losses with these means; every model shares the days, so that their differences are known."""
    rng = np.random.default_rng(0)
    days = rng.gamma(4, 0.25, (N, len(NAMES)))
    made = {}
    for model in ORDER:
        own = seeds if model in (VOLUME, PRICE_ONLY) else 1
        made[model] = means[model] * days * (1 + noise * rng.standard_normal((own, N, len(NAMES))))
    return made


QLIKE = planted_losses(dict(zip(ORDER, (4.0, 2.0, 1.0, 1.0, 1.5, 1.2), strict=True)))


# --- forecasts -------------------------------------------------------------------------------------------------------
def test_means_and_ratios_are_those_that_were_planted():
    losses = {"QLIKE": QLIKE, "MSE": {model: 3 * own for model, own in QLIKE.items()}}
    table = comparison.mean_losses(losses, NAMES)
    assert len(table) == 2 * len(NAMES)
    np.testing.assert_allclose(table[table.loss == "MSE"][list(ORDER)], 3 * table[table.loss == "QLIKE"][list(ORDER)])
    both = comparison.relative_losses(losses).set_index("model")
    relative, alone = both["QLIKE"], both["QLIKE, stocks alone"]
    by_hand = QLIKE["garch_t"][:, :, 1:].mean(axis=(0, 1)) / QLIKE["har"][:, :, 1:].mean(axis=(0, 1))
    assert alone["garch_t"] == pytest.approx(by_hand.mean()) and alone["har"] == 1
    assert relative["har"] == 1
    np.testing.assert_allclose(relative[[VOLUME, "garch_t", "constant"]], [1.2, 2.0, 4.0], rtol=0.02)


def test_the_confidence_set_holds_the_best_and_not_the_worst():
    sets = comparison.confidence_sets(QLIKE, NAMES, 100)
    assert list(sets.columns) == NAMES and (sets.loc[["har", "har_volume"]].max() == 1).all()
    assert (sets.loc["constant"] < 0.1).all()


def test_volume_saves_what_was_planted():
    gains = comparison.volume_gains(QLIKE, NAMES)
    pooled = gains[gains.asset == "pooled"].set_index("model")
    assert len(gains) == 2 * (len(NAMES) + 1)
    assert pooled.loc["LSTM", "gain, %"] == pytest.approx(20, abs=1)  # from 1.5 to 1.2
    assert pooled.loc["LSTM", "low"] < 20 < pooled.loc["LSTM", "high"] and pooled.loc["LSTM", "p"] < 1e-6
    assert pooled.loc["HAR-RV", "low"] < 0 < pooled.loc["HAR-RV", "high"]
    by_seed = comparison.saved_by_seed(QLIKE, PRICE_ONLY, VOLUME)
    assert len(by_seed) == 3 and np.mean(by_seed) == pytest.approx(pooled.loc["LSTM", "gain, %"], abs=0.2)
    assert np.mean(comparison.saved_by_seed(QLIKE, "har", VOLUME)) == pytest.approx(-20, abs=1)


def test_an_autoregression_remembers_as_it_should():
    rng, x = np.random.default_rng(0), np.zeros(40_000)
    for i in range(1, len(x)):
        x[i] = 0.8 * x[i - 1] + rng.standard_normal()
    np.testing.assert_allclose(autocorrelation(x, np.array([1, 2, 5])), [0.8, 0.64, 0.8**5], atol=0.02)
    remembered = memory([planted_asset(n=6000, phi=0.9, noise=0.0)], np.array([1, 10]))
    assert remembered["ln RV"][1] == pytest.approx(0.9, abs=0.03)
    assert abs(remembered["return"][1]) < 0.05 < remembered["|return|"][1] < remembered["ln RV"][1]


# --- tails and closeness ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def tails():
    """Two assets with Student returns, three tails: EVT is right, the filtered one nearly, the Gaussian far too short;
    and plain historical simulation, twice as far out as it should be."""
    assets = [planted_asset(n=3000, seed=s, name=n) for s, n in ((0, "A"), (1, "B"))]
    rng = np.random.default_rng(3)
    assets = [type(a)(a.name, a.sessions, 0.01 * t.rvs(3, size=3000, random_state=rng), a.variance, a.log_volume)
              for a in assets]  # fmt: skip
    right = 0.01 * t.isf(P, 3)
    level = {"evt": right, "filtered historical": 1.02 * right, "gaussian": 0.6 * right}
    made = {}
    for model in ORDER:
        for seed in (0, 1) if model in (VOLUME, PRICE_ONLY) else (0,):
            for tail, value in level.items():
                var = np.full((3000, 2), value * (1 + 0.001 * seed))
                made[model, tail, seed] = (var, 1.5 * var)
    made["rolling", "historical", 0] = tuple(2 * np.full((3000, 2), right) * k for k in (1, 1.5))
    out = slice(500, None)
    return assets, made, out, backtest_all(assets, made, out, P)


def test_the_right_tail_saves_quantile_loss_and_is_closer(tails):
    assets, made, out, tested = tails
    gains = comparison.tail_gains(assets, made, out, P)
    assert (gains["gaussian"].gain > 2).all() and gains["filtered historical"].gain.abs().max() < 0.5
    assert (gains["historical"].gain > 2).all()  # a rival of its own, not the filtered one
    table = comparison.tail_table(tested, gains, P).set_index("model")
    assert (table["distance, evt"] < table["distance, gaussian"]).all()
    assert (table["ratio, gaussian"] > table["ratio, evt"]).all()
    np.testing.assert_allclose(table["EVT saves on gaussian, %"], gains["gaussian"].gain)
    n, counts = comparison.closer_tails(tested, P)
    assert n == 2 * 8 and counts["gaussian"][0] == n and all(sum(c) == n for c in counts.values())
    lines = {(x.model, x.tail, x.seed, x.asset): abs(x.ratio - P) for x in tested.itertuples()}
    slow = [0, 0, 0]  # a loop over the definition
    for (_, tail, _, name), own in lines.items():
        if tail == "evt":
            rival = lines["rolling", "historical", 0, name]
            slow[1 + int(np.sign(own - rival))] += 1
    assert counts["historical"] == tuple(slow) and slow[0] == n and counts["filtered historical"] != tuple(slow)
    assert table["ratio, historical"].nunique() == 1
    pooled = comparison.pooled_ratios(tested)
    own = tested[(tested.model == VOLUME) & (tested["tail"] == "evt")]
    assert pooled[VOLUME, "evt"] == own.violations.sum() / own.sessions.sum()


def test_redrawing_prefers_the_right_rate():
    rng = np.random.default_rng(0)
    returns = rng.standard_normal(4000)
    levels = {"right": norm.isf(0.01), "thrice": norm.isf(0.03), "never": 9.0}
    found = comparison.redraw(returns, {k: np.full(4000, v) for k, v in levels.items()}, 0.01, 300)
    assert isinstance(found, Redrawn) and found.closest.index[-1] == "right" and found.closest["right"] > 0.95
    assert found.closest.sum() == pytest.approx(1) and -1 <= found.stability <= 1
    twins = comparison.redraw(returns, {"a": np.full(4000, 2.3), "b": np.full(4000, 2.3)}, 0.01, 50)
    assert twins.closest.tolist() == [0.5, 0.5]  # a tie is shared


def test_closeness_grows_with_the_sample():
    table = comparison.closeness([250, 4000], P)
    noticed = table.pivot_table(index="sessions", columns="wrong rate", values="Kupiec notices")
    assert (noticed.loc[4000] > noticed.loc[250]).all()
    assert table["the right one looks closer"].between(0, 1).all()


# --- the page's claims -----------------------------------------------------------------------------------------------
def test_estimates_have_the_planted_sign_and_the_rules_judge_them(tails):
    assets, made, out, tested = tails
    gains = comparison.volume_gains(QLIKE, NAMES)
    estimates = {
        "Z000.evt.violation": page.nearness(assets, made, out, P),
        "Z000.evt.vol_fc": page.volatility(QLIKE),
        "Z000.evt.volume": page.volume(QLIKE, gains),
        "Z000.evt.tail": page.tail(assets, made, out, P, comparison.tail_gains(assets, made, out, P)),
    }
    assert page.better_traditional(QLIKE) == "har"
    found = page.findings(estimates, "quick")
    assert found["Z000.evt.vol_fc"].value == pytest.approx(-20, abs=1)
    assert found["Z000.evt.volume"].value == pytest.approx(20, abs=1) and found["Z000.evt.volume"].n_seeds == 3
    assert found["Z000.evt.tail"].value > 2 and found["Z000.evt.violation"].value <= 0  # a rival has the same tail
    ratios = comparison.pooled_ratios(tested)
    rivals = [abs(v - P) for (model, _), v in ratios.items() if model not in (VOLUME, PRICE_ONLY)]
    assert found["Z000.evt.violation"].value == pytest.approx(100 * (min(rivals) - abs(ratios[VOLUME, "evt"] - P)))
    for claim, estimate in estimates.items():  # the interval that is judged covers that over sessions
        assert found[claim].low <= estimate.sessions[0] <= estimate.sessions[1] <= found[claim].high
    table = page.verdicts(estimates, found, CLAIMS, RULES, real=True).set_index("claim")
    assert (
        table.verdict["Z000.evt.vol_fc"] == "differs" and table.verdict["Z000.evt.volume"] == "close"
    )  # of tier quick
    assert table.verdict["Z000.evt.china"].startswith("not testable")
    elsewhere = page.verdicts(estimates, found, CLAIMS, RULES, real=False)
    assert elsewhere[elsewhere.estimate.notna()].verdict.eq("none: not the real market").all()


def test_five_seeds_on_one_history_do_not_show_a_direction():
    """The seeds agree to the last digit, the sessions do not exclude zero: close, at any size of training."""
    estimate = page.Estimate([1.0] * 10, "points", (-0.5, 2.5))
    found = page.findings({"Z000.evt.tail": estimate}, "gpu")["Z000.evt.tail"]
    assert (found.low, found.high) == (-0.5, 2.5)
    assert judge(CLAIMS["Z000.evt.tail"], found, RULES).verdict == "close"
    sure = page.findings({"Z000.evt.tail": estimate._replace(sessions=(0.5, 1.5))}, "gpu")["Z000.evt.tail"]
    assert judge(CLAIMS["Z000.evt.tail"], sure, RULES).verdict == "match"


def test_a_p_value_is_never_printed_as_zero():
    assert [comparison.p_text(p) for p in (0.0004, 0.012, 0.5)] == ["<0.01", "0.01", "0.50"]


def test_backtests_are_reported_where_they_exist(tails):
    *_, tested = tails
    finding = page.backtests_reported(tested, "quick")
    assert finding.value is True and finding.part is None and finding.n_seeds == 2
    assert "Kupiec 0%" in finding.note and "4 series (2 assets, 2 seeds)" in finding.note
    untested = tested.copy()
    first = untested.index[(untested.model == VOLUME) & (untested["tail"] == "evt")][0]
    untested.loc[first, "p independence"] = np.nan  # no violation, no test
    half = page.backtests_reported(untested, "quick")
    assert half.value is False and half.part == 0.75
