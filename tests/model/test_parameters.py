"""Trainable parameters per module, as SPEC 12 counts them; presets and starting values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small_networks import PRESETS, mixed, network, parameters

from anomaly_routing.model import config as config_module
from anomaly_routing.model.config import make_config
from anomaly_routing.model.network import build_model

TABLE = {
    "BiLSTM": (["encoder.lstm"], 162_816),
    "self-attention": (["encoder.query", "encoder.key", "encoder.value", "encoder.out"], 262_144),
    "pooling MLP": (["encoder.pool"], 82_176),
    "spatial projection": (["encoder.spatial_in"], 3_840),
    "GCN": (["encoder.gcn"], 33_024),
    "cross-modal": ([f"encoder.cross_{m}" for m in ("query", "key", "value", "out")], 65_536),
    "context": (["encoder.context"], 8_256),
    "edge MLP": (["graph.edge"], 43_104),
    "GAT + projection": (["graph.gat"], 49_536),
    "category LayerNorm": (["experts.category_norm"], 8),
    "gate attention": ([f"experts.gate.{m}" for m in ("query", "key", "value", "out")], 262_144),
    "gate MLP": (["experts.gate.mlp"], 166_020),
    "b_div, tau": (["experts.gate.b_div", "experts.gate.tau_b"], 5),
    "experts": (["experts.expert"], 303_645),
    "GRU decoders": (["decoders"], 234_711),
}
SCALARS = ["graph.stress", "graph.sources", "graph.alpha"]
TOTAL = {"literal": 1_676_974, "intended": 1_676_977}
SWITCHES = {  # SPEC's table, (literal, intended)
    "psi_rule": ("free", "positive"),
    "source_w": ("sigmoid", "stress"),
    "topk_rule": ("soft", "hard"),
    "fusion_scale": ("raw", "row"),
    "gcn_loops": (False, True),
    "tau_rule": ("rising", "falling"),
    "div_sign": (1, -1),
    "score_stats": ("block", "train"),
    "mpi_c3": ("std", "double_std"),
    "mpi_c4": ("std", "agreement"),
}
COMMON = {
    "psi_norm": "train", "window": 20, "lstm_hidden": 128, "bilstm_projection": False, "attention_heads": 4,
    "gcn_layers": 2, "top_k": 20, "latent": 64, "expert_hidden": 128, "decoder_hidden": 128, "gamma1": 0.01,
    "gamma2": 0.001,
}  # fmt: skip


def count(model, prefixes) -> int:
    """Of the tensors whose name is a prefix or goes on after it with a dot."""
    return sum(
        p.numel()
        for name, p in model.named_parameters()
        if p.requires_grad and any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
    )


@pytest.mark.parametrize("module", TABLE)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_module_has_the_parameters_of_the_table(preset, module):
    prefixes, expected = TABLE[module]
    assert count(network(preset), prefixes) == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_the_widths_that_the_specification_names(preset):
    """SPEC 15, test 3: z 256, context 64, gate input 256 + 256 + 1 + 4 = 517, latent 64."""
    model, chunk = network(preset), mixed()
    shapes = model(*chunk.tensors()).shapes()
    b, n = chunk.active.shape
    assert (shapes["z"], shapes["context"], shapes["latent"]) == ((b, n, 256), (b, n, 64), (b, n, 64))
    assert model.experts.gate.mlp[0].in_features == 517


@pytest.mark.parametrize(("preset", "scalars"), [("literal", 9), ("intended", 12)])
def test_the_table_is_complete(preset, scalars):
    model = network(preset)
    assert count(model, SCALARS) == scalars
    assert sum(p.numel() for p in model.parameters()) == TOTAL[preset]
    assert sum(expected for _, expected in TABLE.values()) + scalars == TOTAL[preset]
    table = {name: expected for name, (_, expected) in TABLE.items()} | {"psi, w, alpha": scalars}
    assert model.parameters_by_module() == table
    assert {name for name, _ in model.named_parameters()} == set(model.state_dict())  # nothing is kept besides


@pytest.mark.parametrize(
    ("override", "more"),
    [
        ({"psi_rule": "rank"}, -4),
        ({"source_w": "sigmoid"}, -3),
        ({"bilstm_projection": True}, 268_032 - 162_816),
        ({"expert_hidden": 101}, 239_655 - 303_645),  # AUDIT A75
    ],
)
def test_parameters_of_a_variant(override, more):
    model = build_model("intended", **override)
    assert sum(p.numel() for p in model.parameters()) == TOTAL["intended"] + more


def test_the_projection_brings_the_count_near_the_paper():
    """AUDIT A73: 268,032 against the printed 270K."""
    wide, plain = build_model("intended", bilstm_projection=True), network()
    added = [name for name in wide.state_dict() if name not in plain.state_dict()]
    assert all(name.startswith("encoder.") for name in added)
    assert count(wide, ["encoder.lstm", *added]) == 268_032


@pytest.mark.parametrize(("preset", "column"), [("literal", 0), ("intended", 1)])
def test_a_preset_is_a_column_of_the_table(preset, column):
    got = dataclasses.asdict(make_config(preset))
    assert got == COMMON | config_module.DESIGN | {key: values[column] for key, values in SWITCHES.items()}
    assert {key: config_module.PRESETS[preset][key] for key in SWITCHES} == {k: v[column] for k, v in SWITCHES.items()}
    assert build_model().config == make_config("intended")


@pytest.mark.parametrize(
    ("preset", "overrides", "told"),
    [
        ("printed", {}, ["literal", "intended"]),
        ("intended", {"topk": 3}, ["topk", "top_k"]),
        ("intended", {"topk_rule": "medium"}, ["medium", "soft", "hard"]),
        ("intended", {"div_sign": 0}, ["div_sign"]),
        ("intended", {"div_sign": True}, ["div_sign", "1, -1"]),
        ("intended", {"gcn_loops": 1}, ["gcn_loops is 1", "False, True"]),
        ("intended", {"gamma1": float("inf")}, ["gamma1 is inf", "not negative"]),
        ("intended", {"gamma2": float("nan")}, ["gamma2 is nan", "not negative"]),
        ("intended", {"gamma1": True}, ["gamma1 is True", "not negative"]),
        ("intended", {"top_k": True}, ["top_k is True", "integer from 1 up"]),
        ("intended", {"cut_source": "test"}, ["'val', 'train', 'expanding'"]),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(preset, overrides, told):
    with pytest.raises(ValueError) as error:
        make_config(preset, **overrides)
    assert all(word in str(error.value) for word in told)


@pytest.mark.parametrize("preset", PRESETS)
def test_starting_values(preset):
    start = parameters(network(preset))
    np.testing.assert_allclose(start["experts.gate.b_div"], [0, 0.5, 0.3, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(start["experts.gate.mlp.4.bias"], 0)
    assert start["experts.gate.tau_b"] == 1
    assert (start["graph.alpha.a"], start["graph.alpha.b"]) == (0.5, -0.5)
    if preset == "literal":
        np.testing.assert_array_equal(start["graph.stress.beta"], 1)
        np.testing.assert_array_equal(start["graph.sources.w"], 0)
        assert "graph.sources.v" not in start
    else:
        np.testing.assert_allclose(np.log1p(np.exp(start["graph.stress.beta"])), 1, rtol=1e-6)
        np.testing.assert_array_equal(start["graph.sources.w"], [0, 0, 1])
        np.testing.assert_array_equal(start["graph.sources.v"], [0.5, 0.5, -1])


@pytest.mark.parametrize(
    ("part", "shape", "told"),
    [
        ("x", (21, 9, 28), r"x is \(21, 9, 28\); it must be \[sessions, stocks, 29 features\]"),
        ("x", (19, 9, 29), r"at least the 20 sessions of a window"),
        ("x", (21, 9), r"x is \(21, 9\)"),
        ("active", (3, 9), r"active is \(3, 9\) .* they must be \(2, 9\) and \(2, 4\)"),
        ("active", (2, 8), r"active is \(2, 8\)"),
        ("stress", (2, 3), r"stress \(2, 3\)"),
        ("prior", (9, 8), r"prior is \(9, 8\); x holds 9 stocks, so it must be \(9, 9\)"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(part, shape, told):
    chunk = dict(zip(("x", "active", "prior", "stress"), mixed(9, 2).tensors(), strict=True))
    network()(**chunk)
    with pytest.raises(ValueError, match=told):
        network()(**chunk | {part: torch.ones(shape, dtype=chunk[part].dtype)})


def test_scalars_have_no_axis():
    shapes = {name: value.shape for name, value in parameters(network()).items()}
    assert [shapes[name] for name in ("graph.alpha.a", "graph.alpha.b", "experts.gate.tau_b")] == [(), (), ()]
