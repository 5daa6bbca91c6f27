"""Claims about the design: constants, shapes and parameter counts of the model as we build it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_routing.claims import Claim
from anomaly_routing.features.catalogue import GROUPS, features
from anomaly_routing.features.rolling import WINDOW
from anomaly_routing.ledger.registry import decides, table
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding
from anomaly_routing.model import dynamic_graph, encoder, experts, pressure_index, scoring
from anomaly_routing.model.config import HORIZONS, make_config
from anomaly_routing.model.network import Network, build_model
from anomaly_routing.model.training import TrainingConfig
from anomaly_routing.panel import Splits


@cache
def network() -> Network:
    """The model as printed, untrained; its shapes and constants are those of every run."""
    torch.manual_seed(0)
    return build_model("literal")


@cache
def trial() -> Any:
    """One forward pass over made-up inputs: 6 stocks, 2 sessions."""
    net, stocks, window = network(), 6, make_config("literal").window
    with torch.no_grad():
        return net(
            torch.randn(window + 1, stocks, net.n_features),
            torch.ones(2, stocks, dtype=torch.bool),
            torch.ones(stocks, stocks) - torch.eye(stocks),
            torch.rand(2, 4),
        )


def _group_size(name: str) -> int:
    return sum(f.group == name for f in features())


CONSTANTS = {  # claim -> where the constant stands in the model that we build
    "S2.F": lambda: len(features()),
    "S1.baselines_29_identical": lambda: len(features()),
    "S1.n_mechanisms": lambda: trial().routing.shape[-1],
    "S1.mpi_components": lambda: len(pressure_index.COMPONENTS),
    "S1.alert_levels": lambda: len(pressure_index.LEVELS) + 1,
    "S2.d1.price_shock": lambda: _group_size(GROUPS[0]),
    "S2.d2.liquidity": lambda: _group_size(GROUPS[1]),
    "S2.d3.contagion": lambda: _group_size(GROUPS[2]),
    "S2.d4.momentum": lambda: _group_size(GROUPS[3]),
    "S2.T": lambda: make_config("literal").window,
    "S2.roll": lambda: WINDOW,
    "S2.threshold": lambda: 100 * pressure_index.SCORE_QUANTILE,
    "S3.bilstm_dir": lambda: network().encoder.lstm.hidden_size,
    "S3.bi": lambda: 2 * network().encoder.lstm.hidden_size,
    "S3.attn_heads": lambda: network().encoder.heads,
    "S3.attn_dim": lambda: network().encoder.query.out_features // network().encoder.heads,
    "S3.temp": lambda: trial().h_temp.shape[-1],
    "S3.gcn_layers": lambda: len(network().encoder.gcn),
    "S3.spat": lambda: trial().h_spat.shape[-1],
    "S3.spat_resid": lambda: encoder.SPATIAL_RESIDUAL,
    "S3.z": lambda: trial().z.shape[-1],
    "S3.ctx": lambda: trial().context.shape[-1],
    "S3.topk": lambda: network().config.top_k,
    "S3.mask_slope": lambda: dynamic_graph.SHARPNESS,
    "S3.alpha_base": lambda: network().graph.alpha.a.item(),
    "S3.beta_alpha": lambda: network().graph.alpha.b.item(),
    "S3.alpha_lo": lambda: dynamic_graph.ALPHA_RANGE[0],
    "S3.alpha_hi": lambda: dynamic_graph.ALPHA_RANGE[1],
    "S3.gat_heads": lambda: network().graph.gat.a_s.shape[0],
    "S3.gat_dim": lambda: network().graph.gat.a_s.shape[1],
    "S3.refined": lambda: network().graph.gat.out.out_features,
    "S3.zfinal_resid": lambda: dynamic_graph.REFINEMENT,
    "S3.gate_in": lambda: network().experts.gate.mlp[0].in_features,
    "S3.gate_layers": lambda: sum(isinstance(m, torch.nn.Linear) for m in network().experts.gate.mlp),
    "S3.tau_base": lambda: network().experts.gate.tau_b.item(),
    "S3.beta_stress": lambda: experts.STRESS_ON_TEMPERATURE,
    "S3.latent": lambda: trial().latent.shape[-1],
    "S3.w_h1": lambda: scoring.HORIZON_WEIGHTS[0],
    "S3.w_h3": lambda: scoring.HORIZON_WEIGHTS[1],
    "S3.w_h5": lambda: scoring.HORIZON_WEIGHTS[2],
    "S3.gru_hidden": lambda: network().decoders.gru[0].hidden_size,
    "S3.w_moe": lambda: scoring.MOE_SHARE,
    "S3.w_recon": lambda: round(1 - scoring.MOE_SHARE, 12),
    "S3.score_gain": lambda: scoring.STEEPNESS,
    "S3.gamma1": lambda: network().config.gamma1,
    "S3.gamma2": lambda: network().config.gamma2,
    "S3.lr": lambda: TrainingConfig().learning_rate,
    "S3.batch": lambda: TrainingConfig().batch_sessions,
    "S3.epochs": lambda: TrainingConfig().epochs,
    "S3.patience": lambda: TrainingConfig().patience,
    "S3.horizons": lambda: list(HORIZONS),
    "S3.bdiv": lambda: network().experts.gate.b_div.tolist(),
    "S3.mpi.c1": lambda: pressure_index.WEIGHTS[0],
    "S3.mpi.c2": lambda: pressure_index.WEIGHTS[1],
    "S3.mpi.c3": lambda: pressure_index.WEIGHTS[2],
    "S3.mpi.c4": lambda: pressure_index.WEIGHTS[3],
    "S3.mpi.c5": lambda: pressure_index.WEIGHTS[4],
    "S3.levels": lambda: [round(100 * q) for q in pressure_index.LEVELS],
}


def _built(constant):
    def compare(claim: Claim, sources: Sources) -> Finding:
        ours = constant()
        same = np.allclose(np.asarray(ours, float), np.asarray(claim.value, float), rtol=1e-6)
        return Finding(claim.value if same else ours, "exact", built=True)

    return compare


table(CONSTANTS, _built, only_real=False)


# --- parameters ------------------------------------------------------------------------------------------------------
PARAMETERS = {  # claim's ending -> part of the network
    "bilstm": "BiLSTM",
    "selfattn": "self-attention",
    "gcn": "GCN",
    "gat": "GAT + projection",
    "gating": "gate MLP",
    "experts": "experts",
    "gru": "GRU decoders",
}


@decides("C.params.*", only_real=False)
def parameters(claim: Claim, sources: Sources) -> Finding:
    """Trainable parameters of the printed equations (SPEC 12)."""
    counts = network().parameters_by_module()
    ending = claim.id.rsplit(".", 1)[1]
    if ending != "total":
        return Finding(counts[PARAMETERS[ending]])
    intended = sum(build_model("intended").parameters_by_module().values())
    return Finding(sum(counts.values()), note=f"preset `literal`, as printed; `intended` has {intended:,}")


@decides("S2.window5", only_real=False)
def detection_window(claim: Claim, sources: Sources) -> Finding:
    from anomaly_routing.evaluation.detection import WINDOWS

    first, last = WINDOWS["sessions_5"]
    return Finding(
        last - first + 1, "exact", built=True, note="sessions; five calendar days hold as few as three (A15)"
    )


@decides("S2.or_rule", only_real=False)
def either_channel(claim: Claim, sources: Sources) -> Finding:
    """Planted channels: the evaluator alarms where either exceeds its own cut, and nowhere else. What the rule does
    when read literally, "some stock above its cut" (A18), is said beside it."""
    from anomaly_routing.evaluation.readings import raise_alarms

    days, splits = pd.bdate_range("2021-01-04", "2024-12-31"), Splits()
    two = pd.DataFrame(np.random.default_rng(0).random((len(days), 2)), days, ["score", "mpi"])
    cuts = two[splits.val(days)].quantile(sources.claimed("S2.threshold") / 100)
    found = raise_alarms(two, sources.events, splits)
    same = found.alarm[found.judged] == (two > cuts).any(axis=1).to_numpy()[found.judged]
    note = "the score's channel is the day's mean: which stock's score counts is not printed (A18)"
    path = sources.paths.reports / "tables" / "scorecard" / "aggregations.csv"
    rows = pd.read_csv(path, index_col="method") if sources.real and path.exists() else pd.DataFrame()
    if "intended" in rows.index:
        literal, theirs = rows.loc["intended"], sources.claimed("T2.no_mpi.hits")
        note += f"; any stock above its cut alarms on {literal['alarm days, any']:.1%} of the test days and hits "
        note += f"{literal['hits, any']:.0f} events, where the paper has {theirs} without the index"
    return Finding(bool(same.all()), "holds", built=True, note=note)


@decides("S2.score_range", "S2.mpi_range", "S3.psi_range", only_real=False)
def stays_in_the_unit_interval(claim: Claim, sources: Sources) -> Finding:
    column = {"S2.score_range": "max", "S2.mpi_range": "mpi", "S3.psi_range": "psi"}[claim.id]
    runs = [run.daily[column].dropna() for _, run in sources.model_runs]
    found = [float(min(r.min() for r in runs)), float(max(r.max() for r in runs))]
    return Finding(
        found[0] >= 0 and found[1] <= 1,
        "holds",
        built=True,
        note=f"from {found[0]:.3f} to {found[1]:.3f} over all runs",
    )


@decides("S2.w_simplex", only_real=False)
def weights_sum_to_one(claim: Claim, sources: Sources) -> Finding:
    total = trial().routing.sum(-1)
    return Finding(bool(torch.allclose(total, torch.ones_like(total))), "holds", built=True, note="an untrained pass")


@decides("S2.aprior_binary")
def prior_is_binary(claim: Claim, sources: Sources) -> Finding:
    path = sources.paths.interim / "prior_graph.npy"
    if not path.exists():
        raise sources.not_run("data", "no prior_graph.npy")
    return Finding(
        bool(np.isin(np.load(path), (0, 1)).all()),
        "holds",
        built=True,
        note="same sector or state",
    )


@decides("S5.nondirected", only_real=False)
def symmetric_before_normalising(claim: Claim, sources: Sources) -> Finding:
    from dataclasses import replace

    net, one = network(), trial()
    graph = build_model("intended").graph
    graph.config = replace(net.config, topk_rule="hard")
    learned = graph.sparsify(
        one.similarity, torch.ones(2, 6, dtype=torch.bool), ~torch.eye(6, dtype=torch.bool).expand(2, 6, 6)
    )
    pattern = (learned > 0) == (learned > 0).transpose(1, 2)
    return Finding(
        bool(pattern.all()),
        "holds",
        built=True,
        note="edges go both ways, with two weights (A47)",
    )


def extra_passes() -> int:
    """Calls of the network and of its gate beyond one each while `trial` is computed, counted by hooks."""
    net, calls = network(), []
    hooks = [part.register_forward_hook(lambda *_: calls.append(1)) for part in (net, net.experts.gate)]
    trial.__wrapped__()
    for hook in hooks:
        hook.remove()
    return len(calls) - len(hooks)


@decides("ABS.no_posthoc", only_real=False)
def weights_come_with_the_scores(claim: Claim, sources: Sources) -> Finding:
    one, extra = trial(), extra_passes()
    together = one.routing.shape[:2] == one.error.shape and not extra
    note = f"{extra} passes beyond the one that returns both, stock by stock"
    return Finding(together, "holds", built=True, note=note)


@decides("F3.zero_cost", only_real=False)
def cost_of_the_gate(claim: Claim, sources: Sources) -> Finding:
    parts, extra = network().parameters_by_module(), extra_passes()
    gate = parts["gate attention"] + parts["gate MLP"]
    note = f"passes beyond the one that scores; but the gate is {gate:,} of {sum(parts.values()):,} parameters (A80)"
    return Finding(extra, "exact", built=True, note=note)


@decides("ABS.unsupervised", only_real=False)
def no_labels_in_a_batch(claim: Claim, sources: Sources) -> Finding:
    from anomaly_routing.model.training import Batch

    note = f"a batch holds {', '.join(Batch._fields)}; but four events lie in the year that stops and cuts (A08, A70)"
    return Finding(not {"events", "labels", "y"} & set(Batch._fields), "holds", note=note)


@decides("S41.n_base.*", only_real=False)
def baselines_by_family(claim: Claim, sources: Sources) -> Finding:
    """The paper's rows of Table 1 by the family under which the method that answers for each is registered."""
    from anomaly_routing.baselines.registry import detectors
    from anomaly_routing.table1 import PAPER_ROWS

    families = {"temporal": "temporal", "static": "static graph", "dynamic": "dynamic graph"}
    families["streaming"] = "memory stream"
    known = detectors()
    rows = [known[members[0]].family for _, members in PAPER_ROWS.values()]
    return Finding(
        rows.count(families[claim.id.rsplit(".", 1)[1]]),
        "exact",
        built=True,
        note="rows of its Table 1, by family here",
    )
