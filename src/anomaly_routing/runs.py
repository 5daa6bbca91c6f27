"""The run store: the only memory of training (DESIGN 4).

A run is one fitted detector's scores. It is found by what it was computed from (market, method, variant, seed, full
configuration, data, and the method's `numerics` integer), so a run is never trained twice and never mistaken for
another. One file a run, written whole or not at all, small enough for git.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.files import plain, read_json, replacing, write_arrays, write_json

INDEX = "index.json"
MAX_BYTES = 600_000
FLOAT16_TOP = 60_000.0
EXTRA = "extra_"


@dataclass(frozen=True)
class RunKey:
    """What a run was computed from. `config` holds everything that changes its numbers (size, stop rule, epochs ...).

    `numerics` is the method's integer, raised by hand when its arithmetic changes: an edit of comments orphans nothing.
    """

    market: str
    method: str
    variant: str
    seed: int
    config: dict[str, Any]
    data_hash: str
    numerics: int

    @property
    def digest(self) -> str:
        """Twelve hex digits of all of it."""
        content = json.dumps(plain(self.__dict__), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def filename(self) -> str:
        return f"{self.method}--{self.variant}--seed{self.seed}--{self.digest}.npz"


@dataclass(frozen=True)
class Run:
    """Scores of one run.

    score : float [session, ticker], NaN where inactive, higher is more anomalous; rows of `score_sessions`.
    daily : daily series (columns such as "mean"), index = sessions; kept as float32. The evaluator reads these.
    info : tier, device, seconds, training log: whatever a reader may ask, JSON types.
    extras : further arrays by name, such as routing weights on a few sessions; kept as they are.
    """

    score: np.ndarray
    score_sessions: pd.DatetimeIndex
    tickers: list[str]
    daily: pd.DataFrame
    info: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, np.ndarray] = field(default_factory=dict)


class RunStore:
    """A folder of runs."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, key: RunKey) -> Path:
        return self.folder / key.filename

    def __contains__(self, key: RunKey) -> bool:
        return self.path(key).exists()

    def save(self, key: RunKey, run: Run) -> Path:
        """Write the run; raises ValueError when it is larger than a committed run may be."""
        top = np.nanmax(np.abs(run.score)) if np.isfinite(run.score).any() else 0.0
        scale = max(1.0, float(top) / FLOAT16_TOP)
        arrays = {
            "score": (run.score / scale).astype(np.float16),
            "scale": np.array(scale),
            "score_sessions": run.score_sessions.to_numpy("datetime64[D]"),
            "tickers": np.array(run.tickers, dtype=str),
            "daily": run.daily.to_numpy(np.float32),
            "daily_columns": np.array(list(run.daily.columns), dtype=str),
            "daily_sessions": run.daily.index.to_numpy("datetime64[D]"),
            "meta": np.array(json.dumps(plain({"key": key.__dict__, "info": run.info}), sort_keys=True)),
        } | {f"{EXTRA}{name}": values for name, values in run.extras.items()}
        with replacing(self.path(key)) as partial:
            write_arrays(partial, arrays)
            size = partial.stat().st_size
            if size > MAX_BYTES:
                raise ValueError(
                    f"run {key.filename} takes {size:,} bytes, more than {MAX_BYTES:,}: keep fewer sessions"
                )
        return self.path(key)

    def load(self, key: RunKey) -> Run:
        return read_run(self.path(key))

    def get(self, key: RunKey, compute: Callable[[], Run]) -> Run:
        """The stored run, or the one that `compute` makes, stored."""
        if key not in self:
            self.save(key, compute())
        return self.load(key)

    def mark_current(self, keys: list[RunKey]) -> None:
        """Write `index.json`: the runs that belong to the present configuration; others are kept but not judged."""
        write_json(self.folder / INDEX, {"current": sorted(key.filename for key in keys)})

    def current(self) -> list[Path]:
        """The files of the last `mark_current`, in order; empty before the first."""
        index = self.folder / INDEX
        return [self.folder / name for name in read_json(index)["current"]] if index.exists() else []

    def prune(self) -> list[Path]:
        """Delete the runs that are not current; returns them."""
        old = sorted(set(self.folder.glob("*.npz")) - set(self.current()))
        for path in old:
            path.unlink()
        return old

    def table(self) -> pd.DataFrame:
        """One row a stored run: its key, tier, device, seconds, bytes and file."""
        rows = []
        for path in sorted(self.folder.rglob("[!.]*.npz")):  # a dot: half written
            meta = read_meta(path)
            key, info = meta["key"], meta["info"]
            rows.append(
                {k: key[k] for k in ("market", "method", "variant", "seed", "data_hash", "numerics")}
                | {k: info.get(k) for k in ("family", "tier", "device", "seconds", "lookahead")}
                | {"bytes": path.stat().st_size, "file": str(path.relative_to(self.folder))}
            )
        return pd.DataFrame(rows)


def read_meta(path: str | Path) -> dict[str, Any]:
    """`{"key": ..., "info": ...}` of a stored run."""
    with np.load(path) as z:
        return json.loads(str(z["meta"]))


def read_run(path: str | Path) -> Run:
    """A stored run by its file."""
    with np.load(path) as z:
        return Run(
            score=z["score"].astype(np.float32) * np.float32(z["scale"]),
            score_sessions=pd.DatetimeIndex(z["score_sessions"]),
            tickers=[str(t) for t in z["tickers"]],
            daily=pd.DataFrame(
                z["daily"], index=pd.DatetimeIndex(z["daily_sessions"]), columns=[str(c) for c in z["daily_columns"]]
            ),
            info=json.loads(str(z["meta"]))["info"],
            extras={name.removeprefix(EXTRA): z[name] for name in z.files if name.startswith(EXTRA)},
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Delete stored runs of configurations that are no longer current.")
    parser.add_argument("reports", type=Path, help="folder that holds run stores, such as reports")
    for index in sorted(parser.parse_args(argv).reports.rglob(INDEX)):
        print(f"{index.parent}: {len(RunStore(index.parent).prune())} old runs deleted")


if __name__ == "__main__":
    main()
