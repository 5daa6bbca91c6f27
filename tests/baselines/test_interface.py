"""What every detector owes, in every mode: shape, inactivity, seeds, no look-ahead, calm on bad series."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
from planted_panel import CAUSAL, EVERY_MODE, LOOKAHEAD, TRAIN_END, altered_after, fitted, planted_panel, quick, scored

from anomaly_routing.baselines.registry import detectors

ALTERED_FROM = TRAIN_END + 40
CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # float32; another number of rows may change a matrix product's rounding


@pytest.mark.parametrize(("name", "mode"), EVERY_MODE)
def test_scores_are_float32_and_nan_where_inactive(name, mode):
    panel, scores = planted_panel().panel, scored(name, mode)
    assert scores.shape == panel.active.shape and scores.dtype == np.float32
    assert np.isnan(scores[~panel.active]).all()
    finite = np.isfinite(scores)
    assert not np.isinf(scores).any()
    assert finite[TRAIN_END:][panel.active[TRAIN_END:]].mean() > 0.97  # after the warm-up nearly all can be scored


@pytest.mark.parametrize(("name", "mode"), CAUSAL)
def test_a_causal_score_does_not_see_later_sessions(name, mode):
    planted = planted_panel()
    later = altered_after(planted.panel, ALTERED_FROM)
    scores = quick(name, mode).fit(later, planted.train).decision_function(later)
    np.testing.assert_allclose(scores[: ALTERED_FROM + 1], scored(name, mode)[: ALTERED_FROM + 1], **CLOSE)


@pytest.mark.parametrize(("name", "mode"), CAUSAL)
def test_what_a_causal_detector_fits_does_not_see_later_sessions(name, mode):
    planted = planted_panel()
    other = quick(name, mode).fit(altered_after(planted.panel, TRAIN_END - 1), planted.train)
    np.testing.assert_allclose(other.decision_function(planted.panel), scored(name, mode), **CLOSE)
    cuts = [getattr(detector, "flag_threshold", np.nan) for detector in (other, fitted(name, mode))]
    assert cuts[0] == pytest.approx(cuts[1], rel=1e-6, nan_ok=True)


@pytest.mark.parametrize(("name", "mode"), LOOKAHEAD)
def test_a_mode_labelled_look_ahead_does_look_ahead(name, mode):
    planted = planted_panel()
    later = altered_after(planted.panel, ALTERED_FROM)
    before = slice(ALTERED_FROM - 5, ALTERED_FROM + 1)  # it may look no further ahead than the end of a block
    moved = quick(name, mode).fit(later, planted.train).decision_function(later)[before]
    same = np.isclose(moved, scored(name, mode)[before], rtol=1e-3, atol=1e-6, equal_nan=True)
    assert same.mean() < 0.9


@pytest.mark.parametrize(("name", "mode"), [pair for pair in EVERY_MODE if detectors()[pair[0]].stochastic])
def test_a_seed_gives_the_same_scores_twice(name, mode):
    planted = planted_panel()
    again = quick(name, mode).fit(planted.panel, planted.train)
    scores = again.decision_function(planted.panel)
    np.testing.assert_array_equal(scores, scored(name, mode))
    np.testing.assert_array_equal(again.decision_function(planted.panel), scores)
    if (name, mode) not in {("lof", "chapter"), ("one_class_svm", "chapter")}:  # these draw no sample
        params = {"max_rows": 500} if "max_rows" in detectors()[name].parameters else {}
        other = quick(name, mode, seed=1, **params).fit(planted.panel, planted.train)
        assert not np.allclose(other.decision_function(planted.panel), scores, rtol=1e-4, equal_nan=True)


NEURAL = [("dense_autoencoder", "chapter"), ("vae", "chapter"), ("intended", "causal"), ("literal", "printed")]
NEURAL += [(name, "causal") for name, entry in detectors().items() if entry.stage == "deep_baselines"]


@pytest.mark.parametrize(("name", "mode"), NEURAL)
def test_the_neural_detectors_leave_the_process_as_it_was_and_print_nothing(name, mode, capfd):
    import torch

    planted = planted_panel()
    random.seed(3), torch.manual_seed(3), np.random.seed(3)  # noqa: NPY002
    expected = random.random(), float(torch.rand(1)), np.random.rand()  # noqa: NPY002
    random.seed(3), torch.manual_seed(3), np.random.seed(3)  # noqa: NPY002
    threads = torch.get_num_threads()
    quick(name, mode, epochs=1).fit(planted.panel, planted.train).decision_function(planted.panel)
    assert (random.random(), float(torch.rand(1)), np.random.rand()) == expected  # noqa: NPY002
    assert torch.get_num_threads() == threads
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "mode"), EVERY_MODE)
def test_bad_series_give_zero_or_nan_and_no_warning(name, mode):
    planted = planted_panel()
    panel = planted.panel
    returns, log_volume, x = panel.returns.copy(), panel.log_volume.copy(), panel.x.copy()
    returns[:, 5], log_volume[:, 5], x[:, 5] = 0.003, 13.0, 0.0  # constant
    returns[:, 6] = log_volume[:, 6] = np.nan  # never traded, yet called active
    returns[10:, 7] = log_volume[10:, 7] = np.nan  # too short
    returns[: TRAIN_END + 100, 8] = 0.0  # mostly zero: MAD and IQR are 0
    returns[~panel.active] = log_volume[~panel.active] = np.nan
    bad = replace(panel, returns=returns, log_volume=log_volume, x=x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = quick(name, mode).fit(bad, planted.train).decision_function(bad)
    assert not np.isinf(scores).any()
    uses_features = name in {"l2_norm", "mahalanobis", "mean_spread", "pca_error", "knn1", "intended", "literal"}
    uses_features |= detectors()[name].stage == "deep_baselines"  # these owe every active stock a score
    market_wide = name in {"null", "random", "lagged_vix", "market_volatility"}
    if not uses_features and not market_wide:
        assert np.isnan(scores[:, 6]).all()
        assert np.isnan(scores[TRAIN_END:, 7]).all()
    if detectors()[name].family in {"statistical", "streaming"} or name in {"mean_abs_z", "lagged_volatility"}:
        constant = scores[TRAIN_END:, 5]
        np.testing.assert_array_equal(constant[panel.active[TRAIN_END:, 5]], 0.0)
    elif name in {"isolation_forest", "lof", "one_class_svm"} and mode == "chapter":
        assert np.isnan(scores[:, 5]).all()


# what goes by the place in the list: the draws of `random`, of `cola`'s walks and of the `vae`, the order in which
# rows leave `memstream`'s memory; the least correlation with the scores in the fitted order
BY_PLACE = {"random": -0.1, "cola": 0.5, "memstream": 0.5, "vae": 0.5}


@pytest.mark.parametrize(("name", "mode"), EVERY_MODE)
def test_other_stocks_or_another_order_are_refused_by_what_keeps_something_of_each_stock(name, mode):
    panel, detector = planted_panel().panel, fitted(name, mode)
    order = np.array([3, 1, 0, 2, *range(4, len(panel.tickers))])
    reordered, fewer = _stocks(panel, order), _stocks(panel, np.arange(2, len(panel.tickers)))
    try:
        scores = detector.decision_function(reordered)
    except ValueError as refusal:
        assert "another order: S3 stands where S0 was fitted. Remedy: score the fitted stocks" in str(refusal)
        with pytest.raises(ValueError, match=r"other stocks than were fitted \(new: none; missing: S0, S1\). Remedy"):
            detector.decision_function(fewer)
        return
    expected, seen = scored(name, mode)[:, order], np.isfinite(scores)
    np.testing.assert_array_equal(seen, np.isfinite(expected))
    if name in BY_PLACE:
        assert np.corrcoef(scores[seen], expected[seen])[0, 1] > BY_PLACE[name]
    else:
        np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)
    assert np.isfinite(detector.decision_function(fewer)[TRAIN_END + 20 :]).any()


def _stocks(panel, kept):
    """Some stocks of a panel, in this order."""
    columns = {k: getattr(panel, k)[:, kept] for k in ("x", "active", "returns", "log_volume")}
    columns |= {k: getattr(panel, k)[kept] for k in ("sector", "is_bank")}
    return replace(panel, tickers=[panel.tickers[i] for i in kept], prior=panel.prior[np.ix_(kept, kept)], **columns)


@pytest.mark.parametrize(("name", "mode"), EVERY_MODE)
def test_a_panel_without_any_active_stock_in_a_session_is_scored(name, mode):
    planted = planted_panel()
    closed = planted.panel.active.copy()
    closed[TRAIN_END + 5] = False
    scores = fitted(name, mode).decision_function(replace(planted.panel, active=closed))
    assert np.isnan(scores[TRAIN_END + 5]).all() and np.isfinite(scores[TRAIN_END + 6 :]).any()
