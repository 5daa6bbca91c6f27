"""The inner quantities behind notebook 04's pictures, computed again by hand, and what the pictures and words do."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from anomaly_routing import baseline_mechanism_figures as pictures
from anomaly_routing import baseline_mechanism_words as words
from anomaly_routing.baseline_mechanisms import (
    NEARBY,
    ORDINARY,
    PLANTED,
    Associations,
    Look,
    associations,
    edges_cut,
    intensity,
    own_weight,
    pulled,
    two_errors,
    weights_moved,
    window_errors,
)
from anomaly_routing.baselines.registry import create
from anomaly_routing.baselines.toy import toy_auroc, toy_market

METHODS = (
    *("lstm_ae", "anomaly_transformer", "tranad", "mtad_gat", "gcn_ae", "gat_ae", "dominant", "anomaly_dae", "cola"),
    *("evolve_gcn", "ghrn_star", "graph_hawkes", "memstream", "robust_autoencoder", "real_nvp"),
)


@pytest.fixture(scope="module")
def looks() -> dict[str, Look]:
    toy = toy_market("off_factor")
    return {
        m: Look(create(m, epochs=2, device="cpu").fit(toy.panel, toy.train), toy, "off_factor") for m in METHODS
    }  # fmt: skip


def test_a_share_of_outranked_stock_days_is_the_auroc(looks):
    look = looks["gcn_ae"]
    assert look.outranks(look.score) == pytest.approx(toy_auroc(look.score.numpy(), look.toy))
    planted = look.rows[PLANTED].numpy()
    assert (planted == (look.toy.cells & look.toy.panel.active)).all() and not look.rows[ORDINARY][
        : look.toy.first
    ].any()


def test_the_weight_on_itself_by_hand(looks):
    """Velickovic's softmax over the active neighbours and the stock itself, a stock at a time, in the last layer."""
    look = looks["gat_ae"]
    weight, equal = own_weight(look)
    net, t = look.net, look.toy.first
    near = look.toy.panel.active[t] & ((look.toy.panel.prior != 0) | np.eye(10, dtype=bool))
    with torch.no_grad():
        x = torch.as_tensor(look.toy.panel.x[t : t + 1])
        bent = torch.nn.functional.elu(net.first(x, torch.as_tensor(near)[None]))[0]
        h = (bent @ net.second.weight).numpy()
        receive, send = (getattr(net.second, name)[0].detach().numpy() for name in ("receive", "send"))
    for i in np.flatnonzero(look.toy.panel.active[t]):
        logits = np.array([h[i] @ receive + h[j] @ send for j in np.flatnonzero(near[i])])
        e = np.exp(np.where(logits > 0, logits, 0.2 * logits))
        own = list(np.flatnonzero(near[i])).index(i)
        assert float(weight[t, i]) == pytest.approx(e[own] / e.sum(), rel=1e-4)
        assert float(equal[t, i]) == pytest.approx(1 / near[i].sum())


def test_the_picture_of_gat_ae_shows_that_weight(looks):
    """What the text beside it says, not the error of a session as for `gcn_ae`."""
    fig, axes = plt.subplots(1, 5)
    pictures.draw_static(axes, looks)
    weight, rows = own_weight(looks["gat_ae"])[0], looks["gat_ae"].rows
    for line, said in zip(axes[1].lines, (ORDINARY, PLANTED), strict=True):
        assert line.get_label() == said
        assert np.allclose(line.get_xdata(), weight[rows[said]][-pictures.SHOWN :])
    assert "weight on itself" in axes[1].get_xlabel() and not axes[1].patches
    plt.close(fig)


def test_the_error_of_the_judged_session_is_the_score(looks):
    """And the decoder that is fed the truth starts from the same state: their errors part only further back."""
    look, errors = looks["lstm_ae"], window_errors(looks["lstm_ae"])
    for said, marked in look.rows.items():
        assert errors[said][-1] == pytest.approx(float(look.score[marked].mean()), rel=1e-4)
    assert errors["taught"][-1] == pytest.approx(errors[ORDINARY][-1], rel=1e-5)
    assert not np.allclose(errors["taught"][0], errors[ORDINARY][0], rtol=1e-4)
    x, t, i = look.toy.panel.x, *np.argwhere(look.rows[ORDINARY].numpy()).T
    assert errors["size"][-1] == pytest.approx(float((x[t, i] ** 2).mean()), rel=1e-4)


def test_associations_by_hand(looks):
    """Rows sum to one; the discrepancy is both divergences' sum, mean over layers and heads."""
    look, found = looks["anomaly_transformer"], associations(looks["anomaly_transformer"])
    for drawn in (*found.series.values(), *found.prior.values()):
        assert drawn.sum() == pytest.approx(1, abs=1e-4)
    assert (np.diff(found.prior[ORDINARY]) > 0).all()  # the prior sees distance alone: the nearest weighs most
    t, i = np.argwhere(look.rows[PLANTED].numpy())[0]
    with torch.no_grad():
        _, series, prior = look.net(torch.as_tensor(look.toy.panel.x[t - 19 : t + 1, i])[None])
    p, q = (np.stack([layer[0, :, -1].numpy() for layer in kind]).astype(float) + 1e-4 for kind in (prior, series))
    divergence = ((p - q) * (np.log(p) - np.log(q))).sum(-1).mean()
    assert float(found.apart[t, i]) == pytest.approx(divergence, rel=1e-3)


@pytest.mark.parametrize(
    ("lower", "as_said", "against"), [(PLANTED, "out of time", "none"), (ORDINARY, "none of the kinds", "out of time")]
)
def test_the_words_say_whether_the_discrepancy_goes_the_papers_way(looks, monkeypatch, lower, as_said, against):
    look = replace(looks["anomaly_transformer"], kind="out_of_time")
    apart = torch.where(look.rows[lower], 1.0, 2.0)
    flat = {said: np.full(20, 0.05) for said in look.rows}
    monkeypatch.setattr(words, "associations", lambda _: Associations(flat, flat, apart))
    told = words.association_words(look, {"out_of_time": look})
    assert f"the idea shows on {as_said}, its opposite on {against}." in told
    assert (
        f"beside {100 if lower == PLANTED else 0}% (out of time)" in told and f"gives {5 * NEARBY}% on ordinary" in told
    )


def test_how_far_a_stock_is_rebuilt_as_its_neighbours(looks):
    """A network that returns the neighbours' average goes the whole way, one that repeats its input none of it."""
    look = replace(looks["gcn_ae"])
    near = torch.as_tensor(look.toy.panel.prior) * torch.as_tensor(look.toy.panel.active[:, None], dtype=torch.float32)
    around = (near @ look.batch.now) / near.sum(-1, keepdim=True)
    original = look.net.rebuild
    try:
        look.net.rebuild = lambda x, graph: around
        assert torch.allclose(pulled(look)[2][look.batch.active], torch.tensor(1.0), atol=1e-4)
        look.net.rebuild = lambda x, graph: x
        assert torch.allclose(pulled(look)[2][look.batch.active], torch.tensor(0.0), atol=1e-6)
    finally:
        look.net.rebuild = original


def test_two_errors_make_the_score(looks):
    active = looks["dominant"].batch.active
    for m, mix in (
        ("dominant", lambda a, b: 0.8 * a + 0.2 * b),
        ("anomaly_dae", lambda a, b: (a + b) / 2),
        ("tranad", lambda a, b: (a + b) / 2),
        ("mtad_gat", lambda a, b: (a + 0.8 * b) / 1.8),
    ):
        one, other = two_errors(looks[m])
        assert torch.allclose(mix(one, other)[active], looks[m].score[active], rtol=1e-3, atol=1e-5), m


def test_dynamic_quantities(looks):
    cut = edges_cut(looks["ghrn_star"])
    active, prior = looks["ghrn_star"].toy.panel.active, looks["ghrn_star"].toy.panel.prior
    for t in (250, 300, 400):  # a tenth of the session's edges, rounded down, each with two ends
        edges = prior[np.ix_(active[t], active[t])].sum() / 2
        assert float(cut[t].sum()) == 2 * int(0.1 * edges)
    for moved in weights_moved(looks["evolve_gcn"]):
        assert moved[0] == 0 and (moved[1:] > 0).all()
    path, happened = intensity(looks["graph_hawkes"])
    assert (path.isfinite().numpy() == active).all() and not (happened.numpy() & ~active).any()


def test_every_figure_is_followed_by_computed_words(looks):
    """One panel a method with its kind, and a sentence that names each method of the figure."""
    every = {"off_factor": looks["anomaly_transformer"]}
    for draw, told, width in (
        (pictures.draw_temporal, words.temporal_sentence(looks, every), 4),
        (pictures.draw_static, words.static_sentence(looks), 5),
        (pictures.draw_dynamic, words.dynamic_sentence(looks), 3),
        (pictures.draw_memory, words.memory_sentence(looks), 3),
    ):
        fig, axes = plt.subplots(1, width)
        draw(axes, looks)
        for ax in axes:
            assert f"`{ax.get_title().splitlines()[0]}`" in told
            assert ax.has_data()
        plt.close(fig)


@pytest.fixture
def table() -> pd.DataFrame:
    rows = {
        "real_nvp": (1.0, 0.6, 0.2),
        "cola": (0.9, 0.9, 0.95),
        "metric_vmf": (0.5, 0.4, 0.6),
        "new": (0.2, 0.5, 0.64),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["off_factor", "out_of_time", "out_of_group"])


def test_the_conclusion_names_its_exceptions(table):
    told = words.found_sentence(table)
    assert (
        "of 4 methods 2 see at least one kind" in told and "1 of them all 3, and 2 none (`metric_vmf`, `new`)" in told
    )
    assert "and 0 none (nobody)" in words.found_sentence(table.loc[["cola"]])


def test_who_sees_what_and_why_not(table):
    told = words.seen_sentence(table, 20)
    assert "- *off factor*: `real_nvp` 1.00, `cola` 0.90." in told and "- *out of time*: `cola` 0.90." in told
    assert "*none of them*: `metric_vmf`, since it reads returns and volume" in told and "; `new`." in told
