"""Figure 1 of the paper again, from real sessions: network, four signatures, a score against four weights."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from anomaly_routing.case_figures import EXPERT_COLOURS, PAPER, WIDTH
from anomaly_routing.case_market import EXPERTS
from anomaly_routing.case_measures import Track
from anomaly_routing.case_signatures import SIGNATURES, STRONG, correlation_matrix, edge_density, mean_correlation
from anomaly_routing.case_study import CaseStudy
from anomaly_routing.network_map import draw_map, layout, scores_of
from anomaly_routing.plots import GREY, GROUP_COLOURS

TITLES = {"price_shock": "price shock", "liquidity": "liquidity crisis", "contagion": "contagion",
          "momentum": "momentum reversal"}  # fmt: skip


def network_days(study: CaseStudy, days: list[pd.Timestamp]) -> pd.DataFrame:
    """For each day: mean 20-session correlation of all pairs, and the share of pairs above the cut of an edge."""
    tensors, rows = study.market.tensors, []
    for day in days:
        at = tensors.sessions.get_loc(day)
        rows.append({"session": day, "mean_correlation": mean_correlation(tensors.returns, at),
                     "pairs_above": edge_density(tensors.returns, at), "cut": STRONG})  # fmt: skip
    return pd.DataFrame(rows)


def draw_figure1(
    study: CaseStudy,
    found: dict[tuple[str, int], Track],
    focus: np.ndarray,
    days: dict[str, pd.Timestamp],
    paths: pd.DataFrame,
    paper: dict[str, float] | None = None,
    printed: dict[str, list[float]] | None = None,
) -> plt.Figure:
    """(a) correlation network on three days, (b) mean signatures, (c) the event day in one number and in four weights.

    days : name -> session (inside the study). paths : of `case_signatures.signatures`. paper : claim -> value, to mark.
    printed : of `case_claims.printed_weights`, the paper's own weights in (c), none elsewhere.
    """
    market, paper = study.market, paper or {}
    fig = plt.figure(figsize=(WIDTH, 9.1 + 0.2 * len(printed or {})))
    top, middle, foot = fig.subfigures(3, 1, height_ratios=(2.3, 4.2, 1.9 + 0.2 * len(printed or {})))
    place, score = layout(market.sector, focus), scores_of(study)
    facts = network_days(study, list(days.values())).set_index("session")
    maps = top.subplots(1, 3)
    for k, (ax, (name, day)) in enumerate(zip(maps, days.items(), strict=True)):
        t = study.sessions.get_loc(day)
        matrix = np.nan_to_num(correlation_matrix(market.tensors.returns, study.positions[t]))
        np.fill_diagonal(matrix, 0)
        picture = draw_map(ax, matrix, score[t], focus, place, STRONG, size=9, raster=False)
        ax.set_title(f"{'(a) ' if k == 0 else ''}{name}, {day:%-d %b}", fontsize=9.5)
        ax.set_xlabel(f"mean correlation {facts.mean_correlation[day]:.2f}", fontsize=8.5)
    bar = top.colorbar(picture, ax=maps, orientation="horizontal", shrink=0.45, aspect=30, pad=0.02)
    bar.set_label(f"dots: score; lines: 20-session correlation above {STRONG}", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    for k, (ax, name) in enumerate(zip(middle.subplots(2, 2).flat, SIGNATURES, strict=True)):
        _signature(ax, paths[paths.signature == name], name, paper)
        ax.set_title(f"{'(b) ' if k == 0 else ''}{TITLES[name]}", fontsize=9.5)
        ax.set_xlabel("sessions from the extreme", fontsize=8.5)
    _score_and_weights(*foot.subplots(1, 2, width_ratios=(1, 2)), found, printed or {})
    return fig


def _signature(ax: plt.Axes, own: pd.DataFrame, name: str, paper: dict[str, float]) -> None:
    """The signature in its colour, the contrast in grey on the right axis; the paper's before and after as marks."""
    main, contrast = own.series.unique()[:2]
    lines = own.pivot_table(index="lag", columns="series", values="value")
    ax.plot(lines.index, lines[main], color=GROUP_COLOURS[name], lw=1.8)
    ax.set_ylabel(main, fontsize=8.5, color=GROUP_COLOURS[name])
    other = ax.twinx()
    other.spines["right"].set_visible(True)
    other.plot(lines.index, lines[contrast], color=GREY, lw=1.1, ls="--")
    other.set_ylabel(contrast, fontsize=8.5, color=GREY)
    other.set_ylim(0, 1.25 * np.nanmax(lines[contrast]))
    pairs = {"liquidity": ("F1b.spread_before", "F1b.spread_after"), "contagion": ("F1b.corr_before", "F1b.corr_after"),
             "momentum": ("F1b.rsi_before", "F1b.rsi_after"), "price_shock": ("F1b.four_sigma",)}  # fmt: skip
    values = [paper[c] for c in pairs[name] if c in paper]
    if values:
        ax.plot([lines.index[0], 0][-len(values) :], values, "D", color=PAPER, ms=4.5, zorder=5)
    ax.set_ylim(0, 1.12 * max([np.nanmax(lines[main]), *values]))
    for axes in (ax, other):
        axes.tick_params(labelsize=7.5)


def _score_and_weights(
    left: plt.Axes, right: plt.Axes, found: dict[tuple[str, int], Track], printed: dict[str, list[float]]
) -> None:
    """Left: the mean score of the event day, one bar a run, and as a stroke that of its baseline. Right: the mean
    routing weights of the same day and run, then the paper's; what it does not print is hatched. Dashed: four equal
    weights would end here."""
    weights = {f"{p}, seed {s}": [t.at(f"w{k}") for k in range(1, 5)] for (p, s), t in found.items()} | printed
    rows, below = range(len(weights))[::-1], -0.38 if printed else -0.36  # below the label of a lower axis
    for y, track in zip(rows, found.values(), strict=False):
        left.barh(y, track.at("S"), color=GREY, height=0.6)
        left.plot([track.base("S")] * 2, [y - 0.42, y + 0.42], color=PAPER, lw=1.2,
                  label="baseline" if y == rows[0] else None)  # fmt: skip
    left.set_yticks(rows, weights, fontsize=8)
    left.set(xlim=(0, 1), ylim=(-0.6, len(weights) - 0.4))
    left.set_xlabel("mean score (0 to 1)", fontsize=8.5)
    left.set_title("(c) one score", fontsize=9.5)
    left.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, below))
    for y, own in zip(rows, weights.values(), strict=True):
        start = 0.0
        for k, colour in enumerate(EXPERT_COLOURS):
            right.barh(y, own[k], left=start, color=colour, height=0.6, label=EXPERTS[k] if y == 0 else None)
            start += np.nan_to_num(own[k])
        if np.isnan(own).any():
            right.barh(
                y, 1 - start, left=start, fc="white", ec=GREY, hatch="////", height=0.6, lw=0, label="not printed"
            )
    for even in np.arange(1, len(EXPERTS)) / len(EXPERTS):
        right.axvline(even, color=PAPER, lw=0.8, ls="--", label="even" if even == 1 / len(EXPERTS) else None)
    right.set(xlim=(0, 1), yticks=[], ylim=(-0.6, len(weights) - 0.4))
    right.set_xlabel("mean routing weight", fontsize=8.5)
    right.set_title("four weights", fontsize=9.5)
    right.legend(fontsize=7.5, ncols=2, loc="upper center", bbox_to_anchor=(0.4, below))
