"""The tensor file: whole, the same bytes again, refused with a reason, readable without the rest of the environment."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.data.prior_graph import prior_graph
from anomaly_routing.features.panel import FEATURES_NUMERICS, build_panel, compute_features, fit_scaler
from anomaly_routing.features.store import save_features
from anomaly_routing.panel import Panel, Splits
from anomaly_routing.tensors import Tensors
from tests.conftest import ROOT
from tests.markets import random_prices, universe

SPLITS = Splits("2020-01-01", "2020-06-30", "2020-09-30", "2020-12-31")


@pytest.fixture(scope="module")
def market():
    prices, members = random_prices(days=262), universe()
    features = compute_features(prices, members)
    train = SPLITS.train(pd.DatetimeIndex(features["session"].to_numpy()))
    scaler = fit_scaler(features, train, members["sector"].to_numpy(object))
    return features, scaler, build_panel(features, scaler, prices, members, prior=prior_graph(members))


def made(panel: Panel, splits: Splits = SPLITS) -> Tensors:
    return Tensors.from_panel(panel, splits, "m", "hash", FEATURES_NUMERICS)


@pytest.fixture(scope="module")
def tensors(market) -> Tensors:
    return made(market[2])


def same(a: Tensors, b: Tensors) -> None:
    for f in fields(Tensors):
        one, two = getattr(a, f.name), getattr(b, f.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == two.dtype, f.name
            np.testing.assert_array_equal(one, two, err_msg=f.name)
        else:
            assert (one == two) is True or (one == two).all(), f.name


# --- content and file ------------------------------------------------------------------------------------------------
def test_what_is_taken_from_the_panel(market, tensors):
    panel = market[2]
    assert tensors.x.dtype == np.float32 and tensors.x is panel.x and tensors.prior.dtype == np.float32
    assert tensors.group[0] == "price_shock" and len(tensors.group) == 29
    for part in ("train", "val", "test", "scored"):
        np.testing.assert_array_equal(getattr(tensors, part), getattr(SPLITS, part)(panel.sessions))
    assert tensors.scored.sum() == tensors.train.sum() + tensors.val.sum() + tensors.test.sum()


def test_round_trip_and_equal_bytes(tensors, tmp_path):
    a, b = (tensors.save(tmp_path / name / "tensors.npz") for name in ("a", "b"))
    same(Tensors.load(a), tensors)
    assert a.read_bytes() == b.read_bytes() == Tensors.load(a).save(tmp_path / "c.npz").read_bytes()


def test_the_panel_of_a_file_is_the_panel_that_was_saved(tensors, tmp_path):
    again = Tensors.load(tensors.save(tmp_path / "tensors.npz")).panel()
    same(Tensors.from_panel(again, tensors.splits, tensors.market, tensors.data_hash, FEATURES_NUMERICS), tensors)


def test_an_interrupted_write_leaves_the_old_file(tensors, tmp_path, monkeypatch):
    path = tensors.save(tmp_path / "tensors.npz")
    before = path.read_bytes()

    def stopped(target, **arrays):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", stopped)
    with pytest.raises(KeyboardInterrupt):
        tensors.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["tensors.npz"]


# --- refusals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "nothing"), [("group", []), ("prior", None), ("stress", None)])
def test_a_panel_without_a_field_is_refused(market, name, nothing):
    with pytest.raises(ValueError, match=rf"Panel\.{name} is empty: build the panel with"):
        made(replace(market[2], **{name: nothing}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e6])
def test_a_value_that_is_not_finite_or_huge_is_refused(tensors, bad):
    x = tensors.x.copy()
    x[70, 3, 6] = bad
    said = f"x is {x[70, 3, 6]}, first in spread of T003 on 2020-04-08: scale the features"
    with pytest.raises(ValueError, match=re.escape(said)):
        replace(tensors, x=x)


@pytest.mark.parametrize("bad", [np.nan, 0.5, -1])
def test_a_prior_is_of_ones_and_noughts(tensors, bad):
    prior = tensors.prior.copy()
    prior[0, 3] = bad
    with pytest.raises(ValueError, match=f"prior is {prior[0, 3]} between T000 and T003: an edge is 1, no edge 0"):
        replace(tensors, prior=prior)


def test_a_sample_without_an_active_stock_is_refused(tensors):
    at = int(tensors.sessions.get_loc("2020-03-02"))
    active = tensors.active.copy()
    active[at] = False
    with pytest.raises(ValueError, match=r"session 2020-03-02 has no active stock: .*params\.yaml"):
        replace(tensors, active=active)
    before = tensors.active.copy()
    before[: int(np.argmax(tensors.scored))] = False  # history may be empty
    replace(tensors, active=before)


@pytest.mark.parametrize(
    ("part", "splits"),
    [
        ("train", replace(SPLITS, first_session="2020-06-01")),
        ("val", replace(SPLITS, val_end="2020-06-30")),
        ("test", replace(SPLITS, test_end="2020-09-30")),
    ],
)
def test_an_empty_split_is_refused(market, part, splits):
    with pytest.raises(ValueError, match=rf"splits leave no {part} sample: change market\.splits"):
        made(market[2], splits)


@pytest.mark.parametrize("how", ["unsorted", "doubled"])
def test_sessions_must_be_in_order_and_each_once(tensors, how):
    order = np.arange(len(tensors.sessions))
    order[[100, 101]] = [101, 100] if how == "unsorted" else [100, 100]
    with pytest.raises(ValueError, match="sessions are not in order, each once: sort"):
        replace(tensors, sessions=tensors.sessions[order])


@pytest.mark.parametrize("name", ["x", "active", "returns", "log_volume", "prior", "stress", "is_bank", "group"])
def test_a_wrong_shape_is_refused(tensors, name):
    with pytest.raises(ValueError, match=rf"{name} has shape .*, expected .*: run the features stage again"):
        replace(tensors, **{name: getattr(tensors, name)[:-1]})


def test_a_file_that_is_no_tensor_file_is_refused(market, tensors, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tensors\.npz is not there: run the features stage"):
        Tensors.load(tmp_path / "tensors.npz")
    whole = tensors.save(tmp_path / "tensors.npz")
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:5000])
    np.save(tmp_path / "array.npy", tensors.x)
    for name in ("cut.npz", "array.npy"):
        with pytest.raises(ValueError, match=f"{name} is not a tensor file: run the features stage again"):
            Tensors.load(tmp_path / name)
    save_features(tmp_path / "features.npz", *market[:2])
    with pytest.raises(ValueError, match=r"features\.npz is not a tensor file, see .*center"):
        Tensors.load(tmp_path / "features.npz")
    with np.load(whole) as z:
        content = {name: z[name] for name in z.files}
    np.savez(tmp_path / "less.npz", **{k: v for k, v in content.items() if k != "prior"})
    with pytest.raises(ValueError, match=r"less\.npz is not a tensor file, see prior"):
        Tensors.load(tmp_path / "less.npz")
    np.savez(tmp_path / "spoilt.npz", **content | {"x": content["x"] + np.float32(np.nan)})
    with pytest.raises(ValueError, match=r"spoilt\.npz: x is nan"):
        Tensors.load(tmp_path / "spoilt.npz")


# --- normalised stress -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("norm", ["train", "full_sample"])
def test_normalised_stress_equals_a_loop(tensors, norm):
    samples = tensors.train if norm == "train" else tensors.scored
    level, rank = tensors.normalised_stress(norm), tensors.normalised_stress(norm, "rank")
    assert level.dtype == rank.dtype == np.float32 and level.shape == rank.shape == (262, 4)
    for k in range(4):
        known = [v for v, used in zip(tensors.stress[:, k], samples, strict=True) if used and not np.isnan(v)]
        for t in range(262):
            value = tensors.stress[t, k]
            if np.isnan(value):
                assert level[t, k] == rank[t, k] == 0
                continue
            share = (value - min(known)) / (max(known) - min(known))
            assert level[t, k] == pytest.approx(min(max(share, 0), 1), abs=1e-6)
            assert rank[t, k] == pytest.approx(sum(v <= value for v in known) / len(known), abs=1e-6)
    assert level[samples].min() == 0 and (level[samples].max(0) == 1).all() and (rank[samples].max(0) == 1).all()


def test_only_the_training_scale_ignores_later_sessions(tensors):
    late = tensors.sessions > SPLITS.train_end
    changed = replace(tensors, stress=np.where(late[:, None], 10 * tensors.stress + 1, tensors.stress))
    for rule in ("minmax", "rank"):
        a, b = (t.normalised_stress("train", rule)[~late] for t in (tensors, changed))
        np.testing.assert_array_equal(a, b)
        a, b = (t.normalised_stress("full_sample", rule)[~late] for t in (tensors, changed))
        assert np.abs(a - b).max() > 0.05
    assert changed.normalised_stress().max() == 1  # clipped


def test_edges_of_the_normalisation(tensors):
    flat, gone, gap = (tensors.stress.copy() for _ in range(3))
    flat[:, 2], gone[tensors.train, 1], gap[120] = 0.3, np.nan, np.nan
    assert not replace(tensors, stress=flat).normalised_stress()[:, 2].any()
    assert not replace(tensors, stress=gap).normalised_stress()[120].any()
    with pytest.raises(ValueError, match="stress indicator 2 is undefined on every sample"):
        replace(tensors, stress=gone).normalised_stress()
    for wrong in ({"norm": "test"}, {"rule": "mean"}):
        with pytest.raises(ValueError, match="use train or full_sample, and minmax or rank"):
            tensors.normalised_stress(**wrong)


# --- a machine with torch and little else ----------------------------------------------------------------------------
BARE = """
import sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions

PRESENT = {"torch", "numpy", "pandas", "pyarrow", "tqdm", "safetensors", "anomaly_routing"}
PRESENT |= {"dateutil", "six", "pytz", "tzdata"}  # what pandas itself asks for; below, what torch does
PRESENT |= {"torchgen", "functorch", "triton", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx"}
PRESENT |= {"sympy", "typing_extensions"}
ABSENT = set(packages_distributions()) - PRESENT

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in ABSENT else find(name, *rest)
"""


def bare(code: str) -> subprocess.CompletedProcess:
    """Python with the package, torch, numpy, pandas, pyarrow, tqdm and safetensors, and no other third party."""
    command = [sys.executable, "-I", "-c", BARE + f"sys.path.insert(0, {str(ROOT / 'src')!r})\n" + code]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_bare_machine_can_read_the_file_and_store_runs(tensors, tmp_path):
    path = tensors.save(tmp_path / "tensors.npz")
    done = bare(
        "import anomaly_routing.runs, anomaly_routing.evaluation.aggregate\n"
        "from anomaly_routing.tensors import Tensors\n"
        f"t = Tensors.load({str(path)!r})\n"
        "print(t.x.shape, t.normalised_stress().shape, 'scipy' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "(262, 15, 29) (262, 4) False"
    refused = bare("import scipy")
    assert refused.returncode == 1 and "No module named 'scipy'" in refused.stderr
