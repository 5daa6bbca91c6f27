"""Module 4, second half: one number a session, the Market Pressure Index, and its alert levels (SPEC 7.3-7.6).

NumPy on scores [S, N] with NaN where inactive; routing weights [S, N, K]; psi [S].
"""

from __future__ import annotations

import numpy as np

from anomaly_routing.model.config import CHOICES, ModelConfig

WEIGHTS = (0.30, 0.25, 0.20, 0.15, 0.10)  # breadth, intensity, dispersion, consensus, stress
COMPONENTS = ("breadth", "intensity", "dispersion", "consensus", "stress")
TOP_SHARE = 0.05
LEVELS = (0.75, 0.85, 0.95, 0.99)
SCORE_QUANTILE = 0.95
CUT_SOURCES = CHOICES["cut_source"]
EXPANDING_FROM = 250  # earlier sessions that expanding cuts need


def theta(score: np.ndarray, active: np.ndarray, val: np.ndarray) -> float:
    """theta_s: linear 95th percentile of s over the active stock-days of the validation sessions (SPEC 7.3)."""
    return float(np.quantile(score[active & val[:, None] & np.isfinite(score)], SCORE_QUANTILE))


def components(
    score: np.ndarray, active: np.ndarray, routing: np.ndarray, psi: np.ndarray, theta_s: float, config: ModelConfig
) -> np.ndarray:
    """c1..c5 of every session, each in [0, 1]; [S, 5], NaN where no stock is scored (paper 3.5, SPEC 7.4, A66).

    c1 share of stocks above theta_s; c2 quadratic mean of the highest 5% of the scores; c3 spread of the scores; c4 how
    far the stocks above theta_s agree in their routing (0 when fewer than two are); c5 psi.
    """
    result = np.full((len(score), 5), np.nan)
    for t in np.flatnonzero((active & np.isfinite(score)).any(axis=1)):
        counted = active[t] & np.isfinite(score[t])
        s, w = score[t, counted], routing[t, counted]
        high = s > theta_s
        top = np.sort(s)[-int(np.ceil(TOP_SHARE * len(s))) :]
        spread = s.std() * (2 if config.mpi_c3 == "double_std" else 1)
        disagreement = w[high].std(axis=0).mean() if high.sum() >= 2 else None
        consensus = 0.0
        if disagreement is not None:
            consensus = 1 - 2 * disagreement if config.mpi_c4 == "agreement" else disagreement
        result[t] = high.mean(), np.sqrt(np.mean(top**2)), spread, consensus, psi[t]
    return result


def pressure_index(parts: np.ndarray, experts: int = 4) -> np.ndarray:
    """MPI [S] in [0, 1] from c1..c5 [S, 5] (equations 16, 54).

    With a single expert there is nothing to agree on: c4 drops out, and the other weights are brought to one (SPEC 10).

    Raises ValueError when a component leaves [0, 1].
    """
    known = parts[np.isfinite(parts).all(axis=1)]
    if len(known) and (known.min() < -1e-6 or known.max() > 1 + 1e-6):
        raise ValueError(f"a component of the Market Pressure Index is outside [0, 1]: {known.min()} .. {known.max()}")
    weights = np.array(WEIGHTS)
    if experts == 1:
        weights[COMPONENTS.index("consensus")] = 0
    return parts @ (weights / weights.sum())


def other_reading(mpi: np.ndarray, dispersion: np.ndarray, consensus: np.ndarray, key: str) -> np.ndarray:
    """The MPI [S] with `mpi_c3` or `mpi_c4` as in `literal`, from one of `intended` and its c3 and c4; four experts.

    The index is linear in its parts, so neither training nor single scores are needed: c3 is halved; c4 = 1 - 2d
    becomes d. A c4 of 0 stays so: fewer than two stocks are above theta_s then, since with four experts d is below 1/2.

    Raises ValueError for another key.
    """
    if key not in ("mpi_c3", "mpi_c4"):
        raise ValueError(f"no part of the index is called {key!r}; use mpi_c3 or mpi_c4")
    if key == "mpi_c3":
        return mpi - WEIGHTS[2] * dispersion / 2
    return mpi + WEIGHTS[3] * (np.where(consensus > 0, (1 - consensus) / 2, 0) - consensus)


def alert_cuts(mpi: np.ndarray, sessions: np.ndarray, source: str = "val") -> np.ndarray:
    """Linear quantiles 75, 85, 95 and 99% of the MPI (SPEC 7.5; A11, A67).

    sessions : bool [S], what counts: the validation sessions (`val`), the training sessions (`train`), or all scored
        ones (`expanding`). source : the first two give [4], from all marked sessions; `expanding` gives [S, 4], each
        session's own cuts from the marked sessions before it, NaN until there are 250 of them.

    Raises ValueError for another source.
    """
    if source not in CUT_SOURCES:
        raise ValueError(f"no cut source {source!r}; there are: {', '.join(CUT_SOURCES)}")
    counted = sessions & np.isfinite(mpi)
    if source != "expanding":
        return np.quantile(mpi[counted], LEVELS)
    cuts = np.full((len(mpi), len(LEVELS)), np.nan)
    for t in np.flatnonzero(np.cumsum(counted) - counted >= EXPANDING_FROM):
        cuts[t] = np.quantile(mpi[:t][counted[:t]], LEVELS)
    return cuts


def alert_levels(mpi: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """0 (normal) to 4 (crisis), int [S]: a value on a cut belongs to the level above it.

    cuts : [4], or [S, 4] with a row a session. -1 where there is no MPI, or no cuts yet.
    """
    known = np.isfinite(mpi) & np.isfinite(cuts).all(axis=-1)
    return np.where(known, (cuts <= np.asarray(mpi)[:, None]).sum(axis=-1), -1)


def market_weights(routing: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean routing weights of the session over the stocks marked in `counted` [S, N] (or weighted by it); [S, K]."""
    weight = np.nan_to_num(np.asarray(counted, dtype=np.float64))
    total = weight.sum(axis=1, keepdims=True)
    mean = np.einsum("sn,snk->sk", weight, np.nan_to_num(routing))
    return np.divide(mean, total, out=np.full(mean.shape, np.nan), where=total > 0)
