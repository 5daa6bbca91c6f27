"""From trained weights to a stored run: scores and index against plain loops, no look-ahead, what a file holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from small_networks import PRESETS, SMALL, TESTED, TRAINED, VALIDATED, altered, small_network, small_tensors

from anomaly_routing import packing, train
from anomaly_routing.model import pressure_index, training
from anomaly_routing.model.checkpoints import load_checkpoint, rounded, save_checkpoint
from anomaly_routing.model.errors import TrainingError
from anomaly_routing.model.outcome import Outcome, learned_graphs, outcome
from anomaly_routing.model.training import Data, TrainingConfig
from anomaly_routing.packing import shortened
from anomaly_routing.panel import BURN_IN, Splits
from anomaly_routing.runs import MAX_BYTES, Run, RunKey, RunStore, read_meta
from anomaly_routing.tensors import Tensors
from anomaly_routing.train import Job, Keep, as_run, train_one
from tests.oracles import pressure_oracle as oracle

CPU = torch.device("cpu")
ROWS = np.arange(BURN_IN, BURN_IN + TRAINED + VALIDATED + TESTED)
PARTS = [np.isin(np.arange(len(ROWS)), part) for part in np.split(np.arange(len(ROWS)), [TRAINED, TRAINED + VALIDATED])]
TEST = TRAINED + VALIDATED  # first test session among the scored ones
WEIGHTS = {"share": 0.30, "intensity": 0.25, "dispersion": 0.20, "consensus": 0.15, "psi": 0.10}
KEEP = Keep(days=np.array([115, 150, 183]), graphs=np.array([150, 160]))
SHORT = 2e-5  # what `shortened` may move a daily series, as a share
SINGLE = 1e-6  # a few roundings of single precision: memory alignment and threads change the order of a sum


@pytest.fixture(scope="module")
def tensors():
    return small_tensors()


def network(tensors, preset="intended", seed=0, **overrides):
    """Uneven enough for gate and scores to differ between the stocks."""
    net = small_network(tensors, preset, seed, **overrides)
    with torch.no_grad():
        for value in net.parameters():
            if value.dim() > 1:
                value.mul_(2)
    return net


@pytest.fixture(scope="module", params=PRESETS)
def case(request, tensors):
    """Network, outcome, and every sample's forward pass on its own."""
    net = network(tensors, request.param)
    data = Data(tensors, net.config, CPU)
    with torch.no_grad():
        alone = [net(*data.batch(int(t), int(t) + 1)) for t in ROWS]
    return net, outcome(net, tensors, CPU), alone


# --- outcome ----------------------------------------------------------------------------------------------------------
def test_what_the_network_says_of_every_sample(case, tensors):
    _, found, alone = case
    np.testing.assert_array_equal(found.rows, ROWS)
    np.testing.assert_array_equal(found.active, tensors.active[ROWS])
    named = {"routing": found.routing, "expert_error": found.expert_error, "error": np.nan_to_num(found.error)}
    named |= {name: getattr(found, name) for name in ("psi", "alpha", "tau", "source_weights")}
    for name, series in named.items():
        expected = np.stack([getattr(out, name)[0].numpy() for out in alone])
        np.testing.assert_allclose(series, expected, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(np.isnan(found.error), ~found.active)
    assert not found.routing[~found.active].any() and not found.expert_error[~found.active].any()


def test_scores_and_the_index_are_those_of_plain_loops(case):
    net, found, _ = case
    error, active = found.error, found.active
    if net.config.score_stats == "train":
        assert (found.mu, found.sigma) == pytest.approx(oracle.score_statistics(error, active, PARTS[0]), rel=1e-9)
        score = oracle.scores(error, active, range(len(ROWS)), found.mu, found.sigma)
    else:
        assert found.mu is None and found.sigma is None
        score = oracle.block_scores(error, active, PARTS)
    np.testing.assert_allclose(found.score, score, rtol=1e-9)
    theta = oracle.quantile(oracle.pooled(score, active, np.flatnonzero(PARTS[1])), 0.95)
    assert found.theta_s == pytest.approx(theta, rel=1e-9)
    parts = oracle.components(score, active, found.routing, found.psi, found.theta_s, net.config)
    np.testing.assert_allclose(found.components, parts, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.mpi, oracle.pressure(parts), rtol=1e-6)
    assert np.ptp(found.score[active]) > 0.5 and np.ptp(found.mpi) > 0.02  # there is something to compare


def test_memory_does_not_change_an_outcome(case, tensors):
    net, found, _ = case
    other = outcome(net, tensors, CPU, TrainingConfig(batch_sessions=5, memory_gib=1e-9))
    np.testing.assert_allclose(other.score, found.score, rtol=1e-4)
    np.testing.assert_allclose(other.mpi, found.mpi, rtol=1e-4)


def test_learned_graphs(case, tensors):
    net, _, alone = case
    graphs = learned_graphs(net, tensors, np.array([150, 60]), CPU)
    expected = [alone[t - BURN_IN].learned[0].numpy() for t in (150, 60)]
    np.testing.assert_allclose(graphs, expected, rtol=1e-4, atol=1e-6)
    assert learned_graphs(net, tensors, np.array([], int), CPU).shape == (0, 7, 7)


# --- no look-ahead ----------------------------------------------------------------------------------------------------
def daily(tensors, preset, **overrides):
    """Daily series of a run whose two stop rules chose different weights."""
    outcomes = {rule: outcome(network(tensors, preset, k, **overrides), tensors, CPU) for k, rule in enumerate(BOTH)}
    return as_run(tensors, outcomes, {}, True, {}).daily.to_numpy()


BOTH = ("tail", "val")


def moved(before, after, upto):
    """Sessions among the scored ones, up to `upto`, on which some series differs."""
    same = np.isclose(before[: upto + 1], after[: upto + 1], rtol=2 * SHORT, atol=1e-6, equal_nan=True)
    return np.flatnonzero(~same.all(axis=1))


def test_no_daily_series_of_intended_sees_later_sessions(tensors):
    """SPEC 15, test 10: weights, statistics and cuts are frozen; all inputs after session t are altered or removed."""
    before = daily(tensors, "intended")
    for t in (TEST, TEST + 10, TEST + TESTED - 2):
        after = daily(altered(tensors, ROWS[t] + 1), "intended")
        assert len(moved(before, after, t)) == 0
        assert np.mean(~np.isclose(before[t + 1 :], after[t + 1 :], rtol=1e-3)) > 0.5
        end = ROWS[t] + 1
        cut = {
            name: getattr(tensors, name)[:end]
            for name in ("sessions", "x", "active", "returns", "log_volume", "stress")
        }
        splits = replace(tensors.splits, test_end=f"{tensors.sessions[end - 1]:%Y-%m-%d}")
        assert len(moved(before, daily(replace(tensors, **cut, splits=splits), "intended"), t)) == 0


def test_a_stock_score_in_validation_does_not_see_later_sessions(tensors):
    net, t = network(tensors), TRAINED + 9
    before, after = (outcome(net, one, CPU).score for one in (tensors, altered(tensors, ROWS[t] + 1)))
    np.testing.assert_allclose(after[: t + 1], before[: t + 1], rtol=1e-5)
    assert not np.allclose(after[t + 1 : t + 4], before[t + 1 : t + 4], rtol=1e-2, equal_nan=True)


def test_literal_sees_the_later_sessions_of_its_block_and_no_others(tensors):
    """A64: documented, and the reason why a run of `literal` is marked as looking ahead."""
    before = daily(tensors, "literal")
    for t, first in ((TEST + 10, TEST), (TEST + 35, TEST + 32)):
        seen = moved(before, daily(altered(tensors, ROWS[t] + 1), "literal"), t)
        assert list(seen) == list(range(first, t + 1))


def test_the_scale_of_the_full_sample_looks_ahead(tensors):
    before = daily(tensors, "intended", psi_norm="full_sample")
    after = daily(altered(tensors, ROWS[TEST + 10] + 1), "intended", psi_norm="full_sample")
    assert len(moved(before, after, TEST + 10)) > 100


# --- what a run holds -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def packed(tensors):
    outcomes = {rule: outcome(network(tensors, "intended", k), tensors, CPU) for k, rule in enumerate(BOTH)}
    return outcomes, as_run(tensors, outcomes, {"a": 1}, True, {"b": np.ones(2)})


def test_daily_series_are_those_of_plain_loops(packed, tensors):
    outcomes, run = packed
    pd.testing.assert_index_equal(run.daily.index, tensors.sessions[ROWS])
    assert (run.info, list(run.extras), run.tickers) == ({"a": 1}, ["b"], tensors.tickers)
    for rule, ending in (("tail", ""), ("val", "@val")):
        found = outcomes[rule]
        for t in (0, 55, TRAINED + 3, len(ROWS) - 1):
            on = np.flatnonzero(found.active[t])
            banks = [i for i in on if i in (1, 2)]
            s, w = found.score[t], found.routing[t]
            expected = {"mean": s[on].mean(), "max": s[on].max(), "share": (s[on] > found.theta_s).mean()}
            expected |= {"banks": s[banks].mean(), "psi": found.psi[t], "alpha": found.alpha[t], "mpi": found.mpi[t]}
            expected |= {name: found.components[t, k] for k, name in ((1, "intensity"), (2, "dispersion"))}
            expected |= {"consensus": found.components[t, 3]}
            expected |= {f"w{k + 1}": w[on, k].mean() for k in range(4)}
            if rule == "tail":
                e = found.error[t, on]
                expected |= {f"w_banks{k + 1}": w[banks, k].mean() for k in range(4)}
                expected |= {f"w_error{k + 1}": (e * w[on, k]).sum() / e.sum() for k in range(4)}
                expected |= {"tau": found.tau[t]}
                sources = zip(("w_temp", "w_ctx", "w_prior"), found.source_weights[t], strict=True)
                expected |= dict(sources)
            for name, value in expected.items():
                assert run.daily[name + ending].iloc[t] == pytest.approx(value, rel=SHORT, abs=1e-12), name
    named = {c for c in run.daily if "@" not in c}
    assert {"tau", "w_temp", "w_banks1", "w_error4"} <= named
    assert not {f"{c}@val" for c in ("tau", "w_temp", "w_banks1", "w_error4")} & set(run.daily)


@pytest.mark.parametrize("ending", ["", "@val"])
def test_the_index_is_the_sum_of_what_is_stored_beside_it(packed, ending):
    """SPEC 7.4, from the file alone."""
    table = packed[1].daily
    parts = table[[name + ending for name in WEIGHTS]].to_numpy()
    assert (parts >= 0).all() and (parts <= 1).all()
    np.testing.assert_allclose(parts @ np.array(list(WEIGHTS.values())), table["mpi" + ending], rtol=2 * SHORT)


def test_which_sessions_are_kept(packed, tensors, monkeypatch):
    """All for the first seed, with single stocks' scores on validation and test; else what the matched budget needs."""
    outcomes, run = packed
    pd.testing.assert_index_equal(run.score_sessions, tensors.sessions[ROWS[TRAINED:]])
    np.testing.assert_array_equal(run.score, outcomes["tail"].score[TRAINED:])
    monkeypatch.setattr(packing, "PAST", 12)
    small = as_run(tensors, outcomes, {}, False, {})
    pd.testing.assert_frame_equal(small.daily, run.daily.iloc[TRAINED - 12 :])
    assert small.score.shape == (0, 7) and len(small.score_sessions) == 0
    monkeypatch.setattr(packing, "PAST", 5000)
    assert len(as_run(tensors, outcomes, {}, False, {}).daily) == len(ROWS)


def test_the_past_is_that_of_the_matched_budget():
    """SPEC 9.6: 250 sessions before any that is judged."""
    from anomaly_routing.evaluation.thresholds import HISTORY

    assert packing.PAST == HISTORY


def test_shortened_series():
    values = np.r_[0.0, 1.0, 0.5, np.nan, np.random.default_rng(0).random(5000), 1e-7, 345.678]
    short = shortened(values)
    np.testing.assert_allclose(short, values, rtol=SHORT)
    np.testing.assert_array_equal(short[:4], values[:4])
    known = short[np.isfinite(short)]
    assert not (known.astype(np.float32).view(np.uint32) & 0xFF).any()  # the lowest byte of every float32 is free
    np.testing.assert_array_equal(known.astype(np.float32), known)
    assert (np.diff(short[4:-2][np.argsort(values[4:-2])]) >= 0).all()


def test_a_full_size_run_fits_into_git(tmp_path):
    """The paper's market, both rules, case studies of 108 sessions, six dense graphs, 100 epochs of log: the worst."""
    rng, stocks = np.random.default_rng(0), 100
    days = pd.bdate_range("2017-01-03", "2024-12-31")  # 74 too many: drop some of training, validation and test
    sessions = days.delete([*range(500, 545), *range(1310, 1319), *range(1700, 1720)])
    tensors = Tensors(
        market="m",
        sessions=sessions,
        tickers=[f"T{i:03d}" for i in range(stocks)],
        features=["f"],
        group=["g"],
        x=np.zeros((len(sessions), stocks, 1), np.float32),
        active=np.ones((len(sessions), stocks), bool),
        returns=np.zeros((len(sessions), stocks), np.float32),
        log_volume=np.zeros((len(sessions), stocks), np.float32),
        prior=np.zeros((stocks, stocks), np.float32),
        stress=np.zeros((len(sessions), 4)),
        is_bank=np.arange(stocks) < 29,
        splits=Splits(),
        data_hash="",
        features_numerics=1,
    )
    rows = np.flatnonzero(tensors.scored)
    n = len(rows)
    assert (len(sessions), n, int(tensors.val.sum()), int(tensors.test.sum())) == (2012, 1972, 251, 502)

    def series(shape):
        return np.clip(rng.normal(0.4, 0.1, shape), 0, 1)

    def made():
        error = rng.gamma(9.0, 0.3, (n, stocks)) * rng.gamma(20.0, 0.05, (n, 1))
        return Outcome(
            rows=rows,
            active=tensors.active[rows],
            error=error,
            score=1 / (1 + np.exp(-2 * (error - error.mean()) / error.std())),
            routing=rng.dirichlet([30.0, 40.0, 30.0, 20.0], (n, stocks)).astype(np.float32),
            expert_error=rng.gamma(9.0, 0.3, (n, stocks, 4)).astype(np.float32),
            psi=series(n),
            alpha=series(n),
            tau=series(n),
            source_weights=series((n, 3)),
            components=series((n, 5)),
            mpi=series(n),
            mu=1.0,
            sigma=1.0,
            theta_s=0.9,
        )

    outcomes = {rule: made() for rule in BOTH}
    lines = [{f"number_{k}": float(f"{v:.8g}") for k, v in enumerate(line)} for line in rng.gamma(2.0, size=(100, 35))]
    extras = {
        "routing": outcomes["tail"].routing[:108].astype(np.float16),
        "expert_error": outcomes["tail"].expert_error[:108].astype(np.float16),
        "graphs": rng.dirichlet(np.full(stocks, 50.0), (6, stocks)).astype(np.float16),
    }
    run = as_run(tensors, outcomes, {"history": lines}, True, extras)
    path = RunStore(tmp_path).save(RunKey("m", "literal", "full", 0, {}, "h", 1), run)
    assert 400_000 < path.stat().st_size <= MAX_BYTES


# --- one run, from the training to the store --------------------------------------------------------------------------
def job(method="intended", seed=0, **overrides):
    settings = {"epochs": 3, "batch_sessions": 16, "learning_rate": 0.01}
    return Job(method, "small", seed, SMALL | overrides, settings)


@pytest.fixture(scope="module")
def stored(tensors, tmp_path_factory):
    """A stored first seed with its checkpoint: folder, key, run. The stop metrics are told, so the rules part ways."""
    folder = tmp_path_factory.mktemp("trained")
    store, keep = RunStore(folder / "runs"), replace(KEEP, checkpoint=folder / "intended.safetensors")
    told = {7: iter([3.0, 1.0, 2.0]), VALIDATED: iter([3.0, 2.0, 1.0])}  # tail, validation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "reconstruction", lambda net, data, samples, config: (next(told[len(samples)]), {}))
        key = train_one(tensors, job(), store, device="cpu", tier="quick", scratch=folder / "scratch", keep=keep)
    return folder, key, store.load(key)


def assert_half(stored, again):
    """Equal to one unit of half precision, which such a rounding can tip to its neighbour."""
    np.testing.assert_allclose(stored.astype(float), again.astype(float), rtol=2**-10, atol=2**-24)


def test_the_checkpoint_gives_the_stored_run(stored, tensors):
    """Scores are made with the weights as they are committed, so a reader who loads them gets the same."""
    folder, key, run = stored
    net, info = load_checkpoint(folder / "intended.safetensors")
    assert info == {"run": key.filename, "stop_rule": "tail"} and not net.training
    with safe_open(folder / "intended.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    again = outcome(net, tensors, CPU)
    assert_half(run.score, again.score[TRAINED:].astype(np.float16))
    np.testing.assert_allclose(run.daily["mean"], np.nanmean(again.score, 1), rtol=SHORT)
    np.testing.assert_allclose(run.daily["mpi"], again.mpi, rtol=SHORT)
    assert run.info["theta_s_tail"] == pytest.approx(again.theta_s, rel=SINGLE)
    assert (run.info["mu_tail"], run.info["sigma_tail"]) == pytest.approx((again.mu, again.sigma), rel=SINGLE)
    at = np.searchsorted(again.rows, KEEP.days)
    assert_half(run.extras["routing"], again.routing[at].astype(np.float16))
    assert_half(run.extras["expert_error"], again.expert_error[at].astype(np.float16))
    graphs = learned_graphs(net, tensors, KEEP.graphs, CPU)
    assert_half(run.extras["graphs"], graphs.astype(np.float16))
    for name, days in (("days", KEEP.days), ("graph_days", KEEP.graphs)):
        np.testing.assert_array_equal(run.extras[name], tensors.sessions[days].to_numpy("datetime64[D]"))


def test_each_rule_has_its_own_weights(stored, tensors):
    """Trained again up to the best epoch of each rule: these weights, rounded, give the columns of that rule."""
    run = stored[2]
    for rule, ending in (("tail", ""), ("val", "@val")):
        torch.manual_seed(0)
        net = small_network(tensors)
        config = train.make_training(**job().training | {"epochs": run.info["best"][rule]["epoch"] + 1})
        train.fit(net, tensors, config, 0, CPU)
        net.load_state_dict(rounded(net.state_dict()))
        found = outcome(net, tensors, CPU)
        np.testing.assert_allclose(run.daily["mean" + ending], np.nanmean(found.score, 1), rtol=SHORT)
        assert run.info[f"theta_s_{rule}"] == pytest.approx(found.theta_s, rel=SINGLE)


def test_what_is_said_of_a_run(stored):
    folder, key, run = stored
    info = run.info
    assert info["channels"] == {"paper": {"I": "mean@val", "M": "mpi@val"}, "matched": {"I": "mean", "M": "mpi"}}
    assert (info["family"], info["tier"], info["device"], info["lookahead"]) == ("full model", "quick", "cpu", False)
    assert (info["epochs"], len(info["history"]), info["stopped"]) == (3, 3, "cap")
    assert info["best"] == {"tail": {"epoch": 1, "loss": 1.0}, "val": {"epoch": 2, "loss": 1.0}}
    assert [line["tail"] for line in info["history"]] == [3.0, 1.0, 2.0]
    assert info["theta_s_tail"] != info["theta_s_val"]
    meta = read_meta(RunStore(folder / "runs").path(key))["key"]
    assert meta["config"]["training"] == train.make_training(**job().training).identity()
    assert meta["config"]["model"]["window"] == 5 and meta["market"] == "m" and meta["data_hash"] == "hash"
    assert sorted(p.name for p in folder.rglob("*.*") if p.is_file()) == sorted([key.filename, "intended.safetensors"])


@pytest.mark.parametrize(
    ("method", "overrides", "looks"),
    [
        ("literal", {}, True),
        ("intended", {"psi_norm": "full_sample"}, True),
        ("literal", {"score_stats": "train"}, False),
    ],
)
def test_a_run_that_looks_ahead_says_so(tensors, tmp_path, method, overrides, looks):
    one = job(method, **overrides)
    one = replace(one, training=one.training | {"epochs": 1})
    key = train_one(tensors, one, RunStore(tmp_path), device="cpu", tier="quick", scratch=tmp_path, keep=None)
    run = RunStore(tmp_path).load(key)
    assert run.info["lookahead"] is looks and not run.extras and run.score.shape == (0, 7)
    assert (run.info["mu_val"] is None) == (method == "literal" and not overrides)


def test_a_stored_run_is_not_trained_again_and_another_meaning_is_another_run(stored, tensors, monkeypatch):
    folder, key, _ = stored
    monkeypatch.setattr(train, "fit", None)
    options = {"device": "cpu", "tier": "quick", "scratch": folder / "scratch", "keep": None}
    assert train_one(tensors, job(), RunStore(folder / "runs"), **options) == key
    others = [job(seed=1), job("literal"), job(gamma1=0.02), replace(job(), training={"epochs": 4})]
    digests = {one.key(tensors).digest for one in others}
    digests |= {job().key(replace(tensors, **c)).digest for c in ({"data_hash": "b"}, {"features_numerics": 2})}
    assert len(digests | {key.digest}) == 7


def test_memory_that_runs_out_in_scoring_costs_no_training(tensors, tmp_path, monkeypatch):
    store, options = RunStore(tmp_path / "runs"), {"device": "cpu", "tier": "quick", "keep": None}
    with monkeypatch.context() as patch:
        patch.setattr(train, "outcome", lambda *args: torch.empty(2**50))  # four petabytes
        with pytest.raises(TrainingError, match=r"out of memory on cpu with 7 stocks.*lower memory_gib \(4\.0\)"):
            train_one(tensors, job(), store, scratch=tmp_path / "scratch", **options)
    assert not list(store.folder.glob("*.npz"))
    monkeypatch.setattr(training, "train_epoch", None)  # every epoch was kept
    thrifty = replace(job(), training=job().training | {"memory_gib": 1.0})
    assert train_one(tensors, thrifty, store, scratch=tmp_path / "scratch", **options) in store


def test_a_stored_run_that_lacks_what_is_to_be_kept_is_made_again(tensors, tmp_path, monkeypatch):
    """As after a training on a machine that cannot read the market's parameter file: it keeps daily series alone,
    for which of the seeds is the first one stands in that file."""
    keep, store = replace(KEEP, checkpoint=tmp_path / "net.safetensors"), RunStore(tmp_path / "runs")
    options = {"device": "cpu", "tier": "quick", "scratch": tmp_path / "scratch"}
    key = train_one(tensors, job(), store, **options)
    daily = store.load(key).daily
    assert train_one(tensors, job(), store, keep=keep, **options) == key
    run = store.load(key)
    assert load_checkpoint(keep.checkpoint)[1]["run"] == key.filename and len(run.extras["days"]) == len(keep.days)
    pd.testing.assert_frame_equal(run.daily.loc[daily.index], daily)
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", None)
        assert train_one(tensors, job(), store, keep=keep, **options) == key
    keep.checkpoint.unlink()
    train_one(tensors, job(), store, keep=keep, **options)
    assert load_checkpoint(keep.checkpoint)[1]["run"] == key.filename


def test_other_sessions_to_keep_come_from_the_checkpoint(tensors, tmp_path, monkeypatch):
    """Nothing is trained, nothing else in the stored run moves, and what is kept is what a training would have kept."""
    keep, store = replace(KEEP, checkpoint=tmp_path / "net.safetensors"), RunStore(tmp_path / "runs")
    other = replace(keep, days=np.array([120, 121, 160]), graphs=np.array([155]))
    options = {"device": "cpu", "tier": "quick", "scratch": tmp_path / "scratch"}
    train_one(tensors, job(), store, keep=other, **options)
    expected = store.load(job().key(tensors))
    store.path(job().key(tensors)).unlink()
    key = train_one(tensors, job(), store, keep=keep, **options)
    before = store.load(key)
    monkeypatch.setattr(train, "fit", None)
    for wanted in (other, replace(other, graphs=KEEP.graphs), replace(other, graphs=other.graphs)):
        assert train_one(tensors, job(), store, keep=wanted, **options) == key
        run = store.load(key)
        np.testing.assert_array_equal(
            run.extras["graph_days"], tensors.sessions[wanted.graphs].to_numpy("datetime64[D]")
        )
        pd.testing.assert_frame_equal(run.daily, before.daily)
        np.testing.assert_array_equal(run.score, before.score)
        assert run.info == before.info
    assert run.extras.keys() == expected.extras.keys()
    for name, values in expected.extras.items():
        if name.endswith("days"):
            np.testing.assert_array_equal(run.extras[name], values)
        else:
            np.testing.assert_allclose(run.extras[name], values, rtol=2e-3, atol=1e-4, err_msg=name)
    assert np.abs(run.extras["routing"] - before.extras["routing"]).max() > 1e-3  # there was something to replace
    train_one(tensors, job(), store, keep=replace(wanted, days=np.array([], int)), **options)
    assert store.load(key).extras["routing"].shape == (0, 7, 4)
    with pytest.raises(ValueError, match="must be scored sessions"):
        train_one(tensors, job(), store, keep=replace(wanted, days=np.array([3])), **options)


def test_the_source_of_the_alert_cuts_moves_the_levels_alone(packed, tensors, tmp_path, monkeypatch):
    """SPEC 7.5: the key reaches the run; the other series stay."""
    monkeypatch.setattr(pressure_index, "EXPANDING_FROM", 50)
    outcomes, run = packed
    places = {"val": tensors.val, "train": tensors.train, "expanding": tensors.scored}
    for source, counted in places.items():
        other = as_run(tensors, outcomes, {}, True, {}, source).daily
        levels = other.columns[other.columns.str.startswith("level")]
        pd.testing.assert_frame_equal(other.drop(columns=levels), run.daily.drop(columns=levels))
        mpi = outcomes["tail"].mpi
        for t in (10, 60, TRAINED + 20, len(ROWS) - 1):
            past = mpi[:t] if source == "expanding" else mpi[counted[ROWS]]
            cuts = [oracle.quantile(past, q) for q in pressure_index.LEVELS]
            expected = oracle.alert_levels([mpi[t]], cuts)[0] if source != "expanding" or t >= 50 else -1
            assert other["level"].iloc[t] == expected
    with monkeypatch.context() as patch:
        patch.setattr(train, "as_run", lambda *a: (_ for _ in ()).throw(InterruptedError(a[-1])))
        with pytest.raises(InterruptedError, match="expanding"):
            options = {"device": "cpu", "tier": "quick", "scratch": tmp_path, "keep": None}
            train_one(tensors, job(cut_source="expanding"), RunStore(tmp_path), **options)


def test_a_run_is_never_stored_before_its_checkpoint(tensors, tmp_path, monkeypatch):
    """A kill between the two writes must not leave a run that is never made again and a checkpoint that is missing."""
    keep, store = replace(KEEP, checkpoint=tmp_path / "net.safetensors"), RunStore(tmp_path / "runs")
    options = {"device": "cpu", "tier": "quick", "scratch": tmp_path / "scratch", "keep": keep}
    for owner, name in ((train, "save_checkpoint"), (RunStore, "save")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                train_one(tensors, job(), store, **options)
        assert not list(store.folder.glob("*.npz"))
    assert keep.checkpoint.exists() and len(list((tmp_path / "scratch").iterdir())) == 1
    key = train_one(tensors, job(), store, **options)
    assert key in store and load_checkpoint(keep.checkpoint)[1]["run"] == key.filename
    assert not list((tmp_path / "scratch").iterdir())


def test_a_checkpoint_keeps_the_groups_and_refuses_other_files(tensors, tmp_path):
    path, mixed = tmp_path / "net.safetensors", replace(tensors, group=["a", "b", "c", "d", "d", "a", "b", "c"])
    net = network(mixed)
    save_checkpoint(path, net, {"note": 1})
    again, info = load_checkpoint(path)
    assert again.experts.columns == net.experts.columns == [[0, 5], [1, 6], [2, 7], [3, 4]] and info == {"note": 1}
    net.load_state_dict(rounded(net.state_dict()))
    a, b = (outcome(one, mixed, CPU) for one in (net, again))
    np.testing.assert_array_equal(a.score, b.score)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.safetensors")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TrainingError, match=r"net\.safetensors cannot be read"):
        load_checkpoint(path)
    train.fit(small_network(tensors), tensors, train.make_training(epochs=1, batch_sessions=16), 0, CPU, tmp_path / "s")
    with pytest.raises(TrainingError, match="is no checkpoint of this model: make it again with the stage `model`"):
        load_checkpoint(tmp_path / "s")


def test_the_run_reads_back_as_it_was_saved(stored):
    run = stored[2]
    assert isinstance(run, Run) and run.daily.dtypes.eq(np.float32).all() and run.score.dtype == np.float32
    assert np.isfinite(run.daily.to_numpy()).all()
