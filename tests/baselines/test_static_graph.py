"""The static graph detectors: layers against torch-geometric, mechanisms against plain loops, injected outliers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_deep import quiet_panel
from torch import Tensor
from torch_geometric.nn import GATConv, GCNConv

from anomaly_routing.baselines.deep import Batch, Series, normalised_adjacency
from anomaly_routing.baselines.registry import create
from anomaly_routing.baselines.static_graph.anomaly_dae import AnomalyDAENetwork
from anomaly_routing.baselines.static_graph.cola import STEPS, ColaNetwork, Links, _next
from anomaly_routing.baselines.static_graph.dominant import DominantNetwork
from anomaly_routing.baselines.static_graph.gat_ae import GATAutoencoderNetwork
from anomaly_routing.baselines.static_graph.gcn_ae import GCNAutoencoderNetwork
from anomaly_routing.baselines.static_graph.layers import GraphAttention, GraphConvolution, neighbourhoods
from benchmarks.peers.cora import Injected, as_batch, inject, rule_of_thumb

B, N, F = 4, 9, 6
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
NETWORKS = {
    "gcn_ae": lambda: GCNAutoencoderNetwork(F, 8, 4),
    "gat_ae": lambda: GATAutoencoderNetwork(F, 8, 4, 2),
    "dominant": lambda: DominantNetwork(F, 8, 0.8),
    "cola": lambda: ColaNetwork(F, 8, subgraph=4, rounds=6, watched=2, seed=0),
    "anomaly_dae": lambda: AnomalyDAENetwork(F, N, 8, 4, 0.5, theta=4.0, eta=2.0),
}


def random_batch(seed: int = 0) -> Batch:
    """Four sessions of nine stocks, about a quarter of them absent, the last stock without a link."""
    rng = np.random.default_rng(seed)
    active = torch.as_tensor(rng.random((B, N)) < 0.75)
    active[:, -1] = active[:, 0] = True
    prior = np.triu(rng.random((N, N)) < 0.5, 1)
    prior[:, -1] = False
    x = torch.as_tensor(rng.normal(size=(B, N, F)), dtype=torch.float32) * active[..., None]
    nothing = torch.zeros(B, N)
    return Batch(x, active, nothing, nothing, torch.as_tensor(prior | prior.T, dtype=torch.float32), active, active)


def shaken(name: str, seed: int = 1) -> torch.nn.Module:
    """A network without a weight at 0."""
    torch.manual_seed(seed)
    net = NETWORKS[name]().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return net


def plain(net: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().double().numpy() for name, p in net.named_parameters()}


def present(batch: Batch, b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Session b without its absent stocks: positions, features, links, as NumPy."""
    rows = batch.active[b].nonzero()[:, 0].numpy()
    return rows, batch.now[b].double().numpy()[rows], batch.prior.numpy()[np.ix_(rows, rows)]


def edges(links: np.ndarray) -> Tensor:
    return torch.as_tensor(np.argwhere(links).T.copy())


# --- layers ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [3, 11])
def test_the_graph_convolution_is_that_of_torch_geometric(width):
    batch, layer, library = random_batch(), GraphConvolution(F, width), GCNConv(F, width)
    torch.nn.init.normal_(layer.bias)
    library.lin.weight.data, library.bias.data = layer.weight.data.T, layer.bias.data
    ours = layer(batch.now, normalised_adjacency(batch.prior, batch.active))
    for b in range(B):
        rows, x, links = present(batch, b)
        theirs = library(torch.as_tensor(x, dtype=torch.float32), edges(links))
        torch.testing.assert_close(ours[b, rows], theirs, **CLOSE)


@pytest.mark.parametrize("heads", [1, 4])
def test_the_graph_attention_is_that_of_torch_geometric(heads):
    batch, layer, library = random_batch(), GraphAttention(F, 8, heads), GATConv(F, 8 // heads, heads)
    torch.nn.init.normal_(layer.bias)
    library.lin.weight.data, library.bias.data = layer.weight.data.T, layer.bias.data
    library.att_src.data, library.att_dst.data = layer.send.data[None], layer.receive.data[None]
    ours = layer(batch.now, neighbourhoods(batch.prior, batch.active))
    for b in range(B):
        rows, x, links = present(batch, b)
        theirs = library(torch.as_tensor(x, dtype=torch.float32), edges(links))
        torch.testing.assert_close(ours[b, rows], theirs, **CLOSE)


@pytest.mark.parametrize("width", [3, 11])
def test_a_large_graph_may_be_sparse(width):
    batch, layer = random_batch(), GraphConvolution(F, width)
    adjacency = normalised_adjacency(batch.prior, batch.active)[:1]
    dense, sparse = (layer(batch.now[:1], links) for links in (adjacency, adjacency[0].to_sparse()))
    torch.testing.assert_close(dense, sparse, **CLOSE)
    wanted, given = (torch.autograd.grad(out.square().sum(), layer.weight)[0] for out in (dense, sparse))
    torch.testing.assert_close(wanted, given, **CLOSE)


def test_attention_picks_neighbours_and_the_convolution_does_not():
    x, everywhere = torch.eye(4)[None], torch.ones(1, 4, dtype=torch.bool)
    linked = torch.ones(4, 4) - torch.eye(4)
    layer = GraphAttention(4, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))
        layer.receive.zero_()
        layer.send.copy_(torch.tensor([[0.0, 30.0, 0.0, 0.0]]))
    torch.testing.assert_close(layer(x, neighbourhoods(linked, everywhere))[0], torch.eye(4)[[1] * 4])
    with torch.no_grad():
        layer.send.zero_()
    torch.testing.assert_close(layer(x, neighbourhoods(linked, everywhere)), normalised_adjacency(linked, everywhere))


# --- what every network owes -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NETWORKS)
def test_sessions_do_not_meet_and_absent_stocks_do_not_count(name):
    net, batch = shaken(name), random_batch()
    with torch.no_grad():
        score = net.score(batch)
        for b in range(B):
            one = slice(b, b + 1)
            alone = Batch(*(v if v is batch.prior else v[one] for v in batch))
            torch.testing.assert_close(net.score(alone)[batch.active[one]], score[one][batch.active[one]], **CLOSE)
        x = torch.where(batch.active[..., None], batch.x, 7.0)
        other = net.score(batch._replace(x=x))
    torch.testing.assert_close(other[batch.active], score[batch.active], **CLOSE)
    assert torch.isfinite(score[batch.active]).all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("how_many", [0, 1, 2])
def test_sessions_with_hardly_a_stock_are_scored_and_fitted(name, how_many):
    net, batch = shaken(name), random_batch()
    active = torch.zeros_like(batch.active)
    active[:, :how_many] = True
    few = batch._replace(x=batch.x * active[..., None], active=active, picked=active)
    assert torch.isfinite(net.score(few)[active]).all()
    if how_many:
        net.step(few, 0)
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NETWORKS)
def test_only_picked_stock_days_are_fitted(name):
    net, batch = shaken(name), random_batch()
    picked = batch.active & (torch.arange(B) > 0)[:, None]
    losses = []
    for x in (batch.x, torch.where((torch.arange(B) > 0)[:, None, None], batch.x, 3 * batch.x)):
        torch.manual_seed(0)
        losses.append(net.objective(batch._replace(x=x, picked=picked), 0))
    torch.testing.assert_close(*losses, **CLOSE)


# --- each mechanism in plain loops -----------------------------------------------------------------------------------
def convolve(x: np.ndarray, links: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    loops = links + np.eye(len(links))
    out = np.tile(bias, (len(x), 1))
    for i in range(len(x)):
        for j in range(len(x)):
            out[i] += loops[i, j] / np.sqrt(loops[i].sum() * loops[j].sum()) * (x[j] @ weight)
    return out


def attend(x: np.ndarray, links: np.ndarray, p: dict[str, np.ndarray], layer: str, heads: int = 1) -> np.ndarray:
    h = (x @ p[f"{layer}.weight"]).reshape(len(x), heads, -1)
    out = np.zeros_like(h)
    for i in range(len(x)):
        for k in range(heads):
            near = [j for j in range(len(x)) if links[i, j] or i == j]
            logits = [p[f"{layer}.receive"][k] @ h[i, k] + p[f"{layer}.send"][k] @ h[j, k] for j in near]
            share = np.exp([v if v > 0 else 0.2 * v for v in logits])
            out[i, k] = sum(s * h[j, k] for s, j in zip(share / share.sum(), near, strict=True))
    return out.reshape(len(x), -1) + p[f"{layer}.bias"]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def plain_gcn_ae(p: dict[str, np.ndarray], x: np.ndarray, links: np.ndarray) -> np.ndarray:
    h = relu(convolve(x, links, p["first.weight"], p["first.bias"]))
    z = convolve(h, links, p["second.weight"], p["second.bias"])
    return ((z @ p["out.weight"].T + p["out.bias"] - x) ** 2).mean(1)


def plain_gat_ae(p: dict[str, np.ndarray], x: np.ndarray, links: np.ndarray) -> np.ndarray:
    h = attend(x, links, p, "first", heads=2)
    z = attend(np.where(h > 0, h, np.exp(np.minimum(h, 0)) - 1), links, p, "second")
    return ((z @ p["out.weight"].T + p["out.bias"] - x) ** 2).mean(1)


def plain_dominant(p: dict[str, np.ndarray], x: np.ndarray, links: np.ndarray) -> np.ndarray:
    def layer(part: str, k: int, h: np.ndarray) -> np.ndarray:
        return convolve(h, links, p[f"parts.{part}.{k}.weight"], p[f"parts.{part}.{k}.bias"])

    z = relu(layer("encoder", 1, relu(layer("encoder", 0, x))))
    rebuilt = layer("features", 1, relu(layer("features", 0, z)))
    s = layer("links", 0, z)
    score = []
    for i in range(len(x)):
        target = [float(links[i, j] or i == j) for j in range(len(x))]
        missed = [sigmoid(s[i] @ s[j]) - target[j] for j in range(len(x))]
        score.append(0.8 * np.linalg.norm(rebuilt[i] - x[i]) + 0.2 * np.linalg.norm(missed))
    return np.array(score)


@pytest.mark.parametrize("name", ["gcn_ae", "gat_ae", "dominant"])
def test_scores_equal_plain_loops(name):
    net, batch = shaken(name), random_batch()
    with torch.no_grad():
        score = net.score(batch)
    for b in range(B):
        rows, x, links = present(batch, b)
        expected = globals()[f"plain_{name}"](plain(net), x, links)
        np.testing.assert_allclose(score[b, rows].numpy(), expected, **CLOSE)


def test_anomaly_dae_equals_plain_loops():
    net, batch = shaken("anomaly_dae"), random_batch()
    with torch.no_grad():
        score = net.score(batch)
    p = plain(net)
    for b in range(B):
        rows, x, links = present(batch, b)
        stocks = attend(relu(x @ p["stocks_dense.weight"].T + p["stocks_dense.bias"]), links, p, "stocks_attention")
        every = batch.now[b].double().numpy()
        features = relu(every.T @ p["features_dense.weight"].T + p["features_dense.bias"])
        features = features @ p["features_code.weight"].T + p["features_code.bias"]
        for k, i in enumerate(rows):
            off = [(stocks[k] @ features[f] - x[k, f]) * (2.0 if x[k, f] else 1.0) for f in range(F)]
            there = [bool(links[k, j] or j == k) for j in range(len(rows))]
            missed = [
                (sigmoid(stocks[k] @ stocks[j]) - there[j]) * (4.0 if there[j] else 1.0) for j in range(len(rows))
            ]
            expected = 0.5 * np.linalg.norm(off) + 0.5 * np.linalg.norm(missed)
            np.testing.assert_allclose(float(score[b, i]), expected, **CLOSE)


def test_cola_equals_plain_loops():
    net, batch = shaken("cola"), random_batch()
    with torch.no_grad():
        score, watched = net.score(batch), net.criterion(batch)
    generator, rounds = torch.Generator().manual_seed(0), []
    for _ in range(net.rounds):
        draws = torch.rand((1, N, STEPS + 1, 2), generator=generator)[0].double().numpy()
        rounds.append([plain_pairs(plain(net), batch, b, draws) for b in range(B)])
    for b in range(B):
        for i in batch.active[b].nonzero()[:, 0].tolist():
            pairs = np.array([r[b][i] for r in rounds])
            gap = sigmoid(pairs[:, 1]) - sigmoid(pairs[:, 0])
            np.testing.assert_allclose(float(score[b, i]), gap.mean(), **CLOSE)
            loss = -(np.log(sigmoid(pairs[:, 0])) + np.log(1 - sigmoid(pairs[:, 1]))) / 2
            np.testing.assert_allclose(float(watched[b, i]), loss[: net.watched].mean(), **CLOSE)


def plain_pairs(p: dict[str, np.ndarray], batch: Batch, b: int, draws: np.ndarray) -> dict[int, tuple[float, float]]:
    """Positive and negative logit of each active stock of session b."""

    def bend(h: np.ndarray) -> np.ndarray:
        return np.where(h > 0, h, p["bend.weight"] * h)

    rows, _, _ = present(batch, b)
    x, links = batch.now[b].double().numpy(), batch.prior.numpy()
    near = {i: [j for j in rows if links[i, j]] for i in rows}
    around = {}
    for i in rows:
        others: list[int] = []
        at = i
        for step in range(STEPS):
            go, stay = draws[i, step + 1]
            at = near[at][int(go * len(near[at]))] if near[at] else at
            if at != i and at not in others and len(others) < 3:
                others.append(at)
            if step < 12 or stay < 0.5:
                at = i
        inside = [*others, i]
        h = []
        for a in inside:
            total = p["bias"].copy()
            for c in others:  # the target's own features are hidden
                loop = float(a == c)
                total += (links[a, c] / np.sqrt(max(len(near[a]) * len(near[c]), 1)) + loop) * (x[c] @ p["weight"])
            h.append(bend(total))
        around[i] = np.mean(h, axis=0)
    order = sorted(rows, key=lambda i: draws[i, 0, 0])
    after = {i: order[(k + 1) % len(order)] for k, i in enumerate(order)}
    alone = {i: bend(x[i] @ p["weight"] + p["bias"]) @ p["agree"] for i in rows}
    return {
        i: (alone[i] @ around[i] + p["agree_bias"], alone[i] @ around[after[i]] + p["agree_bias"])
        for i in rows
    }  # fmt: skip


# --- the mechanisms act ----------------------------------------------------------------------------------------------
def test_walks_find_different_present_stocks_of_the_component():
    batch = random_batch(3)
    links = Links.of(batch.prior, batch.active)
    session, target = batch.active.nonzero(as_tuple=True)
    found, filled = links.walk(session, target, torch.rand(len(target), STEPS, 2), 3)
    for b, i, others, there in zip(session, target, found, filled, strict=True):
        mine = set(others[there].tolist())
        assert len(mine) == there.sum() and int(i) not in mine and batch.active[b][list(mine)].all()
        reachable = {int(i)}
        for _ in range(N):
            reachable |= {j for k in reachable for j in range(N) if batch.prior[k, j] and batch.active[b, j]}
        assert mine <= reachable
        assert there.sum() == 0 if int(i) == N - 1 else there.any() or len(reachable) == 1


def test_walks_meet_every_neighbour_about_as_often():
    star = torch.zeros(8, 8)
    star[0, 1:7] = star[1:7, 0] = 1
    links = Links.of(star, torch.ones(1, 8, dtype=torch.bool))
    zeros = torch.zeros(4_000, dtype=torch.long)
    found, filled = links.walk(zeros, zeros, torch.rand(4_000, STEPS, 2), 3)
    assert filled.all()
    share = torch.bincount(found.flatten(), minlength=8) / len(found)
    np.testing.assert_allclose(share[1:7], 0.5, atol=0.05)
    leaf, _ = links.walk(zeros, zeros + 1, torch.rand(4_000, STEPS, 2), 3)
    assert (leaf == 0).any(1).all() and (leaf == 2).any()  # the centre, and another leaf behind it


def test_a_negative_pair_is_another_of_the_session_each_taken_once():
    session = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 5, 5])
    for seed in range(5):
        after = _next(session, torch.rand(10, generator=torch.Generator().manual_seed(seed)))
        assert sorted(after.tolist()) == list(range(10)) and (session[after] == session).all()
        assert ((after == torch.arange(10)) == (torch.bincount(session)[session] == 1)).all()


def test_dominants_decoders_share_the_encoder():
    batch = random_batch()
    for k in range(2):
        net = shaken("dominant")
        net.errors(batch)[k][batch.active].mean().backward()
        reached = {name.split(".")[1] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
        assert reached == {"encoder", ("features", "links")[k]}


def test_dominant_sees_a_stock_that_leaves_its_group_in_the_links_too():
    planted = quiet_panel("out_of_group")
    detector = create("dominant", epochs=25).fit(planted.panel, planted.train)
    test = Series(planted.panel, 1, torch.device("cpu")).batch(280, 420)
    cells = torch.as_tensor(planted.cells[280:420])
    with torch.no_grad():
        links = detector.net.errors(test)[1]
    assert links[cells].mean() > 1.2 * links[test.active & ~cells].mean()


def test_anomaly_dae_rebuilds_features_across_the_two_encoders():
    """A stock's features depend on a stock that it has no link to, through the attribute encoder; its links do not."""
    net, batch = shaken("anomaly_dae"), random_batch()
    lonely, x = N - 1, batch.x.clone()
    x[:, 0] += 1
    near = neighbourhoods(batch.prior, batch.active)
    with torch.no_grad():
        (features, links), (moved, still) = net.rebuild(batch.x, near), net.rebuild(x, near)
    assert not torch.allclose(features[:, lonely], moved[:, lonely])
    torch.testing.assert_close(links[:, lonely, lonely], still[:, lonely, lonely])


def test_anomaly_daes_penalties_weigh_links_and_features_that_are_there():
    net, batch = shaken("anomaly_dae"), random_batch()
    squares = {}
    with torch.no_grad():
        for net.theta, net.eta in ((1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (1.0, 3.0)):
            squares[net.theta, net.eta] = [error[batch.active].double() ** 2 for error in net.errors(batch)]
    (off, missed), (still, twice), (_, thrice), (weighed, same) = squares.values()
    torch.testing.assert_close((thrice - missed) / (twice - missed), torch.full_like(missed, 8 / 3), rtol=0.02, atol=0)
    torch.testing.assert_close(weighed, 9 * off, **CLOSE)  # no feature is 0 here
    assert (still == off).all() and (same == missed).all()


# --- injected outliers -----------------------------------------------------------------------------------------------
def graph(n: int = 120, width: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    links = np.triu(rng.random((n, n)) < 0.03, 1)
    return (rng.random((n, width)) < 0.2).astype(np.float32), (links | links.T).astype(np.float32)


def test_injection_joins_cliques_and_takes_far_features():
    x, links = graph()
    sizes = {"structural": 12, "clique": 4, "attribute": 10, "candidates": 30}
    injected = inject(x, links, 5, **sizes)
    assert [int((injected.label == k).sum()) for k in (1, 2)] == [12, 10]
    structural, attribute = np.flatnonzero(injected.label == 1), np.flatnonzero(injected.label == 2)
    added = injected.adjacency - links
    assert (added >= 0).all() and (injected.adjacency == injected.adjacency.T).all()
    assert not injected.adjacency.diagonal().any()
    assert set(np.flatnonzero(added.any(1))) <= set(structural)
    within = injected.adjacency[np.ix_(structural, structural)] + np.eye(12)
    assert sum(within[i].sum() >= 4 for i in range(12)) == 12
    assert not (injected.x != x)[injected.label != 2].any()
    for i in attribute:
        distance = np.linalg.norm(x - x[i], axis=1)
        assert any((injected.x[i] == row).all() for row in x)
        assert np.linalg.norm(injected.x[i] - x[i]) > np.quantile(distance, 0.8)


def test_injection_repeats_itself_and_leaves_its_inputs():
    x, links = graph()
    before = x.copy(), links.copy()
    one, two, three = (inject(x, links, seed, 12, 4, 10, 30) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip((x, links), before, strict=True))
    assert all((getattr(one, k) == getattr(two, k)).all() for k in ("x", "adjacency", "label"))
    assert (one.label != three.label).any()


def test_the_rule_of_thumb_ranks_a_busy_node_with_long_features_first():
    x, links = np.eye(5, dtype=np.float32), np.zeros((5, 5), np.float32)
    x[3], links[3], links[:, 3] = 1, 1, 1
    assert rule_of_thumb(Injected(x, links, np.zeros(5))).argmax() == 3


def test_a_graph_is_one_session_of_active_nodes():
    x, links = graph(N, F)
    batch = as_batch(x, links)
    assert batch.now.shape == (1, N, F) and batch.active.all()
    for name in NETWORKS:
        assert torch.isfinite(shaken(name).score(batch)).all()
