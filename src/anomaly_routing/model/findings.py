"""What notebook 05 shows of trained runs, as tables: fusion weight, graphs, temperature, copying, alert cuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from anomaly_routing.model.config import CHOICES, ModelConfig
from anomaly_routing.model.dynamic_graph import ALPHA_RANGE
from anomaly_routing.model.network import Network
from anomaly_routing.model.outcome import on_sessions
from anomaly_routing.model.pressure_index import LEVELS, alert_cuts, alert_levels
from anomaly_routing.model.scoring import score_statistics, scores
from anomaly_routing.model.training import Data, TrainingConfig, evaluate, reconstruction
from anomaly_routing.runs import Run
from anomaly_routing.tensors import Tensors

CPU = torch.device("cpu")
COLLAPSED = 0.99  # mean of the largest routing weight from which on the others are a rounding error
CLAMP_ROUNDING = 1e-4  # a stored alpha has some four digits
CLIP = 8.0  # of scaled features (SPEC 3)
ORDINARY = 0.95
SHIFT = 5.0  # of the prototype in A56
UNMOVED = 0.001  # nats, below which an entropy is called unchanged


def common_start(runs: Mapping[str, Run]) -> pd.Timestamp:
    """The first session that all runs keep: later seeds keep their daily series from before validation on alone."""
    return max(run.daily.index[0] for run in runs.values())


def kept_line(run: Run) -> dict:
    """The training log's line of the weights in use, those of the rule `tail`."""
    return run.info["history"][run.info["best"]["tail"]["epoch"]]


def collapsed_runs(runs: Mapping[str, Run]) -> list[str]:
    """Runs that route nearly everything to one expert (validation sessions, weights in use)."""
    return [name for name, run in runs.items() if kept_line(run)["mean_max_w"] > COLLAPSED]


def among(names: Sequence[str], everyone: Sequence[str]) -> str:
    """`none`, `all` or the names, for a sentence."""
    if not names:
        return "none"
    return "all" if set(names) == set(everyone) and len(everyone) > 1 else " and ".join(names)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def fusion_table(runs: Mapping[str, Run], starts: Sequence[pd.Timestamp], paper: Sequence[float]) -> pd.DataFrame:
    """What alpha does in each run, over the sessions from each of `starts` on that the run has (A49).

    alpha on the session with the least and the most psi, and how far its logit falls between them; a and b of
    alpha = sigmoid(a + b psi), from the sessions off the clamp; whether each value of `paper` lies in the run's range.
    """
    rows = []
    for name, run in runs.items():
        for start in sorted({max(start, run.daily.index[0]) for start in starts}):
            alpha, psi = run.daily.loc[start:, "alpha"].astype(float), run.daily.loc[start:, "psi"].astype(float)
            calm, stressed = alpha[psi.idxmin()], alpha[psi.idxmax()]
            free = (alpha - ALPHA_RANGE[0] > CLAMP_ROUNDING) & (ALPHA_RANGE[1] - alpha > CLAMP_ROUNDING)
            b, a = (
                np.polyfit(psi[free], np.log(alpha[free] / (1 - alpha[free])), 1) if free.sum() > 1 else (np.nan,) * 2
            )
            rows.append(
                {
                    "run": name,
                    "from": start,
                    "sessions": len(alpha),
                    "alpha, lowest": alpha.min(),
                    "alpha, highest": alpha.max(),
                    "calmest": calm,
                    "most stressed": stressed,
                    "fall of the logit": logit(calm) - logit(stressed),
                    "a": a,
                    "b": b,
                    "on the lower clamp": (alpha - ALPHA_RANGE[0] <= CLAMP_ROUNDING).mean(),
                }
                | {f"{value} inside": bool(alpha.min() <= value <= alpha.max()) for value in paper}
            )
    return pd.DataFrame(rows)


def graph_facts(learned: np.ndarray, fused: np.ndarray, alpha: float, prior: np.ndarray, active: np.ndarray) -> dict:
    """Of one session's graphs [N, N]: how many stocks a row of A_learned names, and where the mass lies.

    Non-zeros a row (mean, fewest) and empty rows over the active stocks (SPEC 15, test 5); effective neighbours, the
    exponential of a row's entropy, over the rows that have any; the prior's part of the fused mass is what alpha was
    meant to set (A48).
    """
    rows = learned[active]
    neighbours, some = (rows > 0).sum(1), rows[rows.sum(1) > 0]
    entropy = -(some * np.log(np.maximum(some, 1e-12))).sum(1)
    return {
        "non-zeros a row": neighbours.mean(),
        "fewest": neighbours.min(),
        "empty rows": (neighbours == 0).mean(),
        "effective neighbours": np.exp(entropy).mean(),
        "learned mass along prior edges": (learned * prior).sum() / learned.sum(),
        "prior's share of fused mass": 1 - (1 - alpha) * learned.sum() / fused.sum(),
    }


def temperature_test(net: Network, tensors: Tensors, rows: np.ndarray) -> pd.DataFrame:
    """The same weights under both rules of the temperature, on the sessions `rows` (A53): tau and the entropy of the
    routing, mean over the half of them with less and with more psi; one row a rule."""
    found = []
    for rule in CHOICES["tau_rule"]:
        other = Network(net.n_features, tensors.categories, replace(net.config, tau_rule=rule))
        other.load_state_dict(net.state_dict())
        seen = on_sessions(other, tensors, rows, CPU, ("routing", "psi", "tau"))
        w, active = seen["routing"].astype(float), tensors.active[rows]
        each = -(w * np.log(np.maximum(w, 1e-9))).sum(-1)
        entropy = np.array([of_day[on].mean() for of_day, on in zip(each, active, strict=True)])
        high = seen["psi"] > np.median(seen["psi"])
        change = entropy[high].mean() - entropy[~high].mean()
        found.append(
            {
                "temperature": rule,
                "trained with": net.config.tau_rule == rule,
                "tau, calm half": seen["tau"][~high].mean(),
                "tau, stressed half": seen["tau"][high].mean(),
                "entropy, calm": entropy[~high].mean(),
                "entropy, stressed": entropy[high].mean(),
                "stress makes it": "neither" if abs(change) < UNMOVED else "sharper" if change < 0 else "flatter",
            }
        )
    return pd.DataFrame(found)


def planted_shifts(
    net: Network, tensors: Tensors, rows: np.ndarray, size: float = SHIFT, every: int = 10
) -> pd.DataFrame:
    """How much of a planted anomaly each expert copies (A56): one row an expert.

    On the last session of each of `rows`, all features of the expert's category are raised by `size` (up to the clip)
    in every tenth active stock. error, error with the shift : means over these stock-days. left of the shift : by how
    much of the shift's length the error grows; an expert that copies leaves nothing. above ordinary : share of them
    above the 95% quantile of the errors of all stock-days without a shift.
    """
    data, found = Data(tensors, net.config, CPU), []
    plain = [next(evaluate(net, data, np.array([row]), TrainingConfig())) for row in rows]
    for k, own in enumerate(net.experts.columns):
        before, after, length, ordinary = [], [], [], []
        for batch, out in plain:
            stocks = torch.nonzero(batch.active[0])[::every, 0]
            shifted = batch.x.clone()
            shifted[-1, stocks[:, None], own] = (shifted[-1, stocks[:, None], own] + size).clamp(max=CLIP)
            with torch.no_grad():
                moved = net(shifted, *batch[1:])
            before.append(out.expert_error[0, stocks, k])
            after.append(moved.expert_error[0, stocks, k])
            length.append((shifted - batch.x)[-1, stocks].norm(dim=-1))
            ordinary.append(out.expert_error[0, batch.active[0], k])
        before, after, length, ordinary = (
            torch.cat(part).double().numpy() for part in (before, after, length, ordinary)
        )
        found.append(
            {
                "expert": tensors.group[own[0]],
                "error": before.mean(),
                "error with the shift": after.mean(),
                "left of the shift": ((after - before) / length).mean(),
                "above ordinary": (after > np.quantile(ordinary, ORDINARY)).mean(),
            }
        )
    return pd.DataFrame(found)


def alert_shares(mpi: pd.Series, tensors: Tensors, source: str = "val") -> list[float]:
    """Shares of the test sessions in the levels L0 .. L4, in percent, with cuts from `source` (A11)."""
    at = tensors.sessions.get_indexer(mpi.index)
    counted = (tensors.scored if source == "expanding" else getattr(tensors, source))[at]
    level = alert_levels(mpi.to_numpy(), alert_cuts(mpi.to_numpy(), counted, source))[tensors.test[at]]
    return [100 * float(np.mean(level == k)) for k in range(len(LEVELS) + 1)]


def alert_table(runs: Mapping[str, Run], tensors: Tensors, paper: Mapping[str, float]) -> pd.DataFrame:
    """`alert_shares` of each run, then what the quantiles promise, then the paper's figures: L0 .. L4 and L3+L4."""
    shares = {name: alert_shares(run.daily.mpi, tensors) for name, run in runs.items()}
    shares["nominal"] = list(100 * np.diff((0, *LEVELS, 1)))
    rows = [
        {"run": name} | {f"L{k}": v for k, v in enumerate(own)} | {"L3+L4": sum(own[3:])}
        for name, own in shares.items()
    ]
    return pd.DataFrame([*rows, {"run": "the paper", **paper}])


def alert_sources(runs: Mapping[str, Run], tensors: Tensors) -> pd.DataFrame:
    """`alert_shares` by source of the cuts, of the runs that keep all their sessions; one row a run and source."""
    whole = tensors.sessions[tensors.scored][0]
    rows = [
        {"run": name, "cuts from": source}
        | {f"L{k}": share for k, share in enumerate(alert_shares(run.daily.mpi, tensors, source))}
        for name, run in runs.items()
        for source in CHOICES["cut_source"]
        if run.daily.index[0] == whole
    ]
    table = pd.DataFrame(rows)
    return table.assign(**{"L3+L4": table.L3 + table.L4})


def rescored(net: Network, run: Run, tensors: Tensors, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the sessions `rows`, one whole block of `literal`, made anew from the weights, and the stored ones."""
    found = evaluate(net, Data(tensors, net.config, CPU), rows, TrainingConfig())
    error, active = np.concatenate([out.error.numpy() for _, out in found]).astype(float), tensors.active[rows]
    mu, sigma = run.info["mu_tail"], run.info["sigma_tail"]
    if mu is None:  # the block is its own yardstick
        mu, sigma = score_statistics(error, active, np.ones(len(rows), bool))
    return scores(error, active, mu, sigma), run.score[run.score_sessions.get_indexer(tensors.sessions[rows])]


def stored_graphs_words(kept: int, graphs: int, stocks: int) -> str:
    """Why fewer learned graphs are stored than sessions with routing: float16, stocks x stocks a session."""
    mib = stocks**2 * 2 / 2**20
    return (
        f"Of the {kept} sessions stored stock by stock (routing, errors), {graphs} keep their learned graph: "
        f"at {stocks} x {stocks} numbers a session all of them would take {kept * mib:.2f} MiB before packing, those "
        f"take {graphs * mib:.2f}. The committed weights give the graphs of the other {kept - graphs}"
    )


def neighbours_words(
    runs: Mapping[str, Run], nets: Mapping[str, Network], firsts: Mapping[str, str], t: Tensors
) -> str:
    """Non-zeros a row of A_learned on the validation sessions (SPEC 15, test 5), counted again from the kept weights.

    nets, firsts : preset -> network, and -> its run. Says whose log has no count, as those from before it was logged.
    """
    told = []
    for preset, net in nets.items():
        data = Data(t, net.config, CPU)
        found = reconstruction(net, data, data.val, TrainingConfig())[1]
        told.append(
            f"{firsts[preset]} {found['neighbours']['mean']:.1f} on average, {found['neighbours']['min']} at least, "
            f"{found['without_neighbours']:.1%} of the rows empty"
        )
    lacking = [name for name, run in runs.items() if "neighbours" not in run.info["history"][-1]]
    logged = f"the log of {' and '.join(lacking)} is older than this count" if lacking else "each log has it by epoch"
    return f"{'; '.join(told)}; {logged}"


def trainings_table(runs: Mapping[str, Run]) -> pd.DataFrame:
    """How each training went; epochs count from one. One row a run.

    minutes, median x epochs : what it takes undisturbed. minutes, all epochs : the sum of the log, which the scorecard
    gives in seconds. epochs of over ten medians : the process was held up; the log does not say by what.
    """
    rows, collapsed = [], collapsed_runs(runs)
    for name, run in runs.items():
        info, best = run.info, run.info["best"]
        seconds = np.array([line["seconds"] for line in info["history"]])
        row = {"run": name, "epochs": info["epochs"], "stopped by": info["stopped"]}
        row |= {f"best epoch, {rule}": best[rule]["epoch"] + 1 for rule in best}
        row |= {f"L_rec, {rule}": best[rule]["loss"] for rule in best}
        row |= {"seconds an epoch, median": np.median(seconds)}
        row |= {"minutes, median x epochs": np.median(seconds) * len(seconds) / 60}
        row |= {"minutes, all epochs": seconds.sum() / 60}
        row |= {"epochs of over ten medians": int((seconds > 10 * np.median(seconds)).sum())}
        rows.append(
            row | {"collapsed": "yes" if name in collapsed else "", "device": info["device"], "tier": info["tier"]}
        )
    return pd.DataFrame(rows)


def graph_words(facts: pd.DataFrame, stocks: int) -> str:
    """What fusion does in each preset; facts : `graph_facts` by preset and mood, calm and stress."""
    told = []
    for preset, own in facts.groupby("preset", sort=False):
        one, two = (own.set_index("mood").loc[mood] for mood in ("calm", "stress"))
        share = "prior's share of fused mass"
        told.append(
            f"`{preset}`: `alpha` {one.alpha:.3f} in calm and {two.alpha:.3f} in stress, the prior's share of the "
            f"fused mass {one[share]:.0%} and {two[share]:.0%}; effective neighbours "
            f"{one['effective neighbours']:.1f} and {two['effective neighbours']:.1f}, of rows that name "
            f"{one['non-zeros a row']:.0f} and {two['non-zeros a row']:.0f} of {stocks} stocks"
        )
    return ". ".join(told)


def loss_shares(runs: Mapping[str, Run], configs: Mapping[str, ModelConfig]) -> str:
    """The diversity and the smoothness term of each run's last epoch, as shares of its L_rec."""
    told = []
    for name, run in runs.items():
        line, own = run.info["history"][-1], configs[name]
        diversity, smoothness = own.gamma1 * line["entropy"], own.gamma2 * line["smooth"]
        told.append(f"{name} {diversity / line['rec']:.2%} and {smoothness / line['rec']:.4%}")
    return ", ".join(told)
