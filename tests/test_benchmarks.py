"""The benchmarks: the plain model equals the fast one, the counts are right, the scripts run on a tiny market."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from anomaly_routing.model.checkpoints import load_checkpoint
from anomaly_routing.model.losses import loss_terms
from anomaly_routing.model.network import MODULES, build_model
from anomaly_routing.model.training import Batch
from anomaly_routing.readme import model_times
from anomaly_routing.runs import Run, RunKey, RunStore, read_run
from benchmarks import costs, gpu_session
from benchmarks.model import Plan, growth, measure, random_tensors
from benchmarks.model_reference import Reference, loss, training_step
from benchmarks.model_table import paper_values, rounded, table
from benchmarks.operations import activation_floats, multiply_accumulates
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "model"))
sys.path.insert(0, str(ROOT / "tests" / "baselines"))
from planted_panel import planted_panel, quick
from small_networks import PRESETS, mixed, network, shaken

STOCKS = 5


# --- the plain model -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("preset", PRESETS)
def test_the_plain_model_equals_the_fast_one(preset):
    """Routing, errors, loss and gradient, with stocks that come, go and stand alone."""
    net = shaken(preset, top_k=3)
    plain = Reference(net, gat="exact")
    x, active, prior, stress = mixed().tensors()
    fast, slow = net(x, active, prior, stress), plain(x, active, prior, stress)
    for name in slow._fields:
        torch.testing.assert_close(getattr(slow, name), getattr(fast, name), rtol=1e-5, atol=1e-9)
    losses = loss_terms(fast, active, net.config)["total"], loss(slow, active, net.config)
    torch.testing.assert_close(*losses, rtol=1e-9, atol=0)
    lengths = []
    for model, value in zip((net, plain), losses, strict=True):
        found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
        lengths.append(sum(g.square().sum() for g in found if g is not None).sqrt())
    torch.testing.assert_close(*lengths, rtol=1e-7, atol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_library_s_attention_is_another_layer(preset):
    """As it comes it has a weight a head for the edges and does not see pairs without one; all else is the same."""
    net = shaken(preset, top_k=3)
    plain = Reference(net)
    x, active, prior, stress = mixed().tensors()
    fast, slow = net(x, active, prior, stress), plain(x, active, prior, stress)
    assert not torch.allclose(slow.routing, fast.routing, atol=1e-3)
    assert torch.equal(slow.routing == 0, fast.routing == 0)
    extra = sum(p.numel() for p in plain.parameters()) - sum(p.numel() for p in net.parameters())
    assert extra == 2 * net.graph.gat.a_s.numel()
    before = loss(slow, active, net.config).item()
    optimiser = torch.optim.Adam(plain.parameters(), lr=1e-3)
    batch = Batch(x, active, prior, stress)
    assert training_step(plain, optimiser, batch) == pytest.approx(before)
    assert training_step(plain, optimiser, batch) < before


def test_an_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="library or exact"):
        Reference(network(), gat="fast")


# --- counts ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("overrides", [{}, {"lstm_hidden": 32, "gcn_layers": 3, "latent": 32, "expert_hidden": 64}])
def test_operations_are_those_that_torch_counts(overrides):
    """The fast model by module; the plain one in all, whose graph layers add along edges, not by a matrix product."""
    net, sessions, stocks = network("intended", **overrides), 2, 11
    x, active, prior, stress = mixed(stocks, sessions).tensors()
    active[:] = True
    said = multiply_accumulates(net.config, stocks)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x, active, prior, stress)
    found = {name: sum(counter.flop_counts[f"Network.{name}"].values()) / 2 / sessions for name in MODULES}
    assert found == said
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        Reference(net, gat="exact")(x, active, prior, stress)
    along_edges = 128 * stocks**2 * (net.config.gcn_layers + 1)
    plain = multiply_accumulates(net.config, stocks, plain=True)
    assert counter.get_total_flops() / 2 / sessions == sum(plain.values()) - along_edges


def test_what_the_paper_left_out_of_its_counts():
    """AUDIT A78: BiLSTM 3.2e8, Q, K, V, O 5.2e8, edge network 4.3e8. A77: the paper's 512K are the BiLSTM alone."""
    said = paper_values()
    printed = multiply_accumulates(build_model().config, 100, plain=True)
    assert 1e9 < sum(printed.values()) < 1.5e9 and sum(printed.values()) > 1000 * said["operations"]
    assert printed["encoder"] > 3.2e8 + 5.2e8 and printed["graph"] > 4.2e8
    x, active, prior = torch.randn(20, 100, 29), torch.ones(1, 100, dtype=torch.bool), torch.ones(100, 100)
    floats = activation_floats(build_model(), Batch(x, active, prior, torch.rand(1, 4)))
    pooling, spatial, cross_modal, context = 3 * 128, 128 + 2 * (128 + 128), 4 * 128, 64
    assert floats["encoder"] == 100 * (5 * 20 * 256 + pooling + spatial + cross_modal + context)
    assert floats["graph"] > 100 * 100 * (64 + 32) > said["activation_floats"]
    assert said["module_share_percent"] == {"encoder": 17.6, "graph": 51.8, "experts": 21.1, "decoders": 9.5}


# --- measurements ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def record():
    return measure(Plan.tiny(stocks=STOCKS, sizes=(3, 4, 5), training_epochs=1))


def test_what_a_measurement_holds(record):
    assert record["reference_over_ours"] == pytest.approx(
        record["reference"]["step_seconds"] / record["ours"]["step_seconds"], rel=1e-3
    )
    whole = record["epoch"]
    assert sum(whole["module_share_percent"].values()) == pytest.approx(100, abs=0.1)
    assert whole["seconds"] == pytest.approx(whole["training_seconds"] + whole["validation_seconds"], rel=1e-3)
    assert set(record["sizes"]) == {"3", "4", "5"} and set(record["growth"]["step_seconds"]) == {"3-4", "4-5", "all"}
    part = record["floor"]["highest"]
    operations = sum(multiply_accumulates(build_model().config, STOCKS).values())
    assert part["seconds"] == pytest.approx(6 * operations * whole["sessions"] / (part["tflops"] * 1e12), rel=1e-2)
    assert record["training"]["epochs"] == 1
    assert json.loads(json.dumps(record)) == record


def test_the_table_puts_the_paper_beside(record):
    text = table(record, paper_values())
    assert "paper: 51.8" in text and "paper: 3-4" in text and "paper: 1280000" in text
    assert "paper" not in table(record)


def test_the_readme_s_lines_are_those_of_the_measurement(record):
    stored = json.loads(json.dumps(record, sort_keys=True))
    said = model_times({"cpu": stored, "gpu": "not run", "paper": paper_values()})
    assert said["the same on a GPU"] == "not run"
    operations = sum(multiply_accumulates(build_model().config, STOCKS).values())
    least = 6 * operations * record["epoch"]["sessions"] / (record["floor"]["highest"]["tflops"] * 1e12)
    most = record["reference_epoch"]["training_seconds"] / least
    told = said["an epoch of the full model, 100 stocks"].split(" times the least")[0].split(" and ")[-1]
    assert float(told) == pytest.approx(most, rel=0.02, abs=0.06)
    own, theirs = said["its modules 1 to 4, % of the time"].split("; the paper: ")
    assert theirs == "17.6, 51.8, 21.1, 9.5"
    shares = [record["epoch"]["module_share_percent"][name] for name in MODULES]
    assert [float(value) for value in own.split(", ")] == pytest.approx(shares, abs=0.5)
    steps = [float(value) for value in said["its training step at 3, 4, 5 stocks"].split(" s,")[0].split(", ")]
    assert steps == pytest.approx([part["step_seconds"] for part in record["sizes"].values()], rel=0.05)
    elsewhere = record | {"device": "a card", "epoch": record["epoch"] | {"training_seconds": 0.25}}
    there = model_times({"cpu": record, "gpu": elsewhere, "paper": paper_values()})
    assert there["the same on a GPU"] == "a card: 0.25 s"


def test_growth_is_the_exponent():
    sizes = {n: {"step_seconds": 3e-6 * n**2} for n in (100, 400, 1600)}
    assert growth(sizes, "step_seconds") == pytest.approx({"100-400": 2, "400-1600": 2, "all": 2})


def test_four_digits():
    assert rounded({"a": 0.123456, "b": {"c": 123456.0, "d": 7}, "e": "text"}) == {
        "a": 0.1235, "b": {"c": 123500.0, "d": 7}, "e": "text"
    }  # fmt: skip


def test_a_part_in_a_process_of_its_own():
    """With the few packages that a GPU machine has, and its own peak memory."""
    blocked = "\n".join(f"sys.modules[{name!r}] = None" for name in ("yaml", "scipy", "sklearn", "xarray", "pandera"))
    plan = json.dumps({"sessions": 4, "steps": 1, "stocks": STOCKS, "market_sessions": 130})
    code = f"import sys, runpy\n{blocked}\nsys.argv = ['model.py', '--part', 'ours', '--plan', {plan!r}]\n"
    code += f"runpy.run_path({str(ROOT / 'benchmarks' / 'model.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["steps_timed"] == 1 and 0.05 < said["peak_gib"] < 2


# --- a session on a GPU, and its way home ----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder that looks like the repository, with the tensors of a tiny market."""
    root = tmp_path_factory.mktemp("checkout")
    (root / "notebooks").mkdir()
    (root / "dvc.yaml").touch()
    tensors = replace(random_tensors(STOCKS, 130), market="tiny", data_hash="d", features_numerics=3)
    tensors.save(root / "data" / "interim" / "tiny" / "tensors.npz")
    days = [str(day.date()) for day in tensors.sessions[tensors.test][:3]]
    (root / "markets" / "tiny").mkdir(parents=True)
    params = {"model": {"case_spans": [[days[0], days[2]]], "graph_days": [days[1]]}}
    (root / "markets" / "tiny" / "params.yaml").write_text(json.dumps(params))
    return root, tensors


def asked(root, out, **changes):
    """Arguments of a session."""
    file = root / "data" / "interim" / "tiny" / "tensors.npz"
    default = {"tensors": file, "out": out, "minutes": 5.0, "seeds": [0], "methods": ["intended"], "epochs": 1,
               "device": "cpu", "at_once": 1, "bench": "", "params": None, "scratch": None}  # fmt: skip
    return SimpleNamespace(**default | changes)


@pytest.fixture(scope="module")
def came_back(checkout, tmp_path_factory, record):
    root, _ = checkout
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(gpu_session.model, "measure", lambda plan: dict(record))
        lines = gpu_session.session(asked(root, out, bench="tiny"), say=lambda text: None)
    return out, lines


def test_a_session_brings_runs_checkpoints_and_benchmark(came_back):
    out, lines = came_back
    assert [line["method"] for line in lines] == ["intended"] and "failed" not in lines[0]
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "shard0.zip"]
    names = zipfile.ZipFile(out / "shard0.zip").namelist()
    assert sorted(name.split("--")[0] for name in names) == ["checkpoints/intended.safetensors", "runs/intended"]
    training = json.loads((out / "model.json").read_text())["training"]
    assert training["method"] == "intended" and training["epochs"] == 1


def test_merging_brings_them_home(came_back, checkout, monkeypatch):
    (out, _), (root, _) = came_back, checkout
    monkeypatch.chdir(root)
    (root / "benchmarks").mkdir()
    (root / "benchmarks" / "measured.json").write_text('{"ratios": {}, "model": {"cpu": 1, "gpu": "not run"}}')
    gpu_session.main(["--merge", str(out)])
    store = RunStore(root / "reports" / "tiny" / "runs" / "model")
    assert list(store.table().method) == ["intended"] and list(store.table().tier) == ["gpu"]
    run = read_run(next(store.folder.glob("intended--*.npz")))
    assert run.extras["routing"].shape == (3, STOCKS, 4) and run.extras["graphs"].shape == (1, STOCKS, STOCKS)
    info = load_checkpoint(root / "reports" / "tiny" / "checkpoints" / "intended.safetensors")[1]
    assert (store.folder / info["run"]).exists()
    measured = json.loads((root / "benchmarks" / "measured.json").read_text())
    assert measured["ratios"] == {} and measured["model"]["cpu"] == 1
    assert measured["model"]["gpu"] == json.loads((out / "model.json").read_text())
    again = gpu_session.session(asked(root, root / "more"), say=lambda text: None)
    assert again == [], "what the store has is not trained again"


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"data_hash": "other"}, "data_hash d, here other"), ({"features_numerics": 4}, "features 3, here 4")],
)
def test_runs_of_other_data_are_refused(came_back, checkout, tmp_path, change, reason):
    (out, _), (_, tensors) = came_back, checkout
    replace(tensors, **change).save(tmp_path / "data" / "interim" / "tiny" / "tensors.npz")
    refused = gpu_session.merge(out, tmp_path)
    assert len(refused) == 2 and reason in refused[0] and "its run" in refused[1]
    assert not list(tmp_path.rglob("reports/**/*.npz")) and not list(tmp_path.rglob("*.safetensors"))


def test_runs_of_other_arithmetic_or_of_no_known_market_are_refused(came_back, checkout, tmp_path, monkeypatch):
    (out, _), (_, tensors) = came_back, checkout
    assert all("run the features stage" in line or "its run" in line for line in gpu_session.merge(out, tmp_path))
    tensors.save(tmp_path / "data" / "interim" / "tiny" / "tensors.npz")
    monkeypatch.setattr(gpu_session, "MODEL_NUMERICS", 10**6)
    assert any("numerics of the model" in line for line in gpu_session.merge(out, tmp_path))
    with zipfile.ZipFile(tmp_path / "shard0.zip", "w") as archive:
        archive.writestr("../outside.npz", "x")
        archive.writestr("runs/a.txt", "x")
    assert len(gpu_session.merge(tmp_path, tmp_path)) == 2 and not (tmp_path.parent / "outside.npz").exists()


def test_archives_stay_below_their_limit(tmp_path):
    for i in range(5):
        path = tmp_path / "runs" / f"r{i}.npz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(np.random.default_rng(i).bytes(30_000))
    shards = gpu_session.pack(tmp_path, tmp_path / "out", limit=70_000)
    assert [len(zipfile.ZipFile(path).namelist()) for path in shards] == [2, 2, 1]
    assert all(path.stat().st_size <= 70_000 for path in shards)
    with pytest.raises(ValueError, match="merge"):
        [(tmp_path / "runs" / f"s{i}.npz").write_bytes(bytes(30_000)) for i in range(10)]
        gpu_session.pack(tmp_path, tmp_path / "out", limit=40_000)


def test_no_training_starts_that_would_not_end_in_time(monkeypatch):
    """Ten seconds, trainings of four: two fit, a third would not."""
    now = [0.0]

    class Work:
        def train(self, job):
            now[0] += 4
            return {"seconds": 4.0, "job": job}

    monkeypatch.setattr(gpu_session.time, "monotonic", lambda: now[0])
    lines = list(gpu_session.train_all(list("abcdef"), Work(), deadline=10.0, at_once=1))
    assert [line["job"] for line in lines] == ["a", "b"]


# --- costs side by side ----------------------------------------------------------------------------------------------
def test_costs_stand_side_by_side(tmp_path, monkeypatch, capsys):
    """A baseline and the full model, each in a process of its own, on one tiny market."""
    random_tensors(6, 130).save(tmp_path / "tensors.npz")
    monkeypatch.setattr(costs, "trainable", lambda: {"gcn_ae": None})
    monkeypatch.setattr(costs, "PRESETS", {"intended": None})
    days = pd.date_range("2020-01-01", periods=2)
    for seed, epochs in enumerate((9, 4, 7)):
        store = RunStore(tmp_path / "runs" / "deep")
        run = Run(
            np.zeros((2, 1), "f4"), days, ["A"], pd.DataFrame({"mean": [0.0, 1.0]}, index=days), {"epochs": epochs}
        )
        keys = [RunKey("m", "gcn_ae", "causal", k, {}, "hash", 1) for k in range(seed + 1)]
        store.save(keys[-1], run)
        store.mark_current(keys)
    asked = {"--tensors": "tensors.npz", "--runs": "runs", "--out": "costs.json"}
    costs.main(["--epochs", "1", *(part for k, v in asked.items() for part in (k, str(tmp_path / v)))])
    found = json.loads((tmp_path / "costs.json").read_text())
    assert (found["stocks"], found["sessions"]) == (6, 130)
    model, baseline = found["rows"]
    assert (model["method"], baseline["method"]) == ("intended", "gcn_ae")
    for row in found["rows"]:
        measured = ("epoch_seconds", "score_milliseconds", "session_milliseconds", "fit_gib", "score_gib", "parameters")
        assert all(row[k] > 0 for k in measured) and row["outside_seconds"] >= 0
        assert 0 < row["session_gib"] <= row["score_gib"], "the peak of one session comes before the pass over all"
    assert (model["epochs"], model["fit_seconds"], model["window"]) == (None, None, 20)
    assert (baseline["epochs"], baseline["window"]) == (7, 1)
    expected = baseline["outside_seconds"] + 7 * baseline["epoch_seconds"]
    assert baseline["fit_seconds"] == pytest.approx(expected, rel=1e-3)
    assert model["scored_sessions"] == baseline["scored_sessions"] == 90
    assert model["fit_gib"] > model["score_gib"], "gradients are held in training alone"
    assert model["parameters"] > 100 * baseline["parameters"] and model["epoch_seconds"] > baseline["epoch_seconds"]
    assert "gcn_ae" in capsys.readouterr().out


def test_an_epoch_is_the_mean_from_one_renewal_to_the_next(tmp_path, monkeypatch):
    """Two of three methods renew something in every fifth epoch; that epoch counts by a fifth."""
    tensors = random_tensors(6, 130)
    for method, epochs in {"gcn_ae": 2, "robust_autoencoder": 6, "metric_vmf": 6}.items():
        history, _, _, period = costs._fit_baseline(method, tensors, "cpu", 2)
        assert (len(history), period) == (epochs, epochs - 1), method
    lines = [{"seconds": s} for s in (9.0, 1.0, 1.0, 1.0, 1.0, 6.0)]
    monkeypatch.setattr(costs, "_fit_baseline", lambda *how: (lines, 1, None, 5))
    assert costs.cost_of_fit("metric_vmf", tensors, "cpu", 2, tmp_path / "x")["epoch_seconds"] == 2.0


@pytest.mark.parametrize("name", costs.trainable())
def test_one_session_alone_scores_as_in_the_whole(name):
    planted = planted_panel()
    panel = replace(planted.panel, benchmarks=planted.panel.benchmarks.iloc[:0])
    detector = quick(name, "causal", epochs=1).fit(panel, planted.train)
    panel = costs.sessions_of(panel, slice(200, 340))  # stock 2 has not left yet
    expected, found = detector.decision_function(panel)[-1], costs.single_session(detector, panel)
    for _ in range(2):  # the first has changed nothing
        np.testing.assert_allclose(found()[panel.active[-1]], expected[panel.active[-1]], rtol=1e-4, atol=1e-5)
