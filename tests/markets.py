"""Small made-up price tables for tests: an ordinary one and one with everything that goes wrong in life."""

from __future__ import annotations

import numpy as np
import pandas as pd

SECTORS = ["Financials"] * 9 + ["Energy"] * 4 + ["Utilities"] * 2


def universe(n: int = 15) -> pd.DataFrame:
    """The first nine are banks of a large sector, then a middling and a tiny one, over and over."""
    sector = [SECTORS[i % len(SECTORS)] for i in range(n)]
    return pd.DataFrame(
        {
            "ticker": [f"T{i:03d}" for i in range(n)],
            "name": [f"Test {i}" for i in range(n)],
            "sector": sector,
            "hq_state": [["New York", "Texas", "Ohio"][i % 3] for i in range(n)],
            "is_bank": [s == "Financials" for s in sector],
        }
    )


def random_prices(n: int = 15, days: int = 120, seed: int = 0) -> pd.DataFrame:
    """Fat-tailed returns with a market factor, ranges around open and close, dividends in every third stock."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=days)
    market = 0.008 * rng.standard_t(4, (days, 1))
    r = market * rng.uniform(0.5, 1.5, n) + 0.01 * rng.standard_t(4, (days, n))
    close = rng.uniform(10, 200, n) * np.exp(np.cumsum(r, 0))
    open_ = close * np.exp(0.004 * rng.standard_normal((days, n)))
    high = np.maximum(open_, close) * np.exp(0.006 * rng.random((days, n)))
    low = np.minimum(open_, close) * np.exp(-0.006 * rng.random((days, n)))
    volume = np.round(np.exp(13 + 0.5 * rng.standard_normal((days, n)) + 20 * np.abs(r)))
    factor = np.ones((days, n))
    factor[: days // 2, ::3] = 0.985
    frames = [
        pd.DataFrame(
            {
                "date": dates,
                "ticker": f"T{i:03d}",
                "open": open_[:, i],
                "high": high[:, i],
                "low": low[:, i],
                "close": close[:, i],
                "adj_close": close[:, i] * factor[:, i],
                "volume": volume[:, i],
            }
        )
        for i in range(n)
    ]
    return pd.concat(frames, ignore_index=True)


def nasty_prices(n: int = 15, days: int = 120, seed: int = 1) -> pd.DataFrame:
    """Constant prices, days without volume, a missing day, a listing, a delisting, a pure rise, days of H = L."""
    prices = random_prices(n, days, seed)
    dates = np.unique(prices["date"].to_numpy())
    is_ = {k: prices["ticker"] == f"T{k:03d}" for k in range(n)}
    bars = ["open", "high", "low", "close", "adj_close"]
    prices.loc[is_[0], bars] = 50.0  # never moves
    prices.loc[is_[1] & prices["date"].isin(dates[[40, 41, 77]]), "volume"] = 0.0
    rise = 20 * 1.01 ** np.arange(days)
    for column, factor in zip(bars, [0.999, 1.001, 0.998, 1.0, 1.0], strict=True):
        prices.loc[is_[4], column] = rise * factor  # same return every day
    flat = is_[5] & prices["date"].isin(dates[50:60])
    for column in ("open", "high", "low"):
        prices.loc[flat, column] = prices.loc[flat, "close"]
    prices.loc[is_[6], "volume"] = 1000.0
    drop = is_[2] & prices["date"].isin(dates[[60]])  # one missing day
    drop |= is_[3] & (prices["date"] < dates[35])  # listed late
    drop |= is_[7] & (prices["date"] > dates[85])  # delisted
    drop |= is_[8] & prices["date"].isin(dates[30:58])  # a long halt
    return prices[~drop].reset_index(drop=True)
