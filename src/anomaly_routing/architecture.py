"""Figure 2 drawn from the network itself: what runs (hooks), its shapes, what needs what (autograd)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from anomaly_routing.model.network import FIELDS, Network
from anomaly_routing.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE

LANES = {"1 encoder": ("encoder", BLUE), "2 dynamic graph": ("graph", GREEN), "3 experts": ("experts", PURPLE),
         "4 scoring": ("decoders", ORANGE)}  # fmt: skip


def parts_that_run(net: Network, batch: Sequence[torch.Tensor]) -> pd.DataFrame:
    """One row a part of the network that has parameters: module, part, kind, output shape, trainable parameters.

    The shape is what a forward hook saw on the given batch. A part whose weights are used without a call (folded
    products, `network` docstrings) has no shape of its own: `folded`.
    """
    rows: dict[str, dict[str, Any]] = {}
    leaves = {n: m for n, m in net.named_modules() if n and next(m.parameters(recurse=False), None) is not None}
    order: list[str] = []

    def seen(name: str):
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            rows[name] = {"output": tuple(first.shape)}
            order.append(name)

        return hook

    handles = [module.register_forward_hook(seen(name)) for name, module in leaves.items()]
    try:
        with torch.no_grad():
            net(*batch)
    finally:
        for handle in handles:
            handle.remove()
    table = []
    for name in dict.fromkeys([*order, *leaves]):
        own = sum(p.numel() for p in leaves[name].parameters(recurse=False) if p.requires_grad)
        shape = " x ".join(map(str, rows[name]["output"])) if name in rows else "folded"
        module, part = name.split(".", 1)
        table.append(
            {"module": module, "part": part, "kind": type(leaves[name]).__name__, "output": shape, "parameters": own}
        )
    return pd.DataFrame(table)


def dependencies(net: Network, batch: Sequence[torch.Tensor]) -> dict[str, set[str]]:
    """Field of the output -> fields and inputs that it is made from directly.

    A depends on B when autograd finds a path from A back to B; a path through a third field in between is left out
    (transitive reduction). `rebuilt` is detached by design and has none.
    """
    x, active, prior, stress = batch
    inputs = {"x": x.clone().requires_grad_(), "prior": prior.clone().requires_grad_(),
              "stress": stress.clone().requires_grad_()}  # fmt: skip
    with torch.enable_grad():
        out = net(inputs["x"], active, inputs["prior"], inputs["stress"])
    tensors = inputs | {name: getattr(out, name) for name in FIELDS}
    reach: dict[str, set[str]] = {}
    for name in FIELDS:
        target = tensors[name]
        if not target.requires_grad:
            reach[name] = set()
            continue
        others = [n for n in tensors if n != name and tensors[n].requires_grad]
        found = torch.autograd.grad(target.sum(), [tensors[n] for n in others], retain_graph=True, allow_unused=True)
        reach[name] = {n for n, gradient in zip(others, found, strict=True) if gradient is not None}
    reach |= {name: set() for name in inputs}
    return {a: {b for b in reach[a] if not any(b in reach[c] for c in reach[a] if c != b)} for a in FIELDS}


def draw_architecture(
    net: Network, batch: Sequence[torch.Tensor], size: tuple[float, float] = (5.0, 11.0)
) -> tuple[plt.Figure, dict[str, tuple[int, ...]]]:
    """Figure 2, four lanes from top to bottom, and the shapes that it shows, by field.

    A box is a named field of the network's output, with its shape and the paper's equations; an arrow says that
    autograd reaches from one to the other, `from` the same for what comes from another lane; the foot of a lane lists
    the parts that ran there, with their parameters.
    """
    with torch.no_grad():
        shapes = net(*batch).shapes()
    needs, parts = dependencies(net, batch), parts_that_run(net, batch)
    with plt.rc_context({"figure.constrained_layout.use": False}):
        fig = plt.figure(figsize=size)
    ax = fig.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.axis("off")
    inputs = {"x": (batch[0], "features"), "prior": (batch[2], "sector, state"), "stress": (batch[3], "indicators"),
              "active": (batch[1], "who trades")}  # fmt: skip
    for k, (name, (tensor, note)) in enumerate(inputs.items()):
        _box(ax, (0.13 + 0.247 * k, 0.0), [name, " x ".join(map(str, tensor.shape)), note], INK, 0.23)
    y = -0.62
    for lane, (module, colour) in LANES.items():
        fields, own = [f for f, (m, _, _) in FIELDS.items() if m == lane], parts[parts.module == module]
        boxes, top, y = {}, y, y - 1.02
        for row in _rows(fields, needs):
            for k, f in enumerate(row):
                boxes[f] = (0.5 + (k - (len(row) - 1) / 2) * 0.325, y)
                outside = [s for s in sorted(needs[f]) if s not in fields]
                lines = [f, " x ".join(map(str, shapes[f])), f"equation {FIELDS[f][1]}"]
                _box(ax, boxes[f], lines + ([f"from {', '.join(outside)}"] if outside else []), colour, 0.30)
            y -= 1.2
        for target in fields:
            for source in sorted(needs[target] & set(fields)):
                _arrow(ax, boxes[source], boxes[target])
        text = _listing(own)
        ax.text(0.03, y + 0.64, text, fontsize=6.8, va="top", color=INK, linespacing=1.2)
        bottom = y + 0.52 - 0.22 * (text.count("\n") + 1)
        ax.add_patch(FancyBboxPatch((0.012, bottom), 0.976, top - bottom, boxstyle="round,pad=0,rounding_size=0.012",
                                    fc=colour, ec=colour, alpha=0.1, lw=0.8, zorder=0, mutation_aspect=14))  # fmt: skip
        title = f"Module {lane}: {int(own.parameters.sum()):,} parameters"
        ax.text(0.03, top - 0.1, title, fontsize=9.5, weight="bold", va="top", color=colour)
        y = bottom - 0.12
    ax.set(xlim=(0, 1), ylim=(y, 0.55))
    return fig, shapes


def _rows(fields: list[str], needs: dict[str, set[str]]) -> list[list[str]]:
    """The fields of a lane in rows of at most three, each below all that it is made from."""
    level: dict[str, int] = {}
    for name in fields:  # in the order of computation, so ancestors are known
        level[name] = 1 + max((level[s] for s in needs[name] if s in level), default=0)
    for name in reversed(fields):  # as late as what is made from it allows: short arrows
        after = [level[f] for f in fields if name in needs[f]]
        level[name] = min(after) - 1 if after else level[name]
    for name in fields:
        if not needs[name]:  # detached: beside what is computed before it
            level[name] = level[fields[fields.index(name) - 1]]
    ordered = [[f for f in fields if level[f] == k] for k in range(1, max(level.values()) + 1)]
    return [row[at : at + 3] for row in ordered for at in range(0, len(row), 3)]


def _box(ax: plt.Axes, at: tuple[float, float], lines: list[str], colour: str, width: float) -> None:
    """A rounded box with a name, a shape and notes."""
    ax.add_patch(FancyBboxPatch((at[0] - width / 2, at[1] - 0.46), width, 0.92, fc="white", ec=colour, lw=1.1,
                                boxstyle="round,pad=0,rounding_size=0.012", zorder=3, mutation_aspect=14))  # fmt: skip
    for k, line in enumerate(lines):
        size, weight, colour = ((8.2, "bold", INK), (7.2, "normal", INK), (6.2, "normal", GREY), (6.2, "normal", INK))[
            k
        ]
        y = at[1] + (0.5 * (len(lines) - 1) - k) * 0.22
        ax.text(at[0], y, line, fontsize=size, weight=weight, color=colour, ha="center", va="center", zorder=4)


def _arrow(ax: plt.Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From the foot of one box to the head of another, bent around what lies between."""
    if abs(start[1] - end[1]) < 0.1:  # side by side
        side = 0.15 * np.sign(end[0] - start[0])
        a, b, bend = (start[0] + side, start[1]), (end[0] - side, end[1]), 0.0
    else:
        far = start[1] - end[1] > 1.5
        shift = 0.08 if far else 0.0
        a, b, bend = (start[0] + shift, start[1] - 0.46), (end[0] + shift, end[1] + 0.46), -0.55 if far else 0.0
    ax.add_patch(FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=8, lw=0.8, color=INK, alpha=0.7, zorder=2,
                                 shrinkA=0, shrinkB=1, connectionstyle=f"arc3,rad={bend}"))  # fmt: skip


def _listing(own: pd.DataFrame, width: int = 88) -> str:
    """The parts of a lane as wrapped text, `lstm 162,816`; parts of one block are added up."""
    sizes = (
        own.assign(block=own.part.str.split(".").str[0]).groupby("block", sort=False).parameters.agg(["sum", "size"])
    )
    lines, line = [], ""
    for block, row in sizes.iterrows():
        times = f" ({row['size']} parts)" if row["size"] > 1 else ""
        word = f"{block}{times} {row['sum']:,}"
        if line and len(line) + len(word) > width:
            lines, line = [*lines, line], ""
        line += ("; " if line else "") + word
    return "\n".join([*lines, line])
