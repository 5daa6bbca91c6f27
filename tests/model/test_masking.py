"""What an inactive stock holds, whether it is in the tensors at all and in which order stocks come changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_networks import ABSENT, JOINER, LEAVER, PRESETS, WINDOW, arrays, mixed, shaken

from anomaly_routing.model.losses import loss_terms

PER_STOCK = [
    *("h_temp", "h_spat", "z", "context", "z_final", "category_signal", "routing", "expert_error", "moe_error"),
    *("latent", "horizon_error", "rec_error", "error"),
]
PAIRS = ["cross_weights", "similarity", "learned", "fused"]
PER_SESSION = ["psi", "alpha", "source_weights", "tau"]


def outcome(preset, chunk):
    """Fields, losses and the gradient of the loss."""
    model = shaken(preset, top_k=3)
    out = model(*chunk.tensors())
    terms = loss_terms(out, torch.tensor(chunk.active), model.config)
    found = torch.autograd.grad(terms["total"], list(model.parameters()), allow_unused=True)
    norms = [0.0 if g is None else float(g.norm()) for g in found]
    return arrays(out), {name: value.item() for name, value in terms.items()}, norms


def assert_same(before, after, active, columns):
    """`columns` are the stocks of `before` that `after` has, in its order; compared where they are active."""
    (fields, terms, norms), (other, other_terms, other_norms) = before, after
    active = active[:, columns]
    for name in PER_STOCK:
        close(other[name][active], fields[name][:, columns][active], name)
    for name in PAIRS:
        for b, on in enumerate(active):
            mine = fields[name][b][np.ix_(columns, columns)]
            close(other[name][b][np.ix_(on, on)], mine[np.ix_(on, on)], name)
    for name in PER_SESSION:
        close(other[name], fields[name], name)
    assert other_terms == pytest.approx(terms, rel=1e-9)
    assert other_norms == pytest.approx(norms, rel=1e-6, abs=1e-12)


def close(got, expected, name):
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.fixture(scope="module", params=PRESETS)
def preset(request):
    return request.param


@pytest.fixture(scope="module")
def before(preset):
    return outcome(preset, mixed())


@pytest.mark.parametrize("kind", ["large", "constant", "tiny"])
def test_garbage_in_inactive_stocks(preset, before, kind):
    """In all rows of a stock that is never active, the last row of one that left, the first of one that joined."""
    chunk = mixed()
    x, rng = chunk.x.copy(), np.random.default_rng(9)
    garbage = {
        "large": lambda shape: 1e6 * rng.normal(size=shape),
        "constant": lambda shape: np.full(shape, -3e3),
        "tiny": lambda shape: 1e-30 * rng.normal(size=shape),
    }[kind]
    x[:, ABSENT] = garbage(x[:, ABSENT].shape)
    x[-1, LEAVER] = garbage(29)  # seen by the last sample only, where the stock is inactive
    x[0, JOINER] = garbage(29)  # seen by the first sample only
    everyone = np.arange(x.shape[1])
    assert_same(before, outcome(preset, replace(chunk, x=x)), chunk.active, everyone)


def test_prior_edges_of_inactive_stocks(preset, before):
    chunk = mixed()
    prior = chunk.prior.copy()
    prior[ABSENT] = prior[:, ABSENT] = 1 - prior[ABSENT]
    prior[ABSENT, ABSENT] = 0
    everyone = np.arange(len(prior))
    assert_same(before, outcome(preset, replace(chunk, prior=prior)), chunk.active, everyone)


def test_stocks_that_are_never_active_may_be_left_out(preset, before):
    chunk = mixed()
    columns = np.flatnonzero(chunk.active.any(axis=0))
    assert len(columns) < chunk.active.shape[1]
    assert_same(before, outcome(preset, chunk.of(columns)), chunk.active, columns)


def test_a_session_alone_without_its_inactive_stocks(preset, before):
    """Each sample against the network that sees that session and its active stocks only."""
    chunk, (fields, _, _) = mixed(), before
    for b, on in enumerate(chunk.active):
        columns = np.flatnonzero(on)
        one = replace(chunk, x=chunk.x[b : b + WINDOW], active=chunk.active[b : b + 1], stress=chunk.stress[b : b + 1])
        with torch.no_grad():
            got = arrays(shaken(preset, top_k=3)(*one.of(columns).tensors()))
        for name in PER_STOCK:
            close(got[name][0], fields[name][b, columns], name)
        for name in PAIRS:
            close(got[name][0], fields[name][b][np.ix_(columns, columns)], name)


def test_the_order_of_stocks_does_not_matter(preset, before):
    chunk = mixed()
    order = np.random.default_rng(2).permutation(chunk.active.shape[1])
    assert_same(before, outcome(preset, chunk.of(order)), chunk.active, order)


def test_a_stock_does_change_the_others_where_it_is_active(preset, before):
    """The comparison above can fail: the same garbage in an active stock is seen by all."""
    chunk = mixed()
    x = chunk.x.copy()
    x[-2, LEAVER] = 8.0
    (fields, _, _), (other, _, _) = before, outcome(preset, replace(chunk, x=x))
    moved = np.abs(fields["error"] - other["error"]) > 1e-9
    assert moved[1][chunk.active[1]].all()
    assert not moved[0].any()
