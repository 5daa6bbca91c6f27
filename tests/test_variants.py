"""Variants as data: every row of the paper's tables is there, keys are checked, data overrides do what they say."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from anomaly_routing.features.stress import stress_indicators
from anomaly_routing.model.config import DESIGN, PRESETS, make_config
from anomaly_routing.model.training import chunks, make_training
from anomaly_routing.panel import Splits
from anomaly_routing.runs import read_meta
from anomaly_routing.sweep import Task, key_of
from anomaly_routing.train import Job, expand
from anomaly_routing.variant_data import placed, rescaled, view
from anomaly_routing.variants import read_catalogue
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
    runs = {tier: {catalogue.run_of(name, tier) for _, name in catalogue.tables["table4"]} for tier in catalogue.tiers}
    assert {tier: len(own) for tier, own in runs.items()} == {"gpu": 20, "cpu": 20, "quick": 20, "narrow": 21}


# SPEC 10 and 11, each row in its own words: what it changes of the model, or of the training where so said. What a key
# does to the network is tested with the model.
FIXED, ONE_EXPERT = "fixed", "one"
MODEL = {
    "full": {},  # preset default
    "no_moe": {"mechanisms": ONE_EXPERT},  # one expert on all 29
    "alpha1": {"alpha_rule": FIXED, "alpha_fixed": 1},  # alpha fixed 1
    "alpha0": {"alpha_rule": FIXED, "alpha_fixed": 0},
    "alpha0_strict": {"alpha_rule": FIXED, "alpha_fixed": 0, "use_prior": False},  # also no prior anywhere
    "fixed05": {"alpha_rule": FIXED, "alpha_fixed": 0.5},
    "trainable_alpha": {"alpha_rule": "learned"},  # T6: clamp(sigmoid(a)), no psi
    "no_multisource": {"sources": "temporal"},  # L = A_temp
    "no_div": {"gamma1": 0},
    "no_smooth": {"gamma2": 0},
    "no_xmodal": {"cross_attention": "uniform"},  # uniform cross-modal attention
    "two_experts": {"mechanisms": "two"},
    "six_experts": {"mechanisms": "six"},
    "uniform_routing": {"routing_rule": "uniform"},  # w = 1/4, gate removed
    "top2_routing": {"routing_rule": "top2"},  # the two largest w
    "hard_routing": {"routing_rule": "hard"},  # one-hot argmax
    "alpha0_no_xmodal": {"alpha_rule": FIXED, "alpha_fixed": 0, "cross_attention": "uniform"},
    "no_multisource_no_xmodal": {"sources": "temporal", "cross_attention": "uniform"},
    # the column `literal` of the table of presets
    "literal_psi_rule": {"psi_rule": "free"},
    "literal_source_w": {"source_w": "sigmoid"},
    "literal_topk_rule": {"topk_rule": "soft"},
    "literal_fusion_scale": {"fusion_scale": "raw"},
    "literal_gcn_loops": {"gcn_loops": False},
    "literal_tau_rule": {"tau_rule": "rising"},  # abs(tau_b) + 0.5 psi
    "literal_div_sign": {"div_sign": 1},
    "literal_score_stats": {"score_stats": "block"},
    "rank_psi": {"psi_rule": "rank"},
    "weighted_rec": {"rec_rule": "routed"},  # sum w_k l_k
    "masked_experts": {"expert_task": "predict"},
    "expert3_refined": {"contagion_sees": "refined"},
    # SPEC 11, Table 4: one factor at a time
    **{f"lstm_hidden_{n}": {"lstm_hidden": n} for n in (64, 128, 256)},
    **{f"attention_heads_{n}": {"attention_heads": n} for n in (2, 8)},
    **{f"gcn_layers_{n}": {"gcn_layers": n} for n in (1, 3)},
    **{f"top_k_{n}": {"top_k": n} for n in (10, 30, 50)},
    **{f"latent_{n}": {"latent": n} for n in (32, 128)},
    **{f"gamma1_{v}": {"gamma1": v} for v in (0.005, 0.02)},
    **{f"gamma2_{v}": {"gamma2": v} for v in (0.0005, 0.002)},
    # Table 8
    **{f"window_{n}": {"window": n} for n in (10, 15, 30, 40)},
}
TRAINING = {
    "fast_scalars": {"scalar_speed": 50},  # learning rate x50
    "learning_rate_0.0001": {"learning_rate": 1e-4},
    "learning_rate_0.01": {"learning_rate": 1e-2},
    "batch_16": {"batch_sessions": 16},
    "batch_64": {"batch_sessions": 64},
}
DATA = {
    "no_covid": {"without": ["2020-02-20", "2020-06-30"]},
    **{f"window_{n}": {"later": 60 - 40} for n in (10, 15, 20, 30, 40)},  # samples with t>=60, not 40
}
JUDGED = {  # the run that is judged, by which channels, with which part of the index as printed
    "no_mpi": ("full", "score", ""),  # same model; alarm = channel I only
    "no_mpi_no_moe": ("no_moe", "score", ""),
    "literal_mpi_c3": ("full", "both", "mpi_c3"),
    "literal_mpi_c4": ("full", "both", "mpi_c4"),
}
SPEC_ROWS = sorted({*MODEL, *TRAINING, *DATA, *JUDGED})


def test_the_file_has_the_rows_of_the_specification_and_no_other(catalogue):
    assert sorted(catalogue.variants) == SPEC_ROWS
    flags = {name.removeprefix("literal_") for name in SPEC_ROWS if name.startswith("literal_")}
    assert flags == set(PRESETS["literal"])


@pytest.mark.parametrize("name", SPEC_ROWS)
def test_a_row_changes_what_its_words_say(catalogue, name):
    variant = catalogue.variants[name]
    assert (variant.model, variant.training) == (MODEL.get(name, {}), TRAINING.get(name, {}))
    assert variant.data == DATA.get(name, {})
    assert (variant.run, variant.channel, variant.index) == JUDGED.get(name, (name, "both", ""))
    if name not in JUDGED:
        config = make_config("intended") if name == "full" else make_config("intended", **MODEL.get(name, {}))
        job = catalogue.job(name, 4, "gpu")
        assert make_config(job.method, **job.overrides) == config and job.seed == 4
        assert make_training(**job.training) == make_training(**TRAINING.get(name, {}))


@pytest.mark.parametrize(
    ("table", "row", "name"),
    [
        ("table2", "T2.alpha0", "alpha0"),
        ("table6", "T6.prior", "alpha1"),
        ("table6", "T6.learned", "alpha0"),
        ("table6", "T6.fixed", "fixed05"),
        ("table6", "T6.trainable", "trainable_alpha"),
        ("table6", "T6.stress", "full"),
        ("table7", "T7.single", "no_moe"),
        ("table7", "T7.two", "two_experts"),
        ("table7", "T7.six", "six_experts"),
        ("table7", "T7.uniform", "uniform_routing"),
        ("table7", "T7.top2", "top2_routing"),
        ("table7", "T7.hard", "hard_routing"),
        ("table4", "T4.bilstm.128", "lstm_hidden_128"),
        ("table4", "T4.lr.0.01", "learning_rate_0.01"),
        ("table8", "T8.20", "window_20"),
    ],
)
def test_a_row_of_the_paper_is_its_variant(catalogue, table, row, name):
    assert dict(catalogue.tables[table])[row] == name


def test_a_default_cell_is_the_full_model_where_the_tier_makes_it_so(catalogue):
    """Table 4's 128 hidden units: no training of its own at full size, one in the tier that has fewer."""
    assert catalogue.job("lstm_hidden_128", 0, "gpu") == catalogue.job("full", 0, "gpu")
    assert catalogue.job("lstm_hidden_128", 0, "cpu") == catalogue.job("full", 0, "cpu")
    own = catalogue.job("lstm_hidden_128", 0, "narrow")
    assert (own.variant, own.overrides) == ("lstm_hidden_128", {"lstm_hidden": 128})
    assert catalogue.job("window_20", 0, "gpu").variant == "window_20", "its samples are others"


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
    "index": (lambda c: c["variants"]["literal_mpi_c3"].update(index="mpi_c5"), "index is 'mpi_c5'"),
    "index of itself": (lambda c: c["variants"].update(x={"index": "mpi_c3", "model": {"top_k": 3}}), "of the run of"),
    "index of one expert": (lambda c: c["variants"].update(x={"run": "no_moe", "index": "mpi_c4"}), "four experts"),
    "another name of the full model": (lambda c: c["variants"].update(x={}), "variant x changes nothing"),
    "the default as an override": (lambda c: c["variants"].update(x={"model": {"top_k": 20}}), "x changes nothing"),
    "another name of a run": (lambda c: c["variants"].update(x={"run": "no_moe"}), "variant x changes nothing"),
    **{
        f"{key} with {other}": (lambda c, m=model: c["variants"].update(x={"model": m}), f"x: {key} says nothing with")
        for key, other, model in (
            ("source_w", "one source", {"sources": "temporal", "source_w": "sigmoid"}),
            ("fusion_scale", "no prior", {"use_prior": False, "fusion_scale": "raw"}),
            ("tau_rule", "equal weights", {"routing_rule": "uniform", "tau_rule": "rising"}),
            ("tau_rule", "the largest weight", {"routing_rule": "hard", "tau_rule": "rising"}),
            ("gamma1", "the largest weight", {"routing_rule": "hard", "gamma1": 0.5}),
            ("gamma2", "the largest weight", {"routing_rule": "hard", "gamma2": 0.5}),
            ("balance", "the largest weight", {"routing_rule": "hard", "balance": 1.0}),
            ("balance", "equal weights", {"routing_rule": "uniform", "balance": 1.0}),
            ("div_sign", "no entropy", {"gamma1": 0, "div_sign": 1}),
            ("gamma1", "one expert", {"mechanisms": "one", "gamma1": 0.5}),
            ("mpi_c4", "one expert", {"mechanisms": "one", "mpi_c4": "std"}),
            ("balance", "one expert", {"mechanisms": "one", "balance": 1.0}),
            ("contagion_sees", "one expert", {"mechanisms": "one", "contagion_sees": "refined"}),
            ("gcn_loops", "no prior", {"use_prior": False, "gcn_loops": False}),
            ("top_k", "the prior alone", {"alpha_rule": "fixed", "alpha_fixed": 1, "top_k": 5}),
            ("sources", "the prior alone", {"alpha_rule": "fixed", "alpha_fixed": 1.0, "sources": "temporal"}),
            (
                "fusion_scale",
                "the learned graph alone",
                {"alpha_rule": "fixed", "alpha_fixed": 0, "fusion_scale": "raw"},
            ),
        )
    },
    **{
        f"the name {name!r}": (
            lambda c, n=name: c["variants"].update({n: {"model": {"top_k": 3}}}),
            "a name is letters",
        )
        for name in ("a/b", "../../x", "", ".x", "a--b", "a b", "x.")
    },
    "a variant twice": (
        lambda c: c["variants"].update(x={"model": {"alpha_rule": "fixed", "alpha_fixed": 0}}),
        "x is alpha0 under another name",
    ),
    "a judgement twice": (lambda c: c["variants"].update(x={"run": "full", "channel": "score"}), "x is no_mpi under"),
    "numbers for dates": (lambda c: c["variants"]["no_covid"]["data"].update(without=[1, 2]), "two dates in order"),
    "a day for a span": (
        lambda c: c["variants"]["no_covid"]["data"].update(without="2020-02-20"),
        "two dates in order",
    ),
    "lessons that nobody writes": (lambda c: c["variants"].update(x={"model": {"teach": 0.5}}), "x: teach needs"),
    "an index that is not looked at": (
        lambda c: c["variants"].update(x={"run": "full", "channel": "score", "index": "mpi_c3"}),
        "x: index says nothing with channel: score",
    ),
    "a graph of nothing": (
        lambda c: c["variants"].update(x={"model": {"use_prior": False, "alpha_rule": "fixed", "alpha_fixed": 1.0}}),
        "leave no graph",
    ),
    "a word for a block": (lambda c: c["variants"].update(x={"model": "top_k"}), "x: model is 'top_k'; it must be a"),
    "a list for a variant": (lambda c: c["variants"].update(x=["top_k"]), r"variants: x is \['top_k'\]; it must be a"),
    "a number for a run": (lambda c: c["variants"].update(x={"run": 3}), "x: run is 3; it must be a name"),
    "a block for a row": (lambda c: c["tables"]["table2"].update({"T2.full": {"full": 1}}), "table2 must say"),
    "no preset": (lambda c: c.pop("preset"), "the section preset is missing"),
    "no variants": (lambda c: c.pop("variants"), "the section variants is missing"),
    "another section": (lambda c: c.update(table={}), "no section is called table"),
    "seeds as a flag": (lambda c: c["tiers"]["narrow"].update(seeds=True), "narrow: seeds is True"),
    "later": (lambda c: c["variants"]["window_20"]["data"].update(later=0), "later is 0; it must be a number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_refused_before_anything_runs(tmp_path, name):
    change, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        read_catalogue(edited(tmp_path, change))


def test_a_key_that_stands_twice_is_refused(tmp_path):
    text = PATH.read_text()
    again = {
        "no_div": text.replace("  no_smooth:", "  no_div: {model: {gamma1: 0.3}}\n  no_smooth:"),
        "gamma2": text.replace("{gamma2: 0.0}", "{gamma2: 0.0, gamma2: 0.1}"),
        "tiers": text + "\ntiers: {}\n",
    }
    for name, content in again.items():
        (tmp_path / "v.yaml").write_text(content)
        with pytest.raises(ValueError, match=f"{name} stands twice"):
            read_catalogue(tmp_path / "v.yaml")
    (tmp_path / "v.json").write_text('{"preset": "intended", "variants": {"a": {}, "a": {}}}')
    with pytest.raises(ValueError, match=r"v\.json: a stands twice"):
        read_catalogue(tmp_path / "v.json")
    (tmp_path / "v.yaml").write_text("variants: [")
    with pytest.raises(ValueError, match="no valid YAML"):
        read_catalogue(tmp_path / "v.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"later": 5000}, "later: 5000 leaves none of the"),
        ({"without": ["2030-01-01", "2030-02-01"]}, "2030-01-01 to 2030-02-01 holds no training samples"),
        ({"without": ["1990-01-01", "2030-02-01"]}, "holds all training samples"),
    ],
)
def test_samples_that_a_market_has_not_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        placed(small_tensors(), data)


def test_a_window_that_reaches_before_the_first_session_is_refused(catalogue):
    tensors = small_tensors()
    first = int(np.flatnonzero(tensors.train)[0])

    def long(window: int):
        own = replace(catalogue.variants["window_10"], model={"window": window}, data={})
        return replace(catalogue, variants=catalogue.variants | {"window_10": own})

    assert key_of(Task("window_10", 0), long(first + 1), tensors, "cpu")
    with pytest.raises(ValueError, match=rf"window_10: the first sample has {first} sessions .*later: 1}} or more"):
        key_of(Task("window_10", 0), long(first + 2), tensors, "cpu")


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
        patch.setattr("anomaly_routing.variant_data.MIN_TRAINING_ROWS", 10)
        raw = rng.normal(3, 0.2, tensors.x.shape).astype(np.float32) * tensors.active[..., None]
        again = rescaled(small_with(tensors, x=raw))
    for i in range(2, len(tensors.tickers)):
        rows = tensors.train & tensors.active[:, i]
        values = again[rows, i]
        np.testing.assert_allclose(np.median(values, axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(1.4826 * np.median(np.abs(values), axis=0), 1, rtol=1e-5)
    assert not again[~tensors.active].any()


def test_liquidity_stress_follows_the_features_that_it_is_made_of(monkeypatch):
    """As the stage `features` makes it, from the features scaled without the span; the other three do not move."""
    monkeypatch.setattr("anomaly_routing.variant_data.MIN_TRAINING_ROWS", 10)
    tensors = small_tensors()
    names = ["jump", "ext_z", "spread", "amihud", *tensors.features[4:]]
    x = np.where(tensors.x != 0, tensors.x / 4 + 1, 0)  # far from the clip
    tensors = small_with(tensors, features=names, x=x.astype(np.float32))
    seen = view(tensors, {"without": hole(tensors)})
    args = [seen.x[..., names.index(name)] for name in ("ext_z", "spread", "amihud")]
    made = stress_indicators(seen.returns.astype(float), seen.active, *args)
    some = seen.active.any(axis=1)
    np.testing.assert_allclose(seen.stress[some, 3], made[some, 3], rtol=1e-12)
    np.testing.assert_array_equal(seen.stress[:, :3], tensors.stress[:, :3])
    before = stress_indicators(seen.returns.astype(float), seen.active, *(x[..., names.index(n)] for n in names[1:4]))
    assert not np.allclose(seen.stress[some, 3], before[some, 3])
    np.testing.assert_array_equal(view(tensors, {"later": 3}).stress, tensors.stress)


def test_training_keys_are_those_of_the_configuration():
    assert make_training(scalar_speed=50.0).scalar_speed == 50.0
    with pytest.raises(ValueError, match="scalar_speed"):
        make_training(scalar_speed=0)
