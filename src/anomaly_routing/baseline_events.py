"""Event by method by seed, the matrix that the paper never printed (A22): alarm days, table, picture, sentence.

Notebook 04 judges every baseline run twice, on its mean score alone and with the second alarm channel (`SECOND`).
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import BoundaryNorm, ListedColormap

from anomaly_routing import plots
from anomaly_routing.evaluation.detection import LABEL
from anomaly_routing.evaluation.inputs import ScoredDays, scored_days
from anomaly_routing.evaluation.protocols import HEADLINE_BUDGET
from anomaly_routing.evaluation.thresholds import (
    BUDGETS,
    HISTORY,
    PAPER_QUANTILE,
    TrailingWindows,
    matched_budget,
    quantile_cuts,
)
from anomaly_routing.panel import Splits
from anomaly_routing.prose import sentence
from anomaly_routing.runs import read_run
from anomaly_routing.scoreboard import SECOND, channels

PROTOCOLS = ("paper", "matched")
AHEAD = range(-LABEL[0], 0, -1)  # sessions before the event that count, 5 to 1
KEYS = ["method", "channel", "seed", "protocol", "alarm days, test"]
AIMS = {"paper": 1 - PAPER_QUANTILE, "matched": BUDGETS[HEADLINE_BUDGET].allowed / HISTORY}  # share of alarm days
COUNTABLE, GAPS = 5, {"edgecolor": "white", "linewidth": 0.3}  # so many seeds can be counted; more would be all gaps
LEADS = ("#9ECAE1", "#6BAED6", "#4292C6", "#2171B5", "#08306B")  # of the first alarm, 1 to 5 sessions ahead


def alarm_days(days: ScoredDays, protocol: str) -> tuple[np.ndarray, np.ndarray]:
    """Sessions that alarm and sessions that have a verdict, bool [S] each (SPEC 9.0)."""
    if protocol == "paper":
        alarms, judged = days.score > quantile_cuts(days.score, days.val), days.evaluated
    else:
        windows = TrailingWindows(days.score, days.scored, wanted=days.evaluated)
        outcome = matched_budget(windows, BUDGETS[HEADLINE_BUDGET])
        alarms, judged = outcome.alarms, outcome.judged
    return alarms.any(axis=1) & judged, judged


def event_seeds(stored: pd.DataFrame, events: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """One row a run, channel, protocol and event.

    stored : rows of `scoreboard.collect`, with the second channel. events : `id` and `date`, sessions of the runs.
    alarm days, test : share of the judged test sessions. ahead : how many sessions before the event each alarm of its
    window came, "5 3 1"; "" for none. lead : the first of them, NaN for none. hit : missing without a verdict.
    """
    lines = []
    for run in stored.itertuples():
        scores, channel = read_run(run.path), f"mean{run.judged_by}"
        for protocol in PROTOCOLS:
            days = scored_days(channels(scores, protocol, judged_by=run.judged_by), splits)
            alarm, judged = alarm_days(days, protocol)
            share = alarm[days.test & judged].mean() if (days.test & judged).any() else np.nan
            for event, at in zip(events["id"], days.sessions.get_indexer(events["date"]), strict=True):
                ahead = [n for n in AHEAD if at >= n and alarm[at - n]]
                verdict = any(at >= n and judged[at - n] for n in AHEAD)
                found = (bool(ahead) if verdict else None, ahead[0] if ahead else np.nan, " ".join(map(str, ahead)))
                lines.append((run.method, channel, run.seed, protocol, share, event, *found))
    return pd.DataFrame(lines, columns=[*KEYS, "event", "hit", "lead", "ahead"]).astype({"hit": "boolean"})


def by_run(matrix: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    """The same, one row a run, channel and protocol, one column an event: `ahead`, or "?" without a verdict."""
    told = matrix.assign(ahead=matrix["ahead"].where(matrix["hit"].notna(), "?"))
    wide = told.pivot_table(index=KEYS, columns="event", values="ahead", aggfunc="first").reindex(columns=list(ids))
    return wide.sort_index().reset_index().rename_axis(columns=None)


def event_windows(events: pd.DataFrame, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """Which sessions the numbers of `by_run` are: one row an event, its date and the dates 5 to 1 sessions before."""
    rows = [
        {"event": event, "date": date} | {str(n): sessions[sessions.get_loc(date) - n] for n in AHEAD}
        for event, date in zip(events["id"], events["date"], strict=True)
    ]
    return pd.DataFrame(rows, columns=["event", "date", *map(str, AHEAD)])


def draw_event_seeds(
    fig: plt.Figure, axes: np.ndarray, matrix: pd.DataFrame, methods: Sequence[str], ids: Sequence[str]
) -> None:
    """A row a method and a column an event; within it a cell a seed, coloured by the lead of its first alarm.

    axes : [2, 4], upper row the mean score, lower with the second channel; a matrix and the alarm shares beside it for
    either protocol. A white cell is a miss, a grey one has no verdict; a dot of the shares is a seed, the dotted line
    what the protocol aims at. The number of seeds stands behind the method.
    """
    colours = ListedColormap(LEADS).with_extremes(bad="white")
    norm = BoundaryNorm(np.arange(0.5, len(LEADS) + 1), len(LEADS))
    seeds = {m: matrix.loc[matrix["method"] == m, "seed"].nunique() for m in methods}
    for row, channel in zip(axes, ("mean", f"mean{SECOND}"), strict=True):
        for (ax, side), protocol in zip((row[:2], row[2:]), PROTOCOLS, strict=True):
            part = matrix[(matrix["channel"] == channel) & (matrix["protocol"] == protocol)]
            for i, method in enumerate(methods):
                own = part[part["method"] == method].set_index(["event", "seed"])
                lead, hit = (own[v].astype(float).unstack("seed").reindex(list(ids)) for v in ("lead", "hit"))  # noqa: PD010
                for k, event in enumerate(ids):
                    edges = k + np.linspace(0.06, 0.94, lead.shape[1] + 1)
                    cells = np.ma.masked_invalid(lead.loc[[event]].to_numpy(float))
                    gaps = GAPS if lead.shape[1] <= COUNTABLE else {}
                    picture = ax.pcolormesh(edges, [i - 0.4, i + 0.4], cells, cmap=colours, norm=norm, **gaps)
                    if hit.loc[event].isna().any():
                        ax.fill_between([k, k + 1], i - 0.4, i + 0.4, color=plots.GREY, alpha=0.3, lw=0)
                shares = own["alarm days, test"].groupby("seed").first()
                side.plot(100 * shares, [i] * len(shares), ".", ms=4, color=plots.ORANGE)
            _frame(ax, side, [f"{m} ({n})" for m, n in seeds.items()], ids, f"{protocol}, {channel}")
            side.axvline(100 * AIMS[protocol], color=plots.CHANCE, lw=0.8, ls=":")
    widest = max(side.get_xlim()[1] for side in axes[:, 1::2].flat)
    for side in axes[:, 1::2].flat:
        side.set_xlim(0, widest)
    if len(ids) and len(methods):
        fig.colorbar(picture, ax=axes, shrink=0.3, label="first alarm, sessions ahead", ticks=range(1, len(LEADS) + 1))


def _frame(ax: plt.Axes, side: plt.Axes, names: Sequence[str], ids: Sequence[str], title: str) -> None:
    ax.set(title=title, xlim=(0, max(len(ids), 1)), ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)))
    ax.set_yticklabels(names, fontsize=7)
    ax.set_xticks(np.arange(len(ids)) + 0.5, ids, fontsize=6, rotation=60)
    for k in range(1, len(ids)):
        ax.axvline(k, color=plots.GREY, lw=0.4)
    for i in range(1, len(names)):
        ax.axhline(i - 0.5, color=plots.GREY, lw=0.2)
    side.margins(x=0.1)
    side.set(xlim=(0, None), ylim=(len(names) - 0.5, -0.5), yticks=[])
    side.set_xlabel("alarm days, %", fontsize=7)
    side.tick_params(labelsize=6)


def budget_sentence(matrix: pd.DataFrame) -> str:
    """At which budget each protocol alarms: what it aims at, and what the test split saw. matrix : `event_seeds`."""
    runs = matrix.drop_duplicates(KEYS[:4])

    def seen(protocol: str, channel: str) -> str:
        part = runs["alarm days, test"][(runs["protocol"] == protocol) & (runs["channel"] == channel)]
        return sentence("{m:.1%} ({a:.1%} to {b:.1%})", m=part.median(), a=part.min(), b=part.max())

    return sentence(
        "Budgets. `paper` cuts each channel at the {q:.0%} quantile of the validation year, so that {share:.0%} of its "
        "sessions alarm, whatever follows: in the test split the median run alarms on {p} of the sessions (lowest to "
        "highest run), with the second channel on {p2}. `matched` allows {n} alarms in the {past} sessions before, "
        "{rate:.1%}, however many channels there are: {m}, with the second channel {m2}.",
        q=PAPER_QUANTILE, share=AIMS["paper"], n=BUDGETS[HEADLINE_BUDGET].allowed, past=HISTORY, rate=AIMS["matched"],
        p=seen("paper", "mean"), p2=seen("paper", f"mean{SECOND}"),
        m=seen("matched", "mean"), m2=seen("matched", f"mean{SECOND}"),
    )  # fmt: skip


def announced_sentence(matrix: pd.DataFrame, ids: Sequence[str]) -> str:
    """Which events most methods announce at the matched budget and which none, and how often seeds disagree."""
    matched = matrix[matrix["protocol"] == "matched"]

    def announced(channel: str) -> pd.Series:
        of_methods = matched[matched["channel"] == channel].groupby(["event", "method"])["hit"].mean().astype(float)
        return of_methods.groupby("event").mean().reindex(list(ids)).fillna(0.0)

    share, both = announced("mean"), announced(f"mean{SECOND}")
    most = share[share > 0.5].sort_values(ascending=False, kind="stable")
    easy = "by most methods " + ", ".join(f"{event} {value:.0%}" for event, value in most.items())
    if most.empty:
        easy = f"most often, but not by most methods, {share.idxmax()} {share.max():.0%}"
    part = matched[matched["channel"] == "mean"]
    of_seeds = part.groupby(["method", "event"])["hit"].agg(["mean", "count"])
    several = of_seeds[of_seeds["count"] > 1]["mean"].astype(float)
    return sentence(
        "Under `matched`, by the first channel alone: announced {easy} (share of the methods, each with the share "
        "of its seeds); by no run {missed}. With the second channel, by no run: {missed2}. Of {n} pairs of "
        "an event and a method with several seeds, the seeds disagree in {split} (first channel).",
        easy=easy, missed=", ".join(share.index[share == 0]) or "none",
        missed2=", ".join(both.index[both == 0]) or "none",
        n=len(several), split=int(several.between(0, 1, inclusive="neither").sum()),
    )  # fmt: skip


def banks_sentence(matrix: pd.DataFrame, banks: Sequence[str], method: str = "tranad") -> str:
    """Which banking events a method announces under `paper`, which the paper's text says it misses (A94)."""
    part = matrix[(matrix["method"] == method) & (matrix["protocol"] == "paper") & (matrix["channel"] == "mean")]
    share = part.groupby("event")["hit"].mean().astype(float)
    return sentence(
        "TranAD, which in the paper's words misses coordinated banking failures, announces these of them (share of "
        "seeds, `paper`): {found} (A94).",
        found=", ".join(f"{i} {share[i]:.0%}" for i in banks if share.get(i, 0) > 0) or "none",
    )
