"""Planted anomalies: what they do to bars, what they leave alone, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.data import plants as p
from anomaly_routing.data.bars import Bars
from anomaly_routing.data.draw_plants import draw_plants
from anomaly_routing.data.simulate import simulate_market
from anomaly_routing.data.sources import from_frames

SPOT = {
    "shapes": "main",
    "strength": "medium",
    "onset": 500,
    "sessions": 4,
    "stocks": (0, 3),
    "delay": (0, 0),
    "seed": 5,
}


@pytest.fixture(scope="module")
def market():
    return simulate_market(seed=3, n_stocks=16, n_sessions=600, with_events=False)


@pytest.fixture(scope="module")
def bars(market) -> Bars:
    return Bars(market.prices, market.universe["ticker"].tolist(), pd.DatetimeIndex(np.unique(market.prices["date"])))


def returns(bars: Bars) -> np.ndarray:
    close = bars.columns["adj_close"]
    return np.diff(close, axis=0) / close[:-1]  # row t-1: session t


SHAPES = [(name, shapes) for name, kind in p.MECHANISMS.items() for shapes in kind.shape]


@pytest.mark.parametrize(("mechanism", "shapes"), SHAPES)
def test_only_the_planted_stock_days_move(bars, mechanism, shapes):
    """Returns, volumes and ranges of every other stock-day stay; a later price moves by one factor a stock."""
    plant = p.Plant(mechanism, **SPOT | {"shapes": shapes})
    new = p.alter(bars, [plant])
    span = np.zeros(bars.traded.shape, bool)
    span[plant.first : plant.last + 1, list(plant.stocks)] = True
    assert (new.columns["volume"] == bars.columns["volume"])[~span & bars.traded].all()
    for name in ("open", "high", "low", "close", "adj_close"):
        ratio = new.columns[name] / bars.columns[name]
        assert (ratio[: plant.first][bars.traded[: plant.first]] == 1).all()
        after = ratio[plant.last + 1 :]
        assert np.ptp(after[:, list(plant.stocks)], axis=0).max() < 1e-12
    untouched = [s for s in range(16) if s not in plant.stocks]
    assert all(
        np.array_equal(a[:, untouched], b[:, untouched], equal_nan=True)
        for a, b in zip(new.columns.values(), bars.columns.values(), strict=True)
    )
    assert any((a[span] != b[span]).any() for a, b in zip(new.columns.values(), bars.columns.values(), strict=True))


@pytest.mark.parametrize("mechanism", p.MECHANISMS)
def test_a_planted_market_passes_the_door(bars, market, mechanism):
    """low <= open, close <= high, positive, sorted: checked by the same door as any market."""
    table = p.alter(bars, [p.Plant(mechanism, **SPOT | {"strength": "strong"})]).table()
    table = table.sort_values(["ticker", "date"], ignore_index=True).astype({"ticker": "str"})
    sectors = sorted(set(market.universe["sector"]))
    assert len(from_frames(table, market.universe, market.benchmarks, sectors=sectors).prices) == len(market.prices)


def test_a_price_shock_is_six_standard_deviations_in_closed_form(bars):
    plant = p.Plant("price_shock", **SPOT)
    change = returns(p.alter(bars, [plant]))[499, [0, 3]] - returns(bars)[499, [0, 3]]
    sd = np.log1p(returns(bars)[479:499, [0, 3]]).std(0, ddof=1)
    assert np.allclose(np.abs(change), 6 * sd, rtol=1e-9)
    volume = p.alter(bars, [plant]).columns["volume"][500:504, 0] / bars.columns["volume"][500:504, 0]
    assert np.allclose(volume, 2.0)


def test_a_freeze_leaves_every_close_and_stretches_the_range(bars):
    plant = p.Plant("liquidity", **SPOT)
    new, old = p.alter(bars, [plant]).columns, bars.columns
    span = slice(500, 504), [0, 3]
    assert np.allclose(new["close"], old["close"], equal_nan=True, rtol=1e-12)
    assert np.allclose((new["high"] - new["low"])[span], 3 * (old["high"] - old["low"])[span])
    assert np.allclose(new["volume"][span], 0.2 * old["volume"][span])


def test_contagion_mixes_with_one_common_factor(bars):
    """r' = 0.2 r + 0.8 sd f: solved for f, it is the same for all stocks reached, and nothing before they are."""
    plant = p.Plant("contagion", **SPOT | {"stocks": (0, 1, 3), "delay": (0, 0, 2)})
    new, old, stocks = returns(p.alter(bars, [plant])), returns(bars), [0, 1, 3]
    sd = np.log1p(old[479:499, stocks]).std(0, ddof=1)
    factor = (new[499:503, stocks] - 0.2 * old[499:503, stocks]) / (0.8 * sd)
    assert np.allclose(factor[:, 0], factor[:, 1]) and np.allclose(factor[2:, 0], factor[2:, 2])
    assert np.array_equal(new[499:501, 3], old[499:501, 3])
    assert -4 < factor[:, 0].mean() < -1


def test_a_trend_turns_at_the_onset(bars):
    plant = p.Plant("momentum", **SPOT)
    extra = returns(p.alter(bars, [plant]))[479:503, 0] - returns(bars)[479:503, 0]
    assert len(set(np.sign(extra[:20]))) == 1 and (np.sign(extra[20:]) == -np.sign(extra[0])).all()
    assert np.allclose(np.abs(extra), np.abs(extra[0]))


def test_a_spike_is_taken_back_and_a_flat_line_is_flat(bars):
    new = p.alter(bars, [p.Plant("point", **SPOT | {"sessions": 2})]).columns["adj_close"]
    assert np.allclose(new[501:, 0], bars.columns["adj_close"][501:, 0], rtol=1e-9)
    flat = p.alter(bars, [p.Plant("collective", **SPOT)]).columns
    assert np.allclose(flat["adj_close"][499:504, 0], flat["adj_close"][499, 0])
    assert (flat["high"] == flat["low"])[500:504, 0].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"onset": 10}, "the panel has 0 to 599: move it inside"),
        ({"onset": 598}, "move it inside"),
        ({"stocks": (0, 16)}, "not different positions in 0 to 15"),
        ({"stocks": (0, 0)}, "not different positions"),
        ({"stocks": ()}, "not different positions"),
        ({"shapes": "third"}, "there are: price_shock"),
        ({"delay": (0, -1)}, "delays are .*one for each of 2 stocks, from 0 to 3"),
        ({"delay": (0, 4)}, "from 0 to 3"),
        ({"delay": (0,)}, "one for each of 2 stocks"),
        ({"delay": (0, 0, 0)}, "one for each of 2 stocks"),
        ({"mechanism": "point", "sessions": 1}, "lasts 1 session, its shape needs 2"),
        ({"mechanism": "point", "shapes": "fresh"}, "no plant 'point', 'fresh', 'medium'; there are: .*; main, twin;"),
        ({"onset": 500.5}, "onset is 500.5; give whole numbers"),
        ({"sessions": 4.0}, "sessions is 4.0; give whole numbers"),
        ({"stocks": (0, 3.5)}, "stocks is .* whole numbers"),
        ({"delay": (0, 0.5)}, "delay is .* whole numbers"),
        ({"stocks": 0}, "stocks is 0; give whole numbers, one for each stock"),
        ({"onset": (500,)}, "onset is .*; give whole numbers, one of them"),
        ({"delay": (0, True)}, "delay is .*True.*; give whole numbers"),
        ({"sessions": 40}, "lasts 40 sessions, plants last at most 5"),
        ({"seed": -1}, "seed is -1; give a number from 0 up"),
        ({"seed": 0.5}, "seed is 0.5; give whole numbers"),
    ],
)
def test_a_plant_that_cannot_be_is_refused(bars, change, message):
    with pytest.raises(p.PlantError, match=message):
        p.alter(bars, [p.Plant(**{"mechanism": "price_shock"} | SPOT | change)])


def test_a_plant_on_a_stock_that_does_not_trade_is_refused(bars):
    idle = int(np.flatnonzero(~bars.traded[490:510].all(0))[0])
    with pytest.raises(p.PlantError, match=f"{bars.tickers[idle]} did not trade"):
        p.alter(bars, [p.Plant("price_shock", **SPOT | {"stocks": (idle,), "delay": (0,)})])


def test_a_stock_without_a_price_or_without_a_move_is_refused(bars):
    hole, flat = bars.copy(), bars.copy()
    hole.columns["adj_close"][495, 3] = np.nan
    for name in ("open", "high", "low", "close", "adj_close"):
        flat.columns[name][479:500, 3] = flat.columns[name][479, 3]
    for altered, message in ((hole, "traded but lacks a price"), (flat, "did not move in 20 sessions before it")):
        assert altered.traded[495, 3]
        with pytest.raises(p.PlantError, match=f"{bars.tickers[3]} {message}"):
            p.alter(altered, [p.Plant("price_shock", **SPOT)])


def test_the_order_of_the_list_says_nothing(bars):
    """Two plants on the same stock, six sessions apart; the second is sized by the market without the first."""
    first = p.Plant("price_shock", **SPOT)
    second = replace(first, onset=510, seed=6)
    one, other = p.alter(bars, [first, second]), p.alter(bars, [second, first])
    assert all(np.array_equal(one.columns[k], other.columns[k], equal_nan=True) for k in one.columns)
    sd = np.log1p(returns(bars)[489:509, [0, 3]]).std(0, ddof=1)
    assert np.allclose(np.abs((returns(one) - returns(bars))[509, [0, 3]]), 6 * sd, rtol=1e-9)


def test_the_newer_shapes_do_what_their_arguments_say(bars):
    """An overshoot, closes to and fro, a panic with volume, a turn that fades: the set `fresh`, by hand."""
    spot, rows = SPOT | {"shapes": "fresh"}, [0, 3]
    sd = np.log1p(returns(bars)[479:499, rows]).std(0, ddof=1)
    old = returns(bars)[499:503, rows]

    def made(mechanism: str) -> tuple[Bars, np.ndarray]:
        new = p.alter(bars, [p.Plant(mechanism, **spot)])
        return new, (returns(new)[499:503, rows] - old) / sd

    _, jump = made("price_shock")
    assert np.allclose(jump[1] / jump[0], -0.35) and np.allclose(np.abs(jump[0]), 7) and np.allclose(jump[2:], 0)
    _, bounce = made("liquidity")
    assert np.allclose(bounce, np.array([[0], [0.5], [-0.5], [0.5]]), atol=1e-9)
    panic, _ = made("contagion")
    assert np.allclose((panic.columns["volume"] / bars.columns["volume"])[500:504, rows], 1.6)
    before = p.Plant("momentum", **spot).first
    assert before == 474
    near = np.log1p(returns(bars)[before - 21 : before - 1, rows]).std(0, ddof=1)
    turn = made("momentum")[1] * sd / near
    assert np.allclose(np.abs(turn), 3 * 0.6 ** np.arange(4)[:, None])


def test_overlapping_plants_are_refused_and_separate_ones_are_not(bars):
    first = p.Plant("price_shock", **SPOT)
    with pytest.raises(p.PlantError, match="overlap: plant them in two copies"):
        p.alter(bars, [first, replace(first, onset=503)])
    with pytest.raises(p.PlantError, match="overlap"):  # the trend before the turn counts
        p.alter(bars, [first, p.Plant("momentum", **SPOT | {"onset": 520})])
    p.alter(bars, [first, replace(first, onset=504)])


def test_a_plant_that_takes_a_price_to_zero_is_refused(bars, monkeypatch):
    huge = replace(
        p.MECHANISMS["price_shock"], shape={"main": {"sigmas": 500.0, "days": (1.0,), "volume": 1, "gap": 0}}
    )
    wide = replace(p.MECHANISMS["liquidity"], shape={"main": {"widen": 500.0, "volume": 0.2, "ramp": False}})
    monkeypatch.setitem(p.MECHANISMS, "price_shock", huge)
    monkeypatch.setitem(p.MECHANISMS, "liquidity", wide)
    with pytest.raises(p.PlantError, match="takes a price to zero or below"):
        p.alter(bars, [p.Plant("price_shock", **SPOT | {"stocks": (0, 1, 2, 3, 10, 11), "delay": (0,) * 6})])
    with pytest.raises(p.PlantError, match="takes a low to zero or below"):
        p.alter(bars, [p.Plant("liquidity", **SPOT)])


def test_a_plant_of_no_number_or_no_volume_is_refused(bars, monkeypatch):
    monkeypatch.setitem(p.STRENGTHS, "medium", np.nan)
    with pytest.raises(p.PlantError, match=r"price_shock plant of .* has a return .*that is no number: look at its"):
        p.alter(bars, [p.Plant("price_shock", **SPOT)])
    monkeypatch.setitem(p.STRENGTHS, "medium", -1.0)
    with pytest.raises(p.PlantError, match=r"strength .medium. is -1\.0: sizes are multiplied by it"):
        p.alter(bars, [p.Plant("price_shock", **SPOT)])
    monkeypatch.setitem(p.STRENGTHS, "medium", 1.0)
    dry = replace(p.MECHANISMS["liquidity"], shape={"main": {"widen": 2.0, "volume": 0.0, "ramp": False}})
    monkeypatch.setitem(p.MECHANISMS, "liquidity", dry)
    with pytest.raises(p.PlantError, match="takes a volume to zero or below"):
        p.alter(bars, [p.Plant("liquidity", **SPOT)])


@pytest.mark.parametrize("mechanism", p.MECHANISMS)
def test_drawn_plants_are_calm_repeatable_and_within_their_limits(bars, mechanism):
    calm = np.zeros(600, bool)
    calm[440:460] = calm[520:560] = True
    kind = p.MECHANISMS[mechanism]
    settings = {"mechanism": mechanism, "strength": "weak", "shapes": "twin", "calm": calm, "eligible": bars.traded}
    drawn = draw_plants(30, prior=np.ones((16, 16)), seed=9, **settings)
    assert drawn == draw_plants(30, prior=np.ones((16, 16)), seed=9, **settings)
    assert drawn != draw_plants(30, prior=np.ones((16, 16)), seed=10, **settings)
    for plant in drawn:
        assert calm[plant.onset : plant.last + 1].all()
        assert kind.sessions[0] <= plant.sessions <= kind.sessions[1]
        assert kind.stocks[0] <= len(plant.stocks) <= kind.stocks[1] and min(plant.delay) == 0
        assert max(plant.delay) < plant.sessions
        p.check(plant, bars)


def test_no_calm_session_and_too_few_stocks_are_refused(bars):
    settings = {"mechanism": "contagion", "strength": "weak", "shapes": "main", "prior": np.ones((16, 16)), "seed": 0}
    with pytest.raises(p.PlantError, match="calm sessions in a row"):
        draw_plants(1, calm=np.zeros(600, bool), eligible=bars.traded, **settings)
    few = bars.traded & (np.arange(16) < 4)
    with pytest.raises(p.PlantError, match="only 4 stocks trade"):
        draw_plants(1, calm=np.ones(600, bool), eligible=few, **settings)
