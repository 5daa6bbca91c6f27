"""The two small containers that everything after the data door speaks: `Splits` and `Panel`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

FEATURE_WINDOW = 20  # sessions in a rolling feature and in a model sample
BURN_IN = 40  # sessions before the first sample: one feature window and one sample window


@dataclass(frozen=True)
class Splits:
    """Training, validation and test spans, by the session a sample ends in (inclusive dates).

    The first sample ends `BURN_IN` sessions after `first_session` (paper 4.1, AUDIT A09).
    The defaults are those of the paper: 2017-2021, 2022, 2023-2024.
    """

    first_session: str = "2017-01-03"
    train_end: str = "2021-12-31"
    val_end: str = "2022-12-31"
    test_end: str = "2024-12-31"

    def _first_sample(self, sessions: pd.DatetimeIndex) -> int:
        return int(sessions.searchsorted(pd.Timestamp(self.first_session))) + BURN_IN

    def train(self, sessions: pd.DatetimeIndex) -> np.ndarray:
        """Boolean mask [session] of the training samples."""
        mask = np.asarray(sessions <= pd.Timestamp(self.train_end))
        mask[: self._first_sample(sessions)] = False
        return mask

    def val(self, sessions: pd.DatetimeIndex) -> np.ndarray:
        """Boolean mask [session] of the validation samples."""
        return np.asarray((sessions > pd.Timestamp(self.train_end)) & (sessions <= pd.Timestamp(self.val_end)))

    def test(self, sessions: pd.DatetimeIndex) -> np.ndarray:
        """Boolean mask [session] of the test samples."""
        return np.asarray((sessions > pd.Timestamp(self.val_end)) & (sessions <= pd.Timestamp(self.test_end)))

    def scored(self, sessions: pd.DatetimeIndex) -> np.ndarray:
        """Boolean mask [session] of every sample: training, validation and test."""
        return self.train(sessions) | self.val(sessions) | self.test(sessions)


@dataclass(frozen=True)
class Panel:
    """One market as a detector sees it. S sessions, N tickers, F features.

    The sessions include the history before the first sample; a detector may look back into it, never forward.

    x : float32 [S, N, F], scaled features (SPEC 3), 0 where undefined or inactive.
    active : bool [S, N], the stock takes part in the session's cross-section (SPEC 1).
    returns : float64 [S, N], log return of adj_close, NaN where the stock did not trade.
    log_volume : float64 [S, N], ln(volume), NaN where the stock did not trade.
    benchmarks : closes of market-wide series (SPY, ^VIX ...), index = sessions; may have no columns.
    group : category of each feature; may be empty.
    prior : float32 [N, N] of 0 and 1, the prior graph (SPEC 3), or None.
    stress : float64 [S, 4], raw stress indicators (SPEC 5.1), NaN where undefined, or None.
    """

    sessions: pd.DatetimeIndex
    tickers: list[str]
    features: list[str]
    x: np.ndarray
    active: np.ndarray
    returns: np.ndarray
    log_volume: np.ndarray
    sector: np.ndarray
    is_bank: np.ndarray
    benchmarks: pd.DataFrame = field(default_factory=pd.DataFrame)
    group: list[str] = field(default_factory=list)
    prior: np.ndarray | None = None
    stress: np.ndarray | None = None

    def __post_init__(self) -> None:
        s, n = len(self.sessions), len(self.tickers)
        shapes = {"x": (s, n, len(self.features)), "active": (s, n), "returns": (s, n), "log_volume": (s, n)}
        optional = {"prior": (n, n), "stress": (s, 4)}
        shapes |= {name: shape for name, shape in optional.items() if getattr(self, name) is not None}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"Panel.{name} has shape {getattr(self, name).shape}, expected {shape}")


def plain_panel(
    returns: np.ndarray,
    log_volume: np.ndarray,
    sessions: pd.DatetimeIndex | None = None,
    tickers: list[str] | None = None,
    active: np.ndarray | None = None,
) -> Panel:
    """A panel of returns and volumes [S, N] alone: no features, one sector, no banks.

    Unless given, sessions are weekdays from 2015 on, tickers S0, S1 ..., and every stock is always active.
    """
    s, n = returns.shape
    return Panel(
        sessions=pd.bdate_range("2015-01-01", periods=s) if sessions is None else sessions,
        tickers=[f"S{i}" for i in range(n)] if tickers is None else tickers,
        features=[],
        x=np.zeros((s, n, 0), np.float32),
        active=np.ones((s, n), bool) if active is None else active,
        returns=returns,
        log_volume=log_volume,
        sector=np.full(n, "all", object),
        is_bank=np.zeros(n, bool),
    )
