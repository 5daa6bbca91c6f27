"""Which layers have as many parameters as the paper prints, and how many numbers a forward pass makes (A73-A78)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

SIZES = (6, 8, 7, 8)  # features of the four categories


def linear(inside: int, outside: int, bias: bool = True) -> int:
    return inside * outside + outside * bias


def mlp(*sizes: int) -> int:
    return sum(linear(a, b) for a, b in pairwise(sizes))


def lstm(inside: int, hidden: int, directions: int = 2) -> int:
    """One layer with both bias vectors, as the usual libraries build it."""
    return directions * 4 * (hidden * (inside + hidden) + 2 * hidden)


def gru(inside: int, hidden: int) -> int:
    return 3 * (hidden * (inside + hidden) + 2 * hidden)


def attention(width: int) -> int:
    """Query, key, value and output maps without bias."""
    return 4 * width**2


def expert(embedding: int, features: int, hidden: int, latent: int) -> int:
    """Encoder (embedding and features to latent) and decoder (embedding and latent to features), one hidden layer."""
    return mlp(embedding + features, hidden, latent) + mlp(embedding + latent, hidden, features)


def experts(hidden: int = 128, latent: int = 64, sizes: Sequence[int] = SIZES) -> int:
    """Four experts on z (256), the third on h_spat (128)."""
    return sum(expert(128 if place == 2 else 256, d, hidden, latent) for place, d in enumerate(sizes))


def gat(inside: int, heads: int, width: int, both_sides: bool = False) -> int:
    """Graph attention without bias and its output projection with; `both_sides` has a map for each end of an edge."""
    own = heads * width
    maps = 2 * (inside * own + own) + own if both_sides else inside * own + 2 * own
    return maps + linear(own, own)


def readings() -> pd.DataFrame:
    """Candidate architectures for each printed count: part (the claim's ending), reading, parameters."""
    rows = [
        ("bilstm", "29 -> 128, one layer", lstm(29, 128)),
        ("bilstm", "two layers", lstm(29, 128) + lstm(256, 128)),
        ("bilstm", "29 -> 128 linear, then one layer", linear(29, 128) + lstm(128, 128)),
        ("selfattn", "four maps 256 x 256, no bias", attention(256)),
        ("gcn", "two maps 128 x 128, no bias", 2 * linear(128, 128, bias=False)),
        ("gcn", "with bias", 2 * linear(128, 128)),
        ("gat", "4 heads x 32 and projection", gat(256, 4, 32)),
        ("gat", "a map for each end of an edge (GATv2)", gat(256, 4, 32, both_sides=True)),
        ("gat", "first layer 640 -> 128 of an edge network, no bias", linear(640, 128, bias=False)),
        ("gating", "517-256-128-4", mlp(517, 256, 128, 4)),
        ("gating", "its first two layers, weights only", 517 * 256 + 256 * 128),
        ("experts", "hidden 128", experts(128)),
        ("experts", "hidden 101", experts(101)),
        ("experts", "hidden 96", experts(96)),
        ("gru", "three GRU 64 -> 128 and outputs", 3 * (gru(64, 128) + linear(128, 29))),
        ("gru", "the three outputs 128 -> 29 alone", 3 * linear(128, 29)),
        ("gru", "one GRU 64 -> 128", gru(64, 128)),
    ]
    return pd.DataFrame(rows, columns=["part", "reading", "parameters"])


def nearest(printed: dict[str, float]) -> pd.DataFrame:
    """`readings` with the printed count and the relative distance; the nearest of each part is marked."""
    table = readings()
    table["printed"] = [printed[part] for part in table.part]
    table["off"] = table.parameters / table.printed - 1
    table["nearest"] = table.off.abs() == table.groupby("part").off.transform(lambda x: x.abs().min())
    return table


def activations(stocks: int, window: int = 20, embedding: int = 256, features: int = 29) -> dict[str, int]:
    """Numbers that one session stores in the readings that come close to the printed ones (A77)."""
    return {
        "m1": stocks * window * embedding,
        "m2 edges alone": stocks**2 * (2 * embedding + 2 * 64),
        "m3": stocks * 2 * embedding,
        "m4": stocks * features * 3,
    }


def operations(stocks: int = 100, window: int = 20, width: int = 128, k: int = 20) -> dict[str, float]:
    """Multiply-accumulates of one session: the paper's own orders, and the maps that it leaves out (A78)."""
    per_day = {
        "N^2 d": stocks**2 * width,
        "N T^2 d": stocks * window**2 * width,
        "BiLSTM": stocks * window * 2 * 4 * width * (29 + width),
        "four attention maps": stocks * window * attention(2 * width),
        "edge network": stocks**2 * (640 * 64 + 64 * 32),
        "gate attention, logits and mix": 2 * stocks**2 * 2 * width,
    }
    return per_day | {"N^2 k": float(stocks**2 * k)}
