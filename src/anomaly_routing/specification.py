"""The specification curve: every reading that the paper's words and the stored scores allow, in one sorted picture.

After Simonsohn, Simmons & Nelson (2020), Nature Human Behaviour 4. A reading is one choice for each of `CHOICES`.
"""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_routing.evaluation.aggregate import daily_statistic
from anomaly_routing.evaluation.detection import WINDOWS
from anomaly_routing.evaluation.placebo import chance_hit_rate
from anomaly_routing.evaluation.readings import CUTS, DATES, count_hits, raise_alarms
from anomaly_routing.panel import Splits
from anomaly_routing.plots import BLUE, CHANCE, INK, ORANGE, PAPER
from anomaly_routing.runs import Run, read_run

# column -> what is chosen
CHOICES = {
    "model": "preset and flag",
    "stop": "split that stops the training",
    "universe": "stocks",
    "aggregation": "a day's score from its stocks'",
    "second": "alarm channels",
    "cuts": "source of the threshold",
    "window": "sessions in which an alarm counts",
    "dates": "dates of events without a day",
}
ENDINGS = {"val": "@val", "tail": ""}
AGGREGATIONS = ("mean", "max", "banks", "share")
ONE, TWO = "score", "score or index"


def specification_curve(
    models: pd.DataFrame, events: pd.DataFrame, splits: Splits, survivors: set[str]
) -> pd.DataFrame:
    """One row a reading of a run, the highest share of hits first.

    models : columns model, seed, tier, path. survivors : stocks of the universe without those that left or came late.
    Out: seed, tier, the `CHOICES`, hits, n_events, share (in [0, 1]) and alarm_rate (of the judged test sessions).
    """
    rows = []
    for one in tqdm(models.itertuples(), total=len(models), desc="readings", unit="run"):
        run = read_run(one.path)
        for chosen, scores, cuts, fixed in _alarmed(run, survivors):
            alarms = raise_alarms(scores, events, splits, cuts, fixed)
            own = {"model": one.model, "seed": one.seed, "tier": one.tier, **chosen, "cuts": cuts}
            for window in WINDOWS:
                for dates in DATES:
                    found = count_hits(alarms, window, dates)
                    counts = {key: found[key] for key in ("hits", "n_events")}
                    rows.append(own | {"window": window, "dates": dates} | counts | {"alarm_rate": alarms.rate})
    curve = pd.DataFrame(rows)
    curve["share"] = curve["hits"] / curve["n_events"].where(curve["n_events"] > 0)
    order = curve.sort_values(["share", "alarm_rate"], ascending=[False, True], kind="stable")
    return order.dropna(subset="share").reset_index(drop=True)


def _alarmed(run: Run, survivors: set[str]) -> Iterator[tuple[dict[str, str], pd.DataFrame, str, dict[str, float]]]:
    """(choices, daily scores, cuts, fixed cuts) of a run: what its stored series allow."""
    for stop, series, universe, aggregation in _series(run, survivors):
        pressure = run.daily[f"mpi{ENDINGS[stop]}"].reindex(series.index)
        literal = aggregation == "any"  # no quantile of it means anything
        for second in (ONE, TWO):
            if second == TWO and universe != "all":
                continue  # the index of these stocks alone was not stored
            scores = series.to_frame("I") if second == ONE else pd.DataFrame({"I": series, "M": pressure})
            for cuts in CUTS[:1] if literal else CUTS:
                chosen = {"stop": stop, "universe": universe, "aggregation": aggregation, "second": second}
                yield chosen, scores, cuts, {"I": 0.0} if literal else {}


def _series(run: Run, survivors: set[str]) -> Iterator[tuple[str, pd.Series, str, str]]:
    """(stop rule, daily series, universe, aggregation)."""
    for stop, ending in ENDINGS.items():
        for aggregation in AGGREGATIONS:
            column = f"{aggregation}{ending}"
            if column in run.daily and run.daily[column].notna().any():  # a market may have no bank
                yield stop, run.daily[column], "all", aggregation
        if f"share{ending}" in run.daily:
            yield stop, (run.daily[f"share{ending}"] > 0).astype(float), "all", "any"
    kept = np.array([ticker in survivors for ticker in run.tickers], bool)
    if run.score.size and kept.any():  # of the first seed alone, by the weights of the rule `tail`
        score = run.score[:, kept]
        mean = daily_statistic(score, ~np.isnan(score), "mean")
        yield "tail", pd.Series(mean, index=run.score_sessions), "survivors", "mean"


def by_choice(curve: pd.DataFrame, goal: float) -> pd.DataFrame:
    """For every value of every choice: how many readings, their median share and alarm rate, how many reach `goal`."""
    rows = []
    for choice, what in CHOICES.items():
        for value, part in curve.groupby(choice, sort=False):
            rows.append({
                "choice": what, "value": value, "readings": len(part), "median share": part["share"].median(),
                "median alarm rate": part["alarm_rate"].median(),
                "reach the paper's": int((part["share"] >= goal).sum()),
            })  # fmt: skip
    return pd.DataFrame(rows)


def draw_curve(axes: np.ndarray, curve: pd.DataFrame, goal: float | None) -> None:
    """Above: the share of every reading, sorted, coloured by its alarm rate, the paper's as a line. Below: where in
    that order each value of each choice lies (median, middle half and whole range)."""
    above, below = axes
    place = np.arange(len(curve)) / max(1, len(curve) - 1)
    colours = above.scatter(
        100 * place, 100 * curve["share"], c=100 * curve["alarm_rate"], s=7, cmap="viridis_r", vmin=0, vmax=100
    )
    if goal is not None:
        above.axhline(100 * goal, color=PAPER, lw=1.2)
        above.annotate(f"the paper: {100 * goal:.1f}%", (99, 100 * goal), xytext=(0, -10), textcoords="offset points",
                       ha="right", fontsize=8, color=PAPER)  # fmt: skip
    above.figure.colorbar(colours, ax=above, label="alarm days, %", pad=0.01)
    above.set(ylim=(-3, 104), ylabel="events hit, %", title=f"{len(curve)} readings, the most hits first")
    names, y = [], 0
    for choice in CHOICES:
        for value in curve.assign(place=place).groupby(choice)["place"].median().sort_values().index:
            at = 100 * place[(curve[choice] == value).to_numpy()]
            below.hlines(y, at.min(), at.max(), color=CHANCE, lw=0.8)
            below.hlines(y, *np.quantile(at, [0.25, 0.75]), color=INK, lw=3)
            below.plot(np.median(at), y, "o", color=INK, ms=4)
            names.append((y, value if choice == "model" else f"{choice}: {value}"))
            y += 1
        below.axhline(y - 0.5, color=CHANCE, lw=0.4, ls=":")
    below.set_yticks(*zip(*names, strict=True), fontsize=7)
    below.set(ylim=(y - 0.5, -0.5), xlim=above.get_xlim(), xlabel="place among the sorted readings, %")


def draw_against_alarms(ax: plt.Axes, curve: pd.DataFrame, goal: float) -> None:
    """Share of hits against alarm rate, an area for the number of readings; a blind alarm's and the paper's share."""
    literal = curve["aggregation"] == "any"
    for mask, colour, text in ((~literal, BLUE, "readings"), (literal, ORANGE, "some stock above its cut")):
        same = curve[mask].assign(rate=(100 * curve["alarm_rate"]).round()).groupby(["rate", "share"]).size()
        rate, share = (same.index.get_level_values(level).to_numpy(float) for level in ("rate", "share"))
        ax.scatter(rate, 100 * share, s=6 * same.to_numpy(), color=colour, alpha=0.5, lw=0, label=text)
    rate = np.linspace(0, 1, 401)
    ax.plot(100 * rate, 100 * chance_hit_rate(rate), "--", color=CHANCE, lw=1, label="blind alarm, five sessions")
    ax.plot(100 * rate, 100 * chance_hit_rate(rate, 10), ":", color=CHANCE, lw=1, label="the same, ten sessions")
    ax.axhline(100 * goal, color=PAPER, lw=1)
    ax.set(xlabel="alarm days, % of test sessions", ylabel="events hit, %", ylim=(-4, 106))
    ax.set_xscale("function", functions=(np.sqrt, np.square))  # most readings alarm seldom
    ax.set(xlim=(0, 100), xticks=[0, 1, 5, 10, 20, 40, 60, 80, 100])
    for handle in ax.legend(fontsize=7.5, loc="lower right").legend_handles[:2]:
        handle.set_sizes([30])
