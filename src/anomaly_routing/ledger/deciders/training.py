"""What the trained model's inner quantities and costs are: stress, fusion weight, routing, seconds, epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.claims import Claim
from anomaly_routing.evaluation.detection import AFTERMATH, LABEL, relative_window
from anomaly_routing.ledger.registry import decides
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding

WEIGHTS = [f"w{k}@val" for k in range(1, 5)]
TINY, COLLAPSED = 1e-300, 1e-6  # of a weight in a logarithm; entropy below which one expert has all


def near_events(sources: Sources, sessions: pd.DatetimeIndex, span: tuple[int, int]) -> np.ndarray:
    """Sessions in this span around any event of the list; bool [S]."""
    places = sessions.get_indexer(pd.DatetimeIndex(sources.events.date).as_unit(sessions.unit))
    return relative_window(places[places >= 0], len(sessions), *span).any(axis=0)


def test_days(sources: Sources, run: Any) -> pd.DataFrame:
    """Daily series of the test sessions, under the paper's stop rule where it differs."""
    return run.daily[sources.splits.test(run.daily.index)]


@decides("S42.alpha_normal", stage="model")
def alpha_in_normal_times(claim: Claim, sources: Sources) -> Finding:
    def mean(meta: dict, run: Any) -> float:
        days = test_days(sources, run)
        return float(days["alpha@val"][~near_events(sources, days.index, AFTERMATH)].mean())

    return sources.over_seeds(claim, mean)


@decides("S5.alpha_avg", stage="model")
def alpha_at_low_stress(claim: Claim, sources: Sources) -> Finding:
    def mean(meta: dict, run: Any) -> float:
        days = test_days(sources, run)
        return float(days["alpha@val"][days["psi@val"] < days["psi@val"].median()].mean())

    return sources.over_seeds(claim, mean)


@decides("S3.psi_high_crisis", stage="model")
def stress_around_events(claim: Claim, sources: Sources) -> Finding:
    def gap(meta: dict, run: Any) -> float:
        days = test_days(sources, run)
        near = near_events(sources, days.index, LABEL)
        return float(days["psi@val"][near].mean() - days["psi@val"][~near].mean())

    return sources.over_seeds(claim, gap, by="direction")


@decides("S3.alpha_low_in_stress", stage="model")
def alpha_falls_with_stress(claim: Claim, sources: Sources) -> Finding:
    def against(meta: dict, run: Any) -> float:
        return -float(run.daily["alpha@val"].corr(run.daily["psi@val"], method="spearman"))

    return sources.over_seeds(claim, against, by="direction")


@decides("S1.sharp_in_crisis", stage="model")
def routing_in_stress(claim: Claim, sources: Sources) -> Finding:
    """What the largest weight gains on the test days in the top tenth of psi over those in the bottom tenth; no gain
    counts unless the entropy falls too. The weights kept for all days are the market means."""

    def deciles(run: Any) -> tuple[np.ndarray, np.ndarray]:
        """Largest weight and entropy, each [bottom, top]."""
        days = test_days(sources, run)
        psi, w = days["psi@val"], days[WEIGHTS].to_numpy(float)
        entropy = -(w * np.log(np.maximum(w, TINY))).sum(axis=1)
        parts = [(psi <= psi.quantile(0.1)).to_numpy(), (psi >= psi.quantile(0.9)).to_numpy()]
        return tuple(np.array([figure[part].mean() for part in parts]) for figure in (w.max(axis=1), entropy))

    def sharper(meta: dict, run: Any) -> float:
        largest, entropy = deciles(run)
        gain = float(largest[1] - largest[0]) if entropy.max() > COLLAPSED else 0.0
        return gain if entropy[1] < entropy[0] else min(gain, 0.0)

    found = sources.over_seeds(claim, sharper, by="direction")
    said = []
    for meta, run in sources.model_runs:
        (w0, w1), (h0, h1) = deciles(run)
        alone = "" if max(h0, h1) > COLLAPSED else ", all on one expert: nothing to sharpen"
        said.append(f"seed {meta['key']['seed']} {w1:.4f} against {w0:.4f} (entropy {h1:.4f}, {h0:.4f}{alone})")
    note = f"largest market-mean weight at high against low psi: {'; '.join(said)}"
    return replace(found, note=note)


@decides("D2.maxw4", stage="model")
def largest_weight(claim: Claim, sources: Sources) -> Finding:
    def mean(meta: dict, run: Any) -> float:
        return float(meta["info"]["history"][meta["info"]["best"]["val"]["epoch"]]["mean_max_w"])

    return sources.over_seeds(claim, mean)


NEAR = 0.1  # of the number of epochs (verdict rules: changes)


# --- cost ------------------------------------------------------------------------------------------------------------
MODULES = {"m1": ("encoder",), "m2": ("graph",), "m3": ("experts",), "m4": ("decoders", "loss")}


def module_shares(meta: dict[str, Any]) -> dict[str, float]:
    """Percent of an epoch's seconds in each module, median over the epochs after the first (a warm-up)."""
    epochs = meta["info"]["history"][1:] or meta["info"]["history"]
    seconds = pd.DataFrame([epoch["module_seconds"] for epoch in epochs])
    parts = pd.DataFrame({m: seconds[list(names)].sum(axis=1) for m, names in MODULES.items()})
    return (100 * parts.div(parts.sum(axis=1), axis=0)).median().to_dict()


@decides("T5.m?.pct", stage="model")
def share_of_a_module(claim: Claim, sources: Sources) -> Finding:
    found = sources.over_seeds(claim, lambda meta, run: module_shares(meta)[claim.id.split(".")[1]])
    return replace(found, note=f"forward and backward share of the clock; {found.note}".strip("; "))


@decides("C.m2_dominates", stage="model")
def longest_module(claim: Claim, sources: Sources) -> Finding:
    found = sources.over_seeds(claim, lambda meta, run: module_shares(meta)["m2"])
    longest = {max(shares, key=shares.get) for shares in (module_shares(meta) for meta, _ in sources.model_runs)}
    return replace(
        found, note=f"longest on {found.device}: {', '.join(sorted(longest))} (m1 to m4); {found.note}".strip("; ")
    )


@decides("T5.epochs_avg", stage="model")
def epochs(claim: Claim, sources: Sources) -> Finding:
    """Epochs until the stop rule; a training that ended at its cap says only that it takes more."""
    stopped = [meta["info"]["stopped"] for meta, _ in sources.model_runs]
    if set(stopped) == {"cap"}:
        cap = max(meta["info"]["epochs"] for meta, _ in sources.model_runs)
        full = sources.claimed("S3.epochs")
        if cap < full:
            limit = f"set `epochs: {full}` under model: training: in {sources.params_file}"
            ended = f"all {len(stopped)} trainings ended at a cap of {cap} epochs; {limit}, then"
            raise sources.not_run("model", ended)
    found = sources.over_seeds(claim, lambda meta, run: meta["info"]["epochs"])
    return Finding(
        abs(found.value - claim.value) <= NEAR * claim.value,
        "holds",
        note=f"{found.value:.0f}; {found.note}".strip("; "),
        **sources.training,
    )
