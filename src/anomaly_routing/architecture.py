"""Figure 2 drawn from the network itself: what runs (hooks), its shapes, what needs what (autograd)."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from anomaly_routing.model.network import FIELDS, Network
from anomaly_routing.model.pressure_index import LEVELS, alert_levels, components, pressure_index
from anomaly_routing.model.scoring import scores
from anomaly_routing.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE

LANES = {"1 encoder": ("encoder", BLUE), "2 dynamic graph": ("graph", GREEN), "3 experts": ("experts", PURPLE),
         "4 scoring": ("decoders", ORANGE)}  # fmt: skip
AFTER = {"score": "equation 15, 53", "mpi": "equation 16, 54", "level": "quantiles"}  # without parameters or gradient
HEIGHT, ROW = 1.5, 1.85  # of a box; from one row to the next


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

    A depends on B when a path of autograd leads from A back to B without passing through a third field, so a direct
    arrow stays beside a longer way. `rebuilt` is detached by design and has none. `active`, a mask, has no gradient.
    """
    x, active, prior, stress = batch
    inputs = {"x": x, "prior": prior, "stress": stress}
    inputs = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    with torch.enable_grad():
        out = net(inputs["x"], active, inputs["prior"], inputs["stress"])
    made_by = {getattr(out, name).grad_fn: name for name in FIELDS if getattr(out, name).requires_grad}
    leaves = {id(tensor): name for name, tensor in inputs.items()}
    needs: dict[str, set[str]] = {name: set() for name in FIELDS}
    for start, field in made_by.items():
        waiting, seen = [start], {start}
        while waiting:
            for node, _ in waiting.pop().next_functions:
                if node is None or node in seen:
                    continue
                seen.add(node)
                name = made_by.get(node) or leaves.get(id(getattr(node, "variable", None)))
                needs[field] |= {name} if name else set()
                waiting += [] if name else [node]
    return needs


def after_the_network(
    net: Network, batch: Sequence[torch.Tensor], mu: float = 0.0, sigma: float = 1.0
) -> tuple[dict[str, tuple[int, ...]], dict[str, set[str]]]:
    """Shape of score, mpi and level, and what each is made from: the arguments that its function takes.

    mu, sigma : of the validation errors, which leave the shapes as they are.
    """
    with torch.no_grad():
        out = net(*batch)
    known = {name: getattr(out, name).numpy() for name in FIELDS} | {"active": batch[1].numpy()}
    known["score"] = scores(known["error"], known["active"], mu, sigma)
    parts = components(*(known[n] for n in ("score", "active", "routing", "psi")), 0.5, net.config)
    known["mpi"] = pressure_index(parts, known["routing"].shape[-1])
    known["level"] = alert_levels(known["mpi"], np.array(LEVELS))
    takes = {"score": scores, "mpi": components, "level": alert_levels}
    needs = {name: set(signature(f).parameters) & set(known) - {"active"} for name, f in takes.items()}
    return {name: known[name].shape for name in takes}, needs


def draw_architecture(
    net: Network, batch: Sequence[torch.Tensor], size: tuple[float, float] = (5.4, 15.6)
) -> tuple[plt.Figure, dict[str, tuple[int, ...]]]:
    """Figure 2, four lanes from top to bottom, and the shapes that it shows, by field.

    A box is a named field of the network's output, with its shape and the paper's equations; an arrow says that it is
    made from the other directly, `from` the same for what comes from another lane or stands far above. The last three
    boxes are computed after the network. The foot of a lane lists the parts that ran there, with their parameters.
    """
    with torch.no_grad():
        shapes = net(*batch).shapes()
    (late, uses), parts = after_the_network(net, batch), parts_that_run(net, batch)
    needs, shapes = dependencies(net, batch) | uses, shapes | late
    with plt.rc_context({"figure.constrained_layout.use": False}):
        fig = plt.figure(figsize=size)
    ax = fig.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.axis("off")
    inputs = {"x": (batch[0], "features"), "prior": (batch[2], "sector, state"), "stress": (batch[3], "indicators"),
              "active": (batch[1], "who trades")}  # fmt: skip
    for k, (name, (tensor, note)) in enumerate(inputs.items()):
        _box(ax, (0.13 + 0.247 * k, 0.0), [name, " x ".join(map(str, tensor.shape)), note], INK, 0.23)
    y = -0.87
    for lane, (module, colour) in LANES.items():
        own = parts[parts.module == module]
        fields = [f for f, (m, _, _) in FIELDS.items() if m == lane] + (list(AFTER) if lane == list(LANES)[-1] else [])
        top, y = y, y - 1.3
        boxes = _boxes(_rows(fields, needs), y)
        arrows = {(s, f) for f in fields for s in needs[f] & set(fields) if boxes[s][1] - boxes[f][1] < 1.1 * ROW}
        for f, place in boxes.items():
            note = AFTER[f] if f in AFTER else f"equation {FIELDS[f][1]}"
            lines = [f, " x ".join(map(str, shapes[f])), note]
            elsewhere = [s for s in sorted(needs[f]) if (s, f) not in arrows]
            below = f"from {', '.join(elsewhere)}" if elsewhere else "" if needs[f] else "detached"
            _box(ax, place, lines + ([below] if below else []), colour, 0.31)
        for source, target in sorted(arrows):
            _arrow(ax, boxes[source], boxes[target])
        y = min(at for _, at in boxes.values()) - HEIGHT / 2 - 0.12
        text = _listing(own)
        ax.text(0.03, y, text, fontsize=7.5, va="top", color=INK, linespacing=1.2)
        bottom = y - 0.12 - 0.29 * (text.count("\n") + 1)
        ax.add_patch(FancyBboxPatch((0.012, bottom), 0.976, top - bottom, boxstyle="round,pad=0,rounding_size=0.012",
                                    fc=colour, ec=colour, alpha=0.1, lw=0.8, zorder=0, mutation_aspect=14))  # fmt: skip
        title = f"Module {lane}: {int(own.parameters.sum()):,} parameters"
        ax.text(0.03, top - 0.1, title, fontsize=9.5, weight="bold", va="top", color=colour)
        y = bottom - 0.12
    ax.set(xlim=(0, 1), ylim=(y, 0.8))
    return fig, shapes


def _boxes(rows: list[list[str]], top: float) -> dict[str, tuple[float, float]]:
    """Middle of every box, rows centred, the first one at `top`."""
    return {
        name: (0.5 + (k - (len(row) - 1) / 2) * 0.325, top - ROW * r)
        for r, row in enumerate(rows)
        for k, name in enumerate(row)
    }


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
    ax.add_patch(FancyBboxPatch((at[0] - width / 2, at[1] - HEIGHT / 2), width, HEIGHT, fc="white", ec=colour, lw=1.1,
                                boxstyle="round,pad=0,rounding_size=0.012", zorder=3, mutation_aspect=14))  # fmt: skip
    looks = ((8.8, "bold", INK), (7.8, "normal", INK), (7.5, "normal", GREY), (7.5, "normal", INK))
    for k, (line, (size, weight, colour)) in enumerate(zip(lines, looks, strict=False)):
        y = at[1] + (0.5 * (len(lines) - 1) - k) * 0.31
        ax.text(at[0], y, line, fontsize=size, weight=weight, color=colour, ha="center", va="center", zorder=4)


def _arrow(ax: plt.Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From the foot of one box to the head of another below it, or from side to side."""
    if abs(start[1] - end[1]) < 0.1:
        side = 0.155 * np.sign(end[0] - start[0])
        a, b = (start[0] + side, start[1]), (end[0] - side, end[1])
    else:
        a, b = (start[0], start[1] - HEIGHT / 2), (end[0], end[1] + HEIGHT / 2)
    ax.add_patch(FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=8, lw=0.8, color=INK, alpha=0.7, zorder=2,
                                 shrinkA=0, shrinkB=1))  # fmt: skip


def _listing(own: pd.DataFrame, width: int = 78) -> str:
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
