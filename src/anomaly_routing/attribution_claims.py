"""Two sentences about attributions: how much SHAP's move from day to day, and what an unknown mechanism does to c4."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.attribution import REACH, Garden, look
from anomaly_routing.baselines.registry import create
from anomaly_routing.claims import load_claims
from anomaly_routing.ledger.answers import answer, answer_table
from anomaly_routing.model.network import Network
from anomaly_routing.model.pressure_index import COMPONENTS, components
from anomaly_routing.model.scoring import scores
from anomaly_routing.panel import Panel
from anomaly_routing.paths import repository
from anomaly_routing.planting import Planted
from anomaly_routing.prose import sentence
from anomaly_routing.runs import read_meta
from anomaly_routing.tensors import Tensors

EXPLAINED = "pca_error"  # a detector that looks at all features of one stock-day and at nothing else
SAME = 1e-6  # values of c4 closer than this are one
DAYS, STOCKS = 20, 8  # adjacent test sessions, and stocks that trade on all of them


def claim_answers(
    net: Network, run: Path, chapter: Garden, shap: ShapDays, adjectives: list[dict[str, Any]]
) -> pd.DataFrame:
    """Table for the ledger: SHAP's variance, the consensus term under the chapter's types, the page's adjectives.

    run : of the network, in the run store. shap : `shap_days` of the same network.
    adjectives : `metric_claims.metric_answers`.
    """
    claimed = load_claims(repository() / "paper" / "claims.yaml")["S1.shap_variance"].value
    info, medium = read_meta(run)["info"], chapter.part(chapter.strength == "medium")
    lines = [shap_answer(shap, claimed), consensus_answer(net, medium, info)]
    return answer_table([line for line in lines if line] + adjectives)


# --- SHAP from day to day ---------------------------------------------------------------------------------------------
def explained_days(tensors: Tensors, days: int = DAYS, stocks: int = STOCKS) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the first test sessions, and of stocks that trade on all of them, spread over the list."""
    rows = np.flatnonzero(tensors.test)[:days]
    known = np.flatnonzero(tensors.active[rows].all(0))
    return rows, known[np.linspace(0, len(known) - 1, min(stocks, len(known))).astype(int)]


def shap_by_day(tensors: Tensors, rows: np.ndarray, stocks: np.ndarray) -> np.ndarray:
    """Shares [days, stocks, categories] of the categories in the SHAP values of a baseline's score.

    Absent features are at their training median (0); permutation sampling of the library `shap`.
    """
    with warnings.catch_warnings():  # shap asks for progress bars of a notebook, which need not be installed
        warnings.simplefilter("ignore")
        import shap

    detector = create(EXPLAINED).fit(tensors.panel(), tensors.train)

    def score(x: np.ndarray) -> np.ndarray:
        return detector.decision_function(_rows_as_panel(tensors, x))[:, 0].astype(float)

    group, n = np.array(tensors.categories), len(tensors.features)
    x = tensors.x[np.ix_(rows, stocks)].reshape(-1, n)
    explainer = shap.PermutationExplainer(score, shap.maskers.Independent(np.zeros((1, n))), seed=0)
    size = np.abs(explainer(x, max_evals=2 * n + 1, silent=True).values)
    sums = np.stack([size[:, group == k].sum(1) for k in range(group.max() + 1)], 1)
    return (sums / sums.sum(1, keepdims=True)).reshape(len(rows), len(stocks), -1)


def _rows_as_panel(tensors: Tensors, x: np.ndarray) -> Panel:
    """Rows [n, F] as n sessions of one stock."""
    flat = np.zeros((len(x), 1))
    days = pd.bdate_range("2000-01-03", periods=len(x))
    features, none = list(tensors.features), np.zeros(1, bool)
    return Panel(days, ["A"], features, x[:, None].astype(np.float32), flat == 0, flat, flat, np.array(["one"]), none)


def day_variance(shares: np.ndarray) -> float:
    """Variance over the days of each share [days, stocks, categories], mean over stocks and categories."""
    return float(shares.var(axis=0, ddof=1).mean())


def largest_variance(days: int, categories: int) -> float:
    """The most that `day_variance` can be: shares are 0 or more and add up to 1, so that their variances over n days
    add up to n / (n - 1) times what an even alternation between the categories has, 1 - 1 / categories."""
    return days / (days - 1) * (1 - 1 / categories) / categories


@dataclass(frozen=True)
class ShapDays:
    """Variance from session to session of SHAP's shares and of the routing weights on the same stock-days, and the most
    that any shares can have."""

    shares: float
    weights: float
    most: float
    sessions: int
    stocks: int

    def sentence(self) -> str:
        return sentence(
            "Variance of attributions over {d} adjacent sessions, mean over {n} stocks: SHAP's shares of {who} "
            "{shares:.4f}, the routing weights {weights:.4f}. Shares that are not negative and add up to one can have "
            "at most {most:.4f} (an even alternation between the categories).",
            d=self.sessions, n=self.stocks, who=f"`{EXPLAINED}`", shares=self.shares, weights=self.weights,
            most=self.most,
        )  # fmt: skip


def shap_days(tensors: Tensors, net: Network) -> ShapDays:
    """SHAP's shares of a baseline's score, and the network's weights, on some stocks and adjacent test sessions."""
    rows, stocks = explained_days(tensors)
    ours = day_variance(shap_by_day(tensors, rows, stocks))
    window = slice(rows[0] - REACH, rows[-1] + 1)
    seen = look(net, tensors, tensors.x[window], tensors.active[rows], tensors.stress[rows])
    weights = day_variance(seen["routing"][:, stocks])
    most = largest_variance(len(rows), max(tensors.categories) + 1)
    return ShapDays(ours, weights, most, len(rows), len(stocks))


def shap_answer(found: ShapDays, claimed: float) -> dict[str, Any] | None:
    """Is the variance of SHAP's shares above the claimed one? None where no shares at all could reach that."""
    if claimed > found.most:
        return None
    note = (
        f"variance over {found.sessions} adjacent sessions {found.shares:.4f} on {found.stocks} stocks, shares for "
        f"{EXPLAINED}; of the routing weights {found.weights:.4f}"
    )
    return answer("S1.shap_variance", found.shares > claimed, note=note)


# --- an unknown mechanism and the consensus term ----------------------------------------------------------------------
def consensus(net: Network, tensors: Tensors, stretch: Planted, info: dict[str, Any]) -> np.ndarray:
    """c4 of the graded sessions of a stretch; NaN where fewer than two stocks are above their cut.

    info : of the run, with mu, sigma and theta_s.
    """
    found = look(net, tensors, stretch.x, stretch.active, stretch.stress)
    score = scores(found["error"].astype(float), stretch.active, info["mu_tail"], info["sigma_tail"])
    psi = np.zeros(len(score))  # another component; c4 does not read it
    parts = components(score, stretch.active, found["routing"], psi, info["theta_s_tail"], net.config)
    enough = (np.nan_to_num(score, nan=-np.inf) > info["theta_s_tail"]).sum(1) > 1
    return np.where(enough, parts[:, COMPONENTS.index("consensus")], np.nan)


def consensus_answer(net: Network, garden: Garden, info: dict[str, Any]) -> dict[str, Any] | None:
    """By how much c4 falls when something without a mechanism of the paper's is planted, mean over the plants.

    None where c4 is the same number throughout, as of a gate that gives everything to one expert: nothing can move it.
    """
    tensors, falls, seen = garden.ground.tensors, [], []
    for p in garden.planted:
        rows = slice(p.plant.onset - REACH, p.plant.last + 1)
        graded = slice(p.plant.onset, p.plant.last + 1)
        quoted = slice(rows.start - 1, rows.stop)
        quotes = tensors.returns[quoted], tensors.log_volume[quoted]
        plain = Planted(None, tensors.x[rows], tensors.active[graded], tensors.stress[graded], *quotes)
        before, after = consensus(net, tensors, plain, info), consensus(net, tensors, p, info)
        seen += [before, after]
        drop = before - after
        if np.isfinite(drop).any():
            falls.append(np.nanmean(drop))
    every = np.concatenate(seen)
    if falls and np.nanmax(every) - np.nanmin(every) < SAME:
        return None
    fall = round(float(np.mean(falls)), 6) if falls else 0.0
    spread = np.std(falls) if falls else 0.0
    note = (
        f"fall of c4 in the {len(falls)} of {len(garden.planted)} plants of no known mechanism with two stocks above "
        f"their cut with and without the plant; SD over plants {spread:.2g}"
    )
    how = {"n_seeds": 1, "tier": info["tier"], "device": info["device"]}
    return answer("S5.ood", fall, "direction", note=note, **how)
