"""Every formula against a plainly written one, or against the library's own verdict."""

from __future__ import annotations

import numpy as np
import pytest
from planted_panel import TRAIN_END, fitted, planted_panel, quick, scored
from scipy import stats
from sklearn.covariance import ledoit_wolf
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM
from statsmodels.tsa.seasonal import STL

from anomaly_routing.baselines.inputs import MIN_TRAIN, rolling_moments
from anomaly_routing.baselines.statistical.decomposition import trailing_maps
from anomaly_routing.baselines.statistical.seasonal_esd import esd_scores, generalised_esd

STOCK = 3  # pauses for four sessions
LATE = 1  # lists at session 200: 60 training sessions, so statistics of its sector


def sample_of(values: np.ndarray, stock: int, mode: str) -> list[float]:
    """The values whose statistics the docstrings promise."""
    panel = planted_panel().panel
    end = TRAIN_END if mode == "causal" else len(values)
    own = [v for t, v in enumerate(values[:end, stock]) if panel.active[t, stock] and np.isfinite(v)]
    if mode == "causal" and len(own) < MIN_TRAIN:
        peers = [i for i in range(len(panel.tickers)) if panel.sector[i] == panel.sector[stock]]
        own = [values[t, i] for i in peers for t in range(end) if panel.active[t, i] and np.isfinite(values[t, i])]
    return own


def z(x: float, sample: list[float]) -> float:
    mean = sum(sample) / len(sample)
    return abs(x - mean) / (sum((v - mean) ** 2 for v in sample) / len(sample)) ** 0.5


def modified_z(x: float, sample: list[float]) -> float:
    median = np.median(sample)
    return 0.6745 * abs(x - median) / np.median([abs(v - median) for v in sample])


def fences(x: float, sample: list[float]) -> float:
    q1, q3 = np.percentile(sample, 25), np.percentile(sample, 75)
    return max(x - q3, q1 - x) / (q3 - q1)


@pytest.mark.parametrize("mode", ["chapter", "causal"])
@pytest.mark.parametrize("stock", [STOCK, LATE])
@pytest.mark.parametrize(("name", "oracle"), [("zscore", z), ("modified_zscore", modified_z), ("iqr", fences)])
def test_univariate_scores(name, oracle, stock, mode):
    panel = planted_panel().panel
    sample = sample_of(panel.returns, stock, mode)
    for t in np.flatnonzero(panel.active[:, stock])[::37]:
        expected = oracle(panel.returns[t, stock], sample)
        assert scored(name, mode)[t, stock] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("series", ["log_volume", "volatility"])
def test_the_series_parameter(series):
    panel = planted_panel().panel
    if series == "volatility":
        values = np.full(panel.returns.shape, np.nan)
        for t in range(19, len(values)):
            for i in range(values.shape[1]):
                window = [r for r in panel.returns[t - 19 : t + 1, i] if np.isfinite(r)]
                values[t, i] = np.std(window, ddof=1) if len(window) >= 15 else np.nan
    else:
        values = panel.log_volume
    scores = quick("zscore", "causal", series=series).fit(panel, planted_panel().train).decision_function(panel)
    for t in (100, 305, 313, 316, 400):
        value = values[t, STOCK]
        expected = z(value, sample_of(values, STOCK, "causal")) if panel.active[t, STOCK] else np.nan
        assert scores[t, STOCK] == pytest.approx(expected, rel=1e-4, nan_ok=True)


def test_trivial_scores():
    panel = planted_panel().panel
    for t in range(60, 420, 45):
        for i in range(10):
            if not panel.active[t, i]:
                continue
            past = [r for r in panel.returns[t - 20 : t, i] if np.isfinite(r)]
            sd = np.std(past, ddof=1) if len(past) >= 15 else np.nan
            expected = {
                "lagged_volatility": sd,
                "mean_abs_z": abs(panel.returns[t, i] - np.mean(past)) / sd if len(past) >= 15 else np.nan,
                "lagged_vix": panel.benchmarks["^VIX"].iloc[t - 1],
                "l2_norm": sum(float(v) ** 2 for v in panel.x[t, i]) ** 0.5,
                "mean_abs_return": abs(panel.returns[t, i]),
                "mean_spread": panel.x[t, i, 0],
                "market_volatility": np.std([np.nanmean(panel.returns[u]) for u in range(t - 19, t + 1)], ddof=1),
                "null": 0.0,
            }
            for name, value in expected.items():
                assert scored(name, "causal")[t, i] == pytest.approx(value, rel=1e-4, nan_ok=True), name


def test_random_scores_are_uniform_and_independent_of_the_panel():
    values = scored("random", "causal")[planted_panel().panel.active]
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert len(np.unique(values)) > 0.99 * len(values)


def test_rolling_moments_forget_an_extreme_value():
    values = np.r_[np.full(30, 0.1), 1e12, np.full(60, 0.1)][:, None]
    mean, sd = rolling_moments(values, 20, 15)
    np.testing.assert_array_equal(sd[50:, 0], 0.0)
    np.testing.assert_allclose(mean[50:, 0], 0.1, rtol=1e-12)
    assert np.isnan(sd[:14]).all() and sd[30, 0] > 1e11


def training_rows() -> np.ndarray:
    planted = planted_panel()
    return planted.panel.x[planted.panel.active & planted.train[:, None]].astype(float)


def test_mahalanobis():
    panel, rows = planted_panel().panel, training_rows()
    precision = np.linalg.inv(ledoit_wolf(rows)[0])
    for t, i in [(50, 0), (281, 5), (419, 9)]:
        difference = panel.x[t, i] - rows.mean(axis=0)
        assert scored("mahalanobis", "causal")[t, i] == pytest.approx(
            (difference @ precision @ difference) ** 0.5, 1e-4
        )


def test_pca_error():
    panel, rows = planted_panel().panel, training_rows()
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    share = np.cumsum(values[::-1]) / values.sum()
    kept = vectors[:, ::-1][:, : 1 + np.sum(share < 0.9)]
    assert fitted("pca_error", "causal").model_.n_components_ == kept.shape[1] < panel.x.shape[2]
    for t, i in [(50, 0), (281, 5), (419, 9)]:
        difference = panel.x[t, i] - rows.mean(axis=0)
        error = np.linalg.norm(difference - kept @ (kept.T @ difference))
        assert scored("pca_error", "causal")[t, i] == pytest.approx(error, rel=1e-4)


def test_nearest_neighbour_is_never_the_day_itself():
    planted = planted_panel()
    panel, usable = planted.panel, planted.panel.active & planted.train[:, None]
    rows, where = panel.x[usable].astype(float), np.argwhere(usable)
    for t, i in [(50, 0), (259, 9), (281, 5), (419, 9)]:
        distance = np.linalg.norm(rows - panel.x[t, i], axis=1)
        distance[(where == (t, i)).all(axis=1)] = np.inf
        assert scored("knn1", "causal")[t, i] == pytest.approx(distance.min(), rel=1e-3)
    small = quick("knn1", "causal", seed=3, max_rows=50).fit(panel, planted.train)
    stock = [panel.tickers.index(ticker) for ticker in small.tickers_]
    assert len(set(zip(small.sessions_, stock, strict=True))) == 50
    assert usable[panel.sessions.get_indexer(small.sessions_), stock].all()
    assert (small.decision_function(panel)[usable] >= scored("knn1", "causal")[usable] - 1e-3).all()


# the data and the table of Rosner 1983, as in the NIST/SEMATECH e-Handbook, 1.3.5.17.3
ROSNER = """
-0.25 0.68 0.94 1.15 1.20 1.26 1.26 1.34 1.38 1.43 1.49 1.49 1.55 1.56 1.58 1.65 1.69 1.70 1.76 1.77
1.81 1.91 1.94 1.96 1.99 2.06 2.09 2.10 2.14 2.15 2.23 2.24 2.26 2.35 2.37 2.40 2.47 2.54 2.62 2.64
2.90 2.92 2.92 2.93 3.21 3.26 3.30 3.59 3.68 4.30 4.64 5.34 5.42 6.01
"""


def test_generalised_esd_on_the_published_example():
    values = np.array(ROSNER.split(), float)
    statistics, critical, taken, _ = generalised_esd(values, 10, alpha=0.05, hybrid=False)
    published = [3.118, 2.942, 3.179, 2.810, 2.815, 2.848, 2.279, 2.310, 2.101, 2.067]
    np.testing.assert_allclose(statistics, published, atol=1.1e-3)
    cuts = [3.158, 3.151, 3.143, 3.136, 3.128, 3.120, 3.111, 3.103, 3.094, 3.085]
    np.testing.assert_allclose(critical, cuts, atol=1.1e-3)
    flagged = esd_scores(values, 10, hybrid=False) > 1
    assert sorted(values[flagged]) == [5.34, 5.42, 6.01]  # three outliers, though the first two R are below their cuts
    assert set(taken[:3]) == set(np.flatnonzero(flagged))


def naive_hybrid_esd(values: np.ndarray, limit: int, alpha: float) -> set[int]:
    """Positions that the test calls anomalous, one at a time with lists."""
    remaining, out, last = dict(enumerate(values)), [], 0
    for i in range(1, limit + 1):
        numbers = np.array(list(remaining.values()))
        median = np.median(numbers)
        scale = 1.4826 * np.median(np.abs(numbers - median))
        worst = max(remaining, key=lambda k: abs(remaining[k] - median))
        r = abs(remaining.pop(worst) - median) / scale
        n = len(values)
        t = stats.t.ppf(1 - alpha / (2 * (n - i + 1)), n - i - 1)
        out.append(worst)
        if r > (n - i) * t / np.sqrt((n - i - 1 + t * t) * (n - i + 1)):
            last = i
    return set(out[:last])


@pytest.mark.parametrize("seed", range(6))
def test_hybrid_esd_flags_what_a_naive_version_flags(seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3, (4, 120))
    values[0, :9] += 30  # more than the limit
    values[3] = rng.normal(size=120)
    scores = esd_scores(values, 6)
    for row, score in zip(values, scores, strict=True):
        assert set(np.flatnonzero(score > 1)) == naive_hybrid_esd(row, 6, 0.05)
    assert (scores > 1).sum() >= 6


@pytest.mark.parametrize("t", [150, 281, 419])
def test_causal_decompositions_equal_the_library_s_refits(t):
    panel = planted_panel().panel
    values = panel.log_volume[20:, 0]  # no gaps
    assert np.isfinite(values).all()
    window = values[t - 20 - 99 : t - 20 + 1]
    seasonal_map, residual_map = trailing_maps(100, 5, False)
    refit = STL(window, period=5).fit()
    np.testing.assert_allclose(residual_map @ window, refit.resid, atol=1e-10)
    np.testing.assert_allclose(seasonal_map @ window, refit.seasonal, atol=1e-10)
    detector = fitted("stl_residual", "causal")
    ours = detector._residual(np.where(panel.active, panel.log_volume, np.nan))
    assert ours[t, 0] == pytest.approx(refit.resid[-1], abs=1e-9)

    periodic = STL(window, period=5, seasonal=1001, seasonal_deg=0).fit()
    expected = max(
        esd_scores(series - STL(series, period=5, seasonal=1001, seasonal_deg=0).fit().seasonal, 2)[-1]
        for series in (window, np.abs(panel.returns[t - 99 : t + 1, 0]))
    )
    np.testing.assert_allclose(trailing_maps(100, 5, True)[0] @ window, periodic.seasonal, atol=1e-5)
    assert scored("seasonal_esd", "causal")[t, 0] == pytest.approx(expected, rel=1e-4)


def chapter_rows(stock: int) -> tuple[np.ndarray, np.ndarray]:
    """The chapter's unscaled return, volume and volatility of one stock."""
    panel = planted_panel().panel
    r = panel.returns[:, stock]
    windows = [r[max(0, t - 19) : t + 1] for t in range(len(r))]
    counts = [np.isfinite(w).sum() for w in windows]
    volatility = np.array([np.nanstd(w, ddof=1) if c >= 15 else np.nan for w, c in zip(windows, counts, strict=True)])
    rows = np.c_[r, np.exp(panel.log_volume[:, stock]), volatility]
    usable = np.isfinite(rows).all(axis=1) & panel.active[:, stock]
    return usable, rows[usable]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("isolation_forest", IsolationForest(n_estimators=12, contamination=0.01, random_state=0)),
        ("one_class_svm", OneClassSVM(nu=0.01, kernel="rbf", gamma="auto")),
        ("lof", LocalOutlierFactor(n_neighbors=20, contamination=0.01)),
    ],
)
def test_chapter_mode_flags_what_the_printed_recipe_flags(name, printed):
    for stock in (0, STOCK):
        usable, rows = chapter_rows(stock)
        flags = scored(name, "chapter")[usable, stock] > fitted(name, "chapter").flag_threshold
        printed_flags = printed.fit_predict(rows) == -1
        assert (flags != printed_flags).mean() <= (0.01 if name == "one_class_svm" else 0)  # scores near 0 there
        assert printed_flags.any()


@pytest.mark.parametrize("name", ["isolation_forest", "lof", "dense_autoencoder", "vae"])
def test_causal_cut_flags_the_contamination_of_the_training_days(name):
    planted, detector = planted_panel(), fitted(name, "causal")
    training = scored(name, "causal")[planted.train]
    share = (training[np.isfinite(training)] > detector.flag_threshold).mean()
    assert share == pytest.approx(detector.contamination, abs=0.015)


def test_causal_inputs_are_scaled_by_training_median_and_mad():
    detector, panel = fitted("isolation_forest", "causal"), planted_panel().panel
    scaled = detector.scaling_.transform(panel)
    sample = np.array(sample_of(panel.log_volume, STOCK, "causal"))
    mad = np.median(np.abs(sample - np.median(sample)))
    expected = (panel.log_volume[300, STOCK] - np.median(sample)) / (1.4826 * mad)
    assert scaled[300, STOCK, 1] == pytest.approx(expected, rel=1e-9)


def test_autoencoder_score_is_the_distance_from_its_reconstruction():
    import torch

    detector, panel = fitted("dense_autoencoder", "causal"), planted_panel().panel
    row = detector.scaling_.transform(panel)[300, 0]
    with torch.no_grad():
        rebuilt = detector.model_.model(torch.tensor(row[None], dtype=torch.float32)).numpy()[0]
    assert scored("dense_autoencoder", "causal")[300, 0] == pytest.approx(np.linalg.norm(row - rebuilt), rel=1e-4)


def test_vae_score_is_a_mean_negative_log_likelihood():
    import torch

    detector, panel = fitted("vae", "causal"), planted_panel().panel
    row = detector.scaling_.transform(panel)[300, 0]
    network = detector.model_.model
    draws = np.random.default_rng(0).standard_normal((detector.draws, 2))
    with torch.no_grad():
        mean, log_variance = (v.numpy()[0] for v in network.encode(torch.tensor(row[None], dtype=torch.float32)))
        z_draws = torch.tensor(mean + draws * np.exp(log_variance / 2), dtype=torch.float32)
        rebuilt = network.decode(z_draws).numpy()
    log_p = stats.norm.logpdf(row, rebuilt, np.sqrt(detector.variance_)).sum(axis=1)
    assert scored("vae", "causal")[300, 0] == pytest.approx(-log_p.mean(), rel=1e-4)
