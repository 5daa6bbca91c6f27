"""The transformers and the graph attention over time: their mechanisms against plain loops, and that each acts."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from planted_panel import TRAIN_END, fitted, planted_panel, scored
from torch_geometric.nn import GATConv

from anomaly_routing.baselines.deep import Batch, Series
from anomaly_routing.baselines.temporal.anomaly_transformer import (
    AnomalyAttention,
    AnomalyTransformerNetwork,
    discrepancy,
    prior_association,
)
from anomaly_routing.baselines.temporal.mtad_gat import GraphAttention, MTADGATNetwork
from anomaly_routing.baselines.temporal.tranad import TranADNetwork
from benchmarks.peers.tranad import measures, point_adjusted, random_scores

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
NAMES = ["anomaly_transformer", "tranad", "mtad_gat"]
SAMPLES, WINDOW, WIDTH = 3, 5, 4


@pytest.fixture
def windows() -> torch.Tensor:
    return torch.randn(SAMPLES, WINDOW, WIDTH, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def batch() -> Batch:
    """Four sessions of three stocks."""
    x = torch.randn(4 + WINDOW - 1, 3, WIDTH, generator=torch.Generator().manual_seed(6))
    here, nothing = torch.ones(4, 3, dtype=torch.bool), torch.zeros(len(x), 3)
    return Batch(x, torch.ones(len(x), 3, dtype=torch.bool), nothing, nothing, torch.zeros(3, 3), here, here)


def transformer(layers: int = 2, temperature: float = 1.0) -> AnomalyTransformerNetwork:
    torch.manual_seed(0)
    return AnomalyTransformerNetwork(WIDTH, WINDOW, 8, 2, layers, 3.0, temperature).eval()


def tranad() -> TranADNetwork:
    torch.manual_seed(0)
    return TranADNetwork(WIDTH, WINDOW, 6, 0.1).eval()


def mtad() -> MTADGATNetwork:
    torch.manual_seed(0)
    net = MTADGATNetwork(WIDTH, WINDOW, 7, 3, 3, 0.8).eval()
    with torch.no_grad():
        net.log_variance.copy_(torch.linspace(-1, 1, WIDTH))
    return net


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def linear(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    return x @ array(layer.weight).T + array(layer.bias)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


# The Anomaly Transformer


def test_the_plain_error_is_the_score_without_its_association(batch):
    net = transformer(temperature=0.0)  # every session of the window then has the same share
    with torch.no_grad():
        np.testing.assert_allclose(net.plain_error(batch), WINDOW * net.score(batch), rtol=1e-5)
        assert not np.allclose(net.plain_error(batch), WINDOW * transformer().score(batch), rtol=1e-2)


def test_the_two_associations_are_those_of_plain_loops():
    torch.manual_seed(1)
    layer, x = AnomalyAttention(8, 2), torch.randn(SAMPLES, WINDOW, 8)
    output, association, sigmas = layer(x)
    out, series, prior = map(array, (output, association, prior_association(sigmas)))
    for m in range(SAMPLES):
        q, k, v, width = (linear(part, array(x)[m]) for part in (layer.query, layer.key, layer.value, layer.sigma))
        attended = np.zeros((WINDOW, 8))
        for h in range(2):
            own = slice(4 * h, 4 * h + 4)
            for i in range(WINDOW):
                weight = softmax(np.array([q[i, own] @ k[j, own] / sqrt(4) for j in range(WINDOW)]))
                np.testing.assert_allclose(series[m, h, i], weight, **CLOSE)
                attended[i, own] = weight @ v[:, own]
                sigma = 3 ** (1 / (1 + exp(-5 * width[i, h])) + 1e-5) - 1
                bell = np.array(
                    [exp(-((i - j) ** 2) / (2 * sigma**2)) / sqrt(2 * np.pi) / sigma for j in range(WINDOW)]
                )
                np.testing.assert_allclose(prior[m, h, i], bell / bell.sum(), **CLOSE)
        np.testing.assert_allclose(out[m], linear(layer.out, attended), **CLOSE)


def test_the_discrepancy_is_the_symmetric_divergence_and_the_score_its_softmax_times_the_error(batch):
    net = transformer(layers=2, temperature=0.7)
    windows = batch.windows(batch.active)
    rebuilt, series, priors = net(windows)
    for m, value in enumerate(array(net.score(batch)).ravel()):
        apart = np.zeros(WINDOW)
        for layer in range(2):
            for i in range(WINDOW):
                for h in range(2):
                    s, p = (array(a[layer])[m, h, i] + 1e-4 for a in (series, priors))
                    apart[i] += ((s - 1e-4) @ np.log(s / p) + (p - 1e-4) @ np.log(p / s)) / 2 / 2  # heads, layers
        error = np.mean((array(rebuilt)[m, -1] - array(windows)[m, -1]) ** 2)
        assert value == pytest.approx(softmax(-0.7 * apart)[-1] * error, rel=2e-5)
    same = torch.rand(2, 3, 4, 4).softmax(-1)
    assert discrepancy(same, same).abs().max() == 0


def moved(net: AnomalyTransformerNetwork, quantity: torch.Tensor) -> dict[str, bool]:
    """Of the last layer: which of its maps a quantity's gradient reaches."""
    net.zero_grad()
    quantity.backward(retain_graph=True)
    maps = ("query", "key", "sigma", "value")
    grads = {name: getattr(net.layers[-1].attention, name).weight.grad for name in maps}
    return {name: grad is not None and bool(grad.abs().max() > 1e-9) for name, grad in grads.items()}


def test_the_minimise_phase_moves_the_prior_and_the_maximise_phase_the_series(windows):
    net = transformer()
    minimise, maximise, error = net.phases(windows)
    assert moved(net, minimise - error) == {"query": False, "key": False, "sigma": True, "value": False}
    assert moved(net, maximise - error) == {"query": True, "key": True, "sigma": False, "value": False}
    torch.testing.assert_close(minimise - error, error - maximise)
    assert minimise > error


@pytest.mark.parametrize(("phase", "sign"), [(0, -1), (1, 1)])
def test_a_step_of_one_phase_brings_the_associations_nearer_or_farther(windows, phase, sign):
    net = transformer()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)
    distances = []
    for _ in range(4):
        losses = net.phases(windows)
        distances.append(float((losses[0] - losses[2]).detach()))
        optimiser.zero_grad()
        (losses[phase] - losses[2]).backward()
        optimiser.step()
    assert (np.diff(distances) * sign > 0).all()


def test_a_step_leaves_the_sum_of_both_phases_gradients(batch):
    net, expected = transformer(), []
    for phase in range(2):
        net.zero_grad()
        net.phases(batch.windows(batch.picked))[phase].backward()
        expected.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()])
    net.zero_grad()
    logged = net.step(batch, 0)
    for one, other, p in zip(*expected, net.parameters(), strict=True):
        torch.testing.assert_close(p.grad, one + other, rtol=1e-3, atol=1e-5)
    assert float(logged) == pytest.approx(float(net.criterion(batch).detach().mean()), rel=1e-4)


# TranAD


def heads(layer: torch.nn.MultiheadAttention, x: np.ndarray, memory: np.ndarray) -> np.ndarray:
    width = x.shape[1] // layer.num_heads
    weight, bias = array(layer.in_proj_weight), array(layer.in_proj_bias)
    q, k, v = (
        source @ w.T + b
        for source, w, b in zip((x, memory, memory), np.split(weight, 3), np.split(bias, 3), strict=True)
    )
    out = np.zeros_like(q)
    for h in range(layer.num_heads):
        own = slice(h * width, (h + 1) * width)
        for i in range(len(x)):
            out[i, own] = softmax(k[:, own] @ q[i, own] / sqrt(width)) @ v[:, own]
    return linear(layer.out_proj, out)


def norm(layer: torch.nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    return x * array(layer.weight) + array(layer.bias)


def feed(layer, x: np.ndarray) -> np.ndarray:
    return linear(layer.linear2, np.maximum(linear(layer.linear1, x), 0))


def phase(net: TranADNetwork, number: int, window: np.ndarray, focus: np.ndarray) -> np.ndarray:
    """One phase of one window [T, F], in NumPy."""
    width = 2 * WIDTH
    angle = np.array([[t * exp(-log(10_000) * d / width) for d in range(width)] for t in range(WINDOW)])
    x = np.concatenate([window, focus], 1) * sqrt(WIDTH) + np.sin(angle) + np.cos(angle)
    x = norm(net.encoder.norm1, x + heads(net.encoder.self_attn, x, x))
    memory = norm(net.encoder.norm2, x + feed(net.encoder, x))
    decoder, x = net.decoders[number], np.concatenate([window[-1:], window[-1:]], 1)
    x = norm(decoder.norm1, x + heads(decoder.self_attn, x, x))
    x = norm(decoder.norm2, x + heads(decoder.multihead_attn, x, memory))
    return linear(net.out[0], norm(decoder.norm3, x + feed(decoder, x)))[0]


def test_both_phases_are_those_of_plain_loops(windows):
    net = tranad()
    first, second = map(array, net(windows))
    for m, window in enumerate(array(windows)):
        expected = phase(net, 0, window, np.zeros_like(window))
        np.testing.assert_allclose(first[m], expected, **CLOSE)
        np.testing.assert_allclose(second[m], phase(net, 1, window, (expected - window) ** 2), **CLOSE)


def test_the_second_phase_looks_at_the_error_of_the_first(windows):
    net = tranad()
    before = net(windows)
    with torch.no_grad():
        net.decoders[0].linear2.bias[0] += 3  # the first decoder alone
    after = net(windows)
    assert (before[1] - after[1]).abs().max() > 0.01
    net.decoders[1] = net.decoders[0]
    assert (net(windows)[0] - net(windows)[1]).abs().max() > 0.01  # same decoder, another focus


def test_the_second_error_counts_more_with_every_epoch_and_half_in_the_score(batch):
    net = tranad()
    first, second = net.errors(batch.windows(batch.active))
    for epoch, share in ((0, 1.0), (1, 0.5), (9, 0.1)):
        expected = share * first.mean() + (1 - share) * second.mean()
        torch.testing.assert_close(net.objective(batch, epoch), expected)
    torch.testing.assert_close(net.score(batch).ravel(), (first + second) / 2)


# MTAD-GAT


def test_graph_attention_is_that_of_torch_geometric(windows):
    torch.manual_seed(2)
    layer = GraphAttention(WIDTH)
    oracle = GATConv(WIDTH, WIDTH, add_self_loops=False, negative_slope=0.2, bias=False)
    with torch.no_grad():
        oracle.lin.weight.copy_(torch.eye(WIDTH))
        oracle.att_dst.copy_(layer.one.weight[None])  # the node that attends
        oracle.att_src.copy_(layer.other.weight[None])
    everyone = torch.cartesian_prod(torch.arange(WINDOW), torch.arange(WINDOW)).T
    for nodes, out in zip(windows, layer(windows), strict=True):
        torch.testing.assert_close(out, torch.sigmoid(oracle(nodes, everyone)), rtol=1e-5, atol=1e-5)


def test_one_attention_relates_the_features_and_the_other_the_sessions(windows):
    """Each is the same for a reordered graph: features for one, sessions for the other, and never across samples."""
    net, x = mtad(), windows[:, 1:]
    order = torch.tensor([2, 0, 3, 1])
    related = net.by_feature(x.transpose(1, 2))
    torch.testing.assert_close(net.by_feature(x[..., order].transpose(1, 2)), related[:, order])
    torch.testing.assert_close(net.by_time(x[:, order]), net.by_time(x)[:, order])
    assert (related - torch.sigmoid(x.transpose(1, 2))).abs().max() > 0.05  # others' values come in


def test_the_loss_is_forecast_plus_elbo_and_the_score_that_of_the_paper(windows):
    net = mtad()
    past, later, last = windows[:, :-1], windows[:, 1:], windows[:, -1]
    spread = (net.log_variance / 2).exp()
    mean, log_spread = net.encode(net.state(past)).chunk(2, -1)
    rebuilt = torch.distributions.Normal(net.decode(mean), spread)
    code = torch.distributions.Normal(mean, (log_spread / 2).exp())
    divergence = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0)).sum(1)
    constant = log(2 * np.pi) / 2
    elbo = (divergence - rebuilt.log_prob(past).sum((1, 2))) / past[0].numel() - constant
    missed = (net.forecast(net.state(past)) - last).square().mean(1).sqrt()
    torch.testing.assert_close(net.losses(windows, draw=False), missed + elbo, rtol=1e-5, atol=1e-5)
    assert not torch.equal(net.losses(windows, draw=True), net.losses(windows, draw=True))

    forecast = array(net.forecast(net.state(past)))
    seen = array(net.decode(net.encode(net.state(later))[:, :3]))[:, -1]
    for m, value in enumerate(array(net.judge(windows))):
        parts = []
        for f, x in enumerate(array(last)[m]):
            p = exp(-((x - seen[m, f]) ** 2) / (2 * exp(array(net.log_variance)[f])))
            parts.append(((forecast[m, f] - x) ** 2 + 0.8 * (1 - p)) / 1.8)
        assert value == pytest.approx(np.mean(parts), rel=1e-5)


def test_the_forecast_does_not_see_the_session_that_the_reconstruction_sees(windows):
    net, other = mtad(), windows.clone()
    other[:, -1] += 1
    assert torch.equal(net.forecast(net.state(windows[:, :-1])), net.forecast(net.state(other[:, :-1])))
    assert (net.state(windows[:, 1:]) - net.state(other[:, 1:])).abs().max() > 1e-4


# All three


@pytest.mark.parametrize("name", NAMES)
def test_one_session_at_a_time_scores_like_a_batch(name):
    net, panel = fitted(name, "causal").net.eval(), planted_panel().panel
    series = Series(panel, net.window, torch.device("cpu"))
    with torch.no_grad():
        for t in (0, 20, 199, 200, TRAIN_END, 312, 419):  # closed, first, listing, pause
            score = net.score(series.batch(t, t + 1))[0].numpy()
            here = panel.active[t]
            np.testing.assert_allclose(score[here], scored(name, "causal")[t, here], **CLOSE)
            assert np.isfinite(score[here]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_stock_changes_nothing_for_the_others(name):
    panel = planted_panel().panel
    x = panel.x.copy()
    x[:, 7] = np.clip(3 - 2 * x[:, 7], -8, 8)
    scores = fitted(name, "causal").decision_function(replace(panel, x=x))
    others = np.arange(10) != 7
    np.testing.assert_allclose(scores[:, others], scored(name, "causal")[:, others], **CLOSE)
    assert not np.allclose(scores[20:, 7], scored(name, "causal")[20:, 7])


# The evaluation of TranAD's authors


def test_a_segment_is_flagged_whole_if_any_of_it_is():
    label = np.array([1, 1, 0, 0, 1, 1, 1, 0, 1, 1], bool)
    flags = np.array([0, 1, 1, 0, 0, 0, 0, 0, 0, 1], bool)
    expected = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 1], bool)
    np.testing.assert_array_equal(point_adjusted(flags, label), expected)
    assert not point_adjusted(np.zeros(10, bool), label).any()


def test_random_scores_shine_after_point_adjustment_alone():
    label = np.zeros(8505, bool)
    for start, end in ((2149, 2350), (3539, 3780), (4536, 4845)):  # as on the channel P-1
        label[start:end] = True
    series = np.zeros((2872, 1)), np.zeros((8505, 1))
    found = [measures(*random_scores(*series, seed), label) for seed in range(10)]
    mean = {key: np.mean([each[key] for each in found]) for key in found[0]}
    assert mean["F1, adjusted"] > 0.87 and mean["AUC, adjusted"] > 0.98
    assert mean["F1"] < 0.06 and 0.48 < mean["AUC"] < 0.52
