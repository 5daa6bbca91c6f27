"""The pictures of notebook 08 that need more than a few lines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from anomaly_routing.data.plants import MECHANISMS, STRENGTHS, alter, mechanisms
from anomaly_routing.evaluation.injection import confusion
from anomaly_routing.planting import Ground, Planted
from anomaly_routing.plots import BLUE, CHANCE, GREEN, GREY, GROUP_COLOURS, INK, ORANGE, PURPLE, RED, SKY

CURVES = {
    ("taught gate", "w"): GREEN,
    ("largest mean |feature|", "signal"): ORANGE,
    ("intended", "l"): SKY,
    ("intended", "w_l"): PURPLE,
    ("intended", "w"): BLUE,
    ("literal", "w"): RED,
}
ADDED = GREEN  # colour of a mechanism that the paper does not have


def draw_plants(ground: Ground, planted: list[Planted]) -> plt.Figure:
    """What the longest plant of each mechanism does to prices, volume and range, against the undisturbed bars."""
    names = list(dict.fromkeys(p.plant.mechanism for p in planted))
    fig, axes = plt.subplots(3, len(names), figsize=(2.6 * len(names), 5.4), sharex="col", squeeze=False)
    old, tensors = ground.bars.columns, ground.tensors
    for column, mechanism in enumerate(names):
        mine = [p.plant for p in planted if p.plant.mechanism == mechanism]
        plant = max(mine, key=lambda p: (p.sessions, len(p.stocks)))
        now, span = alter(ground.bars, [plant]).columns, slice(plant.first - 3, plant.last + 4)
        day, stocks = np.arange(len(tensors.sessions))[span] - plant.onset, list(plant.stocks)[:6]
        sd = np.nanstd(tensors.returns[tensors.train][:, stocks], axis=0)
        price, volume, wide, usual = (
            a[span][:, stocks]
            for a in (
                np.log(now["adj_close"] / old["adj_close"]),
                now["volume"] / old["volume"],
                np.log(now["high"] / now["low"]),
                np.log(old["high"] / old["low"]),
            )
        )
        for ax, values in zip(axes[:, column], (price / sd, volume, wide / np.maximum(usual, 1e-4)), strict=True):
            ax.plot(day, values, color=GROUP_COLOURS.get(mechanism, ADDED), lw=1, alpha=0.7)
            ax.axvspan(-0.5, plant.sessions - 0.5, color=GREY, alpha=0.15, lw=0)
            if np.ptp(values) < 0.1:  # unchanged: no zoom into rounding
                ax.set_ylim(values.mean() - 1, values.mean() + 1)
        axes[0, column].set_title(MECHANISMS[mechanism].label)
        axes[2, column].xaxis.get_major_locator().set_params(integer=True)
        axes[2, column].set_xlabel("sessions from the onset")
    for ax, text in zip(axes[:, 0], ("price change, sd", "volume, factor", "range, factor"), strict=True):
        ax.set_ylabel(text)
    return fig


def draw_confusion(values: dict[str, np.ndarray], truth: np.ndarray) -> plt.Figure:
    """One matrix a method, shares of each planted mechanism. values : title -> [P, K]. A mechanism that has no column
    has a row: what it is taken for."""
    short = [name.split("_")[0] for name in mechanisms()]
    fig, axes = plt.subplots(1, len(values), figsize=(2.6 * len(values), 3.3), sharey=True)
    for ax, (title, value) in zip(np.atleast_1d(axes), values.items(), strict=True):
        matrix = confusion(value, truth)
        share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(share.shape):
            ax.text(j, i, f"{share[i, j]:.0%}", ha="center", va="center", fontsize=8,
                    color="white" if share[i, j] > 0.6 else INK)  # fmt: skip
        ax.set_xticks(range(share.shape[1]), short[: share.shape[1]], rotation=35, ha="right")
        ax.set_yticks(range(len(share)), short[: len(share)])
        ax.set_title(title, fontsize=9.5)
        ax.set_xlabel("named")
    np.atleast_1d(axes)[0].set_ylabel("planted")
    return fig


def draw_strength(
    results: dict[tuple[str, str], dict[str, Any]], strength: np.ndarray, networks: Iterable[str]
) -> plt.Figure:
    """Accuracy and AUROC by strength. results : (method, reading) -> `attribution.summary`; strength : of plants."""
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8))
    order = [s for s in STRENGTHS if s in strength]
    for key, colour in {k: c for k, c in CURVES.items() if k in results}.items():
        found = [results[key]["by_strength"][s] for s in order]
        low, high = np.array([f["top1_interval"] for f in found]).T
        style = {"color": colour, "marker": "o", "ms": 4, "lw": 1.4, "ls": "--" if key[0] == "literal" else "-"}
        of_net = key[0] in networks
        axes[0].plot(order, [f["top1"] for f in found], label=", ".join(key) if of_net else key[0], **style)
        if not of_net:
            axes[0].fill_between(order, low, high, color=colour, alpha=0.13, lw=0)
        if key[1] in ("w", "signal"):
            axes[1].plot(order, [f["auroc"] for f in found], label=f"{key[0]}, E" if of_net else key[0], **style)
    axes[0].axhline(0.25, color=CHANCE, ls=":", lw=1)
    axes[0].set(title="mechanism named right", ylim=(0, 1.02), ylabel="share of plants")
    axes[1].set(title="planted stock-days against calm ones", ylim=(0.45, 1.02), ylabel="AUROC")
    for ax, columns in zip(axes, (3, 2), strict=True):
        ax.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=columns)
    return fig


def draw_calibration(tables: dict[str, tuple[pd.DataFrame, float]]) -> plt.Figure:
    """Reliability of the largest weight; tables : method -> `evaluation.injection.calibration`."""
    fig, ax = plt.subplots(figsize=(5.2, 4.0))
    for (method, (table, error)), colour in zip(tables.items(), (GREEN, BLUE), strict=False):
        ax.plot(table.weight, table.accuracy, "o-", color=colour, label=f"{method}: error {error:.2f}")
        for row in table.itertuples():
            at = {"xytext": (4, -10), "textcoords": "offset points", "fontsize": 7, "color": colour}
            ax.annotate(row.n, (row.weight, row.accuracy), **at)
    ax.plot([0.25, 1], [0.25, 1], color=GREY, ls=":", lw=1)
    ax.set(xlabel="largest weight, mean of the bin", ylabel="share named right", xlim=(0.2, 1.02), ylim=(0, 1.04))
    ax.legend(loc="lower right")
    return fig


def draw_contagion(
    ground: Ground, p: Planted, taught: np.ndarray, network: np.ndarray, score: np.ndarray
) -> plt.Figure:
    """A contagion over the prior graph, one panel a session. taught, network : weight on contagion [D, N]."""
    tensors = ground.tensors
    n = len(tensors.tickers)
    reached = p.plant.graded(n)
    angle = np.argsort(np.argsort(ground.universe["sector"].to_numpy(object), kind="stable")) / n * 2 * np.pi
    place = np.c_[np.cos(angle), np.sin(angle)]
    days = len(reached)
    fig, axes = plt.subplots(1, days + 1, figsize=(2.1 * days + 2.9, 2.8), width_ratios=[1] * days + [1.3])
    for d, ax in enumerate(axes[:-1]):
        for i, j in np.argwhere(np.triu(tensors.prior * np.outer(reached[d], reached[d])) > 0):
            ax.plot(*place[[i, j]].T, color=GREY, lw=0.6, alpha=0.6, zorder=0)
        rim = {"edgecolors": np.where(reached[d], INK, "#CCCCCC"), "linewidths": np.where(reached[d], 1.2, 0.3)}
        size = (8 + 60 * score[d]) * min(1.0, 48 / n)
        ax.scatter(*place.T, c=taught[d], s=size, cmap="Purples", vmin=0, vmax=1, **rim)
        ax.set_title(f"session {d + 1}: {int(reached[d].sum())} reached", fontsize=9)
        ax.set_aspect("equal")
        ax.axis("off")
    sessions = np.arange(1, days + 1)
    for weights, colour, text in ((taught, GREEN, "taught"), (network, BLUE, "network")):
        mean = [weights[d][reached[d]].mean() for d in range(days)]
        axes[-1].plot(sessions, mean, "o-", color=colour, label=text, ms=4)
    axes[-1].axhline(0.25, color=CHANCE, ls=":", lw=1)
    axes[-1].set(ylim=(0, 1), xlabel="session", title="weight on contagion", xticks=sessions)
    axes[-1].legend(fontsize=7.5)
    return fig
