"""What reaches what: gradients against differences of the oracle's loss, and the dead ends of the equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_networks import PRESETS, arrays, mixed, one_stock, parameters, shaken

from anomaly_routing.model.losses import loss_terms
from tests.oracles.model_oracle import Oracle, losses

# Parameters without a gradient, by name or by prefix with a closing dot, and why.
DEAD = {
    "decoders.gru.0.weight_hh_l0": "h = 1: one step from a zero state (SPEC 12)",
}
DEAD_WITH_ONE_STOCK = {
    **DEAD,
    "graph.sources.": "no pair of stocks, so no similarity",
    "graph.edge.": "no pair of stocks, so no similarity",
    "graph.alpha.": "the fused graph is one loop",
    "graph.gat.a_s": "the softmax over one stock is 1",
    "graph.gat.a_d": "the softmax over one stock is 1",
    "encoder.context.": "the context feeds similarities only (AUDIT A42)",
    "encoder.cross_query.": "feeds the context only",
    "encoder.cross_key.": "feeds the context only",
    "encoder.cross_value.": "feeds the context only",
    "encoder.cross_out.": "feeds the context only",
    "experts.gate.query.": "the softmax over one stock is 1",
    "experts.gate.key.": "the softmax over one stock is 1",
}
DEAD_WITHOUT_EDGES = {  # literal: no loops, so a stock without neighbours gathers nothing in either layer
    "encoder.gcn.0.": "its output is gathered by nobody",
    "encoder.gcn.1.weight": "its input is 0",
}

LONE = mixed().of([1])


def gradients(model, value) -> dict[str, torch.Tensor]:
    """Of a scalar, zeros where autograd has no path."""
    names, tensors = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(value, tensors, allow_unused=True, retain_graph=True)
    return {name: torch.zeros_like(t) if g is None else g for name, t, g in zip(names, tensors, found, strict=True)}


def without_gradient(found) -> set[str]:
    """Names whose gradient is nil beside the largest one (which leaves room for rounding in a vanishing sum)."""
    top = max(float(g.abs().max()) for g in found.values())
    return {name for name, g in found.items() if float(g.abs().max()) <= 1e-16 * top}


def matching(names, prefixes) -> set[str]:
    return {n for n in names if any(n == p or (p.endswith(".") and n.startswith(p)) for p in prefixes)}


def forward(preset, chunk=None, **overrides):
    """Network, its output and the losses of one chunk."""
    model, chunk = shaken(preset, top_k=3, **overrides), chunk or mixed()
    out = model(*chunk.tensors())
    return model, out, loss_terms(out, torch.tensor(chunk.active), model.config)


# --- the list of SPEC 12 ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("preset", "chunk", "dead"),
    [
        pytest.param("literal", mixed(), DEAD, id="literal"),
        pytest.param("intended", mixed(), DEAD, id="intended"),
        pytest.param("literal", LONE, DEAD_WITH_ONE_STOCK | DEAD_WITHOUT_EDGES, id="literal, one stock"),
        pytest.param("intended", LONE, DEAD_WITH_ONE_STOCK, id="intended, one stock"),
    ],
)
def test_every_parameter_has_a_gradient_but_the_dead_ends(preset, chunk, dead):
    model, _, terms = forward(preset, chunk)
    found = gradients(model, terms["total"])
    assert all(torch.isfinite(g).all() for g in found.values())
    assert without_gradient(found) == matching(found, dead)


GATE_ENDS = {"experts.gate.": "the weights do not depend on it", "experts.category_norm.": "feeds the gate only"}
CONTEXT = {f"encoder.{name}.": "feeds the context only" for name in ("cross_query", "cross_key")}
DESIGN_ENDS = {  # SPEC 10: what an ablation leaves without a gradient, beside `DEAD`
    "cross_attention": ("uniform", CONTEXT),
    "sources": (
        "temporal",
        CONTEXT
        | {f"encoder.{name}.": "feeds the context only" for name in ("cross_value", "cross_out", "context")}
        | {"graph.sources.": "one source has no weight", "graph.edge.": "not asked"},
    ),
    "alpha_rule": ("learned", {"graph.alpha.b": "stress does not move it"}),
    "mechanisms": ("one", GATE_ENDS),
    "contagion_sees": ("refined", {}),
    "expert_task": ("predict", {}),
    "rec_rule": ("routed", {}),
    "use_prior": (False, {}),
}


@pytest.mark.parametrize("key", [*DESIGN_ENDS, "alpha_fixed", "hard", "uniform", "top2", "two", "six"])
def test_what_an_ablation_leaves_without_a_gradient(key):
    """And nothing else: an ablation cuts what it says."""
    other = {
        "alpha_fixed": ({"alpha_rule": "fixed"}, {"graph.alpha.": "not asked"}),
        "hard": ({"routing_rule": "hard"}, GATE_ENDS),
        "uniform": ({"routing_rule": "uniform"}, GATE_ENDS),
        "top2": ({"routing_rule": "top2"}, {}),
        "two": ({"mechanisms": "two"}, {}),
        "six": ({"mechanisms": "six"}, {}),
    }
    if key in DESIGN_ENDS:
        value, ends = DESIGN_ENDS[key]
        overrides = {key: value}
    else:
        overrides, ends = other[key]
    model, _, terms = forward("intended", **overrides)
    found = gradients(model, terms["total"])
    assert all(torch.isfinite(g).all() for g in found.values())
    assert without_gradient(found) == matching(found, DEAD | ends)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_session_with_one_stock_among_others_keeps_gradients_finite(preset):
    model, _, terms = forward(preset, one_stock())
    assert all(torch.isfinite(g).all() for g in gradients(model, terms["total"]).values())


# --- size ------------------------------------------------------------------------------------------------------------
BLOCKS = {
    "temporal": ["encoder.lstm.", "encoder.query.", "encoder.key.", "encoder.value.", "encoder.out.", "encoder.pool."],
    "spatial": ["encoder.spatial_in.", "encoder.gcn."],
    "cross-modal": [f"encoder.cross_{m}." for m in ("query", "key", "value", "out")] + ["encoder.context."],
    "stress": ["graph.stress."],
    "sources": ["graph.sources."],
    "edge": ["graph.edge."],
    "alpha": ["graph.alpha."],
    "gat": ["graph.gat."],
    "gate": ["experts.gate.", "experts.category_norm."],
    "experts": ["experts.expert."],
    "decoders": ["decoders."],
}


@pytest.fixture(scope="module", params=PRESETS)
def slopes(request):
    """The network's gradients, and the oracle's loss as a function of its parameters. The oracle keeps every k-th value
    and the support as they are: SPEC 5.5 detaches the one, and the other is a step."""
    chunk = mixed(stocks=7, sessions=2)
    model, _, terms = forward(request.param, chunk)
    data = (chunk.x, chunk.active, chunk.prior, chunk.stress)
    start = parameters(model)
    base = Oracle(start, model.config).run(*data)
    held = {name: base[name] for name in ("kappa", "support")}

    def loss(moved):
        return losses(Oracle(start | moved, model.config).run(*data, given=held), chunk.active, model.config)["total"]

    found = {name: g.numpy() for name, g in gradients(model, terms["total"]).items()}
    return start, found, loss


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_equal_differences_of_the_oracle(slopes, block):
    """Along the gradient plus as long a random direction, tensor by tensor of a block at once."""
    start, found, loss = slopes
    rng = np.random.default_rng(4)
    names = sorted(matching(found, BLOCKS[block]))
    step = {}
    for name in names:
        noise = rng.normal(size=found[name].shape)
        size = np.linalg.norm(found[name])
        step[name] = noise / np.linalg.norm(noise) + (found[name] / size if size > 0 else 0)
    slope = sum((found[name] * step[name]).sum() for name in names)
    h = 1e-5
    up, down = (loss({name: start[name] + sign * h * step[name] for name in names}) for sign in (1, -1))
    assert (up - down) / (2 * h) == pytest.approx(slope, rel=1e-4, abs=1e-9)


# --- reach -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("preset", PRESETS)
def test_the_contagion_expert_never_sees_the_adaptive_graph(preset):
    """AUDIT A55: its error depends on the prior graph's encoder and on itself."""
    model, out, _ = forward(preset)
    found = gradients(model, out.expert_error[..., 2].sum())
    alive = set(found) - without_gradient(found)
    assert alive == matching(found, ["encoder.spatial_in.", "encoder.gcn.", "experts.expert.2."])
    for k in (0, 1, 3):
        found = gradients(model, out.expert_error[..., k].sum())
        alive = set(found) - without_gradient(found)
        assert not matching(alive, ["experts.gate.", "experts.category_norm."])
        assert matching(found, ["graph.edge.", "graph.gat.", "graph.alpha.", "encoder.lstm."]) <= alive


GATE = ["experts.gate.", "experts.category_norm."]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_reconstruction_loss_reaches_the_gate_only_through_the_decoders(preset):
    """AUDIT A57: l_k enter L_rec unweighted, so the mixed latent is the one way to the routing."""
    chunk = mixed()
    model, _, terms = forward(preset, chunk)
    gate = matching(dict(model.named_parameters()), GATE)
    assert not gate & without_gradient(gradients(model, terms["rec"]))

    def cut(module, args, kwargs):
        held = (a.detach() if torch.is_tensor(a) else a for a in args)
        return tuple(held), {k: v.detach() if torch.is_tensor(v) else v for k, v in kwargs.items()}

    hook = model.decoders.register_forward_pre_hook(cut, with_kwargs=True)
    try:
        terms = loss_terms(model(*chunk.tensors()), torch.tensor(chunk.active), model.config)
    finally:
        hook.remove()
    found = gradients(model, terms["rec"])
    assert gate <= without_gradient(found)
    assert set(found) - without_gradient(found) >= matching(found, ["decoders.out.", "experts.expert.", "graph.gat."])
    for term in ("entropy", "smooth"):
        assert not gate & without_gradient(gradients(model, terms[term]))


@pytest.mark.parametrize("preset", PRESETS)
def test_cross_modal_attention_acts_through_the_graph_alone(preset):
    """AUDIT A42: without a pair of stocks there is no graph, and z_final does not move; z never does."""
    cross = [f"encoder.cross_{m}." for m in ("query", "key", "value", "out")]
    for chunk, through_the_graph in ((mixed(), True), (LONE, False)):
        model, out, _ = forward(preset, chunk)
        for field, reached in (("z", False), ("h_spat", False), ("context", True), ("z_final", through_the_graph)):
            found = gradients(model, getattr(out, field).pow(2).sum())
            names = matching(found, cross)
            if chunk is LONE and field == "context":
                names = matching(found, ["encoder.cross_value.", "encoder.cross_out."])  # attention is 1 to itself
            alive = names - without_gradient(found)
            assert alive == (names if reached else set()), field


@pytest.mark.parametrize("preset", PRESETS)
def test_stress_moves_the_whole_network(preset):
    """psi enters alpha, tau and the gate in both presets, the source weights in `intended` only."""
    model, out, _ = forward(preset)
    for field, reached in (("alpha", True), ("tau", True), ("routing", True), ("source_weights", preset == "intended")):
        found = gradients(model, getattr(out, field).pow(2).sum())
        assert ("graph.stress.beta" not in without_gradient(found)) == reached, field


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_flows_into_inactive_rows(preset):
    """Features of stocks that are inactive in every sample, and prior edges to them, have no gradient."""
    chunk = mixed()
    x, active, prior, stress = chunk.tensors()
    x.requires_grad_()
    model = shaken(preset, top_k=3)
    terms = loss_terms(model(x, active, prior, stress), active, model.config)
    (found,) = torch.autograd.grad(terms["total"], x)
    silent = ~chunk.active.any(axis=0)
    assert silent.any()
    assert not found[:, silent].any()
    assert found[:, ~silent].abs().sum(dim=(0, 2)).min() > 0
    assert np.isfinite(arrays(model(*chunk.tensors()))["error"]).all()
