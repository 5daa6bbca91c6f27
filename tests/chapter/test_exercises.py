"""The worked answers: masking by closed form, a fourth input that shows what it measures."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_routing.chapter.exercises import (
    hidden_among_equals,
    points_in_training,
    score_left,
    with_one_more_input,
)
from anomaly_routing.chapter.planted import plant
from anomaly_routing.panel import plain_panel

N, STOCKS = 2000, 3
TRAIN = np.arange(N) < 1200


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    panel = plain_panel(0.01 * rng.standard_normal((N, STOCKS)), 9 + 0.3 * rng.standard_normal((N, STOCKS)))
    return plant(panel, ~TRAIN, 10)


def test_points_in_training_stretch_the_z_score_as_their_share_says(planted):
    """A share q of points of 4 SDs makes the SD sqrt(1 + 15 q) times as large, the MAD hardly larger."""
    eighth = TRAIN.sum() * STOCKS // 8
    table = points_in_training(planted, TRAIN, {"none": 0, "twenty": 20, "one in eight": eighth})
    over = table.set_index(["method", "planted in training"])["score over cut"]
    stretched = over["zscore", "none"] / over["zscore", "one in eight"]
    size = 4 * planted.panel.returns.std() / planted.panel.returns[TRAIN].std()  # late plants have stretched it already
    assert stretched == pytest.approx(np.sqrt(1 + (size**2 - 1) / 8), rel=0.03)
    assert over["zscore", "none"] == pytest.approx(8 / 3, rel=0.05)
    assert over["modified_zscore", "none"] / over["modified_zscore", "one in eight"] < 1.25
    assert over["zscore", "twenty"] < over["zscore", "none"] and (table.found == 1).all()
    left = score_left(table)
    assert left.loc["zscore", "one in eight"] == pytest.approx(1 / stretched) and (left["none"] == 1).all()
    assert left.loc["zscore", "one in eight"] < left.loc["modified_zscore", "one in eight"]


def test_points_hide_among_their_equals_from_the_z_score_alone():
    """A share 1/k of points of s SDs have |z| near s / sqrt(1 + (s^2 - 1) / k), below sqrt(k) for every s."""
    assert hidden_among_equals(12.0, 8) == {"zscore": 0.0, "modified_zscore": 1.0}
    assert hidden_among_equals(1e6, 8)["zscore"] == 0  # below sqrt(8) < 3
    assert hidden_among_equals(12.0, 20)["zscore"] == 1  # 12 / sqrt(1 + 143 / 20) = 4.2


def test_a_fourth_input_sees_the_flat_stretch(planted):
    table = with_one_more_input(planted, TRAIN, 0.02, 6000)
    shares = table.pivot_table(index="inputs", columns="fitted on", values="found")
    assert len(table) == 8 and table.found.between(0, 1).all()
    still = "sessions without a move"  # never in training: trees that were grown there cannot split on it
    assert shares.loc[still, "all days"] == 1 and shares.loc[still, "training days"] == 0
    assert (shares.loc["ln of that SD"] > shares.loc["three inputs"]).all()
