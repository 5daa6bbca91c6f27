"""The vectorised features against the slow oracle, the leak test, activity and scaling."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kurtosis

from anomaly_routing.features import liquidity
from anomaly_routing.features import panel as panel_module
from anomaly_routing.features.catalogue import GROUPS, catalogue, feature, feature_names, features
from anomaly_routing.features.inputs import Inputs
from anomaly_routing.features.panel import FEATURES_NUMERICS, build_panel, compute_features, fit_scaler
from anomaly_routing.features.rolling import lag, rolling_r2
from anomaly_routing.features.stress import STRESS_NAMES
from anomaly_routing.panel import Splits
from tests.markets import nasty_prices, random_prices, universe
from tests.oracles.feature_oracle import NAMES, Oracle

MARKETS = {"random": random_prices, "nasty": nasty_prices}


@pytest.fixture(scope="module", params=MARKETS)
def market(request):
    prices, members = MARKETS[request.param](), universe()
    return compute_features(prices, members), Oracle(prices, members).table()


@pytest.mark.parametrize("name", NAMES)
def test_every_feature_equals_the_oracle(market, name):
    ours, slow = market
    mine, theirs = ours.sel(feature=name).to_numpy(), slow[:, :, NAMES.index(name)]
    np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs))
    assert np.isfinite(mine).sum() > 500
    scale = np.nanmax(np.abs(theirs)) or 1.0
    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=2e-6 * scale)


def test_names_groups_and_documentation():
    assert feature_names() == NAMES
    counts = [sum(f.group == g for f in features()) for g in GROUPS]
    assert counts == [6, 8, 7, 8]  # paper, section 2
    table = catalogue()
    assert (table[["formula", "unit", "sign", "source"]].map(len) > 0).all(axis=None)
    assert set(table["sign"]) == {"+", "two-sided"}


def test_a_feature_is_registered_once_and_in_a_known_group():
    with pytest.raises(ValueError, match="unknown feature group"):
        feature("weather", unit="", sign="+", source="")
    with pytest.raises(ValueError, match="exists already"):

        @feature("momentum", unit="", sign="+", source="")
        def rsi(w): ...


# --- no look-ahead ---------------------------------------------------------------------------------------------------
def _disturb(prices: pd.DataFrame, after: pd.Timestamp, how: str) -> pd.DataFrame:
    out, later = prices.copy(), prices["date"] > after
    rng = np.random.default_rng(7)
    if how == "removed":
        return out[~later].reset_index(drop=True)
    factor = rng.uniform(0.2, 5.0, later.sum())
    for column in ("open", "high", "low", "close", "adj_close"):
        out.loc[later, column] *= factor
    out.loc[later, "volume"] = np.round(out.loc[later, "volume"] * rng.uniform(0.01, 100, later.sum()))
    return out


@pytest.mark.parametrize("how", ["altered", "removed"])
@pytest.mark.parametrize("make", MARKETS.values(), ids=MARKETS)
def test_no_feature_at_or_before_t_moves_when_later_rows_change(make, how):
    prices, members = make(), universe()
    whole = compute_features(prices, members)
    scaler = fit_scaler(whole, np.ones(120, bool), members["sector"].to_numpy(object))  # frozen, for the stress
    stress = build_panel(whole, scaler, prices, members).stress
    for cut in (45, 60, 77, 99):
        after = pd.Timestamp(whole["session"].to_numpy()[cut])
        disturbed = _disturb(prices, after, how)
        again = compute_features(disturbed, members)
        head = again.sel(session=slice(None, after))
        later = build_panel(again, scaler, disturbed, members).stress
        np.testing.assert_array_equal(stress[: cut + 1], later[: cut + 1])
        np.testing.assert_array_equal(whole.to_numpy()[: cut + 1], head.to_numpy())
        np.testing.assert_array_equal(whole["active"].to_numpy()[: cut + 1], head["active"].to_numpy())
        if how == "altered":  # the disturbance is real
            assert np.nanmax(np.abs(again.to_numpy()[cut + 1 :] - whole.to_numpy()[cut + 1 :])) > 0.1
            assert (np.nanmax(np.abs(later - stress)[cut + 1 :], axis=0) > 0.02).all()


def test_scaling_does_not_move_when_rows_after_training_change():
    prices, members = random_prices(days=320), universe()
    splits = Splits("2020-01-01", "2020-12-31", "2021-02-26", "2021-03-31")
    first, second = (
        compute_features(p, members) for p in (prices, _disturb(prices, pd.Timestamp("2020-12-31"), "altered"))
    )
    train = splits.train(pd.DatetimeIndex(first["session"].to_numpy()))
    sector = members["sector"].to_numpy(object)
    a, b = fit_scaler(first, train, sector), fit_scaler(second, train, sector)
    np.testing.assert_array_equal(a.center, b.center)
    np.testing.assert_array_equal(a.scale, b.scale)
    inside = pd.DatetimeIndex(first["session"].to_numpy()) <= "2020-12-31"
    np.testing.assert_array_equal(a.transform(first)[inside], b.transform(second)[inside])
    late = _disturb(prices, pd.Timestamp("2020-12-31"), "altered")
    stress = [build_panel(f, s, p, members).stress[inside] for f, s, p in ((first, a, prices), (second, b, late))]
    np.testing.assert_array_equal(*stress)


def test_later_dividends_and_splits_change_nothing():
    """A dividend rescales the whole past of adj_close; a split rescales close and volume inversely (SPEC 2)."""
    prices, members = random_prices(), universe()
    base = compute_features(prices, members).to_numpy()
    dividend = prices.assign(adj_close=prices["adj_close"] * 0.93)
    np.testing.assert_allclose(compute_features(dividend, members).to_numpy(), base, rtol=1e-4, atol=1e-4)
    split = prices.assign(**{c: prices[c] / 4 for c in ("open", "high", "low", "close", "adj_close")})
    split["volume"] *= 4
    np.testing.assert_allclose(compute_features(split, members).to_numpy(), base, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", MARKETS.values(), ids=MARKETS)
def test_a_constant_on_the_adj_close_of_one_stock_changes_nothing(make):
    """Its level is arbitrary, so neither its own features nor those of the others may see it (SPEC 15, test 2)."""
    prices, members = make(), universe()
    base = compute_features(prices, members)
    one = prices["ticker"] == "T001"
    again = compute_features(
        prices.assign(adj_close=prices["adj_close"].where(~one, prices["adj_close"] * 0.37)), members
    )
    np.testing.assert_array_equal(np.isnan(again.to_numpy()), np.isnan(base.to_numpy()))
    np.testing.assert_allclose(again.to_numpy(), base.to_numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(again["active"].to_numpy(), base["active"].to_numpy())


def test_lag_refuses_the_future():
    with pytest.raises(ValueError, match="look ahead"):
        lag(np.zeros((3, 1)), -1)


# --- edge cases in words ---------------------------------------------------------------------------------------------
def test_edge_cases_of_the_nasty_market():
    got = compute_features(nasty_prices(), universe())
    constant = got.sel(ticker="T000").to_numpy()[60:]
    zero_by_rule = ["jump", "ext_z", "kurt", "mdd", "cvar95", "upvol", "roll", "mkt_corr", "r2", "contagion", "rsi"]
    for name in [*zero_by_rule, "sup_res", "vp_div", "impact", "liq_prem"]:
        assert not constant[:, NAMES.index(name)].any(), name
    assert (got.sel(ticker="T004", feature="rsi").to_numpy()[20:] == 1).all()  # no losses
    assert not got.sel(ticker="T004", feature="kurt").to_numpy()[30:].any()  # one return, no variance
    assert np.isnan(got.sel(ticker="T001").to_numpy()[[40, 41, 77]]).all()  # no volume, no features
    assert np.isnan(got.sel(ticker="T007").to_numpy()[86:]).all()  # delisted
    assert np.isnan(got.sel(ticker="T003", feature="turnover").to_numpy()[35 : 35 + 60]).all()
    active = got["active"].to_numpy()
    assert not active[86:, 7].any() and active[85, 7]
    assert not active[30:58, 8].any() and not active[60, 2] and active[61, 2]
    first = int(np.argmax(active[:, 3]))
    assert 35 + 15 <= first <= 35 + 40 and not active[:35, 3].any()


def test_a_stock_is_active_on_15_of_20_rows_with_24_of_29_features(monkeypatch):
    """Against a loop, with features that are defined or not as drawn: 22 to 25 of 29 on each row, some rows missing."""
    days, n = 400, 5
    rng = np.random.default_rng(8)
    defined = rng.choice([22, 23, 24, 25], p=[0.1, 0.15, 0.4, 0.35], size=(days, n))
    defined[:, 0], defined[:, 1] = 23, 24
    stubs = [
        replace(f, compute=lambda w, k=k: np.where(k < defined, 1.0, np.nan))
        for k, f in enumerate(panel_module.features())
    ]
    monkeypatch.setattr(panel_module, "features", lambda: stubs)
    prices = random_prices(n, days)
    keep = (rng.random(len(prices)) > 0.03) | prices["ticker"].isin(["T000", "T001"])
    got = compute_features(prices[keep].reset_index(drop=True), universe(n))["active"].to_numpy()
    traded = keep.to_numpy().reshape(n, days).T
    valid = traded & (defined >= 24)
    rows = np.array([valid[max(0, t - 19) : t + 1].sum(axis=0) for t in range(days)])
    np.testing.assert_array_equal(got, traded & (rows >= 15))
    assert not got[:, 0].any() and got[14:, 1].all() and not got[:14, 1].any()
    assert all((traded[:, 2:] & (rows[:, 2:] == edge)).sum() > 50 for edge in (14, 15))  # the edge occurs


def test_kurtosis_of_one_outlier_is_at_most_twenty():
    """AUDIT A84: with n = 20 the bias-corrected value of one outlier among zeros is 20."""
    assert kurtosis([0.0] * 19 + [1.0], bias=False) == pytest.approx(20)


def test_gram_elimination_equals_least_squares():
    rng = np.random.default_rng(3)
    y, a, b, c = rng.normal(size=(4, 20, 2))
    got = rolling_r2(y, [a, b, c])
    for k in range(3):
        design = np.column_stack([np.ones(20), *(x[:, 0] for x in (a, b, c)[: k + 1])])
        rest = y[:, 0] - design @ np.linalg.lstsq(design, y[:, 0], rcond=None)[0]
        assert got[k][-1, 0] == pytest.approx(1 - rest.var() / y[:, 0].var(), abs=1e-12)
    assert rolling_r2(y, [a, 2 * a])[1] == pytest.approx(rolling_r2(y, [a])[0], abs=1e-12, nan_ok=True)


# --- spread estimators -----------------------------------------------------------------------------------------------
def test_spread_estimators_see_a_planted_spread():
    """Bid and ask quotes around a random walk, 200 trades a day: all three estimators grow with the spread.

    EDGE is nearly unbiased (its paper's point); the other two keep an upward bias from negative pairs set to 0.
    """
    days, means = 600, {}
    for half in (0.0025, 0.01):
        rng = np.random.default_rng(5)
        mid = np.exp(np.cumsum(0.01 / np.sqrt(200) * rng.standard_normal((days, 200)).ravel()).reshape(days, 200))
        trade = 50 * mid * np.exp(half * rng.choice([-1, 1], (days, 200)))
        prices = pd.DataFrame({"date": pd.bdate_range("2020-01-01", periods=days), "ticker": "T000"})
        prices["open"], prices["close"] = trade[:, 0], trade[:, -1]
        prices["high"], prices["low"] = trade.max(1), trade.min(1)
        prices["adj_close"], prices["volume"] = prices["close"], 1e6
        w = Inputs(prices, universe(1))
        means[half] = [np.nanmean(f(w)) for f in (liquidity.spread, liquidity.edge, liquidity.corwin_schultz)]
    narrow, wide = np.array(means[0.0025]), np.array(means[0.01])
    assert (wide > 2 * narrow * 0.7).all()
    assert wide[1] == pytest.approx(200, rel=0.1)  # 2 * 0.01 in basis points


def test_corwin_schultz_equals_the_authors_formula_by_hand():
    prices, members = random_prices(3, 40), universe(3)
    got = liquidity.corwin_schultz(Inputs(prices, members))
    one = prices[prices["ticker"] == "T001"].reset_index(drop=True)
    factor = one["adj_close"] / one["close"]
    high, low, close = one["high"] * factor, one["low"] * factor, one["adj_close"]
    pairs = []
    for j in range(1, 40):
        # the overnight gap is taken out of both logs
        gap = np.log(low[j] / close[j - 1]) if low[j] > close[j - 1] else 0.0
        gap = np.log(high[j] / close[j - 1]) if high[j] < close[j - 1] else gap
        up, down = high[j] * np.exp(-gap), low[j] * np.exp(-gap)
        b = np.log(high[j - 1] / low[j - 1]) ** 2 + np.log(up / down) ** 2
        g = np.log(max(high[j - 1], up) / min(low[j - 1], down)) ** 2
        k = 3 - 2 * np.sqrt(2)
        a = (np.sqrt(2 * b) - np.sqrt(b)) / k - np.sqrt(g / k)
        pairs.append(max(0.0, 2 * (np.exp(a) - 1) / (1 + np.exp(a))))
    assert got[39, 1] == pytest.approx(1e4 * np.mean(pairs[-20:]), rel=1e-9)


# --- scaling ---------------------------------------------------------------------------------------------------------
def test_scaling_rules():
    members = universe()
    got = compute_features(nasty_prices(days=200), members)
    train = np.zeros(200, bool)
    train[40:180] = True
    scaler = fit_scaler(got, train, members["sector"].to_numpy(object))
    x = scaler.transform(got)
    assert x.dtype == np.float32 and np.isfinite(x).all() and np.abs(x).max() <= 8
    assert not x[~got["active"].to_numpy()].any()
    binary = [NAMES.index(n) for n in ("jump", "reversal")]
    assert set(np.unique(x[..., binary])) <= {0.0, 4.0}
    assert (scaler.rule[0, NAMES.index("kurt")] == "constant") and not x[:, 0, NAMES.index("kurt")].any()
    late = list(members["ticker"]).index("T007")  # 46 training rows before its delisting
    assert set(scaler.rule[late]) <= {"sector", "binary", "constant"}
    own = got.to_numpy()[:, 9, NAMES.index("spread")].astype(float)
    own = own[train & got["active"].to_numpy()[:, 9]]
    middle = np.median(own)
    assert scaler.center[9, NAMES.index("spread")] == pytest.approx(middle)
    mad = 1.4826 * np.median(np.abs(own - middle))
    assert scaler.scale[9, NAMES.index("spread")] == pytest.approx(mad)


def test_scaler_needs_training_sessions():
    got = compute_features(random_prices(days=60), universe())
    with pytest.raises(ValueError, match="no training session"):
        fit_scaler(got, np.zeros(60, bool), universe()["sector"].to_numpy(object))


def test_the_name_of_the_session_index_does_not_matter():
    prices, members = random_prices(days=60), universe()
    named = pd.DatetimeIndex(np.unique(prices["date"].to_numpy()), name="date")
    assert compute_features(prices, members, named).identical(compute_features(prices, members))


def test_panel_shapes_and_benchmarks():
    prices, members = random_prices(days=80), universe()
    got = compute_features(prices, members)
    train = np.arange(80) >= 40
    bench = pd.DataFrame({"date": got["session"].to_numpy()[:70], "ticker": "^VIX", "close": 20.0})
    panel = build_panel(got, fit_scaler(got, train, members["sector"].to_numpy(object)), prices, members, bench)
    assert panel.x.shape == (80, 15, 29)
    assert list(panel.benchmarks.columns) == ["^VIX"] and panel.benchmarks["^VIX"].isna().sum() == 10
    assert np.isnan(panel.returns[0]).all() and np.isfinite(panel.returns[1:]).all()


# --- golden ---------------------------------------------------------------------------------------------------------
def test_numerics_is_raised_when_the_arithmetic_changes():
    """The run store trusts FEATURES_NUMERICS. To record anew: python -m tests.features.test_features."""
    recorded, now = json.loads(GOLDEN.read_text()), _golden()
    if recorded["numerics"] == now["numerics"]:
        for name, values in now["summary"].items():
            assert values == pytest.approx(recorded["summary"][name], rel=1e-4, abs=1e-7), (
                f"{name} moved: raise FEATURES_NUMERICS, then record the golden file"
            )
    else:
        pytest.fail("FEATURES_NUMERICS was raised: record the golden file")


GOLDEN = Path(__file__).parents[1] / "golden" / "features.json"


def _golden() -> dict:
    """Mean and SD of every raw feature and stress indicator, mean |x| of every scaled feature, on a fixed market."""
    prices, members = nasty_prices(days=200), universe()
    got = compute_features(prices, members)
    train = np.arange(200) >= 40
    scaler = fit_scaler(got, train, members["sector"].to_numpy(object))
    x, stress = scaler.transform(got), build_panel(got, scaler, prices, members).stress
    raw = got.to_numpy().astype(float)
    summary = {
        name: [float(np.nanmean(raw[..., k])), float(np.nanstd(raw[..., k])), float(np.abs(x[..., k]).mean())]
        for k, name in enumerate(NAMES)
    }
    for name, values in zip(STRESS_NAMES, stress.T, strict=True):
        summary[f"stress {name}"] = [float(np.nanmean(values)), float(np.nanstd(values))]
    return {"numerics": FEATURES_NUMERICS, "summary": summary}


# --- the real panel --------------------------------------------------------------------------------------------------
@pytest.mark.real_data
def test_real_panel_counts_match_the_specification(us100_folder):
    """SPEC 1, 3 and 15: split counts, active stock-days, missing and clipped shares, norms."""
    members = pd.read_csv(us100_folder / "universe.csv").query("in_us100").rename(columns={"gics_sector": "sector"})
    prices = pd.read_parquet(us100_folder / "prices.parquet")
    prices = prices[prices["ticker"].isin(members["ticker"])].reset_index(drop=True)
    got = compute_features(prices, members)
    sessions, active = pd.DatetimeIndex(got["session"].to_numpy()), got["active"].to_numpy()
    splits = Splits()
    masks = {name: getattr(splits, name)(sessions) for name in ("train", "val", "test")}
    assert [m.sum() for m in masks.values()] == [1219, 251, 502]
    assert [active[m].sum() for m in masks.values()] == [121_297, 25_100, 48_868]
    x = fit_scaler(got, masks["train"], members["sector"].to_numpy(object)).transform(got)
    rows = {name: x[m][active[m]] for name, m in masks.items()}
    missing = [np.isnan(got.to_numpy()[m][active[m]]).mean(0).max() for m in masks.values()]
    assert max(missing) <= 0.0003
    clipped = {name: (np.abs(r) >= 8).mean(0) for name, r in rows.items()}
    assert clipped["train"][NAMES.index("dcovar")] == pytest.approx(0.0211, abs=0.001)
    assert clipped["test"][NAMES.index("kurt")] == pytest.approx(0.0215, abs=0.001)
    some = [100 * (np.abs(r) >= 8).any(axis=1).mean() for r in rows.values()]
    assert some == pytest.approx([5.2, 2.0, 4.4], abs=0.1)
    days = np.logical_or.reduce(list(masks.values()))
    own = np.array([(np.abs(x[days & active[:, i], i]) >= 8).mean(axis=0) for i in range(len(members))])
    stock, column = np.unravel_index(own.argmax(), own.shape)
    assert (members["ticker"].iloc[stock], NAMES[column]) == ("FDX", "kurt")
    assert 100 * own.max() == pytest.approx(5.4, abs=0.1)
    binary = [NAMES.index(name) for name in ("jump", "reversal")]
    assert all(set(np.unique(r[:, binary])) == {0.0, 4.0} for r in rows.values())
    norms = [np.linalg.norm(r, axis=1).mean() for r in rows.values()]
    assert norms == pytest.approx([6.3, 6.9, 6.35], abs=0.06)
    banks = np.flatnonzero(members["ticker"].to_numpy() == "SIVB")[0]
    assert sessions[active[:, banks]][-1] == pd.Timestamp("2023-03-09")


@pytest.mark.real_data
@pytest.mark.parametrize("how", ["altered", "removed"])
@pytest.mark.parametrize("cut", ["2021-12-31", "2023-03-08"])  # the end of training, the eve of a failure
def test_real_panel_does_not_look_ahead(us100_folder, cut, how):
    """SPEC 15, test 2, on twelve stocks, three delisted: features, gaps, activity, scaling, stress up to the cut."""
    members = pd.read_csv(us100_folder / "universe.csv").rename(columns={"gics_sector": "sector"})
    keep = ["SIVB", "SBNY", "FRC", "JPM", "KEY", "ZION", "FDX", "IBM", "GME", "NEE", "DUK", "META"]
    members = members[members["ticker"].isin(keep)].reset_index(drop=True)
    prices = pd.read_parquet(us100_folder / "prices.parquet")
    prices = prices[prices["ticker"].isin(keep)].reset_index(drop=True)
    after = pd.Timestamp(cut)
    disturbed = _disturb(prices, after, how)
    whole, again = (compute_features(p, members) for p in (prices, disturbed))
    head, tail = slice(None, after), slice(after + pd.Timedelta(days=1), None)
    np.testing.assert_array_equal(again.sel(session=head).to_numpy(), whole.sel(session=head).to_numpy())
    np.testing.assert_array_equal(again["active"].sel(session=head), whole["active"].sel(session=head))
    sector = members["sector"].to_numpy(object)
    scaled, stress, n = [], [], whole.sel(session=head).sizes["session"]
    for raw, table in ((whole, prices), (again, disturbed)):
        train = Splits().train(pd.DatetimeIndex(raw["session"].to_numpy()))
        panel = build_panel(raw, fit_scaler(raw, train, sector), table, members)
        scaled.append(panel.x[:n])
        stress.append(panel.stress[:n])
    np.testing.assert_array_equal(*scaled)
    np.testing.assert_array_equal(*stress)
    if how == "altered":  # and the disturbance reaches every feature
        moved = np.abs(again.sel(session=tail).to_numpy() - whole.sel(session=tail).to_numpy())
        assert (np.nanmax(moved, axis=(0, 1)) > 1e-3).all()


@pytest.mark.real_data
def test_real_panel_equals_the_oracle_in_march_2023(us100_folder):
    members = pd.read_csv(us100_folder / "universe.csv").rename(columns={"gics_sector": "sector"})
    keep = ["SIVB", "SBNY", "FRC", "JPM", "KEY", "ZION", "CMA", "RF", "GME", "NEE", "DUK"]
    members = members[members["ticker"].isin(keep)].reset_index(drop=True)
    prices = pd.read_parquet(us100_folder / "prices.parquet").query("date >= '2022-01-01' and date < '2023-04-01'")
    prices = prices[prices["ticker"].isin(keep)].reset_index(drop=True)
    got = compute_features(prices, members)
    late = range(got.sizes["session"] - 20, got.sizes["session"])
    slow = Oracle(prices, members).table(late)
    for k, name in enumerate(NAMES):
        scale = np.nanmax(np.abs(slow[late, :, k])) or 1.0
        np.testing.assert_allclose(
            got.to_numpy()[late, :, k], slow[late, :, k], rtol=1e-5, atol=2e-6 * scale, err_msg=name
        )


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(_golden(), indent=1) + "\n")
