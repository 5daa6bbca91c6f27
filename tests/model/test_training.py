"""The training against plain loops: batches, losses, two stop rules, memory, seeds, interruptions, refusals."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from small_networks import PRESETS, TESTED, TRAINED, VALIDATED, altered, small_network, small_tensors

from anomaly_routing.model import training
from anomaly_routing.model.diagnostics import Clock
from anomaly_routing.model.errors import TrainingError
from anomaly_routing.model.losses import loss_terms
from anomaly_routing.model.training import (
    STOP_RULES,
    Data,
    TrainingConfig,
    choose_device,
    chunks,
    evaluate,
    fit,
    forward,
    make_training,
    pieces,
    reconstruction,
    train_epoch,
)
from tests.oracles.model_oracle import losses

CPU = torch.device("cpu")
QUICK = TrainingConfig(epochs=4, batch_sessions=16, learning_rate=0.003)
TINY_MEMORY = 1e-9  # one session at a time
TAIL = 7  # a tenth of the training samples
TIMES = {"seconds", "module_seconds"}


@pytest.fixture(scope="module")
def tensors():
    return small_tensors()


def trained(tensors, config=QUICK, seed=0, state=None, first_weights=0, **options):
    """The network as it is at the end, and what `fit` returns."""
    net = small_network(tensors, seed=first_weights)
    return net, fit(net, tensors, config, seed, CPU, state, **options)


@pytest.fixture(scope="module")
def plain_training(tensors):
    return trained(tensors)


def timeless(history):
    return [{k: v for k, v in line.items() if k not in TIMES} for line in history]


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def assert_equal_trainings(one, other):
    assert timeless(one.history) == timeless(other.history) and one.best == other.best
    for rule in STOP_RULES:
        assert_equal_weights(one.weights[rule], other.weights[rule])


def in_double(net, tensors):
    """Network and data in float64, for comparisons far below the size of any term."""
    net, data = net.double(), Data(tensors, net.config, CPU)
    data.x, data.prior, data.stress = (v.double() for v in (data.x, data.prior, data.stress))
    return net, data


# --- batches ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [33, 64, 100, 1097])
def test_a_batch_is_consecutive_and_each_sample_comes_once_or_rests(n):
    samples = np.arange(40, 40 + n)
    for epoch in range(60):
        found = sorted(chunks(samples, 32, 3, epoch))
        offset = found[0][0] - 40
        assert 0 <= offset <= 31
        assert [s for first, last in found for s in range(first, last)] == list(samples[offset:])
        sizes = [last - first for first, last in found]
        assert set(sizes[:-1]) <= {32} and sizes[-1] == ((n - offset) % 32 or 32)


def test_offsets_are_even_the_order_is_shuffled_and_both_come_from_seed_and_epoch():
    samples = np.arange(40, 1137)
    orders = {(seed, epoch): chunks(samples, 32, seed, epoch) for seed in range(4) for epoch in range(500)}
    offsets = np.array([min(order)[0] - 40 for order in orders.values()])
    counts = np.bincount(offsets, minlength=32)
    assert len(counts) == 32 and ((counts - 62.5) ** 2 / 62.5).sum() < 61  # chi square, 31 degrees of freedom, p 0.001
    starts = np.array([order[0][0] > order[1][0] for order in orders.values()])
    assert 0.45 < starts.mean() < 0.55  # no order among the first two
    assert len({tuple(order) for order in orders.values()}) == len(orders)
    assert all(chunks(samples, 32, *key) == order for key, order in orders.items())


@pytest.mark.parametrize(("n", "steps"), [(1097, {34, 35}), (1219, {38, 39})])
def test_steps_in_an_epoch(n, steps):
    """SPEC 8."""
    assert {len(chunks(np.arange(40, 40 + n), 32, 0, epoch)) for epoch in range(400)} == steps


def test_the_paper_s_training_split_leaves_its_last_tenth_out():
    """SPEC 8: 1219 samples, 1097 to fit on."""
    head, tail = Data.split_tail(SimpleNamespace(train=np.arange(40, 1259)), TrainingConfig.tail_share)
    assert (len(head), len(tail)) == (1097, 122) and tail[0] == head[-1] + 1


def test_a_batch_holds_the_windows_of_its_samples(tensors):
    net = small_network(tensors)
    data, window = Data(tensors, net.config, CPU), net.config.window
    batch, stress = data.batch(60, 63), tensors.normalised_stress()
    windows = batch.x.unfold(0, window, 1)  # [3, N, F, T]
    for b, day in enumerate((60, 61, 62)):
        np.testing.assert_array_equal(windows[b].permute(2, 0, 1), tensors.x[day - window + 1 : day + 1])
        np.testing.assert_array_equal(batch.active[b], tensors.active[day])
        np.testing.assert_array_equal(batch.stress[b], stress[day])
    ranks = Data(tensors, small_network(tensors, psi_rule="rank").config, CPU)
    np.testing.assert_array_equal(ranks.stress, tensors.normalised_stress("train", "rank"))


@pytest.mark.parametrize("fit_tail", [False, True])
def test_which_samples_are_fitted_and_which_stop(tensors, monkeypatch, fit_tail):
    orders, judged = [], []
    epoch, measure = training.train_epoch, training.reconstruction
    monkeypatch.setattr(training, "train_epoch", lambda *a: orders.append(a[3]) or epoch(*a))
    monkeypatch.setattr(training, "reconstruction", lambda *a: judged.append(a[2]) or measure(*a))
    trained(tensors, replace(QUICK, epochs=2, fit_tail=fit_tail))
    end = 40 + TRAINED if fit_tail else 40 + TRAINED - TAIL
    for order in orders:
        assert max(last for _, last in order) == end and min(first for first, _ in order) >= 40
    expected = [*range(40 + TRAINED - TAIL, 40 + TRAINED)], [*range(40 + TRAINED, 40 + TRAINED + VALIDATED)]
    assert [list(samples) for samples in judged] == list(expected) * 2


# --- losses and log ---------------------------------------------------------------------------------------------------
def naive_epoch(net, data, order, config):
    """One stock-day at a time, Adam written out. Returns the means over the batches of losses and gradient norm."""
    weights, lines = list(net.parameters()), []
    moments = [[torch.zeros_like(w), torch.zeros_like(w)] for w in weights]
    for step, (first, last) in enumerate(order, 1):
        days = slice(first, last)
        out = net(data.x[first - net.config.window + 1 : last], data.active[days], data.prior, data.stress[days])
        fields = {name: getattr(out, name) for name in ("routing", "expert_error", "horizon_error")}
        lines.append(losses({k: v.detach().numpy() for k, v in fields.items()}, data.active[days].numpy(), net.config))
        on = [(t, i) for t, row in enumerate(data.active[days]) for i in range(len(row)) if row[i]]
        both = [(t, i) for t, i in on if (t - 1, i) in on]
        rec = sum(fields["horizon_error"][p].sum() + fields["expert_error"][p].sum() for p in on) / len(on)
        entropy = -sum((fields["routing"][p] * fields["routing"][p].log()).sum() for p in on) / len(on)
        jumps = sum((fields["routing"][t, i] - fields["routing"][t - 1, i]).square().sum() for t, i in both)
        total = rec + net.config.div_sign * 0.01 * entropy + 0.001 * jumps / max(1, len(both))
        found = torch.autograd.grad(total, weights, allow_unused=True)
        found = [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights, strict=True)]
        norm = sum(g.square().sum() for g in found) ** 0.5
        lines[-1]["gradient"] = float(norm)
        with torch.no_grad():
            for w, g, m in zip(weights, found, moments, strict=True):
                g = g * min(1.0, config.clip / (float(norm) + 1e-6))
                m[0], m[1] = 0.9 * m[0] + 0.1 * g, 0.999 * m[1] + 0.001 * g * g
                size = (m[1] / (1 - 0.999**step)).sqrt() + 1e-8
                w -= config.learning_rate * m[0] / (1 - 0.9**step) / size
    return {name: np.mean([line[name] for line in lines]) for name in lines[0]}, [line["gradient"] for line in lines]


@pytest.mark.parametrize("preset", PRESETS)
def test_an_epoch_is_that_of_a_plain_loop(tensors, preset):
    order = chunks(np.arange(40, 90), 16, 0, 1)
    (net, data), (other, _) = (in_double(small_network(tensors, preset), tensors) for _ in range(2))
    _, sizes = naive_epoch(small_network(tensors, preset).double(), data, order, QUICK)
    config = replace(QUICK, clip=float(np.mean(sizes)))  # some gradients are shortened, some are not
    expected, _ = naive_epoch(other, data, order, config)
    optimiser = torch.optim.Adam(net.parameters(), lr=config.learning_rate, fused=True)
    got = train_epoch(net, optimiser, data, order, config, Clock(CPU))
    assert got == pytest.approx(expected, rel=1e-9)
    start = small_network(tensors, preset).double().state_dict()
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(value, other.state_dict()[name], rtol=1e-6, atol=1e-9, err_msg=name)
        dead = name == "decoders.gru.0.weight_hh_l0"  # one step from a zero state
        assert torch.equal(value, start[name]) is dead, name


def one_by_one(net, data, samples):
    """Output of every sample on its own."""
    with torch.no_grad():
        return [net(*data.batch(int(s), int(s) + 1)) for s in samples]


@pytest.mark.parametrize("batch", [1, 5, 32])
def test_reconstruction_is_a_stock_day_mean_whatever_the_batches(tensors, batch):
    net, data = in_double(small_network(tensors), tensors)
    errors = [
        float(out.horizon_error[0, i].sum() + out.expert_error[0, i].sum())
        for s, out in zip(data.val, one_by_one(net, data, data.val), strict=True)
        for i in np.flatnonzero(tensors.active[s])
    ]
    got, _ = reconstruction(net, data, data.val, replace(QUICK, batch_sessions=batch))
    assert len(errors) < tensors.active[data.val].size or tensors.active[data.val].all()
    assert got == pytest.approx(np.mean(errors), rel=1e-12)


def test_the_log_of_an_epoch_is_what_plain_loops_give(tensors):
    """SPEC 8: alpha, psi, source weights, tau, routing and experts; here on samples with stocks that come and pause."""
    net, data = in_double(small_network(tensors), tensors)
    samples = data.train[20:60]
    _, log = reconstruction(net, data, samples, QUICK)
    outs = one_by_one(net, data, samples)
    for name in ("alpha", "psi"):
        expected = np.quantile([float(getattr(out, name)) for out in outs], [0.05, 0.5, 0.95])
        np.testing.assert_allclose(log[name], expected, rtol=1e-9)
    np.testing.assert_allclose(log["source_weights"], np.mean([out.source_weights[0].numpy() for out in outs], 0))
    assert log["tau"] == pytest.approx(np.mean([float(out.tau) for out in outs]))
    on = [(s, out, i) for s, out in zip(samples, outs, strict=True) for i in np.flatnonzero(tensors.active[s])]
    assert len(on) < len(samples) * len(tensors.tickers)
    weights = np.array([out.routing[0, i].numpy() for _, out, i in on])
    errors = np.array([out.expert_error[0, i].numpy() for _, out, i in on])
    np.testing.assert_allclose(log["mean_w"], weights.mean(0), rtol=1e-9)
    assert log["mean_max_w"] == pytest.approx(weights.max(1).mean())
    assert log["routing_entropy"] == pytest.approx(-(weights * np.log(weights)).sum(1).mean())
    assert log["corr_l1_l2"] == pytest.approx(np.corrcoef(errors[:, 0], errors[:, 1])[0, 1])
    truth = np.array([tensors.x[s, i].astype(float) for s, _, i in on])
    rest = truth - np.array([out.rebuilt[0, i].numpy() for _, out, i in on])
    for k in range(4):
        own = slice(2 * k, 2 * k + 2)
        variance = ((truth[:, own] - truth[:, own].mean(0)) ** 2).sum()
        assert log["explained_variance"][k] == pytest.approx(1 - (rest[:, own] ** 2).sum() / variance)
    rows = [sum(float(w) > 0 for w in out.learned[0, i]) for _, out, i in on]
    assert log["neighbours"] == {"mean": pytest.approx(np.mean(rows)), "min": min(rows)}
    assert log["without_neighbours"] == pytest.approx(np.mean([n == 0 for n in rows]))
    assert min(rows) < np.mean(rows)


def test_what_is_logged_every_epoch(plain_training):
    history = plain_training[1].history
    assert [line["epoch"] for line in history] == [0, 1, 2, 3]
    named = {
        "epoch",
        "rec",
        "entropy",
        "smooth",
        "total",
        "gradient",
        "tail",
        "val",
        "steps",
        "seconds",
        "alpha",
        "psi",
    }
    named |= {"source_weights", "tau", "mean_w", "mean_max_w", "routing_entropy", "corr_l1_l2", "explained_variance"}
    named |= {"neighbours", "without_neighbours"}
    for line in history:
        assert line.keys() == named | {"module_seconds"}
        assert line["steps"] == len(chunks(np.arange(40, 40 + TRAINED - TAIL), 16, 0, line["epoch"]))
        parts = line["module_seconds"]
        assert parts.keys() == {"encoder", "graph", "experts", "decoders", "loss", "optimiser"}
        assert all(v > 0 for v in parts.values()) and sum(parts.values()) < line["seconds"]
    assert history[-1]["rec"] < history[0]["rec"] and history[-1]["val"] < history[0]["val"]  # it learns


# --- memory -----------------------------------------------------------------------------------------------------------
def test_how_many_sessions_fit():
    assert pieces(32, 100, 4.0) == 32 and pieces(32, 100, TINY_MEMORY) == 1
    sizes = [pieces(32, 1600, gib) for gib in (1, 2, 4, 8, 16, 64, 1000)]
    assert sizes == sorted(sizes) and 1 <= sizes[0] < sizes[-1] == 32
    assert pieces(32, 1600, 8) < pieces(32, 400, 8)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("sessions", [1, 5])
def test_a_batch_in_pieces_is_the_same_batch(tensors, monkeypatch, preset, sessions):
    """Losses and gradients, session by session and with a short last piece; stocks come and pause in it."""
    net, data = in_double(small_network(tensors, preset), tensors)
    batch, results = data.batch(68, 81), []
    for memory in (4.0, TINY_MEMORY):
        if memory == TINY_MEMORY and sessions > 1:
            monkeypatch.setattr(training, "pieces", lambda *sizes: sessions)
        clock = Clock(CPU)
        clock.start()
        out = forward(net, batch, memory, clock)
        assert out.routing.shape == (13, 7, 4) and clock.whole is (memory == 4.0)
        terms = loss_terms(out, batch.active, net.config)
        results.append((terms, torch.autograd.grad(terms["total"], list(net.parameters()), allow_unused=True)))
        clock.mark("loss")
        assert bool(clock.read()["module_seconds"]) is clock.whole
    (terms, found), (other_terms, other_found) = results
    for name, value in terms.items():
        assert other_terms[name].item() == pytest.approx(value.item(), rel=1e-12)
    for (name, _), one, other in zip(net.named_parameters(), found, other_found, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-12, err_msg=name)


def test_evaluation_in_pieces_is_the_same_and_in_time_order(tensors):
    net, data = in_double(small_network(tensors), tensors)
    whole, small = (
        [(len(b.active), out.error) for b, out in evaluate(net, data, data.val, replace(QUICK, memory_gib=gib))]
        for gib in (4.0, TINY_MEMORY)
    )
    assert [n for n, _ in whole] == [16, 16, 2] and [n for n, _ in small] == [1] * VALIDATED
    one, other = (torch.cat([error for _, error in parts]) for parts in (whole, small))
    np.testing.assert_allclose(other, one, rtol=1e-12)
    alone = [out.error[0] for out in one_by_one(net, data, data.val)]
    np.testing.assert_allclose(torch.stack(alone), one, rtol=1e-12)
    log, other_log = (reconstruction(net, data, data.val, replace(QUICK, memory_gib=gib)) for gib in (4.0, TINY_MEMORY))
    assert log[0] == pytest.approx(other_log[0], rel=1e-12) and log[1]["psi"] == pytest.approx(other_log[1]["psi"])


def test_a_training_in_pieces_reaches_the_same_losses(tensors, plain_training):
    _, done = trained(tensors, replace(QUICK, memory_gib=TINY_MEMORY, epochs=1))
    for line, expected in zip(done.history, plain_training[1].history, strict=False):
        for name in ("rec", "entropy", "smooth", "total", "gradient", *STOP_RULES):
            assert line[name] == pytest.approx(expected[name], rel=1e-4)  # float32, four steps of Adam
        assert line["module_seconds"] == {}


# --- seeds ------------------------------------------------------------------------------------------------------------
def test_a_seed_gives_the_same_training_twice_and_another_seed_another(tensors, plain_training):
    """SPEC 15, test 14. The seed of `fit` orders the batches; that of the weights is the caller's."""
    _, once = plain_training
    assert_equal_trainings(once, trained(tensors)[1])
    for change in ({"seed": 1}, {"first_weights": 1}):
        _, other = trained(tensors, replace(QUICK, epochs=2), **change)
        assert other.history[1]["val"] != once.history[1]["val"]
        assert not torch.equal(other.weights["val"]["graph.gat.a_s"], once.weights["val"]["graph.gat.a_s"])


# --- no look-ahead ----------------------------------------------------------------------------------------------------
def test_denormals_count_as_zero_in_a_training_only_and_change_no_weight(tensors, plain_training, monkeypatch):
    tiny, seen = torch.full((100_000,), 1e-40), []
    monkeypatch.setattr(training, "chunks", lambda *args: seen.append((tiny * 0.5).max().item()) or chunks(*args))
    flushed = trained(tensors)[1]
    assert seen == [0.0] * len(seen) and len(seen) == QUICK.epochs
    monkeypatch.setattr(torch, "set_flush_denormal", lambda mode: None)
    exact = trained(tensors)[1]
    assert seen[-1] > 0 and np.float64(1e-310) * 0.5 > 0
    assert_equal_trainings(flushed, exact)
    assert_equal_trainings(flushed, plain_training[1])


def test_training_reads_nothing_after_the_validation_split(tensors, plain_training):
    _, other = trained(altered(tensors, 40 + TRAINED + VALIDATED))
    assert_equal_trainings(plain_training[1], other)


def test_the_tail_rule_reads_nothing_after_the_training_split(tensors, plain_training):
    _, other = trained(altered(tensors, 40 + TRAINED))
    assert_equal_weights(other.weights["tail"], plain_training[1].weights["tail"])
    assert other.best["tail"] == plain_training[1].best["tail"]
    assert other.best["val"] != plain_training[1].best["val"]  # which the rule `val` does


def test_fitting_does_not_read_the_tail(tensors, plain_training):
    """The last tenth of the training samples decides when to stop, and nothing else."""
    spoilt = altered(tensors, 40 + TRAINED - TAIL)
    stress = tensors.stress.copy()  # whose scale all training samples fix
    net, done = trained(replace(spoilt, stress=stress))
    assert_equal_weights(net.state_dict(), plain_training[0].state_dict())
    assert done.history[0]["tail"] != plain_training[1].history[0]["tail"]


# --- stop rules -------------------------------------------------------------------------------------------------------
def best_epoch(values, min_delta):
    """The last epoch that was lower than the best before it by more than `min_delta`."""
    best, at = np.inf, None
    for epoch, value in enumerate(values):
        if best - value > min_delta:
            best, at = value, epoch
    return at


def scripted(monkeypatch, tail, val):
    """The stop metrics are these numbers, whatever is trained."""
    script = {TAIL: iter(tail), VALIDATED: iter(val)}
    monkeypatch.setattr(training, "reconstruction", lambda net, data, samples, config: (next(script[len(samples)]), {}))


def test_the_best_epochs_follow_from_the_log_and_the_weights_are_theirs(tensors):
    config = replace(QUICK, epochs=8, learning_rate=0.03, min_delta=0.2)  # best before the end, and not the minimum
    _, done = trained(tensors, config)
    best = {rule: best_epoch([line[rule] for line in done.history], config.min_delta) for rule in STOP_RULES}
    assert {rule: done.best[rule]["epoch"] for rule in STOP_RULES} == best
    for rule in STOP_RULES:
        assert done.best[rule]["loss"] == done.history[best[rule]][rule]
        again, shorter = trained(tensors, replace(config, epochs=best[rule] + 1))
        assert_equal_weights(again.state_dict(), done.weights[rule])
        assert timeless(shorter.history) == timeless(done.history[: best[rule] + 1])
        net = small_network(tensors)
        net.load_state_dict(done.weights[rule])
        data = Data(tensors, net.config, CPU)
        samples = data.val if rule == "val" else data.train[-TAIL:]
        assert reconstruction(net, data, samples, config)[0] == pytest.approx(done.best[rule]["loss"], rel=1e-6)


def test_a_training_stops_when_both_rules_have_waited(tensors, monkeypatch):
    tail = [5.0, 4.0, 3.9, 3.89995, 3.89991, 4.5, 4.6, 4.7, 4.8, 4.9, 5.0]  # 3.9 stays the best: less than 1e-4 is none
    val = [9.0, 9.5, 9.6, 8.0, 8.1, 7.0, 7.5, 7.00001, 6.99995, 7.2, 0.0]
    scripted(monkeypatch, tail, val)
    config = replace(QUICK, epochs=20, patience=3)
    _, done = trained(tensors, config)
    assert done.best == {"tail": {"loss": 3.9, "epoch": 2}, "val": {"loss": 7.0, "epoch": 5}}
    assert len(done.history) == 5 + 3 + 1  # the tail had waited since epoch 5, three epochs before
    for rule, epochs in (("tail", 3), ("val", 6)):
        scripted(monkeypatch, tail, val)
        net, _ = trained(tensors, replace(config, epochs=epochs))
        assert_equal_weights(net.state_dict(), done.weights[rule])


def test_a_rule_that_has_stopped_is_not_woken_by_a_later_low(tensors, monkeypatch):
    """One training serves both rules: the weights of each are those of a training that this rule alone had ended."""
    tail = [5.0, 4.0, 4.1, 4.2, 4.3, 1.0, 0.5, 0.4]  # stopped after epoch 4; then a new low, too late
    val = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
    config = replace(QUICK, epochs=len(tail), patience=3)
    scripted(monkeypatch, tail, val)
    _, done = trained(tensors, config)
    assert done.best == {"tail": {"loss": 4.0, "epoch": 1}, "val": {"loss": 2.0, "epoch": 7}}
    scripted(monkeypatch, tail, [])
    _, alone = trained(tensors, config, rules=("tail",))
    assert alone.best["tail"] == done.best["tail"] and len(alone.history) == 5
    assert_equal_weights(alone.weights["tail"], done.weights["tail"])


def test_the_cap_and_a_single_rule(tensors, monkeypatch):
    falling = [float(v) for v in range(20, 0, -1)]
    scripted(monkeypatch, falling, falling)
    _, done = trained(tensors, replace(QUICK, epochs=3, patience=1))
    assert len(done.history) == 3 and done.best["tail"]["epoch"] == 2
    scripted(monkeypatch, [3.0, 4.0, 1.0], [])
    _, done = trained(tensors, replace(QUICK, patience=1), rules=("tail",))
    assert len(done.history) == 2 and done.best == {"tail": {"loss": 3.0, "epoch": 0}} and set(done.weights) == {"tail"}


# --- interruptions ----------------------------------------------------------------------------------------------------
def interrupted(monkeypatch, tensors, state, name, call):
    """A training that is stopped in the middle of the given call of one of its functions."""
    real, calls = getattr(training, name), []

    def stopping(*args):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training, name, stopping)
        with pytest.raises(KeyboardInterrupt):
            trained(tensors, state=state)


def test_a_training_that_was_stopped_again_and_again_ends_where_an_uninterrupted_one_does(
    tensors, plain_training, monkeypatch, tmp_path
):
    state = tmp_path / "state.safetensors"
    interrupted(monkeypatch, tensors, state, "loss_terms", 2)  # in the first epoch, no state yet
    assert not state.exists()
    interrupted(monkeypatch, tensors, state, "loss_terms", 6)  # in the middle of the second
    interrupted(monkeypatch, tensors, state, "reconstruction", 2)  # between the two metrics of the second
    interrupted(monkeypatch, tensors, state, "chunks", 2)  # the second is done, the third begins
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]
    net, done = trained(tensors, state=state)
    assert_equal_trainings(done, plain_training[1])
    assert_equal_weights(net.state_dict(), plain_training[0].state_dict())
    net, again = trained(tensors, state=state, first_weights=9)  # nothing is left to do
    assert_equal_trainings(again, done)
    assert_equal_weights(net.state_dict(), plain_training[0].state_dict())


def test_a_write_that_is_stopped_leaves_the_state_before(tensors, plain_training, monkeypatch, tmp_path):
    state, real, calls = tmp_path / "state.safetensors", os.replace, []

    def stopping(partial, path):
        calls.append(partial.stat().st_size)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(partial, path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopping)
        with pytest.raises(KeyboardInterrupt):
            trained(tensors, state=state)
    assert min(calls) > 1e6
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]
    assert_equal_trainings(trained(tensors, state=state)[1], plain_training[1])


def test_patience_is_remembered(tensors, monkeypatch, tmp_path):
    state, losses_ = tmp_path / "state.safetensors", [5.0, 6.0, 6.0, 6.0, 6.0]
    config = replace(QUICK, epochs=20, patience=3)
    scripted(monkeypatch, losses_, losses_)
    interrupted_config = replace(config)
    with monkeypatch.context() as patch:
        patch.setattr(training, "chunks", lambda *a: chunks(*a) if a[3] < 2 else pytest.exit("stop"))
        with pytest.raises(pytest.exit.Exception):
            trained(tensors, interrupted_config, state=state)
    scripted(monkeypatch, losses_[2:], losses_[2:])
    assert len(trained(tensors, config, state=state)[1].history) == 4


@pytest.mark.parametrize("how", ["cut", "empty", "text"])
def test_a_damaged_state_is_refused(tensors, tmp_path, how):
    state = tmp_path / "state.safetensors"
    trained(tensors, replace(QUICK, epochs=1), state=state)
    content = {"cut": state.read_bytes()[:-1000], "empty": b"", "text": b"something else"}[how]
    state.write_bytes(content)
    with pytest.raises(TrainingError, match=r"state\.safetensors cannot be read .*: delete it"):
        trained(tensors, replace(QUICK, epochs=1), state=state)


def test_the_state_of_another_training_is_refused(tensors, tmp_path):
    state, config = tmp_path / "state.safetensors", replace(QUICK, epochs=1)
    trained(tensors, config, state=state)
    refused = pytest.raises(TrainingError, match=r"state\.safetensors is the state of another training: delete it")
    with refused:
        trained(tensors, config, seed=1, state=state)
    with refused:
        trained(tensors, replace(config, clip=0.5), state=state)
    for changes in ({"market": "n"}, {"data_hash": "other"}):
        with refused:
            trained(replace(tensors, **changes), config, state=state)
    with refused:
        fit(small_network(tensors, gamma1=0.02), tensors, config, 0, CPU, state)
    safetensors.torch.save_file({"a": torch.zeros(2)}, state)
    with refused:
        trained(tensors, config, state=state)


# --- refusals ---------------------------------------------------------------------------------------------------------
def test_a_training_that_diverges_says_what_to_change(tensors, monkeypatch, tmp_path):
    with pytest.raises(
        TrainingError, match=r"epoch 0: rec, .*val.* not a number: lower learning_rate \(1e\+30\) or clip"
    ):
        trained(tensors, replace(QUICK, learning_rate=1e30))
    net = small_network(tensors)
    with torch.no_grad():
        net.encoder.context.weight[0, 0] = torch.inf
    with pytest.raises(
        TrainingError, match=r"epoch 0: .* not a number: lower learning_rate \(0\.003\) or clip \(1\.0\)$"
    ):
        fit(net, tensors, QUICK, 0, CPU, tmp_path / "state.safetensors")
    assert not list(tmp_path.iterdir())  # no epoch was whole
    scripted(monkeypatch, [3.0, 2.0], [3.0, np.nan])
    with pytest.raises(
        TrainingError, match=r"epoch 1: val is not a number.*state\.safetensors keeps the epochs before"
    ):
        trained(tensors, state=tmp_path / "state.safetensors")


@pytest.mark.parametrize("where", ["forward", "reconstruction"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_running_out_of_memory_says_what_to_change(tensors, monkeypatch, where, device):
    def too_much(*args):
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        torch.empty(2**50)  # four petabytes, from the allocator itself

    monkeypatch.setattr(training, where, too_much)
    with pytest.raises(TrainingError, match=r"out of memory on cpu with 7 stocks and batches of 16 sessions: lower "
                                            r"memory_gib \(4\.0\), then batch_sessions"):  # fmt: skip
        trained(tensors)


@pytest.mark.parametrize("lack", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=["numpy", "cuda"])
@pytest.mark.parametrize("where", ["Data", "train_epoch"])
def test_a_market_too_large_for_the_memory_says_so_too(tensors, monkeypatch, where, lack):
    """NumPy raises MemoryError, and moving a market to the device may be the first that does not fit."""
    monkeypatch.setattr(training, where, lambda *args: (_ for _ in ()).throw(lack))
    with pytest.raises(TrainingError, match=r"out of memory on cpu with 7 stocks"):
        trained(tensors)


def test_another_error_is_not_called_a_lack_of_memory(tensors, monkeypatch):
    monkeypatch.setattr(training, "forward", lambda *a: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size") as caught:
        trained(tensors)
    assert not isinstance(caught.value, TrainingError)


def test_too_few_samples_say_what_to_change(tensors):
    message = r"70 training samples leave 63 to fit on and 7 to stop on, fewer than a batch of 64: lower batch_sessions"
    with pytest.raises(TrainingError, match=message):
        trained(tensors, replace(QUICK, batch_sessions=64))
    with pytest.raises(TrainingError, match="leave 70 to fit on and 0 to stop on"):
        trained(tensors, replace(QUICK, tail_share=0.001))
    trained(tensors, replace(QUICK, batch_sessions=63, epochs=1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning": 1}, "training has no key learning; it has: epochs, patience"),
        ({"epochs": 0}, "epochs is 0; it must be an integer from 1 up"),
        ({"batch_sessions": 2.5}, "batch_sessions is 2.5; it must be an integer from 1 up"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; it must be a positive number"),
        ({"memory_gib": 0}, "memory_gib is 0; it must be a positive number"),
        ({"tail_share": 1.0}, "tail_share is 1.0; it must be a share between 0 and 1"),
        ({"epochs": True}, "epochs is True; it must be an integer from 1 up"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; it must be a positive number"),
        ({"clip": float("nan")}, "clip is nan; it must be a positive number"),
        ({"memory_gib": True}, "memory_gib is True; it must be a positive number"),
        ({"min_delta": float("nan")}, "min_delta is nan; it must be a number that is not negative"),
        ({"min_delta": "x"}, "min_delta is 'x'; it must be a number that is not negative"),
        ({"min_delta": -5}, "min_delta is -5; it must be a number that is not negative"),
        ({"tail_share": float("nan")}, "tail_share is nan; it must be a share between 0 and 1"),
        ({"fit_tail": "false"}, "fit_tail is 'false'; it can be False, True"),
        ({"fit_tail": 1}, "fit_tail is 1; it can be False, True"),
        ({"matmul": "fast"}, "matmul is 'fast'; it can be highest, high, medium"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_key_or_value_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        make_training(**wrong)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(TrainingError, match="device cuda: torch sees no GPU here; use device cpu, or install"):
        choose_device("cuda")
    with pytest.raises(ValueError, match="device 'tpu': use auto, cpu or cuda"):
        choose_device("tpu")


def test_progress_is_shown_when_it_has_a_name(tensors, capfd):
    config = replace(QUICK, epochs=1)
    trained(tensors, config)
    assert capfd.readouterr() == ("", "")
    trained(tensors, config, label="a name")
    out, err = capfd.readouterr()
    assert not out and err.strip().startswith("a name") and "val=" in err and "entropy=" in err


def test_the_market_of_these_tests(tensors):
    """Enough happens in it: every split, a stock that joins, one that pauses, one that leaves."""
    assert (tensors.train.sum(), tensors.val.sum(), tensors.test.sum()) == (TRAINED, VALIDATED, TESTED)
    assert tensors.scored.sum() == TRAINED + VALIDATED + TESTED
    changes = np.abs(np.diff(tensors.active[tensors.train].astype(int), axis=0)).sum(0)
    assert changes[1] == 1 and changes[2] == 2 and not tensors.active[-1, 0]


# --- what a GPU would wait for ----------------------------------------------------------------------------------------
FROM_HOST = ("tensor", "as_tensor", "from_numpy")
TO_HOST = ("new_tensor", "item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "nonzero")


@pytest.mark.parametrize("overrides", [{}, {"sources": "temporal"}, {"use_prior": False}])
def test_a_step_neither_brings_nor_fetches_a_value(tensors, monkeypatch, overrides):
    """Forward, loss, gradient, clipping and update: nothing that a GPU would have to wait for."""

    def waits(*_, **__):
        raise AssertionError("a value crosses between host and device inside a step")

    net = small_network(tensors, **overrides)
    data, config = Data(tensors, net.config, CPU), replace(QUICK, clip=0.5)
    batch, optimiser = data.batch(*(int(t) for t in data.train[[0, 7]])), torch.optim.Adam(net.parameters(), fused=True)
    for name in FROM_HOST:
        monkeypatch.setattr(torch, name, waits)
    for name in TO_HOST:
        monkeypatch.setattr(torch.Tensor, name, waits)
    with pytest.raises(AssertionError, match="crosses"):
        batch.stress.new_tensor([1.0])
    before = net.graph.alpha.a.detach().clone()
    terms = loss_terms(forward(net, batch, config.memory_gib), batch.active, net.config)
    terms["total"].backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
    optimiser.step()
    monkeypatch.undo()
    assert not torch.equal(before, net.graph.alpha.a)
