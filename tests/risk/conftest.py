"""Two planted assets for all tests of this folder."""

from __future__ import annotations

import pytest
from planted_assets import planted_asset

from anomaly_routing.risk.realised_variance import INDEX, Asset


@pytest.fixture(scope="session")
def asset() -> Asset:
    return planted_asset()


@pytest.fixture(scope="session")
def index() -> Asset:
    return planted_asset(seed=1, name=INDEX)
