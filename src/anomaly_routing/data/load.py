"""The three price sources behind one name: `simulated`, `folder`, `yahoo` (DESIGN 5)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from anomaly_routing.data.simulate import simulate_market
from anomaly_routing.data.sources import MarketData, from_frames, load_folder
from anomaly_routing.data.universe import GICS_SECTORS
from anomaly_routing.data.yahoo import load_yahoo
from anomaly_routing.errors import MarketDataError

SOURCES = ("simulated", "folder", "yahoo")


def load_source(
    source: str,
    raw: Path,
    *,
    calendar: str = "XNYS",
    select: str = "",
    sectors: Iterable[str] = (),
    seed: int = 0,
    n_stocks: int = 32,
    n_sessions: int = 1400,
    start: str = "",
    end: str = "",
) -> tuple[MarketData, pd.DataFrame | None]:
    """A market that has passed the door, and its events where the source knows them (simulated), else None.

    Parameters
    ----------
    source : one of `SOURCES`.
    raw : the market's folder of raw files; unused by `simulated`. `yahoo` reads `universe.csv` there and keeps what it
        downloads in `yahoo/`.
    calendar, select, sectors : see `sources.load_folder`; no sectors means the eleven of GICS.
    seed, n_stocks, n_sessions : of the simulated market.
    start, end : ISO dates of the yahoo download.

    Raises MarketDataError for an unknown source, or for whatever the door refuses.
    """
    allowed = tuple(sectors) or GICS_SECTORS
    if source == "simulated":
        market = simulate_market(seed=seed, n_stocks=n_stocks, n_sessions=n_sessions)
        tables = (market.prices, market.universe, market.benchmarks)
        return from_frames(*tables, calendar=calendar, sectors=allowed, source="simulated"), market.events
    if source == "folder":
        return load_folder(raw, calendar=calendar, select=select or None, sectors=allowed), None
    if source == "yahoo":
        members = pd.read_csv(raw / "universe.csv", keep_default_na=False)
        return load_yahoo(members, start, end, raw / "yahoo", calendar=calendar, sectors=allowed), None
    remedy = f"set data.source to one of {', '.join(SOURCES)}"
    raise MarketDataError("params", "data.source", f"no source {source!r}", remedy)
