"""Runs of the full model on the scoreboard: two channels, and each protocol on the weights that its stop rule chose."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.evaluation.protocols import evaluate_daily
from anomaly_routing.panel import Splits
from anomaly_routing.paths import MarketPaths
from anomaly_routing.runs import Run, RunKey, RunStore
from anomaly_routing.scoreboard import (
    ALONE,
    OWN,
    SECOND,
    board,
    by_aggregation,
    channels,
    collect,
    evaluate_run,
    evaluate_runs,
)

SESSIONS = pd.bdate_range("2018-01-01", periods=900)
SPLITS = Splits("2018-01-01", *(f"{SESSIONS[k]:%Y-%m-%d}" for k in (399, 659, 899)))
EVENTS = pd.DataFrame({"id": ["a", "b", "c", "d"], "date": SESSIONS[[700, 750, 800, 850]]})
CHANNELS = {"paper": {"I": "mean@val", "M": "mpi@val"}, "matched": {"I": "mean", "M": "mpi"}}
# column -> event that it warns of, sessions ahead: who reads which column is seen from the hits
WARNS = {"mean": {"a": 4}, "mpi": {"b": 3}, "mean@val": {"c": 2}, "mpi@val": {"c": 5, "d": 1}}


def series(column: str) -> np.ndarray:
    """Falls without end, so that nothing exceeds what was before it; one high day before the events it warns of."""
    values = -1e-3 * np.arange(900.0)
    for event, lead in WARNS.get(column, {}).items():
        values[SESSIONS.get_loc(EVENTS.set_index("id")["date"][event]) - lead] = 10 + len(column)
    return values


def model_run(**info) -> Run:
    named = [*WARNS, "max", "banks", "share", "max@val", "banks@val", "share@val"]
    daily = pd.DataFrame({name: series(name) for name in named}, index=SESSIONS).iloc[40:]
    daily["share"], daily["share@val"] = 0.0, (daily["mean@val"] > 1).astype(float)
    said = {"family": "full model", "title": "Full model", "lookahead": False, "stochastic": True, "tier": "quick",
            "device": "cpu", "seconds": 1.0, "channels": CHANNELS}  # fmt: skip
    return Run(np.zeros((0, 2)), SESSIONS[:0], ["A", "B"], daily, said | info)


def hits(line: dict) -> dict:
    return {event: (row["channel"], row["lead"]) for event, row in line["per_event"].items() if row["hit"]}


def test_the_channels_of_a_protocol():
    run = model_run()
    for protocol, named in CHANNELS.items():
        found = channels(run, protocol)
        assert list(found.columns) == ["I", "M"]
        for channel, column in named.items():
            pd.testing.assert_series_equal(found[channel], run.daily[column], check_names=False)


def test_a_run_without_channels_has_one_series():
    run = model_run(channels=None)
    for protocol in CHANNELS:
        pd.testing.assert_series_equal(channels(run, protocol), run.daily["mean"])
        pd.testing.assert_series_equal(channels(run, protocol, "mpi"), run.daily["mpi"])
    assert evaluate_run(run, EVENTS, SPLITS, "mpi") == evaluate_daily(run.daily["mpi"], EVENTS, splits=SPLITS)


def test_each_protocol_judges_its_own_stop_rule_by_two_channels():
    lines = evaluate_run(model_run(), EVENTS, SPLITS)
    assert hits(lines["matched"]) == {"a": ("I", 4), "b": ("M", 3)}
    assert hits(lines["paper"]) == {"c": ("M", 5), "d": ("M", 1)}  # the first alarm counts: M's, three days before I's
    for protocol, named in CHANNELS.items():
        frame = model_run().daily[list(named.values())].set_axis(list(named), axis=1)
        assert lines[protocol] == evaluate_daily(frame, EVENTS, splits=SPLITS)[protocol]
    assert set(lines["paper"]["cuts"]) == {"I", "M"}


@pytest.fixture(scope="module")
def stored_paths(tmp_path_factory):
    """Two seeds of the model, the second with its channels exchanged, and a baseline of another stage."""
    paths = MarketPaths("m", tmp_path_factory.mktemp("root"))
    store, other = RunStore(paths.runs("model")), RunStore(paths.runs("baselines"))
    exchanged = {"paper": CHANNELS["matched"], "matched": {"I": "mean", "M": "mpi@val"}}
    keys = [RunKey("m", "intended", "full", seed, {}, "hash", 1) for seed in (0, 1)]
    store.save(keys[0], model_run()), store.save(keys[1], model_run(channels=exchanged))
    store.mark_current(keys)
    key = RunKey("m", "zscore", "causal", 0, {}, "hash", 1)
    other.save(key, model_run(channels=None, family="statistical", stochastic=False))
    other.mark_current([key])
    return paths


@pytest.fixture(scope="module")
def stored(stored_paths):
    return collect(stored_paths)


def test_the_scoreboard_reads_the_channels_from_the_stored_run(stored):
    methods = evaluate_runs(stored, EVENTS, SPLITS)
    model, baseline = methods["intended"], methods["zscore"]
    assert model["seeds"] == [0, 1] and model["paper"]["per_seed"]["hits"] == [2, 2]
    assert model["matched"]["per_seed"]["hits"] == [2, 3]  # a by I, then c and d by the other rule's M
    assert model["paper"]["per_event"]["c"]["hit_share"] == model["paper"]["per_event"]["a"]["hit_share"] == 0.5
    assert hits(baseline["paper"]) == hits(baseline["matched"]) == {"a": ("I", 4)}
    table = board(methods, "matched").set_index("method")
    assert table.loc["zscore", "hits"] == 1 and table.loc["intended", "seeds"] == "2-3 (2)"


def test_a_second_channel_makes_a_row_of_its_own(tmp_path):
    """The paper's own model alarms on either of two channels, the rivals on one (A99)."""
    first = {"paper": {"I": "mean@val"}, "matched": {"I": "mean"}}
    more = {"paper": {"M": "mpi@val"}, "matched": {"M": "mpi"}}
    paths = MarketPaths("m", tmp_path)
    store = RunStore(paths.runs("deep_baselines"))
    key = RunKey("m", "lstm_ae", "causal", 0, {}, "hash", 1)
    store.save(key, model_run(channels=first, second_channel=more, family="temporal"))
    store.mark_current([key])
    assert list(collect(paths)["label"]) == ["lstm_ae"]
    runs = collect(paths, also=[SECOND])
    assert list(runs["label"]) == ["lstm_ae", "lstm_ae +MPI"] and list(runs["judged_by"]) == [OWN, SECOND]
    methods = evaluate_runs(runs, EVENTS, SPLITS)
    assert hits(methods["lstm_ae"]["matched"]) == {"a": ("I", 4)}
    assert hits(methods["lstm_ae +MPI"]["matched"]) == {"a": ("I", 4), "b": ("M", 3)}
    assert hits(methods["lstm_ae +MPI"]["paper"]) == {"c": ("M", 5), "d": ("M", 1)}
    assert methods["lstm_ae +MPI"]["variant"] == "+MPI"
    assert list(by_aggregation(runs, EVENTS, SPLITS)["method"]) == ["lstm_ae"]


def test_the_first_of_two_channels_makes_a_row_of_its_own(stored_paths):
    """What the paper's Table 2 calls the model without its index; a run of one channel has no such row."""
    runs = collect(stored_paths, also=[ALONE])
    assert sorted(runs["label"]) == ["intended", "intended", "intended -MPI", "intended -MPI", "zscore"]
    assert set(runs.variant[runs["judged_by"] == ALONE]) == {"-MPI"} and SECOND not in set(runs["judged_by"])
    methods = evaluate_runs(runs, EVENTS, SPLITS)
    alone, both = methods["intended -MPI"], methods["intended"]
    frame = model_run().daily[[CHANNELS["paper"]["I"]]].set_axis(["I"], axis=1)
    assert set(alone["paper"]["cuts"]) == {"I"} and set(both["paper"]["cuts"]) == {"I", "M"}
    own = evaluate_run(model_run(), EVENTS, SPLITS, judged_by=ALONE)["paper"]
    assert own == evaluate_daily(frame, EVENTS, splits=SPLITS)["paper"]
    assert all(channel == "I" for channel, _ in hits(own).values())
    assert list(by_aggregation(runs, EVENTS, SPLITS)["method"]) == ["intended", "zscore"]


def test_other_aggregations_are_those_of_the_papers_stop_rule(stored):
    table = by_aggregation(stored, EVENTS, SPLITS).set_index("method")
    assert table.loc["intended", "hits, mean"] == 1 and table.loc["intended", "hits, max"] == 0
    assert table.loc["intended", "hits, any"] == 1 and table.loc["zscore", "hits, any"] == 0
    assert table.loc["intended", "alarm days, any"] == pytest.approx(1 / 240)
