"""Maps of the learned graph: stocks laid out by sector, so that what spreads can be seen; days and a film."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from PIL import Image
from tqdm import tqdm

from anomaly_routing.case_figures import SCORE_COLOURS
from anomaly_routing.case_market import CaseMarket
from anomaly_routing.case_study import CaseStudy
from anomaly_routing.files import replacing
from anomaly_routing.model.scoring import scores
from anomaly_routing.plots import GREY, INK, RED

SHORT = {"Information Technology": "Technology", "Consumer Discretionary": "Discretionary",
         "Consumer Staples": "Staples", "Communication Services": "Communication"}  # fmt: skip
EDGE_SHARE = 0.015  # of the pairs, on the day with the strongest edges
LETTER, LINE, DOT = 0.04, 0.065, 0.035  # half a letter, half a line, half a dot, in units of a map of a page's half
AFTER = 6  # sessions from an event on over which a change of the graph is averaged


def layout(sector: np.ndarray, focus: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """Positions [N, 2] in the unit disc: the focus group (banks) in the middle, every other sector a cluster around it.

    The same stock has the same place every day; nothing is optimised, so nothing is random.
    """
    place = np.zeros((len(sector), 2))
    place[focus] = 0.40 * _sunflower(int(focus.sum()))
    others = sorted(set(sector[~focus]))
    counts = np.array([((sector == name) & ~focus).sum() for name in others], dtype=float)
    share = np.sqrt(counts) / np.sqrt(counts).sum()
    middle = 2 * np.pi * (np.cumsum(share) - share / 2)
    for angle, name, count in zip(middle, others, counts, strict=True):
        centre = 0.92 * np.array([np.cos(angle), np.sin(angle)])
        place[(sector == name) & ~focus] = centre + 0.048 * np.sqrt(count) * _sunflower(int(count))
    return place


def sector_labels(sector: np.ndarray, focus: np.ndarray, place: np.ndarray) -> dict[str, np.ndarray]:
    """Where the name of every outer sector stands: above or below its dots, where it covers the fewest others."""
    found: dict[str, np.ndarray] = {}
    for name in sorted(set(sector[~focus])):
        own, text = place[(sector == name) & ~focus], SHORT.get(name, name)
        x, up, down = own[:, 0].mean(), own[:, 1].max() + 0.13, own[:, 1].min() - 0.13
        sides = (up, down) if own[:, 1].mean() > -0.5 else (down, up)  # away from the middle first
        tries = [np.array([x + side, y]) for side in (0, 0.12, -0.12, 0.24, -0.24) for y in sides]
        found[text] = _freest(tries, text, place, found)
    return found


def name_places(place: np.ndarray, named: dict[str, int], labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where the names of single stocks stand: between the middle and the clusters, near the direction of the dot,
    where they cover the fewest dots, sectors and other names."""
    found: dict[str, np.ndarray] = {}
    for name, at in named.items():
        angle = np.arctan2(place[at][1], place[at][0])
        turns = sorted(np.linspace(-1.2, 1.2, 13), key=abs)
        tries = [r * np.array([np.cos(angle + t), np.sin(angle + t)]) for t in turns for r in (0.55, 0.6, 0.65)]
        found[name] = _freest(tries, name, place, labels | found)
    return found


def _freest(tries: list[np.ndarray], text: str, dots: np.ndarray, taken: dict[str, np.ndarray]) -> np.ndarray:
    """The first of the places at which a text, boxed by its letters, covers the fewest dots [N, 2] and other texts."""

    def covered(spot: np.ndarray) -> int:
        half = np.array([LETTER * len(text), LINE])
        on_dots = (np.abs(dots - spot) < half + DOT).all(1).sum()
        others = [np.abs(at - spot) < half + np.array([LETTER * len(other), LINE]) for other, at in taken.items()]
        return int(on_dots + 3 * sum(map(np.all, others)))  # a name on a name is worse than one on a dot

    return min(tries, key=covered)


def _sunflower(n: int) -> np.ndarray:
    """n points spread evenly over the unit disc (Vogel 1979)."""
    k = np.arange(n) + 0.5
    radius, angle = np.sqrt(k / n), k * np.pi * (3 - 5**0.5)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def strongest_edges(graphs: np.ndarray, share: float = EDGE_SHARE) -> float:
    """The weight above which the given share of pairs lies on the day [T, N, N] that has the most weight there."""
    pairs = np.maximum(graphs, graphs.transpose(0, 2, 1))
    upper = pairs[:, *np.triu_indices(graphs.shape[1], 1)]
    return float(np.quantile(upper, 1 - share, axis=1).max())


def draw_map(
    ax: plt.Axes,
    graph: np.ndarray,
    score: np.ndarray,
    focus: np.ndarray,
    place: np.ndarray,
    cut: float,
    labels: dict[str, np.ndarray] | None = None,
    named: dict[str, int] | None = None,
    size: float = 26.0,
    raster: bool = True,
) -> plt.cm.ScalarMappable:
    """One day: dots coloured by score [N] (a cross where a stock does not trade), edges of weight above `cut`.

    Edges that touch the focus group are red, the others grey; `named` (ticker -> position) gets its name.
    raster : lines and dots as pixels in a vector picture, smaller where there are many.
    """
    weight = np.triu(np.maximum(graph, graph.T), 1)
    i, j = np.nonzero(weight > cut)
    inside = focus[i] | focus[j]
    for chosen, colour, width in ((~inside, GREY, 0.5), (inside, RED, 0.9)):
        ends = np.stack([place[i[chosen]], place[j[chosen]]], 1)
        edges = Outline.make_compound_path(*map(Outline, ends))  # one path: a line of SVG an edge, not three
        style = {"ec": colour, "lw": width, "alpha": 0.4, "zorder": 1, "rasterized": raster}
        ax.add_patch(PathPatch(edges, fill=False, **style))
    known = np.isfinite(score)
    picture = ax.scatter(*place[known].T, c=score[known], cmap=SCORE_COLOURS, vmin=0, vmax=1, s=size, zorder=2,
                         edgecolors=INK, linewidths=0.4, rasterized=raster)  # fmt: skip
    ax.scatter(*place[~known].T, marker="x", color=INK, s=0.85 * size, linewidths=1.1, zorder=2)
    plain = {"fontsize": 7.5, "ha": "center", "va": "center", "color": INK, "zorder": 3}
    plain |= {"bbox": {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7}}
    for name, (x, y) in name_places(place, named or {}, labels or {}).items():
        ax.plot([place[named[name]][0], x], [place[named[name]][1], y], color=INK, lw=0.6, zorder=2.5)
        ax.annotate(name, (x, y), weight="bold", **plain)
    for text, (x, y) in (labels or {}).items():
        ax.annotate(text, (x, y), **plain)
    reach = (1.3, 1.3) if labels else (1.16, 1.16)
    ax.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]), xticks=[], yticks=[], aspect="equal")
    for side in ax.spines.values():
        side.set_visible(False)
    return picture


def draw_days(study: CaseStudy, focus: np.ndarray, at: Sequence[int]) -> plt.Figure:
    """The learned graph on several sessions (positions in the study) with one layout, one cut and one colour scale."""
    market, learned = study.market, study.output["learned"]
    place, score = layout(market.sector, focus), scores_of(study)
    cut, labels = strongest_edges(learned[list(at)]), sector_labels(market.sector, focus, place)
    table = graph_table(market, study, focus)
    fig, axes = plt.subplots(-(-len(at) // 2), 2, figsize=(5.4, 0.6 + 2.35 * (-(-len(at) // 2))), squeeze=False)
    for ax in axes.flat[len(at) :]:
        ax.set_visible(False)
    for ax, t in zip(axes.flat, at, strict=False):
        places = {ticker: market.tensors.tickers.index(ticker) for ticker in study.tickers[:3]}
        named = {ticker: i for ticker, i in places.items() if np.isfinite(score[t, i])}
        picture = draw_map(ax, learned[t], score[t], focus, place, cut, labels, named, size=14)
        own = table.loc[t]
        ax.set_title(
            f"{study.sessions[t]:%-d %b}: kept {own['kept_inside']:.2f}, drawn {own['drawn_from_outside']:.2f}\n"
            f"prior {own['prior_keeps']:.2f} and {own['prior_draws']:.2f}, even {own['even']:.2f}",
            fontsize=8.5,
        )
    bar = fig.colorbar(picture, ax=axes, orientation="horizontal", shrink=0.5, aspect=35, pad=0.01)
    bar.set_label("score s", fontsize=8)
    return fig


def focus_mass(graphs: np.ndarray, focus: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Share of the learned weight in the focus group's rows that stays inside the group; [T], NaN without members."""
    inside = [g[focus & a][:, focus & a].sum() / max(g[focus & a].sum(), 1e-12) if (focus & a).any() else np.nan
              for g, a in zip(graphs, active, strict=True)]  # fmt: skip
    return np.array(inside)


def outside_mass(graphs: np.ndarray, focus: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Share of the learned weight in the other stocks' rows that falls on the focus group: what spreads; [T]."""
    rows = []
    for g, a in zip(graphs, active, strict=True):
        own = g[~focus & a]
        rows.append(own[:, focus & a].sum() / max(own.sum(), 1e-12))
    return np.array(rows)


def scores_of(study: CaseStudy) -> np.ndarray:
    """Scores [T, N] of all stocks over the sessions of a study, NaN where inactive; default preset, first seed."""
    info = study.market.first_run("intended").info
    active = study.market.tensors.active[study.positions]
    return scores(study.output["error"], active, info["mu_tail"], info["sigma_tail"])


def graph_table(market: CaseMarket, study: CaseStudy, focus: np.ndarray) -> pd.DataFrame:
    """Per session: learned weight that the focus group keeps and draws, beside the prior graph's own, which the network
    is given (its rows brought to one), and beside an even graph; neighbours."""
    active, graphs = market.tensors.active[study.positions], study.output["learned"]
    given = np.stack([_rows_to_one(market.tensors.prior * np.outer(a, a)) for a in active])
    share = (active & focus).sum(1) / np.maximum(active.sum(1), 1)
    entropy = np.where(graphs > 0, -graphs * np.log(np.maximum(graphs, 1e-12)), 0).sum(2)
    rows = active & (graphs.sum(2) > 0)
    return pd.DataFrame({
        "session": study.sessions,
        "kept_inside": focus_mass(graphs, focus, active),
        "drawn_from_outside": outside_mass(graphs, focus, active),
        "prior_keeps": focus_mass(given, focus, active),
        "prior_draws": outside_mass(given, focus, active),
        "even": share,
        "effective_neighbours": [np.exp(e[r]).mean() if r.any() else np.nan
                                 for e, r in zip(entropy, rows, strict=True)],
        "density_of_strong_edges": (graphs > 2 / np.maximum(active.sum(1), 1)[:, None, None]).mean((1, 2)),
    })  # fmt: skip


def _rows_to_one(graph: np.ndarray) -> np.ndarray:
    total = graph.sum(1, keepdims=True)
    return np.divide(graph, total, out=np.zeros_like(graph, dtype=float), where=total > 0)


def usual_changes(drawn: pd.Series, date: pd.Timestamp, baseline: pd.DatetimeIndex, tests: np.ndarray) -> pd.Series:
    """The change of a daily series from a baseline to the `AFTER` sessions from a day on, for every test session.

    drawn : by session, all test sessions included. baseline : of the case; for another day it lies as many sessions
    before. tests : bool, the sessions of `drawn` that are test sessions. Days without room are left out.
    """
    values, at = drawn.to_numpy(), drawn.index.get_loc(date)
    offset = drawn.index.get_indexer(baseline) - at
    days = [t for t in np.flatnonzero(tests) if t + offset.min() >= 0 and t + AFTER <= len(values)]
    change = [values[t : t + AFTER].mean() - values[t + offset].mean() for t in days]
    return pd.Series(change, drawn.index[days])


def animate(
    path: Path,
    study: CaseStudy,
    focus: np.ndarray,
    named: dict[str, int],
    title: str,
    note: str,
    milliseconds: int = 800,
) -> int:
    """A GIF, one frame a session of the study, written whole or not at all; returns its bytes."""
    place = layout(study.market.sector, focus)
    labels, score = sector_labels(study.market.sector, focus, place), scores_of(study)
    cut = strongest_edges(study.output["learned"])
    frames = []
    for t, day in enumerate(tqdm(study.sessions, desc="frames", unit="session")):
        fig = plt.figure(figsize=(4.2, 4.8), layout="none")
        ax, below = fig.add_axes((0.0, 0.125, 1.0, 0.82)), fig.add_axes((0.2, 0.095, 0.6, 0.022))
        traded = {name: at for name, at in named.items() if np.isfinite(score[t, at])}
        picture = draw_map(ax, study.output["learned"][t], score[t], focus, place, cut, labels, traded)
        ax.set_title(f"{title}: {day:%a %-d %b %Y}", fontsize=11, x=0.03, y=0.985)
        bar = fig.colorbar(picture, cax=below, orientation="horizontal")
        bar.set_label("score (crosses do not trade)", fontsize=8)
        bar.ax.tick_params(labelsize=7)
        fig.text(0.01, 0.005, note, fontsize=6, color=GREY)
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi=100)
        plt.close(fig)
        frames.append(Image.open(buffer).convert("RGB"))
    palette = frames[len(frames) // 2].quantize(96, method=Image.Quantize.MAXCOVERAGE)
    pictures = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with replacing(path) as partial:
        pictures[0].save(partial, format="GIF", save_all=True, append_images=pictures[1:], duration=milliseconds,
                         loop=0, optimize=True)  # fmt: skip
        return partial.stat().st_size
