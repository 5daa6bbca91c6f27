"""The base of the neural detectors: batches, the two stop rules, and what every one of them refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from planted_panel import TRAIN_END, planted_panel, quick
from torch import nn

from anomaly_routing.baselines.deep import DeepDetector, DeepNetwork, Series, normalised_adjacency
from anomaly_routing.baselines.registry import detectors
from anomaly_routing.model.errors import TrainingError
from anomaly_routing.model.training import TrainingConfig

READ_THE_GRAPH = {"gcn_ae", "gat_ae", "dominant", "cola", "anomaly_dae", "ghrn_star", "graph_hawkes"}
WINDOWS = {  # sessions of a sample, with the quick parameters
    "lstm_ae": 20, "anomaly_transformer": 10, "tranad": 5, "mtad_gat": 8, "evolve_gcn": 24, "graph_hawkes": 10,
    "metric_vmf": 5, "metric_watson": 5, "memstream": 1, "robust_autoencoder": 1, "real_nvp": 1, "gcn_ae": 1,
    "gat_ae": 1, "dominant": 1, "cola": 1, "anomaly_dae": 1, "ghrn_star": 1,
}  # fmt: skip
DEEP = [name for name, entry in detectors().items() if entry.stage == "deep_baselines"]


# --- batches ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("first", "last"), [(0, 3), (2, 9), (200, 232)])
def test_a_batch_is_what_a_loop_cuts_out(first, last):
    panel, window = planted_panel().panel, 5
    panel = replace(panel, active=np.random.default_rng(0).random(panel.active.shape) < 0.8)
    x = np.where(panel.active[..., None], panel.x, 0)  # nobody reads what stands where a stock is not active
    batch = Series(panel, window, torch.device("cpu")).batch(first, last)
    expected, marked = [], []
    for b, t in enumerate(range(first, last)):
        np.testing.assert_array_equal(batch.now[b], x[t])
        for i in np.flatnonzero(panel.active[t]):
            before = max(0, t - window + 1)
            rows = np.zeros((window, panel.x.shape[2]), np.float32)
            rows[window - (t - before + 1) :] = x[before : t + 1, i]
            expected.append(rows)
            marked.append((b, i))
    np.testing.assert_array_equal(batch.windows(batch.active), np.array(expected))
    np.testing.assert_array_equal(batch.active.nonzero(), marked)
    assert not batch.present[: max(0, window - 1 - first)].any() and torch.equal(batch.picked, batch.active)
    np.testing.assert_array_equal(batch.returns[window - 1 :], np.nan_to_num(panel.returns[first:last]).astype("f4"))


def test_a_share_of_the_stock_days_is_picked():
    series = Series(planted_panel().panel, 1, torch.device("cpu"))
    one, two = (series.batch(50, 250, 0.3, torch.Generator().manual_seed(k)).picked for k in (0, 1))
    assert not (one & ~series.active[50:250]).any() and not torch.equal(one, two)
    assert 0.25 < one.sum() / series.active[50:250].sum() < 0.35


def test_the_normalised_adjacency_is_the_slow_one_among_the_active():
    rng = np.random.default_rng(0)
    graph = np.triu(rng.random((6, 6)) < 0.5, 1)
    graph, active = (graph | graph.T).astype(float), np.array([True, True, False, True, True, False])
    kept = np.where(np.outer(active, active), graph, 0) + np.diag(active)
    degree = kept.sum(1)
    expected = np.zeros((6, 6))
    for i in np.flatnonzero(active):
        for j in np.flatnonzero(active):
            expected[i, j] = kept[i, j] / np.sqrt(degree[i] * degree[j])
    got = normalised_adjacency(torch.tensor(graph), torch.tensor(active)[None])
    np.testing.assert_allclose(got[0], expected, rtol=1e-12)


# --- training ---------------------------------------------------------------------------------------------------------
class Counter(DeepNetwork):
    """Its only weight counts the epochs; its criterion is read from a list."""

    def __init__(self, tail: list[float], val: list[float]) -> None:
        super().__init__()
        self.epoch = nn.Parameter(torch.zeros(()))
        self.said = {"tail": tail, "val": val}

    def step(self, batch, epoch):
        self.epoch.data.fill_(epoch + 1.0)
        self.epoch.grad = torch.zeros(())
        return torch.tensor(1.0)

    def score(self, batch):
        return torch.zeros(batch.active.shape)

    def criterion(self, batch):
        rule = "val" if bool((batch.x[:, 0, 0] == 7).all()) else "tail"
        return torch.full(batch.active.shape, self.said[rule][int(self.epoch) - 1])


@dataclass
class Counting(DeepDetector):
    tail: tuple = ()
    val: tuple = ()

    def network(self, panel):
        return Counter(self.tail, self.val)


def counted(tail, val, epochs=100):
    panel = planted_panel().panel
    x = panel.x.copy()
    x[TRAIN_END : TRAIN_END + 40, 0, 0] = 7  # how the network above knows the validation sessions
    days = np.arange(len(x))
    later = (days >= TRAIN_END) & (days < TRAIN_END + 40)
    return Counting(epochs=epochs, tail=tail, val=val).fit(
        replace(panel, x=x), (days >= 60) & (days < TRAIN_END), later
    )


def test_each_rule_keeps_its_best_epoch_and_both_must_be_exhausted():
    patience = TrainingConfig().patience
    tail = [5.0, 3.0, *[4.0] * 60]  # best in epoch 1
    val = [9.0, 8.0, 7.0, 6.0, 5.0, *[5.0] * 60]  # best in epoch 4
    done = counted(tail, val)
    assert done.best == {"tail": {"loss": 3.0, "epoch": 1}, "val": {"loss": 5.0, "epoch": 4}}
    assert float(done.weights["tail"]["epoch"]) == 2 and float(done.weights["val"]["epoch"]) == 5
    assert len(done.history) == 4 + patience + 1
    assert done.net.epoch.item() == 2 and done.use("val").net.epoch.item() == 5


def test_a_rule_that_has_stopped_takes_no_later_epoch():
    patience = TrainingConfig().patience
    tail = [5.0, *[6.0] * (patience + 2), 1.0, *[6.0] * 60]  # too late
    val = [100.0 - k for k in range(40)] + [100.0] * 60
    done = counted(tail, val, epochs=30)
    assert done.best["tail"] == {"loss": 5.0, "epoch": 0} and done.best["val"]["epoch"] == 29
    assert len(done.history) == 30


def test_less_than_the_least_change_is_no_better_epoch():
    done = counted([1.0, 1.0 - 5e-5, 0.5, *[0.5] * 60], [1.0] * 60)
    assert done.best["tail"] == {"loss": 0.5, "epoch": 2} and done.best["val"]["epoch"] == 0


def test_a_loss_that_is_no_number_stops_the_training():
    with pytest.raises(TrainingError, match="epoch 1: tail is not a number"):
        counted([1.0, np.nan], [1.0, 1.0])


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="no weights by the rule 'best'; there are: tail, val"):
        counted([1.0] * 60, [1.0] * 60, epochs=2).use("best")
    with pytest.raises(ValueError, match="there are: none, fit first"):
        Counting().use("tail")


# --- what every neural detector refuses -------------------------------------------------------------------------------
def spoilt(kind):
    """(panel, training mask) with one fault."""
    planted = planted_panel()
    panel, train = planted.panel, planted.train
    if kind in ("nan", "x"):
        x = panel.x.copy()
        x[100, 4, 2] = np.nan if kind == "nan" else np.inf
        return replace(panel, x=x), train
    if kind == "absent":
        active = panel.active.copy()
        active[:, 4] = False
        return replace(panel, active=active), train
    if kind == "gap":
        return panel, train & (np.arange(len(train)) != 100)
    if kind in ("returns", "log_volume"):
        values = getattr(panel, kind).copy()
        values[100, 4] = -np.inf
        return replace(panel, **{kind: values}), train
    if kind == "nobody":
        return panel, np.zeros_like(train)
    if kind in ("edge", "negative"):
        prior = panel.prior.copy()
        prior[3, 4] = np.nan if kind == "edge" else -3
        return replace(panel, prior=prior), train
    return first_sessions(panel, 2), np.ones(2, bool)


def first_sessions(panel, n):
    """The first n sessions, everybody active."""
    few = {k: getattr(panel, k)[:n] for k in ("sessions", "x", "active", "returns", "log_volume", "stress")}
    active = np.ones_like(few["active"])
    return replace(panel, **few | {"active": active, "benchmarks": panel.benchmarks[:n]})


REASONS = {
    "nan": "x is nan, first in f2 of S4 on",
    "x": "x is inf, first in f2 of S4 on",
    "returns": "returns is -inf, first of S4 on .* give NaN where the stock did not trade",
    "log_volume": "log_volume is -inf, first of S4 on",
    "edge": "prior is nan between S3 and S4: an edge is 1, no edge 0",
    "negative": "prior is -3.0 between S3 and S4: an edge is 1, no edge 0",
    "absent": "S4 is never active in this panel: leave it out",
    "nobody": "none of 420 sessions is marked",
    "gap": "must follow each other, without a gap",
    "few": "2 training sessions (are fewer than|leave none)",
}


@pytest.mark.parametrize("kind", REASONS)
@pytest.mark.parametrize("name", DEEP)
def test_a_panel_that_cannot_be_fitted_is_refused_with_the_reason(name, kind):
    with pytest.raises(ValueError, match=REASONS[kind]):
        quick(name, "causal").fit(*spoilt(kind))


@pytest.mark.parametrize("name", DEEP)
def test_a_panel_that_cannot_be_scored_is_refused(name):
    planted = planted_panel()
    detector = quick(name, "causal", epochs=1).fit(planted.panel, planted.train)
    narrow = replace(
        planted.panel, x=planted.panel.x[..., :5], features=planted.panel.features[:5], group=planted.panel.group[:5]
    )
    with pytest.raises(ValueError, match="the panel has 5 features, the detector was fitted on 8"):
        detector.decision_function(narrow)
    turned = replace(planted.panel, features=planted.panel.features[::-1])
    with pytest.raises(ValueError, match="the panel has feature f7 where spread was fitted"):
        detector.decision_function(turned)
    with pytest.raises(ValueError, match="has not been fitted: call fit"):
        quick(name, "causal").decision_function(planted.panel)
    for kind in ("nan", "absent", "x", "returns", "log_volume", "edge", "negative"):
        with pytest.raises(ValueError, match=REASONS[kind]):
            detector.decision_function(spoilt(kind)[0])
    window = detector.net.window
    assert window == WINDOWS[name]
    for n in {0, 2, window - 1} - set(range(window, window + 3)):
        with pytest.raises(ValueError, match=f"{n} sessions are fewer than the window of {window}: give a longer"):
            detector.decision_function(first_sessions(planted.panel, n))
    assert np.isfinite(detector.decision_function(first_sessions(planted.panel, window))).all()


@pytest.mark.parametrize("name", DEEP)
def test_what_reads_the_prior_graph_says_so_and_refuses_a_panel_without_one(name):
    planted = planted_panel()
    bare, empty = (replace(planted.panel, prior=p) for p in (None, np.zeros_like(planted.panel.prior)))
    entry, detector = detectors()[name], quick(name, "causal", epochs=1)
    before = detector.fit(planted.panel, planted.train).decision_function(planted.panel)
    changed = not np.array_equal(before, detector.decision_function(empty), equal_nan=True)
    assert changed == (name in READ_THE_GRAPH)
    if changed:
        assert entry.missing(bare) == "the panel has no prior graph"
        for refused in (detector.decision_function, lambda panel: detector.fit(panel, planted.train)):
            with pytest.raises(ValueError, match="the panel has no prior graph: build it with"):
                refused(bare)
    else:
        assert entry.missing(bare) is None
        np.testing.assert_array_equal(detector.decision_function(bare), before)


@pytest.mark.parametrize("name", DEEP)
def test_every_active_stock_has_a_score_from_the_first_session_on(name):
    planted = planted_panel()
    scores = quick(name, "causal", epochs=1).fit(planted.panel, planted.train).decision_function(planted.panel)
    assert (np.isfinite(scores) == planted.panel.active).all()
