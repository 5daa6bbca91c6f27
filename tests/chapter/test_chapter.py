"""The chapter's case market, plants, metrics, public series: against scikit-learn, closed forms, made-up files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score

from anomaly_routing.baselines.classical.sequence_autoencoder import network
from anomaly_routing.chapter.case import (
    case_panel,
    circumstances,
    has_case,
    last_closure,
    load_case,
    longest_lived,
    training,
)
from anomaly_routing.chapter.planted import FLAT, KINDS, MARGIN, by_chance, equal_cut, found, plant
from anomaly_routing.chapter.public_board import archive_hits, judged_series, mean_board
from anomaly_routing.chapter.public_series import NAB, UCR, Labelled, as_panel, has_series, load_nab, load_ucr
from anomaly_routing.chapter.study import BESIDE, run_detectors
from anomaly_routing.errors import MarketDataError
from anomaly_routing.evaluation.classification import flags_against_labels, joined, window_recall
from anomaly_routing.panel import plain_panel


# --- metrics ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(5))
def test_precision_recall_f1_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels, flags = rng.random(200) < 0.1, rng.random(200) < 0.2
    ours = flags_against_labels(labels, flags)
    assert ours["precision"] == pytest.approx(precision_score(labels, flags))
    assert ours["recall"] == pytest.approx(recall_score(labels, flags))
    assert ours["f1"] == pytest.approx(f1_score(labels, flags))
    assert ours["precision"] <= ours["precision_bound"] and ours["prevalence"] == labels.mean()


def test_a_confusion_matrix_by_hand_and_its_edges():
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    flags = np.array([1, 0, 0, 1, 0, 0, 0, 0], bool)  # one hit, one false alarm, two missed
    assert flags_against_labels(labels, flags)["precision"] == 1 / 2
    assert flags_against_labels(labels, flags)["recall"] == 1 / 3
    assert flags_against_labels(labels, flags)["f1"] == pytest.approx(2 / 5)
    none = flags_against_labels(labels, np.zeros(8, bool))
    assert np.isnan(none["precision"]) and none["recall"] == 0 and none["f1"] == 0
    assert np.isnan(flags_against_labels(np.zeros(8, bool), flags)["recall"])
    with pytest.raises(ValueError, match="join them on their dates"):
        flags_against_labels(labels, flags[:-1])


def test_flags_at_random_have_the_prevalence_as_precision():
    rng = np.random.default_rng(0)
    labels = rng.random(400_000) < 0.02
    for share in (0.01, 0.3):
        assert flags_against_labels(labels, rng.random(400_000) < share)["precision"] == pytest.approx(0.02, abs=0.006)


def test_labels_and_flags_are_joined_on_dates():
    """D08: n labels, n - 1 predictions; and a date that stands twice is refused."""
    days = pd.bdate_range("2020-01-01", periods=5)
    labels = pd.Series([True, False, True, False, False], index=days)
    both = joined(labels, pd.Series([True, True, False, False], index=days[1:]))
    assert both.index.equals(days[1:]) and both["label"].tolist() == [False, True, False, False]
    with pytest.raises(ValueError, match="stands twice"):
        joined(labels, pd.Series([True, True], index=[days[0], days[0]]))


def test_a_window_counts_once():
    flags = np.zeros(20, bool)
    flags[[3, 4, 15]] = True
    assert window_recall([(2, 5), (8, 10), (15, 15)], flags) == pytest.approx(2 / 3)
    assert np.isnan(window_recall([], flags))


# --- the case market -------------------------------------------------------------------------------------------------
def rows(n: int = 120, tickers: tuple[str, ...] = ("AAA", "BBB", "CCC")) -> pd.DataFrame:
    """A Sunday-to-Thursday market."""
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2020-01-06", periods=n) - pd.Timedelta(days=1)
    return pd.concat(
        pd.DataFrame({
            "date": days, "ticker": t, "close": 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(n))),
            "volume": np.round(np.exp(9 + 0.5 * rng.standard_normal(n))), "ohlc_ok": True,
        }) for t in tickers
    ).reset_index(drop=True)  # fmt: skip


def write(folder, table):
    folder.mkdir(exist_ok=True)
    table.to_parquet(folder / "prices.parquet", index=False)
    return folder


def test_the_case_market_is_read_on_its_own_calendar(tmp_path):
    table = rows()
    table = table.drop(index=table.index[(table.ticker == "BBB")][50])  # a day without a row
    table.loc[table.index[(table.ticker == "CCC")][60], "volume"] = 0.0  # and one without trade
    stray = pd.DataFrame(
        {"date": [pd.Timestamp("2020-02-07")], "ticker": ["AAA"], "close": [99.0], "volume": [5.0], "ohlc_ok": [True]}
    )
    panel = case_panel(load_case(write(tmp_path / "n", pd.concat([table, stray]))))
    assert set(panel.sessions.day_name()) == {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday"}
    assert len(panel.sessions) == 120 and panel.active.sum() == 3 * 119 - 2
    own = table[table.ticker == "BBB"].set_index("date")["close"]
    expected = np.log(own).diff()
    np.testing.assert_allclose(panel.returns[panel.active[:, 1], 1], expected.dropna(), rtol=1e-10)
    assert not panel.active[60, 2] and np.isnan(panel.log_volume[60, 2])
    assert training(panel).sum() == 72


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda t: t.drop(columns="volume"), "volume"),
        (lambda t: t.assign(close=t["close"].where(t.index != 7)), "empty"),
        (lambda t: t.assign(close=t["close"].where(t.index != 7, 0.0)), "not positive"),
        (lambda t: t.assign(volume=t["volume"].where(t.index != 7, -1.0)), "negative"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "two rows"),
    ],
)
def test_a_bad_case_file_is_refused(tmp_path, change, rule):
    with pytest.raises(MarketDataError, match=rule):
        load_case(write(tmp_path / "n", change(rows())))


def test_without_a_folder_there_is_no_case(tmp_path):
    assert not has_case("") and has_case(write(tmp_path / "n", rows()))
    assert not has_case(tmp_path / "data" / "raw" / "nepse")  # nothing was brought
    for mistyped in (tmp_path, tmp_path / "data" / "raw" / "nespe"):
        with pytest.raises(MarketDataError, match=r"no prices.parquet here.*leave `nepse` empty"):
            has_case(mistyped)
    with pytest.raises(ValueError, match="no stock 'NABLI' in this market; there are: AAA, BBB, CCC"):
        longest_lived(case_panel(rows()), 2, "NABLI")
    assert not has_series("") and not has_series(tmp_path)


def test_circumstances_of_flagged_days():
    panel = case_panel(rows())
    panel.log_volume[:], panel.returns[:] = 9 + 0.1 * np.cos(np.arange(360)).reshape(120, 3), 0.01
    panel.returns[::2] *= -1
    flags = np.zeros(panel.active.shape, bool)
    panel.log_volume[20, 0] = 5.0
    panel.log_volume[30] = panel.log_volume[41, 1] = panel.log_volume[52, 2] = 15.0
    panel.returns[41, 1] = 0.2
    flags[20, 0] = flags[41, 1] = flags[52, 2] = flags[30] = True
    found_ = circumstances(panel, flags).set_index(["date", "ticker"])["circumstance"]
    wanted = {(20, 0): "low volume", (30, 1): "market-wide", (41, 1): "market-wide", (52, 2): "market-wide"}
    assert {k: found_[panel.sessions[k[0]], panel.tickers[k[1]]] for k in wanted} == wanted  # one of three is a third
    wide = circumstances(case_panel(rows(tickers=tuple("ABCDEFG"))), np.eye(120, 7, -3, dtype=bool))
    assert wide["times usual"].isna().all()  # in the first twenty sessions nothing is usual yet
    assert set(wide["circumstance"]) <= {"low volume", "volume alone", "price move"}


def test_low_volume_is_low_against_the_usual_not_against_all_years():
    """The level doubles twice over; a burst in the quiet years is no day of low volume, a lull in the busy ones is."""
    panel = plain_panel(0.01 * np.random.default_rng(0).standard_normal((400, 4)), np.full((400, 4), 8.0))
    panel.log_volume[200:] = 11.0
    panel.log_volume[:, 0] += 0.1 * np.cos(np.arange(400))
    panel.log_volume[100, 0], panel.log_volume[350, 0] = 9.0, 10.5  # the median of all time lies between 8 and 11
    flags = np.zeros((400, 4), bool)
    flags[[100, 350], 0] = True
    days = circumstances(panel, flags, np.zeros(400)).set_index("date")
    burst, lull = (days.loc[panel.sessions[t]] for t in (100, 350))
    assert burst["below median"] and burst["circumstance"] == "volume alone"
    assert burst["times usual"] == pytest.approx(np.exp(9 - np.median(panel.log_volume[40:100, 0])))
    assert lull["circumstance"] == "low volume" and lull["times usual"] == pytest.approx(np.exp(-0.5), rel=0.1)
    later = replace(panel, log_volume=panel.log_volume + 3.0 * (np.arange(400) > 100)[:, None])
    assert circumstances(later, flags)["times usual"][0] == burst["times usual"]  # no later day is looked at


def test_closures_are_counted_from_their_end():
    days = pd.DatetimeIndex(["2020-03-17", "2020-03-18", "2020-05-12", "2020-05-13", "2020-05-17", "2020-05-22"])
    closure = last_closure(replace(plain_panel(np.zeros((6, 1)), np.zeros((6, 1))), sessions=days))
    np.testing.assert_array_equal(closure["closed days"], [np.nan, np.nan, 55, 55, 55, 5])
    np.testing.assert_array_equal(closure["sessions since"], [np.nan, np.nan, 1, 2, 3, 1])
    panel = replace(plain_panel(np.arange(6.0)[:, None], np.arange(6.0)[:, None]), sessions=days)
    found_ = circumstances(panel, np.ones((6, 1), bool), np.zeros(6))["circumstance"].tolist()
    assert [kind == "after a closure" for kind in found_] == [False, False, True, False, False, True]


# --- plants ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def market():
    return longest_lived(case_panel(rows(900, tuple("ABCD"))), 4, "B")


def test_plants_are_what_they_say_and_where_they_may_be(market):
    assert market.tickers[0] == "B"
    allowed = ~training(market)
    planted = plant(market, allowed, 4, seed=1)
    assert planted.episodes["kind"].value_counts().to_dict() == dict.fromkeys(KINDS, 4)
    changed = planted.panel.returns != market.returns
    changed &= ~(np.isnan(planted.panel.returns) & np.isnan(market.returns))
    assert not changed[~allowed].any() and (changed <= (planted.kind > 0)).all()
    sd = np.nanstd(np.where(market.active, market.returns, np.nan), axis=0)
    for e in planted.episodes.itertuples():
        size = np.abs(planted.panel.returns[e.first : e.last + 1, e.stock]) / sd[e.stock]
        expected = {"point": [8.0], "contextual": [2.0], "collective": [0.0] * FLAT}[e.kind]
        np.testing.assert_allclose(size, expected, atol=1e-12)
    for _, own in planted.episodes.sort_values("first").groupby("stock"):
        assert (own["first"].to_numpy()[1:] - own["last"].to_numpy()[:-1] > MARGIN - 1).all()
    again = plant(market, allowed, 4, seed=1)
    np.testing.assert_array_equal(again.kind, planted.kind)


def test_a_perfect_and_a_blind_score(market):
    allowed = ~training(market)
    planted = plant(market, allowed, 4)
    noise = np.random.default_rng(0).random(planted.kind.shape)
    perfect = np.where(planted.kind > 0, 2.0, noise)
    assert (found(planted, perfect, 1.5, allowed) == 1).all()
    assert (found(planted, np.zeros(noise.shape), 0.0, allowed) == 0).all()
    cut = equal_cut(planted, noise, allowed, 0.05)
    quiet = market.active & allowed[:, None] & (planted.kind == 0)
    assert (noise > cut)[quiet].mean() == pytest.approx(0.05, abs=0.002)
    chance = by_chance(0.05)
    assert chance["point"] == pytest.approx(0.05) and chance["collective"] == pytest.approx(1 - 0.95**FLAT)


def test_who_finds_what(market):
    """A z-score finds every point and no collective anomaly; Null finds nothing."""
    allowed = ~training(market)
    planted = plant(market, allowed, 5)
    scored = run_detectors(planted.panel, training(market), ["zscore", "iqr", *BESIDE])
    z = found(planted, scored["zscore", "causal"].score, 3, allowed)
    assert z["point"] == 1 and z["contextual"] == 0 and z["collective"] == 0
    assert not scored["null", "causal"].flags.any()
    assert scored["random", "causal"].flags[market.active].mean() == pytest.approx(0.05, abs=0.01)
    assert set(scored) == {("zscore", "chapter"), ("zscore", "causal"), ("iqr", "chapter"), ("iqr", "causal"),
                           ("null", "causal"), ("random", "causal")}  # fmt: skip


# --- public series and the mended decoder ----------------------------------------------------------------------------
def test_public_series_keep_their_windows(tmp_path):
    n = 1000
    stamps = pd.date_range("2020-01-01", periods=n, freq="h")
    value = np.random.default_rng(0).standard_normal(n)
    nab = pd.DataFrame({"series": "a/b", "timestamp": stamps, "value": value, "in_window": np.arange(n) // 50 == 12})
    ucr = pd.DataFrame({"series": "u", "index": np.arange(1, n + 1), "value": value,
                        "is_train": np.arange(n) < 300, "anomaly": np.arange(n) // 10 == 60})  # fmt: skip
    for name, table in ((NAB, nab), (UCR, ucr)):
        (tmp_path / name).parent.mkdir()
        table.to_parquet(tmp_path / name, index=False)
    assert has_series(tmp_path)
    (thin,) = load_nab(tmp_path, 250)
    assert len(thin.value) == 250 and thin.windows() == [(150, 162)] and thin.name == "b"
    np.testing.assert_allclose(thin.value[10], value[40:44].mean())
    assert thin.train.sum() == 38
    (whole,) = load_ucr(tmp_path)
    assert whole.windows() == [(600, 609)] and whole.train.sum() == 300
    ucr.drop(columns="value").to_parquet(tmp_path / UCR, index=False)
    with pytest.raises(MarketDataError, match="column value is missing"):
        load_ucr(tmp_path)


def test_a_planted_point_in_a_public_series_is_found():
    value = np.random.default_rng(1).standard_normal(600) + 100
    label = np.arange(600) == 400
    series = Labelled("s", np.where(label, 120.0, value), label, np.arange(600) < 90)
    for s in run_detectors(as_panel(series), series.train, ["zscore", "modified_zscore", "iqr", "rolling_z"]).values():
        assert np.nanargmax(s.score[:, 0]) == 400


def test_every_detector_asked_for_is_on_the_board_and_hits_have_a_denominator():
    """Two series with a spike far out: the z-score hits both; nobody is left off, however slow."""
    value = np.random.default_rng(2).standard_normal((2, 400))
    value[:, 300] = 40.0
    label, train = np.arange(400) == 300, np.arange(400) < 100
    series = [Labelled(name, v, label, train) for name, v in zip("ab", value, strict=True)]
    asked, quick = ["zscore", "stl_residual", "dense_autoencoder"], {"max_rows": 200, "epochs": 1}
    judged = judged_series(series, asked, 0, **quick)
    board = mean_board(judged, archive_hits(series, asked, 0, **quick)).set_index(["method", "mode"])
    assert set(board.index) == {(m, mode) for m in asked for mode in ("chapter", "causal")} and len(judged) == 12
    assert (board.loc["zscore", "UCR hits"] == "2 of 2").all() and (board.loc["zscore", "AUROC"] == 1).all()
    far = [Labelled("c", np.roll(value[0], -150), label, train)]  # the spike is 150 points before the label
    missed = mean_board(judged, archive_hits(far, ["zscore"], 0)).set_index("method")
    assert (missed.loc["zscore", "UCR hits"] == "0 of 1").all()


def test_the_mended_decoder_has_the_shape_that_the_sketch_lacks():
    """D06: out comes what went in; and unlike the sketch it does not need 64 features."""
    for inputs in (1, 3, 64):
        assert network(inputs)(torch.zeros(5, 20, inputs)).shape == (5, 20, inputs)
    sketch = torch.nn.LSTM(64, 3, batch_first=True)
    with pytest.raises(RuntimeError, match="hidden"):
        sketch(torch.zeros(5, 1, 64), (torch.zeros(1, 5, 64), torch.zeros(1, 5, 64)))
