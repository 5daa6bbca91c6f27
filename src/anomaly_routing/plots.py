"""One look for every figure: colour-blind safe, readable in print, and stamped with what it shows."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from anomaly_routing.files import replacing

# Okabe & Ito (2008), in the order used here
BLUE, ORANGE, GREEN, RED, SKY, PURPLE, YELLOW = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00"),
    *("#56B4E9", "#CC79A7", "#F0E442"),
)
GREY, INK = "#8C8C8C", "#222222"
GROUP_COLOURS = {"price_shock": RED, "liquidity": BLUE, "contagion": PURPLE, "momentum": ORANGE}
PAPER = RED  # the paper's own number, wherever it is drawn
CHANCE = GREY  # the chance level, wherever it is drawn
COLOURS = (24, 32, 48, 64, 80, 96, 112, 128)  # of a stored picture: as few of them as
FARTHEST = 40  # keep every channel of a pixel closer than this, of 255

STYLE = {
    "figure.figsize": (8.0, 4.2),
    "figure.dpi": 90,
    "savefig.dpi": 130,
    "figure.constrained_layout.use": True,
    "axes.prop_cycle": mpl.cycler(color=[BLUE, ORANGE, GREEN, RED, SKY, PURPLE]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "font.family": "DejaVu Sans",
    "svg.fonttype": "none",
    "svg.hashsalt": "anomaly-routing",
}


def use_style() -> None:
    """Set the look for all figures that follow."""
    mpl.rcParams.update(STYLE)


def stamp(fig: plt.Figure, market: str, seeds: object = "none", device: str = "cpu", note: str = "") -> None:
    """Say under the figure which market, seeds and device it was made from."""
    text = " · ".join(part for part in (f"market: {market}", f"seeds: {seeds}", f"device: {device}", note) if part)
    fig.text(0.005, -0.015, text, fontsize=7.5, color=GREY, ha="left", va="top")


def save(fig: plt.Figure, folder: Path, name: str, vector: bool = False) -> None:
    """Write `name`.png and, if asked, `name`.svg, for print; the same figure gives the same bytes."""
    formats = {"png": {"Software": None}} | ({"svg": {"Date": None}} if vector else {})
    if not vector:
        (Path(folder) / f"{name}.svg").unlink(missing_ok=True)  # of an earlier run
    for suffix, metadata in formats.items():
        with replacing(Path(folder) / f"{name}.{suffix}") as partial:
            fig.savefig(partial, format=suffix, metadata=metadata, bbox_inches="tight")
            if suffix == "png":
                partial.write_bytes(in_palette(partial.read_bytes()))


def in_palette(png: bytes) -> bytes:
    """The same picture with the fewest colours that leave no difference an eye finds: a third of the bytes.

    No channel of a pixel moves by `FARTHEST` of 255 or more, nor by half a step on average; else all `COLOURS`.
    """
    picture, small = Image.open(BytesIO(png)).convert("RGB"), BytesIO()
    before = np.asarray(picture, np.int16)
    for count in COLOURS:
        fewer = picture.quantize(count, kmeans=1, dither=Image.Dither.NONE)
        change = np.abs(np.asarray(fewer.convert("RGB"), np.int16) - before)
        if change.max() < FARTHEST and change.mean() < 0.5:
            break
    fewer.save(small, "png", optimize=True)
    return small.getvalue()


def mark_events(ax: plt.Axes, events: pd.DataFrame, label: bool = True) -> None:
    """A thin line at each event that falls on the axis; its id above, lifted where two would touch."""
    left, right = (mpl.dates.num2date(x).replace(tzinfo=None) for x in ax.get_xlim())
    inside = events[(events["date"] >= left) & (events["date"] <= right)].sort_values("date")
    last, level = None, 0
    for row in inside.itertuples():
        ax.axvline(row.date, color=GREY, lw=0.7, ls=":", zorder=0)
        near = last is not None and (row.date - last) < (right - left) / 28
        level, last = (level + 1) % 5 if near else 0, row.date
        if label:
            lift = (0, 2 + 8 * level)  # in points, so that small axes do not press the labels together
            place = {"xycoords": ax.get_xaxis_transform(), "xytext": lift, "textcoords": "offset points"}
            ax.annotate(row.id, (mpl.dates.date2num(row.date), 1), fontsize=7, ha="center", color=INK, **place)


def shade_splits(ax: plt.Axes, splits) -> None:
    """Grey for the validation span; training is left of it, test right."""
    ax.axvspan(pd.Timestamp(splits.train_end), pd.Timestamp(splits.val_end), color=GREY, alpha=0.13, lw=0)


def range_plot(
    ax: plt.Axes, names: list[str], values: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str
) -> None:
    """Horizontal dots with intervals, first name on top."""
    y = np.arange(len(names))[::-1]
    ax.hlines(y, low, high, color=colour, lw=2.2, alpha=0.45)
    ax.plot(values, y, "o", color=colour, ms=5)
    ax.set_yticks(y, names)
    ax.set_ylim(-0.7, len(names) - 0.3)
