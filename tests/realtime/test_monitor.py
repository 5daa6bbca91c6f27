"""The monitor against the batch detectors, its saved state, and what it does with sessions that it must not take."""

from __future__ import annotations

import itertools
import time
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from anomaly_routing.errors import MarketDataError
from anomaly_routing.model.pressure_index import alert_levels
from anomaly_routing.realtime.prepare import METHODS, read_history, start_monitor
from anomaly_routing.realtime.sessions import Session, SessionRefused, replay, usual_pauses
from anomaly_routing.train_baseline import generic_pressure
from benchmarks.realtime import measure

STEPS = 40


def stream(monitor, prepared, n=STEPS, skip=0):
    waiting = list(replay(prepared.market.prices, prepared.last))[skip : skip + n]
    return [monitor.update(session) for session in waiting]


def flat(state) -> dict[str, np.ndarray]:
    """Everything in a state, by name."""
    arrays = {"close": state.close, "adjusted": state.adjusted, **state.features.arrays()}
    arrays |= {f"{m}.{k}": v for m, own in state.methods.items() for k, v in own.items()}
    return {k: v.copy() for k, v in arrays.items()} | {"last": state.last, "taken": state.taken}


def assert_same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys() and a["last"] == b["last"] and a["taken"] == b["taken"]
    for name in a.keys() - {"last", "taken"}:
        assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def reports(prepared):
    return stream(prepared.monitor(), prepared)


@pytest.mark.parametrize("name", METHODS[:-1])
def test_streamed_scores_equal_the_batch_detector(prepared, reports, name):
    """`decision_function` on the whole panel, later sessions included, against one session at a time."""
    method, own = prepared.fitted[name]
    rows = prepared.panel.sessions.get_indexer([r.date for r in reports])
    batch = method.batch.decision_function(prepared.panel)[rows]
    assert_allclose([r.verdicts[name].raw for r in reports], batch, rtol=0, atol=1e-6)
    assert np.isfinite(batch).sum() > 10 * STEPS
    s = 1 / (1 + np.exp(-2 * (batch.astype(float) - own.mu) / (own.sigma + 1e-8)))
    assert_allclose([r.verdicts[name].score for r in reports], s, rtol=0, atol=1e-6)
    mpi = generic_pressure(s, np.isfinite(s), own.theta)
    assert_allclose([r.verdicts[name].mpi for r in reports], mpi, atol=1e-6)
    assert [r.verdicts[name].level for r in reports] == alert_levels(mpi, own.cuts).tolist()


def test_the_streamed_model_equals_the_batch_model(prepared, reports):
    """Score, routing, psi, MPI and its components, batches of 32 sessions against batches of one."""
    found, dates = prepared.found, pd.DatetimeIndex([r.date for r in reports])
    rows = pd.DatetimeIndex(prepared.panel.sessions[found.rows]).get_indexer(dates)
    verdicts = [r.verdicts["model"] for r in reports]
    for name, batch in {"score": found.score, "routing": found.routing, "psi": found.psi, "mpi": found.mpi,
                        "components": found.components, "raw": found.error}.items():  # fmt: skip
        assert_allclose([getattr(v, name) for v in verdicts], batch[rows], rtol=0, atol=1e-6, err_msg=name)
    assert [v.level for v in verdicts] == alert_levels(found.mpi, prepared.fitted["model"][1].cuts)[rows].tolist()


def test_a_saved_and_restored_state_makes_no_difference(prepared, reports, tmp_path):
    one = prepared.monitor()
    stream(one, prepared, 17)
    one.save(tmp_path / "state.npz")
    two = prepared.monitor()
    two.restore(tmp_path / "state.npz")
    assert_same(flat(one.state), flat(two.state))
    for a, b in zip(stream(two, prepared, STEPS - 17, skip=17), reports[17:], strict=True):
        assert a.date == b.date and a.flags == b.flags
        for name in METHODS:
            assert_array_equal(a.verdicts[name].raw, b.verdicts[name].raw)
            assert a.verdicts[name].mpi == b.verdicts[name].mpi or name == "model"


def test_a_later_start_is_the_same_stream(prepared, reports):
    """History up to a later session, prepared anew, stands where the stream stands."""
    late = read_history(prepared.market, prepared.splits, reports[19].date)
    monitor = prepared.monitor()
    stream(monitor, prepared, 20)
    for name, values in monitor.state.features.arrays().items():
        assert_allclose(values, late.features.arrays()[name], rtol=1e-12, err_msg=name)
    for name, (method, _) in prepared.fitted.items():
        for key, values in method.after(late.panel).items():
            assert_allclose(monitor.state.methods[name][key], values, atol=1e-6, err_msg=f"{name}.{key}")


def test_a_state_of_another_monitor_or_a_damaged_one_is_refused(prepared, tmp_path):
    monitor, file = prepared.monitor(), tmp_path / "state.npz"
    monitor.save(file)
    monitor.model = "another"
    with pytest.raises(MarketDataError, match=r"the state is of other model.*delete it"):
        monitor.restore(file)
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(MarketDataError, match="no readable state"):
        prepared.monitor().restore(file)


# --- sessions that must not be taken in ------------------------------------------------------------------------------
def change(session, ticker, **values):
    rows = session.rows.copy()
    for column, value in values.items():
        rows.loc[rows["ticker"] == ticker, column] = value
    return Session(session.date, rows)


def refusals(days):
    """kind, a word of the rule, the session."""
    now, later, before = days[10], days[12], days[8]
    rows, first = now.rows, now.rows["ticker"].iloc[0]
    price = float(rows["close"].iloc[0])
    return [
        ("repeated", "taken in before", days[9]),
        ("late", "before the last session", before),
        ("missing", "have not come", later),
        ("closed", "no session", Session(now.date + pd.Timedelta(days=(5 - now.date.weekday()) % 7), rows)),
        ("closed", "no stock has volume", Session(now.date, rows.assign(volume=0.0))),
        ("corrupt", "time of day|dated by its day", Session(now.date + pd.Timedelta(hours=16), rows)),
        ("corrupt", "dated by its day", Session(now.date.tz_localize("America/New_York"), rows)),
        ("corrupt", "session NaT: a session is dated", Session(pd.NaT, rows)),
        ("corrupt", "dated by its day", Session(f"{now.date:%Y-%m-%d}", rows)),
        ("corrupt", "column volume is missing", Session(now.date, rows.drop(columns="volume"))),
        ("corrupt", "not in the universe", Session(now.date, rows.replace({"ticker": {first: "ZZZ"}}))),
        ("corrupt", "two rows", Session(now.date, pd.concat([rows, rows.iloc[:1]]))),
        ("corrupt", "rows, where the session before", Session(now.date, rows.iloc[:4])),
        ("corrupt", "empty, infinite", change(now, first, close=np.nan)),
        ("corrupt", "empty, infinite", change(now, first, high=np.inf)),
        ("corrupt", "not positive", change(now, first, low=-1.0)),
        ("corrupt", "not positive", change(now, first, adj_close=0.0)),
        ("corrupt", "volume is negative", change(now, first, volume=-5.0)),
        ("corrupt", "high is below low", change(now, first, high=price / 2, low=price * 2)),
        ("corrupt", "open lies outside", change(now, first, open=price * 9)),
        ("corrupt", "close lies outside", change(now, first, close=price * 9, adj_close=price * 9)),
    ]


def test_bad_sessions_are_refused_and_leave_no_trace(prepared, reports):
    """Late, repeated, missing, closed and corrupt sessions: a reason each, the state untouched, the stream goes on."""
    monitor, days = prepared.monitor(), list(replay(prepared.market.prices, prepared.last))
    for session in days[:10]:
        monitor.update(session)
    before = flat(monitor.state)
    for kind, rule, session in refusals(days):
        with pytest.raises(SessionRefused, match=rule) as refused:
            monitor.update(session)
        assert refused.value.kind == kind, (kind, rule)
        assert "Remedy:" in str(refused.value)
        assert_same(before, flat(monitor.state))
    after = monitor.update(days[10])
    for name in METHODS:
        assert_array_equal(after.verdicts[name].raw, reports[10].verdicts[name].raw)


def test_a_failure_halfway_leaves_the_state(prepared, monkeypatch):
    monitor, days = prepared.monitor(), list(replay(prepared.market.prices, prepared.last))
    before = flat(monitor.state)

    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(prepared.fitted["model"][0]), "advance", broken)  # the last of the four
    with pytest.raises(RuntimeError):
        monitor.update(days[0])
    assert_same(before, flat(monitor.state))


def test_odd_sessions_are_taken_in_and_flagged(prepared):
    monitor, days = prepared.monitor(), list(replay(prepared.market.prices, prepared.last))
    a, b, c = days[0].rows["ticker"].iloc[:3]
    rows = days[0].rows[days[0].rows["ticker"] != a]
    odd = change(Session(days[0].date, rows), b, volume=0.0)
    for column in ("open", "high", "low", "close", "adj_close"):
        odd.rows.loc[odd.rows["ticker"] == c, column] /= 2
    flags = " | ".join(monitor.update(odd).flags)
    assert f"{a} has no row" in flags and f"{b} did not trade" in flags
    assert f"{c} closes at 0.5" in flags and "split" in flags
    assert not any(a in f for f in monitor.update(Session(days[1].date, days[1].rows)).flags)


def test_on_a_calendar_from_the_data_a_pause_is_flagged(prepared):
    monitor, days = prepared.monitor(calendar="from_data"), list(replay(prepared.market.prices, prepared.last))
    report = monitor.update(days[6])
    assert any("are sessions missing" in flag for flag in report.flags)


def test_one_missing_session_is_flagged_and_an_ordinary_week_is_not(prepared):
    monitor, days = prepared.monitor(calendar="from_data"), list(replay(prepared.market.prices, prepared.last))
    missing = next(k for k in range(2, 12) if days[k].date.weekday() == 3)  # the Thursday of a week without holidays
    week = [d for k, d in enumerate(days[: missing + 3]) if k != missing]
    flagged = {d.date: any("days since" in f for f in monitor.update(d).flags) for d in week}
    usual = {d.date: (d.date - before.date).days > (3 if d.date.weekday() == 0 else 1)
             for before, d in itertools.pairwise(week)}  # fmt: skip
    assert flagged[days[missing + 1].date] and {d: flagged[d] for d in usual} == usual
    assert not all(usual.values())


def test_usual_pauses_are_learnt_from_the_history():
    """Sunday to Thursday, with a holiday on one Tuesday."""
    days = pd.bdate_range("2024-01-01", periods=40) - pd.Timedelta(days=1)
    assert usual_pauses(days.delete(22)) == (1, 1, 1, 1, 5, 5, 3)


@pytest.mark.parametrize(("column", "factor"), [("high", 900.0), ("low", 0.001)])
def test_an_absurd_high_or_low_is_flagged(prepared, column, factor):
    monitor, days = prepared.monitor(), list(replay(prepared.market.prices, prepared.last))
    a = days[0].rows["ticker"].iloc[0]
    close = days[0].rows.set_index("ticker")["close"][a]
    flags = monitor.update(change(days[0], a, **{column: factor * close})).flags
    assert [f for f in flags if f"{a}: the {column} is" in f] and len(
        [f for f in flags if "times the close:" in f]
    ) == 1


@pytest.mark.parametrize("factor", [1e6, 1e-3])
def test_a_volume_in_other_units_is_flagged(prepared, factor):
    monitor, days = prepared.monitor(), list(replay(prepared.market.prices, prepared.last))
    a = days[0].rows["ticker"].iloc[0]
    volume = days[0].rows.set_index("ticker")["volume"][a]
    flags = [f for f in monitor.update(change(days[0], a, volume=factor * volume)).flags if "volume is" in f]
    assert len(flags) == 1 and flags[0].startswith(f"{a}: ") and "in other units?" in flags[0]
    assert not [f for f in monitor.update(days[1]).flags if "volume is" in f]  # one slip does not move the median


# --- what the source has changed since -------------------------------------------------------------------------------
PRICES = ["open", "high", "low", "close", "adj_close"]


def past(prepared) -> pd.DataFrame:
    """The source's rows up to the last session taken in."""
    return prepared.market.prices[prepared.market.prices["date"] <= prepared.last].reset_index(drop=True)


def at(seen: pd.DataFrame, back: int, ticker: str) -> pd.Series:
    """The row of a stock `back` sessions before the last."""
    day = np.sort(seen["date"].unique())[-1 - back]
    return (seen["date"] == day) & (seen["ticker"] == ticker)


def test_an_unchanged_past_is_no_news_and_a_split_or_dividend_is_followed(prepared):
    monitor, seen = prepared.monitor(), past(prepared)
    assert monitor.rebase(seen) == []
    a, b = prepared.panel.tickers[:2]
    moved = seen.copy()
    halved, paid = moved["ticker"] == a, moved["ticker"] == b
    moved.loc[halved, PRICES] /= 2
    moved.loc[halved, "volume"] *= 2
    moved.loc[paid, "adj_close"] *= 0.98
    assert monitor.rebase(moved) == [f"{a}: past prices times 0.5", f"{b}: past prices times 0.98"]
    assert_allclose(monitor.state.close[0], seen.loc[seen["ticker"] == a, "close"].iloc[-1] / 2)
    assert monitor.rebase(moved) == []  # once


def test_after_a_split_every_method_scores_as_if_there_had_been_none(prepared, reports):
    """Also the forest, whose trees were grown on volumes in the old shares."""
    monitor, seen, name = prepared.monitor(), past(prepared), prepared.panel.tickers[0]
    seen.loc[seen["ticker"] == name, PRICES] /= 3
    seen.loc[seen["ticker"] == name, "volume"] *= 3
    monitor.rebase(seen)
    for session, whole in zip(replay(prepared.market.prices, prepared.last), reports[:3], strict=False):
        own = session.rows["ticker"] == name
        rows = session.rows.astype(dict.fromkeys([*PRICES, "volume"], float))
        rows.loc[own, PRICES] /= 3
        rows.loc[own, "volume"] *= 3
        report = monitor.update(Session(session.date, rows))
        for method in METHODS:
            assert_allclose(report.verdicts[method].raw, whole.verdicts[method].raw, atol=2e-5, err_msg=method)


def corrected(seen, back, ticker, **factors):
    rows = seen.astype(dict.fromkeys([*PRICES, "volume"], float))
    for column, factor in factors.items():
        rows.loc[at(seen, back, ticker), column] *= factor
    return rows


@pytest.mark.parametrize("back", [0, 1, 15, 21])
@pytest.mark.parametrize("column", PRICES)
def test_a_price_corrected_late_is_refused_with_day_and_stock(prepared, back, column):
    """Of any of the 22 sessions that are kept; a close moves its adj_close along."""
    seen, name, monitor = past(prepared), prepared.panel.tickers[3], prepared.monitor()
    both = {"close": 1.02, "adj_close": 1.02} if column == "close" else {column: 1.02}
    before = flat(monitor.state)
    day = f"{np.sort(seen['date'].unique())[-1 - back].astype('datetime64[D]')}, {name}"
    with pytest.raises(MarketDataError, match=day) as refused:
        monitor.rebase(corrected(seen, back, name, **both))
    assert "start anew" in str(refused.value)
    assert_same(before, flat(monitor.state))


def test_a_row_that_comes_late_or_goes_is_refused(prepared):
    seen, name = past(prepared), prepared.panel.tickers[3]
    lacking = seen[~at(seen, 15, name)]
    with pytest.raises(MarketDataError, match=f"{name}.*is gone"):
        prepared.monitor().rebase(lacking)
    short = replace(prepared.market, prices=lacking)
    monitor = start_monitor(read_history(short, prepared.splits, prepared.last), prepared.fitted, "XNYS", "test")
    assert monitor.rebase(lacking) == []
    with pytest.raises(MarketDataError, match=f"{name}: a row that was not there has come since"):
        monitor.rebase(seen)


def test_only_what_a_dividend_or_split_does_counts_as_one(prepared):
    seen, name = past(prepared), prepared.panel.tickers[3]
    own = seen["ticker"] == name
    for factor in (1.02, 0.5):  # a payment from the stock to nobody, and one of half the price
        wrong = seen.copy()
        wrong.loc[own, "adj_close"] *= factor
        with pytest.raises(MarketDataError, match=f"{name}.*a dividend takes 0 to 39%"):
            prepared.monitor().rebase(wrong)
    wrong = seen.astype({"volume": float})
    wrong.loc[own, PRICES] /= 1000
    wrong.loc[own, "volume"] *= 1000
    with pytest.raises(MarketDataError, match="no split is 100 for one"):
        prepared.monitor().rebase(wrong)
    wrong.loc[own, "volume"] /= 1000
    with pytest.raises(MarketDataError, match=r"has not moved inversely.*start anew"):
        prepared.monitor().rebase(wrong)


def test_a_revised_volume_is_named_and_taken_as_it_was(prepared):
    seen, name, monitor = past(prepared), prepared.panel.tickers[3], prepared.monitor()
    before = flat(monitor.state)
    (said,) = monitor.rebase(corrected(seen, 15, name, volume=1.2))
    assert said.startswith(f"{name}: the volume of") and "scored as it was" in said
    assert monitor.rebase(corrected(seen, 15, name, volume=1.005)) == []
    assert_same(before, flat(monitor.state))


def test_a_state_knows_the_weights_trees_and_scaling_that_it_was_made_with(prepared, tmp_path):
    file = tmp_path / "state.npz"
    prepared.monitor().save(file)
    prepared.monitor().restore(file)
    again = {name: (deepcopy(method), own) for name, (method, own) in prepared.fitted.items()}
    same = start_monitor(prepared.history, again, "XNYS", "test")
    assert same.fitted == prepared.monitor().fitted
    same.restore(file)

    def moved(name):
        """One number of the frozen parts, in its last place or by a thousandth."""
        changed = {k: (deepcopy(method), own) for k, (method, own) in prepared.fitted.items()}
        method, own = changed[name]
        if name == "isolation_forest":
            method.batch.model_.estimators_[7].tree_.threshold[0] *= 1.001
        elif name == "zscore":
            changed[name] = method, replace(own, theta=own.theta + 1e-9)
        else:
            net = method.net if name == "model" else method.batch.net
            with torch.no_grad():
                next(net.parameters()).view(-1)[0] += 1e-3
        return start_monitor(prepared.history, changed, "XNYS", "test")

    for name in METHODS:
        with pytest.raises(MarketDataError, match="of other fitted parts"):
            moved(name).restore(file)
    scaler = prepared.history.stream.scaler
    stream = replace(prepared.history.stream, scaler=replace(scaler, center=scaler.center + 1e-6))
    with pytest.raises(MarketDataError, match="of other fitted parts"):
        replace(prepared.monitor(), stream=stream).restore(file)


def test_the_benchmark_times_every_part_inside_the_update(prepared, reports, monkeypatch):
    """A part that is made slow is slow, the whole with it, and no part takes longer than the whole."""
    waiting, slow = list(replay(prepared.market.prices, prepared.last)), 0.05
    method = type(prepared.fitted["zscore"][0])
    original = method.advance

    def late(self, state, row):
        time.sleep(slow)
        return original(self, state, row)

    monkeypatch.setattr(method, "advance", late)
    monitor = prepared.monitor()
    found = measure(monitor, waiting, 5)
    assert monitor.state.taken == 0  # what was handed over is not moved
    times = found["milliseconds"]
    assert set(times) == {"checks", "29 features", *METHODS, "update, all of it"} and found["sessions"] == 5
    assert 1000 * slow <= times["zscore"]["median"] < 1500 * slow
    for name, t in times.items():
        assert 0 < t["median"] <= t["p99"]
        assert all(t[q] <= times["update, all of it"][q] for q in ("median", "p99")), name
    with pytest.raises(ValueError, match=f"ask for {len(waiting) - 2} at most"):
        measure(prepared.monitor(), waiting, len(waiting))
