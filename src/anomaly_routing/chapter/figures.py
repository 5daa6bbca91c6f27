"""The pictures of notebook 10. Each function returns the figure; the notebook stamps, saves and shows it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from anomaly_routing.chapter.planted import KINDS, Planted
from anomaly_routing.chapter.study import BESIDE
from anomaly_routing.plots import BLUE, CHANCE, GREY, INK, ORANGE, RED

MODE_COLOURS = {"chapter": ORANGE, "causal": BLUE}


def draw_kinds(planted: Planted, sd: np.ndarray) -> plt.Figure:
    """The first episode of each kind with 30 sessions to either side. sd [N]: of each stock's returns before."""
    fig, axes = plt.subplots(1, 3, figsize=(10, 2.9), sharey=True)
    for ax, kind in zip(axes, KINDS, strict=True):
        row = planted.episodes[planted.episodes.kind == kind].iloc[0]
        span = slice(max(0, row["first"] - 30), row["last"] + 31)
        z = planted.panel.returns[span, row.stock] / sd[row.stock]
        day = np.arange(len(z)) - (row["first"] - span.start)
        inside = (day >= 0) & (day <= row["last"] - row["first"])
        ax.vlines(day, 0, z, color=GREY, lw=1.2)
        ax.vlines(day[inside], 0, z[inside], color=RED, lw=2)
        ax.plot(day[inside], z[inside], "o", ms=4, color=RED)
        ax.set(title=kind, xlabel="sessions from the plant")
    axes[0].set_ylabel("return, SDs of the stock")
    return fig


def draw_found(kinds: pd.DataFrame, chance: pd.Series) -> plt.Figure:
    """Share of the planted episodes found with equal flags: methods by kinds, a panel a mode. kinds : of
    `study.kinds_found`; chance : index KINDS."""
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 5.6), sharey=True)
    for ax, mode in zip(axes, MODE_COLOURS, strict=True):
        part = kinds[kinds["mode"] == mode].set_index("method")[[f"{k}, equal flags" for k in KINDS]]
        ax.imshow(part, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
        for (i, j), v in np.ndenumerate(part.to_numpy()):
            ax.text(j, i, f"{v:.0%}", ha="center", va="center", fontsize=9, color="white" if v > 0.7 else INK)
        ax.set_xticks(range(3), [f"{k}\n(chance {chance[k]:.0%})" for k in KINDS])
        ax.set_yticks(range(len(part)), part.index)
        ax.set_title(f"{mode} mode")
    return fig


def draw_bound(metrics: pd.DataFrame) -> plt.Figure:
    """Precision by share flagged, each method at its own cut, under the bound prevalence / share. metrics : method,
    mode, flagged, precision, prevalence; the names of those above the prevalence stand at the side, in its order."""
    fig, ax = plt.subplots(figsize=(9.5, 5.2))
    share, prevalence = np.geomspace(0.002, 1, 200), metrics.prevalence.median()
    ax.plot(share, np.minimum(1, prevalence / share), color=INK, lw=1, label="bound: prevalence / share")
    ax.axhline(prevalence, color=CHANCE, ls="--", label="flags at random: prevalence")
    for mode, marker in (("chapter", "^"), ("causal", "o")):
        part = metrics[(metrics["mode"] == mode) & (metrics.flagged > 0)]
        ax.plot(part.flagged, part.precision, marker, color=MODE_COLOURS[mode], ls="", label=f"{mode} mode, own cut")
    named = metrics[metrics.precision > prevalence].sort_values("precision", ascending=False)
    for line, height in zip(named.itertuples(), np.linspace(0.97, 0.03, len(named)), strict=True):
        ax.annotate(
            line.method, (line.flagged, line.precision), (1.03, height), textcoords="axes fraction", va="center",
            fontsize=7, color=MODE_COLOURS[line.mode], arrowprops={"arrowstyle": "-", "lw": 0.3, "color": GREY},
        )  # fmt: skip
    ax.set(xscale="log", yscale="log", ylim=(prevalence / 6, 1.4))
    ax.set(xlabel="share of stock-days flagged", ylabel="precision")
    ax.legend(fontsize=8)
    return fig


def draw_series(board: pd.DataFrame, outside: pd.DataFrame) -> plt.Figure:
    """AUROC by method and mode: the mean as a dot (rows of `board`), single series as bars (`outside`)."""
    fig, ax = plt.subplots(figsize=(8, 0.3 * len(board) + 1.2))
    for k, (_, line) in enumerate(board[::-1].iterrows()):
        own = outside[(outside.method == line.method) & (outside["mode"] == line["mode"])]
        colour = GREY if line.method in BESIDE else MODE_COLOURS[line["mode"]]
        ax.plot(own.AUROC, np.full(len(own), k), "|", ms=9, color=colour, alpha=0.7)
        ax.plot(line.AUROC, k, "o", color=colour, ms=6)
    ax.set_yticks(range(len(board)), (board.method + " " + board["mode"])[::-1])
    ax.axvline(0.5, color=CHANCE, ls="--", lw=1)
    ax.set(xlabel="AUROC of points against anomaly windows; dot: mean, bars: single series", xlim=(0, 1))
    return fig


def draw_statements(spiked: pd.DataFrame, shares: pd.DataFrame, work: pd.DataFrame) -> plt.Figure:
    """Masking, nu as a bound, the work of a One-Class SVM: tables of `statements`, a panel each."""
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.2))
    _masking(left, spiked)
    _bound(middle, shares)
    _work(right, work)
    return fig


def _masking(ax: plt.Axes, spiked: pd.DataFrame) -> None:
    for method, text, colour in (("zscore", "z", ORANGE), ("modified_zscore", "modified z", BLUE)):
        own = 100 * spiked[spiked.method == method].groupby("planted")[["recall", "flagged"]].mean()
        ax.plot(100 * own.index, own.recall, "o-", color=colour, ms=4, label=f"{text}: spikes")
        ax.plot(100 * own.index, own.flagged, "--", color=colour, lw=1, label=f"{text}: other days")
    ax.set(xlabel="days that are spikes, %", ylabel="flagged, %", title="masking", ylim=(-3, 140))
    _ticks(ax, 100 * np.sort(spiked.planted.unique()))
    ax.set_yticks(range(0, 101, 25))
    ax.legend(fontsize=7, loc="upper left", ncols=2)


def _bound(ax: plt.Axes, shares: pd.DataFrame) -> None:
    lines = (
        ("unscaled", "outside", "as printed", ORANGE),
        ("scaled", "outside", "scaled", BLUE),
        ("scaled", "beyond", "scaled, by more than\nthe solver's tolerance", GREY),
    )
    for inputs, what, text, colour in lines:
        own = shares[shares.inputs == inputs]
        ax.plot(100 * own.nu, own[what] / own.nu, "o-", color=colour, ms=4, label=text)
    ax.axhline(1, color=INK, lw=1, ls=":")
    ax.set(xscale="log", xlabel="nu, %", ylabel="days outside, multiples of nu", title="is nu a bound?")
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(-0.1, 150)
    ax.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    _ticks(ax, 100 * np.sort(shares.nu.unique()))
    ax.legend(fontsize=7, loc="upper right")


def _work(ax: plt.Axes, work: pd.DataFrame) -> None:
    for _, own in work.groupby("draw"):
        ax.loglog(own["rows"], own.work, "o-", color=BLUE, ms=3, lw=0.8)
    mean = work.groupby("rows").work.mean()
    ax.loglog(mean.index, mean.iloc[0] * mean.index / mean.index[0], color=INK, lw=1, ls=":", label="linear")
    ax.set(xlabel="rows", ylabel="kernel evaluations", title="One-Class SVM: work of a fit")
    _ticks(ax, mean.index.to_numpy())
    ax.legend(fontsize=8)


def _ticks(ax: plt.Axes, values: np.ndarray) -> None:
    """Ticks of the horizontal axis at the values that were tried, and no others."""
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.minorticks_off()
