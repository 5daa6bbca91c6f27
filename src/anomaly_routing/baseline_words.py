"""What notebook 04 says of its detectors in words; every figure is computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_routing.baselines.deep import Series
from anomaly_routing.baselines.temporal.anomaly_transformer import AnomalyTransformer
from anomaly_routing.baselines.toy import Toy, toy_auroc
from anomaly_routing.prose import sentence

TOLERANCE = 0.02  # share of a published figure within which ours counts as equal
COSTED = {
    "epoch_seconds": "an epoch (seconds)",
    "fit_seconds": "a fit (seconds)",
    "session_milliseconds": "one session alone (milliseconds)",
}


@torch.no_grad()
def association_sentence(detector: AnomalyTransformer, toys: Mapping[str, Toy]) -> str:
    """What the association adds to the same network's plain error, kind by kind of planted anomaly."""
    net, have, less = detector.net.eval(), {}, {}
    for kind, toy in toys.items():
        batch = Series(toy.panel, net.window, torch.device("cpu")).batch(0, len(toy.panel.sessions))
        have[kind] = toy_auroc(detector.decision_function(toy.panel), toy)
        less[kind] = toy_auroc(np.where(toy.panel.active, net.plain_error(batch), np.nan), toy)
    named = {kind: kind.replace("_", " ") for kind in toys}
    return sentence(
        "What the association adds on this market (AUROC of the score, and of the same network's plain squared error "
        "of the session): {both}. It helps on {helps}, hurts on {hurts}.",
        both="; ".join(f"{named[k]} {have[k]:.2f} and {less[k]:.2f}" for k in toys),
        helps=", ".join(named[k] for k in toys if have[k] > less[k]) or "none",
        hurts=", ".join(named[k] for k in toys if have[k] < less[k]) or "none",
    )


def peers_sentence(peers: pd.DataFrame) -> str:
    """Ours beside what is known. peers : rows of reports/peers.json with `median`, the middle of `ours`."""
    known = peers[peers.published.notna()]
    low, high = published_range(known)
    short, over = known["median"] < (1 - TOLERANCE) * low, known["median"] > (1 + TOLERANCE) * high
    forms, thumb = forms_on_cora(peers), rule_of_thumb(peers)

    def median(detector: str, measure: str) -> float:
        return peers["median"][(peers.detector == detector) & (peers.measure == measure)].iloc[0]

    return sentence(
        "Of {n} reference figures ({kinds}) ours is more than {off:.0%} below {low} ({which}) and as much above "
        "{high}. On Cora these stay under the rule of thumb of degree and norm ({thumb:.2f}): {under}. TranAD's raw "
        "AUC is {raw:.2f}; after point adjustment its F-measure is {f1:.2f}, that of random scores {luck:.2f}.",
        n=len(known), kinds=", ".join(f"{k} {kind}" for kind, k in known.known.value_counts().items()), off=TOLERANCE,
        low=int(short.sum()), high=int(over.sum()), thumb=thumb,
        which="; ".join(f"`{row.detector}`, {row.measure}" for row in known[short].itertuples()) or "none",
        under="; ".join(f"{form} {value:.2f}" for form, value in forms[forms < thumb].items()) or "none",
        raw=median("tranad", "AUC"), f1=median("tranad", "F1, adjusted"), luck=median("random", "F1, adjusted"),
    )  # fmt: skip


def forms_sentence(peers: pd.DataFrame) -> str:
    """In which form DOMINANT is proven, and at which epoch AnomalyDAE. peers : as for `peers_sentence`."""
    thumb, cora = rule_of_thumb(peers), peers[peers.data.str.startswith("Cora")]
    panel = cora[(cora.detector == "dominant") & cora.measure.str.startswith("AUC, sigmoid")]
    reached = [
        sentence("{v:.2f} at epoch {e}", v=v, e=e) for v, e in zip(panel["median"], epochs_of(panel), strict=True)
    ]
    dae = cora[cora.published.notna() & (cora.detector == "anomaly_dae")]
    epoch, met = epochs_of(dae), dae["median"] >= (1 - TOLERANCE) * published_range(dae)[0]
    return sentence(
        "DOMINANT is proven in the form of its authors' code; the form that runs on the panel takes the sigmoid of the "
        "links, as in the paper, drops nothing out, and reaches {panel}, at best {side} the rule of thumb. AnomalyDAE "
        "reaches its published {p} at epoch {hit}, not at epoch {miss}: no stop rule finds the epoch, it is chosen.",
        panel=" and ".join(reached), side="under" if panel["median"].max() < thumb else "not under",
        p=str(dae.published.iloc[0]),
        hit=", ".join(epoch[met]) or "none", miss=", ".join(epoch[~met]) or "none",
    )  # fmt: skip


def epochs_of(rows: pd.DataFrame) -> pd.Series:
    """The epoch that each row's measure names, as text."""
    return rows.measure.str.rsplit(" ").str[-1]


def published_range(known: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Lowest and highest published figure of each row."""
    return known.published.map(np.min), known.published.map(np.max)


def rule_of_thumb(peers: pd.DataFrame) -> float:
    """Median AUROC on Cora of ranking by degree and norm."""
    return peers["median"][peers.detector.str.startswith("rank(")].iloc[0]


def forms_on_cora(peers: pd.DataFrame) -> pd.Series:
    """Median AUROC on Cora of each detector in each of its forms."""
    cora = peers[peers.data.str.startswith("Cora") & ~peers.detector.str.startswith("rank(")]
    named = [f"`{row.detector}` ({row.measure.removeprefix('AUC, ')})" for row in cora.itertuples()]
    return pd.Series(cora["median"].to_numpy(), index=named)


def costs_sentences(measured: Mapping[str, Any], cost: pd.DataFrame, baselines: Collection[str]) -> str:
    """The full model beside the baselines. cost : a row a method, as in reports/costs.json; NaN is "not run"."""
    by_method, told = cost.set_index("method")[list(COSTED)].astype(float), []
    for column, what in COSTED.items():
        values = by_method[column]
        if values.isna().any():
            told.append(sentence("On {device}, {what}: not run.", device=measured["device"], what=what))
            continue
        theirs = values[values.index.isin(list(baselines))]
        told.append(sentence(
            "On {device}, {what}: the full model {whole:.3g}, {times:.0f} times the median baseline; the dearest "
            "baseline is `{dear}` with {most:.3g}.",
            device=measured["device"], what=what, whole=values["intended"], times=values["intended"] / theirs.median(),
            dear=theirs.idxmax(), most=theirs.max(),
        ))  # fmt: skip
    return "\n\n".join(told)


def own_cuts_sentence(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """How many stock-days detectors with a cut of their own put above it. runs : method -> `info` of its stored runs.

    "" where no method has one; a run that was made before the share was kept counts as unknown.
    """
    cut = {method: [info["flagged"] for info in infos if info.get("flagged")] for method, infos in runs.items()}
    said = {method: pd.DataFrame(shares) for method, shares in cut.items() if shares}
    if not said:
        return ""
    return sentence(
        "By a cut of its own that comes from the training sessions alone, {who}.",
        who="; ".join(
            f"`{method}` flags {table.test.median():.1%} of the test stock-days ({table.test.min():.1%} to "
            f"{table.test.max():.1%} over {len(table)} seeds) and {table.train.median():.1%} of those it was fitted on"
            for method, table in said.items()
        ),
    )


def sign_sentence(seeds: Sequence[tuple[pd.Series, pd.Series]]) -> str:
    """Whether choosing a sign (von Mises-Fisher) tells other days apart than needing none (Watson): daily scores of the
    two, a pair for each seed that both have."""
    rank = [directed.corr(axial, method="spearman") for directed, axial in seeds]
    if not rank:
        return "`metric_vmf` and `metric_watson` have no seed in common: whether the sign rule does harm is not known."
    return sentence(
        "`metric_vmf`, which chooses a sign, and `metric_watson`, which needs none, rank the days alike to {m:.2f} "
        "(Spearman, median of {n} seeds, {low:.2f} to {high:.2f}).",
        m=np.median(rank), n=len(rank), low=min(rank), high=max(rank),
    )  # fmt: skip
