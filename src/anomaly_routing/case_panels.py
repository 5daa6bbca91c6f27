"""The page of any case, with what the paper claims about it: ours, the paper's number, the level that chance gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from anomaly_routing.case_figures import (
    COLOURS,
    EXPERT_COLOURS,
    PAPER,
    STOCK_COLOURS,
    STOCK_MARKS,
    WIDTH,
    Axis,
    band,
    by_preset,
    event_line,
)
from anomaly_routing.case_market import EXPERTS
from anomaly_routing.case_measures import DEFAULT_PRESET, Track, stocks_above
from anomaly_routing.case_signatures import mean_correlation
from anomaly_routing.case_study import CaseStudy
from anomaly_routing.plots import BLUE, CHANCE, GREEN, GROUP_COLOURS, INK, ORANGE

EVEN_WEIGHT = 1 / len(EXPERTS)
Tracks = Mapping[tuple[str, int], Track]


@dataclass
class Panel:
    """Lines (label, series by session, colour, dash), the paper's numbers (label, value), the level that chance gives,
    or a text in their place."""

    ylabel: str = ""
    lines: list[tuple[str, pd.Series, str, str]] = field(default_factory=list)
    marks: list[tuple[str, float]] = field(default_factory=list)
    even: float | None = None
    text: str = ""


def claim_panel(case: str, study: CaseStudy, found: Tracks, value: Mapping[str, Any]) -> Panel | None:
    """What the paper claims about a case; None for a case that it does not speak of. value : claim -> number."""
    makers = {"crowdstrike": _weights_of_a_stock, "gamestop": _level_and_stocks, "fed": _correlation_and_breadth,
              "carry": _nobody}  # fmt: skip
    return makers[case](study, found, value) if case in makers and value else None


def _weights_of_a_stock(study: CaseStudy, found: Tracks, value: Mapping[str, Any]) -> Panel:
    own = study.stocks[(study.stocks["preset"] == DEFAULT_PRESET) & (study.stocks["ticker"] == study.tickers[0])]
    own, colours = own.set_index("session"), list(GROUP_COLOURS.values())
    lines = [(f"{EXPERTS[k]}, {study.tickers[0]}", own[f"w{k + 1}"], colours[k], "-") for k in (0, 1)]
    return Panel("routing weight", lines, [("paper: Liquidity", value["S42.crwd_liq"])], EVEN_WEIGHT)


def _level_and_stocks(study: CaseStudy, found: Tracks, value: Mapping[str, Any]) -> Panel:
    lines = []
    for (preset, seed), track in found.items():
        if preset == DEFAULT_PRESET:
            dash = "-" if seed == min(study.market.seeds(preset)) else "--"
            lines.append((f"alert level, seed {seed}", track.daily["level"], BLUE, dash))
            lines.append((f"stocks above the cut, seed {seed}", stocks_above(track), ORANGE, dash))
    level = float(str(value["S42.gme_level"]).removeprefix("L"))
    marks = [("paper: level", level), ("paper: stocks", float(value["S42.gme_n"]))]
    return Panel("level; stocks", lines, marks)


def _correlation_and_breadth(study: CaseStudy, found: Tracks, value: Mapping[str, Any]) -> Panel:
    tensors = study.market.tensors
    ties = pd.Series([mean_correlation(tensors.returns, t) for t in study.positions], study.sessions)
    lines = [("mean correlation", ties, INK, "-")]
    for (preset, seed), track in found.items():
        if preset == DEFAULT_PRESET:
            dash = "-" if seed == min(study.market.seeds(preset)) else "--"
            lines.append((f"breadth, seed {seed}", track.daily["c1"], GREEN, dash))
    marks = [("paper: before the rises", value["S42.fed_corr_before"]), ("during", value["S42.fed_corr_after"])]
    return Panel("correlation; breadth", lines, marks)


def _nobody(study: CaseStudy, found: Tracks, value: Mapping[str, Any]) -> Panel:
    return Panel(text="The paper's number is of Japanese banks and US stocks:\nno Japanese bank is in the universe.")


def draw_panel(ax: plt.Axes, panel: Panel, sessions: pd.DatetimeIndex) -> None:
    """The panel on an axis of sessions."""
    if panel.text:
        ax.text(0.5, 0.5, panel.text, ha="center", va="center", fontsize=8, transform=ax.transAxes)
        ax.set_yticks([])
    for label, series, colour, dash in panel.lines:
        ax.plot(range(len(sessions)), series.reindex(sessions), color=colour, ls=dash, lw=1.3, label=label)
    for k, (label, level) in enumerate(panel.marks):
        ax.plot([len(sessions) - 0.6], [level], "D", color=PAPER, ms=4.5, clip_on=False, zorder=5)
        ax.axhline(level, color=PAPER, lw=0.6, ls=":")
        ax.annotate(
            label, (0.4 * k * len(sessions), level), xytext=(2, 2), textcoords="offset points", fontsize=7, color=PAPER
        )
    if panel.even is not None:
        ax.axhline(panel.even, color=CHANCE, lw=0.8, ls="--", zorder=0, label="even weight")
    ax.set_ylabel(panel.ylabel)
    if panel.lines:
        ax.set_ylim(top=1.45 * max(ax.get_ylim()[1], *(level for _, level in panel.marks)))
        ax.legend(fontsize=7, ncols=2, loc="upper left")


def draw_page(
    study: CaseStudy, found: dict[tuple[str, int], Track], title: str, event: str = "", claim: Panel | None = None
) -> plt.Figure:
    """One page for any case: the market (mean score, pressure index), its stocks, what the paper claims about the case,
    what the errors are made of.

    The last panel splits the error E of each stock on its highest session among the experts' parts and e_rec.
    """
    axis = Axis(study.sessions)
    heights = [1, 1.15, *([1 if claim.lines else 0.35] if claim else []), 0.35 + 0.22 * len(study.tickers)]
    fig, axes = plt.subplots(len(heights), 1, figsize=(WIDTH, 2.6 * sum(heights) + 0.8), height_ratios=heights)
    for preset, tracks in by_preset(found).items():
        band(axes[0], axis, tracks, "S", COLOURS[preset], f"mean score, {preset}")
    band(axes[0], axis, by_preset(found)["intended"], "MPI", GREEN, "MPI, intended")
    axes[0].set(ylim=(0, 1), ylabel="0 to 1", title=title)
    axes[0].legend(fontsize=7.5, ncols=2, loc="lower left")
    x = np.arange(len(axis.sessions))
    for k, ticker in enumerate(study.tickers):
        score = study.stocks.query("preset == 'intended' and ticker == @ticker").set_index("session")["score"]
        last = study.gone.get(ticker)
        label = ticker if last is None else f"{ticker} last traded {last:%Y-%m-%d}"
        axes[1].plot(x, score.reindex(axis.sessions), marker=STOCK_MARKS[k % 6], ms=3, lw=1, label=label,
                     color=STOCK_COLOURS[k % 6])  # fmt: skip
    axes[1].axhline(found["intended", study.market.seeds("intended")[0]].theta_tail, color=CHANCE, lw=0.8, ls="--")
    axes[1].set(ylim=(0, 1.04), ylabel="score s")
    axes[1].legend(fontsize=7, ncols=min(2 if study.gone else 5, len(study.tickers)), loc="lower left")
    if claim:
        draw_panel(axes[2], claim, study.sessions)
    for ax in axes[:-1]:
        event_line(ax, axis, study.date, event if ax is axes[0] else None)
        axis.label(ax)
    axes[-2].set_xlabel("session", fontsize=8.5)
    parts = axes[-1]
    shares = study.drivers.groupby(["ticker", "expert"])[["expert_share", "window_share"]].sum()
    left = np.zeros(len(study.tickers))
    for part, alpha in (("expert_share", 1.0), ("window_share", 0.4)):
        for name, colour in zip(EXPERTS, EXPERT_COLOURS, strict=True):
            value = shares[part].xs(name, level="expert").reindex(study.tickers).to_numpy()
            label = name if alpha == 1 else None
            parts.barh(study.tickers[::-1], value[::-1], left=left[::-1], color=colour, alpha=alpha, height=0.65,
                         label=label, lw=0)  # fmt: skip
            left = left + value
    parts.set(xlim=(0, 1), xlabel="share of E: full colour by the experts, pale by the last five sessions")
    parts.xaxis.label.set_fontsize(8.5)
    parts.legend(
        fontsize=7.2, ncols=4, loc="lower center", bbox_to_anchor=(0.46, 0.98), columnspacing=0.9, handlelength=1.2
    )
    return fig


def draw_drivers(study: CaseStudy, top: int = 6) -> plt.Figure:
    """For each stock, the features with the largest shares of its error on its highest session, coloured by category.

    Full colour: through the expert; pale: through the reconstruction of the last five sessions. Dashed: an even share.
    """
    fig, axes = plt.subplots(
        len(study.tickers), 1, figsize=(WIDTH, 0.7 + 1.35 * len(study.tickers)), sharex=True, squeeze=False
    )
    colours = dict(zip(EXPERTS, EXPERT_COLOURS, strict=True))
    for ax, ticker in zip(axes[:, 0], study.tickers, strict=True):
        own = study.drivers[study.drivers["ticker"] == ticker].head(top)[::-1]
        colour = [colours[e] for e in own["expert"]]
        ax.barh(own["feature"], 100 * own["expert_share"], color=colour, height=0.7)
        ax.barh(own["feature"], 100 * own["window_share"], left=100 * own["expert_share"], color=colour, alpha=0.4,
                height=0.7)  # fmt: skip
        ax.axvline(100 / len(study.market.tensors.features), color=CHANCE, lw=0.8, ls="--")
        ax.set_title(f"{ticker}, {own['session'].iloc[0]:%-d %B %Y}", fontsize=9.5)
        ax.tick_params(axis="y", labelsize=8)
    axes[-1, 0].set_xlabel("share of the error E, %")
    boxes = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours.values()]
    fig.legend(boxes, colours, loc="outside upper center", fontsize=7.5, ncols=4, columnspacing=1.0)
    return fig
