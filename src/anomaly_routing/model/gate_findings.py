"""Notebook 05 on the gate: collapse, temperature (A53) and diversity (A58, A59), in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from anomaly_routing.model.config import make_config
from anomaly_routing.model.diagnostics import Clock
from anomaly_routing.model.findings import COLLAPSED, CPU, UNMOVED, collapsed_runs, kept_line
from anomaly_routing.model.losses import loss_terms
from anomaly_routing.model.network import Network
from anomaly_routing.model.training import Data, TrainingConfig, forward, train_epoch
from anomaly_routing.runs import Run
from anomaly_routing.tensors import Tensors

EXPERTS = ("w1", "w2", "w3", "w4")
SIGNS = {"printed, +": 1, "without the term": 0, "the prose's, -": -1}
TERMS = ("rec", "entropy", "smooth")


# --- collapse ---------------------------------------------------------------------------------------------------------
def starting_weights(groups: Sequence[int], method: str, seed: int, overrides: Mapping[str, object]) -> dict:
    """The state dict from which `train_one` starts a run, on the CPU's random numbers. groups [F], as of `Tensors`."""
    torch.manual_seed(seed)
    return Network(len(groups), groups, make_config(method, **overrides)).state_dict()


def same_start(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether all that is drawn at random, the tensors with more than a handful of entries, is the same bit for bit.

    The few scalars of stress, sources, fusion and gate are constants that the presets set; they may differ.
    """
    drawn = [{k: v for k, v in state.items() if v.numel() > 4} for state in (one, other)]
    return drawn[0].keys() == drawn[1].keys() and all(torch.equal(v, drawn[1][k]) for k, v in drawn[0].items())


def collapsed_from(run: Run) -> int | None:
    """The epoch, counted from one, from which on the log's mean largest weight stays above `COLLAPSED`; None: never."""
    high = [line["mean_max_w"] > COLLAPSED for line in run.info["history"]]
    calm = [k for k, collapsed in enumerate(high) if not collapsed]
    first = calm[-1] + 1 if calm else 0
    return first + 1 if first < len(high) else None


def collapse_words(runs: Mapping[str, Run], start: Mapping[str, Mapping[str, torch.Tensor]]) -> str:
    """Since which epoch each run has collapsed, and which of them began from the same random weights.

    start : run -> state dict before training.
    """
    each = [f"{name}: {f'since epoch {k}' if (k := collapsed_from(run)) else 'not'}" for name, run in runs.items()]
    groups: list[list[str]] = []
    for name in runs:
        twin = next((g for g in groups if same_start(start[g[0]], start[name])), None)
        groups.append([name]) if twin is None else twin.append(name)
    twins = [" and ".join(group) for group in groups if len(group) > 1]
    told = "; ".join(each) + ". "
    if not twins:
        return told + "Each run began from random weights of its own"
    return told + (
        f"The same initial weights, but for the scalars that the presets set, and batches shuffled from the same seed: "
        f"{'; '.join(twins)}. Of {len(runs)} runs the number of independent starts is {len(groups)}; a collapse "
        f"that runs of one start share counts once"
    )


# --- temperature ------------------------------------------------------------------------------------------------------
def stored_routing(runs: Mapping[str, Run], start: pd.Timestamp) -> pd.DataFrame:
    """Entropy of the stored daily mean weights in the calmer and the more stressed half of the sessions from `start`
    on, in nats, and its rank correlation with psi; one row a run.

    This is the entropy of the market's mean weights: stocks that go different ways look even in it.
    """
    rows = []
    for name, run in runs.items():
        daily = run.daily.loc[start:]
        w, psi = daily[list(EXPERTS)].to_numpy(float), daily.psi.astype(float)
        entropy = pd.Series(-(w * np.log(np.maximum(w, 1e-12))).sum(1), index=daily.index)
        high = psi > psi.median()
        rows.append(
            {
                "run": name,
                "from": start,
                "entropy, calm": entropy[~high].mean(),
                "entropy, stressed": entropy[high].mean(),
                "rank correlation with psi": entropy.corr(psi, method="spearman"),
            }
        )
    return pd.DataFrame(rows)


def temperature_words(
    runs: Mapping[str, Run],
    tested: Mapping[str, str],
    flatter: Mapping[str, float],
    untrained: Mapping[str, float],
    stored: pd.DataFrame,
) -> str:
    """What the tests of the temperature showed, run by run.

    tested : preset -> the run whose weights are kept. flatter : preset -> nats by which the entropy of the
    routing changes from calm to stress under the printed rule, less the same under the prose's; untrained : the same
    before training. stored : `stored_routing`.
    """
    gone, kept = collapsed_runs(runs), list(tested.values())
    alive = [f"{run} {flatter[m]:+.4f} nats" for m, run in tested.items() if run not in gone]
    dead = [f"{run} (entropy {kept_line(runs[run])['routing_entropy']:.2f})" for run in kept if run in gone]
    daily = [
        f"{r['run']} {r['entropy, calm']:.4f} nats in the calm half and {r['entropy, stressed']:.4f} in the stressed "
        f"one, rank correlation with psi {r['rank correlation with psi']:.3f}"
        for _, r in stored.iterrows()
        if r["run"] not in gone
    ]
    before = " and ".join(f"{m} {value:+.4f} nats" for m, value in untrained.items())
    parts = [
        f"entropy of the routing, change from calm to stress, under the printed rule less that under the prose's, both "
        f"with the same weights: untrained {before}",
        f"trained {' and '.join(alive)}" if alive else "",
        f"{' and '.join(dead)} collapsed, which leaves a temperature nothing to act on" if dead else "",
        "of the kept weights none is left to test it on" if dead and not alive else "",
        f"entropy of the market's daily mean weights, which is not that of each stock: {', '.join(daily)}"
        if daily else "",
    ]  # fmt: skip
    return "; ".join(part for part in parts if part)


# --- diversity --------------------------------------------------------------------------------------------------------
def gate_pull(net: Network, tensors: Tensors, rows: tuple[int, int]) -> dict[str, float]:
    """Norm of the gradient of L_rec and of the weighted entropy and smoothness terms on the gate's parameters (A59).

    rows : first and last+1 position of a batch of consecutive sessions in the tensors.
    """
    data, weight = Data(tensors, net.config, CPU), {"rec": 1.0, "entropy": net.config.gamma1}
    weight["smooth"] = net.config.gamma2
    batch = data.batch(*rows)
    terms = loss_terms(forward(net, batch, TrainingConfig().memory_gib), batch.active, net.config)
    found = {}
    for name in TERMS:
        parts = torch.autograd.grad(
            weight[name] * terms[name], list(net.experts.gate.parameters()), retain_graph=True, allow_unused=True
        )
        found[name] = float(torch.cat([part.flatten() for part in parts if part is not None]).norm())
    return found


def entropy_on(net: Network, tensors: Tensors, rows: tuple[int, int]) -> float:
    """Mean entropy of the routing, nats, on one batch."""
    batch = Data(tensors, net.config, CPU).batch(*rows)
    with torch.no_grad():
        return float(loss_terms(net(*batch), batch.active, net.config)["entropy"])


def entropy_after_a_step(net: Network, tensors: Tensors, rows: tuple[int, int], sign: int) -> float:
    """Entropy on a batch after one step of training on it from these weights, with the sign +1 or -1 of the term, or
    0: without it. `net` stays as it is."""
    gamma1 = net.config.gamma1 if sign else 0.0
    other = Network(net.n_features, tensors.categories, replace(net.config, div_sign=sign or 1, gamma1=gamma1))
    other.load_state_dict(deepcopy(net.state_dict()))
    config = TrainingConfig()
    optimiser = torch.optim.Adam(other.parameters(), lr=config.learning_rate)
    train_epoch(other, optimiser, Data(tensors, other.config, CPU), [rows], config, Clock(CPU))
    return entropy_on(other, tensors, rows)


def diversity_test(nets: Mapping[str, Network], tensors: Tensors, rows: tuple[int, int]) -> pd.DataFrame:
    """What the diversity term does to each network, measured on one batch (A58, A59); one row a network.

    The three norms of `gate_pull`, the term's over that of L_rec, the entropy, and its change by one step of each sign.
    """
    table = []
    for name, net in nets.items():
        pull, before = gate_pull(net, tensors, rows), entropy_on(net, tensors, rows)
        row = {"weights": name, "gradient of L_rec": pull["rec"], "of the diversity term": pull["entropy"]}
        row |= {
            "of the smoothness term": pull["smooth"],
            "diversity / L_rec": pull["entropy"] / pull["rec"] if pull["rec"] else np.nan,  # a collapsed gate has none
        }
        row["entropy"] = before
        row |= {
            f"step, {text}": entropy_after_a_step(net, tensors, rows, sign) - before for text, sign in SIGNS.items()
        }
        table.append(row)
    return pd.DataFrame(table)


def diversity_words(table: pd.DataFrame) -> str:
    """`diversity_test` as a sentence: of each network the norms, and the way in which the sign acts."""
    told = []
    for _, r in table.iterrows():
        down, without, up = (r[f"step, {text}"] for text in SIGNS)
        if r.entropy < UNMOVED:
            told.append(f"{r.weights}: collapsed, the term's gradient is {r['of the diversity term']:.1e}")
            continue
        way = "as A58 says" if down < without < up else "not in the order of A58"
        told.append(
            f"{r.weights}: gradient norm on the gate {r['of the diversity term']:.2g} from the diversity term, "
            f"{r['gradient of L_rec']:.2g} from L_rec ({r['diversity / L_rec']:.1%}); one step of a new Adam moves the "
            f"entropy ({r.entropy:.3f}) by {down:+.5f} with the printed sign, {without:+.5f} without the term, "
            f"{up:+.5f} with the prose's ({way})"
        )
    return "; ".join(told)


def diversity_brief(table: pd.DataFrame) -> str:
    """`diversity_test` in a line, for the list of findings."""
    alive = table[table.entropy >= UNMOVED]
    if alive.empty:
        return "all tested networks collapsed, so the term has nothing to act on"
    down, without, up = (alive[f"step, {text}"] for text in SIGNS)
    share = alive["diversity / L_rec"]
    return (
        f"after one step the printed sign leaves less entropy than no term, and the prose's more, in "
        f"{((down < without) & (without < up)).sum()} of the {len(alive)} tested networks that route to several "
        f"experts; the term pulls on the gate with {share.min():.0%} to {share.max():.0%} of the gradient of L_rec"
    )


def diversity_ends(runs: Mapping[str, Run], signs: Mapping[str, int]) -> pd.DataFrame:
    """Routing at the end of each training, by sign of the term; signs : run -> +1 or -1."""
    names, rows = {sign: text for text, sign in SIGNS.items()}, []
    for name, sign in signs.items():
        line = runs[name].info["history"][-1]
        row = {"run": name, "sign": names[sign], "entropy at the end": line["routing_entropy"]}
        rows.append(row | {"mean of the largest weight": line["mean_max_w"]})
    return pd.DataFrame(rows)


def sign_words(ends: pd.DataFrame) -> str:
    """Whether the trainings of `diversity_ends` tell the sign from the seed, with however many runs there are."""
    groups = ends.groupby("sign")["entropy at the end"]
    each = "; ".join(f"{sign} {v.min():.2f} to {v.max():.2f} (runs: {len(v)})" for sign, v in groups)
    if len(groups) < 2:
        return f"{each}: one sign alone was trained"
    within, gap = max(np.ptp(v) for _, v in groups), np.ptp(groups.mean())
    if groups.min().max() - groups.max().min() < UNMOVED:
        told = f"the ranges overlap: the seed moves it by up to {within:.2f}, the sign its mean by {gap:.2f}"
        return f"{each}: {told}, so these trainings show no effect of the sign"
    if groups.size().min() < 2:
        return f"{each}: the signs lie apart, but one run of a sign cannot be told from chance"
    return f"{each}: the signs lie apart, their means by {gap:.2f}, seeds of one sign by up to {within:.2f}"
