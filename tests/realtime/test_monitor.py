"""The monitor against the batch detectors, its saved state, and what it does with sessions that it must not take."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from anomaly_routing.errors import MarketDataError
from anomaly_routing.model.pressure_index import alert_levels
from anomaly_routing.realtime.prepare import METHODS, read_history
from anomaly_routing.realtime.sessions import Session, SessionRefused, replay
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


def test_a_revised_history_is_refused_and_a_split_followed(prepared):
    monitor = prepared.monitor()
    seen = prepared.market.prices[prepared.market.prices["date"] <= prepared.last]
    rows = seen.groupby("ticker", as_index=False).last()
    assert monitor.rebase(rows) == []
    revised = rows.copy()
    revised.loc[0, ["close", "adj_close"]] *= 1.02
    with pytest.raises(MarketDataError, match=r"has not moved inversely.*start anew"):
        monitor.rebase(revised)
    split = rows.copy()
    split.loc[0, ["close", "adj_close"]] /= 2
    split.loc[0, "volume"] *= 2
    name = rows["ticker"][0]
    assert monitor.rebase(split) == [f"{name}: past prices times 0.5"]
    i = prepared.panel.tickers.index(name)
    assert_allclose(monitor.state.close[i], rows["close"][0] / 2)


def test_the_benchmark_times_every_part(prepared):
    found = measure(prepared.monitor(), list(replay(prepared.market.prices, prepared.last)), 2)
    assert set(found["milliseconds"]) == {"checks", "29 features", *METHODS, "update, all of it"}
    assert found["sessions"] == 2 and all(0 < t["median"] <= t["p99"] for t in found["milliseconds"].values())
