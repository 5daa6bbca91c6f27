"""The two figures of the audit: printed rates among the possible ones, and which counts could be told apart."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from anomaly_routing.plots import GREEN, GREY, ORANGE, RED


def rates_among_counts(ax: plt.Axes, printed: pd.DataFrame, n: int) -> None:
    """Lines: the rates of n events. Dots: the printed ones, by `table`; columns percent, `k of n`, `k of 10 n`."""
    single, ten = printed[f"k of {n}"].notna(), printed[f"k of {10 * n}"].notna()
    for k in range(n + 1):
        ax.axvline(100 * k / n, color=GREY, lw=0.7, zorder=0)
    names = sorted(set(printed.table), reverse=True)
    height = printed.table.map({table: place for place, table in enumerate(names)})
    groups = (
        (single, GREEN, "o", f"a count of {n}"),
        (~single & ten, ORANGE, "s", f"a count of {10 * n}: ten runs"),
        (~ten, RED, "x", "neither"),
    )
    for mask, colour, mark, label in groups:
        ax.plot(printed.percent[mask], height[mask], mark, color=colour, ms=6, alpha=0.8, label=label)
    ax.set(xlim=(40, 101), ylim=(-0.6, len(names) - 0.4), xlabel=f"printed rate, %  (lines: whole counts of {n})")
    ax.set_yticks(range(len(names)), [f"Table {name[1:]}" for name in names])
    ax.legend(loc="lower left", fontsize=8)


def pairs_in_the_best_case(ax: plt.Axes, pairs: pd.DataFrame, names: list[str], level: float = 0.05) -> None:
    """The smallest p that the margins of each pair allow; a star where it is below `level`."""
    back = pairs.rename(columns={"method": "against", "against": "method"})
    best = pd.concat([pairs, back]).pivot_table(index="method", columns="against", values="p, best case")
    grid = best.loc[names, names].to_numpy()
    picture = ax.imshow(grid, cmap="viridis", vmin=0, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    ax.set_yticks(range(len(names)), names, fontsize=7)
    rows, columns = np.where(grid < level)
    ax.plot(columns, rows, "*", color="white", ms=8)
    ax.figure.colorbar(picture, ax=ax, shrink=0.8, label="smallest p that the margins allow")
