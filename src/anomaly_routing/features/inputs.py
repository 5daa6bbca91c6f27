"""What the 29 features are computed from: wide arrays, returns, market and sector means.

Prices are on the total-return basis: open, high, low and close times adj_close / close. Dollar volume is
close * volume of the price table, where both stand on one split basis (SPEC 1).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from anomaly_routing.features.rolling import lag, rolling_mean, rolling_sd

MIN_SECTOR_OTHERS = 3  # fewer other members with a return: the market mean stands in
MIN_HERDING_MEMBERS = 8


class Inputs:
    """Prices of one market as float64 [session, stock]; everything derived is computed once, when first asked for.

    Parameters
    ----------
    prices : long table (DESIGN 3), no row twice; without `adj_close` the close stands in.
    universe : one row a ticker, with `sector` and optionally `shares_outstanding`; its order is the stock order.
    sessions : the market's sessions; default: the dates of `prices`.

    A session without a row between a stock's first and last is a day without trade: the price is carried forward, the
    volume is 0, the return is NaN, and the next return spans the gap.
    """

    def __init__(self, prices: pd.DataFrame, universe: pd.DataFrame, sessions: pd.DatetimeIndex | None = None) -> None:
        self.sessions = pd.DatetimeIndex(np.unique(prices["date"].to_numpy())) if sessions is None else sessions
        self.tickers = universe["ticker"].to_numpy(object)
        self.sector = universe["sector"].to_numpy(object)
        self.shares = (
            universe["shares_outstanding"].to_numpy(float) if "shares_outstanding" in universe.columns else None
        )
        row = self.sessions.get_indexer(pd.DatetimeIndex(prices["date"]))
        column = pd.Index(self.tickers).get_indexer(prices["ticker"].to_numpy(object))
        keep = (row >= 0) & (column >= 0)

        def wide(values: np.ndarray) -> np.ndarray:
            out = np.full((len(self.sessions), len(self.tickers)), np.nan)
            out[row[keep], column[keep]] = values[keep]
            return out

        if prices.duplicated(["ticker", "date"]).any():
            raise ValueError("a (ticker, date) stands in two rows; take the prices through the door (data.sources)")
        raw_close = prices["close"].to_numpy(float)
        adjusted = prices["adj_close"].to_numpy(float) if "adj_close" in prices.columns else raw_close
        adjust = adjusted / raw_close
        self.close = wide(adjusted)
        self.open = wide(prices["open"].to_numpy(float) * adjust)
        self.high = wide(prices["high"].to_numpy(float) * adjust)
        self.low = wide(prices["low"].to_numpy(float) * adjust)
        self.volume = wide(prices["volume"].to_numpy(float))
        self.dollar_volume = wide(raw_close * prices["volume"].to_numpy(float))
        self.traded = self.volume > 0

    @cached_property
    def carried_close(self) -> np.ndarray:
        """adj_close; on a session without trade the last one (never used beyond the stock's last row)."""
        return pd.DataFrame(np.where(self.traded, self.close, np.nan)).ffill().to_numpy()

    @cached_property
    def p(self) -> np.ndarray:
        """ln of the carried close."""
        return np.log(self.carried_close)

    @cached_property
    def traded_p(self) -> np.ndarray:
        """ln adj_close, NaN on a session without trade."""
        return np.where(self.traded, self.p, np.nan)

    @cached_property
    def r(self) -> np.ndarray:
        """Log return; NaN on a day without trade."""
        return np.where(self.traded, self.p - lag(self.p, 1), np.nan)

    @cached_property
    def market(self) -> np.ndarray:
        """m: leave-one-out equal-weight mean return over the stocks that have a return."""
        others, total = self._others(np.zeros(len(self.tickers), int))
        return np.where(others > 0, total / np.maximum(others, 1), np.nan)

    @cached_property
    def sector_mean(self) -> np.ndarray:
        """s: the same within the stock's sector; m where fewer than three others have a return."""
        others, total = self._others(pd.factorize(self.sector)[0])
        return np.where(others >= MIN_SECTOR_OTHERS, total / np.maximum(others, 1), self.market)

    def _others(self, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number and sum of the returns of the other stocks of the same group."""
        has = np.isfinite(self.r)
        value = np.where(has, self.r, 0.0)
        count, total = np.empty(self.r.shape), np.empty(self.r.shape)
        for g in np.unique(group):
            members = group == g
            count[:, members] = has[:, members].sum(1, keepdims=True) - has[:, members]
            total[:, members] = value[:, members].sum(1, keepdims=True) - value[:, members]
        return count, total

    @cached_property
    def illiquidity_shock(self) -> np.ndarray:
        """Change of ln ILLIQ_M, the cross-section median of |r| / DV over the stocks traded that day; [session, 1]."""
        ratio = np.where(self.traded, np.abs(self.r) / np.where(self.traded, self.dollar_volume, 1.0), np.nan)
        median = np.full((len(self.sessions), 1), np.nan)
        some = np.isfinite(ratio).any(1)
        median[some, 0] = np.nanmedian(ratio[some], axis=1)
        level = np.log(np.where(median > 0, median, np.nan))
        return level - lag(level, 1)

    @cached_property
    def prev_mean(self) -> np.ndarray:
        """Mean return of t-20..t-1."""
        return lag(rolling_mean(self.r), 1)

    @cached_property
    def prev_sd(self) -> np.ndarray:
        """Standard deviation of the returns of t-20..t-1."""
        return lag(rolling_sd(self.r), 1)

    @cached_property
    def sd(self) -> np.ndarray:
        """Standard deviation of the returns of t-19..t."""
        return rolling_sd(self.r)
