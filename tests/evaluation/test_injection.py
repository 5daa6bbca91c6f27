"""The grades of planted anomalies against scikit-learn, counts by hand, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import average_precision_score, roc_auc_score

from anomaly_routing.evaluation import injection


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(1.0, 1.0, 80), rng.normal(0.0, 1.0, 500)


def labelled(planted: np.ndarray, calm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.r_[np.ones(len(planted)), np.zeros(len(calm))], np.r_[planted, calm]


def test_the_mean_rank_is_the_area_under_the_roc(scores):
    assert injection.ranks(*scores).mean() == pytest.approx(roc_auc_score(*labelled(*scores)))
    tied = np.round(scores[0]), np.round(scores[1])
    assert injection.ranks(*tied).mean() == pytest.approx(roc_auc_score(*labelled(*tied)))


def test_average_precision_from_ranks_is_that_of_scikit_learn(scores):
    found = injection.average_precision(injection.ranks(*scores), len(scores[1]))
    assert found == pytest.approx(average_precision_score(*labelled(*scores)))


def test_recall_at_five_percent_false_alarms_by_counting(scores):
    planted, calm = scores
    cut = np.sort(calm)[int(0.95 * len(calm))]
    recall = injection.detection(injection.ranks(planted, calm), len(calm))["recall_at_5"]
    assert recall == pytest.approx((planted > cut).mean(), abs=1 / len(planted))


def test_a_constant_score_is_chance():
    found = injection.detection(injection.ranks(np.zeros(10), np.zeros(100)), 100)
    assert found["auroc"] == 0.5 and found["recall_at_5"] == 0


@pytest.mark.parametrize(
    "bad", [(np.array([np.nan]), np.ones(3)), (np.ones(3), np.array([])), (np.ones(1), np.array([np.inf]))]
)
def test_scores_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="must be numbers"):
        injection.ranks(*bad)


def test_delays_count_from_the_hit_of_each_stock():
    planted = np.array([[1, 0, 1], [1, 1, 1], [1, 1, 1]], bool)
    rank = np.array([[0.5, 0.99, 0.5], [0.97, 0.2, 0.5], [0.99, 0.96, 0.5]])
    assert injection.delays([rank], [planted]) == (1.0, pytest.approx(2 / 3), 0)
    assert injection.delays([0 * rank], [planted]) == (None, 0, 0)
    rank[0, 0] = 0.99  # on the session of the hit; the other alarm comes one later
    assert injection.delays([rank], [planted]) == (0.5, pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_accuracy_with_its_exact_interval():
    values = np.eye(4)[[0, 1, 2, 2]]
    found = injection.top1(values, np.array([0, 1, 2, 3]))
    assert found["top1"] == 0.75 and found["n_plants"] == 4
    assert found["top1_interval"] == pytest.approx([beta.ppf(0.025, 3, 2), beta.ppf(0.975, 4, 1)])
    assert injection.confusion(values, np.array([0, 1, 2, 3]))[3].tolist() == [0, 0, 1, 0]
    with pytest.raises(ValueError, match="not a number"):
        injection.top1(values * np.nan, np.array([0, 1, 2, 3]))


def test_weights_drawn_from_their_own_probabilities_are_calibrated():
    rng = np.random.default_rng(1)
    weights = rng.dirichlet(np.full(4, 0.5), 20_000)
    truth = (rng.random(20_000)[:, None] > weights.cumsum(1)).sum(1)
    assert injection.calibration(weights, truth)[1] < 0.015
    sure = np.where(weights == weights.max(1, keepdims=True), 0.97, 0.01)
    assert injection.calibration(sure, truth)[1] > 0.2


def test_agreement_of_an_attribution_with_itself_and_with_noise():
    rng = np.random.default_rng(2)
    one, other = rng.random((2000, 4)), rng.random((2000, 4))
    assert injection.agreement(one, 2 * one) == {"same_argmax": 1.0, "correlation": pytest.approx(1.0)}
    chance = injection.agreement(one, other)
    assert chance["same_argmax"] == pytest.approx(0.25, abs=0.04) and abs(chance["correlation"]) < 0.06


def test_a_collapsed_gate_has_no_correlation():
    """Three weights of rounding error that move together are no path."""
    shared = np.random.default_rng(4).random((50, 1))
    collapsed = np.c_[1e-15 * shared * np.ones((1, 3)), np.ones((50, 1))]
    found = injection.agreement(collapsed, collapsed)
    assert found["same_argmax"] == 1 and np.isnan(found["correlation"])
    assert injection.agreement(shared * np.ones((1, 4)), shared * np.ones((1, 4)))["correlation"] == pytest.approx(1)


def test_an_interval_by_blocks_knows_what_a_block_is_worth():
    """Blocks of one: the normal approximation. Blocks that stand or fall together: as wide as their number says."""
    rng = np.random.default_rng(3)
    right = rng.random(400) < 0.6
    low, high = injection.by_block(right, np.arange(400))
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 400), rel=0.1) and low < right.mean() < high
    together, block = np.repeat(right[:40], 10), np.repeat(np.arange(40), 10)
    wide = injection.by_block(together, block)
    assert wide[1] - wide[0] == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 40), rel=0.2)


def test_the_paired_test_is_a_sign_test_of_the_discordant_plants():
    one, other = np.array([1, 1, 1, 1, 1, 0, 1, 0], bool), np.array([0, 0, 0, 0, 0, 1, 1, 0], bool)
    found = injection.paired(one, other)
    assert found["only the first"] == 5 and found["only the second"] == 1 and found["both"] == 1
    assert found["p"] == pytest.approx(2 * (1 + 6) / 2**6)
    assert injection.paired(one, one)["p"] == 1


def test_a_mechanism_without_a_column_has_a_row():
    matrix = injection.confusion(np.eye(4)[[0, 1, 3, 3]], np.array([0, 1, 4, 4]))
    assert matrix.shape == (5, 4) and matrix[4].tolist() == [0, 0, 0, 2] and matrix.sum() == 4
