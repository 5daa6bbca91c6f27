"""A market as one file that the model trains from, without the rest of the environment: numpy and pandas are enough.

Notebook 02 writes `data/interim/<market>/tensors.npz`. A GPU machine that has this file and torch can do the work.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_routing.files import replacing
from anomaly_routing.panel import Panel, Splits

LARGEST = 1e6  # of a scaled feature: the network multiplies the rows of inactive stocks by zero, not by infinity
AGAIN = "run the features stage again"


@dataclass(frozen=True)
class Tensors:
    """S sessions, N tickers, F features. A sample ends in a session t and reads the rows t-19..t of `x`.

    x : float32 [S, N, F], scaled features, 0 where undefined or inactive.
    active : bool [S, N].
    group : category of each feature.
    prior : float32 [N, N] of 0 and 1, zero diagonal (A_prior, SPEC 3).
    returns, log_volume : float32 [S, N], log return of adj_close and ln(volume), NaN where the stock did not trade.
    stress : float64 [S, 4], raw indicators I1..I4 (SPEC 5.1); NaN where undefined.
    data_hash, features_numerics : what `x` was computed from, and the version of the arithmetic; parts of a run's key.

    Raises ValueError naming the field and the remedy: a wrong shape, sessions out of order or doubled, a value of x
    that is not finite or beyond 1e6, a prior of anything but 0 and 1, a split without a sample, a sample without an
    active stock.
    """

    market: str
    sessions: pd.DatetimeIndex
    tickers: list[str]
    features: list[str]
    group: list[str]
    x: np.ndarray
    active: np.ndarray
    returns: np.ndarray
    log_volume: np.ndarray
    prior: np.ndarray
    stress: np.ndarray
    is_bank: np.ndarray
    splits: Splits
    data_hash: str
    features_numerics: int

    def __post_init__(self) -> None:
        self._check_shapes()
        if not (self.sessions.is_monotonic_increasing and self.sessions.is_unique):
            raise ValueError(f"sessions are not in order, each once: sort the prices, drop doubled dates, {AGAIN}")
        if not (usable := np.abs(self.x) <= LARGEST).all():  # NaN is not
            t, i, f = np.argwhere(~usable)[0]
            where = f"{self.features[f]} of {self.tickers[i]} on {self.sessions[t]:%Y-%m-%d}"
            raise ValueError(f"x is {self.x[t, i, f]}, first in {where}: scale the features (Scaler.transform)")
        if (odd := ~np.isin(self.prior, (0, 1))).any():
            i, j = np.argwhere(odd)[0]
            pair = f"{self.tickers[i]} and {self.tickers[j]}"
            raise ValueError(f"prior is {self.prior[i, j]} between {pair}: an edge is 1, no edge 0")
        for part in ("train", "val", "test"):
            if not getattr(self, part).any():
                raise ValueError(f"splits leave no {part} sample: change market.splits in params.yaml, then {AGAIN}")
        if (empty := self.scored & ~self.active.any(1)).any():
            day = self.sessions[empty][0]
            raise ValueError(
                f"session {day:%Y-%m-%d} has no active stock: every sample needs one; "
                f"complete the prices or move market.splits in params.yaml, then {AGAIN}"
            )

    def _check_shapes(self) -> None:
        s, n, f = len(self.sessions), len(self.tickers), len(self.features)
        shapes = {"x": (s, n, f), "prior": (n, n), "stress": (s, 4), "is_bank": (n,), "group": (f,)}
        shapes |= {name: (s, n) for name in ("active", "returns", "log_volume")}
        for name, shape in shapes.items():
            if (got := np.shape(getattr(self, name))) != shape:
                raise ValueError(f"{name} has shape {got}, expected {shape}: {AGAIN}")

    @property
    def categories(self) -> list[int]:
        """Category 0, 1, ... of each feature, in the order in which the groups first appear."""
        order = list(dict.fromkeys(self.group))
        return [order.index(name) for name in self.group]

    @property
    def train(self) -> np.ndarray:
        """Bool [S], the training samples; likewise `val`, `test`, and `scored`, which is all three."""
        return self.splits.train(self.sessions)

    @property
    def val(self) -> np.ndarray:
        return self.splits.val(self.sessions)

    @property
    def test(self) -> np.ndarray:
        return self.splits.test(self.sessions)

    @property
    def scored(self) -> np.ndarray:
        return self.splits.scored(self.sessions)

    def normalised_stress(
        self, norm: str = "train", rule: str = "minmax", values: np.ndarray | None = None
    ) -> np.ndarray:
        """The indicators in [0, 1], float32 [S, 4]; 0 where undefined (SPEC 5.1, AUDIT A44).

        norm : the samples that fix the scale, frozen: `train`, or `full_sample`, which looks ahead.
        rule : `minmax`, (I - min) / (max - min) clipped; `rank`, the share of those samples with a value up to I.
        values : other raw indicators [D, 4] to put on the same scale; default the market's own.

        Raises ValueError for another norm or rule, or an indicator that those samples never define.
        """
        if norm not in ("train", "full_sample") or rule not in ("minmax", "rank"):
            raise ValueError(f"norm {norm!r}, rule {rule!r}: use train or full_sample, and minmax or rank")
        reference = self.stress[self.train if norm == "train" else self.scored]
        return normalised(self.stress if values is None else values, reference, rule)

    @classmethod
    def from_panel(cls, panel: Panel, splits: Splits, market: str, data_hash: str, features_numerics: int) -> Tensors:
        """What the model needs of a panel; ValueError also for a panel built without group, prior or stress."""
        for name in ("group", "prior", "stress"):
            value = getattr(panel, name)
            if value is None or not len(value):
                raise ValueError(f"Panel.{name} is empty: build the panel with features.panel.build_panel, prior given")
        return cls(
            market=market,
            sessions=panel.sessions,
            tickers=panel.tickers,
            features=panel.features,
            group=panel.group,
            x=panel.x.astype(np.float32, copy=False),
            active=panel.active,
            returns=panel.returns.astype(np.float32),
            log_volume=panel.log_volume.astype(np.float32),
            prior=panel.prior.astype(np.float32, copy=False),
            stress=panel.stress,
            is_bank=panel.is_bank,
            splits=splits,
            data_hash=data_hash,
            features_numerics=features_numerics,
        )

    def panel(self) -> Panel:
        """The market as a detector sees it; without sectors and benchmarks, which the file does not hold."""
        return Panel(
            sessions=self.sessions,
            tickers=self.tickers,
            features=self.features,
            x=self.x,
            active=self.active,
            returns=self.returns.astype(np.float64),
            log_volume=self.log_volume.astype(np.float64),
            sector=np.full(len(self.tickers), ""),
            is_bank=self.is_bank,
            group=self.group,
            prior=self.prior,
            stress=self.stress,
        )

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all; the same content gives the same bytes."""
        meta = {name: getattr(self, name) for name in ("market", "data_hash", "features_numerics")}
        with replacing(path) as partial:
            np.savez_compressed(
                partial,
                **{name: getattr(self, name) for name in ARRAYS},
                **{name: np.array(getattr(self, name), dtype=str) for name in NAMES},
                sessions=self.sessions.to_numpy("datetime64[D]"),
                meta=np.array(json.dumps(meta | {"splits": asdict(self.splits)}, sort_keys=True)),
            )
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Tensors:
        """Read what `save` wrote; ValueError, naming the file, for any other content. FileNotFoundError without it."""
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} is not there: run the features stage")
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is not a tensor file: {AGAIN}")
        with np.load(path) as stored:
            if wrong := sorted(set(stored.files) ^ {*ARRAYS, *NAMES, "sessions", "meta"}):
                raise ValueError(f"{path} is not a tensor file, see {', '.join(wrong)}: {AGAIN}")
            meta = json.loads(str(stored["meta"]))
            fields = {name: stored[name] for name in ARRAYS} | {name: stored[name].tolist() for name in NAMES}
            fields |= meta | {"sessions": pd.DatetimeIndex(stored["sessions"]), "splits": Splits(**meta["splits"])}
        try:
            return cls(**fields)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def normalised(stress: np.ndarray, reference: np.ndarray, rule: str = "minmax") -> np.ndarray:
    """Indicators stress [S, 4] in [0, 1] on the scale of the sessions `reference` [R, 4]; float32, 0 where undefined.

    rule : `minmax` or `rank`, as in `Tensors.normalised_stress`. Raises ValueError for an indicator that the reference
        never defines.
    """
    out = np.zeros(stress.shape, np.float32)
    for k, values in enumerate(stress.T):
        known, defined = np.sort(reference[np.isfinite(reference[:, k]), k]), np.isfinite(values)
        if not len(known):
            raise ValueError(f"stress indicator {k + 1} is undefined on every sample that fixes its scale: {AGAIN}")
        if rule == "rank":
            out[defined, k] = np.searchsorted(known, values[defined], side="right") / len(known)
        elif known[-1] > known[0]:  # an indicator that never moves says nothing: 0
            out[defined, k] = np.clip((values[defined] - known[0]) / (known[-1] - known[0]), 0, 1)
    return out


ARRAYS = ("x", "active", "returns", "log_volume", "prior", "stress", "is_bank")
NAMES = ("tickers", "features", "group")
