"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("ANOMALY_ROUTING_PROCESSES", "1")  # the cores are busy with other tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that no core waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def us100_folder() -> Path:
    """The real price panel, which is not part of the repository; tests that need it are skipped by name."""
    folder = Path(os.environ.get("US100_PRICES", ROOT.parent / "shared" / "data" / "us100"))
    if not (folder / "prices.parquet").exists():
        pytest.skip("the real price panel is not here (set US100_PRICES to its folder)")
    return folder
