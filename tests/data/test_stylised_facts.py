"""Every stylised fact against a slow, plain computation, and the committed table against the real panel."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anomaly_routing.data import stylised_facts as module
from anomaly_routing.data.stylised_facts import FACTS, market_states, percentile_table
from anomaly_routing.data.stylised_facts import stylised_facts as measure
from tests.markets import nasty_prices, random_prices, universe

DAYS, STOCKS = 600, 6


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    """Six stocks, one of which misses two days and one of which is listed late."""
    rows = random_prices(STOCKS, DAYS, seed=3)
    dates = np.unique(rows["date"].to_numpy())
    gone = (rows["ticker"] == "T002") & rows["date"].isin(dates[[50, 300]])
    gone |= (rows["ticker"] == "T004") & (rows["date"] < dates[90])
    return rows[~gone].reset_index(drop=True)


@pytest.fixture(scope="module")
def facts(prices: pd.DataFrame) -> pd.DataFrame:
    return measure(prices, universe(STOCKS))


@pytest.fixture(scope="module")
def returns(prices: pd.DataFrame) -> pd.DataFrame:
    """Log returns of adj_close; a missing day has none, and the next return spans it."""
    wide = prices.pivot_table(index="date", columns="ticker", values="adj_close")
    out = pd.DataFrame(np.nan, index=wide.index, columns=wide.columns)
    for ticker in wide:
        known = wide[ticker].dropna()
        for before, now in zip(known.index, known.index[1:], strict=False):
            out.loc[now, ticker] = np.log(known[now] / known[before])
    return out


def pearson(x: list[float], y: list[float]) -> float:
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a == a and b == b]
    return stats.pearsonr(*zip(*pairs, strict=True)).statistic


def lagged(x: pd.Series, y: pd.Series, k: int) -> float:
    """corr(x(t), y(t + k)), term by term."""
    pairs = [(x.iloc[t], y.iloc[t + k]) for t in range(len(x) - k)]
    return pearson(*zip(*pairs, strict=True))


def test_one_row_a_stock_and_one_column_a_fact(facts):
    assert facts.index.to_list() == universe(STOCKS)["ticker"].to_list()
    assert facts.columns.to_list() == list(FACTS)
    assert facts.notna().all().all()


def test_kurtosis(facts, returns):
    for ticker, r in returns.items():
        assert facts.loc[ticker, "kurtosis"] == pytest.approx(stats.kurtosis(r.dropna(), bias=False))


def test_clustering_and_leverage(facts, returns):
    for ticker, r in returns.items():
        clustering = [lagged(r.abs(), r.abs(), k) for k in range(1, 11)]
        assert facts.loc[ticker, "abs_acf_1"] == pytest.approx(clustering[0])
        assert facts.loc[ticker, "abs_acf_1_10"] == pytest.approx(np.mean(clustering))
        leverage = np.mean([lagged(r, r.abs(), k) for k in range(1, 11)])
        assert facts.loc[ticker, "leverage"] == pytest.approx(leverage)


def test_leverage_is_negative_when_losses_are_followed_by_volatility():
    rng = np.random.default_rng(0)
    z = rng.standard_normal(4000)
    r = 0.01 * z
    r[1:] *= np.where(z[:-1] < 0, 2.0, 0.5)
    close = 50 * np.exp(np.cumsum(r))
    bar = dict.fromkeys(("open", "high", "low", "close", "adj_close"), close)
    one = pd.DataFrame({"date": pd.bdate_range("2000-01-03", periods=len(r)), "ticker": "T000", "volume": 1e6} | bar)
    assert measure(one, universe(1)).loc["T000", "leverage"] < -0.01


def test_market_states_take_their_shares_from_the_right_end():
    rng = np.random.default_rng(1)
    scale = np.repeat([0.005, 0.03], [800, 200])  # the last fifth of the days is wild
    returns = pd.DataFrame(scale[:, None] * rng.standard_normal((1000, 4)))
    calm, stressed = market_states(returns)
    known = 1000 - 19
    assert stressed.sum() == pytest.approx(0.1 * known, abs=1)
    assert calm.sum() == pytest.approx(0.5 * known, abs=1)
    assert np.flatnonzero(stressed).min() >= 800
    assert np.flatnonzero(calm).max() < 810
    assert not calm[:19].any() and not stressed[:19].any()  # no 20 returns yet


def test_correlations_by_state(facts, returns):
    market = returns.mean(axis=1)
    volatility = pd.Series([market[t - 19 : t + 1].std() if t >= 19 else np.nan for t in range(DAYS)])
    volatility[:20] = np.nan  # the first session has no return, so the first full window ends at 20
    stressed = volatility >= np.nanquantile(volatility, 0.9)
    calm = volatility < np.nanmedian(volatility)
    for name, mask in (("correlation_calm", calm), ("correlation_stressed", stressed)):
        part = returns[mask.to_numpy()]
        for i in returns:
            both = {j: part[[i, j]].dropna() for j in returns if j != i}
            expected = np.mean([pearson(b[i], b[j]) for j, b in both.items() if len(b) >= 30])
            assert facts.loc[i, name] == pytest.approx(expected), (i, name)


def test_volume_volatility(facts, prices, returns):
    for ticker, r in returns.items():
        volume = prices[prices["ticker"] == ticker].set_index("date")["volume"].reindex(r.index)
        detrended = []
        for t in range(DAYS):
            before = volume.iloc[max(t - 250, 0) : t].dropna()
            detrended.append(np.log(volume.iloc[t] / before.median()) if len(before) >= 60 else np.nan)
        assert facts.loc[ticker, "volume_volatility"] == pytest.approx(pearson(r.abs(), detrended)), ticker


def test_spread_is_the_mean_of_feature_7(facts, prices):
    rows = prices[prices["ticker"] == "T000"].reset_index(drop=True)  # a stock without missing days
    adjust = rows["adj_close"] / rows["close"]
    mid = (np.log(rows["high"] * adjust) + np.log(rows["low"] * adjust)) / 2
    p = np.log(rows["adj_close"])
    pair = [np.nan] + [np.sqrt(max(0, 4 * (p[t - 1] - mid[t - 1]) * (p[t - 1] - mid[t]))) for t in range(1, DAYS)]
    windows = [[x for x in pair[max(t - 19, 0) : t + 1] if x == x] for t in range(DAYS)]
    expected = 1e4 * np.mean([np.mean(w) for w in windows if len(w) >= 15])
    assert facts.loc["T000", "spread"] == pytest.approx(expected)


def test_nasty_rows_do_not_stop_it():
    table = measure(nasty_prices(days=200), universe())
    assert np.isnan(table.loc["T000", "abs_acf_1"])  # never moves: no correlation exists
    assert table["kurtosis"].drop(["T000", "T004"]).notna().all()


def test_percentile_table():
    table = percentile_table(pd.DataFrame({"kurtosis": np.arange(101.0), "spread": np.r_[np.arange(100.0), np.nan]}))
    assert table.columns.to_list() == ["p05", "p50", "p95"]
    assert table.loc["kurtosis"].to_list() == [5, 50, 95]
    assert table.loc["spread", "p50"] == 49.5  # stocks without the fact are left out


def test_committed_table_is_complete_and_ordered(root):
    table = pd.read_csv(root / "paper" / "stylised_facts.csv").set_index("fact")
    assert table.index.to_list() == list(FACTS)
    assert (table["p05"] < table["median"]).all() and (table["median"] < table["p95"]).all()
    one_sided = table["literature_low"].isna() | table["literature_high"].isna()
    assert table["reference"].str.len().gt(60).all() and table["unit"].notna().all()
    says_so = table["reference"].str.contains("no range|no daily|not a level|are no range")
    assert says_so[one_sided].all()


@pytest.mark.real_data
def test_committed_table_comes_from_the_real_panel(us100_folder, root, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["stylised_facts", str(us100_folder), "--out", str(tmp_path / "again.csv")])
    module.main()
    again, committed = (pd.read_csv(f) for f in (tmp_path / "again.csv", root / "paper" / "stylised_facts.csv"))
    pd.testing.assert_frame_equal(again, committed, rtol=2e-3)  # four digits are kept
