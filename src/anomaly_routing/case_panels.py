"""What the paper claims about a case, drawn on its page: ours, the paper's number, the level that chance gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

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


def draw_panel(ax: plt.Axes, panel: Panel, sessions: pd.DatetimeIndex, paper: str) -> None:
    """The panel on an axis of sessions; `paper` is the colour of the paper's numbers."""
    if panel.text:
        ax.text(0.5, 0.5, panel.text, ha="center", va="center", fontsize=8, transform=ax.transAxes)
        ax.set_yticks([])
    for label, series, colour, dash in panel.lines:
        ax.plot(range(len(sessions)), series.reindex(sessions), color=colour, ls=dash, lw=1.3, label=label)
    for k, (label, level) in enumerate(panel.marks):
        ax.plot([len(sessions) - 0.6], [level], "D", color=paper, ms=4.5, clip_on=False, zorder=5)
        ax.axhline(level, color=paper, lw=0.6, ls=":")
        ax.annotate(
            label, (0.4 * k * len(sessions), level), xytext=(2, 2), textcoords="offset points", fontsize=7, color=paper
        )
    if panel.even is not None:
        ax.axhline(panel.even, color=CHANCE, lw=0.8, ls="--", zorder=0, label="even weight")
    ax.set_ylabel(panel.ylabel)
    if panel.lines:
        ax.set_ylim(top=1.45 * max(ax.get_ylim()[1], *(level for _, level in panel.marks)))
        ax.legend(fontsize=7, ncols=2, loc="upper left")
