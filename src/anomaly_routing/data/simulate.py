"""A simulated stock market with known events: factors, GARCH volatility, a bid-ask spread, volume, daily bars.

Everything made from it is synthetic. Its parameters were set so that the median stock of `stylised_facts` lies within
the 5th to 95th percentile of the real panel's stocks (``paper/stylised_facts.csv``), and by nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import exchange_calendars
import numpy as np
import pandas as pd

from anomaly_routing.data.prior_graph import prior_graph
from anomaly_routing.data.simulate_events import SESSIONS_PER_ROUND, Effects, Network, event_table, plant, schedule
from anomaly_routing.data.simulate_returns import autoregression, factor_model
from anomaly_routing.panel import Splits

START = "2018-01-02"
HISTORY, TRAIN, VAL = 0.09, 0.45, 0.18  # shares of the sessions; the rest is the test span
FEWEST_STOCKS, FEWEST_SESSIONS = 12, SESSIONS_PER_ROUND

SECTORS = {  # ticker prefix: name, what its stocks are called, share of the stocks
    "ENE": ("Energy", "energy company", 0.12),
    "FIN": ("Financials", "bank", 0.34),
    "HLT": ("Health Care", "health company", 0.15),
    "IND": ("Industrials", "manufacturer", 0.14),
    "TEC": ("Information Technology", "technology company", 0.25),
}
BANK_SHARE = 0.75  # of the financial stocks; the others are insurers
STATES = ("New York", "California", "Texas", "Illinois", "Massachusetts", "Ohio", "Georgia", "North Carolina")
STOCKS_PER_STATE = 5

OVERNIGHT = 0.25  # share of the daily variance between a close and the next open
STEPS = 26  # of the trading day, a quarter of an hour each


@dataclass(frozen=True)
class SimulatedMarket:
    """Prices, universe and benchmarks as any market has them, and the planted truth.

    prices : date, ticker, open, high, low, close, adj_close, volume; sorted by (ticker, date), unique.
    universe : ticker, name, sector, hq_state, is_bank; in the order of the tickers.
    benchmarks : the columns of prices. SPY and XLF: equal-weight total-return indices of all and of the financial
        stocks. ^VIX: `simulate_returns.model_vix`. Only close and adj_close are filled.
    events : see `simulate_events.event_table`; empty if there are none.
    planted : id, ticker, onset, direction (sign of its planted return): the session on which each stock is hit.
    """

    prices: pd.DataFrame
    universe: pd.DataFrame
    benchmarks: pd.DataFrame
    events: pd.DataFrame
    planted: pd.DataFrame


def simulated_sessions(n_sessions: int) -> pd.DatetimeIndex:
    """The first `n_sessions` sessions of the New York Stock Exchange from 2018-01-02."""
    end = pd.Timestamp(START) + pd.Timedelta(days=10 + int(1.5 * n_sessions))
    sessions = exchange_calendars.get_calendar("XNYS", start=START, end=end).sessions[:n_sessions]
    return pd.DatetimeIndex(sessions, name="date", freq=None).as_unit("ns")


def _cuts(n_sessions: int) -> tuple[int, int, int]:
    """Positions of the first session after the history, after the training and after the validation span."""
    first, train, val = np.rint(np.cumsum([HISTORY, TRAIN, VAL]) * n_sessions).astype(int)
    return first, train, val


def default_splits(n_sessions: int = 1400) -> Splits:
    """9% of the sessions are history, 45% training, 18% validation and 28% test, in this order.

    With 1,400 sessions: 126, 630, 252 and 392; training then ends with 2020 and validation with 2021.
    """
    sessions = simulated_sessions(n_sessions).strftime("%Y-%m-%d")
    first, train, val = _cuts(n_sessions)
    return Splits(sessions[first], sessions[train - 1], sessions[val - 1], sessions[-1])


def simulate_market(
    seed: int = 0, n_stocks: int = 32, n_sessions: int = 1400, with_events: bool = True
) -> SimulatedMarket:
    """Simulate daily bars of `n_stocks` stocks over `n_sessions` sessions from 2018-01-02.

    The return of a stock is drift + beta * market + loading * sector + state + own shock, each a GJR-GARCH(1,1)
    (Glosten, Jagannathan & Runkle 1993) with Student-t shocks; a two-state regime raises the long-run variances, the
    market's most, so that correlations rise in stress. Volume follows volatility and |return|. The spread widens with
    volatility; trades happen at bid or ask around an efficient price that walks through the day, in cents.

    The test span holds one event of each mechanism (`simulate_events.MECHANISMS`) for every 350 sessions of the market:
    4 of each, 16 in all, with 1,400. One technology stock is listed after 30% of the sessions, one bank stops trading
    after 60%, one manufacturer lacks single days; the latter two are never part of an event.

    with_events=False gives the twin market: the same random numbers without the events, hence the same prices before
    the first precursor. Adding stocks or sessions changes all prices. Raises ValueError for fewer than 12 stocks or
    350 sessions.
    """
    if n_stocks < FEWEST_STOCKS or n_sessions < FEWEST_SESSIONS:
        raise ValueError(
            f"{n_stocks} stocks and {n_sessions} sessions: a market needs {FEWEST_STOCKS} and {FEWEST_SESSIONS}"
        )
    names = ("returns", "events", "volume", "quotes", "paths", "life")
    streams = np.random.SeedSequence(seed).spawn(len(names))
    rng = {name: np.random.default_rng(stream) for name, stream in zip(names, streams, strict=True)}
    sessions, universe = simulated_sessions(n_sessions), simulated_universe(n_stocks)
    factors = factor_model(universe, n_sessions, rng["returns"])
    trades = _life(universe, n_sessions, rng["life"])
    tickers, sector = (universe[column].to_numpy(object) for column in ("ticker", "sector"))
    effects = Effects.none(trades.shape)
    first_test = _cuts(n_sessions)[2]
    rounds = n_sessions // SESSIONS_PER_ROUND if with_events else 0
    plan = schedule(first_test, n_sessions - 1, rounds, rng["events"])
    eligible = np.flatnonzero(trades[first_test:].all(axis=0))
    network = Network(prior_graph(universe).astype(bool), sector, eligible)
    undisturbed = factors.sigma(effects)
    planted = plant(effects, plan, network, undisturbed, rng["events"])
    returns, sigma = factors.returns(effects), factors.sigma(effects)
    heat = np.log(sigma / np.median(undisturbed, axis=0))
    bars = daily_bars(returns, sigma, _spread(heat, effects, rng["quotes"]), rng["paths"])
    bars["volume"] = _volume(np.abs(returns) / sigma, heat, effects, rng["volume"])
    prices = _price_table(bars, trades, sessions, universe)
    events = event_table(plan, planted, sessions, tickers, sector)
    return SimulatedMarket(
        prices=prices,
        universe=universe,
        benchmarks=_benchmarks(returns, trades, universe, factors.vix, sessions),
        events=events,
        planted=_planted_table(events["id"], planted, sessions, tickers),
    )


def simulated_universe(n_stocks: int) -> pd.DataFrame:
    """ticker, name, sector, hq_state, is_bank; sectors by `SECTORS`, states dealt out in turn across the sectors."""
    share = np.array([share for *_, share in SECTORS.values()])
    size = np.diff(np.rint(np.cumsum([0, *share]) * n_stocks).astype(int))
    width = max(2, len(str(size.max())))
    rows = []
    for (prefix, (sector, kind, _)), members in zip(SECTORS.items(), size, strict=True):
        for k in range(1, members + 1):
            bank = prefix == "FIN" and k <= np.ceil(BANK_SHARE * members)
            called = "insurer" if prefix == "FIN" and not bank else kind
            rows.append((f"{prefix}{k:0{width}d}", f"Simulated {called} {k}", sector, bank))
    universe = pd.DataFrame(rows, columns=["ticker", "name", "sector", "is_bank"])
    states = STATES[: int(np.clip(n_stocks // STOCKS_PER_STATE, 3, len(STATES)))]
    universe.insert(3, "hq_state", [states[i % len(states)] for i in range(n_stocks)])
    return universe


def _life(universe: pd.DataFrame, n_sessions: int, rng: np.random.Generator) -> np.ndarray:
    """Bool [session, stock]: which rows exist."""
    trades = np.ones((n_sessions, len(universe)), bool)
    prefix = universe["ticker"].str[:3].to_numpy(object)
    trades[: int(0.3 * n_sessions), np.flatnonzero(prefix == "TEC")[-1]] = False
    trades[int(0.6 * n_sessions) :, np.flatnonzero(universe["is_bank"])[-1]] = False
    missing = np.linspace(0.1, 0.9, 5) * n_sessions + rng.integers(-10, 11, 5)
    trades[missing.astype(int), np.flatnonzero(prefix == "IND")[-1]] = False
    return trades


def _volume(surprise: np.ndarray, heat: np.ndarray, effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """Shares a day: a level, slow moods of the market and of the stock, and a reaction to volatility and to |return|.

    surprise : |return| in conditional standard deviations; above six it counts as six.
    heat : ln of the conditional standard deviation over the stock's median.
    """
    s, n = heat.shape
    level = rng.uniform(np.log(1e6), np.log(3e7), n)
    mood = autoregression(0.95, 0.12, (s, 1), rng) + autoregression(0.7, 0.22, (s, n), rng)
    reaction = 0.5 * heat + 0.18 * np.minimum(surprise, 6.0)
    return np.maximum(np.rint(np.exp(level + mood + reaction + effects.volume)), 100.0)


def _spread(heat: np.ndarray, effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """Relative bid-ask spread: 5-18 basis points in usual times, wider with volatility, with a mood of its own."""
    usual = rng.uniform(np.log(5e-4), np.log(18e-4), heat.shape[1])
    return np.exp(usual + autoregression(0.9, 0.2, heat.shape, rng) + 0.8 * heat + effects.spread)


def daily_bars(
    returns: np.ndarray, sigma: np.ndarray, spread: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Open, high, low and close in cents, and the share of a price that dividends left (`kept`); [session, stock] each.

    returns : total log return from close to close. sigma : its conditional standard deviation. spread : relative
    bid-ask spread.

    The efficient log price jumps overnight and then runs to the day's close as a Brownian bridge, such that a Gaussian
    close-to-close return has the given variance and its overnight part the share OVERNIGHT of it. At each of the
    STEPS + 1 points a trade happens at bid or at ask with equal chance. Three stocks in five pay a dividend each
    quarter; on the ex-day the price drops by it, the total return does not.
    """
    s, n = returns.shape
    start = np.log(rng.uniform(25, 250, n))
    payout = np.zeros((s, n))
    for i in np.flatnonzero(rng.random(n) < 0.6):
        payout[rng.integers(0, 63) :: 63, i] = rng.uniform(0.01, 0.04) / 4
    before = start + np.cumsum(returns + np.log1p(-payout), axis=0) - returns  # last close, less the dividend
    time = np.arange(STEPS + 1) / STEPS
    bars = {name: np.empty((s, n)) for name in ("open", "high", "low", "close")}
    for i in range(n):  # stock by stock, to hold one array of sessions times steps at a time
        r, sd = returns[:, [i]], sigma[:, [i]]
        gap = OVERNIGHT * r + np.sqrt(OVERNIGHT * (1 - OVERNIGHT)) * sd * rng.standard_normal((s, 1))
        walk = np.zeros((s, STEPS + 1))
        walk[:, 1:] = np.cumsum(rng.standard_normal((s, STEPS)), axis=1) / np.sqrt(STEPS)
        bridge = np.sqrt(1 - OVERNIGHT) * sd * (walk - time * walk[:, [-1]])
        side = rng.choice([-0.5, 0.5], (s, STEPS + 1))
        log_price = before[:, [i]] + gap + time * (r - gap) + bridge + side * spread[:, [i]]
        trade = np.maximum(np.round(np.exp(log_price), 2), 0.01)
        bars["open"][:, i], bars["close"][:, i] = trade[:, 0], trade[:, -1]
        bars["high"][:, i], bars["low"][:, i] = trade.max(axis=1), trade.min(axis=1)
    paid = np.cumsum(np.log1p(-payout), axis=0)
    return bars | {"kept": np.exp(paid)}


def _price_table(
    bars: dict[str, np.ndarray], trades: np.ndarray, sessions: pd.DatetimeIndex, universe: pd.DataFrame
) -> pd.DataFrame:
    """The long table; adj_close equals close on the last row of each stock."""
    frames = []
    for i, ticker in enumerate(universe["ticker"]):
        rows = np.flatnonzero(trades[:, i])
        frame = pd.DataFrame({name: bars[name][rows, i] for name in ("open", "high", "low", "close")})
        kept = bars["kept"][rows, i]
        frame["adj_close"] = frame["close"] * (kept[-1] / kept)
        frame["volume"] = bars["volume"][rows, i]
        frame.insert(0, "ticker", ticker)
        frame.insert(0, "date", sessions[rows])
        frames.append(frame)
    return pd.concat(frames, ignore_index=True).astype({"ticker": "str"})


def _benchmarks(
    returns: np.ndarray, trades: np.ndarray, universe: pd.DataFrame, vix: np.ndarray, sessions: pd.DatetimeIndex
) -> pd.DataFrame:
    known = np.where(trades, returns, np.nan)
    financial = (universe["sector"] == "Financials").to_numpy()
    closes = {
        "SPY": 250 * np.exp(np.cumsum(np.nanmean(known, axis=1))),
        "XLF": 30 * np.exp(np.cumsum(np.nanmean(known[:, financial], axis=1))),
        "^VIX": vix,
    }
    empty = dict.fromkeys(("open", "high", "low", "volume"), np.nan)
    columns = ["date", "ticker", "open", "high", "low", "close", "adj_close", "volume"]
    frames = [
        pd.DataFrame({"date": sessions, "ticker": ticker, "close": close, "adj_close": close, **empty})[columns]
        for ticker, close in closes.items()
    ]
    return pd.concat(frames, ignore_index=True).astype({"ticker": "str"})


def _planted_table(
    ids: pd.Series, planted: list[pd.DataFrame], sessions: pd.DatetimeIndex, tickers: np.ndarray
) -> pd.DataFrame:
    rows = [
        (event, tickers[hit.stock], sessions[hit.onset], hit.direction)
        for event, hits in zip(ids, planted, strict=True)
        for hit in hits.itertuples()
    ]
    table = pd.DataFrame(rows, columns=["id", "ticker", "onset", "direction"])
    return table.astype({"id": "str", "ticker": "str", "onset": "datetime64[ns]", "direction": int})
