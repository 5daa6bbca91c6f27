"""The chapter's statements on data where the answer is known beforehand."""

from __future__ import annotations

from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest

from anomaly_routing.chapter import claims, statements
from anomaly_routing.chapter.case import training
from anomaly_routing.chapter.planted import KINDS, Planted, plant
from anomaly_routing.chapter.public_board import archive_hits, judged_series, mean_board, stocks_as_series
from anomaly_routing.chapter.public_series import Labelled
from anomaly_routing.chapter.study import kinds_found, outcome_of, run_detectors
from anomaly_routing.chapter.usefulness import after_flags, known_faults, moves_ahead
from anomaly_routing.panel import Panel, plain_panel


@pytest.fixture(scope="module")
def gaussian() -> Panel:
    """Three stocks without tails, seasons or memory."""
    rng = np.random.default_rng(0)
    return plain_panel(0.01 * rng.standard_normal((1200, 3)), 10 + 0.3 * rng.standard_normal((1200, 3)))


# --- masking ---------------------------------------------------------------------------------------------------------
def test_many_spikes_hide_from_the_z_score_alone(gaussian):
    """With a share q of spikes of s SDs a spike has z = s / sqrt(1 - q + q s^2): above 3 up to q of about 0.097."""
    spiked = statements.masking(gaussian, training(gaussian))
    recall = spiked.groupby(["method", "planted"])["recall"].mean()
    assert (recall["modified_zscore"] == 1).all()
    assert recall["zscore", 0.05] == 1 and recall["zscore", 0.15] == 0
    finding = claims.robust(spiked)
    expected = (recall["modified_zscore"] - recall["zscore"]).mean()
    assert finding.value == pytest.approx(expected) and finding.low > 0 and "15% spikes: z 0%" in finding.note


# --- told shares -----------------------------------------------------------------------------------------------------
def test_a_forest_flags_the_share_that_it_is_told(gaussian):
    shares = statements.contamination_shares(gaussian, training(gaussian))
    assert len(shares) == 4 * 3 and claims.told_share(shares).value is True
    shares.loc[0, "flagged"] += 2
    broken = claims.told_share(shares)
    assert broken.value is False and broken.part == pytest.approx(11 / 12)


def test_a_percentile_flags_its_share_of_the_rows_fitted_on(gaussian):
    shares = statements.percentile_shares(gaussian, training(gaussian), epochs=1).set_index("mode")
    defined = int(np.isfinite(gaussian.returns).sum()) - 3 * 14  # volatility needs 15 of 20 sessions
    assert shares["rows"]["chapter"] == defined and np.isnan(shares.later["chapter"])
    assert shares["rows"]["causal"] == 3 * (training(gaussian).sum() - 14) and 0 < shares.later["causal"] < 0.15
    finding = claims.told_percentile(shares.reset_index())
    assert finding.value is True and "of the days after training" in finding.note
    assert claims.told_percentile(shares.reset_index().assign(flagged=0)).part == 0


# --- One-Class SVM ---------------------------------------------------------------------------------------------------
def test_nu_bounds_what_is_clearly_outside(gaussian):
    """Schölkopf et al. 2001, proposition 3, on Gaussian rows; and unscaled volumes have no geometry (D03)."""
    shares = statements.nu_shares(gaussian, training(gaussian), max_rows=800)
    assert (shares.beyond <= shares.nu + 1e-9).all() and (shares.beyond <= shares.outside).all()
    scaled = shares[shares.inputs == "scaled"].set_index("nu")
    assert scaled.beyond[0.5] == pytest.approx(0.5, abs=0.02) and scaled.outside[0.2] == pytest.approx(0.2, abs=0.02)
    assert shares[shares.inputs == "unscaled"].outside.max() > 0.3
    finding = claims.bounded(shares)
    fits = scaled.outside <= 1.1 * scaled.index
    assert finding.value == fits.all() and finding.part == (None if fits.all() else pytest.approx(fits.mean()))


def test_growth_is_the_exponent():
    table = pd.DataFrame(
        [(d, n, 3.0 * n**1.5) for d in range(3) for n in (100, 200, 400)], columns=["draw", "rows", "work"]
    )
    np.testing.assert_allclose(statements.growth(table), 1.5)
    finding = claims.superlinear(table)
    assert finding.value == pytest.approx(0.5) and finding.low == pytest.approx(0.5)
    assert claims.superlinear(table.assign(work=7.0 * table["rows"])).value == pytest.approx(0, abs=1e-12)


def test_the_work_of_a_fit_is_the_same_each_time_and_grows(gaussian):
    train = training(gaussian)
    work = statements.svm_work(gaussian, train, draws=2, max_rows=800)
    pd.testing.assert_frame_equal(work, statements.svm_work(gaussian, train, draws=2, max_rows=800))
    assert sorted(work["rows"].unique()) == [50, 100, 200, 400, 800]
    assert (work.groupby("draw")["work"].diff().dropna() > 0).all()


# --- plants ----------------------------------------------------------------------------------------------------------
def test_points_have_a_higher_error_and_flat_stretches_a_lower_one(gaussian):
    errors = statements.errors_by_kind(gaussian, training(gaussian), each=6, draws=2, epochs=5, max_rows=600)
    mean = errors[errors["mode"] == "causal"].groupby("kind")["auroc"].mean()
    assert set(errors.kind) == set(KINDS) and mean["point"] > 0.97 and mean["collective"] < 0.5
    finding = claims.higher_error(errors, "quick")
    assert finding.value is False and 0 < finding.part < 1 and finding.n_seeds == 2
    assert claims.higher_error(errors.assign(auroc=0.9 + 0.01 * errors.draw), "quick").value is True


def test_without_a_season_the_residual_finds_no_more_than_the_fences(gaussian):
    recall = statements.context_recall(gaussian, training(gaussian), each=8, draws=3)
    assert set(recall["cut"]) == {"own", "1%", "2%", "5%", "10%"} and set(recall["mode"]) == {"chapter", "causal"}
    assert recall[["iqr", "stl_residual"]].stack().between(0, 1).all()
    none = claims.in_context(recall)
    assert none.value < 0.15 and none.low < 0.1
    planted = recall.assign(iqr=0.2, stl_residual=0.7 + 0.01 * recall.draw)
    better = claims.in_context(planted)
    assert better.value == pytest.approx(0.51) and better.low > 0.4 and "the sign changes" not in better.note
    wins = {"own": 0.0, "1%": 0.0, "2%": 0.0, "5%": 0.5, "10%": -0.1}  # on average it wins; at one share it loses
    mixed = claims.in_context(recall.assign(iqr=0.4, stl_residual=0.4 + recall["cut"].map(wins)))
    assert mixed.value == pytest.approx(-0.1) and "the sign changes" in mixed.note
    assert "1% +0.00, 2% +0.00, 5% +0.50, 10% -0.10" in mixed.note


# --- the volume case -------------------------------------------------------------------------------------------------
def test_days_that_both_rules_must_see_are_shared(gaussian):
    loud = gaussian.log_volume.copy()
    loud[::100] += 8.0
    train = training(gaussian)
    shared = statements.shared_flags(replace(gaussian, log_volume=loud), train)
    assert (shared.IQR == 12).all() and (shared.both >= 11).all() and (shared.days == 1200).all()
    np.testing.assert_allclose(shared.chance, shared.IQR * shared.forest / 1200)
    finding = claims.overlapping(shared, "S1")
    assert finding.low > 0.3 and finding.chance_p < 0.05 and "fences 12" in finding.note
    quiet = claims.overlapping(statements.shared_flags(gaussian, train), "S1")
    assert quiet.value < 0.1


# --- by construction -------------------------------------------------------------------------------------------------
def test_kinds_and_sections_are_counted(gaussian, tmp_path):
    episodes = plant(gaussian, ~training(gaussian), 4).episodes
    assert claims.kinds_planted(episodes).value == 3
    assert claims.kinds_planted(episodes[episodes.kind != "point"]).value == 2
    cell, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    nb = nbformat.v4.new_notebook(cells=[
        text("# 10 Title\n## not a number"), cell("x"), text("words\n\n## 1. One\nmore"), cell("a"), cell("b"),
        text("## 2. Two"), text("## What was found"), cell("c"),
    ])  # fmt: skip
    nbformat.write(nb, tmp_path / "n.ipynb")
    sections = statements.numbered_sections(tmp_path / "n.ipynb")
    assert sections == {"1. One": 2, "2. Two": 0}
    assert claims.objectives_met(sections).value == 1  # an empty section teaches nothing


# --- what a flag is good for, and labelled series --------------------------------------------------------------------
def test_moves_ahead_by_hand():
    ahead = moves_ahead(np.array([[1.0], [-2.0], [np.nan], [4.0]]), sessions=2)
    np.testing.assert_allclose(ahead[:, 0], [2.0, 4.0, 4.0, np.nan])  # a day without a return is left out


def test_flags_before_storms_are_told_from_flags_anywhere():
    rng = np.random.default_rng(0)
    before = np.tile(np.isin(np.arange(2000), rng.choice(np.arange(10, 1990), 20, replace=False))[:, None], 4)
    storm = np.stack([np.roll(before[:, 0], k) for k in range(1, 6)]).any(axis=0)
    returns = 0.01 * rng.standard_normal((2000, 4)) * np.where(storm, 5, 1)[:, None]
    panel, late = plain_panel(returns, np.zeros((2000, 4))), np.arange(2000) >= 500
    use = after_flags(panel, late, {"before": before, "anywhere": rng.random((2000, 4)) < 0.05}).set_index("method")
    ratios = use["|return| of the next five, against any day"]
    assert ratios["before"] > 3 and use.p["before"] < 0.05 and ratios["anywhere"] == pytest.approx(1, abs=0.2)
    assert use.flagged["before"] == before[500:].sum()


def test_known_faults_by_hand():
    panel = plain_panel(np.zeros((4, 1)), np.zeros((4, 1)))
    panel = replace(panel, sessions=pd.DatetimeIndex(["2016-01-03", "2016-01-04", "2017-01-01", "2019-01-01"]))
    rows = pd.DataFrame({"date": panel.sessions, "ticker": "S0", "ohlc_ok": [False, True, True, False]})
    marked, of_flagged = known_faults(rows, panel, np.array([[True], [True], [False], [True]]))
    assert marked == pytest.approx(1 / 3) and of_flagged == 0.5


def test_found_by_kind_and_outcomes(gaussian):
    train = training(gaussian)
    planted = plant(gaussian, ~train, 5)
    scored = run_detectors(planted.panel, train, ["zscore", "null"])
    table = kinds_found(planted, scored, ~train, 0.02).set_index(["method", "mode"])
    assert table.loc[("zscore", "causal"), "point, own cut"] == 1
    assert table.loc[("null", "causal"), [f"{k}, equal flags" for k in KINDS]].eq(0).all()
    assert outcome_of(lambda: 1 + 1) == "runs: 2" and outcome_of(lambda: [][0]).startswith("IndexError: ")


def test_series_are_judged_after_training_only():
    rng, label = np.random.default_rng(0), np.arange(800) == 600
    value = rng.standard_normal(800) + 30 * label
    good = Labelled("good", value, label, np.arange(800) < 300)
    early = Labelled("early", value, np.arange(800) == 100, np.arange(800) < 300)  # nothing to judge
    judged = judged_series([good, early], ["zscore"], 0, max_rows=300)
    assert set(judged.series) == {"good"} and (judged.AUROC == 1).all() and (judged["windows found"] == 1).all()
    hits = archive_hits([good], ["zscore"], 0, max_rows=300)
    assert hits["hit"].all()
    board = mean_board(judged, hits)
    assert len(board) == 2 and board["UCR hits"].eq("1 of 1").all()
    assert "UCR hits" not in mean_board(judged, pd.DataFrame())


def test_planted_stocks_stand_in_for_series(gaussian):
    planted: Planted = plant(gaussian, ~training(gaussian), 3)
    series = stocks_as_series(planted, training(gaussian))
    assert [s.name for s in series] == gaussian.tickers
    assert sum(s.label.sum() for s in series) == (planted.kind > 0).sum()
