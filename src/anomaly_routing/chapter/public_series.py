"""Small labelled series that others have published: the Numenta benchmark (NAB) and four of the UCR archive."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from anomaly_routing.baselines.inputs import robust_scale
from anomaly_routing.errors import MarketDataError
from anomaly_routing.panel import Panel, plain_panel

NAB, UCR = Path("nab") / "nab_series.parquet", Path("ucr") / "ucr_internalbleeding.parquet"
NAB_TRAIN = 0.15  # NAB's probationary share, not judged
UCR_SLACK = 100  # points, the archive's own tolerance


class Labelled(NamedTuple):
    """A series: value [n], label bool [n] (inside an anomaly window), train bool [n]."""

    name: str
    value: np.ndarray
    label: np.ndarray
    train: np.ndarray

    def windows(self) -> list[tuple[int, int]]:
        """First and last position of each labelled window."""
        edges = np.flatnonzero(np.diff(np.r_[0, self.label.astype(int), 0]))
        return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def has_series(folder: str | Path) -> bool:
    """Whether the folder holds both files; an empty name means no."""
    return bool(str(folder)) and all((Path(folder) / file).exists() for file in (NAB, UCR))


def load_nab(folder: str | Path, max_rows: int) -> list[Labelled]:
    """The NAB series, each thinned to at most `max_rows` by the mean of neighbours; a window stays where it was."""
    table = _read(Path(folder) / NAB, ("series", "timestamp", "value", "in_window"))
    out = []
    for name, rows in table.groupby("series", sort=True):
        rows = rows.sort_values("timestamp", kind="stable")
        block = np.arange(len(rows)) // int(np.ceil(len(rows) / max_rows))
        thin = rows.groupby(block).agg({"value": "mean", "in_window": "any"})
        short = str(name).split("/")[-1]
        train = np.arange(len(thin)) < NAB_TRAIN * len(thin)
        out.append(Labelled(short, thin["value"].to_numpy(float), thin["in_window"].to_numpy(bool), train))
    return out


def load_ucr(folder: str | Path) -> list[Labelled]:
    """The UCR series as they are: one anomaly each, after a training part without any."""
    table = _read(Path(folder) / UCR, ("series", "index", "value", "is_train", "anomaly"))
    groups = ((str(name), rows.sort_values("index")) for name, rows in table.groupby("series", sort=True))
    return [Labelled(n, *(r[c].to_numpy(t) for c, t in (("value", float), ("anomaly", bool), ("is_train", bool))))
            for n, r in groups]  # fmt: skip


def as_panel(series: Labelled) -> Panel:
    """The series as a panel of one stock: its value stands in for the return, ln of its last change for the volume.

    So the detectors of one series see the value, and those of three inputs the value, its change and its SD over 20
    points. The value is put on a robust scale of the training part, which moves no detector but those that mix inputs.
    """
    scale = robust_scale(series.value[series.train]) or 1.0
    value = (series.value - np.median(series.value[series.train])) / scale
    change = np.abs(np.diff(value, prepend=value[0]))
    days = pd.date_range("2000-01-01", periods=len(value), freq="D")
    return plain_panel(value[:, None], np.log(change + 1e-3)[:, None], days, [series.name])


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    table = pd.read_parquet(path)
    if missing := [c for c in columns if c not in table.columns]:
        raise MarketDataError(
            path, "-", f"the column {', '.join(missing)} is missing", "bring the file as it was published"
        )
    return table
