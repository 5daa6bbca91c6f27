"""Directions against closed forms and samples; clustering, triplets, windows and scores against loops and libraries."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from planted_panel import fitted, planted_panel, quick
from scipy import integrate, optimize, special, stats
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import roc_auc_score, silhouette_score

from anomaly_routing.baselines.deep import summary
from anomaly_routing.baselines.metric_learning import clustering
from anomaly_routing.baselines.metric_learning.directional import (
    KAPPA_MAX,
    VonMisesFisher,
    Watson,
    log_bessel,
    log_normaliser,
    mean_resultant,
    mixture_quantile,
)
from anomaly_routing.baselines.metric_learning.embedding import triplet_loss
from anomaly_routing.baselines.metric_learning.windows import FEWEST, Windows, principal_directions
from anomaly_routing.baselines.registry import create
from anomaly_routing.baselines.toy import coupled_market
from anomaly_routing.panel import Panel

DIMENSIONS = (3, 29, 128)
NAMES = ("metric_vmf", "metric_watson")


def direction(p: int, seed: int = 0) -> np.ndarray:
    v = np.random.default_rng(seed).normal(size=p)
    return v / np.linalg.norm(v)


def sampled(p: int, kappa: float, n: int = 20_000) -> tuple[VonMisesFisher, np.ndarray]:
    law = VonMisesFisher(direction(p), kappa)
    return law, law.sample(n, np.random.default_rng(1))


# --- directional statistics -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kappa", [1e-3, 0.5, 2.0, 30.0, 500.0])
def test_dimension_three_has_closed_forms(kappa):
    assert mean_resultant(kappa, 3) == pytest.approx(1 / np.tanh(kappa) - 1 / kappa, rel=1e-9)
    log_sinh = kappa + np.log1p(-np.exp(-2 * kappa)) - np.log(2)
    assert log_normaliser(kappa, 3) == pytest.approx(np.log(kappa / (4 * np.pi)) - log_sinh, abs=1e-7)
    t = np.linspace(-1, 1, 21)
    expected = (np.exp(kappa * (t - 1)) - np.exp(-2 * kappa)) / -np.expm1(-2 * kappa)
    np.testing.assert_allclose(VonMisesFisher(direction(3), kappa).cdf(t), expected, atol=1e-6)


@pytest.mark.parametrize("order", [0, 0.5, 1, 13.5, 63])
@pytest.mark.parametrize("x", [0.1, 1, 30, 1e3, 1e6])
def test_the_scaled_bessel_function_and_the_ratio_are_the_librarys(order, x):
    assert log_bessel(order, x) == pytest.approx(np.log(special.ive(order, x)), abs=1e-6)
    ratio = special.ive(order + 1, x) / special.ive(order, x)
    assert mean_resultant(x, 2 * order + 2) == pytest.approx(ratio, rel=1e-11)


@pytest.mark.parametrize("p", [2, *DIMENSIONS])
def test_the_normaliser_is_finite_from_almost_uniform_to_almost_a_point(p):
    kappas = [0.0, 1e-9, 1e-4, 1.0, 1e3, 1e6, 1e9]
    values = [log_normaliser(kappa, p) for kappa in kappas]
    assert np.isfinite(values).all() and values[0] == pytest.approx(values[1], abs=1e-6)
    near = values[-1] + kappas[-1]  # at the mean direction the density is that of a Gaussian across
    assert near == pytest.approx((p - 1) / 2 * np.log(1e9 / (2 * np.pi)), abs=1e-4)


@pytest.mark.parametrize("p", DIMENSIONS)
@pytest.mark.parametrize("kappa", [10.0, 100.0, 3000.0])
def test_kappa_and_the_mean_are_recovered(p, kappa):
    law, v = sampled(p, kappa)
    found = VonMisesFisher.fit(v)
    r = np.linalg.norm(v.mean(0))
    information = 1 - mean_resultant(kappa, p) ** 2 - (p - 1) * mean_resultant(kappa, p) / kappa
    assert abs(found.kappa - kappa) < 4 / np.sqrt(len(v) * information)  # four standard errors
    exact = optimize.brentq(lambda k: mean_resultant(k, p) - r, kappa / 3, 3 * kappa, xtol=1e-10)
    assert found.kappa == pytest.approx(exact, rel=1e-5)  # two Newton steps are enough
    assert found.mean @ law.mean > 1 - 4 * p / (len(v) * kappa * mean_resultant(kappa, p))


@pytest.mark.parametrize("p", [2, *DIMENSIONS])
@pytest.mark.parametrize("kappa", [0.0, 5.0, 200.0])
def test_the_sampler_and_the_distribution_of_t_agree(p, kappa):
    law, v = sampled(p, kappa)
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1)
    t = law.agreement(v)
    assert stats.kstest(t, law.cdf).pvalue > 1e-3
    assert t.mean() == pytest.approx(law.expected, abs=5 * t.std() / np.sqrt(len(t)))
    for q in (0.05, 0.5, 0.95):
        assert (t < law.quantile(q)).mean() == pytest.approx(q, abs=0.01)
        assert float(law.cdf(law.quantile(q))) == pytest.approx(q, abs=1e-6)
    across = v - np.outer(t, law.mean)
    assert np.linalg.norm(across.mean(0)) < 5 / np.sqrt(len(v))  # no direction across is preferred


@pytest.mark.parametrize("p", DIMENSIONS)
def test_for_large_kappa_t_is_a_chi_square(p):
    kappa = 1e5
    law = VonMisesFisher(direction(p), kappa)
    for q in (0.01, 0.05, 0.5):
        assert 2 * kappa * (1 - law.quantile(q)) == pytest.approx(stats.chi2.ppf(1 - q, p - 1), rel=0.01)


def test_the_density_is_the_librarys():
    law, v = sampled(29, 40.0, 100)
    expected = stats.vonmises_fisher(law.mean, law.kappa).logpdf(v)
    np.testing.assert_allclose(law.log_density(v), expected, atol=1e-6)


def test_samples_without_spread_or_without_a_mean_have_a_fit():
    v = np.tile(direction(5), (50, 1))
    assert [law.fit(v).kappa for law in (VonMisesFisher, Watson)] == pytest.approx([KAPPA_MAX] * 2)
    both = np.concatenate([v, -v])
    assert VonMisesFisher.fit(both).kappa == 0 and np.isfinite(VonMisesFisher.fit(both).quantile(0.05))
    assert abs(Watson.fit(both).mean @ direction(5)) == pytest.approx(1)


@pytest.mark.parametrize("p", [2, *DIMENSIONS])
@pytest.mark.parametrize("kappa", [0.0, 3.0, 80.0])
def test_watsons_expected_square_is_kummers_ratio(p, kappa):
    expected = special.hyp1f1(1.5, p / 2 + 1, kappa) / special.hyp1f1(0.5, p / 2, kappa) / p
    assert Watson(direction(p), kappa).expected == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("p", "kappa"), [(3, 8.0), (29, 60.0), (128, 300.0)])
def test_watson_is_recovered_from_axes_of_any_sign(p, kappa):
    rng, law = np.random.default_rng(0), Watson(direction(p), kappa)

    def density(t: float) -> float:
        return np.exp(kappa * (t**2 - 1)) * (1 - t**2) ** ((p - 3) / 2)

    grid = np.linspace(0, 1, 2001)
    pieces = [integrate.quad(density, a, b)[0] for a, b in pairwise(grid)]
    below = np.r_[0, np.cumsum(pieces)] / np.sum(pieces)
    t = np.interp(rng.random(20_000), below, grid)
    across = rng.normal(size=(len(t), p))
    across -= np.outer(across @ law.mean, law.mean)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    v = (t[:, None] * law.mean + np.sqrt(1 - t**2)[:, None] * across) * rng.choice([-1, 1], (len(t), 1))
    found = Watson.fit(v)
    assert found.kappa == pytest.approx(kappa, rel=0.03) and abs(found.mean @ law.mean) > 0.999
    assert stats.kstest(law.agreement(v), law.cdf).pvalue > 1e-3
    assert (law.agreement(v) < law.quantile(0.05)).mean() == pytest.approx(0.05, abs=0.01)
    assert law.quantile(0.05) == pytest.approx(np.interp(0.05, below, grid) ** 2, abs=1e-3)


def test_the_cut_of_a_mixture_leaves_the_share_below():
    laws = [VonMisesFisher(direction(4), 5.0), VonMisesFisher(direction(4), 60.0)]
    assert mixture_quantile(laws[:1], np.array([7]), 0.05) == pytest.approx(laws[0].quantile(0.05), abs=1e-9)
    cut = mixture_quantile(laws, np.array([300, 100]), 0.05)
    assert 0.75 * float(laws[0].cdf(cut)) + 0.25 * float(laws[1].cdf(cut)) == pytest.approx(0.05, abs=1e-6)


# --- clusters and metric ----------------------------------------------------------------------------------------------
def blobs(k: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    return make_blobs(600, 6, centers=k, cluster_std=spread, random_state=3)


@pytest.mark.parametrize("k", [3, 5])
def test_kmeans_is_as_good_as_the_librarys(k):
    x, _ = blobs(4, 3.0)
    cost = clustering.squared_distances(x, clustering.kmeans(x, k, np.random.default_rng(0))).min(1).sum()
    assert cost < 1.02 * KMeans(k, n_init=10, random_state=0).fit(x).inertia_


def test_the_silhouette_is_the_librarys_and_finds_the_number_of_clusters():
    x, labels = blobs(5, 2.0)
    labels[labels == 4] = 3
    labels[0] = 9  # alone
    assert clustering.silhouette(x, labels) == pytest.approx(silhouette_score(x, labels), abs=1e-10)
    assert clustering.silhouette(x, np.zeros(len(x), int)) == -1
    for k in (3, 6):
        found = clustering.start(blobs(k)[0], range(3, 11), np.random.default_rng(0))
        assert len(found) == k


def test_near_and_small_clusters_are_merged_and_two_stay():
    centres = np.array([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [9.0, 0.0], [20.0, 0.0]])
    kept = clustering.merged(centres, np.array([30, 10, 50, 3, 0]), 0.5, 5)
    np.testing.assert_allclose(kept, [[0.025, 0], [(50 * 5 + 3 * 9) / 53, 0]])
    assert len(clustering.merged(centres, np.full(5, 10), 1e9, 5)) == 2
    assert len(clustering.merged(centres, np.full(5, 10), 0.0, 5)) == 5


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2, 2, 0, 1, 2], [0] * 10, list(range(10))])
def test_the_triplet_loss_is_the_slow_one(labels):
    rng, margin = np.random.default_rng(0), 0.2
    e = rng.normal(size=(10, 4))
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    losses = []
    for a in range(10):
        others = [n for n in range(10) if labels[n] != labels[a]]
        for p in range(10):
            if p == a or labels[p] != labels[a] or not others:
                continue
            d_p, d_n = ((e[a] - e[p]) ** 2).sum(), [((e[a] - e[n]) ** 2).sum() for n in others]
            beyond = [d for d in d_n if d > d_p]
            losses.append(max(0.0, d_p - (min(beyond) if beyond else max(d_n)) + margin))
    got = triplet_loss(torch.tensor(e), torch.tensor(labels), margin)
    assert float(got) == pytest.approx(np.mean(losses) if losses else 0.0, abs=1e-9)


# --- windows and directions -------------------------------------------------------------------------------------------
def gappy() -> Panel:
    """Some sessions without a trade, one stock that lists late."""
    panel, rng = planted_panel().panel, np.random.default_rng(0)
    returns, log_volume = panel.returns.copy(), panel.log_volume.copy()
    out = rng.random(returns.shape) < 0.1
    returns[out] = log_volume[out] = np.nan
    return replace(panel, returns=returns, log_volume=log_volume)


def test_a_window_is_what_a_loop_collects():
    panel, length = gappy(), 6
    windows = Windows(panel, length, ("price", "volume", "features"))
    rows = np.argwhere(panel.active)[::97]
    got = windows(rows)
    assert got.shape == (len(rows), length, 2 + len(panel.features))
    for (t, i), window in zip(rows, got, strict=True):
        price, volume, known = [], [], []
        for s in range(t - length + 1, t + 1):
            traded = [u for u in range(max(s, -1) + 1) if np.isfinite(panel.log_volume[u, i])]
            known.append(bool(traded))
            price.append(np.nansum(panel.returns[: max(s, -1) + 1, i]))
            volume.append(panel.log_volume[traded[-1], i] if traded else 0.0)
        known = np.array(known)
        for column, values in enumerate((price, volume)):
            values = np.array(values)
            expected = np.where(known, values - values[known].mean(), 0)
            np.testing.assert_allclose(window[:, column], expected, atol=1e-9)
        present = np.array([s >= 0 and panel.active[s, i] for s in range(t - length + 1, t + 1)])
        x = panel.x[np.maximum(np.arange(t - length + 1, t + 1), 0), i]
        np.testing.assert_allclose(window[:, 2:], np.where(present[:, None], x - x[present].mean(0), 0), atol=1e-5)


def test_the_scale_is_the_stocks_own_or_everybodys():
    panel = planted_panel().panel
    windows = Windows(panel, 6, ("price", "volume", "features"))
    rows = np.argwhere(panel.active & (np.arange(len(panel.active)) < 260)[:, None])
    rows = rows[(rows[:, 1] != 4) | (np.arange(len(rows)) % 5 == 0)]  # too few of stock 4
    scale = windows.scale(rows, 10)
    own = np.sqrt((windows(rows[rows[:, 1] == 7]) ** 2).mean((0, 1)))
    np.testing.assert_allclose(scale[7, :2], own[:2])
    pooled = np.sqrt((windows(rows) ** 2).mean((0, 1)))
    assert (rows[:, 1] == 4).sum() < FEWEST
    np.testing.assert_allclose(scale[4, :2], pooled[:2])
    assert (scale[:, 2:] == 1).all()


@pytest.mark.parametrize(("length", "p"), [(20, 2), (20, 31), (3, 3), (2, 10)])
def test_principal_directions_are_the_first_right_singular_vectors(length, p):
    w = np.random.default_rng(0).normal(size=(50, length, p))
    w -= w.mean(1, keepdims=True)
    w[7] = 0
    got = principal_directions(torch.tensor(w)).numpy()
    for window, v in zip(w, got, strict=True):
        if not window.any():
            assert (v == 0).all()
            continue
        expected = np.linalg.svd(window)[2][0]
        np.testing.assert_allclose(v * np.sign(v @ expected), expected, atol=1e-6)


def test_windows_refuse_an_unknown_modality():
    with pytest.raises(ValueError, match="price, volume, features"):
        create("metric_vmf", modalities=("news",)).fit(planted_panel().panel, planted_panel().train)


# --- the detectors ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_a_score_is_one_less_the_agreement_with_its_cluster(name):
    panel, detector = planted_panel().panel, fitted(name, "causal")
    scores, net = detector.decision_function(panel), detector.net
    windows = Windows(panel, 5, detector.modalities)
    for t, i in np.argwhere(panel.active)[103::211]:
        window = (windows(np.array([[t, i]])) / net.scale[i].numpy()).astype(np.float32)
        with torch.no_grad():
            embedded = net(torch.tensor(window)).numpy()[0]
        assert np.linalg.norm(embedded) == pytest.approx(1, abs=1e-5)
        k = int(((net.centres.numpy() - embedded) ** 2).sum(1).argmin())
        v = np.linalg.svd(window[0].astype(float))[2][0]
        if name == "metric_vmf":
            v = -v if v @ net.axis[k].numpy() < 0 else v
            expected = 1 - v @ detector.laws[k].mean
        else:
            expected = 1 - (v @ detector.laws[k].mean) ** 2
        assert scores[t, i] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_window_without_variation_scores_what_its_cluster_expects(name):
    panel = planted_panel().panel
    returns, log_volume, x = panel.returns.copy(), panel.log_volume.copy(), panel.x.copy()
    returns[300:, 6], log_volume[300:, 6], x[300:, 6] = 0.0, 13.0, 1.0
    still = replace(panel, returns=returns, log_volume=log_volume, x=x)
    detector = fitted(name, "causal")
    score = detector.decision_function(still)[320, 6]
    assert np.abs(1 - score - np.array([law.expected for law in detector.laws])).min() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_validation_sessions_change_nothing_and_the_run_can_be_summed_up(name):
    planted = planted_panel()
    val = np.arange(len(planted.train)) >= 300
    both = quick(name, "causal").fit(planted.panel, planted.train, val)
    expected = fitted(name, "causal").decision_function(planted.panel)
    for rule in ("tail", "val"):
        np.testing.assert_array_equal(both.use(rule).decision_function(planted.panel), expected)
    said = summary(both)
    assert said["epochs"] == 3 and said["stopped"] == "cap" and set(said["best"]) == {"tail", "val"}
    assert said["parameters"] > 0 and {"loss", "clusters", "seconds"} <= set(said["history"][0])
    assert set(fitted(name, "causal").weights) == {"tail"}


def test_the_weights_hold_everything_that_a_score_needs():
    planted = planted_panel()
    detector = quick("metric_vmf", "causal").fit(planted.panel, planted.train)
    expected = detector.decision_function(planted.panel)
    with torch.no_grad():
        for tensor in [*detector.net.parameters(), *detector.net.buffers()]:
            tensor.zero_()
    np.testing.assert_array_equal(detector.use("tail").decision_function(planted.panel), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_coupling_that_is_ordinary_elsewhere_is_found_in_the_cluster_where_it_is_not(name, monkeypatch):
    toy = coupled_market(slow=23, noise=0.004)

    def found() -> float:
        scores = create(name, epochs=6, share=0.4).fit(toy.panel, toy.train).decision_function(toy.panel)
        return roc_auc_score(toy.cells[toy.judged], scores[toy.judged])

    assert found() > 0.9
    one = clustering.merged
    monkeypatch.setattr(clustering, "merged", lambda *args: one(*args)[:1])  # without clusters both are ordinary
    assert found() < 0.75


def test_training_draws_windows_of_a_cluster_together():
    toy = coupled_market(slow=23, noise=0.004, flipped=False)
    panel, train = toy.panel, toy.train
    apart = []
    for epochs in (0, 12):
        detector = create("metric_vmf", epochs=epochs, share=0.5).fit(panel, train)
        rows = np.argwhere(panel.active & train[:, None])
        with torch.no_grad():
            embedded = detector.net(detector._windows(Windows(panel, 20, detector.modalities), rows)).double().numpy()
        labels = clustering.nearest(embedded, detector.net.centres.numpy())
        apart.append(clustering.silhouette(embedded[::3], labels[::3]))
    assert detector.history[-1]["loss"] < 0.5 * detector.history[0]["loss"]
    assert apart[1] > apart[0] + 0.1
