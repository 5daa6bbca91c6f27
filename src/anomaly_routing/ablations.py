"""What the run store says of the variants: Tables 2, 4, 6, 7 and 8 beside the paper's, differences, paired tests.

Nothing is trained here. A run is found by its key, so runs of other data, arithmetic or tiers are never mixed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_routing.evaluation.protocols import ranked_days
from anomaly_routing.evaluation.readings import by_chance, count_hits, of_split, raise_alarms, smooth_companions
from anomaly_routing.evaluation.statistics import paired_comparison, paired_exact, ranking_scores
from anomaly_routing.evaluation.summary import median_seed
from anomaly_routing.ledger.intervals import t_interval
from anomaly_routing.panel import Splits
from anomaly_routing.runs import Run, RunStore, read_meta, read_run
from anomaly_routing.scoreboard import channels
from anomaly_routing.tensors import Tensors
from anomaly_routing.variant_data import placed
from anomaly_routing.variants import REFERENCE, Catalogue, as_read

NUMBERS = (2, 4, 6, 7, 8)  # the paper's tables of variants
OWN_BASES = {"T4.bilstm.": "T4.bilstm.128", "T8.": "T8.20"}  # their default is no `full`: other units, later samples
ONE_SEED = ("table4", "table8", "designs")  # in a tier with fewer than ten seeds (SPEC 8)
RUN, NOT_RUN = "run", "not run"
INTERFACE = [
    "variant",
    "paper_rate",
    "paper_lead",
    "hits",
    "n_events",
    "lead",
    "alarm_rate",
    "n_seeds",
    "tier",
    "status",
]
COLUMNS = [
    *(*INTERFACE, "claim", "lowest seed", "highest seed", "mean hits", "chance", "p", "hits_test", "n_test", "p_test"),
    *("matched: hits_test", "matched: p_test", "matched: alarm_rate", "hits_val", "n_val", "recall", "auc_val"),
    "look-ahead",
]
LEVEL = 0.05
ENOUGH, TOO_FEW = 10, "too few seeds"  # SPEC 10: a difference is called real by a 10-seed interval


def find_runs(
    catalogue: Catalogue,
    tensors: Tensors,
    tier: str,
    stores: Iterable[Path],
    seeds: int = 10,
    training: dict[str, Any] | None = None,
) -> dict[tuple[str, int], Path]:
    """(variant, seed) -> file, for every variant with a run of its own in this tier that one of the stores holds.

    training : laid over the tier's, where a market trains its full model otherwise.
    """
    found = {}
    for name, variant in catalogue.variants.items():
        if catalogue.run_of(name, tier) != name:
            continue
        try:
            market = placed(tensors, variant.data)
        except ValueError:  # the market has no such samples
            continue
        for seed in range(seeds):
            job = catalogue.job(name, seed, tier)
            key = replace(job, training=job.training | (training or {})).key(market)
            there = [path for path in (RunStore(folder).path(key) for folder in stores) if path.exists()]
            if there:
                found[name, seed] = there[0]
    return found


def judge(run: Run, channel: str, events: pd.DataFrame, splits: Splits) -> dict[str, Any]:
    """One run under both protocols: hits, lead, alarm rate, chance, the test events apart, the smoother companions.

    channel : `both` alarm channels, or the `score` alone, which then takes the index's place in the companions too.
    """
    line = {}
    for protocol, cuts in (("paper", "validation"), ("matched", "matched")):
        scores = channels(run, protocol)
        alarms = raise_alarms(scores[["I"]] if channel == "score" else scores, events, splits, cuts)
        line[protocol] = count_hits(alarms) | {"alarm_rate": alarms.rate} | by_chance(alarms)
        line[protocol]["auc"] = ranking_scores(*ranked_days(alarms.days, alarms.events, alarms.days.evaluated))["auc"]
        for split in ("val", "test"):
            own = of_split(alarms, split)
            part = count_hits(own)
            line[protocol] |= {f"hits_{split}": part["hits"], f"n_{split}": part["n_events"]}
            line[protocol][f"p_{split}"] = by_chance(own)["p"]
        if protocol == "paper":
            line[protocol] |= smooth_companions(alarms, scores["I" if channel == "score" else "M"])
            line[protocol]["lookahead"] = bool(run.info.get("lookahead"))
    return line


def judge_all(
    found: dict[tuple[str, int], Path], catalogue: Catalogue, events: pd.DataFrame, splits: Splits, tier: str
) -> dict[str, dict[int, dict[str, Any]]]:
    """variant -> seed -> `judge`, variants that share a run included; without those that it cannot be read as."""
    lines: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in catalogue.variants}
    for (own, seed), path in tqdm(found.items(), desc="runs", unit="run"):
        run, judged = read_run(path), {}
        for name, variant in catalogue.variants.items():
            if catalogue.run_of(name, tier) != own or not (read := as_read(run, variant)):
                continue
            how = variant.channel, variant.index
            if how not in judged:
                judged[how] = judge(read, variant.channel, events, splits)
            lines[name][seed] = judged[how]
    return lines


def table(
    rows: list[tuple[str, str]], lines: dict[str, dict[str, dict[int, dict]]], claims: dict[str, Any]
) -> pd.DataFrame:
    """One row a claim: the paper's rate (%) and lead (sessions), our median seed's hits, and status.

    lines : tier -> variant -> seed -> `judge`. The first tier has every row, run or not; others add what they have run.
    `COLUMNS`: `INTERFACE`, then the claim, the seeds' range, mean, what chance hits, the test events under both
    protocols and the companions of A06. Hits, lead, alarm rate and chance are one seed's, the median one of each
    protocol, as in Table 1; p is the median over seeds, the companions are means over them.
    """
    first = next(iter(lines))
    found = [
        _row(claim, _shown(name, of_tier), of_tier[name], claims, tier)
        for tier, of_tier in lines.items()
        for claim, name in rows
        if tier == first or of_tier[name]
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def _shown(name: str, of_tier: dict[str, dict[int, dict]]) -> str:
    """`full` where the tier makes a variant the full model itself."""
    full = of_tier.get(REFERENCE, {})
    alike = of_tier[name] and all(line is full.get(seed) for seed, line in of_tier[name].items())
    return REFERENCE if alike else name


def _row(claim: str, name: str, seeds: dict[int, dict], claims: dict[str, Any], tier: str) -> dict[str, Any]:
    rate = claims.get(f"{claim}.rate", claims.get(claim))
    row = {"variant": name, "paper_rate": rate, "paper_lead": claims.get(f"{claim}.lead")}
    row |= dict.fromkeys(INTERFACE[3:]) | {"n_seeds": len(seeds), "tier": tier, "status": RUN if seeds else NOT_RUN}
    row["claim"] = claim
    if not seeds:
        return row
    paper, matched = ([line[p] for line in seeds.values()] for p in ("paper", "matched"))
    hits, (one, other) = [p["hits"] for p in paper], (own[median_seed(own, list(seeds))] for own in (paper, matched))
    return row | {
        **{key: one[key] for key in ("hits", "n_events", "lead", "alarm_rate")},
        "lowest seed": min(hits),
        "highest seed": max(hits),
        "mean hits": np.mean(hits),
        "chance": one["chance"],
        "p": _median([p["p"] for p in paper]),
        **{key: one[key] for key in ("hits_test", "n_test")},
        "p_test": _median([p["p_test"] for p in paper]),
        "matched: hits_test": other["hits_test"],
        "matched: p_test": _median([p["p_test"] for p in matched]),
        "matched: alarm_rate": other["alarm_rate"],
        **{key: one[key] for key in ("hits_val", "n_val")},
        **{name: _mean([p[name] for p in paper]) for name in ("recall", "auc_val")},
        "look-ahead": "yes" if any(p["lookahead"] for p in paper) else "",
    }


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _median(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else None


# --- differences -----------------------------------------------------------------------------------------------------
def bases(tables: dict[str, list[tuple[str, str]]]) -> dict[str, str]:
    """Variant -> what it is compared with, where that is not `full`: the default cell of its own setting."""
    named = {claim: variant for rows in tables.values() for claim, variant in rows}
    return {
        variant: named[base]
        for claim, variant in named.items()
        for start, base in OWN_BASES.items()
        if claim.startswith(start) and base in named
    }


def differences(
    names: Iterable[str], lines: dict[str, dict[int, dict]], base_of: dict[str, str] | None = None
) -> pd.DataFrame:
    """Each variant minus its base, seed by seed: hits, their 95% interval over seeds, and the paired exact tests.

    base_of : of `bases`; every other variant is compared with `full`.
    The interval is Student's, None with one seed. p: the first common seed's exact McNemar test over events, and the
    smallest of all seeds. `real`: whether the interval of at least `ENOUGH` seeds excludes 0 (SPEC 10).
    """
    rows = []
    for name in dict.fromkeys(names):
        reference = (base_of or {}).get(name, REFERENCE)
        common = sorted(set(lines[name]) & set(lines[reference]))
        both = [(lines[name][seed], lines[reference][seed]) for seed in common]
        if all(a is b for a, b in both):  # no common seed, or the reference under another name
            continue
        pairs = [(a["paper"], b["paper"]) for a, b in both]
        delta = np.array([a["hits"] - b["hits"] for a, b in pairs], float)
        tests = [paired_comparison(a["per_event"], b["per_event"]) for a, b in pairs]
        low, high = t_interval(delta)
        rows.append({
            "variant": name,
            "base": reference,
            "seeds": len(common),
            "difference of each seed": ", ".join(f"{d:+.0f}" for d in delta),
            "mean": delta.mean(),
            "95% low": low,
            "95% high": high,
            "real": TOO_FEW if len(common) < ENOUGH else "yes" if low > 0 or high < 0 else "no",
            "only variant": tests[0]["only_a"],
            "only base": tests[0]["only_b"],
            "p, first seed": tests[0]["p"],
            "p, smallest": min(test["p"] for test in tests) if all(test["p"] is not None for test in tests) else None,
            "alarm days": np.mean([a["alarm_rate"] - b["alarm_rate"] for a, b in pairs]),
        })  # fmt: skip
    columns = ["variant", "base", "seeds", "difference of each seed", "mean", "95% low", "95% high", "real"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def best_case(rows: list[tuple[str, str]], claims: dict[str, Any], n_events: int = 13) -> pd.DataFrame:
    """What the paper's own counts could show at best: every event that one row hits more, it alone hits (A21)."""
    top = claims["T2.full.hits"]
    found = []
    for claim, name in rows:
        hits = claims[f"{claim}.hits"]
        apart = abs(top - hits)
        found.append({"variant": name, "hits": hits, "of": n_events, "fewer than full": top - hits,
                      "smallest p": paired_exact(apart, 0) if apart else 1.0})  # fmt: skip
    return pd.DataFrame(found)


def events_needed(level: float = LEVEL) -> int:
    """Events that must separate two rows, all on one side, before the paired exact test falls below `level`."""
    return next(n for n in range(1, 100) if paired_exact(n, 0) < level)


# --- what is missing -------------------------------------------------------------------------------------------------
def planned_seeds(catalogue: Catalogue, table: str, tier: str) -> int:
    """Seeds that a table asks of a tier: all of the tier's; but one of `ONE_SEED` where those are fewer than ten."""
    seeds = catalogue.seeds[tier]
    return 1 if table in ONE_SEED and seeds < ENOUGH else seeds


def lacking(
    tables: dict[str, list[tuple[str, str]]], catalogue: Catalogue, lines: dict[str, dict], tier: str
) -> set[tuple[str, int]]:
    """(variant, seed) of every training that some table asks for and that has no run."""
    return {
        (own, seed)
        for name, cells in tables.items()
        for own in (catalogue.run_of(v, tier) for _, v in cells)
        for seed in range(planned_seeds(catalogue, name, tier))
        if seed not in lines[own]
    }


def missing(
    tables: dict[str, list[tuple[str, str]]], catalogue: Catalogue, lines: dict[str, dict], market: str, tier: str
) -> pd.DataFrame:
    """One row a table that lacks trainings: of which variants and how many seeds of each, the reason, and the command
    that would run them."""
    rows = []
    for name, cells in tables.items():
        wanted = planned_seeds(catalogue, name, tier)
        if absent := Counter(variant for variant, _ in sorted(lacking({name: cells}, catalogue, lines, tier))):
            rows.append({
                "table": name,
                "seeds wanted": wanted,
                "trainings missing": absent.total(),
                "variants": ", ".join(v if wanted == 1 else f"{v} ({n})" for v, n in absent.items()),
                "reason": f"no run of tier {tier} in the store",
                "command": f"python -m anomaly_routing.sweep --market {market} --tier {tier} --tables {name} "
                f"--seeds {wanted}",
            })  # fmt: skip
    columns = ["table", "seeds wanted", "trainings missing", "variants", "reason", "command"]
    return pd.DataFrame(rows, columns=columns)


# --- routing ---------------------------------------------------------------------------------------------------------
def largest_weights(found: dict[tuple[str, int], Path]) -> dict[str, list[float]]:
    """Variant -> of each seed the mean largest routing weight in the best epoch by the validation rule."""
    weights: dict[str, list[float]] = {}
    for (variant, _seed), path in found.items():
        info = read_meta(path)["info"]
        best = next(line for line in info["history"] if line["epoch"] == info["best"]["val"]["epoch"])
        weights.setdefault(variant, []).append(best["mean_max_w"])
    return weights


def collapsed(weights: dict[str, list[float]], catalogue: Catalogue, cut: float) -> dict[str, tuple[int, int]]:
    """Variant -> in how many of its seeds one expert takes a share above `cut`, and of how many; without those that
    have one expert, or take the largest weight alone, by their own design."""
    designed = {v for v, own in catalogue.variants.items()
                if own.model.get("mechanisms") == "one" or own.model.get("routing_rule") == "hard"}  # fmt: skip
    counts = {v: (sum(w > cut for w in of), len(of)) for v, of in weights.items() if v not in designed}
    return {v: (n, seeds) for v, (n, seeds) in counts.items() if n}
