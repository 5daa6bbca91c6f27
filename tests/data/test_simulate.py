"""The simulated market: its contract, its statistics against closed forms, and the planted events in the raw data."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, signal, stats

from anomaly_routing.data.simulate import OVERNIGHT, SimulatedMarket, daily_bars, default_splits, simulate_market
from anomaly_routing.data.simulate_events import (
    AFTER,
    BEFORE,
    MECHANISMS,
    Effects,
    Mechanism,
    Network,
    plant,
    schedule,
)
from anomaly_routing.data.simulate_returns import (
    ENTER_STRESS,
    LEAVE_STRESS,
    MARKET,
    OWN,
    Volatility,
    gjr_garch,
    model_vix,
)
from anomaly_routing.data.sources import from_frames
from anomaly_routing.data.stylised_facts import percentile_table, stylised_facts
from anomaly_routing.evaluation.events import load_events, write_events
from anomaly_routing.panel import BURN_IN

UNIT = Volatility(annual=1.0, alpha=0.1, gamma=0.0, beta=0.6, freedom=8, stress=1.0)


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    return simulate_market(seed=0)


@pytest.fixture(scope="module")
def twin() -> SimulatedMarket:
    return simulate_market(seed=0, with_events=False)


@pytest.fixture(scope="module")
def sessions(market: SimulatedMarket) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(np.sort(market.prices["date"].unique()))


@pytest.fixture(scope="module")
def small() -> SimulatedMarket:
    return simulate_market(seed=5, n_stocks=12, n_sessions=500)


def wide(market: SimulatedMarket, column: str) -> pd.DataFrame:
    return market.prices.pivot_table(index="date", columns="ticker", values=column)


def log_returns(market: SimulatedMarket) -> pd.DataFrame:
    return np.log(wide(market, "adj_close")).diff()


def events_of(market: SimulatedMarket, mechanism: str) -> list:
    return list(market.events[market.events["mechanism"] == mechanism].itertuples())


def hits_of(market: SimulatedMarket, event: str) -> pd.DataFrame:
    return market.planted[market.planted["id"] == event]


def after(sessions: pd.DatetimeIndex, date: pd.Timestamp, k: int) -> pd.Timestamp:
    return sessions[sessions.get_loc(date) + k]


# --- the contract ---


@pytest.mark.parametrize("shape", [(32, 1400), (12, 350), (24, 1000)])
def test_it_passes_the_door_unchanged(shape):
    market = simulate_market(1, *shape)
    data = from_frames(market.prices, market.universe, market.benchmarks)
    pd.testing.assert_frame_equal(data.prices, market.prices)
    pd.testing.assert_frame_equal(data.universe, market.universe)
    pd.testing.assert_frame_equal(data.benchmarks, market.benchmarks)
    assert (market.prices["volume"] > 0).all()
    assert len(data.universe) == shape[0] and len(data.sessions) == shape[1]
    assert data.sessions[0] == pd.Timestamp("2018-01-02")
    assert market.universe["ticker"].is_monotonic_increasing


def test_prices_are_whole_cents(market):
    bars = market.prices[["open", "high", "low", "close"]].to_numpy()
    assert np.abs(bars - np.round(bars, 2)).max() == 0


def test_same_seed_same_market_other_seed_other_market(market):
    again, other = simulate_market(seed=0), simulate_market(seed=1)
    for name in ("prices", "universe", "benchmarks", "events", "planted"):
        pd.testing.assert_frame_equal(getattr(market, name), getattr(again, name))
    assert (other.prices["close"] != market.prices["close"]).mean() > 0.9


def test_universe_has_the_structure_of_a_market(market):
    universe = market.universe
    size = universe["sector"].value_counts()
    assert len(size) >= 4 and size.max() >= 8
    banks = universe[universe["is_bank"]]
    assert set(banks["sector"]) == {"Financials"} and 0 < len(banks) < size["Financials"]
    shared = universe.groupby("hq_state")["sector"].nunique()
    assert len(shared) >= 4 and (shared >= 2).all()  # states tie sectors together


def test_one_listing_one_delisting_one_gap(market, sessions):
    days = market.prices.groupby("ticker")["date"].agg(["min", "max", "size"])
    late, gone = days[days["min"] > sessions[0]], days[days["max"] < sessions[-1]]
    assert len(late) == 1 and len(gone) == 1
    assert sessions.get_loc(late["min"].iloc[0]) == 420 and sessions.get_loc(gone["max"].iloc[0]) == 839
    holed = days.drop(late.index.union(gone.index)).query(f"size < {len(sessions)}")
    assert len(holed) == 1
    rows = market.prices.loc[market.prices["ticker"] == holed.index[0], "date"]
    assert set(np.diff(sessions.get_indexer(rows))) == {1, 2}  # single days only
    assert not market.planted["ticker"].isin([*gone.index, *holed.index]).any()


def test_dividends_part_close_and_adj_close(market):
    ratio = (wide(market, "adj_close") / wide(market, "close")).ffill()
    payers = (ratio.iloc[0] < 0.999) | (ratio.min() < 0.999)
    assert 10 <= payers.sum() <= 28
    last = market.prices.groupby("ticker").tail(1)
    assert np.allclose(last["adj_close"], last["close"], rtol=1e-12)
    steps = np.log(ratio).diff()
    assert (steps.min() > -1e-9).all()  # the factor only rises
    paid = (steps > 1e-6).sum()[payers]
    assert paid.drop(paid.index[paid < 15]).between(20, 23).all()  # quarterly over 1,400 sessions
    drop = (np.log(wide(market, "close")).diff() - log_returns(market))[steps > 1e-6].stack().dropna()
    assert len(drop) > 200
    assert drop.between(-0.0101, -0.0024).all()  # 1% to 4% a year


def test_default_splits(sessions):
    splits = default_splits()
    assert (splits.first_session, splits.train_end, splits.val_end) == ("2018-07-03", "2020-12-31", "2021-12-31")
    masks = [splits.train(sessions), splits.val(sessions), splits.test(sessions)]
    assert [int(m.sum()) for m in masks] == [630 - BURN_IN, 252, 392]
    assert (np.sum(masks, axis=0) <= 1).all() and masks[2][-1]
    short = default_splits(500)
    assert short.test(sessions[:500]).sum() == 140 and short.train(sessions[:500]).sum() > 180


@pytest.mark.parametrize("shape", [(11, 1400), (32, 349), (0, 0), (-5, 1400)])
def test_nonsense_sizes_are_refused(shape):
    with pytest.raises(ValueError, match="12 and 350"):
        simulate_market(0, *shape)


# --- the stylised facts: the only thing the parameters were set by ---


@pytest.mark.parametrize("seed", [0, 1])
def test_median_stock_lies_within_the_real_panel(seed, root):
    real = pd.read_csv(root / "paper" / "stylised_facts.csv").set_index("fact")
    simulated = simulate_market(seed)
    median = percentile_table(stylised_facts(simulated.prices, simulated.universe))["p50"]
    assert len(median) == len(real) == 8
    outside = [name for name in real.index if not real.loc[name, "p05"] <= median[name] <= real.loc[name, "p95"]]
    assert not outside, median


def test_neighbours_move_together_more_than_strangers(twin):
    universe = twin.universe.set_index("ticker")
    correlation = log_returns(twin).corr().to_numpy()
    sector, state = (universe[c].to_numpy(object) for c in ("sector", "hq_state"))
    pair = np.triu(np.ones(correlation.shape, bool), 1)
    same_sector, same_state = sector[:, None] == sector, state[:, None] == state
    strangers = correlation[pair & ~same_sector & ~same_state].mean()
    assert correlation[pair & same_sector & ~same_state].mean() > strangers + 0.05
    assert correlation[pair & same_state & ~same_sector].mean() > strangers + 0.01


def bars_of(sd: float, spread: float) -> dict[str, pd.DataFrame]:
    """Log prices of 36 stocks over 1,000 sessions with constant volatility and spread; dividends added back."""
    rng = np.random.default_rng(6)
    returns = sd * rng.standard_normal((1000, 36))
    bars = daily_bars(returns, np.full_like(returns, sd), np.full_like(returns, spread), rng)
    kept = bars.pop("kept")
    return {name: np.log(pd.DataFrame(bar / kept)) for name, bar in bars.items()} | {"return": pd.DataFrame(returns)}


def test_a_brownian_day_without_spread():
    p = bars_of(sd=0.02, spread=0.0)
    assert np.abs(p["close"].diff()[1:] - p["return"][1:]).max(axis=None) < 5e-3  # cents
    overnight, daytime = p["open"] - p["close"].shift(), p["close"] - p["open"]
    assert overnight.var().mean() == pytest.approx(OVERNIGHT * 0.02**2, rel=0.03)
    assert daytime.var().mean() == pytest.approx((1 - OVERNIGHT) * 0.02**2, rel=0.03)
    assert abs(overnight.corrwith(daytime).mean()) < 0.02
    # Parkinson 1980: E (ln H/L)^2 = 4 ln 2 sd^2 for a path watched without pause; 27 looks see less
    seen = ((p["high"] - p["low"]) ** 2).mean().mean() / (4 * np.log(2) * (1 - OVERNIGHT) * 0.02**2)
    assert 0.75 < seen < 1.0


def test_the_spread_can_be_read_from_the_bars():
    p = bars_of(sd=0.002, spread=0.02)
    mid = (p["high"] + p["low"]) / 2
    squared = 4 * (p["close"] - mid) * (p["close"] - mid.shift(-1))  # Abdi & Ranaldo 2017, equation 6
    assert np.sqrt(squared.mean().mean()) == pytest.approx(0.02, rel=0.03)
    r = p["close"].diff()
    roll = 2 * np.sqrt(-(r * r.shift()).mean().mean())  # Roll 1984
    assert roll == pytest.approx(0.02, rel=0.03)


# --- GARCH against a scalar loop and closed forms ---


def test_gjr_garch_is_its_recursion():
    rng = np.random.default_rng(0)
    shocks, long_run = rng.standard_normal((60, 3)), rng.uniform(0.5, 2.0, (60, 1))
    returns, sigma = gjr_garch(shocks, long_run, OWN)
    for k in range(3):
        h = long_run[0, 0]
        for t in range(60):
            if t:
                bad = OWN.gamma if returns[t - 1, k] < 0 else 0.0
                h = (1 - OWN.alpha - OWN.gamma / 2 - OWN.beta) * long_run[t, 0] + OWN.beta * h
                h += (OWN.alpha + bad) * returns[t - 1, k] ** 2
            assert sigma[t, k] == pytest.approx(np.sqrt(h))
            assert returns[t, k] == pytest.approx(np.sqrt(h) * shocks[t, k])


def test_garch_moments_in_closed_form():
    """Gaussian GARCH(1,1): variance, kurtosis and the autocorrelation of squares (Bollerslev 1986)."""
    shocks = np.random.default_rng(1).standard_normal((3000, 300))
    r = gjr_garch(shocks, np.array([[2.0]]), UNIT)[0][200:]
    a, b = UNIT.alpha, UNIT.beta
    assert np.var(r) == pytest.approx(2.0, rel=0.01)
    kurtosis = 3 * (1 - (a + b) ** 2) / (1 - (a + b) ** 2 - 2 * a**2)
    assert stats.kurtosis(r, axis=None, fisher=False) == pytest.approx(kurtosis, rel=0.02)
    square = r**2 - (r**2).mean()
    first = a * (1 - a * b - b**2) / (1 - 2 * a * b - b**2)
    for k in (1, 2, 5):
        found = (square[k:] * square[:-k]).mean() / (square**2).mean()
        assert found == pytest.approx(first * (a + b) ** (k - 1), abs=0.006)


def test_leverage_keeps_the_long_run_variance():
    kind = replace(UNIT, gamma=0.2)
    r, sigma = gjr_garch(np.random.default_rng(2).standard_normal((3000, 300)), np.array([[1.0]]), kind)
    assert np.var(r[200:]) == pytest.approx(1.0, rel=0.015)
    fell = r[200:-1] < 0
    assert (sigma[201:][fell] ** 2).mean() > (sigma[201:][~fell] ** 2).mean() + 0.15  # gamma E[r^2 | r < 0] = 0.2


def test_garch_is_recovered_by_likelihood():
    r = gjr_garch(np.random.default_rng(3).standard_normal((20000, 1)), np.array([[1.0]]), UNIT)[0][:, 0]

    def loss(theta: np.ndarray) -> float:
        alpha, beta = theta
        drive = (1 - alpha - beta) + alpha * np.r_[1.0, r[:-1] ** 2]
        h = signal.lfilter([1.0], [1.0, -beta], drive, zi=[beta])[0]
        return float(np.mean(np.log(h) + r**2 / h))

    alpha, beta = optimize.minimize(loss, (0.05, 0.8), bounds=[(0.01, 0.4), (0.1, 0.95)], method="L-BFGS-B").x
    assert alpha == pytest.approx(0.1, abs=0.03) and beta == pytest.approx(0.6, abs=0.12)


@pytest.mark.parametrize("stressed_now", [False, True])
def test_model_vix_is_the_expected_variance_of_the_next_21_sessions(stressed_now):
    rng = np.random.default_rng(4)
    paths, last_return, last_sigma = 40_000, -0.02, 0.012
    stressed, r, h = np.full(paths, stressed_now), np.full(paths, last_return), np.full(paths, last_sigma**2)
    total = np.zeros(paths)
    for _ in range(21):
        u = rng.random(paths)
        stressed = np.where(stressed, u >= LEAVE_STRESS, u < ENTER_STRESS)
        long_run = MARKET.annual**2 / 252 * np.where(stressed, MARKET.stress, 1.0)
        h = (1 - MARKET.persistence) * long_run + (MARKET.alpha + MARKET.gamma * (r < 0)) * r**2 + MARKET.beta * h
        r = np.sqrt(h) * rng.standard_normal(paths)
        total += r**2
    simulated = 100 * np.sqrt(252 * total.mean() / 21)
    found = model_vix(np.array([last_return]), np.array([last_sigma]), np.array([stressed_now]))[0]
    assert found == pytest.approx(simulated, rel=0.01)


def test_model_vix_knows_only_the_past():
    rng = np.random.default_rng(5)
    r, sigma, stressed = 0.01 * rng.standard_normal(300), rng.uniform(0.005, 0.02, 300), rng.random(300) < 0.3
    for cut in (1, 120, 299):
        assert np.array_equal(model_vix(r, sigma, stressed)[:cut], model_vix(r[:cut], sigma[:cut], stressed[:cut]))


def test_benchmarks(market, twin):
    close = market.benchmarks.pivot_table(index="date", columns="ticker", values="close")
    assert set(close) == {"SPY", "XLF", "^VIX"} and close.notna().all().all()
    mean = log_returns(market).mean(axis=1)
    assert np.log(close["SPY"]).diff().corr(mean) > 0.99  # the index sees the efficient price, not the bounce
    financial = market.universe.loc[market.universe["sector"] == "Financials", "ticker"]
    assert np.log(close["XLF"]).diff().corr(log_returns(market)[financial].mean(axis=1)) > 0.99
    ahead = mean.pow(2).rolling(21).mean().shift(-21)
    assert np.log(ahead).corr(np.log(close["^VIX"])) > 0.3  # it forecasts
    calm = twin.benchmarks.pivot_table(index="date", columns="ticker", values="close")["^VIX"]
    assert np.array_equal(calm, close["^VIX"])  # the factor's volatility does not know the planted events


# --- the planted events ---


def test_four_events_of_each_mechanism_inside_the_test_span(market, sessions):
    events = market.events
    assert events["mechanism"].value_counts().to_dict() == dict.fromkeys(MECHANISMS, 4)
    position = sessions.get_indexer(events["date"])
    in_test = default_splits().test(sessions)
    assert (position >= 0).all() and all(in_test[p - BEFORE : p + AFTER + 1].sum() == 16 for p in position)
    assert (np.diff(position) >= BEFORE + AFTER + 1).all()  # windows do not overlap
    end = sessions.get_indexer(events["end"])
    assert (end > position).all() and (end - position <= AFTER).all()
    for event in events.itertuples():
        hits = hits_of(market, event.id)
        assert hits["ticker"].to_list() == event.tickers and len(set(event.tickers)) == len(event.tickers) >= 2
        assert hits["onset"].min() == event.date and hits["onset"].max() <= event.end
        assert event.exogenous != event.precursor and event.kind == event.mechanism
        assert all(event.date < turn <= event.end for turn in event.alternatives)
    by_mechanism = events.groupby("mechanism")
    assert (by_mechanism["precursor"].sum() == 2).all()
    assert (by_mechanism["strength"].nunique() == 4).all() and events["strength"].between(0.6, 1.4).all()


def test_fewer_events_in_a_shorter_market(small):
    assert small.events["mechanism"].value_counts().to_dict() == dict.fromkeys(MECHANISMS, 1)
    assert (small.events["strength"] == 1).all() and small.events["precursor"].sum() == 2
    longer = simulate_market(2, 12, 700)
    assert longer.events["mechanism"].value_counts().to_dict() == dict.fromkeys(MECHANISMS, 2)


def test_a_mechanism_is_one_entry_of_the_table(monkeypatch):
    halt = Mechanism(label="flash", group=MECHANISMS["liquidity"].group, volume=(1.0,))
    monkeypatch.setitem(MECHANISMS, "flash", halt)
    market = simulate_market(seed=5, n_stocks=12, n_sessions=500)
    assert (market.events["mechanism"] == "flash").sum() == 1 and len(market.events) == 5


def test_a_test_span_too_short_for_its_events_is_refused():
    with pytest.raises(ValueError, match="4 events need a test span of 64 sessions"):
        schedule(100, 162, 1, np.random.default_rng(0))
    assert len(schedule(100, 163, 1, np.random.default_rng(0))) == 4


def test_events_survive_the_event_file(market, twin, sessions, tmp_path):
    write_events(market.events, tmp_path / "events.yaml", calendar="XNYS")
    read = load_events(tmp_path / "events.yaml", sessions=sessions, splits=default_splits())
    assert set(read["split"]) == {"test"}
    pd.testing.assert_frame_equal(read[list(market.events)], market.events, check_dtype=False)
    write_events(twin.events, tmp_path / "none.yaml")
    assert len(load_events(tmp_path / "none.yaml", sessions=sessions)) == 0


def test_twin_is_the_same_market_until_the_first_precursor(market, twin, sessions):
    assert twin.events.empty and twin.planted.empty
    assert list(twin.events) == list(market.events)
    assert twin.prices[["date", "ticker"]].equals(market.prices[["date", "ticker"]])
    columns = ["open", "high", "low", "close", "volume"]
    differs = (twin.prices[columns] != market.prices[columns]).any(axis=1)
    first = market.events.iloc[0]
    begin = sessions.get_loc(market.prices.loc[differs, "date"].min())
    lead = sessions.get_loc(first["date"]) - begin
    assert 1 <= lead <= 4 if first["precursor"] else lead == 0
    before = market.prices["date"] < sessions[begin]
    assert (twin.prices.loc[before, "adj_close"] == market.prices.loc[before, "adj_close"]).all()


def test_precursors_are_where_the_flags_say(market, twin, sessions):
    """Outside [first precursor, end] of an event, volume is the twin's: a channel without memory."""
    changed = (wide(market, "volume") - wide(twin, "volume")).ne(0).where(wide(twin, "volume").notna(), False)
    changed = changed.any(axis=1).to_numpy()
    allowed = np.zeros(len(sessions), bool)
    for event in market.events.itertuples():
        onset, end = sessions.get_loc(event.date), sessions.get_loc(event.end)
        assert changed[onset : end + 1].all()
        lead = changed[onset - BEFORE : onset][::-1]
        lead = len(lead) if lead.all() else int(lead.argmin())
        assert 1 <= lead <= 4 if event.precursor else lead == 0, event
        allowed[onset - lead : end + 1] = True
    assert not changed[~allowed].any()


@pytest.mark.parametrize("lead", [0, 1, 3])
def test_a_shock_is_measured_in_the_volatility_known_on_its_eve(lead):
    """Every session and stock has a deviation of its own, so a return tells which one it was measured in."""
    n, onset, strength = 12, 20, 1.2
    sigma = 0.001 * (1 + np.arange(40))[:, None] * np.linspace(1, 1.01, n)
    network = Network(np.ones((n, n), bool), np.repeat("Energy", n), np.arange(n))
    plan = pd.DataFrame({"mechanism": ["price_shock"], "onset": onset, "strength": strength, "lead": lead})
    effects = Effects.none(sigma.shape)
    (hits,) = plant(effects, plan, network, sigma, np.random.default_rng(0))
    expected = np.zeros(sigma.shape)
    for hit in hits.itertuples():
        shock = strength * 6 * sigma[onset - 1 - lead, hit.stock] * hit.direction
        expected[onset, hit.stock] = shock
        expected[onset - lead : onset, hit.stock] = 0.4 * shock
    np.testing.assert_allclose(effects.returns, expected, rtol=1e-12)
    assert np.count_nonzero(expected) == len(hits) * (1 + lead)


def test_precursors_have_two_fifths_of_the_first_sessions_effect(market, twin, sessions):
    """Volume of a liquidity freeze moves with the plan alone; the unit of a shock cancels against its own event day."""
    volume = wide(market, "volume") / wide(twin, "volume")
    extra = log_returns(market) - log_returns(twin)
    warned = {name: [e for e in events_of(market, name) if e.precursor] for name in ("liquidity", "price_shock")}
    assert all(len(events) == 2 for events in warned.values())
    for event in warned["liquidity"]:
        eve, first = (volume.loc[after(sessions, event.date, k), event.tickers] for k in (-1, 0))
        assert np.allclose(first, np.exp(-1.0 * event.strength), rtol=1e-4)
        assert np.allclose(eve, np.exp(-0.4 * event.strength), rtol=1e-4)
    for event in warned["price_shock"]:
        eve, first = (extra.loc[after(sessions, event.date, k), event.tickers] for k in (-1, 0))
        assert np.allclose(eve / first, 0.4, atol=0.04), event  # the bounce blurs it


def test_price_shock_is_seen_in_returns_and_volume(market, sessions):
    r, volume = log_returns(market), wide(market, "volume")
    usual_sd, usual_volume = r.rolling(60).std().shift(1), volume.rolling(20).median().shift(1)
    for event in events_of(market, "price_shock"):
        z = r.loc[event.date, event.tickers] / usual_sd.loc[event.date, event.tickers]
        direction = hits_of(market, event.id).set_index("ticker")["direction"]
        assert (np.median(np.sign(z) * direction)) == 1
        assert np.median(np.abs(z)) > 2.5 * event.strength  # planted: 6 conditional deviations times strength
        spike = (volume / usual_volume).loc[event.date, event.tickers]
        assert spike.median() > 1.5
        assert 3 <= len(event.tickers) <= 6


def test_liquidity_freeze_moves_spread_and_volume_but_not_returns(market, twin, sessions):
    volume = wide(market, "volume")
    usual = volume.rolling(20).median().shift(1)
    high_low = {m: np.log(wide(m_, "high") / wide(m_, "low")) for m, m_ in (("on", market), ("off", twin))}
    size = {m: log_returns(m_).abs() for m, m_ in (("on", market), ("off", twin))}
    profile = np.array(MECHANISMS["liquidity"].volume)
    for event in events_of(market, "liquidity"):
        days = sessions[sessions.get_loc(event.date) :][: len(profile)]
        assert days[-1] == event.end
        assert len(set(market.universe.set_index("ticker").loc[event.tickers, "sector"])) == 1
        assert len(event.tickers) >= 3
        ratio = volume.loc[days, event.tickers] / wide(twin, "volume").loc[days, event.tickers]
        planted = np.exp(event.strength * profile)[:, None]
        assert np.abs(ratio.to_numpy() / planted - 1).max() < 0.15  # bounce in the return moves volume a little
        assert (volume / usual).loc[days[1:4], event.tickers].median(axis=None) < 0.75  # visible without the twin
        wider, louder = (
            table["on"].loc[days, event.tickers].mean(axis=None) / table["off"].loc[days, event.tickers].mean(axis=None)
            for table in (high_low, size)
        )
        assert wider > 1 + 0.1 * event.strength, event
        assert 0.8 < louder < 1.35 and louder < wider, event


def distances(universe: pd.DataFrame, seeds: list[str]) -> dict[str, int]:
    """Steps from the nearest seed over shared sectors and states, by breadth-first search."""
    where = universe.set_index("ticker")[["sector", "hq_state"]].to_dict("index")
    found, queue = dict.fromkeys(seeds, 0), deque(seeds)
    while queue:
        i = queue.popleft()
        for j, place in where.items():
            if j not in found and any(place[c] == where[i][c] for c in place):
                found[j] = found[i] + 1
                queue.append(j)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_contagion_follows_the_network(seed):
    market = simulate_market(seed)
    sessions = pd.DatetimeIndex(np.sort(market.prices["date"].unique()))
    where = market.universe.set_index("ticker")
    delays, steps = [], []
    for event in events_of(market, "contagion"):
        onset = hits_of(market, event.id).set_index("ticker")["onset"]
        delay = pd.Series(sessions.get_indexer(onset) - sessions.get_loc(event.date), onset.index)
        seeds = delay.index[delay == 0].to_list()
        assert 1 <= len(seeds) <= 2 and delay.max() == 4 and delay.is_monotonic_increasing
        for ticker in delay.index[delay > 0]:
            hit_before = where.loc[delay.index[delay < delay[ticker]]]
            same = (hit_before["sector"] == where.loc[ticker, "sector"]) | (
                hit_before["hq_state"] == where.loc[ticker, "hq_state"]
            )
            assert same.any(), (event.id, ticker)
        distance = pd.Series(distances(market.universe, seeds))[delay.index]
        assert (delay >= distance).all()
        delays += delay.to_list()
        steps += distance.to_list()
    assert stats.spearmanr(delays, steps).statistic > 0.3


def test_contagion_spreads_correlated_losses_day_by_day(market, twin, sessions):
    extra = log_returns(market) - log_returns(twin)
    sd = log_returns(twin).rolling(60).std().shift(1)
    first_days, pair_on, pair_off = [], [], []
    for event in events_of(market, "contagion"):
        onset = hits_of(market, event.id).set_index("ticker")["onset"]
        for ticker, day in onset.items():
            window = extra.loc[after(sessions, event.date, -BEFORE) : after(sessions, day, -1), ticker]
            if not event.precursor:
                assert np.abs(window).max() < 0.01  # the bounce, no more: nothing before a stock's own day
            first_days.append(extra.loc[day, ticker] / (event.strength * sd.loc[day, ticker]))
        days = sessions[sessions.get_loc(event.date) : sessions.get_loc(event.end) + 1]
        total = extra.loc[days, event.tickers].sum()
        assert total.mean() < 0 and (total < 0).mean() > 0.6, event
        for log, run in ((pair_on, market), (pair_off, twin)):
            r = log_returns(run)
            excess = r[event.tickers].sub(r.drop(columns=event.tickers).mean(axis=1), axis=0)  # over the rest
            c = excess.loc[days[1:]].corr().to_numpy()
            log.append(c[np.triu_indices(len(c), 1)].mean())
    assert -3.5 < np.mean(first_days) < -1.0  # planted: -2 and a shared shock
    assert np.mean(pair_on) > np.mean(pair_off) + 0.2


def test_momentum_builds_and_turns(market, twin, sessions):
    extra = log_returns(market) - log_returns(twin)
    sd = log_returns(twin).rolling(60).std().shift(1)
    for event in events_of(market, "momentum"):
        (turn,) = event.alternatives
        place = sessions.get_loc(event.date)
        assert sessions.get_loc(turn) == place + 7 and event.end == sessions[place + 9]
        direction = hits_of(market, event.id)["direction"].unique()
        assert len(direction) == 1
        unit = event.strength * sd.loc[event.date, event.tickers] * direction[0]
        build = (extra.loc[event.date : sessions[place + 6], event.tickers].sum() / unit).mean()
        turned = (extra.loc[turn : event.end, event.tickers].sum() / unit).mean()
        assert 4 < build < 20 and -14 < turned < -2.5  # planted: 9.8 and -6.6 conditional deviations
        whole = log_returns(market).loc[event.date : sessions[place + 6], event.tickers].mean(axis=1).sum()
        assert np.sign(whole) == direction[0]  # visible without the twin


def test_events_are_not_trivially_huge(market, sessions):
    """On most event days some stock without any event moves at least as far, in its own deviations."""
    r = log_returns(market)
    z = (r / r.rolling(60).std().shift(1)).abs()
    quiet = z.loc[default_splits().val_end :].max(axis=1)
    for name in ("contagion", "momentum", "liquidity"):
        largest = [z.loc[e.date, e.tickers].max() for e in events_of(market, name)]
        assert np.median(largest) < quiet.quantile(0.9), name
