"""Alerts once each, through kills; and the command as a small desk would run it, on the committed simulated model."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from anomaly_routing import watch as command
from anomaly_routing.data.simulate import simulate_market
from anomaly_routing.errors import MarketDataError
from anomaly_routing.realtime.alerts import NOTE, AlertLog
from anomaly_routing.runs import read_run
from tests.conftest import ROOT

UNTIL, METHODS = "2022-05-06", ("zscore", "model")
ALL = ("zscore", "isolation_forest", "memstream", "model")


def alert(day: int, method: str = "model") -> dict:
    return {"session": f"2022-01-{day:02d}", "method": method, "level": 3}


def test_an_alert_is_written_once(tmp_path):
    log = AlertLog(tmp_path / "alerts.jsonl")
    assert log.append([alert(3), alert(4)]) == [alert(3), alert(4)]
    assert log.append([alert(4), alert(4, "zscore")]) == [alert(4, "zscore")]
    again = AlertLog(tmp_path / "alerts.jsonl")
    assert again.append([alert(3), alert(5)]) == [alert(5)]
    assert len((tmp_path / "alerts.jsonl").read_text().splitlines()) == 4


def test_a_line_that_was_cut_off_is_taken_out_and_a_foreign_one_refused(tmp_path):
    file = tmp_path / "alerts.jsonl"
    AlertLog(file).append([alert(3), alert(4)])
    file.write_bytes(file.read_bytes()[:-9])
    log = AlertLog(file)
    assert [json.loads(line) for line in file.read_text().splitlines()] == [alert(3)]
    assert log.append([alert(4)]) == [alert(4)]
    file.write_text("hello\n")
    with pytest.raises(MarketDataError, match=r"line 1: not an alert"):
        AlertLog(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The default market's prices as a folder that somebody brings."""
    path = tmp_path_factory.mktemp("desk")
    market = simulate_market(seed=0, n_stocks=32, n_sessions=1400)
    market.prices.to_parquet(path / "prices.parquet", index=False)
    market.universe.to_csv(path / "universe.csv", index=False)
    return path


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """One run without interruption: its reports and its alert file."""
    state = tmp_path_factory.mktemp("state")
    found = command.watch(folder, "simulated/intended", state, methods=METHODS, root=ROOT, until=UNTIL)
    return found, (state / command.ALERTS).read_text()


@pytest.fixture(scope="module")
def every_method(folder, tmp_path_factory):
    """The same with all four methods, for a shorter while."""
    state = tmp_path_factory.mktemp("every")
    found = command.watch(folder, "simulated/intended", state, methods=ALL, root=ROOT, until="2022-02-11", epochs=1)
    return found, (state / command.ALERTS).read_text()


def test_the_command_gives_the_stored_runs_figures(whole):
    """From raw prices through features, scaling, stress and network: the daily series that notebook 05 committed."""
    found, alerts = whole
    run = read_run(next((ROOT / "reports" / "simulated" / "runs" / "model").glob("intended--full--seed0--*.npz")))
    daily = run.daily.reindex([r.date for r in found])
    assert len(found) > 50 and daily["mpi"].notna().all()
    for column in ("mpi", "mean", "psi"):
        streamed = [getattr(r.verdicts["model"], column) for r in found]
        np.testing.assert_allclose(streamed, daily[column], atol=5e-5)  # stored with 16 significant bits
    assert [r.verdicts["model"].level for r in found] == daily["level"].astype(int).tolist()
    entries = [json.loads(line) for line in alerts.splitlines()]
    due = {(f"{r.date:%Y-%m-%d}", name) for r in found for name, v in r.verdicts.items() if v.alarm}
    assert due and {(e["session"], e["method"]) for e in entries} == due and len(entries) == len(due)
    assert all(e["note"] == NOTE and len(e["stocks"]) == 5 for e in entries)
    assert all(abs(sum(e["routing"].values()) - 1) < 0.01 for e in entries if e["method"] == "model")


@pytest.mark.parametrize("moment", ["before the alert", "between alert and state"])
def test_a_kill_neither_loses_nor_repeats_an_alert(folder, every_method, tmp_path, monkeypatch, moment):
    """All four methods; after the kill nothing is fitted again, and the scores are those of the run without one."""
    found, alerts = every_method
    first = json.loads(alerts.splitlines()[1])["session"]
    place = (command.AlertLog, "append") if moment == "before the alert" else (command.Monitor, "save")
    original = getattr(*place)

    def killed(self, *args):
        if self_date(self, args) == first and not fired:
            fired.append(True)
            raise KeyboardInterrupt
        return original(self, *args)

    def self_date(self, args):
        if moment == "before the alert":
            return args[0][0]["session"] if args[0] else ""
        return f"{self.state.last:%Y-%m-%d}"

    fired: list[bool] = []
    monkeypatch.setattr(*place, killed)
    settings = {"methods": ALL, "root": ROOT, "until": f"{found[-1].date:%Y-%m-%d}", "epochs": 1}
    with pytest.raises(KeyboardInterrupt):
        command.watch(folder, "simulated/intended", tmp_path, **settings)
    monkeypatch.setattr(command, "fit_methods", None)  # whoever fits again fails
    rest = command.watch(folder, "simulated/intended", tmp_path, **settings)
    assert rest[0].date == pd.Timestamp(first) and rest[-1].date == found[-1].date
    for report, whole in zip(rest, found[-len(rest) :], strict=True):
        for name in ALL:
            np.testing.assert_array_equal(report.verdicts[name].raw, whole.verdicts[name].raw)
    assert (tmp_path / command.ALERTS).read_text() == alerts
    assert command.watch(folder, "simulated/intended", tmp_path, **settings) == []  # nothing new: nothing happens
    assert (tmp_path / command.ALERTS).read_text() == alerts


def test_a_price_corrected_since_or_a_row_that_came_late_stops_the_command(folder, tmp_path):
    """Fifteen sessions before the last one taken in; alerts and state stay as they were."""
    desk, state = tmp_path / "desk", tmp_path / "state"
    desk.mkdir()
    prices = pd.read_parquet(folder / "prices.parquet")
    (desk / "universe.csv").write_bytes((folder / "universe.csv").read_bytes())
    days = pd.DatetimeIndex(np.sort(prices["date"].unique()))
    last = days.get_loc(pd.Timestamp("2022-02-04"))
    there = (prices["date"] == days[last - 15]) & (prices["ticker"] == prices["ticker"].iloc[0])
    assert there.sum() == 1
    settings = {"methods": ("zscore",), "root": ROOT}

    def run(table, until):
        table.to_parquet(desk / "prices.parquet", index=False)
        return command.watch(desk, "simulated/intended", state, until=until, **settings)

    assert len(run(prices[~there], "2022-02-04")) > 20
    kept = (state / command.STATE).read_bytes()
    with pytest.raises(MarketDataError, match=rf"{days[last - 15]:%Y-%m-%d}.*has come since"):
        run(prices, "2022-02-11")
    moved = prices[~there].copy()
    near = (moved["date"] == days[last - 14]) & (moved["ticker"] == prices["ticker"].iloc[0])
    moved.loc[near, ["close", "adj_close"] if "adj_close" in moved else ["close"]] *= 1.0004
    moved.loc[near, "high"] *= 1.01
    with pytest.raises(MarketDataError, match=rf"{days[last - 14]:%Y-%m-%d}.*late correction"):
        run(moved, "2022-02-11")
    assert (state / command.STATE).read_bytes() == kept
    assert len(run(prices[~there], "2022-02-11")) == 5


def test_a_state_without_its_fitted_parts_or_of_other_weights_is_refused(folder, tmp_path, monkeypatch):
    settings = {"methods": ("model",), "root": ROOT, "until": "2022-01-04"}
    command.watch(folder, "simulated/intended", tmp_path, **settings)
    with monkeypatch.context() as patched:
        original = command.load_checkpoint

        def retrained(path):
            net, info = original(path)
            next(net.parameters()).data.view(-1)[0] += 1e-3
            return net, info

        patched.setattr(command, "load_checkpoint", retrained)
        with pytest.raises(MarketDataError, match="weights are not those that the state was made with"):
            command.watch(folder, "simulated/intended", tmp_path, **settings)
    (tmp_path / command.FITTED).unlink()
    with pytest.raises(MarketDataError, match=r"no readable fitted parts.*start anew"):
        command.watch(folder, "simulated/intended", tmp_path, **settings)


def test_the_command_line(folder, tmp_path, capsys, monkeypatch):
    base = ["--prices", str(folder), "--state", str(tmp_path), "--methods", "zscore"]
    command.main([*base, "--model", "simulated/intended", "--until", "2022-01-05"])
    out = capsys.readouterr().out.splitlines()
    assert "not investment advice" in out[0] and [line[:10] for line in out[1:]] == [
        "2022-01-03",
        "2022-01-04",
        "2022-01-05",
    ]
    for wrong, word in (
        (["--model", "nowhere/intended"], "name a market"),
        (["--model", "simulated/xx"], "presets with weights: .*intended"),  # zscore needs none, yet it was mistyped
        (["--model", "simulated/intended", "--methods", "zscore,model"], "other methods"),
    ):
        with pytest.raises(SystemExit, match=word):
            command.main([*base, *wrong])
    capsys.readouterr()
    command.main([*base, "--model", "simulated/intended", "--methods", "zscore,zscore", "--until", "2022-01-06"])
    assert [line[:10] for line in capsys.readouterr().out.splitlines()[1:]] == ["2022-01-06"]  # the state is taken up
    with pytest.raises(SystemExit):
        command.main([*base, "--model", "simulated/intended", "--methods", ""])
    assert "--methods is empty; there are: zscore" in capsys.readouterr().err
    weights = ROOT / "reports" / "us100" / "checkpoints" / "literal.safetensors"
    monkeypatch.setattr(command, "checkpoint_of", lambda *_: weights)
    with pytest.raises(SystemExit, match="later sessions"):
        command.main(["--prices", str(folder), "--state", str(tmp_path / "b"), "--methods", "model",
                      "--model", "simulated/literal"])  # fmt: skip


def test_a_folder_that_lacks_the_history_is_refused(folder, tmp_path):
    short = tmp_path / "short"
    short.mkdir()
    prices = pd.read_parquet(folder / "prices.parquet")
    prices = prices[prices["date"] > "2021-06-01"]
    prices.to_parquet(short / "prices.parquet", index=False)
    members = pd.read_csv(folder / "universe.csv")
    members[members["ticker"].isin(prices["ticker"].unique())].to_csv(short / "universe.csv", index=False)
    with pytest.raises(MarketDataError, match="bring the whole history"):
        command.watch(short, "simulated/intended", tmp_path / "s", methods=("zscore",), root=ROOT)
