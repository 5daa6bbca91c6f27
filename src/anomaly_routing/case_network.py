"""What the committed checkpoint says of a case: single stocks and features, graphs, attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from anomaly_routing.case_market import DEFAULT_PRESET, EXPERTS, CaseMarket
from anomaly_routing.model.config import HORIZONS
from anomaly_routing.model.network import Network
from anomaly_routing.model.scoring import HORIZON_WEIGHTS, MOE_SHARE, scores
from anomaly_routing.model.training import Data, TrainingConfig, evaluate

BY_STOCK = ("error", "routing", "expert_error", "rebuilt", "latent", "learned", "cross_weights")


@torch.no_grad()
def forward(market: CaseMarket, positions: np.ndarray, preset: str = DEFAULT_PRESET) -> dict[str, np.ndarray]:
    """The network's output over consecutive sessions, arrays [T, ...] of the fields in BY_STOCK, psi and alpha."""
    net = market.network(preset)
    data = Data(market.tensors, net.config, torch.device("cpu"))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*BY_STOCK, "psi", "alpha")}
    for _, out in evaluate(net, data, np.asarray(positions), TrainingConfig()):
        for name, collected in parts.items():
            collected.append(getattr(out, name).numpy())
    return {name: np.concatenate(collected) for name, collected in parts.items()}


def stock_table(
    market: CaseMarket, positions: np.ndarray, tickers: Sequence[str], preset: str, out: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Score, E, routing and expert errors of some stocks; NaN when they do not trade."""
    tensors, run = market.tensors, market.first_run(preset)
    sessions, active = tensors.sessions[positions], tensors.active[positions]
    if run.info["mu_tail"] is None:  # the literal score depends on its block: the stored one
        kept = pd.DataFrame(run.score, run.score_sessions, run.tickers).reindex(sessions)
        score = kept.reindex(columns=tensors.tickers).to_numpy()
    else:
        score = scores(out["error"], active, run.info["mu_tail"], run.info["sigma_tail"])
    frames = []
    for ticker in tickers:
        i = tensors.tickers.index(ticker)
        trades = np.where(active[:, i], 1.0, np.nan)
        columns = {"score": score[:, i], "E": out["error"][:, i] * trades}
        columns |= {f"w{k + 1}": out["routing"][:, i, k] * trades for k in range(4)}
        columns |= {f"l{k + 1}": out["expert_error"][:, i, k] * trades for k in range(4)}
        frames.append(pd.DataFrame({"preset": preset, "session": sessions, "ticker": ticker} | columns))
    return pd.concat(frames, ignore_index=True)


def drivers(
    market: CaseMarket, out: dict[str, np.ndarray], positions: np.ndarray, ticker: str, at: int
) -> pd.DataFrame:
    """What a stock's error E is made of on the session `at` of the window, by feature; the shares add up to 1.

    E = 0.6 sum_k w_k l_k + 0.4 e_rec (equations 50, 53). `expert_share`: expert k's part, split among its features in
    proportion to their squared residuals, since l_k^2 is their sum. `window_share`: e_rec, the weighted mean of the
    errors over the last 1, 3 and 5 sessions, each session's error split in the same way.
    """
    tensors, i = market.tensors, market.tensors.tickers.index(ticker)
    error, weight, part = out["error"][at, i], out["routing"][at, i], out["expert_error"][at, i]
    category = np.array(tensors.categories)
    residual = (tensors.x[positions[at], i] - out["rebuilt"][at, i]).astype(np.float64) ** 2
    whole = np.bincount(category, residual)[category]
    own = MOE_SHARE * (weight * part)[category] * np.divide(residual, whole, out=0 * residual, where=whole > 0)
    last = tensors.x[positions[at] - max(HORIZONS) + 1 : positions[at] + 1, i]
    rec = (1 - MOE_SHARE) * _window_parts(market.network(), out["latent"][at, i], last)
    table = pd.DataFrame({"ticker": ticker, "session": tensors.sessions[positions[at]],
                          "expert": np.array(EXPERTS, dtype=object)[category], "feature": tensors.features,
                          "expert_share": own / error, "window_share": rec / error})  # fmt: skip
    table["share"] = table["expert_share"] + table["window_share"]
    return table.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)


@torch.no_grad()
def _window_parts(net: Network, latent: np.ndarray, last: np.ndarray) -> np.ndarray:
    """e_rec of one stock split among the features, [F]; latent [64], last [5, F] its last sessions, oldest first."""
    parts, row = np.zeros(last.shape[1]), torch.as_tensor(latent)[None]
    layers = zip(HORIZONS, HORIZON_WEIGHTS, net.decoders.gru, net.decoders.out, strict=True)
    for horizon, share, gru, head in layers:
        rebuilt = head(gru(row[:, None].expand(-1, horizon, -1))[0])[0].numpy()
        squares = (last[-horizon:] - rebuilt).astype(np.float64) ** 2
        parts += share * (squares / np.sqrt(squares.sum(1, keepdims=True))).mean(0)
    return parts


def sector_mass(market: CaseMarket, out: dict[str, np.ndarray], positions: np.ndarray, sector: str) -> pd.DataFrame:
    """Share of a row's cross-modal attention P_x that falls on a sector, mean over the sector's own rows; per session.

    Beside it, `uniform`: what even attention over the active stocks would give (AUDIT A36).
    """
    member = market.sector == sector
    rows = []
    for t, position in enumerate(positions):
        active = market.tensors.active[position]
        own = active & member
        mass = out["cross_weights"][t][own][:, own].sum(1)
        largest = out["cross_weights"][t][own].max() if own.any() else np.nan
        rows.append({"session": market.tensors.sessions[position], "mass": mass.mean() if own.any() else np.nan,
                     "uniform": own.sum() / active.sum(), "largest_weight": largest})  # fmt: skip
    return pd.DataFrame(rows)
