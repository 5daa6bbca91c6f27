"""The variance proxy against known diffusions, by hand, and at the door."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.data.simulate import simulate_market
from anomaly_routing.errors import MarketDataError
from anomaly_routing.risk.realised_variance import (
    FLOOR,
    INDEX,
    Asset,
    choose_stocks,
    full_history,
    garman_klass,
    index_asset,
    market_assets,
    realised_variance,
    stock_asset,
)


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return simulate_market(seed=3, n_stocks=16, n_sessions=500).prices


def bars(rows: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["open", "high", "low", "close"])


def test_garman_klass_by_hand():
    """H/L = 2, C = O: half of ln(2)^2; H = C, L = O: (0.5 - (2 ln 2 - 1)) ln(2)^2."""
    assert garman_klass(1.0, 2.0, 1.0, 1.0) == pytest.approx(0.5 * np.log(2) ** 2)
    assert garman_klass(1.0, 2.0, 1.0, 2.0) == pytest.approx((1.5 - 2 * np.log(2)) * np.log(2) ** 2)


def test_garman_klass_finds_the_variance_of_a_diffusion_with_less_noise_than_the_squared_return():
    rng, sd = np.random.default_rng(0), 0.02
    path = np.cumsum(np.vstack([np.zeros(4000), rng.standard_normal((1000, 4000)) * sd / np.sqrt(1000)]), axis=0)
    estimate = garman_klass(1.0, np.exp(path.max(axis=0)), np.exp(path.min(axis=0)), np.exp(path[-1]))
    assert estimate.mean() == pytest.approx(sd**2, rel=0.07)  # 1,000 steps a day see a little less than the whole range
    assert np.var(path[-1] ** 2) / np.var(estimate) > 5  # 7.4 in continuous time (Garman & Klass 1980)


def test_the_night_is_added_and_the_floor_holds():
    value = realised_variance(bars([[10, 10, 10, 10], [11, 11, 11, 11], [11, 12, 11, 12]]))
    assert np.isnan(value[0]) and value[1] == pytest.approx(FLOOR + np.log(1.1) ** 2)
    assert value[2] == pytest.approx((1.5 - 2 * np.log(2)) * np.log(12 / 11) ** 2)


@pytest.mark.parametrize("bad, word", [(0.0, "not positive"), (-1.0, "not positive"), (np.nan, "empty")])
def test_a_price_that_is_none_is_refused_with_its_row(bad, word):
    with pytest.raises(MarketDataError, match=f"row 2: a price is .*{word}"):
        realised_variance(bars([[10, 10, 10, 10], [10, 10, bad, 10]]))
    with pytest.raises(MarketDataError, match="row 1: high is below low"):
        realised_variance(bars([[10, 9, 10, 10]]))


def test_a_stock_is_its_own_rows(prices):
    ticker = full_history(prices)[0]
    own, rows = stock_asset(prices, ticker), prices[prices.ticker == ticker]
    assert np.exp(own.returns.sum()) == pytest.approx(rows.adj_close.iloc[-1] / rows.adj_close.iloc[0])
    assert len(own.sessions) == len(rows) - 1 and own.sessions[0] == rows.date.iloc[1]
    assert np.array_equal(own.log_volume, np.log(rows.volume.to_numpy()[1:]))
    r = own.returns
    assert np.corrcoef(own.variance, r**2)[0, 1] > 0.3


def test_a_dividend_or_split_later_changes_nothing(prices):
    ticker = full_history(prices)[0]
    scaled = prices.copy()
    scaled.loc[scaled.ticker == ticker, "adj_close"] *= 0.5
    before, after = stock_asset(prices, ticker), stock_asset(scaled, ticker)
    assert np.allclose(before.returns, after.returns) and np.allclose(before.variance, after.variance)


def test_the_index_return_is_the_mean_simple_return_of_those_present(prices):
    index = index_asset(prices)
    wide = prices.pivot_table(index="date", columns="ticker", values="adj_close")
    slow = [np.nanmean(wide.iloc[i] / wide.iloc[i - 1] - 1) for i in range(1, len(wide))]
    assert np.allclose(np.expm1(index.returns), slow)
    assert index.name == INDEX and (index.variance > 0).all()


def test_stocks_are_chosen_by_name_alone(prices):
    shuffled = prices.sample(frac=1, random_state=0)
    assert choose_stocks(prices, 4) == choose_stocks(shuffled, 4)
    names = full_history(prices)
    assert [choose_stocks(prices, 3)[i] for i in (0, -1)] == [names[0], names[-1]]
    altered = prices.assign(adj_close=prices.adj_close * np.random.default_rng(0).uniform(0.5, 2, len(prices)))
    assert choose_stocks(altered, 4) == choose_stocks(prices, 4)
    short = prices[(prices.ticker != names[0]) | (prices.date < prices.date.max())]
    assert names[0] not in full_history(short)
    with pytest.raises(ValueError, match="lower n_stocks"):
        choose_stocks(prices, 99)


def test_a_stock_that_paused_or_is_unknown_is_refused(prices):
    ticker = full_history(prices)[0]
    paused = prices.copy()
    paused.loc[paused.index[(paused.ticker == ticker)][5], "volume"] = 0
    with pytest.raises(MarketDataError, match="did not trade"):
        stock_asset(paused, ticker)
    with pytest.raises(MarketDataError, match="no row"):
        stock_asset(prices, "NOBODY")


def test_an_asset_refuses_nan_and_a_series_without_risk():
    days, x = pd.bdate_range("2020-01-01", periods=3), np.array([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="variance is not finite on 2020-01-02"):
        Asset("A", days, x, np.array([1, np.nan, 1]), x)
    with pytest.raises(ValueError, match="no risk"):
        Asset("A", days, np.zeros(3), x, x)
    with pytest.raises(ValueError, match="one value a session"):
        Asset("A", days, x[:2], x, x)


def test_all_assets_of_a_market_share_their_sessions(prices):
    assets = market_assets(prices, 4)
    assert [a.name for a in assets] == [INDEX, *choose_stocks(prices, 4)]
    assert all(a.sessions.equals(assets[0].sessions) for a in assets)
