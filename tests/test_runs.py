"""The run store: found by what it was made from, whole or not there, small."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.files import replacing, write_csv, write_json
from anomaly_routing.runs import MAX_BYTES, Run, RunKey, RunStore, main


def key(**changes) -> RunKey:
    base = dict(
        market="m", method="zscore", variant="causal", seed=0, config={"epochs": 3}, data_hash="abc", numerics=1
    )
    return RunKey(**(base | changes))


def run(sessions: int = 30, stocks: int = 4, scale: float = 1.0) -> Run:
    rng, days = np.random.default_rng(0), pd.bdate_range("2020-01-01", periods=sessions)
    score = scale * rng.random((sessions, stocks)).astype(np.float32)
    score[3, 1] = np.nan
    daily = pd.DataFrame({"mean": np.nanmean(score, 1), "max": np.nanmax(score, 1)}, index=days)
    return Run(score, days, [f"T{i}" for i in range(stocks)], daily, {"tier": "quick", "seconds": 1.5})


def test_round_trip(tmp_path):
    store, made = RunStore(tmp_path), run()
    store.save(key(), made)
    back = store.load(key())
    np.testing.assert_allclose(back.score, made.score, rtol=1e-3)
    assert np.isnan(back.score[3, 1])
    np.testing.assert_allclose(back.daily["mean"], made.daily["mean"].astype(np.float32), rtol=0)
    assert back.tickers == made.tickers and back.info == made.info
    pd.testing.assert_index_equal(back.score_sessions, made.score_sessions, exact=False)


def test_scores_beyond_float16_keep_their_order(tmp_path):
    store, made = RunStore(tmp_path), run(scale=1e7)
    store.save(key(), made)
    back = store.load(key()).score
    assert np.isfinite(back).sum() == np.isfinite(made.score).sum()
    np.testing.assert_allclose(back, made.score, rtol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"variant": "chapter"},
        {"config": {"epochs": 4}},
        {"data_hash": "abd"},
        {"numerics": 2},
        {"market": "n"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_another_meaning_is_another_run(changes):
    assert key(**changes).digest != key().digest


def test_the_order_of_the_configuration_does_not_matter():
    assert key(config={"a": 1, "b": 2.0}).digest == key(config={"b": 2.0, "a": 1}).digest


def test_a_finished_run_is_never_made_again(tmp_path):
    store, calls = RunStore(tmp_path), []

    def compute():
        calls.append(1)
        return run()

    first, second = store.get(key(), compute), store.get(key(), compute)
    assert len(calls) == 1
    np.testing.assert_array_equal(first.score, second.score)


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    store = RunStore(tmp_path)

    def stopped(*args, **kwargs):
        args[0].write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("anomaly_routing.runs.write_arrays", stopped)
    with pytest.raises(KeyboardInterrupt):
        store.save(key(), run())
    assert key() not in store and not list(tmp_path.iterdir())


def test_a_run_too_large_for_git_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep fewer sessions"):
        RunStore(tmp_path).save(key(), run(4000, 120))
    assert not list(tmp_path.iterdir())
    assert RunStore(tmp_path).save(key(), run(753, 100)).stat().st_size < MAX_BYTES


def test_only_current_runs_are_judged_and_pruning_keeps_them(tmp_path, capsys):
    store = RunStore(tmp_path / "stage")
    for seed in range(3):
        store.save(key(seed=seed), run())
    store.mark_current([key(seed=2)])
    assert store.current() == [store.path(key(seed=2))]
    assert len(store.table()) == 3
    main([str(tmp_path)])
    assert "2 old runs deleted" in capsys.readouterr().out
    assert key(seed=2) in store and key(seed=0) not in store


def test_two_saves_give_equal_bytes(tmp_path):
    a, b = (RunStore(tmp_path / name).save(key(), run()).read_bytes() for name in ("a", "b"))
    assert a == b


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    write_csv(path, pd.DataFrame({"date": [pd.Timestamp("2023-03-10")], "x": [1 / 3]}))
    assert path.read_text() == "date,x\n2023-03-10,0.333333\n"
    write_json(tmp_path / "m.json", {"b": np.float64("nan"), "a": np.int64(3), "c": [np.bool_(True)]})
    assert (tmp_path / "m.json").read_text() == '{\n  "a": 3,\n  "b": null,\n  "c": [\n    true\n  ]\n}\n'
