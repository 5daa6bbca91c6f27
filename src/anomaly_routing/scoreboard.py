"""Every stored run of a market against its events: the numbers behind notebook 12, metrics.json and the README."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import binom
from tqdm import tqdm

from anomaly_routing.evaluation.placebo import chance_hit_rate
from anomaly_routing.evaluation.protocols import evaluate_daily
from anomaly_routing.evaluation.summary import over_seeds
from anomaly_routing.panel import Splits
from anomaly_routing.paths import MarketPaths
from anomaly_routing.plots import BLUE, CHANCE, GREEN, ORANGE
from anomaly_routing.runs import INDEX, Run, RunStore, read_meta, read_run

STOPPED_ON_VAL = "@val"  # ending of the series whose weights were chosen on the validation split, as the paper does
SECOND = "+MPI"  # the name of a row with the second alarm channel
OWN = ""  # a row by the method's own channels
ALONE = "-MPI"  # the name of a row of the full model by its first alarm channel alone
PLAIN = ("causal", "full")  # variants that go without saying


def label(method: str, variant: str) -> str:
    """How a method is named on the scoreboard: its name, and its variant in brackets unless it goes without saying."""
    return method if variant in PLAIN else f"{method} [{variant}]"


def channels(run: Run, protocol: str, channel: str = "mean", judged_by: str = OWN) -> pd.Series | pd.DataFrame:
    """The daily scores that a protocol judges a run by: the trained methods' channels, from the weights that the
    protocol's stop rule chose (`info["channels"]`), else the one series `channel`.

    judged_by : OWN, the method's own channels; SECOND, with the alarm channel that the paper gives to its own model
        alone (`info["second_channel"]`, A99); ALONE, the first of two.
    """
    named = run.info.get("channels")
    if not named:
        return run.daily[channel]
    if judged_by == SECOND:
        named = {p: own | run.info["second_channel"][p] for p, own in named.items()}
    if judged_by == ALONE:
        named = {p: dict([next(iter(own.items()))]) for p, own in named.items()}
    return run.daily[list(named[protocol].values())].set_axis(list(named[protocol]), axis=1)


def evaluate_run(
    run: Run, events: pd.DataFrame, splits: Splits, channel: str = "mean", judged_by: str = OWN
) -> dict[str, Any]:
    """Both protocols' lines of one run, each on its own `channels`."""
    if not run.info.get("channels"):
        return evaluate_daily(run.daily[channel], events, splits=splits)
    judged = {p: channels(run, p, judged_by=judged_by) for p in ("paper", "matched")}
    return {p: evaluate_daily(scores, events, splits=splits)[p] for p, scores in judged.items()}


def collect(paths: MarketPaths, also: Collection[str] = ()) -> pd.DataFrame:
    """One row a current run of any stage: label, seed, what its `info` says, `judged_by` (OWN), and the file.

    also : SECOND, one more row, called `... +MPI`, of a run that has a second alarm channel to offer; ALONE, one more
    row, called `... -MPI`, of a run that is judged by two channels.

    Raises FileNotFoundError without any run and ValueError when runs come from different data.
    """
    rows = []
    for path in (
        p for index in sorted((paths.reports / "runs").rglob(INDEX)) for p in RunStore(index.parent).current()
    ):
        meta = read_meta(path)
        key, info = meta["key"], meta["info"]
        row = {"label": label(key["method"], key["variant"]), "method": key["method"], "variant": key["variant"]}
        row |= {k: info[k] for k in ("family", "title", "lookahead", "stochastic", "tier", "device", "seconds")}
        row |= {"seed": key["seed"], "data_hash": key["data_hash"], "path": path}
        rows.append(row | {"judged_by": OWN})
        two = len((info.get("channels") or {}).get("paper", ())) > 1
        for way, possible in ((ALONE, two), (SECOND, "second_channel" in info)):
            if way in also and possible:
                rows.append(row | {"judged_by": way, "label": f"{row['label']} {way}", "variant": way})
    if not rows:
        raise FileNotFoundError(f"no stored run below {paths.reports / 'runs'}: run the stages before this one")
    table = pd.DataFrame(rows)
    if len(set(table["data_hash"])) > 1:
        raise ValueError(f"the runs below {paths.reports / 'runs'} come from different data: run their stages again")
    return table


def evaluate_runs(runs: pd.DataFrame, events: pd.DataFrame, splits: Splits, channel: str = "mean") -> dict[str, Any]:
    """label -> the protocols' lines of the median seed, n_seeds, tier, device, family, lookahead. Reads daily."""
    methods = {}
    for name, group in tqdm(runs.groupby("label", sort=False), desc="methods", unit="method"):
        group = group.sort_values("seed")
        results = [
            evaluate_run(read_run(run.path), events, splits, channel, run.judged_by) for run in group.itertuples()
        ]
        seeds, first = [int(s) for s in group["seed"]], group.iloc[0]
        methods[name] = over_seeds(results, seeds) | {
            "n_seeds": len(results),
            "seeds": seeds,
            "stochastic": bool(first["stochastic"]),
            **{k: first[k] for k in ("method", "variant", "family", "title", "tier", "device")},
            "lookahead": bool(first["lookahead"]),
        }
    return methods


def by_aggregation(runs: pd.DataFrame, events: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """Hits and alarm days under protocol `paper` for other ways to make a day's score (SPEC 9.2), first seed each.

    mean, max, banks (mean over the banks) and share (of stocks above theta_s) have cuts of their own; `any` alarms when
    some stock is above theta_s, which is the paper's alarm read literally (AUDIT A18).
    """
    rows = []
    chosen = runs[~runs["lookahead"] & (runs["judged_by"] == OWN)].sort_values("seed").drop_duplicates("label")
    for run in tqdm(chosen.itertuples(), total=len(chosen), desc="aggregations", unit="method"):
        stored, row = read_run(run.path), {"method": run.label}
        daily = stored.daily.filter(like=STOPPED_ON_VAL).rename(columns=lambda c: c.removesuffix(STOPPED_ON_VAL))
        daily = daily if stored.info.get("channels") else stored.daily
        for agg in ("mean", "max", "banks", "share", "any"):
            series = daily["share"] if agg == "any" else daily[agg]
            if series.isna().all():  # a market without banks
                continue
            cuts = {"I": 0.0} if agg == "any" else None
            line = evaluate_daily(series, events, splits=splits, cuts=cuts)["paper"]
            row |= {f"hits, {agg}": line["hits"], f"alarm days, {agg}": line["alarm_rate_test"]}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("method", ignore_index=True)


def board(methods: dict[str, Any], protocol: str) -> pd.DataFrame:
    """One row a method under one protocol, best day-level average precision first, look-ahead modes last.

    The ending "test" means the test split alone, which no threshold has seen; "collapsed" counts March 2023 once.
    """
    rows = []
    for name, entry in methods.items():
        line = entry[protocol]
        hits = line["per_seed"]["hits"]
        rows.append({
            "method": name,
            "family": entry["family"],
            "look-ahead": "yes" if entry["lookahead"] else "",
            "hits": line["hits"],
            "of": line["n_events"],
            "seeds": f"{min(hits)}-{max(hits)} ({len(hits)})" if len(hits) > 1 else "1",
            "95% low": line["hits_low"],
            "95% high": line["hits_high"],
            "by chance": line["expected_hits_by_chance"],
            "p": line["chance_p"],
            "hits, test": line["hits_test"],
            "of, test": line["n_events_test"],
            "p, test": line["chance_p_test"],
            "p, test collapsed": line["chance_p_test_march_collapsed"],
            "median lead": line["lead_median"],
            "alarm days": line["alarm_rate_test"],
            "hits, val": line["hits_val"],
            "alarm days, val": line["alarm_rate_val"],
            "alarm days a year": line["alarm_days_per_year"],
            "false alarms": line["false_alarm_rate"],
            "episode precision": line["episode_precision"],
            "noise to signal": line["noise_to_signal"],
            "AUC": line["auc"],
            "AP": line["ap"],
        })  # fmt: skip
    table = pd.DataFrame(rows)
    order = np.lexsort((table["method"], -table["AP"].fillna(0).to_numpy(float), table["look-ahead"] == "yes"))
    return table.iloc[order].reset_index(drop=True)


def draw_against_chance(ax: plt.Axes, table: pd.DataFrame) -> None:
    """Share of the test events that each causal method of a `board` hits, against its alarm days, both in percent.

    Grey: what a blind alarm of the same frequency hits, 95% and mean, if its sessions are independent. A ring marks
    p < 0.05 by rotation on the test events, a wider one that it stays so with March 2023 counted once.
    """
    rows = table[table["look-ahead"] == ""]
    n = int(rows["of, test"].max()) if len(rows) else 0
    if not n:
        return
    rate = np.r_[0.002, np.arange(0.02, 1.0, 0.02)]
    low, high = binom.interval(0.95, n, chance_hit_rate(rate))
    ax.fill_between(100 * rate, 100 * low / n, 100 * high / n, color=CHANCE, alpha=0.25, lw=0, label="blind alarm, 95%")
    ax.plot(100 * rate, 100 * chance_hit_rate(rate), color=CHANCE, lw=1, ls="--")
    x, y = 100 * rows["alarm days"].astype(float), 100 * rows["hits, test"] / n
    trivial, model = rows["family"] == "trivial", rows["family"] == "full model"
    groups = ((trivial, "o", ORANGE, "trivial"), (~trivial & ~model, "o", BLUE, "statistical, learned"),
              (model, "D", GREEN, "the paper's model, ours"))  # fmt: skip
    for mask, mark, colour, text in groups:
        ax.plot(x[mask], y[mask], mark, color=colour, ms=5, alpha=0.8, label=text if mask.any() else None)
    passed = rows["p, test"].astype(float) < 0.05
    collapsed = passed & (rows["p, test collapsed"].astype(float) < 0.05)
    for mask, size, text in ((passed, 10, "p < 0.05 by rotation"), (collapsed, 14, "also with March 2023 once")):
        ax.plot(x[mask], y[mask], "o", mfc="none", mec="k", ms=size, mew=0.8, label=text)
    ax.set(xlabel="alarm days, % of test sessions", xlim=(-0.5, max(30.0, 1.04 * x.max())))
