"""Arithmetic and activations of a forward pass, counted: what the paper's appendix C puts at 1.28e6 and 682,000.

Multiply-accumulates of matrix products alone; elementwise work is left out on both sides of every comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from anomaly_routing.model.config import HORIZONS, ModelConfig
from anomaly_routing.model.dynamic_graph import EDGE_WIDTHS, GAT_HEADS, GAT_WIDTH
from anomaly_routing.model.encoder import CONTEXT, SPATIAL
from anomaly_routing.model.experts import CONTAGION, GATE_WIDTHS
from anomaly_routing.model.network import MODULES, PAPER_GROUPS, Network
from anomaly_routing.model.training import Batch, Data
from anomaly_routing.tensors import Tensors


def multiply_accumulates(
    config: ModelConfig, stocks: int, groups: tuple[int, ...] = PAPER_GROUPS, *, plain: bool = False
) -> dict[str, int]:
    """Of one session, by module, from shapes alone. `groups`: category of each feature.

    plain : as the equations are printed (every map on all steps, the edge network on pairs of 640), else as
        `anomaly_routing.model` does it. All pairs of stocks count once: a network that works through the pairs in
        slices of rows (many stocks on a CPU) does the second edge layer twice.
    """
    n, t, f = stocks, config.window, len(groups)
    hidden, width, z = config.lstm_hidden, 2 * config.lstm_hidden, 2 * SPATIAL
    steps = t if plain else 2  # rows on which V and O work: all, or the mean over the steps and the last step
    lstm_in = SPATIAL if config.bilstm_projection else f
    encoder = [
        f * SPATIAL * (t if plain else 1) if config.bilstm_projection else 0,  # a session's rows serve 20 windows
        2 * t * 4 * hidden * (lstm_in + hidden),
        t * width * width * 2 + t * t * width,  # Q, K, Q K'
        steps * t * width * (1 if plain else config.attention_heads),  # weights times V, or times the states
        steps * width * width * 2,  # V, O
        2 * width * SPATIAL + SPATIAL * SPATIAL,
        f * SPATIAL + config.gcn_layers * (n * SPATIAL + SPATIAL * SPATIAL),
        4 * SPATIAL * SPATIAL + 2 * n * SPATIAL,  # cross-modal
        SPATIAL * CONTEXT,
    ]
    first, second = EDGE_WIDTHS
    gat = GAT_HEADS * GAT_WIDTH
    graph = [
        n * (z + CONTEXT),  # cosines
        2 * (z + CONTEXT) * first * (n if plain else 1),
        n * first * second,
        z * gat + n * gat + gat * gat,
    ]
    gate_in = 2 * z + 1 + max(groups) + 1
    experts = [
        4 * z * z + 2 * n * z,
        gate_in * GATE_WIDTHS[0] + GATE_WIDTHS[0] * GATE_WIDTHS[1] + GATE_WIDTHS[1] * (max(groups) + 1),
    ]
    for k in range(max(groups) + 1):
        own, embedding = groups.count(k), SPATIAL if k == CONTAGION else z
        experts.append(config.expert_hidden * ((embedding + own) + config.latent + (embedding + config.latent) + own))
    units = config.decoder_hidden
    decoders = [h * (3 * units * (config.latent + units) + units * f) for h in HORIZONS]
    parts = dict(zip(MODULES, (encoder, graph, experts, decoders), strict=True))
    return {name: n * sum(part) for name, part in parts.items()}


def activation_floats(net: Network, batch: Batch) -> dict[str, int]:
    """Floats that the layers of the plain model put out for one session, by module, by forward hooks.

    An LSTM and a GRU count with their states of all steps. Attention weights and other things between layers are not
    counted, as in the paper.
    """
    from benchmarks.model_reference import Reference

    plain, counted = Reference(net), dict.fromkeys(MODULES, 0)

    def counting(module: str) -> Callable[..., None]:
        def hook(layer: torch.nn.Module, inputs: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
            counted[module] += (output[0] if isinstance(output, tuple) else output).numel()

        return hook

    for name, layer in plain.named_modules():
        if not list(layer.children()) and name:
            module = name.split(".")[0]
            layer.register_forward_hook(counting(module if module in MODULES else "graph"))
    with torch.no_grad():
        plain(batch.x[: net.config.window], batch.active[:1], batch.prior, batch.stress[:1])
    return counted


def counts(config: ModelConfig, tensors: Tensors) -> dict[str, dict[str, int]]:
    """Both, for the first training session of a market, by module."""
    size = len(tensors.tickers), tuple(tensors.categories)
    data = Data(tensors, config, torch.device("cpu"))
    first = int(data.train[0])
    net = Network(len(tensors.features), tensors.categories, config)
    return {
        "multiply_accumulates": multiply_accumulates(config, *size),
        "multiply_accumulates_as_printed": multiply_accumulates(config, *size, plain=True),
        "activation_floats_as_printed": activation_floats(net, data.batch(first, first + 1)),
    }
