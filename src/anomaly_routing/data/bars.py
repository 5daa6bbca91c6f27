"""A price table as arrays of sessions and tickers, to be altered and handed on slice by slice."""

from __future__ import annotations

import numpy as np
import pandas as pd

COLUMNS = ("open", "high", "low", "close", "adj_close", "volume")


class Bars:
    """A price table as S sessions times N tickers that can be altered and handed on slice by slice."""

    def __init__(self, prices: pd.DataFrame, tickers: list[str], sessions: pd.DatetimeIndex) -> None:
        """prices : long table of the data contract; rows of other tickers and dates are left out."""
        day = sessions.get_indexer(pd.DatetimeIndex(prices["date"]))
        stock = pd.Index(tickers).get_indexer(prices["ticker"].to_numpy(object))
        keep = (day >= 0) & (stock >= 0)
        self.sessions, self.tickers = sessions, np.asarray(tickers, object)
        self.columns = {}
        for name in COLUMNS:
            self.columns[name] = np.full((len(sessions), len(tickers)), np.nan)
            self.columns[name][day[keep], stock[keep]] = prices[name].to_numpy(float)[keep]

    @property
    def traded(self) -> np.ndarray:
        return self.columns["volume"] > 0

    def copy(self, first: int = 0, last: int | None = None) -> Bars:
        """An independent copy of the sessions first .. last."""
        part = slice(first, None if last is None else last + 1)
        new = object.__new__(Bars)
        new.sessions, new.tickers = self.sessions[part], self.tickers
        new.columns = {name: array[part].copy() for name, array in self.columns.items()}
        return new

    def table(self) -> pd.DataFrame:
        """The long price table, sorted by date, then ticker in the given order."""
        day, stock = np.nonzero(np.isfinite(self.columns["close"]))
        rows = {name: array[day, stock] for name, array in self.columns.items()}
        return pd.DataFrame({"date": self.sessions[day], "ticker": self.tickers[stock]} | rows)
