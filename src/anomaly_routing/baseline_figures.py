"""Pictures of notebook 04: published figures beside ours, directions of windows in their clusters, costs."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from anomaly_routing import plots
from anomaly_routing.baselines.metric_learning.directional import VonMisesFisher
from anomaly_routing.baselines.metric_learning.metric_vmf import MetricVMF
from anomaly_routing.baselines.toy import Toy
from anomaly_routing.table1 import COSTS


def draw_peers(ax: plt.Axes, known: pd.DataFrame) -> None:
    """Our figure of each seed beside what is known, published figures in red; kappa as a share of the true one.

    known : rows of reports/peers.json with a figure to compare with.
    """
    names, told = [], set()
    for i, row in enumerate(known.itertuples()):
        is_kappa = row.measure == "kappa"
        scale, published = (row.published if is_kappa else 1), np.atleast_1d(row.published)
        what = f"kappa / {row.published:g}, {row.data.rsplit(', ')[-1]}" if is_kappa else row.measure
        names.append(f"{row.detector}: {what}")
        first = "" if i else "ours, a seed each"
        ax.plot(np.divide(row.ours, scale), [i] * len(row.ours), "o", ms=4, color=plots.BLUE, alpha=0.6, label=first)
        said = "published" if row.known == "published" else "true, or run by us"
        said = "" if said in told else said
        told.add(said)
        colour = plots.PAPER if row.known == "published" else plots.GREY
        ax.plot(published / scale, [i] * len(published), "|-", ms=11, color=colour, label=said)
    ax.set(yticks=range(len(known)), ylim=(len(known) - 0.5, -0.5), xlabel="the measure named at the left")
    ax.set_yticklabels(names, fontsize=7)
    ax.legend(fontsize=8, loc="lower left")


def draw_directions(axes: np.ndarray, detector: MetricVMF, toy: Toy, name: str) -> None:
    """Left: the fitted density of each cluster, by the angle of (price, volume). Right: scores, planted ones red.

    axes : two. The detector reads price and volume alone; its own threshold is the blue line.
    """
    angle = np.linspace(-np.pi, np.pi, 721)
    v = np.column_stack([np.cos(angle), np.sin(angle)])
    for law in detector.laws:
        form = law.agreement(v) - 1  # both densities are proportional to exp(kappa * agreement)
        density = np.exp(law.kappa * form)
        axes[0].plot(angle, density / (density[:-1].sum() * (angle[1] - angle[0])), lw=1)
    directed = issubclass(detector.law, VonMisesFisher)
    axes[0].set(title=f"{name}: law of each cluster", xlabel="angle of (price, volume), radians", ylabel="density")
    axes[0].text(0.02, 0.95, "directions" if directed else "axes", transform=axes[0].transAxes, fontsize=7, va="top")
    score, day = detector.decision_function(toy.panel), np.arange(toy.first, len(toy.cells))
    axes[1].plot(day, score[toy.first :], ".", ms=2, color=plots.GREY)
    axes[1].plot(day, np.where(toy.cells, score, np.nan)[toy.first :], ".", ms=3, color=plots.RED)
    axes[1].axhline(detector.flag_threshold, color=plots.BLUE, lw=1, label="its own threshold")
    axes[1].set(title=f"{name}: scores", xlabel="session", ylabel="score")
    axes[1].legend(fontsize=7)


def draw_costs(axes: np.ndarray, cost: pd.DataFrame) -> None:
    """One panel for each of `COSTS`, the full model orange; "not run" where nothing was measured.

    cost : rows of reports/costs.json with these columns, and `full`, whether it is the full model.
    """
    colours = [plots.ORANGE if full else plots.BLUE for full in cost["full"]]
    for ax, (text, column) in zip(axes, COSTS.items(), strict=True):
        measured = cost[column].notna().any()
        ax.hlines(cost["method"], 0, 1, transform=ax.get_yaxis_transform(), color=plots.GREY, lw=0.3, zorder=0)
        ax.scatter(cost[column].astype(float), cost["method"], color=colours, s=22)
        ax.set(xscale="log" if measured and not column.endswith("gib") else "linear", xlabel=text)
        if measured and column.endswith("gib"):
            ax.set_xlim(left=0)
        ax.tick_params(axis="y", labelsize=7)
        if not measured:
            ax.text(0.5, 0.5, "not run", transform=ax.transAxes, ha="center")
