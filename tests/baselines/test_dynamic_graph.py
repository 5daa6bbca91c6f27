"""The dynamic graph detectors: published cells against plain loops, pruning by brute force, a known Hawkes process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_deep import quiet_panel
from planted_panel import planted_panel, quick
from sklearn.metrics import roc_auc_score

from anomaly_routing.baselines.deep import Batch, DeepNetwork, Series
from anomaly_routing.baselines.dynamic_graph.evolve_gcn import EvolveGCNNetwork, MatrixGRU, correlation_graph
from anomaly_routing.baselines.dynamic_graph.ghrn_star import heterophilous
from anomaly_routing.baselines.dynamic_graph.graph_hawkes import ContinuousTimeLSTM, GraphHawkes, GraphHawkesNetwork
from anomaly_routing.baselines.registry import create
from anomaly_routing.panel import Panel
from benchmarks.peers import hawkes

NAMES = ("evolve_gcn", "ghrn_star", "graph_hawkes")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
F, N = 5, 7


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def plain(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def some_batch(window: int, sessions: int = 4, seed: int = 0) -> Batch:
    """Random features and returns of seven stocks, a tenth of the stock-days absent, a random prior graph."""
    rng = np.random.default_rng(seed)
    rows = sessions + window - 1
    present = rng.random((rows, N)) < 0.9
    present[-1, :2] = True, False
    upper = np.triu(rng.random((N, N)) < 0.5, 1)
    returns = 0.01 * (rng.normal(size=(rows, 1)) + 0.8 * rng.normal(size=(rows, N)))
    x = rng.normal(size=(rows, N, F)) * present[..., None]
    arrays = [torch.as_tensor(a, dtype=torch.float32) for a in (x, returns * present, upper | upper.T)]
    active = torch.as_tensor(present[-sessions:])
    return Batch(arrays[0], torch.as_tensor(present), arrays[1], arrays[1], arrays[2], active, active)


# --- what all three owe ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=NAMES)
def detector(request):
    planted = planted_panel()
    return quick(request.param, "causal").fit(planted.panel, planted.train)


def network_of(detector, panel: Panel) -> tuple[DeepNetwork, Series]:
    return detector.net, Series(panel, detector.net.window, torch.device("cpu"))


def test_a_session_alone_scores_as_in_a_batch(detector):
    net, series = network_of(detector, planted_panel().panel)
    with torch.no_grad():
        together = net.score(series.batch(300, 332))
        alone = torch.cat([net.score(series.batch(t, t + 1)) for t in range(300, 332)])
    active = planted_panel().panel.active[300:332]
    np.testing.assert_allclose(together.numpy()[active], alone.numpy()[active], **CLOSE)


def test_what_stands_where_a_stock_is_inactive_changes_nothing(detector):
    panel, rng = planted_panel().panel, np.random.default_rng(0)
    absent = ~panel.active
    x, returns = panel.x.copy(), panel.returns.copy()
    x[absent], returns[absent] = rng.normal(0, 5, (absent.sum(), x.shape[2])), rng.normal(0, 0.1, absent.sum())
    there = detector.decision_function(replace(panel, x=x, returns=returns))
    np.testing.assert_allclose(there, detector.decision_function(panel), **CLOSE)


def test_every_active_stock_has_a_score_without_groups_and_with_a_graph_without_edges(detector):
    planted = planted_panel()
    bare = replace(planted.panel, prior=np.zeros_like(planted.panel.prior), group=[], stress=None)
    name = {"EvolveGCN": "evolve_gcn", "GHRNStar": "ghrn_star", "GraphHawkes": "graph_hawkes"}[type(detector).__name__]
    scores = quick(name, "causal", epochs=1).fit(bare, planted.train).decision_function(bare)
    assert (np.isfinite(scores) == planted.panel.active).all()


# --- EvolveGCN-O -----------------------------------------------------------------------------------------------------
def naive_gru(w: dict[str, np.ndarray], q: np.ndarray) -> np.ndarray:
    """Column by column: a GRU with a vector state, whose input is the state."""
    out = np.empty_like(q)
    for column in range(q.shape[1]):
        h, bias = q[:, column], w["b"][:, :, column]
        update = sigmoid(w["w"][0] @ h + w["u"][0] @ h + bias[0])
        reset = sigmoid(w["w"][1] @ h + w["u"][1] @ h + bias[1])
        candidate = np.tanh(w["w"][2] @ h + w["u"][2] @ (reset * h) + bias[2])
        out[:, column] = (1 - update) * h + update * candidate
    return out


def some_evolve_gcn() -> EvolveGCNNetwork:
    torch.manual_seed(0)
    net = EvolveGCNNetwork(F, hidden=4, code=3, steps=5, lookback=20, least=15, above=0.5).eval()
    for layer in net.layers:
        torch.nn.init.normal_(layer.cell.b, std=0.5)
    return net


def test_the_matrix_gru_is_the_published_cell():
    torch.manual_seed(1)
    cell = MatrixGRU(4, 3)
    torch.nn.init.normal_(cell.b)
    q = torch.randn(4, 3)
    np.testing.assert_allclose(cell(q).detach().numpy(), naive_gru(plain(cell), q.double().numpy()), **CLOSE)


def test_the_evolving_layers_are_the_published_ones():
    """Every session: evolve each layer's weights, convolve with the session's own graph, decode."""
    net, batch = some_evolve_gcn(), some_batch(window=24, sessions=2)
    x, a, present = net.sequence(batch, 5)
    rebuilt = net.rebuild(x, a).detach().numpy()
    w, slope = plain(net), (1 / 8 + 1 / 3) / 2  # of the randomised leaky ReLU outside training
    for b in range(2):
        weights = [w[f"layers.{layer}.first"] for layer in (0, 1)]
        for k in range(5):
            row = b + 19 + k
            graph = naive_correlation_graph(batch.returns[: row + 1].numpy(), batch.present[: row + 1].numpy())
            here = batch.present[row].numpy()
            assert (present[k, b].numpy() == here).all()
            linked = (graph & np.outer(here, here)) + np.diag(here).astype(float)
            degree = np.maximum(linked.sum(1), 1e-12)
            h = batch.x[row].double().numpy()
            for layer in (0, 1):
                parts = {name: w[f"layers.{layer}.cell.{name}"] for name in "wub"}
                weights[layer] = naive_gru(parts, weights[layer])
                h = (linked / np.sqrt(np.outer(degree, degree))) @ h @ weights[layer]
                h = np.where(h > 0, h, slope * h)
            expected = h @ w["decoder.weight"].T + w["decoder.bias"]
            np.testing.assert_allclose(rebuilt[k, b], expected, **CLOSE)


def naive_correlation_graph(returns: np.ndarray, present: np.ndarray) -> np.ndarray:
    returns, present = returns[-20:].astype(float), present[-20:]
    graph = np.zeros((returns.shape[1],) * 2, bool)
    for i in range(len(graph)):
        for j in range(len(graph)):
            both = present[:, i] & present[:, j]
            if i != j and both.sum() >= 15 and returns[both, i].std() > 1e-8 < returns[both, j].std():
                graph[i, j] = np.corrcoef(returns[both, i], returns[both, j])[0, 1] > 0.5
    return graph


def test_the_graph_is_that_of_the_correlations_over_common_sessions():
    rng = np.random.default_rng(2)
    returns = 0.01 * (rng.normal(size=(60, 1)) + 0.8 * rng.normal(size=(60, 12)))
    present = rng.random((60, 12)) < 0.88
    returns[:, 3], returns[:, 4] = 0.003, 0.0  # constant
    returns[:, 5] = -returns[:, 6]
    returns = torch.as_tensor(np.where(present, returns, 0), dtype=torch.float32)
    graphs = correlation_graph(returns, torch.as_tensor(present), lookback=20, least=15, above=0.5).numpy()
    assert len(graphs) == 41
    expected = np.stack([naive_correlation_graph(returns[: t + 20].numpy(), present[: t + 20]) for t in range(41)])
    assert (graphs == expected).all()
    assert 0.1 < graphs[:, 7:, 7:].mean() < 0.9 and not graphs[:, 3:5].any() and not graphs[:, 5, 6].any()
    counts = present.astype(int).T @ present
    assert counts.min() < 60 and (graphs.sum((1, 2)) != graphs[0].sum()).any()


def test_the_weights_evolve_from_session_to_session_and_with_the_fit():
    planted = quiet_panel("off_factor")
    nets = [create("evolve_gcn", epochs=n).fit(planted.panel, planted.train).net for n in (0, 3)]
    before, after = (net.layers[0].weights(5).detach() for net in nets)
    for path in (before, after):
        assert all((path[k + 1] - path[k]).abs().max() > 1e-3 for k in range(4))
    assert (before[-1] - after[-1]).abs().max() > 1e-3


def test_the_recurrence_takes_nothing_from_the_data():
    """As published for -O: the score is of the last session's features and graph; the fit is of all five sessions."""
    net, batch = some_evolve_gcn(), some_batch(window=24, sessions=1)
    with torch.no_grad():
        earlier = batch.x.clone()
        earlier[:-1] += 1
        assert torch.equal(net.score(batch._replace(x=earlier)), net.score(batch))
        assert net.objective(batch._replace(x=earlier), 0) != net.objective(batch, 0)
        reshuffled = batch.returns.clone()
        reshuffled[-20:] = batch.returns[-20:].flip(0) * torch.tensor([1.0, -1] * 10)[:, None]
        reshuffled[-20:, ::2] *= -1
        assert not torch.allclose(net.score(batch._replace(returns=reshuffled)), net.score(batch))


# --- GHRN* -----------------------------------------------------------------------------------------------------------
def naive_cut(x: np.ndarray, graph: np.ndarray, active: np.ndarray, share: float) -> set[tuple[int, int]]:
    n = len(x)
    near = [[j for j in range(n) if active[i] and active[j] and (graph[i, j] or i == j)] for i in range(n)]
    high = [x[i] - sum(x[j] / np.sqrt(len(near[i]) * len(near[j])) for j in near[i]) for i in range(n)]
    edges = [(i, j) for i in range(n) for j in range(i + 1, n) if graph[i, j] and active[i] and active[j]]
    edges.sort(key=lambda edge: float(np.dot(high[edge[0]], high[edge[1]])))
    return set(edges[: int(share * len(edges))])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 1.0])
def test_pruning_takes_the_edges_that_brute_force_takes(share):
    rng = np.random.default_rng(0)
    upper = np.triu(rng.random((20, 20)) < 0.4, 1)
    graph, active = (upper | upper.T).astype(float), rng.random((6, 20)) < 0.8
    x = rng.normal(size=(6, 20, F)) * active[..., None]
    cut = heterophilous(*(torch.as_tensor(a) for a in (x, graph, active)), share)
    assert torch.equal(cut, cut.mT)
    for b in range(6):
        found = {(int(i), int(j)) for i, j in cut[b].nonzero() if i < j}
        assert found == naive_cut(x[b], graph, active[b], share)
        if share == 0.1:
            assert len(found) == int(0.1 * (upper & np.outer(active[b], active[b])).sum()) > 0


def test_an_edge_between_unlike_groups_is_the_first_to_go():
    rng = np.random.default_rng(1)
    group = np.repeat([-1.0, 1.0], 6)
    graph = (np.equal.outer(group, group) & ~np.eye(12, dtype=bool)).astype(float)
    graph[2, 9] = graph[9, 2] = 1
    x = group[:, None] * np.ones(F) + 0.1 * rng.normal(size=(12, F))
    cut = heterophilous(torch.as_tensor(x)[None], torch.as_tensor(graph), torch.ones(1, 12, dtype=torch.bool), 1 / 31)
    assert cut[0].nonzero().tolist() == [[2, 9], [9, 2]]


def test_without_pruning_it_is_the_gcn_autoencoder():
    planted = quiet_panel("out_of_group")
    scores = {
        name: create(name, epochs=2, **given).fit(planted.panel, planted.train).decision_function(planted.panel)
        for name, given in {"gcn_ae": {}, "ghrn_star": {"pruned": 0.0}}.items()
    }
    np.testing.assert_array_equal(scores["gcn_ae"], scores["ghrn_star"])
    pruned = create("ghrn_star", epochs=2).fit(planted.panel, planted.train).decision_function(planted.panel)
    assert not np.allclose(pruned, scores["gcn_ae"], rtol=1e-3, equal_nan=True)


def test_pruning_is_anew_in_each_session():
    panel = quiet_panel("out_of_group").panel
    x, active = (torch.as_tensor(values[100:132]) for values in (panel.x, panel.active))
    cut = heterophilous(x, torch.as_tensor(panel.prior), active, 0.1)
    assert len({tuple(c.flatten().tolist()) for c in cut}) > 10


# --- graph Hawkes ----------------------------------------------------------------------------------------------------
def naive_state(w: dict[str, np.ndarray], events: np.ndarray) -> np.ndarray:
    """In continuous time: jump from event to event, decay over the time between; the record starts with an event."""
    size = w["from_state.weight"].shape[1]
    c, level, pace, out, last = *np.zeros((4, size)), 0
    for t in range(len(events)):
        if t and not events[t].any():
            continue
        decayed = level + (c - level) * np.exp(-pace * (t - last))
        h = out * np.tanh(decayed)
        raw = w["from_events.weight"] @ events[t] + w["from_events.bias"] + w["from_state.weight"] @ h
        enter, keep, level_enter, level_keep, out = sigmoid(raw[: 5 * size]).reshape(5, size)
        z, pace = np.tanh(raw[5 * size : 6 * size]), np.log1p(np.exp(raw[6 * size :]))
        c, level, last = keep * decayed + enter * z, level_keep * level + level_enter * z, t
    return out * np.tanh(level + (c - level) * np.exp(-pace * (len(events) - last)))


def test_the_cell_is_the_continuous_time_lstm():
    torch.manual_seed(0)
    cell, rng = ContinuousTimeLSTM(4, 6), np.random.default_rng(0)
    for value in cell.parameters():
        torch.nn.init.normal_(value, std=0.7)
    events = (rng.random((30, 25, 4)) < 0.1).astype(np.float32)
    events[0] = 0
    states = cell(torch.as_tensor(events)).detach().numpy()
    np.testing.assert_allclose(states, [naive_state(plain(cell), e.astype(float)) for e in events], **CLOSE)


def some_hawkes(window: int = 6) -> GraphHawkesNetwork:
    torch.manual_seed(0)
    net = GraphHawkesNetwork(torch.tensor([0, 0, 1, 2, 1]), torch.tensor([0.8, 0.9, 1.0]), 4, window, rate=0.05)
    torch.nn.init.normal_(net.log_scale, std=0.3)
    return net.eval()


def test_the_score_is_the_surprise_by_plain_loops():
    net, batch = some_hawkes(), some_batch(window=6, sessions=3)
    w, x, present = plain(net), batch.x.double().numpy(), batch.present.numpy()
    size = np.stack([np.abs(x[..., list(f)]).mean(-1) for f in ((0, 1), (2, 4), (3,))], -1)
    events = (size > w["threshold"]) & present[..., None]
    assert 0.1 < events.mean() < 0.9
    score, cell = net.score(batch).detach().numpy(), {k[5:]: v for k, v in w.items() if k.startswith("cell.")}
    for b in range(3):
        for i in range(N):
            if not present[b + 5, i]:
                continue
            history = np.zeros((5, 6))
            for step in range(5):
                near = [j for j in range(N) if batch.prior[i, j] and present[b + step, j]]
                history[step, :3] = events[b + step, i]
                history[step, 3:] = np.mean([events[b + step, j] for j in near], axis=0) if near else 0
            raw, scale = w["head.weight"] @ naive_state(cell, history) + w["head.bias"], np.exp(w["log_scale"])
            intensity = scale * np.log1p(np.exp(raw / scale))
            likelihood = np.where(events[b + 5, i], 1 - np.exp(-intensity), np.exp(-intensity))
            assert score[b, i] == pytest.approx(-np.log(likelihood).sum(), rel=1e-5)


def test_the_history_ends_before_the_session():
    net, batch = some_hawkes(), some_batch(window=6, sessions=1)
    today = batch.x.clone()
    today[-1] += 3
    with torch.no_grad():
        same = net.intensity(batch._replace(x=today), batch.active)
        assert torch.equal(same, net.intensity(batch, batch.active))
        assert not torch.allclose(net.score(batch._replace(x=today)), net.score(batch))


def test_a_twentieth_of_the_training_stock_days_has_an_event_of_each_group():
    planted = planted_panel()
    panel = planted.panel
    net = create("graph_hawkes", epochs=0).fit(panel, planted.train).net
    here = panel.active & planted.train[:, None]
    x, active = torch.as_tensor(panel.x), torch.as_tensor(here)
    share = net.events(x, active)[active].mean(0).numpy()
    assert len(share) == len(set(panel.group)) and np.allclose(share, 0.05, atol=0.002)
    first = [k for k, name in enumerate(panel.group) if name == panel.group[0]]
    expected = np.quantile(np.abs(panel.x[here][:, first]).mean(1), 0.95)
    assert net.threshold[0].item() == pytest.approx(expected, rel=1e-5)
    bare = create("graph_hawkes", epochs=0).fit(replace(panel, group=[]), planted.train).net
    assert bare.threshold.shape == (1,)
    assert "threshold" in bare.state_dict()


def fitted_on(market: hawkes.Simulated, train: slice, prior: bool, steps: int = 150) -> tuple[GraphHawkes, np.ndarray]:
    """Fitted by hand, at a faster pace than the detector's, and the surprise of every stock-day."""
    panel = market.panel if prior else replace(market.panel, prior=np.zeros_like(market.panel.prior))
    detector = GraphHawkes(quantile=0.5, window=12, hidden=16, epochs=0, device="cpu")
    marked = np.zeros(len(panel.sessions), bool)
    marked[train] = True
    detector.fit(panel, marked)
    series, picks = Series(panel, 12, torch.device("cpu")), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(detector.net.parameters(), lr=0.01)
    for step in range(steps):
        first = train.start + 60 * step % (train.stop - train.start - 60)
        optimiser.zero_grad()
        detector.net.step(series.batch(first, first + 60, 0.5, picks), 0)
        optimiser.step()
    return detector, detector.decision_function(panel)


def test_a_hawkes_process_is_recovered_with_what_excites_it():
    market, train, later = hawkes.simulate(900, 20, seed=0), slice(20, 700), slice(700, 900)
    assert 0.05 < market.events.mean() < 0.25
    detector, scores = fitted_on(market, train, prior=True)
    _, alone = fitted_on(market, train, prior=False)
    rate = hawkes.constant(market.events[train])
    least = hawkes.surprise(market.events, np.broadcast_to(rate, market.events.shape))[later].mean()
    best = hawkes.surprise(market.events, market.intensity)[later].mean()
    share, share_alone = ((least - found[later].mean()) / (least - best) for found in (scores, alone))
    assert 0.8 < share < 1.1 and share_alone < share - 0.1, (share, share_alone)
    own, near = hawkes.rise(detector.net, market, range(700, 900, 4), kind=0)
    np.testing.assert_allclose(own, hawkes.OWN[:, 0], atol=0.08)
    np.testing.assert_allclose(near, hawkes.NEAR[:, 0] / 2, atol=0.05)
    assert own[0] > 0.15 and near[0] > 0.04
    lone = (market.events[later] == [1, 0]).all(-1)  # the same event: what surprises is where it comes out of the blue
    calm = market.intensity[later, :, 0][lone] < np.median(market.intensity[later, :, 0][lone])
    assert roc_auc_score(calm, scores[later][lone]) > 0.9


def test_the_simulated_process_is_the_one_described():
    """The intensity as a double sum over the past, and events as often as it says."""
    market = hawkes.simulate(400, 6, seed=3)
    t, i = 50, 2
    expected = hawkes.BASE.copy()
    for lag in range(1, t + 1):
        own, near = market.events[t - lag, i], market.events[t - lag, [i - 1, i + 1]].mean(0)
        expected += hawkes.FADE ** (lag - 1) * (hawkes.OWN @ own + hawkes.NEAR @ near)
    np.testing.assert_allclose(market.intensity[t, i], expected)
    chance = -np.expm1(-market.intensity)
    gap = (market.events - chance).sum() / np.sqrt((chance * (1 - chance)).sum())
    assert abs(gap) < 3
