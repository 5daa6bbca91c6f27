"""A tiny valid market, and how to put it on disk: each bad input is this market with one thing broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

TICKERS = ["AAA", "BBB", "CCC"]


@pytest.fixture
def prices() -> pd.DataFrame:
    """30 sessions of XNYS (2 January to 13 February 2020) of three stocks; row r of ticker k is data row 30 k + r."""
    dates = pd.bdate_range("2020-01-02", "2020-02-13").drop("2020-01-20").as_unit("ns")  # Martin Luther King Day
    rng = np.random.default_rng(0)
    frames = []
    for ticker in TICKERS:
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, len(dates))))
        open_ = close * np.exp(rng.normal(0, 0.005, len(dates)))
        columns = {
            "date": dates,
            "ticker": ticker,
            "open": open_,
            "high": np.maximum(open_, close) * 1.01,
            "low": np.minimum(open_, close) * 0.99,
            "close": close,
            "adj_close": close * 0.98,
            "volume": rng.integers(900_000, 1_100_000, len(dates)).astype(float),
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def universe() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ticker": TICKERS,
            "name": ["First", "Second", "Third"],
            "sector": ["Financials", "Energy", "Financials"],
            "hq_state": ["New York", "Texas", ""],
            "is_bank": [True, False, False],
        }
    )


@pytest.fixture
def benchmarks(prices) -> pd.DataFrame:
    index = prices[prices["ticker"] == "AAA"].reset_index(drop=True)
    return index.assign(ticker="SPY", open=np.nan, high=np.nan, low=np.nan, volume=np.nan)


@pytest.fixture
def write(tmp_path):
    """write(".csv", prices=frame, universe=frame): a folder with these tables."""

    def write(suffix: str = ".parquet", **frames: pd.DataFrame) -> Path:
        for stem, frame in frames.items():
            path = tmp_path / f"{stem}{suffix}"
            if suffix == ".csv":
                frame.to_csv(path, index=False, lineterminator="\n")
            else:
                frame.to_parquet(path, index=False)
        return tmp_path

    return write
