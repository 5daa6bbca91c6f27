"""The chapter's volume case (58.9): two rules on the volume of one share, dated, and what else was so on those days.

Three ways. `chapter`: as printed, all days at once, volume in shares. `causal`: the same from the training days, judged
on the days after them. `causal, against usual`: log volume less the median of the stock's sixty volumes before, since a
share is no fixed unit: the source adjusts prices for bonus and rights issues, not volumes, and a rupee turnover would
need the unadjusted close, which it does not give.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from anomaly_routing.baselines.statistical.iqr import quartiles
from anomaly_routing.chapter.case import USUAL, against_usual, circumstances
from anomaly_routing.chapter.study import run_detectors
from anomaly_routing.panel import Panel
from anomaly_routing.prose import sentence

WAYS = ("chapter", "causal", "causal, against usual")
K, CONTAMINATION = 2.5, 0.02  # the chapter's fences and told share
OUTSIDE, MANY = 1.5, 1 / 3  # a day is market-wide when that share of stocks is outside their own fences at 1.5
FAR_MORE, WIDER = 3, 1.5  # times; what counts as far more, and as wider
LIMIT, NEAR = 0.10, 0.005  # the exchange's daily limit (data/nepse/PROVENANCE.md), and what counts as at it
IN_2012 = {"NABIL": 0.095}  # adjusted over quoted price in 2012 (data/nepse/PROVENANCE.md)


def as_seen(panel: Panel, way: str) -> tuple[Panel, str]:
    """What a way looks at, and the mode of its detectors."""
    return against_usual(panel) if way == WAYS[2] else panel, "chapter" if way == WAYS[0] else "causal"


def judged_days(panel: Panel, train: np.ndarray, way: str) -> np.ndarray:
    """Bool [S, N], the stock-days that a way may flag: in sample all, causally those after training."""
    seen, mode = as_seen(panel, way)
    return seen.active & (np.ones(len(train), bool) if mode == "chapter" else ~train)[:, None]


def volume_flags(one: Panel, train: np.ndarray, seed: int = 0) -> dict[tuple[str, str], np.ndarray]:
    """(rule, way) -> flags of the one share, bool [S]; rules IQR and forest."""
    flags = {}
    for way in WAYS:
        (seen, mode), judged = as_seen(one, way), judged_days(one, train, way)[:, 0]
        fences = run_detectors(seen, train, ["iqr"], seed, series="log_volume")["iqr", mode]
        forest = run_detectors(seen, train, ["isolation_forest"], seed, contamination=CONTAMINATION)
        flags["IQR", way] = (np.nan_to_num(fences.score[:, 0], nan=-np.inf) > K) & judged
        flags["forest", way] = forest["isolation_forest", mode].flags[:, 0] & judged
    return flags


def overlap(one: Panel, train: np.ndarray, flags: dict[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    """A row a way: days judged, flags of either rule and of both, `both` of independent rules, Jaccard index."""
    rows = []
    for way in WAYS:
        a, b, n = flags["IQR", way], flags["forest", way], int(judged_days(one, train, way).sum())
        counts = {"IQR": int(a.sum()), "forest": int(b.sum()), "both": int((a & b).sum())}
        chance = counts["IQR"] * counts["forest"] / max(1, n)
        jaccard = counts["both"] / max(1, int((a | b).sum()))
        rows.append({"mode": way, "days": n} | counts | {"both, by chance": chance, "Jaccard": jaccard})
    return pd.DataFrame(rows)


def in_sample_fences(one: Panel) -> pd.DataFrame:
    """Where the chapter's fences stand and what there is to flag: a row for log volume and one for log volume against
    usual, with lower fence, least, most, upper fence, IQR. A level that moves over the years widens the first IQR."""
    rows = []
    for what, panel in (("log volume", one), ("log volume against usual", against_usual(one))):
        v = panel.log_volume[panel.active]
        low, high, width = quartiles(v)
        fences = {"lower fence": low - K * width, "least": v.min(), "most": v.max(), "upper fence": high + K * width}
        rows.append({"series": what} | fences | {"IQR": width})
    return pd.DataFrame(rows)


def about_fences(fences: pd.DataFrame, overlap: pd.DataFrame) -> str:
    """The chapter's fences, in a sentence or two: what they can flag, what has widened them, and what they leave of the
    forest's days. fences : of `in_sample_fences`; overlap : of `overlap`."""
    reach, (wide, narrow), line = fences.iloc[0], fences["IQR"], overlap.set_index("mode").loc[WAYS[0]]
    inside = reach["lower fence"] <= reach["least"] and reach["most"] <= reach["upper fence"]
    return sentence(
        "In sample the fences stand at {a:.2f} and {b:.2f} while log volume runs from {c:.2f} to {d:.2f}: they {flag}. "
        "Its IQR is {wide:.2f}, that of volume against usual {narrow:.2f}{why}. Of the days that the forest flags in "
        "sample, they leave {left:.0%} alone{more}.",
        a=reach["lower fence"], b=reach["upper fence"], c=reach["least"], d=reach["most"], wide=wide, narrow=narrow,
        flag="can flag no day at all" if inside else f"flag {line.IQR:.0f} days",
        why=": the moving level widens the fences" if wide > WIDER * narrow else "",
        left=1 - line.both / max(1, line.forest), more="" if inside else ": it looks at return and volatility too",
    )  # fmt: skip


def outside_share(many: Panel, train: np.ndarray, way: str, seed: int = 0) -> np.ndarray:
    """Share of the active stocks outside their own volume fences at 1.5, [S]."""
    seen, mode = as_seen(many, way)
    score = run_detectors(seen, train, ["iqr"], seed, series="log_volume")["iqr", mode].score
    return (np.nan_to_num(score, nan=-np.inf) > OUTSIDE).sum(axis=1) / np.maximum(seen.active.sum(axis=1), 1)


def market_wide(many: Panel, train: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """How often a day is market-wide, by way: share of the training days, of the later ones, and of the year with most.
    Without these base rates the label of a flagged day says nothing."""
    rows = []
    for way in WAYS:
        wide = pd.Series(outside_share(many, train, way, seed) >= MANY, index=many.sessions)
        by_year = wide.groupby(wide.index.year).mean()
        row = {"mode": way, "training days": wide[train].mean(), "later days": wide[~train].mean()}
        rows.append(row | {"worst year": int(by_year.idxmax()), "in that year": by_year.max()})
    return pd.DataFrame(rows)


def moved_away(base: pd.DataFrame) -> bool:
    """Have volumes moved away from the training days' fences? Then these call far more later days market-wide than both
    fences around all days and fences around the usual volume do. base : of `market_wide`."""
    later = base.set_index("mode")["later days"]
    return bool(later[WAYS[1]] > FAR_MORE * max(later[WAYS[0]], later[WAYS[2]]))


def about_low_volume(days: pd.DataFrame) -> str:
    """How many of flagged days (`flagged_days`) have less volume than usual, and how many only look so because they lie
    in years with less trade: below the stock's median of all time, above its usual."""
    below = days[days["below median"].astype(bool)]  # no flagged day, no type
    early = below[below["times usual"] > 1]
    text = "Of {n} days flagged in sample {low} have less volume than usual. {below} lie below the all-time median"
    if len(early):
        text += ", and {early} of these have *more* than usual, {times:.1f} times at the median"
        text += " ({first:%Y-%m} to {last:%Y-%m})"
    dates = {"first": early.index.min(), "last": early.index.max()} if len(early) else {}
    return sentence(
        text + ".", n=len(days), low=int((days["times usual"] < 1).sum()), below=len(below), early=len(early),
        times=early["times usual"].median(), **dates,
    )  # fmt: skip


def in_words(days: pd.DataFrame) -> str:
    """Date, multiple of the usual volume and last closure of flagged days (`flagged_days`), one after the other."""
    said = []
    for date, day in days.iterrows():
        since = f", session {day['sessions since']:.0f} after {day['closed days']:.0f} days without one"
        said.append(f"{date:%Y-%m-%d} ({day['times usual']:.2g} times the usual volume"
                    f"{since if day['sessions since'] <= USUAL else ''})")  # fmt: skip
    return "; ".join(said) or "none"


def flagged_days(
    many: Panel, train: np.ndarray, flags: dict[tuple[str, str], np.ndarray], hero: str, seed: int = 0
) -> pd.DataFrame:
    """A row a flagged day and way: mode, flagged by (IQR, forest, both), and `case.circumstances` among the stocks of
    `many`, whose sessions are those of the flags; index date."""
    place, parts = many.tickers.index(hero), []
    for way in WAYS:
        mark = np.zeros(many.active.shape, bool)
        mark[:, place] = flags["IQR", way] | flags["forest", way]
        seen = as_seen(many, way)[0]
        own = circumstances(many, mark, outside_share(many, train, way, seed), seen).set_index("date")
        inside = {rule: pd.Series(flags[rule, way], index=many.sessions)[own.index] for rule in ("IQR", "forest")}
        by = np.where(inside["IQR"], "IQR", "forest")
        parts.append(own.assign(mode=way, **{"flagged by": np.where(inside["IQR"] & inside["forest"], "both", by)}))
    return pd.concat(parts)


def at_limit(panel: Panel, flags: np.ndarray) -> tuple[float, float]:
    """Share of flagged and of other stock-days that close within half a point of the exchange's limit of 10%."""
    near = np.abs(np.abs(np.expm1(panel.returns)) - LIMIT) <= NEAR
    return float(near[flags].mean()) if flags.any() else np.nan, float(near[panel.active & ~flags].mean())


def drift(one: Panel) -> dict[str, float]:
    """How far the unit and the market have moved: `total`, ln of the median volume of the last year over the first;
    `unit`, the part of it that is more shares of the same firm (NaN where the adjustment is not known); `usual`, the
    same total for volume against usual."""
    total = {}
    for name, panel in {"total": one, "usual": against_usual(one)}.items():
        by_year = pd.Series(panel.log_volume[:, 0], index=one.sessions).groupby(one.sessions.year).median()
        total[name] = float(by_year.iloc[-1] - by_year.iloc[0])
    return total | {"unit": -np.log(IN_2012.get(one.tickers[0], np.nan))}
