"""The chapter's detectors on labelled series: points against anomaly windows, and the archive's single anomalies."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from anomaly_routing.chapter.planted import Planted
from anomaly_routing.chapter.public_series import UCR_SLACK, Labelled, as_panel
from anomaly_routing.chapter.study import Scored, run_detectors
from anomaly_routing.evaluation.classification import flags_against_labels, window_recall

FLAGGED = 0.02  # of the judged points: the highest scores
SLOW = ("sequence_autoencoder", "vae", "dense_autoencoder", "seasonal_esd", "stl_residual")  # for a hundred series
MEANS = ["AUROC", "precision", "recall", "f1", "windows found", "prevalence"]


def stocks_as_series(planted: Planted, train: np.ndarray) -> list[Labelled]:
    """The planted stocks, each a series of returns with its labels, where the public ones are not at hand."""
    returns = np.nan_to_num(planted.panel.returns)
    return [Labelled(t, returns[:, i], planted.kind[:, i] > 0, train) for i, t in enumerate(planted.panel.tickers)]


def judged_series(series: list[Labelled], methods: Iterable[str], seed: int, max_rows: int) -> pd.DataFrame:
    """A row a series, method and mode, over the points after training: AUROC, and precision, recall, f1, prevalence
    and windows found at the 2% highest scores. No row where no judged point is anomalous."""
    rows, methods = [], list(methods)
    for one in series:
        results = run_detectors(as_panel(one), one.train, methods, seed, max_rows=max_rows)
        lines = [{"series": one.name, "method": m, "mode": mode} | _judged(one, s) for (m, mode), s in results.items()]
        rows += [line for line in lines if "AUROC" in line]
    return pd.DataFrame(rows)


def _judged(series: Labelled, scored: Scored) -> dict[str, float]:
    score = scored.score[:, 0]
    usable = ~series.train & np.isfinite(score)
    if not series.label[usable].any():
        return {}
    top = score > np.quantile(score[usable], 1 - FLAGGED)
    windows = [(first, last) for first, last in series.windows() if not series.train[first]]
    values = {"windows found": window_recall(windows, top), "AUROC": roc_auc_score(series.label[usable], score[usable])}
    return values | flags_against_labels(series.label[usable], top[usable])


def archive_hits(series: list[Labelled], methods: Iterable[str], seed: int, max_rows: int) -> pd.DataFrame:
    """A row a series, method and mode: whether the highest score after training lies within 100 points of the anomaly
    (column `UCR series hit`)."""
    rows, methods = [], list(methods)
    for one in series:
        (first, last), judged = one.windows()[0], np.flatnonzero(~one.train)
        for (method, mode), s in run_detectors(as_panel(one), one.train, methods, seed, max_rows=max_rows).items():
            peak = judged[int(np.argmax(np.nan_to_num(s.score[judged, 0], nan=-np.inf)))]
            hit = first - UCR_SLACK <= peak <= last + UCR_SLACK
            rows.append({"method": method, "mode": mode, "UCR series hit": hit})
    return pd.DataFrame(rows)


def mean_board(judged: pd.DataFrame, archive: pd.DataFrame) -> pd.DataFrame:
    """Means over the series by method and mode, best AUROC first; and hits in the archive, if it was run."""
    means = judged.groupby(["method", "mode"])[MEANS].mean()
    board = means.sort_values("AUROC", ascending=False).reset_index()
    if archive.empty:
        return board
    return board.merge(archive.groupby(["method", "mode"], as_index=False).sum(), how="left")
