"""`python -m anomaly_routing.markets create`, what `make market` runs: its options, and how it refuses."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from anomaly_routing.data import yahoo
from anomaly_routing.data.simulate import simulate_market
from anomaly_routing.markets import main
from tests.conftest import ROOT

GONE, UNASKED = 2, 3  # members of the universe that Yahoo does not have, and that `listed` leaves out


@pytest.fixture(scope="module")
def market():
    return simulate_market(seed=1, n_stocks=14, n_sessions=520)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository without markets, and we are in it."""
    folder = tmp_path / "repository"
    (folder / "notebooks").mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def write(market, tmp_path):
    """write(".csv", prices=change, universe=change): the folder of a user, with a change made to its tables."""
    folder = tmp_path / "mine"
    folder.mkdir()

    def write(suffix=".parquet", **changes):
        for stem in ("prices", "universe"):
            frame = getattr(market, stem).copy()
            frame = changes[stem](frame) if stem in changes else frame
            if suffix == ".csv":
                frame.to_csv(folder / f"{stem}.csv", index=False, date_format="%Y-%m-%d")
            else:
                frame.to_parquet(folder / f"{stem}.parquet", index=False)
        return folder

    return write


def refusal(folder, *options) -> str:
    """What the command says to a folder that it does not take."""
    with pytest.raises(SystemExit) as stopped:
        main(["create", "--name", "mine", "--prices", str(folder), *options])
    assert isinstance(stopped.value.code, str)
    return stopped.value.code


def written(root) -> list[str]:
    return [str(path.relative_to(root)) for top in ("data", "markets") for path in (root / top).rglob("*")]


def cell(row, **values):
    """Set cells of one 1-based data row."""

    def change(frame):
        for column, value in values.items():
            frame.loc[row - 1, column] = value
        return frame

    return change


def a_saturday(frame):
    """The first stock's first Friday, which is row 4, becomes a Saturday."""
    assert frame["date"][3].day_name() == "Friday"
    return cell(4, date=frame["date"][3] + pd.Timedelta(days=1))(frame)


# what is broken: the table that is changed, how, where the message must point, words of the rule and of the remedy
REFUSED = {
    "missing column": ("prices", lambda f: f.drop(columns="volume"), "prices -", "missing column volume", "rename it"),
    "no dates": ("prices", lambda f: f.drop(columns="date"), "prices -", "missing column date", "rename it"),
    "duplicate": (
        "prices", lambda f: f.iloc[np.sort([*range(len(f)), 6])], "prices row 8 (", "stand in two rows", "keep one"),
    "unsorted": (
        "prices", lambda f: f.sort_values(["date", "ticker"]), "prices row 14 (", "are not sorted", "sort_values"),
    "negative price": ("prices", cell(5, low=-1.0), "prices row 5 (", "must be positive (low -1.0)", "correct the row"),
    "zero price": ("prices", cell(5, low=0.0), "prices row 5 (", "must be positive (low 0.0)", "correct the row"),
    "high below low": ("prices", cell(35, high=1.0), "prices row 35 (", "high is below low (high 1.0", "swapped"),
    "close above high": ("prices", cell(9, close=1e6), "prices row 9 (", "close lies outside [low, high]", "factor"),
    "close below low": ("prices", cell(9, close=0.1), "prices row 9 (", "close lies outside [low, high]", "factor"),
    "NaN": ("prices", cell(61, close=np.nan), "prices row 61 (", "empty (NaN)", "fill it from the source"),
    "off the calendar": ("prices", a_saturday, "prices row 4 (", "not a session of XNYS", "CALENDAR="),
    "far-away date": (
        "prices", cell(520, date=pd.Timestamp("2150-01-02")), "prices row 520 (2150", "no ticker has a row", "correct"),
    "no universe row": ("universe", lambda u: u[1:], "prices row 1 (", "has no row in", "add it to the universe"),
    "unknown sector": ("universe", cell(5, sector="Hydro"), "universe row 5 (", "unknown sector", 'SECTORS="A,B"'),
    "header only": ("prices", lambda f: f[:0], "prices -", "the file is empty: it has no data row", "export it again"),
    "empty universe": ("universe", lambda u: u[:0], "universe -", "the file is empty: it has no data row", "export it"),
}  # fmt: skip


def check(message, where, rule, remedy):
    """One line: file, row, rule, remedy."""
    assert "\n" not in message
    found = re.fullmatch(r"(?P<where>.+?: .+?): (?P<rule>.+)\. Remedy: (?P<remedy>.+)", message)
    assert where in found["where"] + ":" and rule in found["rule"] and remedy in found["remedy"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("case", REFUSED)
def test_bad_tables_are_refused_in_one_line(case, suffix, write, root):
    table, change, where, rule, remedy = REFUSED[case]
    file, row = where.split(" ", 1)
    check(refusal(write(suffix, **{table: change})), f"{file}{suffix}: {row}", rule, remedy)
    assert written(root) == []


def test_a_short_history_is_refused_in_one_line(write, root):
    folder = write(prices=lambda f: f[f["date"].rank(method="dense") <= 499])
    check(refusal(folder), "mine: -", "499 sessions are too few: at least 500", "bring a longer history")
    assert written(root) == []


def truncated(folder):
    path = folder / "prices.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def decimal_commas(folder):
    prices = pd.read_parquet(folder / "prices.parquet")
    (folder / "prices.parquet").unlink()
    prices.to_csv(folder / "prices.csv", index=False, sep=";", decimal=",")


def quoted_commas(folder):
    prices = pd.read_parquet(folder / "prices.parquet")
    (folder / "prices.parquet").unlink()
    prices.assign(close=prices["close"].map(lambda x: f"{x:.2f}".replace(".", ","))).to_csv(
        folder / "prices.csv", index=False
    )


BROKEN_FILES = {
    "no folder": (shutil.rmtree, "mine: -", "no such folder", "name a folder"),
    "a file, no folder": (
        lambda folder: (shutil.rmtree(folder), folder.write_text("x")), "mine: -", "not a folder", "name a folder"),
    "no prices": (
        lambda folder: (folder / "prices.parquet").unlink(), "mine: -", "no prices.parquet or", "put prices"),
    "no universe": (
        lambda folder: (folder / "universe.parquet").unlink(), "mine: -", "no universe.parquet", "put universe"),
    "two of a kind": (
        lambda folder: (folder / "prices.csv").write_text("x"), "mine: -", "both prices.parquet and", "keep one"),
    "no bytes": (
        lambda folder: (folder / "prices.parquet").write_bytes(b""), "prices.parquet: -", "has no bytes", "export"),
    "truncated": (truncated, "prices.parquet: -", "not a whole Parquet file", "cut short"),
    "decimal commas": (decimal_commas, "prices.csv: -", "not separated by commas", 'sep=";"'),
    "quoted commas": (quoted_commas, "prices.csv: row 1 (", "not a number", "decimal point"),
    "no events list": (
        lambda folder: (folder / "events.yaml").write_text("- A\n"), "events.yaml: -", "has keys other than", "write"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_bad_files_are_refused_in_one_line(case, write, root):
    change, where, rule, remedy = BROKEN_FILES[case]
    folder = write()
    change(folder)
    check(refusal(folder), where, rule, remedy)
    assert written(root) == []


@pytest.mark.parametrize(
    ("options", "where", "rule", "remedy"),
    [
        (["--calendar", "NEPSE"], "params: calendar", "no calendar 'NEPSE'", "CALENDAR="),
        (["--select", "mine"], "universe.parquet: -", "missing column mine", "add or rename"),
        (["--events", "nowhere.yaml"], "nowhere.yaml: -", "no such events file", "EVENTS="),
        (["--events", "sunday.yaml"], "sunday.yaml: A", "(Sunday) is not a session", "first session after it"),
        (["--events", "split.yaml"], "split.yaml: A", "lies in 'test'", "leave 'split' out"),
        (["--source", "yahoo"], "params: data.start, data.end", "start '', end ''", "START="),
        (["--source", "yahoo", "--start", "2020-02-01", "--end", "2020-01-01"], "params: data.start", "2020", "START="),
    ],
)
def test_bad_options_are_refused_in_one_line(options, where, rule, remedy, market, write, root):
    days = market.prices["date"].drop_duplicates().sort_values()
    sunday = days.iloc[300] + pd.Timedelta(days=6 - days.iloc[300].day_of_week)
    (root / "sunday.yaml").write_text(f"events: [{{id: A, date: {sunday:%Y-%m-%d}}}]")
    (root / "split.yaml").write_text(f"events: [{{id: A, date: {days.iloc[-20]:%Y-%m-%d}, split: val}}]")
    check(refusal(write(), *options), where, rule, remedy)
    assert written(root) == []


def test_a_parameter_file_that_cannot_be_read_is_named(write, root):
    folder = root / "markets" / "mine"
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text("market: [")
    check(refusal(write()), "params.yaml: -", "not valid YAML", "repair it")
    with pytest.raises(SystemExit, match="not valid YAML"):
        main(["cost", "--params", str(folder / "params.yaml")])
    assert written(root) == ["markets/mine", "markets/mine/params.yaml"]


def test_own_sectors_may_have_spaces_after_the_commas(write, root, capsys):
    folder = write(universe=lambda u: u.assign(sector=["Hydropower", "Commercial Banks"] * 7))
    main(["create", "--name", "mine", "--prices", str(folder), "--sectors", "Hydropower, Commercial Banks ,"])
    assert "market mine: 14 stocks, 520 sessions" in capsys.readouterr().out
    params = yaml.safe_load((root / "markets" / "mine" / "params.yaml").read_text())
    assert params["data"]["sectors"] == ["Hydropower", "Commercial Banks"]


def test_an_unadjusted_split_is_a_warning_with_the_row(write, root, capsys):
    def unadjusted(frame):
        frame.loc[:299, ["open", "high", "low", "close", "adj_close"]] *= 4
        return frame.assign(volume=frame["volume"].where(frame.index > 299, frame["volume"] / 4))

    main(["create", "--name", "mine", "--prices", str(write(prices=unadjusted))])
    [warning] = [line for line in capsys.readouterr().out.splitlines() if "split" in line]
    assert warning.startswith("warning: prices.parquet: row 301 (") and "a 4-for-1 split" in warning


# ---- every option at once, from the Makefile's recipe to the parameter file


def recipe() -> dict[str, str]:
    """Flag -> Make variable, for every flag that `make market` can hand over."""
    text = re.search(r"^market:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    command = re.search(r"markets create ((?:.*\\\n)*.*)", text)[1]
    flags = dict(re.findall(r'(--\w+) "\$\((\w+)\)"', command))
    assert len(flags) == command.count("--")
    return flags


@pytest.fixture
def answers(market, monkeypatch):
    """Yahoo, answered by the simulated market (the download itself is tested in tests/data/test_yahoo.py)."""
    asked = []
    names = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Adj Close": "adj_close"}

    def answer(ticker, start, end):
        asked.append((ticker, start, end))
        source = market.benchmarks if ticker in ("SPY", "^VIX") else market.prices
        rows = source[source["ticker"] == ticker].set_index("date")
        rows = pd.DataFrame({theirs: rows[ours].fillna(rows["close"]) for theirs, ours in names.items()} | {
            "Volume": rows["volume"].fillna(0)})  # fmt: skip
        return pd.DataFrame() if ticker == market.universe["ticker"][GONE] else rows

    monkeypatch.setattr(yahoo, "yahoo_history", answer)
    return asked


def test_every_flag_of_the_makefile_reaches_the_market(market, write, root, answers, capsys):
    days = market.prices["date"].drop_duplicates().sort_values()
    (root / "dates.yaml").write_text(f"events: [{{id: A, date: {days.iloc[400]:%Y-%m-%d}}}]")
    folder = write(universe=lambda u: u.assign(listed=u.index != UNASKED, sector="Hydropower"))
    (folder / "prices.parquet").unlink()  # the universe is enough
    values = {
        "NAME": "mine",
        "PRICES": str(folder),
        "CALENDAR": "from_data",
        "SELECT": "listed",
        "SOURCE": "yahoo",
        "START": f"{days.iloc[0]:%Y-%m-%d}",
        "END": f"{days.iloc[-1]:%Y-%m-%d}",
        "EVENTS": "dates.yaml",
        "SECTORS": "Hydropower, Coal",
    }
    flags = recipe()
    assert set(flags.values()) == set(values)
    command = ["create", *(word for flag, variable in flags.items() for word in (flag, values[variable]))]
    main(command)
    params = yaml.safe_load((root / "markets" / "mine" / "params.yaml").read_text())
    assert params["market"]["calendar"] == "from_data"
    assert params["data"] == {
        "source": "yahoo",
        "select": "listed",
        "sectors": ["Hydropower", "Coal"],
        "events": "dates.yaml",
        "start": values["START"],
        "end": values["END"],
    }
    pipeline = yaml.safe_load((root / "markets" / "mine" / "dvc.yaml").read_text())
    assert pipeline["stages"]["data"]["deps"][-2:] == ["data/raw/mine", "dates.yaml"]
    tickers = market.universe["ticker"]
    assert {ticker for ticker, *_ in answers} == {*tickers.drop(UNASKED), "SPY", "^VIX"}
    assert {answer[1:] for answer in answers} == {(values["START"], values["END"])}
    out = capsys.readouterr().out
    assert f"absent at Yahoo: {tickers[GONE]}" in out and "market mine: 12 stocks" in out
    count = len(answers)
    main(["create", "--name", "mine", "--prices", str(folder)])  # all is remembered, and answered from what was kept
    assert len(answers) == count
    assert yaml.safe_load((root / "markets" / "mine" / "params.yaml").read_text()) == params


def test_a_refused_market_of_yahoo_leaves_its_answers_and_nothing_else(market, write, root, answers):
    folder = write()
    span = ["--source", "yahoo", "--start", "2020-01-02", "--end", "2020-12-31", "--events", "nowhere.yaml"]
    assert "no such events file" in refusal(folder, *span)
    assert not (root / "markets").exists()
    [kept] = (root / "data" / "raw").iterdir()
    assert kept.name == "mine" and [path.name for path in kept.iterdir()] == ["yahoo"]
    count = len(answers)
    assert "no such events file" in refusal(folder, *span)
    assert len(answers) == count
    assert "unknown sector" in refusal(write(universe=lambda u: u.assign(sector="Coal")), *span)
    assert len(answers) == count
