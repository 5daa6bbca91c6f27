"""Statements that the chapter makes in passing, measured: masking, told shares, nu, work, errors, seasons, overlap.

Every function returns a table that `claims` turns into answers. A `panel` [S, N] is one of `case`, `train` is bool [S];
everything random is drawn from seeds.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

from anomaly_routing.baselines.classical.learners import enough, stock_rows, training_sample
from anomaly_routing.chapter.planted import KINDS, POINT, equal_cut, found, plant
from anomaly_routing.chapter.study import run_detectors
from anomaly_routing.chapter.volume_case import CONTAMINATION, K
from anomaly_routing.panel import Panel

MASKING = (0.01, 0.02, 0.05, 0.1, 0.15)  # shares of a stock's days that are spikes
CONTAMINATIONS = (0.01, 0.02, 0.05, 0.1)
NUS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SOLVED_TO = 1e-3  # the library's stopping rule: how exactly a row on the boundary is on it
BUDGETS = (0.01, 0.02, 0.05, 0.1)  # equal shares of quiet stock-days that two rules may flag
HALVINGS = 4
TURNS = 200


def masking(panel: Panel, train: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Spikes of 8 SDs, up or down, on a share of each stock's days, and who still finds them at its own cut.

    Columns planted (share), stock, method, recall, flagged (share of the other days); both rules see all days, as the
    chapter has it (58.2.2). The more spikes there are, the more they stretch the SD that they are measured in.
    """
    rng, rows = np.random.default_rng(seed), []
    sd = np.nanstd(np.where(panel.active, panel.returns, np.nan), axis=0)
    for share in MASKING:
        spiked = panel.active & (rng.random(panel.active.shape) < share)
        sizes = POINT * sd * rng.choice([-1, 1], panel.active.shape)
        scored = run_detectors(
            replace(panel, returns=np.where(spiked, sizes, panel.returns)), train, ["zscore", "modified_zscore"], seed
        )
        for method in ("zscore", "modified_zscore"):
            flags = scored[method, "chapter"].flags
            for i in np.flatnonzero(spiked.any(axis=0)):
                recall, other = flags[spiked[:, i], i].mean(), flags[panel.active[:, i] & ~spiked[:, i], i].mean()
                rows.append((share, panel.tickers[i], method, recall, other))
    return pd.DataFrame(rows, columns=["planted", "stock", "method", "recall", "flagged"])


def contamination_shares(panel: Panel, train: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Flags of an Isolation Forest among the days that it was fitted on: told, stock, flagged and days (counts)."""
    rows = []
    for told in CONTAMINATIONS:
        scored = run_detectors(panel, train, ["isolation_forest"], seed, contamination=told)
        own = scored["isolation_forest", "chapter"]
        days, flags = np.isfinite(own.score).sum(axis=0), own.flags.sum(axis=0)
        rows += [(told, panel.tickers[i], int(flags[i]), int(days[i])) for i in np.flatnonzero(days)]
    return pd.DataFrame(rows, columns=["told", "stock", "flagged", "days"])


def percentile_shares(panel: Panel, train: np.ndarray, seed: int = 0, epochs: int = 10) -> pd.DataFrame:
    """What the dense autoencoder's 95th percentile flags of the rows that it was fitted on, and of those after
    training: mode, flagged, rows (counts), later (share; NaN where all rows were fitted on)."""
    everything = int(panel.active.sum())  # no row is left out of the fit
    scored = run_detectors(panel, train, ["dense_autoencoder"], seed, epochs=epochs, max_rows=everything)
    rows = []
    for (_, mode), own in scored.items():
        usable = np.isfinite(own.score)
        fitted = usable & (np.ones_like(train) if mode == "chapter" else train)[:, None]
        later = own.flags[usable & ~fitted].mean() if (usable & ~fitted).any() else np.nan
        rows.append((mode, int(own.flags[fitted].sum()), int(fitted.sum()), later))
    return pd.DataFrame(rows, columns=["mode", "flagged", "rows", "later"])


# --- One-Class SVM ----------------------------------------------------------------------------------------------------
def svm(rows: np.ndarray, nu: float) -> OneClassSVM:
    """The chapter's, fitted on rows [n, 3]: RBF with gamma = 1/3."""
    return OneClassSVM(kernel="rbf", nu=nu, gamma="auto", tol=SOLVED_TO).fit(rows)


def nu_shares(panel: Panel, train: np.ndarray, max_rows: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Shares of its fitting rows that a One-Class SVM calls outside: inputs (unscaled, scaled), nu, outside, beyond.

    unscaled : the first stock's inputs as printed (volume in shares, D03). scaled : the training rows of all stocks on
    robust scales. At most `max_rows` of either. outside : below the boundary. beyond : by more than the solver's
    tolerance; rows within it lie on the boundary, where the sign is chance (Schölkopf et al. 2001 bound the others).
    """
    scaled = training_sample(panel, train, max_rows, seed)[1]
    unscaled = next(rows for _, rows in stock_rows(panel) if enough(rows))[:max_rows]
    found = []
    for inputs, rows in (("unscaled", unscaled), ("scaled", scaled)):
        for nu in NUS:
            distance = svm(rows, nu).decision_function(rows)
            found.append((inputs, nu, float((distance < 0).mean()), float((distance < -SOLVED_TO).mean())))
    return pd.DataFrame(found, columns=["inputs", "nu", "outside", "beyond"])


def svm_work(panel: Panel, train: np.ndarray, draws: int, max_rows: int = 2000, nu: float = 0.01) -> pd.DataFrame:
    """Work of fitting a One-Class SVM to n rows, in evaluations of the kernel: draw, rows, work.

    work = n (nu n + iterations): the solver starts from the kernel rows of nu n points and every iteration needs that
    of the points it moves. Unlike seconds, the count is the same on every machine. The samples of a draw are nested:
    all rows, half of them, down to a sixteenth.
    """
    rows = training_sample(panel, train, max_rows, 0)[1]
    found = []
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(rows))
        for n in (len(rows) >> k for k in range(HALVINGS, -1, -1)):
            found.append((draw, n, n * (nu * n + int(svm(rows[order[:n]], nu).n_iter_))))
    return pd.DataFrame(found, columns=["draw", "rows", "work"])


def growth(work: pd.DataFrame) -> pd.Series:
    """Exponent b of work ~ rows^b by draw: least squares in logarithms."""
    return work.groupby("draw")[["rows", "work"]].apply(lambda own: np.polyfit(*np.log(own.to_numpy(float)).T, 1)[0])


# --- plants -----------------------------------------------------------------------------------------------------------
def errors_by_kind(
    panel: Panel, train: np.ndarray, each: int, draws: int, epochs: int = 10, max_rows: int = 2000
) -> pd.DataFrame:
    """AUROC of the dense autoencoder's reconstruction error, planted days of one kind against untouched late days:
    draw (of plants and weights), mode, kind, auroc."""
    rows = []
    for draw in range(draws):
        planted = plant(panel, ~train, each, draw)
        scored = run_detectors(planted.panel, train, ["dense_autoencoder"], draw, epochs=epochs, max_rows=max_rows)
        for (_, mode), own in scored.items():
            judged = panel.active & ~train[:, None] & np.isfinite(own.score)
            for code, kind in enumerate(KINDS, start=1):
                chosen = judged & np.isin(planted.kind, (0, code))
                if (planted.kind[chosen] > 0).any():
                    auroc = roc_auc_score(planted.kind[chosen] > 0, own.score[chosen])
                    rows.append((draw, mode, kind, float(auroc)))
    return pd.DataFrame(rows, columns=["draw", "mode", "kind", "auroc"])


def context_recall(panel: Panel, train: np.ndarray, each: int, draws: int) -> pd.DataFrame:
    """Share of the contextual plants that the STL residual and the plain fences find: draw, mode, cut (their own, or
    the share of the quiet days that either may flag), iqr, stl_residual."""
    rows = []
    for draw in range(draws):
        planted = plant(panel, ~train, each, draw)
        scored = run_detectors(planted.panel, train, ["iqr", "stl_residual"], draw)
        for mode in ("chapter", "causal"):
            both = {name: scored[name, mode] for name in ("iqr", "stl_residual")}
            cuts = {"own": {name: own.cut for name, own in both.items()}}
            for share in BUDGETS:
                cuts[f"{share:.0%}"] = {n: equal_cut(planted, own.score, ~train, share) for n, own in both.items()}
            for cut, at in cuts.items():
                recall = {n: found(planted, own.score, at[n], ~train)["contextual"] for n, own in both.items()}
                rows.append({"draw": draw, "mode": mode, "cut": cut} | recall)
    return pd.DataFrame(rows)


# --- the volume case on many shares -----------------------------------------------------------------------------------
def shared_flags(panel: Panel, train: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """In-sample flags of the volume case's two rules on every stock: stock, IQR, forest, both, chance, days, moved.

    chance : the `both` of independent rules, IQR x forest / days. moved : share of 200 shifts of the fences' flags in
    time (around the end, at least 20 days) in which the sum of `both` over all stocks is no smaller; the same in every
    row.
    """
    fences = run_detectors(panel, train, ["iqr"], seed, series="log_volume")["iqr", "chapter"].score > K
    forest = run_detectors(panel, train, ["isolation_forest"], seed, contamination=CONTAMINATION)
    trees = forest["isolation_forest", "chapter"].flags
    days, together = panel.active.sum(axis=0), int((fences & trees).sum())
    shifts = np.random.default_rng(seed).integers(20, len(fences) - 20, TURNS)
    as_many = [int((np.roll(fences, int(k), axis=0) & trees).sum()) >= together for k in shifts]
    counts = {"IQR": fences.sum(axis=0), "forest": trees.sum(axis=0), "both": (fences & trees).sum(axis=0)}
    table = pd.DataFrame({"stock": panel.tickers} | counts | {"days": days})
    table["chance"] = table["IQR"] * table["forest"] / table["days"].clip(lower=1)
    return table.assign(moved=(1 + sum(as_many)) / (1 + TURNS))


# --- the notebook itself ----------------------------------------------------------------------------------------------
def numbered_sections(notebook: Path) -> dict[str, int]:
    """Title of each section `## 1. ...` of a notebook -> number of code cells in it."""
    cells: dict[str, int] = {}
    title = ""
    for cell in nbformat.read(notebook, as_version=4).cells:
        for level in re.findall(r"^## (.*)$", cell.source, flags=re.M) if cell.cell_type == "markdown" else []:
            title = level if re.match(r"\d+\. ", level) else ""
            if title:
                cells[title] = 0
        if cell.cell_type == "code" and title:
            cells[title] += 1
    return cells
