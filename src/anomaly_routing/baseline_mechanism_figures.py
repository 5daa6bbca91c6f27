"""Pictures of notebook 04: a detector's own inner quantity on the toy market, planted against ordinary stock-days."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter
from torch import Tensor

from anomaly_routing.baseline_mechanisms import (
    ORDINARY,
    PLANTED,
    Look,
    associations,
    at_home,
    edges_cut,
    intensity,
    own_weight,
    pulled,
    two_errors,
    weights_moved,
    window_errors,
)
from anomaly_routing.plots import BLUE, GREY, INK, ORANGE, PURPLE, RED

COLOURS = {ORDINARY: GREY, PLANTED: RED}
SHOWN = 400  # ordinary stock-days of a scatter plot, the last ones
LAST = 120  # sessions of an intensity


def draw_temporal(axes: np.ndarray, looks: Mapping[str, Look]) -> None:
    """Four panels: errors by session of the window, associations, two phases, two heads."""
    _window_errors(axes[0], looks["lstm_ae"])
    _associations(axes[1], looks["anomaly_transformer"])
    scatter(axes[2], looks["tranad"], *two_errors(looks["tranad"]), log=True)
    scatter(axes[3], looks["mtad_gat"], *two_errors(looks["mtad_gat"]), log=True)
    axes[2].set(xlabel="first error", ylabel="second error")
    axes[3].set(xlabel="forecast error", ylabel="how improbable")
    _title(axes, looks, ("lstm_ae", "anomaly_transformer", "tranad", "mtad_gat"))


def draw_static(axes: np.ndarray, looks: Mapping[str, Look]) -> None:
    """Five panels: a planted stock rebuilt as its neighbours' average, weight on itself, two errors twice, at home?"""
    _pulled(axes[0], looks["gcn_ae"])
    scatter(axes[1], looks["gat_ae"], own_weight(looks["gat_ae"])[0], looks["gat_ae"].score)
    axes[1].set(yscale="log", xlabel="last layer's weight on itself", ylabel="mean squared error")
    for ax, m in ((axes[2], "dominant"), (axes[3], "anomaly_dae")):
        scatter(ax, looks[m], *two_errors(looks[m]))
        ax.set(xlabel="error of the features", ylabel="error of the links")
    home = at_home(looks["cola"])
    for said, marked in looks["cola"].rows.items():
        axes[4].hist(
            home[marked], 25, range=(0, 1), density=True, histtype="step", color=COLOURS[said], lw=1.3, label=said
        )
    axes[4].set(xlabel="probability: its own", ylabel="density")
    _title(axes, looks, ("gcn_ae", "gat_ae", "dominant", "anomaly_dae", "cola"))


def draw_dynamic(axes: np.ndarray, looks: Mapping[str, Look]) -> None:
    """Three panels: the way of the weights, edges pruned, an intensity and its events."""
    for moved, colour, said in zip(
        weights_moved(looks["evolve_gcn"]), (BLUE, ORANGE), ("first layer", "second layer"), strict=True
    ):
        axes[0].plot(moved, "o-", color=colour, label=said)
    axes[0].set(title="evolve_gcn", xlabel="session of the sample", ylabel="way from the first, share of norm")
    cut = looks["ghrn_star"].means(edges_cut(looks["ghrn_star"]))
    axes[1].bar(list(cut), list(cut.values()), color=[COLOURS[said] for said in cut])
    axes[1].set(ylabel="edges pruned a stock-day")
    path, happened = intensity(looks["graph_hawkes"])
    events = happened[-LAST:, 0].nonzero()[:, 0]
    axes[2].plot(path[-LAST:, 0], color=PURPLE, lw=1, label="intensity")
    axes[2].plot(events, np.zeros(len(events)), "|", color=INK, ms=10, label="event")
    axes[2].set(xlabel="session", ylabel="events a session")
    _title(axes[1:], looks, ("ghrn_star", "graph_hawkes"))
    for ax in axes[[0, 2]]:
        ax.legend(fontsize=7)


def draw_memory(axes: np.ndarray, looks: Mapping[str, Look]) -> None:
    """Three panels of scores by session, with the line below which a row enters or is not set aside."""
    for ax, m in zip(axes, ("memstream", "robust_autoencoder", "real_nvp"), strict=True):
        look = looks[m]
        first = look.toy.first
        day = np.arange(first, len(look.score))
        for (said, marked), size in zip(look.rows.items(), (3, 6), strict=True):
            shown = look.score.where(marked, np.nan)[first:]
            lines = ax.plot(day, shown, ".", ms=size, color=COLOURS[said])
            lines[0].set_label(said)
        ax.set(xlabel="session", ylabel="score")
    for ax in axes[:2]:
        ax.set_ylim(0, 1.3 * ax.get_ylim()[1])  # room for the legend
    axes[2].set_yscale("symlog", linthresh=10)
    axes[0].axhline(float(looks["memstream"].net.beta), color=BLUE, lw=1, label="enters the memory below")
    axes[1].axhline(looks["robust_autoencoder"].detector.flag_threshold, color=BLUE, lw=1, label="set aside above")
    _title(axes, looks, ("memstream", "robust_autoencoder", "real_nvp"))


def scatter(ax: plt.Axes, look: Look, x: Tensor, y: Tensor, log: bool = False) -> None:
    """Two quantities [S, N] of the stock-days against each other."""
    for said, marked in look.rows.items():
        ax.plot(x[marked][-SHOWN:], y[marked][-SHOWN:], ".", ms=4, color=COLOURS[said], label=said)
    if log:
        ax.set(xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_minor_formatter(NullFormatter())


def _window_errors(ax: plt.Axes, look: Look) -> None:
    errors = window_errors(look)
    session = np.arange(1 - len(errors[ORDINARY]), 1)
    for said, colour in COLOURS.items():
        ax.plot(session, errors[said], "o-", ms=2.5, color=colour, label=said)
    ax.plot(session, errors["taught"], "--", color=GREY, lw=1, label="ordinary, fed the truth")
    ax.plot(session, errors["size"], ":", color=INK, lw=1, label="ordinary, rebuilt as 0")
    top = 1.5 * max(values.max() for values in errors.values())  # room for the legend
    ax.set(xlabel="session of the window, 0 is judged", ylabel="mean squared error", ylim=(0, top))


def _associations(ax: plt.Axes, look: Look) -> None:
    found = associations(look)
    session = np.arange(1 - len(found.series[ORDINARY]), 1)
    for said, colour in COLOURS.items():
        ax.plot(session, found.series[said], color=colour, label=f"series, {said}")
        dashes = (0, (1, 3)) if said == "planted" else (1.5, (1, 3))  # side by side where they coincide
        ax.plot(session, found.prior[said], ls=dashes, lw=1.8, color=colour, label=f"prior, {said}")
    ax.set(xlabel="session of the window, 0 is judged", ylabel="weight given by the last")


def _pulled(ax: plt.Axes, look: Look) -> None:
    """The planted stock-day with the largest error, feature by feature."""
    built, around, _ = pulled(look)
    worst = int(look.score.where(look.rows[PLANTED], -np.inf).argmax())
    session, stock = np.unravel_index(worst, look.score.shape)
    for values, style, said in (
        (look.batch.now, {"color": RED, "marker": "o"}, "planted"),
        (built, {"color": BLUE, "marker": "o"}, "rebuilt"),
        (around, {"color": INK, "ls": ":"}, "neighbours' average"),
    ):
        ax.plot(values[session, stock], ms=3, label=said, **style)
    ax.set(xlabel="feature", ylabel="robust z", ylim=(None, 1.6 * ax.get_ylim()[1]))  # room for the legend


def _title(axes: np.ndarray, looks: Mapping[str, Look], methods: tuple[str, ...]) -> None:
    for ax, m in zip(axes, methods, strict=True):
        ax.set_title(f"{m}\n({looks[m].named})", fontsize=10)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=6.5)
