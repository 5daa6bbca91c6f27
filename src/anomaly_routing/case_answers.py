"""Claims that single cases decide: what attention does in a contagion, what each horizon of the decoders alone sees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from anomaly_routing.case_market import CaseMarket
from anomaly_routing.case_measures import DEFAULT_PRESET
from anomaly_routing.evaluation.readings import count_hits, raise_alarms
from anomaly_routing.ledger.answers import answers_table
from anomaly_routing.ledger.verdict import Finding
from anomaly_routing.model.config import HORIZONS
from anomaly_routing.model.training import Data, TrainingConfig, evaluate
from anomaly_routing.network_map import outside_mass


def concentration(weights: np.ndarray, active: np.ndarray, rows: np.ndarray) -> float:
    """1 minus the entropy of attention over its maximum, mean over the active stocks of `rows`: 0 even, 1 on one stock.

    weights : [N, N], rows sum to 1 over the active stocks. active, rows : bool [N].
    """
    own = weights[active & rows][:, active].astype(float)
    if not len(own) or active.sum() < 2:
        return np.nan
    entropy = -(own * np.log(np.clip(own, 1e-300, None))).sum(1)
    return float(1 - entropy.mean() / np.log(active.sum()))


def reading_of_attention(
    market: CaseMarket,
    weights: np.ndarray,
    positions: np.ndarray,
    focus: np.ndarray,
    late: np.ndarray,
    calm: np.ndarray,
) -> tuple[float, float]:
    """Mean `concentration` of the stocks in focus on the late and on the calm sessions.

    weights : [T, N, N] of the sessions at `positions`. late, calm : bool [T].
    """
    by_day = [concentration(w, market.tensors.active[at], focus) for w, at in zip(weights, positions, strict=True)]
    return float(np.nanmean(np.array(by_day)[late])), float(np.nanmean(np.array(by_day)[calm]))


def horizon_errors(
    market: CaseMarket, preset: str = DEFAULT_PRESET, focus: np.ndarray | None = None
) -> tuple[pd.DataFrame, pd.Series]:
    """Mean error of the active stocks at each horizon (columns 1, 3, 5); what the focus group draws from outside.

    Both by session, validation and test sessions, of one pass over them. focus : bool [N], the banks when left out.
    """
    tensors, net = market.tensors, market.network(preset)
    focus = tensors.is_bank.astype(bool) if focus is None else focus
    rows, means, drawn = np.flatnonzero(tensors.val | tensors.test), [], []
    with torch.no_grad():
        for batch, out in evaluate(net, Data(tensors, net.config, torch.device("cpu")), rows, TrainingConfig()):
            means.append((out.horizon_error.sum(1) / batch.active.sum(1, keepdim=True)).numpy())
            drawn.append(outside_mass(out.learned.numpy(), focus, batch.active.numpy()))
    sessions = tensors.sessions[rows]
    errors = pd.DataFrame(np.concatenate(means).astype(float), sessions, list(HORIZONS))
    return errors, pd.Series(np.concatenate(drawn), sessions)


def hits_by_horizon(errors: pd.DataFrame, market: CaseMarket) -> dict[int, set[str]]:
    """Horizon -> events hit under protocol `paper` when its error alone is the score."""
    judged = market.events[market.events["split"].isin(["val", "test"])]
    found = {}
    for horizon in errors:
        counted = count_hits(raise_alarms(errors[horizon], judged, market.tensors.splits))
        found[int(horizon)] = {name for name, line in counted["per_event"].items() if line["hit"]}
    return found


def complementary(hits: dict[int, set[str]]) -> tuple[bool, float, str]:
    """Does each of the shortest and the longest horizon hit an event that the other misses? Whether, for what part of
    the two, and the events in words."""
    short, long = min(hits), max(hits)
    alone = hits[short] - hits[long], hits[long] - hits[short]
    counts = f"hits {len(hits[short])} and {len(hits[long])}"
    told = f"{counts}; only h={short}: {_named(alone[0])}; only h={long}: {_named(alone[1])}"
    return all(alone), float(np.mean([bool(part) for part in alone])), told


def _named(events: set[str]) -> str:
    return ", ".join(sorted(events)) or "none"


def case_answers(
    market: CaseMarket, attention: tuple[float, float], hits: dict[int, set[str]], judged: Mapping[str, Finding]
) -> pd.DataFrame:
    """`claims.csv` for the ledger, preset `intended`: what `case_claims.measured` found, and two claims more.

    attention : of `reading_of_attention`. hits : of `hits_by_horizon`, both of the first seed.
    """
    own = market.runs[market.runs["preset"] == DEFAULT_PRESET].sort_values("seed").iloc[0]
    how = {"n_seeds": 1, "tier": own["tier"], "device": own["device"]}
    (late, calm), (holds, part, told) = attention, complementary(hits)
    note = f"1 minus normalised entropy of attention, event stocks: {late:.4g} in the crisis, {calm:.4g} before"
    alone = f"mean error at one horizon alone: {told}"
    more = {
        "S3.xmodal_reading": Finding(round(late - calm, 6), "direction", note=note, **how),
        "S3.h1_h5": Finding(holds, "holds", part=part, protocol="paper", note=alone, **how),
    }
    known = {name: found for name, found in judged.items() if found.value is not None}
    return answers_table({**known, **more})


def strongest_tie(correlation: float) -> Finding:
    """GameStop's mean correlation with four biotechnology stocks, on the session of the month on which it is largest.

    No seed and no training has a say in it."""
    return Finding(correlation, note="largest mean over the month; no run keeps the edge without the prior (A37)")
