"""The three price sources behind one name: `simulated`, `folder`, `yahoo` (DESIGN 5)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from anomaly_routing.data.simulate import simulate_market
from anomaly_routing.data.sources import MarketData, from_frames, load_folder, read_universe
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
    answers: Path | None = None,
) -> tuple[MarketData, pd.DataFrame | None]:
    """A market that has passed the door, and its events where the source knows them (simulated), else None.

    Parameters
    ----------
    source : one of `SOURCES`.
    raw : the market's folder of raw files; unused by `simulated`. `yahoo` reads the universe there.
    calendar, select, sectors : see `sources.load_folder`; no sectors means the eleven of GICS.
    seed, n_stocks, n_sessions : of the simulated market.
    start, end : ISO dates of the yahoo download, both included.
    answers : folder in which yahoo keeps what it downloads; default `yahoo/` in `raw`.

    Raises MarketDataError for an unknown source, for a yahoo download without dates, or for whatever the door refuses;
    ImportError for yahoo without yfinance. A market of yahoo that is refused leaves its downloaded answers behind: they
    are used when it is tried again.
    """
    allowed = tuple(sectors) or GICS_SECTORS
    if source == "simulated":
        market = simulate_market(seed=seed, n_stocks=n_stocks, n_sessions=n_sessions)
        tables = (market.prices, market.universe, market.benchmarks)
        return from_frames(*tables, calendar=calendar, sectors=allowed, source="simulated"), market.events
    if source == "folder":
        return load_folder(raw, calendar=calendar, select=select or None, sectors=allowed), None
    if source == "yahoo":
        members = read_universe(raw, sectors=allowed, select=select or None)
        _check_span(start, end)
        return load_yahoo(members, start, end, answers or raw / "yahoo", calendar=calendar, sectors=allowed), None
    remedy = f"set data.source to one of {', '.join(SOURCES)}"
    raise MarketDataError("params", "data.source", f"no source {source!r}", remedy)


def _check_span(start: str, end: str) -> None:
    """Raise MarketDataError unless both are ISO dates, the first before the last."""
    first, last = (pd.to_datetime(day, format="%Y-%m-%d", errors="coerce") for day in (start, end))
    if not first < last:  # NaT is before nothing
        rule = f"yahoo cannot be asked for start {start!r}, end {end!r}"
        remedy = "START=2016-07-01 END=2024-12-31 at `make market`, or `start` and `end` in the market's params.yaml"
        raise MarketDataError("params", "data.start, data.end", rule, remedy)
