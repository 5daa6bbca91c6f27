"""The specification curve: readings of the paper's words, as far as the stored scores allow, in one sorted picture.

After Simonsohn, Simmons & Nelson (2020), Nature Human Behaviour 4. A reading is one choice for each of `CHOICES`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_routing.evaluation.aggregate import daily_statistic
from anomaly_routing.evaluation.inputs import ScoredDays, place_events, scored_days
from anomaly_routing.evaluation.placebo import chance_hit_rate
from anomaly_routing.evaluation.readings import (
    CUTS,
    OTHER_BUDGETS,
    alarms_of,
    count_readings,
    trailing,
    windows_of,
)
from anomaly_routing.model.config import PRESETS
from anomaly_routing.plots import BLUE, CHANCE, INK, ORANGE, PAPER
from anomaly_routing.runs import Run, read_meta, read_run
from anomaly_routing.tensors import Tensors
from anomaly_routing.variants import REFERENCE, Catalogue, Variant, as_read

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
    "events": "events that count",
}
LEFT_OUT = {  # reading of SPEC 9 -> why no point stands for it
    "survivors, beyond the first seed and the stop rule `tail`": "single stocks are stored of that seed and rule alone",
    "survivors with the pressure index": "its routing is not stored stock by stock",
    "stress scaled on the full sample, other networks than the flags": "another training; only the flags of the table "
    "of presets are readings of one sentence, the ablations are other models",
    "matched budget for *some stock above its threshold*": "a series of zeros and ones has no quantile",
    "cuts without the event's own days, equal counts": "companions of the two cuts; the second looks ahead",
    "all events under a matched budget, of survivors or a run of a sweep": "no session before the validation year is "
    "stored of them, so that the budget can judge the test events alone, and *all* would be *test* once more",
    "max, banks, share and any by the stop rule `tail`, of a run of a sweep": "it keeps them for the rule `val` alone",
    "without exogenous events, March 2023 as one": "companions of the count, in notebook 12; no reading of a sentence",
}
PLAIN = {"stop": "val", "universe": "all", "aggregation": "mean", "second": "score or index", "cuts": "validation",
         "window": "sessions_5", "dates": "primary", "events": "all"}  # what the paper says, as it says it  # fmt: skip
LARGEST = 500  # points^2, of a dot
ENDINGS = {"val": "@val", "tail": ""}
AGGREGATIONS = ("mean", "max", "banks", "share")
ONE, TWO = "score", "score or index"
MATCHED = {"matched": "matched_05"} | {name: name for name in OTHER_BUDGETS}  # cuts -> their name in SPEC 9.0


def curve_models(
    current: list[Path], found: dict[str, dict[tuple[str, int], Path]], catalogue: Catalogue
) -> pd.DataFrame:
    """The stored runs that are readings of the full model, as `specification_curve` takes them: both presets, each of
    their flags alone, by tier.

    current : runs of the stage `model`. found : tier -> (variant, seed) -> file (`ablations.find_runs`).
    """
    index = [variant for variant in catalogue.variants.values() if variant.index]
    flags = [variant for variant in catalogue.variants.values() if _is_flag(variant)]
    full = catalogue.variants[REFERENCE]
    rows = []
    for path in current:
        key, info = (read_meta(path)[part] for part in ("key", "info"))
        if key["variant"] != REFERENCE:
            continue
        named = {f"{key['method']}{_later(info)}": full}
        if key["method"] == catalogue.preset:
            named |= {variant.name: variant for variant in index}
        rows += [(f"{name}, {info['tier']}", key["seed"], info["tier"], path, v) for name, v in named.items()]
    for tier, runs in found.items():
        for variant in (full, *index, *flags):
            for (name, seed), path in runs.items():
                if name == variant.run and path not in current:
                    later = _later(read_meta(path)["info"])
                    rows.append((f"{variant.name}{later}, {tier}", seed, tier, path, variant))
    return pd.DataFrame(rows, columns=["model", "seed", "tier", "path", "variant"])


def _later(info: dict[str, Any]) -> str:
    return " (sees later days)" if info.get("lookahead") else ""


def _is_flag(variant: Variant) -> bool:
    """One switch of the presets as the equation is printed, and nothing else."""
    alone = len(variant.model) == 1 and not (variant.training or variant.data)
    return alone and variant.model.items() <= PRESETS["literal"].items()


def specification_curve(
    models: pd.DataFrame, events: pd.DataFrame, tensors: Tensors, survivors: np.ndarray
) -> pd.DataFrame:
    """One row a reading of a run: seed, tier, the `CHOICES`, hits, n_events, share (in [0, 1]) and alarm_rate (of the
    judged test sessions).

    models : columns model, seed, tier, path and variant, which says how the run is read (`as_read`). survivors : bool
    [N], the stocks that neither left nor came late. A run that cannot be read so has no row; neither has *all* events
    where the cuts judge none of the validation year's.
    """
    rows, placed = [], {}
    for one in tqdm(models.itertuples(), total=len(models), desc="readings", unit="run"):
        run = as_read(read_run(one.path), one.variant)
        for chosen, days, all_cuts in _scored(run, one.variant, tensors, survivors) if run else ():
            where = (days.sessions.asi8.tobytes(), days.scored.tobytes())
            if where not in placed:
                there = place_events(events, days, tensors.splits)
                placed[where] = there, windows_of(days, there)
            past = trailing(days) if set(all_cuts) & set(MATCHED) else None
            for cuts, fixed in all_cuts.items():
                alarms = alarms_of(days, placed[where][0], cuts, fixed, past)
                own = {"model": one.model, "seed": one.seed, "tier": one.tier, **chosen}
                own |= {"cuts": MATCHED.get(cuts, cuts), "alarm_rate": alarms.rate}
                early = placed[where][0].subset(placed[where][0].split == "val").positions
                blind = len(early) and not alarms.judged[: early.max() + 1].any()
                found = count_readings(alarms, placed[where][1])
                rows += [own | one for one in found if not (blind and one["events"] == "all")]
    curve = pd.DataFrame(rows)
    curve["share"] = curve["hits"] / curve["n_events"].where(curve["n_events"] > 0)
    return curve.dropna(subset="share").reset_index(drop=True)


Scored = tuple[dict[str, str], ScoredDays, dict[str, dict[str, float]]]


def _scored(run: Run, variant: Variant, tensors: Tensors, survivors: np.ndarray) -> Iterator[Scored]:
    """(choices, daily scores, cuts with what each has fixed) of a run: what its stored series allow."""
    for stop, series, universe, aggregation in _series(run, tensors, survivors):
        pressure = run.daily[f"mpi{ENDINGS[stop]}"].reindex(series.index)
        for second in (ONE, TWO):
            if (second == TWO and universe != "all") or (second == ONE and variant.index):
                continue  # the index of these stocks alone was not stored; or: the full model's own score again
            scores = series.to_frame("I") if second == ONE else pd.DataFrame({"I": series, "M": pressure})
            cuts = {name: {} for name in (*CUTS, *OTHER_BUDGETS)}
            if aggregation == "any":  # no quantile of it means anything
                cuts = {"validation": {"I": 0.0}}
            chosen = {"stop": stop, "universe": universe, "aggregation": aggregation, "second": second}
            yield chosen, scored_days(scores, tensors.splits), cuts


def _series(run: Run, tensors: Tensors, survivors: np.ndarray) -> Iterator[tuple[str, pd.Series, str, str]]:
    """(stop rule, daily series, universe, aggregation)."""
    for stop, ending in ENDINGS.items():
        for aggregation in AGGREGATIONS:
            column = f"{aggregation}{ending}"
            if column in run.daily and run.daily[column].notna().any():  # a market may have no bank
                yield stop, run.daily[column], "all", aggregation
        if f"share{ending}" in run.daily:
            yield stop, (run.daily[f"share{ending}"] > 0).astype(float), "all", "any"
    if not run.score.size or survivors.all():
        return
    score, theta, bank = run.score[:, survivors], run.info["theta_s_tail"], tensors.is_bank[survivors]
    for aggregation in (*AGGREGATIONS, "any"):
        daily = daily_statistic(score, ~np.isnan(score), aggregation, threshold=theta, is_bank=bank)
        if np.isfinite(daily).any():
            yield "tail", pd.Series(daily, index=run.score_sessions), "survivors", aggregation


def over_seeds(curve: pd.DataFrame) -> pd.DataFrame:
    """One row a reading, the highest share first: seeds, and over them the median share, lowest, highest and the
    median alarm_rate."""
    grouped = curve.groupby([*CHOICES], sort=False)
    found = grouped.agg(
        seeds=("seed", "nunique"), share=("share", "median"), lowest=("share", "min"), highest=("share", "max"),
        alarm_rate=("alarm_rate", "median"), hits=("hits", "median"), n_events=("n_events", "first"),
    )  # fmt: skip
    order = found.reset_index().sort_values(["share", "alarm_rate"], ascending=[False, True], kind="stable")
    return order.reset_index(drop=True)


def by_choice(readings: pd.DataFrame, goal: float) -> pd.DataFrame:
    """For every value of every choice: how many readings (`over_seeds`), their median share and alarm rate, how many
    reach `goal`; and what it changes by itself.

    The medians are of other mixtures of the other choices, since not every run keeps every series. `change` compares
    like with like: the mean change of the share from `against`, the plain reading of the choice (of the models the
    commonest), over the `alike` readings that have the same other choices.
    """
    rows = []
    for choice, what in CHOICES.items():
        others = [name for name in CHOICES if name != choice]
        shares = readings.set_index([*others, choice])["share"].unstack(choice)  # noqa: PD010  a reading stands once
        usual = PLAIN[choice] if PLAIN.get(choice) in shares else shares.notna().sum().idxmax()
        for value, part in readings.groupby(choice, sort=False):
            apart = (shares[value] - shares[usual]).dropna() if value != usual else shares[usual][:0]
            rows.append({
                "choice": what, "value": value, "readings": len(part), "median share": part["share"].median(),
                "median alarm rate": part["alarm_rate"].median(),
                "reach the paper's": int((part["share"] >= goal).sum()),
                "against": "" if value == usual else usual, "alike": len(apart), "change": apart.mean(),
            })  # fmt: skip
    return pd.DataFrame(rows)


def draw_curve(axes: np.ndarray, curve: pd.DataFrame, goal: float | None) -> None:
    """Above: the share of every reading (`over_seeds`), sorted, coloured by its alarm rate, with a band from its lowest
    to its highest seed; the paper's share. Below: where in that order each value of each choice lies (median, middle
    half and whole range)."""
    above, below = axes
    place = np.arange(len(curve)) / max(1, len(curve) - 1)
    ends = 100 * curve["lowest"], 100 * curve["highest"]
    above.fill_between(100 * place, *ends, step="mid", color=CHANCE, alpha=0.35, lw=0)
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
    same = curve.assign(literal=literal, rate=(100 * curve["alarm_rate"]).round())
    same = same.groupby(["literal", "rate", "share"]).size().rename("readings").reset_index()
    area = LARGEST / same["readings"].max()
    for mask, colour, text in (
        (~same["literal"], BLUE, "readings"),
        (same["literal"], ORANGE, "some stock above its cut"),
    ):
        part = same[mask]
        ax.scatter(
            part["rate"],
            100 * part["share"],
            s=(area * part["readings"]).clip(lower=5),
            color=colour,
            alpha=0.5,
            lw=0,
            label=text,
        )
    rate = np.linspace(0, 1, 401)
    ax.plot(100 * rate, 100 * chance_hit_rate(rate), "--", color=CHANCE, lw=1, label="blind alarm, five sessions")
    ax.plot(100 * rate, 100 * chance_hit_rate(rate, 10), ":", color=CHANCE, lw=1, label="the same, ten sessions")
    ax.axhline(100 * goal, color=PAPER, lw=1)
    ax.set(xlabel="alarm days, % of test sessions", ylabel="events hit, %", ylim=(-4, 106))
    ax.set_xscale("function", functions=(np.sqrt, np.square))  # most readings alarm seldom
    ax.set(xlim=(0, 100), xticks=[0, 1, 5, 10, 20, 40, 60, 80, 100])
    for handle in ax.legend(fontsize=7.5, loc="lower right").legend_handles[:2]:
        handle.set_sizes([30])
