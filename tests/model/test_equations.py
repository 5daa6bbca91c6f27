"""Every equation of SPEC 4-8 against the slow oracle, in both presets and with every switch flipped alone."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from small_networks import PRESETS, arrays, mixed, network, one_stock, parameters, shaken

from anomaly_routing.model import dynamic_graph
from anomaly_routing.model.losses import loss_terms
from tests.oracles.model_oracle import Oracle, losses

FLIPPED = {  # one key of `intended` at a time, to the value of `literal`
    "psi_rule": "free",
    "source_w": "sigmoid",
    "topk_rule": "soft",
    "fusion_scale": "raw",
    "gcn_loops": False,
    "tau_rule": "rising",
    "div_sign": 1,
}
AFTERWARDS = {"score_stats": "block", "mpi_c3": "std", "mpi_c4": "std"}  # flips that the network does not know
DESIGNS = {  # SPEC 10: ablations and open designs
    "alpha_rule=learned": {"alpha_rule": "learned"},
    "alpha_fixed=1": {"alpha_rule": "fixed", "alpha_fixed": 1.0},
    "without the prior": {"alpha_rule": "fixed", "alpha_fixed": 0.0, "use_prior": False},
    "without the prior, no loops": {"use_prior": False, "gcn_loops": False},
    **{f"{key}={value}": {key: value} for key, value in {
        "cross_attention": "uniform", "sources": "temporal", "contagion_sees": "refined", "expert_task": "predict",
        "rec_rule": "routed"}.items()},
    **{f"mechanisms={value}": {"mechanisms": value} for value in ("one", "two", "six")},
    **{f"routing_rule={value}": {"routing_rule": value} for value in ("uniform", "top2", "hard")},
}  # fmt: skip
MIXED_UP = (0, 1, 2, 3, 0, 1, 2, 3, 2, 1)  # categories of ten features, not side by side
CASES = {
    **{preset: (preset, {"top_k": 3}, mixed) for preset in PRESETS},
    **{f"{key}={value}": ("intended", {"top_k": 3, key: value}, mixed) for key, value in FLIPPED.items()},
    **{name: ("intended", {"top_k": 3, **keys}, mixed) for name, keys in DESIGNS.items()},
    "literal, two experts": ("literal", {"top_k": 3, "mechanisms": "two", "routing_rule": "top2"}, mixed),
    "psi_rule=rank": ("intended", {"top_k": 3, "psi_rule": "rank"}, mixed),
    "bilstm_projection": ("intended", {"top_k": 3, "bilstm_projection": True}, mixed),
    **{f"{preset}, k beyond N": (preset, {"top_k": 20}, mixed) for preset in PRESETS},
    **{f"{preset}, one stock": (preset, {"top_k": 3}, one_stock) for preset in PRESETS},
    "ten features": ("intended", {"top_k": 3, "n_features": 10, "groups": MIXED_UP}, partial(mixed, features=10)),
}
EQUATIONS = {
    "h_temp": "4.1-4.3 temporal encoder",
    "h_spat": "4.4 spatial encoder",
    "cross_weights": "4.5 cross-modal attention",
    "z": "4.6 embedding",
    "context": "4.5-4.6 context",
    "psi": "5.2 stress",
    "source_weights": "5.4 source weights",
    "similarity": "5.3-5.4 similarity and refinement",
    "learned": "5.5 top-k",
    "alpha": "5.6 alpha",
    "fused": "5.6 fusion",
    "z_ref": "5.6 graph attention",
    "z_final": "5.6 refinement",
    "category_signal": "6.1 category signals",
    "tau": "6.4 temperature",
    "routing": "6.1-6.4 gate",
    "rebuilt": "6.5 reconstruction",
    "expert_error": "6.5 experts",
    "moe_error": "6.6 mixed error",
    "latent": "6.6 mixed latent",
    "horizon_error": "7.1 decoders",
    "rec_error": "7.1 reconstruction error",
    "error": "7.2 E",
}
LOSSES = {"rec": "8 L_rec", "entropy": "8 H", "smooth": "8 L_smooth", "total": "8 L"}
ZERO_WHERE_INACTIVE = [
    "learned",
    "fused",
    "routing",
    "expert_error",
    "moe_error",
    "horizon_error",
    "rec_error",
    "error",
]


@cache
def judged(case):
    """Fields of the network, of the oracle given those fields, of the oracle alone; losses of both."""
    preset, overrides, make = CASES[case]
    model, chunk = shaken(preset, **overrides), make()
    with torch.no_grad():
        out = model(*chunk.tensors())
        terms = {name: float(v) for name, v in loss_terms(out, torch.tensor(chunk.active), model.config).items()}
    got = arrays(out)
    category = overrides.get("groups", np.repeat(range(4), (6, 8, 7, 8)))
    oracle = Oracle(parameters(model), model.config, [np.flatnonzero(np.equal(category, k)) for k in range(4)])
    data = (chunk.x, chunk.active, chunk.prior, chunk.stress)
    step, chain = oracle.run(*data, given=got), oracle.run(*data)
    return chunk.active, got, step, chain, terms, losses(got, chunk.active, model.config)


def assert_field(name, got, expected, active, rtol=1e-7):
    """What inactive rows hold is promised for some fields only."""
    got, expected = got[name], expected[name]
    assert got.shape == expected.shape
    atol = rtol * np.abs(expected).max()
    if got.ndim > 1 and got.shape[1] == active.shape[1] and name not in ZERO_WHERE_INACTIVE:
        got, expected = got[active], expected[active]
    if name == "similarity":  # its columns of inactive stocks are nobody's business either
        pairs = np.repeat(active, active.sum(axis=1), axis=0)
        got, expected = got[pairs], expected[pairs]
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=EQUATIONS[name])


@pytest.mark.parametrize("name", EQUATIONS, ids=EQUATIONS.values())
@pytest.mark.parametrize("case", CASES)
def test_equation(case, name):
    """On the network's own inputs to the equation, so that a failure names the one that differs."""
    active, got, step, *_ = judged(case)
    assert_field(name, got, step, active)


@pytest.mark.parametrize("name", LOSSES, ids=LOSSES.values())
@pytest.mark.parametrize("case", CASES)
def test_loss(case, name):
    *_, terms, expected = judged(case)
    assert terms[name] == pytest.approx(expected[name], rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_whole_chain(case):
    active, got, _, chain, *_ = judged(case)
    for name in EQUATIONS:
        assert_field(name, got, chain, active)


@pytest.mark.parametrize("key", AFTERWARDS)
def test_a_switch_of_the_scores_leaves_the_network_alone(key):
    with torch.no_grad():
        got = arrays(shaken("intended", top_k=3, **{key: AFTERWARDS[key]})(*mixed().tensors()))
    for name, expected in judged("intended")[1].items():
        np.testing.assert_array_equal(got[name], expected, err_msg=name)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_whole_chain_in_float32(preset):
    """The precision that is trained in; what is left is rounding."""
    model, chunk = deepcopy(shaken(preset, top_k=3)).float(), mixed()
    with torch.no_grad():
        got = arrays(model(*chunk.tensors(torch.float32)))
    expected = Oracle(parameters(model), model.config).run(chunk.x, chunk.active, chunk.prior, chunk.stress)
    for name in EQUATIONS:
        assert_field(name, got, expected, chunk.active, rtol=1e-4)


def test_the_cases_reach_the_corners():
    """The data make the rules differ: rows without a prior edge, more and fewer than k neighbours, uneven attention."""
    active, got, _, chain, *_ = judged("intended")
    assert ((got["fused"] > 0).sum(axis=2)[active] > 0).all()
    assert (got["fused"] == 0).any(axis=2)[active].all()
    assert got["routing"][active].max() > 0.5
    n = active.sum(axis=1)[:, None]
    assert ((got["cross_weights"].max(axis=2) * n)[active] > 1.05).all()
    assert not np.allclose(chain["support"], judged("intended, k beyond N")[3]["support"])


def test_the_edge_network_in_slices(monkeypatch):
    """A market too large for one slice of stock pairs is worked off in rows, and gives the same graph."""
    chunk, (_, got, *_) = mixed(), judged("intended")
    for pairs in (1, 20, 50, 170):  # one, two or five rows of nine at a time; two whole sessions
        monkeypatch.setitem(dynamic_graph.PAIRS_AT_ONCE, "cpu", pairs)
        out = shaken("intended", top_k=3)(*chunk.tensors())
        assert_field("similarity", arrays(out), got, chunk.active, rtol=1e-12)


# --- the graph -------------------------------------------------------------------------------------------------------
def big_market():
    """Untrained networks on 14 stocks."""
    return mixed(stocks=14, sessions=4, seed=5)


@pytest.mark.parametrize("k", [2, 4, 20])
def test_intended_rows_sum_to_one_or_zero_and_keep_about_k_edges(k):
    """SPEC 15, test 5."""
    model, chunk = network("intended", top_k=k), big_market()
    with torch.no_grad():
        out = arrays(model(*chunk.tensors()))
    active, learned, alpha = chunk.active, out["learned"], out["alpha"][:, None, None]
    static = (out["fused"] - (1 - alpha) * learned) / alpha
    for graph in (learned, static):
        total = graph.sum(axis=2)
        assert (np.isclose(total, 1, atol=1e-6) | np.isclose(total, 0, atol=1e-12)).all()
        np.testing.assert_allclose(np.diagonal(graph, axis1=1, axis2=2), 0, atol=1e-12)
    edges = (learned > 0).sum(axis=2)[active]
    assert edges.min() >= 1
    assert edges.mean() <= 2 * k


def test_literal_rows_sum_to_one_and_nothing_is_removed():
    model, chunk = network("literal", top_k=2), big_market()
    with torch.no_grad():
        learned = arrays(model(*chunk.tensors()))["learned"]
    np.testing.assert_allclose(learned.sum(axis=2), chunk.active, atol=1e-12)
    for day, on in zip(learned, chunk.active, strict=True):
        assert (day[np.ix_(on, on)] > 0).all()
        assert not day[:, ~on].any()


def alpha_at(preset, total_stress):
    """alpha of an untrained network when the four indicators sum to this."""
    chunk = mixed(sessions=1)
    stress = np.full((1, 4), total_stress / 4)
    with torch.no_grad():
        out = network(preset)(*replace(chunk, stress=stress).tensors())
    return float(out.psi[0]), float(out.alpha[0])


@pytest.mark.parametrize(("preset", "offset"), [("literal", 0.0), ("intended", 2.0)])
@pytest.mark.parametrize(("psi", "alpha"), [(0.5, 0.5622), (0.78, 0.5275)])
def test_alpha_before_training(preset, offset, psi, alpha):
    """SPEC 15, test 6."""
    got = alpha_at(preset, offset + np.log(psi / (1 - psi)))
    assert got[0] == pytest.approx(psi, abs=1e-6)
    assert got[1] == pytest.approx(alpha, abs=5e-5)


def set_to(model, **values):
    """A copy with some parameters replaced; a double underscore stands for a dot."""
    model = deepcopy(model)
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in values.items():
            target = named[name.replace("__", ".")]
            target.copy_(torch.as_tensor(value, dtype=target.dtype))
    return model


@pytest.mark.parametrize(("a", "alpha"), [(9.0, 0.8), (-9.0, 0.2)])
def test_alpha_is_clamped(a, alpha):
    with torch.no_grad():
        out = set_to(network(), graph__alpha__a=a)(*mixed().tensors())
    np.testing.assert_allclose(out.alpha.numpy(), alpha)


@pytest.mark.parametrize("w", [[50, -50, -50], [-50, 50, 50], [0, -9, 9], [0, 0, 0]])
def test_literal_source_weights_are_bounded(w):
    """AUDIT A45; SPEC 15, test 6."""
    with torch.no_grad():
        got = set_to(network("literal"), graph__sources__w=w)(*mixed().tensors()).source_weights.numpy()
    assert got.min() >= 1 / (1 + 2 * np.e) - 1e-12 and got.max() <= np.e / (np.e + 2) + 1e-12
    np.testing.assert_allclose(got.sum(axis=1), 1)
    assert np.ptp(got, axis=0).max() == 0  # constant in time


def test_intended_source_weights_leave_the_prior_in_stress():
    """AUDIT A45: before training, (0,0,1) + psi (0.5,0.5,-1)."""
    chunk = mixed(sessions=4)
    chunk = replace(chunk, stress=np.linspace(0, 1, 4)[:, None].repeat(4, axis=1))
    with torch.no_grad():
        got = network()(*chunk.tensors()).source_weights.numpy()
    assert (np.diff(got[:, 2]) < 0).all()
    np.testing.assert_allclose(got[:, 0], got[:, 1])


def strangers(preset):
    """Two stocks without a prior edge and embeddings of opposite sign, so that their similarity is negative."""
    chunk = mixed(sessions=1).of([1, 6])
    chunk = replace(chunk, prior=np.zeros((2, 2)))
    spatial = {
        f"encoder__{layer}__{kind}": 0.0 for layer in ("spatial_in", "gcn__0", "gcn__1") for kind in ("weight", "bias")
    }
    model = set_to(shaken(preset), **spatial)
    with torch.no_grad():
        centre = model(*chunk.tensors()).h_temp.mean(dim=(0, 1))
    model = set_to(model, encoder__pool__2__bias=model.encoder.pool[2].bias - centre, graph__sources__w=[30, -30, -30])
    with torch.no_grad():
        got = arrays(model(*chunk.tensors()))
    assert got["similarity"][0, 0, 1] < -0.05
    step = Oracle(parameters(model), model.config).run(
        chunk.x, chunk.active, chunk.prior, chunk.stress, given={name: got[name] for name in ("z", "fused")}
    )
    assert_field("z_final", got, step, chunk.active)
    return model, got


def test_a_stock_without_any_edge_attends_to_itself():
    """SPEC 5.6: with an empty row of the fused graph the own logit gets ln 1, every other ln 1e-6."""
    model, got = strangers("intended")
    assert not got["fused"].any()
    with torch.no_grad():
        alone = 0.5 * model.graph.gat.out(model.graph.gat.map(torch.tensor(got["z"][0])))
    np.testing.assert_allclose((got["z_final"] - got["z"])[0, :, :128], alone, atol=1e-4)


def test_the_own_edge_of_a_literal_graph_may_be_the_strongest():
    """Its diagonal is e^0 before the row sum, so it is the max_j of SPEC 5.6 among negative similarities."""
    _, got = strangers("literal")
    assert (np.argmax(got["fused"][0], axis=1) == [0, 1]).all()


# --- gate and losses -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("preset", "direction"), [("literal", 1), ("intended", -1)])
def test_temperature_is_monotone_in_stress(preset, direction):
    """SPEC 15, test 8; AUDIT A53."""
    chunk = mixed(sessions=5)
    chunk = replace(chunk, stress=np.linspace(0, 1, 5)[:, None].repeat(4, axis=1))
    with torch.no_grad():
        out = network(preset)(*chunk.tensors())
    assert (np.diff(out.psi.numpy()) > 0).all()
    assert (direction * np.diff(out.tau.numpy()) > 0).all()
    assert out.tau.min() > 0


@pytest.mark.parametrize("preset", PRESETS)
def test_routing_is_a_distribution(preset):
    chunk = mixed()
    with torch.no_grad():
        routing = shaken(preset, top_k=3)(*chunk.tensors()).routing.numpy()
    assert (routing >= 0).all()
    np.testing.assert_allclose(routing.sum(axis=2), chunk.active, atol=1e-12)


def test_the_error_of_a_perfect_reconstruction_is_the_root_of_eps():
    """SPEC 6.5, 7.1: sqrt(sum + 1e-8), so that the gradient at zero is finite."""
    chunk = mixed()
    x = chunk.x.copy()
    x[:, 1] = 0  # and the last layers answer 0
    last = [f"experts__expert__{k}__decode__2" for k in range(4)] + [f"decoders__out__{d}" for d in range(3)]
    model = set_to(shaken("intended", top_k=3), **{f"{layer}__{p}": 0.0 for layer in last for p in ("weight", "bias")})
    out = model(*replace(chunk, x=x).tensors())
    for errors in (out.expert_error, out.horizon_error, out.error[..., None]):
        np.testing.assert_allclose(errors[:, 1].detach().numpy(), 1e-4, rtol=1e-6)
    found = torch.autograd.grad(out.error.sum(), list(model.parameters()), allow_unused=True)
    assert all(g is None or torch.isfinite(g).all() for g in found)


@pytest.mark.parametrize(("preset", "sign"), [("literal", 1), ("intended", -1)])
def test_sign_of_the_diversity_term(preset, sign):
    """SPEC 15, test 7; AUDIT A58: the loss of even routing less that of sharp routing, everything else equal."""
    chunk, model = mixed(), network(preset)
    active = torch.tensor(chunk.active)
    with torch.no_grad():
        out = model(*chunk.tensors())
        total = {}
        for name, row in (("even", [0.25] * 4), ("sharp", [0.97, 0.01, 0.01, 0.01])):
            routing = torch.tensor(row, dtype=torch.float64) * active[:, :, None]
            terms = loss_terms(replace(out, routing=routing), active, model.config)
            assert float(terms["smooth"]) == pytest.approx(0, abs=1e-12)
            total[name] = float(terms["total"])
            assert float(terms["entropy"]) == pytest.approx(-np.sum(row * np.log(row)))
    expected = 0.01 * (np.log(4) + np.sum([0.97 * np.log(0.97), 0.03 * np.log(0.01)]))
    assert total["even"] - total["sharp"] == pytest.approx(sign * expected, rel=1e-6)


def test_entropy_of_a_one_hot_routing_is_zero_and_has_a_finite_gradient():
    chunk, model = mixed(), network()
    active = torch.tensor(chunk.active)
    routing = torch.zeros(*active.shape, 4, dtype=torch.float64)
    routing[..., 1] = 1
    routing = (routing * active[:, :, None]).requires_grad_()
    with torch.no_grad():
        out = model(*chunk.tensors())
    terms = loss_terms(replace(out, routing=routing), active, model.config)
    assert terms["entropy"].item() == pytest.approx(0, abs=1e-12)
    terms["total"].backward()
    assert torch.isfinite(routing.grad).all()


def test_smoothness_of_a_single_session_is_zero():
    chunk, model = mixed(sessions=1), network()
    out = model(*chunk.tensors())
    terms = loss_terms(out, torch.tensor(chunk.active), model.config)
    assert terms["smooth"].item() == 0
    assert torch.isfinite(terms["total"])


@pytest.mark.parametrize("preset", PRESETS)
def test_a_sample_sees_neither_later_nor_other_samples(preset):
    """A chunk cut short gives the same numbers for what is left (SPEC 15, test 10: the network's part)."""
    chunk, model = mixed(), shaken(preset, top_k=3)
    with torch.no_grad():
        whole, short = (arrays(model(*c.tensors())) for c in (chunk, chunk.first(2)))
    for name in EQUATIONS:
        assert_field(name, short, {name: whole[name][:2]}, chunk.active[:2], rtol=1e-9)
