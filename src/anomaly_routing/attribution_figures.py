"""The pictures of notebook 08 that need more than a few lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import PathCollection
from matplotlib.colors import Colormap

from anomaly_routing.attribution_checks import REPAIRED, TAUGHT
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
    (REPAIRED, "w"): INK,
}
LEVELS = 8  # of the colour of a weight: few enough to survive the palette of a stored picture
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


def draw_confusion(values: dict[str, dict[str, np.ndarray]], truth: dict[str, np.ndarray]) -> plt.Figure:
    """A row of matrices a set, one a method, shares of each planted mechanism. values : set -> title -> [P, K]; truth :
    set -> [P]. A mechanism that has no column has a row: what it is taken for."""
    short = [name.split("_")[0] for name in mechanisms()]
    columns = max(map(len, values.values()))
    size = (2.5 * columns, 2.6 * len(values))
    fig, axes = plt.subplots(len(values), columns, figsize=size, sharey=True, squeeze=False)
    for ax in axes.ravel():
        ax.set_visible(False)
    for row, (shapes, by_title) in zip(axes, values.items(), strict=True):
        for ax, (title, value) in zip(row, by_title.items(), strict=False):
            matrix = confusion(value, truth[shapes])
            share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
            ax.set_visible(True)
            ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
            for i, j in np.ndindex(share.shape):
                ax.text(j, i, f"{share[i, j]:.0%}", ha="center", va="center", fontsize=8,
                        color="white" if share[i, j] > 0.6 else INK)  # fmt: skip
            ax.set_xticks(range(share.shape[1]), short[: share.shape[1]], rotation=35, ha="right")
            ax.set_yticks(range(len(share)), short[: len(share)])
            ax.set_title(title, fontsize=9.5)
        row[0].set_ylabel(f"planted, set {shapes}")
    for ax in axes[-1]:
        ax.set_xlabel("named")
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
        style |= {"lw": 5, "alpha": 0.35} if key == ("intended", "w_l") else {}  # a band under `w` where both coincide
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
    for (method, (table, error)), colour in zip(tables.items(), (GREEN, ORANGE, PURPLE, RED, INK, BLUE), strict=False):
        ax.plot(table.weight, table.accuracy, "o-", color=colour, label=f"{method}: error {error:.2f}")
        for row in table.itertuples():
            at = {"xytext": (4, -10), "textcoords": "offset points", "fontsize": 7, "color": colour}
            ax.annotate(row.n, (row.weight, row.accuracy), **at)
    ax.plot([0.25, 1], [0.25, 1], color=GREY, ls=":", lw=1)
    ax.set(xlabel="largest weight, mean of the bin", ylabel="share named right", xlim=(0.2, 1.02), ylim=(0, 1.04))
    ax.legend(loc="lower right")
    return fig


@dataclass(frozen=True)
class Spread:
    """A contagion as it is drawn. taught, repaired, network : weight on contagion [D, N], of the gate, of the repaired
    model, of the model as printed. score : the taught gate's [D, N]."""

    planted: Planted
    taught: np.ndarray
    repaired: np.ndarray
    network: np.ndarray
    score: np.ndarray


def draw_contagion(ground: Ground, spread: Spread) -> plt.Figure:
    """A contagion over the prior graph, one panel a session, and the mean weight of reached and of other stocks."""
    tensors, plant = ground.tensors, spread.planted.plant
    reached = plant.graded(len(tensors.tickers))
    days, colours = len(reached), plt.get_cmap("YlGnBu", LEVELS)
    columns = -(-(days + 1) // 2)
    fig, grid = plt.subplots(2, columns, figsize=(3.5 * columns, 7.4))
    axes = grid.ravel()
    for ax in axes[days:-1]:
        ax.axis("off")
    for d, ax in enumerate(axes[:days]):
        dots = _draw_session(ax, ground, reached[d], spread.taught[d], spread.score[d], colours)
        ax.set_title(f"{tensors.sessions[plant.onset + d]:%d %b %Y}: {int(reached[d].sum())} reached", fontsize=9.5)
    bar = fig.colorbar(dots, ax=list(axes), location="bottom", aspect=60, shrink=0.6, pad=0.02)
    bar.set_label("taught weight on contagion; ring and ticker: reached so far; size: score of the taught gate")
    sessions = np.arange(1, days + 1)
    curves = ((spread.taught, RED, TAUGHT), (spread.repaired, GREEN, REPAIRED), (spread.network, BLUE, "as printed"))
    for weights, colour, who in curves:
        for mask, style, what in ((reached, "o-", "reached"), (~reached, "s--", "not reached")):
            mean = [weights[d][mask[d]].mean() if mask[d].any() else np.nan for d in range(days)]
            axes[-1].plot(sessions, mean, style, color=colour, label=f"{who}, {what}", ms=5, lw=2)
    axes[-1].axhline(0.25, color=INK, ls=":", lw=1)
    axes[-1].set(ylim=(0, 1), xlabel="session", title="mean weight on contagion", xticks=sessions)
    axes[-1].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    kind = f"{MECHANISMS[plant.mechanism].label}, set {plant.shapes}, {plant.strength}, {len(plant.stocks)} stocks"
    fig.suptitle(f"Planted: {kind}, from {tensors.sessions[plant.onset]:%d %B %Y}", fontsize=11, x=0.01, ha="left")
    return fig


def _draw_session(
    ax: plt.Axes, ground: Ground, reached: np.ndarray, weight: np.ndarray, score: np.ndarray, colours: Colormap
) -> PathCollection:
    """Stocks on a circle, by sector; the prior graph between those reached, with their tickers."""
    n, sector = len(reached), ground.universe["sector"].to_numpy(object)
    angle = np.argsort(np.argsort(sector, kind="stable")) / n * 2 * np.pi
    place = np.c_[np.cos(angle), np.sin(angle)]
    for i, j in np.argwhere(np.triu(ground.tensors.prior * np.outer(reached, reached)) > 0):
        ax.plot(*place[[i, j]].T, color=GREY, lw=0.8, zorder=0)
    rim = {"edgecolors": np.where(reached, INK, GREY), "linewidths": np.where(reached, 1.4, 0.4)}
    dots = ax.scatter(*place.T, c=weight, s=8 + 90 * score, cmap=colours, vmin=0, vmax=1, **rim)
    mine = np.flatnonzero(reached)
    for k, stock in enumerate(mine[np.argsort(angle[mine])]):  # outside the circle, every other one farther out
        turn, left = np.degrees(angle[stock]), np.cos(angle[stock]) < 0
        way = {"rotation": turn + 180 * left, "rotation_mode": "anchor", "ha": "right" if left else "left"}
        at = (1.08, 1.36)[k % 2] * place[stock]
        ax.text(*at, ground.tensors.tickers[stock], va="center", fontsize=7, color=INK, **way)
    for name in np.unique(sector):
        middle = angle[sector == name].mean()
        label = "".join(word[:2] for word in name.split()) if " " in name else name[:4]
        ax.text(0.8 * np.cos(middle), 0.8 * np.sin(middle), label, ha="center", va="center", fontsize=7, color=GREY)
    ax.set(aspect="equal", xlim=(-1.7, 1.7), ylim=(-1.6, 1.6))
    ax.axis("off")
    return dots
