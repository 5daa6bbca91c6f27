"""The calendar and the event list that the evaluation's tests share."""

from __future__ import annotations

import exchange_calendars
import pandas as pd
import pytest

from anomaly_routing.evaluation.events import load_events


@pytest.fixture(scope="session")
def nyse() -> pd.DatetimeIndex:
    """NYSE sessions of the study, from the calendar rather than from prices."""
    return exchange_calendars.get_calendar("XNYS", start="2017-01-03", end="2024-12-31").sessions


@pytest.fixture(scope="session")
def paper_events(root) -> pd.DataFrame:
    """The 13 events."""
    return load_events(root / "paper" / "events.yaml")
