"""Flags against labels: precision, recall, F1 and the prevalence line (the chapter, 58.6; AUDIT D08, D12)."""

from __future__ import annotations

import numpy as np
import pandas as pd


def flags_against_labels(labels: np.ndarray, flags: np.ndarray) -> dict[str, float]:
    """precision, recall, f1, flagged (share), prevalence, and precision_bound, the most that this share allows.

    labels, flags : bool of one shape. Precision is NaN without a flag and recall NaN without a label. The prevalence is
    also the precision of flags thrown at random, whatever their share. Raises ValueError when the shapes differ.
    """
    labels, flags = np.asarray(labels, bool), np.asarray(flags, bool)
    if labels.shape != flags.shape:
        raise ValueError(f"labels {labels.shape} and flags {flags.shape} differ: join them on their dates first")
    hits, flagged, anomalous = int((labels & flags).sum()), int(flags.sum()), int(labels.sum())
    precision = hits / flagged if flagged else np.nan
    recall = hits / anomalous if anomalous else np.nan
    share, prevalence = flags.mean(), labels.mean()
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * hits / (flagged + anomalous) if flagged + anomalous else np.nan,
        "flagged": float(share),
        "prevalence": float(prevalence),
        "precision_bound": min(1.0, prevalence / share) if share else np.nan,
    }


def joined(labels: pd.Series, flags: pd.Series) -> pd.DataFrame:
    """Columns label and flag on the dates that both have, in order.

    Raises ValueError when a date stands twice in one of them: which of the two would be judged?
    """
    for name, series in {"labels": labels, "flags": flags}.items():
        if series.index.has_duplicates:
            raise ValueError(f"{name}: {series.index[series.index.duplicated()][0]} stands twice; keep one row a date")
    return pd.DataFrame({"label": labels, "flag": flags}).dropna().astype(bool).sort_index()


def window_recall(windows: list[tuple[int, int]], flags: np.ndarray) -> float:
    """Share of the windows (first and last position) with at least one flag; NaN without a window."""
    return float(np.mean([flags[a : b + 1].any() for a, b in windows])) if windows else np.nan
