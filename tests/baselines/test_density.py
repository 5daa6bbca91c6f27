"""Robust autoencoder and Real NVP against loops, autograd's Jacobian and an integral."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_deep import quiet_panel
from planted_panel import planted_panel, quick
from sklearn.metrics import roc_auc_score

from anomaly_routing.baselines.density.real_nvp import SCALE_LIMIT, RealNVPNetwork
from anomaly_routing.baselines.density.robust_autoencoder import ROUNDS, RobustAutoencoderNetwork, shrink_rows
from anomaly_routing.baselines.registry import create


# --- robust autoencoder -----------------------------------------------------------------------------------------------
def slow_shrink(x: np.ndarray, by: float) -> np.ndarray:
    out = np.zeros_like(x)
    for i, row in enumerate(x):
        norm = np.sqrt(sum(v**2 for v in row))
        if norm > by:
            out[i] = row - by * row / norm
    return out


def slow_autoencoder(net: RobustAutoencoderNetwork, x: np.ndarray) -> np.ndarray:
    weights = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in net.layers]
    for w, b in weights:
        x = np.tanh(x @ w.T + b)
    for k, ((w, _), bias) in enumerate(zip(weights[::-1], net.biases, strict=True)):
        x = x @ w + bias.detach().numpy()
        x = x if k == len(weights) - 1 else np.tanh(x)
    return x


def robust_network(width: int = 5, lam: float = 0.8) -> RobustAutoencoderNetwork:
    torch.manual_seed(0)
    net = RobustAutoencoderNetwork([width, 4, 2], 0.2, 5)
    for bias in net.biases:
        torch.nn.init.normal_(bias)
    net.lam.fill_(lam)
    return net.double()


def test_shrinking_is_the_proximal_operator():
    rng = np.random.default_rng(0)
    x, by = rng.normal(size=(6, 3)), 1.5
    got = shrink_rows(torch.tensor(x), torch.tensor(by)).numpy()
    np.testing.assert_allclose(got, slow_shrink(x, by), atol=1e-12)

    def cost(s: np.ndarray, row: np.ndarray) -> float:
        return 0.5 * ((row - s) ** 2).sum() + by * np.linalg.norm(s)

    for row, s in zip(x, got, strict=True):
        rivals = s + 0.05 * rng.normal(size=(200, 3))
        assert all(cost(s, row) <= cost(rival, row) for rival in [*rivals, np.zeros(3)])


def test_the_decoder_uses_the_encoders_matrices():
    net, x = robust_network(), np.random.default_rng(0).normal(size=(7, 5))
    np.testing.assert_allclose(net(torch.tensor(x)).detach().numpy(), slow_autoencoder(net, x), atol=1e-10)


def test_one_alternation_is_the_slow_one_and_feeds_the_batches():
    net, rng = robust_network(), np.random.default_rng(0)
    x, active = rng.normal(size=(12, 3, 5)), rng.random((12, 3)) < 0.8
    x[~active] = 0
    low = torch.tensor(x)
    net.keep(low, torch.tensor(active))
    sparse = np.zeros((active.sum(), 5))
    for _ in range(3):
        error = x[active] - slow_autoencoder(net, x[active] - sparse)
        norms = np.sort(np.linalg.norm(error, axis=1))
        lam = norms[int(0.8 * (len(norms) - 1))]
        sparse = slow_shrink(error, lam)
        net.split()
        assert float(net.lam) == pytest.approx(lam)
        np.testing.assert_allclose(low.numpy()[active], x[active] - sparse, atol=1e-9)
        assert 0.1 < (np.abs(sparse).sum(1) > 0).mean() < 0.3  # about the wanted share of rows
    assert (low.numpy()[~active] == 0).all()


def test_the_score_is_the_same_alternation_for_a_new_row():
    net, x = robust_network(), np.random.default_rng(1).normal(size=(4, 2, 5))

    class Now:
        now = torch.tensor(x)

    got = net.score(Now).detach().numpy()
    for place in np.ndindex(4, 2):
        row, sparse = x[place][None], np.zeros((1, 5))
        for _ in range(ROUNDS):
            sparse = slow_shrink(row - slow_autoencoder(net, row - sparse), 0.8)
        error = row - slow_autoencoder(net, row - sparse)
        assert got[place] == pytest.approx(np.linalg.norm(error), abs=1e-9)
        assert (got[place] > 0.8) == bool(slow_shrink(error, 0.8).any())


def test_outliers_in_training_do_not_teach_the_autoencoder_to_repeat_them():
    """A tenth of the training rows lie off the factors, always in one direction. New ones are found if S took them."""
    planted = quiet_panel("off_factor")
    panel, rng = planted.panel, np.random.default_rng(0)
    x, direction = panel.x.copy(), rng.normal(size=panel.x.shape[2])
    outlying = panel.active & (rng.random(panel.active.shape) < 0.1)
    x[outlying] = rng.normal(8, 1.5, (outlying.sum(), 1)) * direction / np.linalg.norm(direction) + 0.3 * x[outlying]
    spoilt = replace(panel, x=np.clip(x, -8, 8).astype(np.float32))
    late = panel.active & (np.arange(len(x)) >= 280)[:, None]
    found = {}
    for share in (0.15, 0.0):
        detector = create("robust_autoencoder", epochs=100, hidden=16, code=4, outliers=share)
        scores = detector.fit(spoilt, planted.train).decision_function(spoilt)
        found[share] = roc_auc_score(outlying[late], scores[late])
    assert found[0.15] > 0.9 and found[0.15] > found[0.0] + 0.15, found


def test_the_panel_stays_as_it_was_and_the_cut_is_lambda():
    planted = planted_panel()
    before = planted.panel.x.copy()
    detector = quick("robust_autoencoder", "causal").fit(planted.panel, planted.train)
    np.testing.assert_array_equal(planted.panel.x, before)
    scores = detector.decision_function(planted.panel)
    share = (scores > detector.flag_threshold)[planted.panel.active & planted.train[:, None]].mean()
    assert detector.flag_threshold == float(detector.net.lam) and 0 < share < 0.2
    assert not hasattr(detector.net, "low")


# --- Real NVP ---------------------------------------------------------------------------------------------------------
def flow(width: int, seed: int = 0, pairs: int = 2) -> RealNVPNetwork:
    """A flow that is not the identity."""
    torch.manual_seed(seed)
    net = RealNVPNetwork(width, 8, pairs, 0.1).double()
    for coupling in net.couplings:
        torch.nn.init.normal_(coupling.net[-1].weight, std=0.5)
        torch.nn.init.normal_(coupling.net[-1].bias, std=0.5)
    return net


@pytest.mark.parametrize("width", [2, 5, 29])
def test_the_log_determinant_is_that_of_autograds_jacobian(width):
    net, rows = flow(width), torch.randn(4, width, dtype=torch.float64)
    _, log_det = net(rows)
    for row, got in zip(rows, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda r: net(r[None])[0][0], row)
        sign, expected = torch.linalg.slogdet(jacobian)
        assert sign > 0 and float(got.detach()) == pytest.approx(float(expected), abs=1e-9)


def test_the_density_integrates_to_one():
    axis = torch.linspace(-30, 30, 1501, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = torch.exp(-flow(2, pairs=1).surprise(grid))
    assert float(density.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=0.01)


def test_a_coupling_is_the_slow_one():
    coupling, x = flow(5).couplings[0], np.random.default_rng(0).normal(size=(6, 5))
    mask = coupling.mask.numpy()
    out, log_det = (v.detach().numpy() for v in coupling(torch.tensor(x)))
    for row, got, total in zip(x, out, log_det, strict=True):
        both = coupling.net(torch.tensor(row * mask)).detach().numpy()
        expected, logs = row.copy(), 0.0
        for j in range(5):
            if not mask[j]:
                log_scale = SCALE_LIMIT * np.tanh(both[j] / SCALE_LIMIT)
                expected[j] = row[j] * np.exp(log_scale) + both[5 + j]
                logs += log_scale
        np.testing.assert_allclose(got, expected, atol=1e-10)
        assert total == pytest.approx(logs)


def test_every_feature_is_changed_by_one_coupling_of_a_pair_and_an_untrained_flow_is_the_standard_normal():
    net = RealNVPNetwork(7, 8, 3, 0.1)
    masks = torch.stack([coupling.mask for coupling in net.couplings])
    assert torch.equal(masks[::2] + masks[1::2], torch.ones(3, 7))
    x = torch.randn(5, 7)
    expected = -torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    torch.testing.assert_close(net.surprise(x), expected)


def test_noise_keeps_the_density_of_a_binary_feature_bounded():
    planted = planted_panel()
    x = planted.panel.x.copy()
    x[..., 0] = np.where(np.arange(len(x))[:, None] % 20 == 0, 4.0, 0.0) * planted.panel.active
    panel = replace(planted.panel, x=x)
    lowest = []
    for noise in (0.1, 0.0):
        detector = create("real_nvp", epochs=40, hidden=16, pairs=2, noise=noise).fit(panel, planted.train)
        lowest.append(np.nanmin(detector.decision_function(panel)))
    assert lowest[0] > lowest[1] + 0.5
