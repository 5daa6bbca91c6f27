"""Which run a training is: the command and the notebook make one run, and no committed run changed its name."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from small_networks import small_tensors

from anomaly_routing import train
from anomaly_routing.panel import Splits
from anomaly_routing.runs import read_meta
from anomaly_routing.train import Job, expand, main
from tests.conftest import ROOT

PARAMS = {"simulated": ROOT / "params.yaml", "us100": ROOT / "markets" / "us100" / "params.yaml"}


def section(market: str, stage: str) -> dict:
    return yaml.safe_load(PARAMS[market].read_text(encoding="utf-8"))[stage]


def tensors_of(path):
    """What a key reads of the tensors that a stored run was made from."""
    key = read_meta(path)["key"]
    config = key["config"]
    known = {"market": key["market"], "data_hash": key["data_hash"], "splits": Splits(**config["splits"])}
    return SimpleNamespace(**known, features_numerics=config["features_numerics"])


@pytest.mark.parametrize("market", PARAMS)
def test_the_committed_runs_keep_their_names(market):
    """A new switch of the model or of its training is left out of a key at its default."""
    folder = ROOT / "reports" / market / "runs" / "model"
    current = json.loads((folder / "index.json").read_text())["current"]
    own = section(market, "model")
    jobs = expand(own["jobs"], own["training"])
    assert {job.key(tensors_of(folder / current[0])).filename for job in jobs} == set(current)
    with np.load(folder / current[0]) as stored:
        assert "meta" in stored.files  # the names were compared with files that are there


@pytest.fixture
def command(tmp_path, monkeypatch):
    """What the command would train: `command(market, *arguments)` gives (job, tensors, tier)."""

    def asked(market, *more):
        file = replace(small_tensors(), market=market).save(tmp_path / market / "tensors.npz")
        found = []

        def caught(tensors, job, store, *, tier, **options):
            found.append((job, tensors, tier))
            return job.key(tensors)

        monkeypatch.setattr(train, "train_one", caught)
        main(["--market", market, "--tensors", str(file), "--out", str(tmp_path), "--threads", "1", *more])
        return found[0]

    return asked


@pytest.mark.parametrize("market", PARAMS)
@pytest.mark.parametrize("stage", ["model", "deep_baselines"])
def test_the_command_makes_the_run_of_the_notebook(command, market, stage):
    """Every listed job, by method, variant and seed alone."""
    own = section(market, stage)
    for job in expand(own["jobs"], own["training"])[:6]:
        name = ["--method", job.method, "--variant", job.variant, "--seed", str(job.seed)]
        asked, tensors, tier = command(market, *name)
        assert asked.key(tensors) == job.key(tensors) and tier == own["tier"]


def test_what_is_said_wins_over_the_parameter_file(command):
    asked, _, tier = command("us100", "--epochs", "4", "--tier", "gpu", "--training", "fit_tail=TRUE", "clip=0.5")
    assert (asked.training, tier) == ({"epochs": 4, "fit_tail": True, "clip": 0.5}, "gpu")
    asked, _, _ = command("us100", "--variant", "other", "--set", "gcn_loops=false", "--training", "epochs=7")
    assert (asked.overrides, asked.training) == ({"gcn_loops": False}, {"epochs": 7})


def test_another_market_has_the_defaults(command):
    asked, _, tier = command("elsewhere", "--device", "cpu")
    assert asked == Job() and tier == "cpu"


def test_without_yaml_the_command_says_what_it_does_not_know(command, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yaml", None)
    asked, _, _ = command("us100", "--device", "cpu")
    assert asked == Job()
    told = capsys.readouterr().err
    assert "PyYAML is missing" in told and "--epochs, --training, --tier" in told


def test_truth_values_in_any_case():
    read = dict(map(train._setting, ["a=true", "b=FALSE", "c=False", "d=truth"]))
    assert read == {"a": True, "b": False, "c": False, "d": "truth"}
