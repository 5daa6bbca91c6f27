"""Features one session at a time against the batch code, on prices with everything that goes wrong in life."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.features.inputs import Inputs
from anomaly_routing.features.panel import build_panel, compute_features, fit_scaler
from anomaly_routing.features.streaming import Bar, FeatureState, FeatureStream
from tests.markets import nasty_prices, random_prices, universe

DAYS, STOCKS = 300, 15


class Batch:
    """All sessions at once: what the stream must give."""

    def __init__(self, prices: pd.DataFrame, members: pd.DataFrame) -> None:
        self.features = compute_features(prices, members)
        sector = members["sector"].to_numpy(object)
        scaler = fit_scaler(self.features, np.arange(len(self.features)) < 150, sector)
        self.panel = build_panel(self.features, scaler, prices, members)
        self.inputs = Inputs(prices, members, self.panel.sessions)
        self.stream = FeatureStream(self.inputs.sector, self.inputs.shares, scaler)

    def bar(self, t: int) -> Bar:
        return Bar(*(getattr(self.inputs, name)[t] for name in Bar._fields))

    def through(self, state: FeatureState, first: int, last: int) -> tuple[FeatureState, list]:
        rows = []
        for t in range(first, last):
            state, row = self.stream.advance(state, self.bar(t))
            rows.append(row)
        return state, rows


def shares(members: pd.DataFrame) -> pd.DataFrame:
    return members.assign(shares_outstanding=1e8)


@pytest.fixture(scope="module", params=["nasty", "random", "shares"])
def batch(request) -> Batch:
    members = universe(STOCKS)
    if request.param == "shares":
        return Batch(nasty_prices(STOCKS, DAYS), shares(members))
    return Batch((nasty_prices if request.param == "nasty" else random_prices)(STOCKS, DAYS), members)


def test_the_stream_equals_the_batch(batch):
    """From the very first session: the same raw features, the same missing ones, who is active, scaling, stress."""
    _, rows = batch.through(FeatureState.empty(STOCKS), 0, DAYS)
    for t, row in enumerate(rows):
        np.testing.assert_array_equal(row.raw, batch.features[t].to_numpy())
        np.testing.assert_array_equal(row.active, batch.panel.active[t])
        np.testing.assert_array_equal(row.x, batch.panel.x[t])
        np.testing.assert_allclose(row.stress, batch.panel.stress[t], rtol=1e-12)
        np.testing.assert_array_equal(row.returns, batch.panel.returns[t])
        np.testing.assert_array_equal(row.log_volume, batch.panel.log_volume[t])
    assert batch.panel.active[-1].sum() >= STOCKS - 2 and np.isfinite(rows[-1].stress).all()


def test_a_state_made_from_history_is_the_state_of_the_stream(batch):
    """FeatureState.after takes a short cut; also when the stock of a long halt comes back after it."""
    for cut in (45, 56, 200):
        streamed, _ = batch.through(FeatureState.empty(STOCKS), 0, cut)
        known = pd.DatetimeIndex(batch.panel.sessions[:cut])
        prices = batch.inputs
        head = Inputs.__new__(Inputs)
        head.sessions, head.tickers = known, prices.tickers
        for name in (*Bar._fields, "traded"):
            setattr(head, name, getattr(prices, name)[:cut])
        short = FeatureState.after(head, batch.features.to_numpy()[:cut], batch.panel.active[:cut])
        for name, values in streamed.arrays().items():
            np.testing.assert_array_equal(values, short.arrays()[name], err_msg=name)


def test_a_state_is_never_changed_in_place(batch):
    state, _ = batch.through(FeatureState.empty(STOCKS), 0, 100)
    before = {name: values.copy() for name, values in state.arrays().items()}
    for values in state.arrays().values():
        values.setflags(write=False)
    batch.stream.advance(state, batch.bar(100))
    for name, values in before.items():
        np.testing.assert_array_equal(values, state.arrays()[name])


def test_no_session_after_t_can_move_the_row_of_t():
    """The leak test of the stream: two futures, one past."""
    one, two = random_prices(STOCKS, DAYS), random_prices(STOCKS, DAYS)
    late = two["date"] > np.sort(two["date"].unique())[199]
    columns = ["open", "high", "low", "close", "adj_close", "volume"]
    two.loc[late, columns] = two.loc[late, columns] * 3
    a, b = Batch(one, universe(STOCKS)), Batch(two, universe(STOCKS))
    (_, first), (_, second) = (m.through(FeatureState.empty(STOCKS), 0, 201) for m in (a, b))
    for x, y in zip(first[:200], second[:200], strict=True):
        np.testing.assert_array_equal(x.raw, y.raw)
    assert not np.array_equal(first[200].raw, second[200].raw, equal_nan=True)


def test_a_dividend_and_a_split_in_mid_stream():
    """The source rescales the whole past: adj_close by one factor, close and volume by inverse ones."""
    cut, factor, split = 220, 0.97, 0.25
    old = random_prices(STOCKS, DAYS)
    new = old.copy()
    past = new["date"] <= np.sort(new["date"].unique())[cut - 1]
    paid, halved = past & (new["ticker"] == "T001"), past & (new["ticker"] == "T002")
    new.loc[paid, "adj_close"] *= factor
    for column in ("open", "high", "low", "close", "adj_close"):
        new.loc[halved, column] *= split
    new.loc[halved, "volume"] /= split
    a, b = Batch(old, universe(STOCKS)), Batch(new, universe(STOCKS))
    state, _ = a.through(FeatureState.empty(STOCKS), 0, cut)
    price, volume = np.ones(STOCKS), np.ones(STOCKS)
    price[1], price[2], volume[2] = factor, split, 1 / split
    _, rows = b.through(state.rebased(price, volume), cut, DAYS)
    for t, row in enumerate(rows, start=cut):
        np.testing.assert_allclose(row.raw, b.features[t].to_numpy(), rtol=1e-5, atol=1e-6)
    _, naive = b.through(state, cut, cut + 1)
    np.testing.assert_allclose(naive[0].returns[1] - rows[0].returns[1], np.log(factor), rtol=1e-6)  # what it prevents
