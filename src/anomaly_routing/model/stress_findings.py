"""Notebook 05 on the stress indicator: how high psi gets, why, and what training did to its weights (A44, A45)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from anomaly_routing.model.network import Network
from anomaly_routing.runs import Run
from anomaly_routing.tensors import Tensors

INDICATORS = ("volatility_stress", "extreme_ratio", "correlation_spike", "liquidity_stress")  # as `features.stress`
SOURCES = ("w_temp", "w_ctx", "w_prior")
ALIKE = 0.9  # rank correlation from which on two indices are said to order the days alike


def two_weeks(sessions: pd.DatetimeIndex, day: pd.Timestamp) -> np.ndarray:
    """Bool [S]: the sessions in the calendar week of `day` and in the next one."""
    monday = day - pd.Timedelta(days=day.weekday())
    return np.asarray((sessions >= monday) & (sessions < monday + pd.Timedelta(days=14)))


def stress_table(
    runs: Mapping[str, Run], tensors: Tensors, rank: pd.Series, start: pd.Timestamp, crisis: pd.Timestamp | None
) -> pd.DataFrame:
    """psi and source weights of each run over the sessions from `start` on; one row a run.

    rank : the index without parameters, by session. crisis : a session whose two weeks have a column; None: none has.
    """
    rows = []
    for name, run in runs.items():
        daily = run.daily.loc[start:]
        at = tensors.sessions.get_indexer(daily.index)
        row = {"run": name, "from": start, "psi, median": daily.psi.median(), "psi, highest": daily.psi.max()}
        row["psi, highest of the test"] = daily.psi[tensors.test[at]].max()
        if crisis is not None:
            row["psi, highest of the crisis"] = daily.psi[two_weeks(daily.index, crisis)].max()
        row["rank correlation of psi with the rank index"] = daily.psi.corr(rank[daily.index], method="spearman")
        row |= {source: daily[source].mean() for source in SOURCES}
        rows.append(row | {"w_prior, range": np.ptp(daily.w_prior)})
    return pd.DataFrame(rows)


def indicator_table(tensors: Tensors) -> pd.DataFrame:
    """Of each indicator the session of its training maximum, which becomes one, and how high the test gets on that
    scale; one row an indicator."""
    train, scaled = tensors.train, tensors.normalised_stress("train")
    rows = []
    for k, name in enumerate(INDICATORS):
        highest = tensors.sessions[train][np.nanargmax(tensors.stress[train, k])]
        rows.append(
            {"indicator": name, "training maximum on": highest, "highest of the test": scaled[tensors.test, k].max()}
        )
    return pd.DataFrame(rows)


def indicator_weights(net: Network) -> np.ndarray:
    """The weights [4] with which the indicators enter psi; empty where nothing is learned (`psi_rule` rank)."""
    if net.config.psi_rule == "rank":
        return np.array([])
    beta = net.graph.stress.beta.detach()
    return (torch.nn.functional.softplus(beta) if net.config.psi_rule == "positive" else beta).double().numpy()


def source_means(net: Network, psi: pd.Series) -> np.ndarray:
    """Mean weight [3] of the three sources over the days of `psi`."""
    with torch.no_grad():
        return net.graph.sources(torch.tensor(psi.to_numpy(np.float32))).double().numpy().mean(0)


def height_words(table: pd.DataFrame, indicators: pd.DataFrame, crisis: str, paper: float) -> str:
    """How high psi gets on the test sessions beside the paper's value, and what keeps it there."""
    column, days = "psi, highest of the crisis", indicators["training maximum on"]
    each = [
        f"{r['run']} {r['psi, highest of the test']:.3f}" + (f" ({r[column]:.3f} {crisis})" if column in table else "")
        for _, r in table.iterrows()
    ]
    heights = ", ".join(f"{v:.2f}" for v in indicators["highest of the test"])
    return (
        f"the highest psi of the test is {', '.join(each)}; the paper's crisis has {paper}. The training maxima of the "
        f"four indicators, which are one on the scale of the model, lie between {days.min():%Y-%m-%d} and "
        f"{days.max():%Y-%m-%d}; on that scale the test's indicators reach at most {heights}"
    )


def learned_words(
    table: pd.DataFrame,
    trained: Mapping[str, Network],
    untrained: Mapping[str, Network],
    psi: Mapping[str, pd.Series],
) -> str:
    """What training did to the weights of indicators and sources, and whether the order of the days is its work.

    trained, untrained : preset -> network. psi : preset -> daily psi of the trained one.
    """
    told = []
    for preset, net in trained.items():
        before, after = indicator_weights(untrained[preset]), indicator_weights(net)
        a, b = source_means(untrained[preset], psi[preset]), source_means(net, psi[preset])
        moved = (
            f"weights of the indicators {before.min():.2f} to {before.max():.2f} before training, {after.min():.2f} to "
            f"{after.max():.2f} after it, " if len(after) else "nothing learned inside psi, "
        )  # fmt: skip
        sources = ", ".join(f"{s[2:]} {x:.2f} to {y:.2f}" for s, x, y in zip(SOURCES, a, b, strict=True))
        told.append(f"`{preset}`: {moved}mean weights of the sources at the same psi {sources}")
    same = table["rank correlation of psi with the rank index"]
    order = (
        "so the order of the days owes little to training"
        if same.min() >= ALIKE
        else "so training changes the order of the days"
    )
    return (
        f"{'; '.join(told)}. psi and the index without parameters have a rank correlation of {same.min():.3f} to "
        f"{same.max():.3f}, {order}"
    )
