"""Variants as data: every row of the paper's tables is there, keys are checked, data overrides do what they say."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from anomaly_routing.model.config import DESIGN, PRESETS, make_config
from anomaly_routing.model.training import chunks, make_training
from anomaly_routing.panel import Splits
from anomaly_routing.runs import read_meta
from anomaly_routing.train import Job, expand
from anomaly_routing.variants import placed, read_catalogue, rescaled, view
from tests.conftest import ROOT
from tests.model.small_networks import BURN_IN, TRAINED, small_tensors

PATH = ROOT / "variants.yaml"


@pytest.fixture(scope="module")
def catalogue():
    return read_catalogue(PATH)


def edited(tmp_path, change):
    content = yaml.safe_load(PATH.read_text())
    change(content)
    path = tmp_path / "variants.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_every_row_of_the_papers_tables_has_a_variant(catalogue):
    claims = {c["id"] for c in yaml.safe_load((ROOT / "paper" / "claims.yaml").read_text())["claims"]}
    for number, ending in ((2, ".rate"), (4, ""), (6, ".rate"), (7, ".rate"), (8, ".rate")):
        rows = {claim for claim, _ in catalogue.tables[f"table{number}"]}
        assert {f"{row}{ending}" for row in rows} <= claims
        other = {"T4.n", "T4.within2", "T4.default_best", "T4.set", "T4.lr_unstable", "T4.k10"}
        said = {c for c in claims if c.startswith(f"T{number}.") and c.endswith(ending)} - other
        assert {c.removesuffix(ending) for c in said} == rows
    assert len(catalogue.tables["table4"]) == 28
    assert len({name for _, name in catalogue.tables["table4"]}) == 20  # SPEC 11: distinct runs


def test_every_switch_of_the_presets_is_flipped_alone(catalogue):
    for key, value in PRESETS["literal"].items():
        assert catalogue.variants[f"literal_{key}"].model == {key: value}


def test_what_a_variant_says_wins_over_the_tier(catalogue):
    assert catalogue.job("full", 0, "narrow").overrides == {"lstm_hidden": 32}
    assert catalogue.job("lstm_hidden_256", 0, "narrow").overrides == {"lstm_hidden": 256}
    assert catalogue.job("no_mpi", 3, "cpu") == catalogue.job("full", 3, "cpu")
    assert catalogue.job("full", 1, "cpu") == Job("intended", "full", 1, training={"epochs": 30})


def test_a_design_that_is_not_used_renames_no_run():
    """Runs that were stored before the designs existed keep their names."""
    tensors = small_tensors()
    config = Job("intended").key(tensors).config
    assert not set(DESIGN) & set(config["model"]) and "scalar_speed" not in config["training"]
    assert set(asdict(make_config())) == set(DESIGN) | set(config["model"])
    other = Job("intended", overrides={"mechanisms": "two"}, training={"scalar_speed": 50.0}).key(tensors).config
    assert other["model"]["mechanisms"] == "two" and other["training"]["scalar_speed"] == 50.0


def test_the_stored_runs_keep_their_names():
    """What the real market's parameters ask for is found under the names it had before there were variants."""
    folder = ROOT / "reports" / "us100" / "runs" / "model"
    params = yaml.safe_load((ROOT / "markets" / "us100" / "params.yaml").read_text())["model"]
    stored = read_meta(next(folder.glob("intended--full--seed0--*.npz")))["key"]
    market = SimpleNamespace(
        market="us100",
        splits=Splits(**stored["config"]["splits"]),
        features_numerics=stored["config"]["features_numerics"],
        data_hash=stored["data_hash"],
    )
    names = {job.key(market).filename for job in expand(params["jobs"], params["training"])}
    assert {path.name for path in folder.glob("*.npz")} <= names
    first = {"intended--full--seed0--2774be0ef7e9.npz", "literal--full--seed0--0729205eebb7.npz"}
    assert first <= {Job(m, training=params["training"]).key(market).filename for m in PRESETS}


WRONG = {
    "typo in a key": (lambda c: c["variants"]["no_moe"]["model"].update(mechanism="one"), "no_moe.*no key mechanism"),
    "typo in a value": (lambda c: c["variants"]["alpha0"]["model"].update(alpha_rule="fix"), "alpha0.*'fix'"),
    "typo in training": (lambda c: c["variants"].update(x={"training": {"lr": 0.1}}), "x: training has no key lr"),
    "typo in data": (lambda c: c["variants"].update(x={"data": {"skip": 3}}), "no data key skip"),
    "typo in a section": (lambda c: c["variants"].update(x={"modell": {}}), "x says modell"),
    "contradiction": (
        lambda c: c["variants"]["no_moe"]["model"].update(routing_rule="top2"),
        "nothing to choose from",
    ),
    "value of a rule that is not chosen": (
        lambda c: c["variants"].update(x={"model": {"alpha_fixed": 0.3}}),
        "x: alpha_fixed says nothing without alpha_rule",
    ),
    "seeds": (lambda c: c["tiers"]["narrow"].update(seeds=0), "narrow: seeds is 0"),
    "change of a shared run": (lambda c: c["variants"]["no_mpi"].update(model={"top_k": 3}), "shares the run of full"),
    "run of nobody": (lambda c: c["variants"]["no_mpi"].update(run="ful"), "shares the run of ful, which has none"),
    "run of a run": (lambda c: c["variants"].update(x={"run": "no_mpi"}), "shares the run of no_mpi"),
    "row of nobody": (lambda c: c["tables"]["table2"].update({"T2.full": "fool"}), "table2 names unknown.*fool"),
    "tier": (lambda c: c["tiers"]["narrow"].update(data={}), "tier narrow says data"),
    "span": (lambda c: c["variants"]["no_covid"]["data"].update(without=["2020-06-30", "2020-02-20"]), "in order"),
    "no date": (lambda c: c["variants"]["no_covid"]["data"].update(without=["then", "now"]), "two dates"),
    "channel": (lambda c: c["variants"]["no_mpi"].update(channel="I"), "channel 'I'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_refused_before_anything_runs(tmp_path, name):
    change, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        read_catalogue(edited(tmp_path, change))


# --- data ------------------------------------------------------------------------------------------------------------
def test_later_moves_the_first_sample():
    tensors = small_tensors()
    moved = view(tensors, {"later": 7})
    assert np.flatnonzero(moved.train)[0] == np.flatnonzero(tensors.train)[0] + 7
    assert moved.train.sum() == tensors.train.sum() - 7 and np.array_equal(moved.test, tensors.test)
    assert Job("intended").key(moved).digest != Job("intended").key(tensors).digest


def hole(tensors):
    return [f"{tensors.sessions[BURN_IN + 20]:%Y-%m-%d}", f"{tensors.sessions[BURN_IN + 29]:%Y-%m-%d}"]


def test_nothing_is_fitted_on_the_sessions_without():
    tensors = small_tensors()
    holed = view(tensors, {"without": hole(tensors)})
    span = np.arange(BURN_IN + 20, BURN_IN + 30)
    assert Job("intended").key(holed) == Job("intended").key(placed(tensors, {"without": hole(tensors)}))
    assert not holed.train[span].any() and holed.train.sum() == TRAINED - 10
    assert np.array_equal(holed.scored, tensors.scored)
    samples = np.flatnonzero(holed.train)
    for epoch in range(5):
        batches = chunks(samples, 16, 0, epoch)
        rows = np.concatenate([np.arange(first, last) for first, last in batches])
        assert not np.isin(rows, span).any() and len(set(rows)) == len(rows) and set(rows) <= set(samples)
        assert len(rows) >= len(samples) - 15
    stressed = tensors.stress.copy()
    stressed[span] = 99.0
    changed = view(small_with(tensors, stress=stressed), {"without": hole(tensors)})
    outside = ~np.isin(np.arange(len(tensors.sessions)), span)
    np.testing.assert_array_equal(holed.normalised_stress()[outside], changed.normalised_stress()[outside])


def small_with(tensors, **changes):
    from dataclasses import replace

    return replace(tensors, **changes)


def test_features_are_scaled_without_the_span():
    """As the scaler of the features does, on values that it never clipped."""
    rng = np.random.default_rng(0)
    tensors = small_tensors()
    long = np.repeat(tensors.x, 1, axis=0)
    assert np.array_equal(rescaled(tensors), long), "fewer than 120 training samples: the scale was pooled"
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("anomaly_routing.variants.MIN_TRAINING_ROWS", 10)
        raw = rng.normal(3, 0.2, tensors.x.shape).astype(np.float32) * tensors.active[..., None]
        again = rescaled(small_with(tensors, x=raw))
    for i in range(2, len(tensors.tickers)):
        rows = tensors.train & tensors.active[:, i]
        values = again[rows, i]
        np.testing.assert_allclose(np.median(values, axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(1.4826 * np.median(np.abs(values), axis=0), 1, rtol=1e-5)
    assert not again[~tensors.active].any()


def test_training_keys_are_those_of_the_configuration():
    assert make_training(scalar_speed=50.0).scalar_speed == 50.0
    with pytest.raises(ValueError, match="scalar_speed"):
        make_training(scalar_speed=0)
