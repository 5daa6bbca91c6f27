"""What notebook 06 shows: the stored runs by tier, rows of tables that fit a page, and Table 2 as a picture."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from anomaly_routing.ablations import NOT_RUN, RUN
from anomaly_routing.evaluation.summary import median_seed
from anomaly_routing.plots import BLUE, CHANCE, GREY, PAPER


def inventory(stored: pd.DataFrame) -> pd.DataFrame:
    """One row a tier of `stored`, which has one a run: how many, of what, how long, how large."""
    rows = [
        {
            "tier": tier,
            "runs": len(runs),
            "trainings": runs.variant.nunique(),
            "seeds": ", ".join(map(str, sorted(set(runs.seed)))),
            "epochs": runs.epochs.max(),
            "ended at the cap": int((runs["stopped by"] == "cap").sum()),
            "minutes, median": runs.minutes.median(),
            "device": "/".join(sorted(set(runs.device))),
            "kB of a run, median": runs.bytes.median() / 1000,
        }
        for tier, runs in stored.groupby("tier", sort=False)
    ]
    return pd.DataFrame(rows)


def compact(rows: pd.DataFrame, companions: bool = False) -> pd.DataFrame:
    """Rows of a `table` for a page: counts with the seeds' range and the number of events, alarm days in percent.

    companions : for Table 4, the validation events and what moves smoothly in place of the test events (A06).
    """
    return pd.DataFrame([_line(row, companions) for row in rows.to_dict("records")]).dropna(axis=1, how="all")


def _line(row: dict[str, Any], companions: bool) -> dict[str, Any]:
    line = {"claim": row["claim"]} if companions else {}
    line |= {"variant": row["variant"], "look-ahead": row["look-ahead"] or None}
    line |= {"tier": row["tier"], "seeds": row["n_seeds"]}
    line |= {"paper, %": row.get("paper_rate"), "its lead": row.get("paper_lead")}
    if row["status"] != RUN:
        return line | {"hits": NOT_RUN}
    low, high = row["lowest seed"], row["highest seed"]
    spread = f" ({low:.0f}-{high:.0f})" if low < high else ""
    line |= {"hits": _count(row["hits"], row["n_events"], spread)}
    line |= {key: row[key] for key in ("chance", "p", "lead")} | {"alarm days": _percent(row["alarm_rate"])}
    if companions:
        line |= {"val hits": _count(row["hits_val"], row["n_val"])}
        return line | {key: row[key] for key in ("recall", "auc_val")}
    for protocol in ("", "matched: "):
        line |= {f"{protocol}test hits": _count(row[f"{protocol}hits_test"], row["n_test"])}
        line |= {f"{protocol}p, test": row[f"{protocol}p_test"]}
    return line | {"matched: alarm days": _percent(row["matched: alarm_rate"])}


def _count(hits: float | None, events: float, spread: str = "") -> str | None:
    return None if hits is None or np.isnan(hits) else f"{hits:.0f}/{events:.0f}{spread}"


def _percent(share: float | None) -> str | None:
    return None if share is None or np.isnan(share) else f"{share:.1%}"


def draw_rates(ax: plt.Axes, rows: pd.DataFrame, lines: dict[str, dict[int, dict]]) -> None:
    """The paper's rate of each row of a `table`, our seeds, their median and chance, in percent of the events."""
    y = np.arange(len(rows))[::-1]
    ax.plot(rows["paper_rate"].astype(float), y, "D", color=PAPER, ms=6, label="the paper")
    for place, name in zip(y, rows["variant"], strict=True):
        seeds, chance = (
            [100 * (line["paper"][key] or 0) / max(1, line["paper"]["n_events"]) for line in lines[name].values()]
            for key in ("hits", "chance")
        )
        if seeds:
            heights = place + 0.2 * np.linspace(1, -1, len(seeds)) if len(seeds) > 1 else [place]
            ax.plot(seeds, heights, "o", color=BLUE, ms=4, alpha=0.6)
            own = median_seed([line["paper"] for line in lines[name].values()], list(lines[name]))
            ax.plot(seeds[own], place, "|", color=BLUE, ms=14, mew=2)
            ax.plot(chance[own], place, "x", color=CHANCE, ms=6, mew=1.5)
        else:
            ax.text(1, place, NOT_RUN, color=GREY, fontsize=8, va="center")
    ax.plot([], [], "o", color=BLUE, ms=4, alpha=0.6, label="ours, a seed, the first on top (bar: the median one)")
    ax.plot([], [], "x", color=CHANCE, ms=6, mew=1.5, label="that one's alarms moved in time")
    ax.set_yticks(y, rows["variant"])
    ax.set(xlim=(0, 100), ylim=(-0.7, len(rows) - 0.3), xlabel="events hit, %")
    ax.grid(axis="y", lw=0.4, color=GREY, alpha=0.4)
