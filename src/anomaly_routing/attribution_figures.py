"""The pictures of notebook 08 that need more than a few lines."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from anomaly_routing.data.plants import MECHANISMS, PAPER, alter
from anomaly_routing.evaluation.injection import confusion
from anomaly_routing.planting import Ground, Planted
from anomaly_routing.plots import BLUE, CHANCE, GREEN, GREY, GROUP_COLOURS, INK

SHORT = ("price", "liquidity", "contagion", "momentum")


def draw_plants(ground: Ground, planted: list[Planted]) -> plt.Figure:
    """What the longest plant of each mechanism does to prices, volume and range, against the undisturbed bars."""
    fig, axes = plt.subplots(3, len(PAPER), figsize=(10.5, 5.4), sharex="col")
    old, tensors = ground.bars.columns, ground.tensors
    for column, mechanism in enumerate(PAPER):
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
            ax.plot(day, values, color=GROUP_COLOURS[mechanism], lw=1, alpha=0.7)
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
    """One matrix a method, shares of each planted mechanism. values : title -> [P, 4]."""
    fig, axes = plt.subplots(1, len(values), figsize=(2.6 * len(values), 3.3), sharey=True)
    for ax, (title, value) in zip(np.atleast_1d(axes), values.items(), strict=True):
        matrix = confusion(value, truth)
        share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(4, 4):
            ax.text(j, i, f"{share[i, j]:.0%}", ha="center", va="center", fontsize=8,
                    color="white" if share[i, j] > 0.6 else INK)  # fmt: skip
        ax.set_xticks(range(4), SHORT, rotation=35, ha="right")
        ax.set_yticks(range(4), SHORT)
        ax.set_title(title, fontsize=9.5)
        ax.set_xlabel("named")
    np.atleast_1d(axes)[0].set_ylabel("planted")
    return fig


def draw_contagion(
    ground: Ground, p: Planted, taught: np.ndarray, printed: np.ndarray, score: np.ndarray
) -> plt.Figure:
    """A contagion over the prior graph, one panel a session. taught, printed : weight on contagion [D, N]."""
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
    for weights, colour, text in ((taught, GREEN, "taught"), (printed, BLUE, "as printed")):
        mean = [weights[d][reached[d]].mean() for d in range(days)]
        axes[-1].plot(sessions, mean, "o-", color=colour, label=text, ms=4)
    axes[-1].axhline(0.25, color=CHANCE, ls=":", lw=1)
    axes[-1].set(ylim=(0, 1), xlabel="session", title="weight on contagion", xticks=sessions)
    axes[-1].legend(fontsize=7.5)
    return fig
