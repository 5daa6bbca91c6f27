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

STL, STL_WINDOW = "stl_residual", 250  # as the detector has it
FLAGGED = 0.02  # of the judged points: the highest scores
MEANS = ["AUROC", "precision", "recall", "f1", "windows found", "prevalence"]


def stocks_as_series(planted: Planted, train: np.ndarray) -> list[Labelled]:
    """The planted stocks, each a series of returns with its labels, where the public ones are not at hand."""
    returns = np.nan_to_num(planted.panel.returns)
    return [Labelled(t, returns[:, i], planted.kind[:, i] > 0, train) for i, t in enumerate(planted.panel.tickers)]


def judged_series(series: list[Labelled], methods: Iterable[str], seed: int, **params: int) -> pd.DataFrame:
    """A row a series, method and mode, over the points after training: AUROC, and precision, recall, f1, prevalence
    and windows found at the 2% highest scores. No row where no judged point is anomalous. params : of the
    detectors, such as max_rows and epochs."""
    rows, methods = [], list(methods)
    for one in series:
        results = _scores(one, methods, seed, params)
        lines = [{"series": one.name, "method": m, "mode": mode} | _judged(one, s) for (m, mode), s in results.items()]
        rows += [line for line in lines if "AUROC" in line]
    return pd.DataFrame(rows)


def _scores(series: Labelled, methods: list[str], seed: int, params: dict[str, int]) -> dict[tuple[str, str], Scored]:
    """`run_detectors` on one series. The causal STL residual is judged by training residuals, of which there are none
    before its window is full: here the window is at most half of the training part."""
    panel, window = as_panel(series), min(STL_WINDOW, int(series.train.sum()) // 2)
    others = run_detectors(panel, series.train, [m for m in methods if m != STL], seed, **params)
    return others | run_detectors(panel, series.train, [m for m in methods if m == STL], seed, window=window)


def _judged(series: Labelled, scored: Scored) -> dict[str, float]:
    score = scored.score[:, 0]
    usable = ~series.train & np.isfinite(score)
    if not series.label[usable].any():
        return {}
    top = score > np.quantile(score[usable], 1 - FLAGGED)
    windows = [(first, last) for first, last in series.windows() if not series.train[first]]
    values = {"windows found": window_recall(windows, top), "AUROC": roc_auc_score(series.label[usable], score[usable])}
    return values | flags_against_labels(series.label[usable], top[usable])


def archive_hits(series: list[Labelled], methods: Iterable[str], seed: int, **params: int) -> pd.DataFrame:
    """A row a series, method and mode: whether the highest score after training lies within 100 points of the anomaly
    (column hit). params : of the detectors."""
    rows, methods = [], list(methods)
    for one in series:
        (first, last), judged = one.windows()[0], np.flatnonzero(~one.train)
        for (method, mode), s in _scores(one, methods, seed, params).items():
            peak = judged[int(np.argmax(np.nan_to_num(s.score[judged, 0], nan=-np.inf)))]
            hit = first - UCR_SLACK <= peak <= last + UCR_SLACK
            rows.append({"method": method, "mode": mode, "hit": hit})
    return pd.DataFrame(rows)


def mean_board(judged: pd.DataFrame, archive: pd.DataFrame) -> pd.DataFrame:
    """Means over the series by method and mode, best AUROC first; and, if the archive was run, `UCR hits` as "hits of
    series"."""
    means = judged.groupby(["method", "mode"])[MEANS].mean()
    board = means.sort_values("AUROC", ascending=False).reset_index()
    if archive.empty:
        return board
    hits = archive.groupby(["method", "mode"])["hit"].agg(["sum", "size"])
    said = (hits["sum"].astype(str) + " of " + hits["size"].astype(str)).rename("UCR hits").reset_index()
    return board.merge(said, how="left")
