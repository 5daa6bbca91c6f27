"""The matrix of events, methods and seeds on made-up runs whose alarms are known, and beside the evaluation's."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh

from anomaly_routing.baseline_events import (
    announced_sentence,
    banks_sentence,
    budget_sentence,
    by_run,
    draw_event_seeds,
    event_seeds,
    event_windows,
)
from anomaly_routing.panel import Splits
from anomaly_routing.runs import Run, RunStore, read_run
from anomaly_routing.scoreboard import OWN, SECOND, evaluate_run

DAYS = pd.bdate_range("2018-01-01", periods=900)
SPANS = Splits(*(f"{DAYS[k]:%Y-%m-%d}" for k in (0, 399, 599, 899)))
EVENTS = pd.DataFrame({"id": ["A", "B", "C"], "date": DAYS[[450, 700, 800]]})
RAISED = {0: {700: (5, 2), 800: ()}, 1: {700: (1,), 800: (4, 3)}}  # seed -> event -> sessions ahead with an alarm


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> pd.DataFrame:
    """Two seeds of two methods; nothing in the test split alarms but what `RAISED` says, the pressure index never."""
    folder, rows = tmp_path_factory.mktemp("runs"), []
    for method in ("one", "two"):
        for seed, raised in RAISED.items():
            rng = np.random.default_rng(seed)
            score = rng.uniform(0.1, 0.2, len(DAYS))
            score[600:] = 0.05  # quiet, below what came before
            for at, ahead in raised.items():
                score[[at - n for n in ahead]] = 0.9
            daily = pd.DataFrame({"mean": score, "mpi": 0.01 * rng.random(len(DAYS))}, index=DAYS)
            daily.loc[DAYS[600:], "mpi"] = 0.0
            info = {
                "channels": {p: {"I": "mean"} for p in ("paper", "matched")},
                "second_channel": {p: {"M": "mpi"} for p in ("paper", "matched")},
            }
            key = SimpleNamespace(filename=f"{method}{seed}.npz", seed=seed)
            path = RunStore(folder).save(key, Run(np.zeros((0, 0), np.float32), DAYS[:0], [], daily, info))
            rows += [{"method": method, "seed": seed, "path": path, "judged_by": way} for way in (OWN, SECOND)]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def matrix(stored) -> pd.DataFrame:
    return event_seeds(stored, EVENTS, SPANS)


def test_every_alarm_day_of_a_window_is_there(matrix):
    assert len(matrix) == 2 * 2 * 2 * 2 * 3  # methods, seeds, channels, protocols, events
    for seed, raised in RAISED.items():
        for at, event in ((700, "B"), (800, "C")):
            found = matrix[(matrix.seed == seed) & (matrix.event == event) & (matrix.channel == "mean")]
            assert set(found.ahead) == {" ".join(map(str, raised[at]))}
            assert set(found.hit) == {bool(raised[at])}
            assert set(found.lead.dropna()) == set(raised[at][:1])


def test_the_same_hits_leads_and_alarm_days_as_the_evaluation(stored, matrix):
    """`evaluate_daily` places, cuts and counts on its own."""
    for run in stored.itertuples():
        told = matrix[
            (matrix.method == run.method) & (matrix.seed == run.seed) & (matrix.channel == ("mean" + run.judged_by))
        ]
        for protocol, line in evaluate_run(read_run(run.path), EVENTS, SPANS, judged_by=run.judged_by).items():
            rows = told[told.protocol == protocol].set_index("event")
            assert rows["alarm days, test"].tolist() == pytest.approx([line["alarm_rate_test"]] * 3)
            for event, found in line["per_event"].items():
                row = rows.loc[event]
                assert row.hit == found["hit"]
                if found["hit"]:
                    date = EVENTS.set_index("id").date[event]
                    first = DAYS[DAYS.get_loc(date) - int(row.ahead.split()[0])]
                    assert (row.lead, f"{first:%Y-%m-%d}") == (found["lead"], found["first_alarm"])


def test_a_window_before_any_verdict_is_neither_hit_nor_miss(stored):
    early = pd.DataFrame({"id": ["Z"], "date": DAYS[[203]]})  # the matched budget needs 250 sessions before
    short = Splits(*(f"{DAYS[k]:%Y-%m-%d}" for k in (0, 199, 599, 899)))
    told = event_seeds(stored, early, short)
    assert told[told.protocol == "matched"].hit.isna().all() and told[told.protocol == "paper"].hit.notna().all()
    wide = by_run(told, ["Z"])
    assert set(wide[wide.protocol == "matched"].Z) == {"?"}


def test_one_row_a_run_and_the_dates_of_its_numbers(matrix):
    wide = by_run(matrix, EVENTS.id)
    assert list(wide.columns) == ["method", "channel", "seed", "protocol", "alarm days, test", "A", "B", "C"]
    assert len(wide) == 2 * 2 * 2 * 2 and set(wide[wide.seed == 1].C) == {"4 3"}
    dates = event_windows(EVENTS, DAYS).set_index("event")
    assert dates.loc["B", "5"] == DAYS[695] and dates.loc["B", "1"] == DAYS[699] and dates.loc["C", "date"] == DAYS[800]


def test_the_picture_has_a_cell_for_each_seed(matrix):
    fig, axes = plt.subplots(2, 4)
    draw_event_seeds(fig, axes, matrix, ["one", "two"], EVENTS.id.tolist())
    strips = [mesh for mesh in axes[0, 0].collections if isinstance(mesh, QuadMesh)]
    leads = [np.ma.getdata(mesh.get_array()).ravel().tolist() for mesh in strips]
    hidden = [np.ma.getmaskarray(mesh.get_array()).ravel().tolist() for mesh in strips]
    assert leads[1] == [5.0, 1.0] and hidden[1] == [False, False]  # event B of method one: both seeds hit
    assert hidden[2] == [True, False] and leads[2][1] == 4.0  # event C: seed 1 alone
    assert [text.get_text() for text in axes[0, 0].get_yticklabels()] == ["one (2)", "two (2)"]
    drawn = np.concatenate(
        [line.get_xdata() for line in axes[0, 1].lines if len(line.get_xdata()) and line.get_marker() == "."]
    )
    expected = matrix[(matrix.channel == "mean") & (matrix.protocol == "paper")].drop_duplicates(["method", "seed"])
    assert sorted(drawn) == pytest.approx(sorted(100 * expected["alarm days, test"]))
    plt.close(fig)


@pytest.mark.parametrize("n_seeds", [6, 10])
def test_the_coloured_width_is_the_share_of_seeds(matrix, n_seeds):
    """Counted in the pixels of a strip: gaps between many seeds once hid half of them."""
    one = matrix[(matrix.event == "C") & (matrix.seed == 1) & (matrix.method == "one")].assign(event="A", method="m")
    all_hit = pd.concat([one.assign(seed=k) for k in range(n_seeds)])
    fig, axes = plt.subplots(2, 4, figsize=(13, 6), dpi=100, width_ratios=(5, 1, 5, 1))
    draw_event_seeds(fig, axes, all_hit, ["m"], ["A", *"BCDEFGHIJKLM"])
    fig.canvas.draw()
    ax = axes[0, 0]
    left, right = (ax.transData.transform((at, 0.2)) for at in (0.06, 0.94))
    row = np.asarray(fig.canvas.buffer_rgba())[-round(left[1]), round(left[0]) : round(right[0]), :3]
    assert (row.astype(int).sum(1) < 600).mean() > 0.75
    plt.close(fig)


def test_sentences_of_the_matrix(matrix):
    """Under `matched`: B by all four runs, C by seed 1 of either method, A at most by chance of the draws. A third run
    of one method alone, which misses B, counts as a third of that method and a sixth of both."""
    told = announced_sentence(matrix[matrix.event != "A"], ["B", "C"])
    assert (
        "announced by most methods B 100% (share of the methods, each with the share of its seeds); by no run none."
        in told
    )
    assert "Of 4 pairs of an event and a method with several seeds, the seeds disagree in 2 (first channel)." in told
    own = (matrix.protocol == "matched") & (matrix.channel == "mean") & (matrix.event == "B")
    third = matrix[own & (matrix.method == "one")].head(1).assign(seed=2, hit=False)
    more = announced_sentence(pd.concat([matrix[matrix.event != "A"], third]), ["B", "C"])
    assert f"B {1 - 1 / 6:.0%} (share" in more
    every = announced_sentence(matrix.assign(hit=True), ["B", "C"])
    assert "announced by most methods B 100%, C 100% (share" in every
    seldom = announced_sentence(matrix.assign(hit=own & (matrix.method == "one")), ["B", "C"])
    assert f"announced most often, but not by most methods, B {0.5:.0%} (share" in seldom
    blind = announced_sentence(matrix.assign(hit=matrix.hit.astype(bool) & (matrix.channel != "mean")), ["B"])
    assert "by no run B. With the second channel, by no run: none." in blind
    assert "announces these of them (share of seeds, `paper`): B 100%, C 50% (A94)" in banks_sentence(
        matrix, ["B", "C"], "one"
    )
    share = f"{2 / 300:.1%}"  # of 300 test sessions seed 0 alarms on two, seed 1 on three
    assert f"on {2.5 / 300:.1%} ({share} to {3 / 300:.1%}) of the sessions" in budget_sentence(matrix)
