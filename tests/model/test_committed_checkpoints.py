"""The committed weights give the committed scores: from a fresh clone, nothing else computed.

`tests/golden/checkpoint_window.npz` holds what the network reads for the first validation block of the simulated
market. After a change of that market or its features, with the stage `model` run again:
`python tests/model/test_committed_checkpoints.py` freezes the window anew. The weights of us100, one file a preset,
need the real prices.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from anomaly_routing.data.sources import load_folder
from anomaly_routing.data.universe import GICS_SECTORS
from anomaly_routing.model.checkpoints import load_checkpoint
from anomaly_routing.model.config import make_config
from anomaly_routing.model.scoring import BLOCK, block_scores, scores
from anomaly_routing.model.training import Data
from anomaly_routing.panel import Splits
from anomaly_routing.paths import MarketPaths
from anomaly_routing.planting import made_ground
from anomaly_routing.runs import read_meta, read_run
from anomaly_routing.tensors import Tensors
from tests.conftest import ROOT

FROZEN = ROOT / "tests" / "golden" / "checkpoint_window.npz"
PATHS = MarketPaths("simulated", ROOT)


@pytest.fixture(scope="module")
def simulated() -> dict[str, np.ndarray]:
    with np.load(FROZEN) as z:
        return {name: z[name] for name in z.files}


@pytest.fixture(scope="module")
def us100(us100_folder) -> dict[str, np.ndarray]:
    """The same of the real market, from its prices."""
    market = load_folder(us100_folder, calendar="XNYS", select="in_us100", sectors=GICS_SECTORS)
    return window_of(made_ground(market, Splits(), "us100").tensors)


@pytest.fixture(scope="module", params=("simulated/intended", "us100/intended", "us100/literal"))
def scored(request):
    """(network, its run, E of the window, activity, position of the window in the run, the window)"""
    market, preset = request.param.split("/")
    frozen, paths = request.getfixturevalue(market), MarketPaths(market, ROOT)
    net, info = load_checkpoint(paths.checkpoints / f"{preset}.safetensors")
    path = paths.runs("model") / info["run"]
    assert str(frozen["data_hash"]) == read_meta(path)["key"]["data_hash"], "freeze the window anew, see above"
    run = read_run(path)
    rows = run.score_sessions.get_indexer(pd.DatetimeIndex(frozen["sessions"]))
    assert (rows >= 0).all() and len(rows) == BLOCK
    return net, run, error_of(net, frozen), frozen["active"], rows, frozen


def error_of(net, frozen) -> np.ndarray:
    inputs = (torch.as_tensor(frozen[name]) for name in ("x", "active", "prior", "stress"))
    with torch.no_grad():
        return net.eval()(*inputs).error.double().numpy()


def rescored(net, run, error, active) -> np.ndarray:
    if net.config.score_stats == "train":
        return scores(error, active, run.info["mu_tail"], run.info["sigma_tail"])
    return block_scores(error, active, [np.ones(len(error), bool)])  # the block is a whole one


def test_the_committed_weights_give_the_committed_scores(scored):
    net, run, error, active, rows, _ = scored
    np.testing.assert_allclose(rescored(net, run, error, active), run.score[rows], atol=2e-3)


@pytest.mark.parametrize("part", ["encoder", "graph", "experts", "decoders"])
def test_other_weights_do_not(scored, part):
    """Every module has a say in the scores, so that the test above looks at all of them."""
    net, run, _, active, rows, frozen = scored
    before = {name: value.clone() for name, value in net.state_dict().items()}
    try:
        with torch.no_grad():
            for name, value in net.named_parameters():
                if name.startswith(part):
                    value.copy_(value.flip(0))
        moved = np.nanmax(np.abs(rescored(net, run, error_of(net, frozen), active) - run.score[rows]))
        assert moved > 0.02
    finally:
        net.load_state_dict(before)


def window_of(tensors: Tensors) -> dict[str, np.ndarray]:
    """What the network reads for the first block of validation sessions; both presets scale stress alike."""
    first = int(np.flatnonzero(tensors.val)[0])
    data = Data(tensors, make_config("intended"), torch.device("cpu"))
    x, active, prior, stress = (part.numpy() for part in data.batch(first, first + BLOCK))
    sessions = tensors.sessions[first : first + BLOCK].to_numpy("datetime64[D]")
    return {"x": x, "active": active, "prior": prior, "stress": stress, "sessions": sessions,
            "data_hash": np.array(tensors.data_hash)}  # fmt: skip


if __name__ == "__main__":
    np.savez_compressed(FROZEN, **window_of(Tensors.load(PATHS.interim / "tensors.npz")))
