"""Planted anomalies are found, and would not be found by chance or without training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_panel import EVERY_MODE, FEATURES, SESSIONS, TRAIN_END, fitted, planted_panel, quick, scored
from sklearn.metrics import roc_auc_score

FLOOR = 0.9
CHANCE = 0.7  # 28 planted stock-days among 1,300: chance has an SD of 0.055
NO_SKILL = {"null", "random", "lagged_volatility", "lagged_vix", "market_volatility"}
# one direction a window of several sessions: a loud day stays in it for as long (own tests in test_metric_learning.py)
WINDOWED = {"metric_vmf", "metric_watson"}
# asks whether a stock fits its neighbourhood: here neighbours share nothing (floor in test_deep_floor.py)
NEIGHBOURLY = {"cola"}
SKILLED = [p for p in EVERY_MODE if p[0] not in NO_SKILL | WINDOWED | NEIGHBOURLY and p != ("one_class_svm", "chapter")]
TEST = np.arange(SESSIONS) >= TRAIN_END + 20


def auroc(scores: np.ndarray, cells: np.ndarray) -> float:
    usable = np.isfinite(scores) & TEST[:, None]
    return roc_auc_score(cells[usable], scores[usable])


@pytest.mark.parametrize(("name", "mode"), SKILLED)
def test_planted_anomalies_are_ranked_first(name, mode):
    assert auroc(scored(name, mode), planted_panel().cells) > FLOOR


@pytest.mark.parametrize(("name", "mode"), SKILLED)
def test_a_copy_that_sees_the_test_sessions_in_another_order_does_not_reach_the_floor(name, mode):
    planted = planted_panel()
    order = np.arange(SESSIONS)
    order[TRAIN_END:] = np.random.default_rng(0).permutation(order[TRAIN_END:])
    panel = planted.panel
    shuffled = replace(
        panel,
        returns=panel.returns[order],
        log_volume=panel.log_volume[order],
        x=panel.x[order],
        active=panel.active[order],
    )
    detector = quick(name, mode).fit(shuffled, planted.train) if mode == "chapter" else fitted(name, mode)
    assert auroc(detector.decision_function(shuffled), planted.cells) < CHANCE


@pytest.mark.parametrize("name", sorted(NO_SKILL - {"null"}))
def test_detectors_without_sight_of_the_day_are_at_chance_for_one_stock(name):
    assert 1 - CHANCE < auroc(scored(name, "causal"), planted_panel().cells) < CHANCE


@pytest.mark.parametrize("name", ["pca_error", "mahalanobis", "knn1"])
def test_feature_learners_need_the_training_correlations(name):
    """Quiet anomalies: the norm of an ordinary day, off the common factors. Scrambled training days hide them."""
    planted = planted_panel()
    panel, rng = planted.panel, np.random.default_rng(0)
    x = panel.x.copy()
    ordinary = np.linalg.norm(x[:TRAIN_END][panel.active[:TRAIN_END]], axis=-1)
    noise = rng.normal(size=(planted.cells.sum(), len(FEATURES)))
    x[planted.cells] = noise / np.linalg.norm(noise, axis=1, keepdims=True) * np.median(ordinary)
    quiet = replace(panel, x=x)
    scrambled_x = x.copy()
    for feature in range(len(FEATURES)):
        scrambled_x[:TRAIN_END, :, feature] = rng.permuted(x[:TRAIN_END, :, feature], axis=0)
    trained = quick(name, "causal").fit(quiet, planted.train).decision_function(quiet)
    untrained = quick(name, "causal").fit(replace(quiet, x=scrambled_x), planted.train).decision_function(quiet)
    assert auroc(trained, planted.cells) > FLOOR
    assert auroc(untrained, planted.cells) < FLOOR - 0.1
    assert auroc(quick("l2_norm", "causal").fit(quiet, planted.train).decision_function(quiet), planted.cells) < CHANCE


@pytest.mark.parametrize("name", ["dense_autoencoder", "vae"])
def test_training_a_network_lowers_the_error_of_ordinary_days(name):
    planted = planted_panel()
    ordinary = planted.panel.active & planted.train[:, None]
    untrained, trained = (quick(name, "causal", epochs=n).fit(planted.panel, planted.train) for n in (0, 15))
    if name == "vae":  # compare reconstructions, not likelihoods under different variances
        assert trained.variance_.sum() < 0.6 * untrained.variance_.sum()
    else:
        before, after = (np.nanmean(d.decision_function(planted.panel)[ordinary]) for d in (untrained, trained))
        assert after < 0.6 * before


def test_market_volatility_finds_a_market_wide_shock():
    planted = planted_panel()
    stressed = np.zeros(SESSIONS, bool)
    stressed[TRAIN_END + 60 : TRAIN_END + 90] = True
    returns = np.where(
        stressed[:, None], 0.03 * np.sign(np.sin(3.0 * np.arange(SESSIONS)))[:, None], planted.panel.returns
    )
    returns[~planted.panel.active] = np.nan
    detector = fitted("market_volatility", "causal")
    shocked = detector.decision_function(replace(planted.panel, returns=returns))[TEST, 0]
    assert roc_auc_score(stressed[TEST], shocked) > FLOOR
    assert roc_auc_score(stressed[TEST], scored("market_volatility", "causal")[TEST, 0]) < CHANCE
