"""What the audit says of the chapter's snippets (D01-D10, D12), shown by running them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_panel import SESSIONS, TRAIN_END, fitted, planted_panel, quick, scored
from sklearn.metrics import classification_report, roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from anomaly_routing.baselines.classical.torch_seed import repeatable
from anomaly_routing.baselines.inputs import CHAPTER_INPUTS, stack
from anomaly_routing.baselines.statistical.iqr import beyond_quartiles, quartiles
from anomaly_routing.baselines.streaming.rolling_z import RollingZScore
from anomaly_routing.panel import Panel, plain_panel


def panel_of(returns: np.ndarray) -> Panel:
    """One stock with these returns and nothing else of interest."""
    return plain_panel(returns[:, None], 13 + 0.3 * np.random.default_rng(0).normal(size=(len(returns), 1)))


def test_d01_the_printed_z_score_changes_with_the_future():
    returns = np.random.default_rng(0).normal(0, 0.01, 400)
    returns[150] = 0.05
    crash = np.r_[returns[:350], -0.5 * np.ones(50)]
    train = np.arange(400) < 200
    z = {}
    for mode in ("chapter", "causal"):
        for label, series in (("calm", returns), ("crash", crash)):
            panel = panel_of(series)
            z[mode, label] = quick("zscore", mode).fit(panel, train).decision_function(panel)[150, 0]
    assert z["chapter", "calm"] > 3 > z["chapter", "crash"]  # an alarm that a later crash takes back
    assert z["causal", "calm"] == z["causal", "crash"] > 3


def test_d01_a_gaussian_exceeds_3_on_0_27_percent_of_days():
    panel = panel_of(np.random.default_rng(0).normal(size=400_000))
    scores = quick("zscore", "chapter").fit(panel, np.ones(400_000, bool)).decision_function(panel)
    assert np.mean(scores > 3) == pytest.approx(0.0027, abs=0.0003)


def test_d02_iqr_flags_0_70_percent_of_a_gaussian():
    values = np.random.default_rng(0).normal(size=(400_000, 1))
    scores = beyond_quartiles(values, np.array([quartiles(values[:, 0])]))
    assert np.mean(scores > 1.5) == pytest.approx(0.00698, abs=0.0005)


def test_d02_modified_z_survives_a_mad_of_zero():
    rng = np.random.default_rng(0)
    returns = np.where(rng.random(400) < 0.6, 0.0, rng.normal(0, 0.01, 400))
    returns[300] = 0.1
    assert np.median(np.abs(returns - np.median(returns))) == 0  # the printed function divides by this
    panel = panel_of(returns)
    for mode in ("chapter", "causal"):
        detector = quick("modified_zscore", mode).fit(panel, np.arange(400) < 250)
        scores = detector.decision_function(panel)[:, 0]
        used = returns if mode == "chapter" else returns[:250]
        assert scores[300] == pytest.approx(0.1 / (1.2533 * np.mean(np.abs(used))), rel=1e-4)
        assert np.isfinite(scores).all() and np.mean(scores > 3.5) < 0.1


def test_d03_unscaled_the_svm_s_kernel_is_all_but_the_identity():
    rows = stack(planted_panel().panel, CHAPTER_INPUTS)[:, 0]
    rows = rows[np.isfinite(rows[:, 0])]
    kernel = rbf_kernel(rows, gamma=1 / 3)
    assert np.abs(kernel - np.eye(len(rows))).sum(axis=1).max() < 2.5  # a few pairs of days with equal volume
    assert np.mean(kernel[~np.eye(len(rows), dtype=bool)] > 1e-6) < 1e-3
    planted = planted_panel()
    auroc = {}
    for mode in ("chapter", "causal"):
        scores = scored("one_class_svm", mode)
        usable = np.isfinite(scores) & (np.arange(SESSIONS) >= TRAIN_END)[:, None]
        auroc[mode] = roc_auc_score(planted.cells[usable], scores[usable])
    assert auroc["chapter"] < 0.7 < 0.95 < auroc["causal"]
    assert np.nanmean(scored("one_class_svm", "chapter") > 0) > 0.3  # nu = 0.01 promises 1% at most


@pytest.mark.parametrize("name", ["lof", "dense_autoencoder"])
def test_d03_unscaled_lof_and_autoencoder_see_volume_only(name):
    from dataclasses import replace

    planted = planted_panel()
    panel = planted.panel
    returns = panel.returns.copy()
    for i in range(returns.shape[1]):
        days = np.flatnonzero(np.isfinite(returns[:, i]))
        returns[days, i] = np.random.default_rng(i).permutation(returns[days, i])
    blind = replace(panel, returns=returns)
    scores = quick(name, "chapter").fit(blind, planted.train).decision_function(blind)
    both = np.isfinite(scores) & np.isfinite(scored(name, "chapter"))
    assert np.corrcoef(scores[both], scored(name, "chapter")[both])[0, 1] > 0.999
    causal = quick(name, "causal").fit(blind, planted.train).decision_function(blind)
    both = np.isfinite(causal) & np.isfinite(scored(name, "causal"))
    assert np.corrcoef(causal[both], scored(name, "causal")[both])[0, 1] < 0.9


def test_d03_the_chapter_s_code_is_wider_than_its_inputs():
    widths = {}
    for mode in ("chapter", "causal"):
        layers = [m for m in fitted("dense_autoencoder", mode).model_.model.modules() if hasattr(m, "out_features")]
        widths[mode] = [layer.out_features for layer in layers]
    assert widths == {"chapter": [64, 16, 64, 3], "causal": [64, 2, 64, 3]}


def test_d06_the_lstm_autoencoder_sketch_does_not_run():
    import torch

    decoder = torch.nn.LSTM(input_size=64, hidden_size=3, batch_first=True)
    state = torch.zeros(1, 2, 64)
    with pytest.raises(RuntimeError, match="hidden"):
        decoder(torch.zeros(2, 1, 64), (state, state))


def test_d07_pyod_s_vae_has_other_names_scores_a_distance_and_drops_the_kl_term():
    import torch
    from pyod.models.vae import VAE, vae_loss

    with pytest.raises(TypeError, match="encoder_neurons"):
        VAE(encoder_neurons=[64, 32], decoder_neurons=[32, 64], contamination=0.01)
    x, rebuilt = torch.randn(50, 3), torch.randn(50, 3)
    far, wide = torch.full((50, 2), 9.0), torch.full((50, 2), 4.0)
    assert vae_loss(x, rebuilt, far, wide) == torch.nn.functional.mse_loss(rebuilt, x)  # capacity=0 is the default
    assert vae_loss(x, rebuilt, far, wide, capacity=float("inf")) > 50

    detector, pairs = fitted("vae", "chapter").model_, []
    with torch.no_grad(), repeatable(0):
        for _ in range(2):
            torch.manual_seed(0)
            pairs.append(detector.evaluating_forward(x) if not pairs else (x - detector.model(x)[0]).norm(dim=1))
    np.testing.assert_allclose(*pairs, rtol=1e-5)


def test_d08_the_evaluation_example_compares_different_lengths():
    prices = pd.Series(np.linspace(10, 20, 50))
    is_anomaly = np.zeros(50, bool)
    predicted = prices.pct_change().dropna() > 0.1
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classification_report(is_anomaly, predicted)


@pytest.mark.parametrize("n", [5, 11, 100])
def test_d09_the_self_including_z_score_is_bounded(n):
    values = [*([0.0, 1e-9] * n)[: n - 1], 1e6]
    inclusive = RollingZScore(window=n, min_periods=2, include_current=True)
    worst = [inclusive.update(v) for v in values][-1]
    assert worst == pytest.approx(np.sqrt(n - 1))
    previous = RollingZScore(window=n, min_periods=2)
    assert [previous.update(v) for v in values][-1] > 1e6


def test_d09_no_alarm_above_3_before_the_eleventh_value():
    stream = RollingZScore(window=100, threshold=3.0, min_periods=2, include_current=True)
    growing = [10.0**k for k in range(10)]
    assert np.nanmax([stream.update(v) for v in growing]) <= 3.0
    assert np.nanmax(scored("rolling_z", "chapter")) <= np.sqrt(99)


def test_d10_the_case_study_s_and_is_positional():
    index = pd.bdate_range("2024-01-01", periods=6)
    flags = pd.Series([True, False, True, False, True, False], index=index)
    forest = np.array([True, True, False, False])
    kept = flags[flags.index.isin(index[:4])]
    assert (kept & forest).tolist() == [True, False, False, False]  # right, with unique dates
    twice = pd.concat([flags, flags.iloc[:1]])
    with pytest.raises(ValueError):
        twice[twice.index.isin(index[:4])] & forest


def test_d12_a_contamination_flags_its_share_whatever_the_data():
    rng = np.random.default_rng(0)
    shares = []
    for returns in (rng.normal(0, 0.01, 600), 0.01 * rng.standard_t(2.5, 600)):
        panel = panel_of(returns)
        detector = quick("isolation_forest", "chapter", contamination=0.02).fit(panel, np.ones(600, bool))
        scores = detector.decision_function(panel)
        shares.append(np.mean(scores[np.isfinite(scores)] > detector.flag_threshold))
    assert shares == pytest.approx([0.02, 0.02], abs=0.003)
