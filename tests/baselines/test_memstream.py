"""MemStream against a slow stream, and what its memory is for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_panel import planted_panel, quick
from torch import nn

from anomaly_routing.baselines.streaming.memstream import Memory, MemStreamNetwork

SIZE, NEIGHBOURS, GAMMA = 7, 3, 0.5


def network(width: int, code: int, seed: int = 0) -> MemStreamNetwork:
    torch.manual_seed(seed)
    return MemStreamNetwork(width, code, 0.001, torch.zeros(width), torch.ones(width)).eval()


@torch.no_grad()
def streamed(
    net: MemStreamNetwork, x: np.ndarray, active: np.ndarray, beta: float, size: int = SIZE, gamma: float = GAMMA
):
    empty = Memory(size, torch.zeros(0, x.shape[2]), torch.zeros(0, net.width))
    discount = torch.tensor([gamma**i for i in range(NEIGHBOURS)])
    x, active = torch.tensor(x, dtype=torch.float32), torch.tensor(active)
    return net.stream(x, active, empty, discount, torch.tensor(beta)).numpy(), empty


def slow(net: MemStreamNetwork, x: np.ndarray, active: np.ndarray, beta: float) -> np.ndarray:
    """One stock after the other, lists and loops."""
    rows, codes, scores = [], [], np.zeros(active.shape)
    for t in range(len(x)):
        entering = []
        for i in np.flatnonzero(active[t]):
            mean = np.mean(rows, axis=0) if rows else np.zeros(x.shape[2])
            sd = np.std(rows, axis=0, ddof=1) if len(rows) > 1 else np.zeros(x.shape[2])
            z = [(v - m) / s if s > 0 else 0.0 for v, m, s in zip(x[t, i], mean, sd, strict=True)]
            code = net.encoder(torch.tensor(z, dtype=torch.float32)).detach().numpy()
            near = sorted(float(np.abs(code - other).sum()) for other in codes)[:NEIGHBOURS]
            weights = [GAMMA**k for k in range(len(near))]
            if near:
                scores[t, i] = sum(w * d for w, d in zip(weights, near, strict=True)) / sum(weights)
            if scores[t, i] <= beta or len(rows) < SIZE:
                entering.append((x[t, i], code))
        for row, code in entering:
            rows.append(row)
            codes.append(code)
        rows, codes = rows[-SIZE:], codes[-SIZE:]
    return scores


@pytest.mark.parametrize("beta", [0.0, 1.5, np.inf])
def test_the_stream_is_the_slow_one(beta):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4, 3)).astype(np.float32)
    x[:, :, 2] = np.where(np.arange(40)[:, None] < 20, 1.0, x[:, :, 2])  # a feature without variation at first
    active = rng.random((40, 4)) < 0.7
    active[:, 0] = True
    net = network(3, 6)
    got, _ = streamed(net, x, active, beta)
    np.testing.assert_allclose(got, slow(net, x, active, beta), rtol=1e-5, atol=1e-5)
    assert (got[0] == 0).all() and (got[~active] == 0).all()


def test_the_encoder_learns_to_take_the_noise_away():
    """With noise as large as the signal and rows on a line, the clean row is rebuilt better than it is given."""
    planted = planted_panel()
    errors = []
    for epochs in (0, 60):
        net = quick("memstream", "causal", epochs=epochs, noise=0.5).fit(planted.panel, planted.train).net
        x = torch.tensor(planted.panel.x[planted.panel.active][:500])
        x = (x - net.mean) / net.sd
        noisy = x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            errors.append(float((net.decoder(net.encoder(noisy)) - x).square().mean()))
    assert errors[1] < 0.6 * 0.25 < errors[0]


def test_only_what_is_below_the_gate_enters_a_full_memory():
    net, rng = network(2, 0), np.random.default_rng(0)
    x = rng.normal(size=(60, 1, 2))
    x[30:] += 50.0
    active = np.ones((60, 1), bool)
    gated, memory = streamed(net, x, active, beta=3.0, gamma=0.0)
    assert memory.rows.max() < 10 and (gated[30:] > 20).all()  # poison never enters, so every later row stays strange
    _, memory = streamed(net, x, active, beta=np.inf, gamma=0.0)
    assert memory.rows.min() > 10
    open_gate, _ = streamed(net, x, active, beta=np.inf, gamma=0.0)
    assert open_gate[30, 0] > 20 and open_gate[45:].max() < 5  # with an open gate the shift becomes ordinary


def test_the_oldest_leave_first_and_encodings_stay_as_they_entered():
    memory = Memory(3, torch.zeros(0, 1), torch.zeros(0, 1))
    for value in range(5):
        memory.enter(torch.tensor([[float(value)]]), torch.tensor([[10.0 * value]]))
    assert memory.rows[:, 0].tolist() == [2, 3, 4] and memory.codes[:, 0].tolist() == [20, 30, 40]
    memory.enter(torch.arange(5.0)[:, None] + 7, torch.arange(5.0)[:, None])  # more than it holds
    assert memory.rows[:, 0].tolist() == [9, 10, 11]


@pytest.mark.parametrize(("gamma", "expected"), [(0.0, 1.0), (1.0, 2.0), (0.5, (1 + 0.5 * 2 + 0.25 * 3) / 1.75)])
def test_the_discount_weighs_the_nearest_most(gamma, expected):
    memory = Memory(4, torch.zeros(4, 1), torch.tensor([[9.0], [2.0], [-1.0], [3.0]]))
    discount = torch.tensor([gamma**i for i in range(3)])
    assert float(memory.distance(torch.zeros(1, 1), discount)) == pytest.approx(expected)


def test_the_order_of_the_stocks_does_not_matter_while_sessions_leave_whole():
    rng = np.random.default_rng(0)
    x, active, order = rng.normal(size=(30, 4, 3)), np.ones((30, 4), bool), [2, 0, 3, 1]
    net = network(3, 6)
    one, _ = streamed(net, x, active, np.inf, size=8)
    two, _ = streamed(net, x[:, order], active, np.inf, size=8)
    np.testing.assert_allclose(two, one[:, order], rtol=1e-4, atol=1e-5)


def test_a_stream_starts_in_the_first_session_whatever_was_fitted():
    planted = planted_panel()
    detector = quick("memstream", "causal").fit(planted.panel, planted.train)
    scores = detector.decision_function(planted.panel)
    first = int(np.flatnonzero(planted.panel.active.any(1))[0])
    assert (scores[first][planted.panel.active[first]] == 0).all()
    later = detector.decision_function(_from(planted.panel, 300))
    assert (later[0][planted.panel.active[300]] == 0).all()
    assert not np.allclose(later[1:5], scores[301:305], equal_nan=True)
    np.testing.assert_allclose(_until(detector, planted.panel, 350), scores[:350], rtol=1e-5)


def test_beta_is_the_p95_of_the_training_scores_that_it_makes():
    planted = planted_panel()
    val = np.arange(len(planted.train)) >= 350
    detector = quick("memstream", "causal").fit(planted.panel, planted.train, val)
    rows = planted.panel.active & planted.train[:, None]
    betas = []
    for rule in ("tail", "val"):
        scores = detector.use(rule).decision_function(planted.panel)
        betas.append(float(detector.net.beta))
        assert np.quantile(scores[rows], 0.95) == pytest.approx(betas[-1], rel=0.02)
    detector.net.beta.fill_(np.inf)
    everything = np.quantile(detector.decision_function(planted.panel)[rows], 0.95)
    assert everything < min(betas)  # a memory of ordinary rows alone is narrower


def test_without_an_encoder_the_memory_holds_the_scaled_rows():
    net = network(2, 0)
    assert isinstance(net.encoder, nn.Identity) and net.width == 2


def _from(panel, first: int):
    cut = slice(first, None)
    return _cut(panel, cut)


def _until(detector, panel, last: int) -> np.ndarray:
    return detector.decision_function(_cut(panel, slice(0, last)))


def _cut(panel, cut: slice):
    return replace(
        panel,
        sessions=panel.sessions[cut],
        x=panel.x[cut],
        active=panel.active[cut],
        returns=panel.returns[cut],
        log_volume=panel.log_volume[cut],
        benchmarks=panel.benchmarks.iloc[cut],
        stress=panel.stress[cut],
    )
