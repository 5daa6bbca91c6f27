"""A small simulated ground for plants, shared by the tests of planting and attribution."""

from __future__ import annotations

import pandas as pd

from anomaly_routing.data.simulate import default_splits
from anomaly_routing.planting import Ground, simulated_ground

SESSIONS = 700
NONE = pd.DataFrame({"date": pd.DatetimeIndex([])})  # no event


def small_ground() -> Ground:
    return simulated_ground(4, 16, SESSIONS, default_splits(SESSIONS))
