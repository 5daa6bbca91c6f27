"""The pictures of notebook 07: narrow, so that they read on a phone; seeds as bands, the paper's numbers as marks."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image
from matplotlib.colors import ListedColormap

from anomaly_routing.case_market import EXPERTS, CaseMarket
from anomaly_routing.case_measures import Track
from anomaly_routing.case_study import CaseStudy
from anomaly_routing.drawing import compact
from anomaly_routing.files import replacing
from anomaly_routing.model.pressure_index import LEVELS, SCORE_QUANTILE, alert_cuts
from anomaly_routing.plots import BLUE, CHANCE, GREEN, GREY, GROUP_COLOURS, INK, ORANGE, PURPLE, RED, SKY, in_palette

DPI = 90  # of a picture in the notebook
MAP_DPI = 200  # of what is raster within a vector picture
PAPER = "#000000"  # here: red is the colour of an expert
ENOUGH = 3  # seeds of which a mean is drawn; fewer are drawn one by one
WIDTH = 5.4  # inches: full width of a column in print, 70% of it on a phone
SCORE_COLOURS = "cividis_r"  # perceptually even, the same for the colour-blind
COLOURS = {"intended": BLUE, "literal": ORANGE}
EXPERT_COLOURS = tuple(GROUP_COLOURS.values())
STOCK_MARKS = ("o", "s", "^", "D", "v", "P")
STOCK_COLOURS = (RED, BLUE, ORANGE, SKY, GREY, INK)
AFTER_CLOSE = "after the close"  # as the list of public facts says it
COMPONENTS = {"c1": "c1 breadth", "c2": "c2 intensity", "c3": "c3 dispersion", "c4": "c4 consensus", "c5": "c5 stress",
              "MPI": "MPI"}  # fmt: skip


def present(fig: plt.Figure, base: Path | None = None, vector: bool = False) -> Image:
    """The figure for the notebook, as a PNG with a palette (a third of the bytes); closes it.

    base : path without an ending; then base.png holds the same bytes, and base.svg the drawing if `vector`.
    """
    free = fig.get_layout_engine() is None  # a figure laid out by hand stays so when it is saved a second time
    with plt.rc_context({"figure.constrained_layout.use": not free}):
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight")
        if base is not None and not vector:
            base.with_suffix(".svg").unlink(missing_ok=True)  # of an earlier run
        elif base is not None:
            drawing = io.StringIO()
            fig.savefig(drawing, format="svg", dpi=MAP_DPI, metadata={"Date": None}, bbox_inches="tight")
            with replacing(base.with_suffix(".svg")) as partial:
                partial.write_text(compact(drawing.getvalue()), encoding="utf-8")
    small = in_palette(buffer.getvalue())
    if base is not None:
        with replacing(base.with_suffix(".png")) as partial:
            partial.write_bytes(small)
    plt.close(fig)
    return Image(data=small, format="png")


class Axis:
    """Sessions side by side, without the gaps of weekends."""

    def __init__(self, sessions: pd.DatetimeIndex) -> None:
        self.sessions = sessions

    def at(self, day: str | pd.Timestamp, side: float = 0.0) -> float:
        """Place of a day; of a day without a session, between its neighbours. `side` 0.5 is its close."""
        day = pd.Timestamp(day)
        return float(self.sessions.searchsorted(day)) + (side if day in self.sessions else -0.5)

    def label(self, ax: plt.Axes, every: int | None = None) -> None:
        """Ticks such as `10 Mar`."""
        step = every or max(1, round(len(self.sessions) / 6))
        ticks = np.arange(0, len(self.sessions), step)
        ax.set_xticks(ticks, [f"{self.sessions[k]:%-d %b}" for k in ticks])
        ax.set_xlim(-0.7, len(self.sessions) - 0.3)


def band(ax: plt.Axes, axis: Axis, tracks: Sequence[Track], column: str, colour: str, label: str | None = None) -> None:
    """Lowest to highest seed as a band, every seed as a thin line, and the mean of `ENOUGH` seeds or of one."""
    table = pd.DataFrame({k: t.daily[column].reindex(axis.sessions) for k, t in enumerate(tracks)})
    x = np.arange(len(axis.sessions))
    ax.fill_between(x, table.min(1), table.max(1), color=colour, alpha=0.22, lw=0)
    for k in table if table.shape[1] > 1 else ():
        ax.plot(x, table[k], color=colour, lw=0.5, alpha=0.7)
    few = 1 < table.shape[1] < ENOUGH
    ax.plot(x, table[0] if few else table.mean(1), color=colour, lw=0.5 if few else 1.7, label=label)


def by_preset(found: dict[tuple[str, int], Track]) -> dict[str, list[Track]]:
    """Tracks of each preset that was run."""
    return {p: [t for (own, _), t in found.items() if own == p] for p in COLOURS if any(own == p for own, _ in found)}


def event_line(ax: plt.Axes, axis: Axis, day: pd.Timestamp, text: str | None = None) -> None:
    """A dotted line through the session of the event."""
    ax.axvline(axis.at(day), color=INK, lw=0.8, ls=":")
    if text:
        ax.annotate(text, (axis.at(day), 1.0), xycoords=("data", "axes fraction"), xytext=(3, -2), fontsize=7.5,
                    textcoords="offset points", va="top", color=INK)  # fmt: skip


def own_cuts(market: CaseMarket) -> dict[tuple[str, int], np.ndarray]:
    """(preset, seed) -> the four alert cuts of that run's own pressure index, quantiles of the validation sessions."""
    val, sessions = market.tensors.val, market.tensors.sessions
    found = {}
    for row in market.runs.itertuples():
        mpi = row.run.daily["mpi@val"]
        found[row.preset, int(row.seed)] = alert_cuts(mpi.to_numpy(), val[sessions.get_indexer(mpi.index)])
    return found


def cut_bars(ax: plt.Axes, market: CaseMarket, runs: Iterable[tuple[str, int]], named: bool = True) -> None:
    """Right of the axis, a bar for each run from its L1 to its L4, with a tick at every cut: no two runs share them."""
    cuts = own_cuts(market)
    for k, run in enumerate(runs):
        look = {"transform": ax.get_yaxis_transform(), "color": COLOURS[run[0]], "clip_on": False}
        x = 1.015 + (0.026 if named else 0.05) * k
        ax.plot([x, x], cuts[run][[0, -1]], lw=1.2, **look)
        ax.plot([x] * len(LEVELS), cuts[run], "_", ms=5, mew=1.1, **look)
        if named:
            ax.annotate(str(run[1]), (x, cuts[run][-1]), xycoords=("axes fraction", "data"), xytext=(0, 3), ha="center",
                        textcoords="offset points", fontsize=7.5, color=INK, annotation_clip=False)  # fmt: skip
    if named:
        ax.annotate("L1-L4", (1.0, 1.0), xycoords="axes fraction", fontsize=7.5, va="bottom", color=INK)


def level_strip(ax: plt.Axes, axis: Axis, found: Mapping[tuple[str, int], Track]) -> None:
    """A row a run, a cell a session: its alert level as a shade and, above L0, as a digit."""
    levels = np.array([t.daily["level"].reindex(axis.sessions, fill_value=-1) for t in found.values()])
    shades = ListedColormap(plt.get_cmap("Greys")(np.linspace(0.0, 0.85, len(LEVELS) + 1)))
    ax.pcolormesh(np.ma.masked_less(levels, 0), cmap=shades, vmin=0, vmax=len(LEVELS), ec=CHANCE, lw=0.3,
                  rasterized=True)  # fmt: skip
    for row, at in zip(*np.nonzero(levels > 0), strict=True):
        ax.text(at + 0.5, row + 0.45, f"{levels[row, at]:.0f}", fontsize=7.5, ha="center", va="center",
                color=INK if levels[row, at] < 3 else "white")  # fmt: skip
    ax.set_yticks(np.arange(len(levels)) + 0.5, [f"{p[:3]}. {s}" for p, s in found], fontsize=7.5)
    ax.tick_params(axis="both", length=0, labelbottom=False)
    ax.set(xlim=(-0.2, len(axis.sessions) + 0.2), ylim=(len(levels), 0), xticks=[])
    ax.set_title("alert level of each run by its own cuts: 1 to 4, blank 0", fontsize=8.5)


def draw_figure3(
    study: CaseStudy,
    found: dict[tuple[str, int], Track],
    focus_name: str,
    marks: dict[str, list[Any]] | None = None,
    event: str = "",
) -> plt.Figure:
    """Figure 3 redone: (a) pressure index, (b) focus group and the rest, (c) the four routing weights.

    marks : panel (`a`, `focus`, `others`, `w1` .. `w4`) -> the paper's numbers (`case_claims.Mark`); none elsewhere.
    Filled: printed; hollow: implied by two printed numbers; a line joins those of one path. Under a ticker, the paper's
    highest score of that stock, which has no date: right of the axis, in the stock's own symbol, filled.
    """
    axis, marks = Axis(study.sessions), dict(marks or {})
    strip = 0.16 * len(found)  # inches: its digits need that much
    fig = plt.figure(figsize=(WIDTH, 9.3 + strip))
    grid = fig.add_gridspec(5, 2, height_ratios=(2.4, strip, 2.7, 1.7, 1.7))
    a, levels, b = (fig.add_subplot(grid[k, :]) for k in range(3))
    weights = [fig.add_subplot(grid[3 + k // 2, k % 2]) for k in range(4)]
    presets = by_preset(found)
    for preset, tracks in presets.items():
        band(a, axis, tracks, "MPI", COLOURS[preset], preset)
    cut_bars(a, study.market, found)
    level_strip(levels, axis, found)
    a.set(ylabel="Market Pressure Index", title="(a) early warning")
    colours = {"focus": PURPLE, "others": GREEN}
    for column, text in (("focus", focus_name), ("others", "all others")):
        if any(t.daily[column].notna().any() for t in presets["intended"]):
            band(b, axis, presets["intended"], column, colours[column], text)
    for k, ticker in enumerate(study.tickers):
        score = study.stocks.query("preset == 'intended' and ticker == @ticker").set_index("session")["score"]
        b.plot(np.arange(len(axis.sessions)), score.reindex(axis.sessions), STOCK_MARKS[k % 6], ms=3.2, mew=0.7,
               mfc="none", color=STOCK_COLOURS[k % 6], label=ticker if k < 6 else None)  # fmt: skip
        for mark in marks.pop(ticker, []):
            b.plot(1.02 + 0.025 * k, mark.value, STOCK_MARKS[k % 6], ms=5, color=STOCK_COLOURS[k % 6], mec=PAPER,
                   mew=0.8, transform=b.get_yaxis_transform(), clip_on=False)  # fmt: skip
            b.annotate("paper", (1.0, 1.02), xycoords=("axes fraction", "data"), fontsize=7.5, color=PAPER)
    theta = next((t.theta_tail for t in presets["intended"] if t.study), np.nan)
    b.axhline(theta, color=CHANCE, lw=0.8, ls="--", zorder=0, label=f"{1 - SCORE_QUANTILE:.0%} cut of s")
    b.set(ylabel="score s (0 to 1)", title="(b) localisation", ylim=(0, 1.5))
    for k, ax in enumerate(weights):
        for preset, tracks in presets.items():
            band(ax, axis, tracks, f"w{k + 1}", COLOURS[preset])
        ax.axhline(0.25, color=CHANCE, lw=0.8, ls="--", zorder=0)
        ax.set(ylim=(-0.03, 1.03), title=f"(c) {EXPERTS[k]}")
        ax.title.set_fontsize(9.5)
        ax.set_ylabel("mean weight" if k % 2 == 0 else "")
    panels = {"a": a, "focus": b, "others": b} | {f"w{k + 1}": ax for k, ax in enumerate(weights)}
    for panel, own in marks.items():
        _paper_marks(panels[panel], axis, own, colours.get(panel, PAPER))
    if marks:
        a.plot([], [], "D-", color=PAPER, ms=4.5, lw=0.8, label="the paper")
        a.plot([], [], "D", color=PAPER, mfc="white", ms=4.5, label="implied by it")
    for ax in (a, b, *weights):
        event_line(ax, axis, study.date, event if ax is a else None)
        axis.label(ax, None if ax in (a, b) else max(1, len(axis.sessions) // 3))
    for ax in weights[2:]:
        ax.set_xlabel("session", fontsize=8.5)
    a.set_ylim(top=a.get_ylim()[1] + 0.3 * np.diff(a.get_ylim())[0])
    a.legend(loc="upper left", fontsize=8, ncols=2)
    b.legend(loc="upper left", fontsize=7.5, ncols=3, columnspacing=1.0)
    return fig


def _paper_marks(ax: plt.Axes, axis: Axis, marks: Sequence[Any], colour: str) -> None:
    """The paper's numbers on one panel: a diamond on a bar as long as its sessions, a box where it is a range."""
    path = [((axis.at(m.first) + axis.at(m.last)) / 2, m.value) for m in marks if m.joined]
    ax.plot(*zip(*path, strict=True), color=colour, lw=0.8, zorder=3)
    for mark in marks:
        left, right = axis.at(mark.first) - 0.4, axis.at(mark.last) + 0.4
        if mark.top is not None:
            ax.fill_between([left, right], mark.value, mark.top, color=colour, alpha=0.35, lw=0, zorder=3)
            continue
        ax.hlines(mark.value, left, right, color=colour, lw=1.6, ls=":" if mark.implied else "-", zorder=4)
        ax.plot((left + right) / 2, mark.value, "D", color=colour, mfc="white" if mark.implied else colour, ms=4.5,
                mec=colour if mark.implied else "white", mew=0.9, zorder=5)  # fmt: skip


def draw_components(
    study: CaseStudy, found: dict[tuple[str, int], Track], event: str = "", marks: Sequence[Any] = ()
) -> plt.Figure:
    """The pressure index and its five components, one small panel each.

    Dashed: what chance gives of breadth (the share above a 95% quantile). marks : the paper's numbers for the index, as
    in Figure 3; right of it each run's own alert cuts.
    """
    axis = Axis(study.sessions)
    fig, axes = plt.subplots(3, 2, figsize=(WIDTH, 5.6), sharex=True)
    for ax, (column, text) in zip(axes.flat, COMPONENTS.items(), strict=True):
        for preset, tracks in by_preset(found).items():
            band(ax, axis, tracks, column, COLOURS[preset], preset)
        ax.set(ylim=(-0.03, 1.03), title=text)
        event_line(ax, axis, study.date, event if column == "c1" else None)
        axis.label(ax, max(1, len(axis.sessions) // 4))
    chance = 1 - SCORE_QUANTILE
    axes[0, 0].axhline(chance, color=CHANCE, lw=0.8, ls="--", zorder=0, label=f"by chance, {chance:.0%}")
    for ax in axes[:, 0]:
        ax.set_ylabel("0 to 1", fontsize=8.5)
    for ax in axes[-1]:
        ax.set_xlabel("session", fontsize=8.5)
    cut_bars(axes.flat[-1], study.market, found, named=False)
    _paper_marks(axes.flat[-1], axis, marks, PAPER)
    if marks:
        axes.flat[0].plot([], [], "D-", color=PAPER, ms=4.5, lw=0.8, label="the paper")
    axes.flat[0].legend(fontsize=7.5, loc="upper left")
    return fig


def draw_timeline(
    share: pd.Series, first: pd.DataFrame, facts: list[dict[str, Any]], date: pd.Timestamp, tests: pd.Series
) -> plt.Figure:
    """Above: the share of all methods that alarm, session by session, beside public facts; below: first alarms.

    share : of the methods, over the sessions to show. tests : the same over all test sessions, for its usual level.
    first : of `first_alarms`. A fact stands at the first session that could price it.
    """
    axis = Axis(pd.DatetimeIndex(share.index))
    hits = first[first["sessions_ahead"].notna()].sort_values(["sessions_ahead", "method"], kind="stable")
    rows = hits.groupby(["method"], sort=False)["first"].apply(list)
    fig, axes = plt.subplots(2, 1, figsize=(WIDTH, 4.3 + 0.17 * max(len(rows), 3)), sharex=True,
                             height_ratios=(3.4, 0.2 * max(len(rows), 3) + 0.3))  # fmt: skip
    x = np.arange(len(share))
    axes[0].bar(x, 100 * share.to_numpy(float), color=BLUE, width=0.75)
    axes[0].axhline(100 * tests.mean(), color=CHANCE, ls="--", lw=1)
    axes[0].annotate("mean of all test sessions", (0, 100 * tests.mean()), xytext=(0, 3), textcoords="offset points",
                     fontsize=7.5, color=GREY)  # fmt: skip
    top = max(100 * float(share.max()), 20.0)
    for k, fact in enumerate(f for f in facts if pd.Timestamp(f["session"]) in share.index):
        late = AFTER_CLOSE in str(fact["known"])  # it is known half a session before it can be priced
        place = axis.at(fact["session"]) - 0.5 * late
        y = top * (1.12 + 0.13 * k)
        axes[0].plot([place, place], [0, y], color=PAPER, lw=0.6, ls=":")
        axes[0].annotate(fact["short"], (place, y), xytext=(-3, 0), textcoords="offset points", fontsize=7.5,
                         ha="right", va="center", color=INK)  # fmt: skip
        axes[0].plot(place, y, "o", color=PAPER, ms=3)
    axes[0].set(
        ylabel="methods that alarm, %",
        ylim=(0, top * (1.2 + 0.13 * max(len(facts), 1))),
        title="alarms, each method with the same allowance",
    )
    for y, (_, days) in enumerate(rows.items()):
        axes[1].plot([axis.at(d) for d in days], [y] * len(days), "o", color=BLUE, ms=5, alpha=0.7)
    axes[1].set_yticks(range(len(rows)), rows.index, fontsize=7.5)
    axes[1].set(ylim=(-0.7, max(len(rows), 1) - 0.3), title=f"first alarm in the sessions before {date:%-d %B}")
    axes[0].plot([axis.at(date)] * 2, [0, top], color=INK, lw=0.8, ls=":")  # below the facts, not through them
    axes[1].axvline(axis.at(date), color=INK, lw=0.8, ls=":")
    axes[1].set_xlabel("session")
    for ax in axes:
        axis.label(ax)
    return fig


def draw_fusion(
    study: CaseStudy, found: dict[tuple[str, int], Track], marks: dict[str, list[tuple[float, str]]]
) -> plt.Figure:
    """alpha and psi over the whole run (left) and in the case (right); the paper's values as black dashed lines, in
    grey an even fusion of prior and learned graph."""
    axis = Axis(study.sessions)
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 4.6), sharey="row", width_ratios=(1.5, 1))
    for row, (column, limits) in enumerate((("alpha", (0.15, 0.85)), ("psi", (0, 1)))):
        for preset, tracks in by_preset(found).items():
            for track in tracks:  # each as far back as its own run goes
                whole = track.whole[column].dropna()
                axes[row, 0].plot(whole.index, whole, color=COLOURS[preset], lw=0.5, alpha=0.8, rasterized=True)
            band(axes[row, 1], axis, tracks, column, COLOURS[preset], preset)
        for value, text in marks.get(column, []):
            for ax in axes[row]:
                ax.axhline(value, color=PAPER, lw=1, ls="--")
            place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 7.5, "color": PAPER}
            box = {"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.85}
            axes[row, 0].annotate(text, (0.02, value), bbox=box, **place)
        if column == "alpha":
            for ax in axes[row]:
                ax.axhline(0.5, color=CHANCE, lw=0.8, ls="--", zorder=0)
        axes[row, 0].set(ylabel=column, ylim=limits)
        axis.label(axes[row, 1], max(1, len(axis.sessions) // 3))
        event_line(axes[row, 1], axis, study.date)
        axes[row, 0].xaxis.set_major_locator(plt.matplotlib.dates.YearLocator())
        axes[row, 0].xaxis.set_major_formatter(plt.matplotlib.dates.DateFormatter("%Y"))
        axes[row, 0].tick_params(axis="x", labelsize=8)
    for ax, text in zip(axes[-1], ("year", "session"), strict=True):
        ax.set_xlabel(text, fontsize=8.5)
    axes[0, 1].legend(fontsize=8, loc="upper left")
    return fig
