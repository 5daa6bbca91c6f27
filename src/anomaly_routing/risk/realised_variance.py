"""A daily variance from open, high, low and close: Garman-Klass plus the squared overnight return (SPEC 16, B05).

It is a proxy: the catalogue page's model sums squared intraday returns, which daily bars cannot give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anomaly_routing.errors import MarketDataError

FLOOR = 1e-8  # of the Garman-Klass part: a bar whose four prices are equal has no range
INDEX = "equal weight"
OHLC = ["open", "high", "low", "close"]


@dataclass(frozen=True)
class Asset:
    """One series to forecast, S sessions; a row is known at its close.

    returns : float64 [S], log return from close to close, dividends included.
    variance : float64 [S], the realised-variance proxy of the session, per day.
    log_volume : float64 [S], ln of shares (a stock) or of the summed dollar volume (the index).
    """

    name: str
    sessions: pd.DatetimeIndex
    returns: np.ndarray
    variance: np.ndarray
    log_volume: np.ndarray

    def __post_init__(self) -> None:
        for field in ("returns", "variance", "log_volume"):
            values = getattr(self, field)
            if values.shape != (len(self.sessions),):
                raise ValueError(f"{self.name}: {field} has shape {values.shape}, not one value a session")
            if not np.isfinite(values).all():
                day = self.sessions[~np.isfinite(values)][0]
                raise ValueError(f"{self.name}: {field} is not finite on {day:%Y-%m-%d}; leave that asset out")
        if np.ptp(self.returns) == 0:
            raise ValueError(f"{self.name}: every return is the same, so there is no risk to forecast; leave it out")


def garman_klass(opened: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    """0.5 ln(H/L)^2 - (2 ln 2 - 1) ln(C/O)^2, variance from open to close per day; any shape (Garman & Klass 1980).

    Never negative for L <= O, C <= H, and 0 when all four agree.
    """
    return 0.5 * np.log(high / low) ** 2 - (2 * np.log(2) - 1) * np.log(close / opened) ** 2


def realised_variance(bars: pd.DataFrame) -> np.ndarray:
    """max(Garman-Klass, FLOOR) + (overnight return)^2, float64 [S], per day; NaN in the first row, which has no night.

    bars : columns open, high, low, close in one adjusted currency, one row a session in time order.
    Raises MarketDataError for a price that is NaN or not positive and for a high below the low.
    """
    prices = bars[OHLC].to_numpy(float)
    wrong = ~(np.isfinite(prices) & (prices > 0)).all(axis=1)
    if wrong.any():
        raise MarketDataError("bars", f"row {wrong.argmax() + 1}", "a price is empty or not positive", "drop the row")
    opened, high, low, close = prices.T
    if (high < low).any():
        raise MarketDataError("bars", f"row {(high < low).argmax() + 1}", "high is below low", "they may be swapped")
    night = np.r_[np.nan, np.log(opened[1:] / close[:-1])]
    return np.maximum(garman_klass(opened, high, low, close), FLOOR) + night**2


def stock_asset(prices: pd.DataFrame, ticker: str) -> Asset:
    """One stock of the long price table; its bars are rescaled by adj_close/close. Raises MarketDataError as above."""
    rows = prices[prices["ticker"] == ticker].sort_values("date")
    if rows.empty:
        raise MarketDataError("prices", "-", f"the ticker {ticker} has no row", "name a stock of this market")
    if (rows["volume"] <= 0).any():
        day = rows.loc[rows["volume"] <= 0, "date"].iloc[0]
        remedy = "choose stocks that traded on every session (`full_history`)"
        raise MarketDataError("prices", f"{day:%Y-%m-%d}, {ticker}", "the stock did not trade", remedy)
    bars = rows[OHLC].mul(rows["adj_close"] / rows["close"], axis=0)
    variance = realised_variance(bars)
    returns = np.diff(np.log(rows["adj_close"].to_numpy(float)))
    log_volume = np.log(rows["volume"].to_numpy(float))
    return Asset(ticker, pd.DatetimeIndex(rows["date"])[1:], returns, variance[1:], log_volume[1:])


def index_asset(prices: pd.DataFrame) -> Asset:
    """The equal-weight index, rebalanced daily, over the stocks that traded today and yesterday.

    Its open, high, low and close are the means of its members', each over the member's last close. The members' highs
    fall at different minutes, so the mean high is above the index's own: the level of this variance is too high, its
    movement is what counts (every tail is fitted to returns over forecast, which takes the level out).
    """
    prices = prices[prices["volume"] > 0]
    adjusted = prices[["date", "ticker"]].join(prices[OHLC].mul(prices["adj_close"] / prices["close"], axis=0))
    wide = adjusted.pivot_table(index="date", columns="ticker", values=OHLC)
    before = wide["close"].shift(1)
    bars = pd.DataFrame({c: (wide[c] / before).mean(axis=1) for c in OHLC})[1:]
    if bars.isna().any(axis=None):
        day = bars.index[bars.isna().any(axis=1)][0]
        raise MarketDataError("prices", f"{day:%Y-%m-%d}", "no stock traded on this and the last session", "drop it")
    # each bar is over yesterday's close, so the night is the open alone
    variance = np.maximum(garman_klass(*bars.to_numpy().T), FLOOR) + np.log(bars["open"].to_numpy()) ** 2
    dollars = (prices["close"] * prices["volume"]).groupby(prices["date"]).sum()
    log_volume = np.log(dollars.reindex(bars.index).to_numpy(float))
    return Asset(INDEX, pd.DatetimeIndex(bars.index), np.log(bars["close"].to_numpy()), variance, log_volume)


def full_history(prices: pd.DataFrame) -> list[str]:
    """Tickers, in alphabetical order, that traded on every session of the table."""
    traded = prices[prices["volume"] > 0].groupby("ticker")["date"].nunique()
    return sorted(traded.index[traded == prices["date"].nunique()])


def choose_stocks(prices: pd.DataFrame, n: int) -> list[str]:
    """`n` tickers evenly spaced in the alphabetical order of `full_history`: a rule that sees no return.

    That a stock traded to the end is known only at the end, so failures are left out by construction.
    Raises ValueError when there are fewer than `n`.
    """
    names = full_history(prices)
    if len(names) < n:
        raise ValueError(f"only {len(names)} stocks traded on every session, {n} are wanted: lower n_stocks")
    return [names[i] for i in np.linspace(0, len(names) - 1, n).round().astype(int)]


def market_assets(prices: pd.DataFrame, n_stocks: int) -> list[Asset]:
    """The equal-weight index of all stocks, then `choose_stocks`; all on the same sessions."""
    index = index_asset(prices)
    return [index, *(stock_asset(prices, ticker) for ticker in choose_stocks(prices, n_stocks))]


def autocorrelation(series: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """Sample autocorrelation of a series [S] at each lag (sessions, at least 1), [len(lags)]."""
    x = series - series.mean()
    return np.array([x[k:] @ x[:-k] / (x @ x) for k in lags])


def memory(assets: list[Asset], lags: np.ndarray) -> pd.DataFrame:
    """Autocorrelation at each lag, mean over the assets: one column for ln RV, |return| and return; index = lags."""
    measures = {
        "ln RV": lambda a: np.log(a.variance),
        "|return|": lambda a: np.abs(a.returns),
        "return": lambda a: a.returns,
    }
    columns = {text: np.mean([autocorrelation(of(a), lags) for a in assets], axis=0) for text, of in measures.items()}
    return pd.DataFrame(columns, index=lags)
