"""The neural detectors on their authors' data: the smallest parts run again at one seed, and the report holds them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from anomaly_routing.baselines.registry import create
from anomaly_routing.baselines.toy import toy_market
from anomaly_routing.files import read_json
from benchmarks.peers import cora, memstream, vmf
from benchmarks.peers.__main__ import PARTS
from tests.conftest import ROOT

REPORT = ROOT / "reports" / "peers.json"


@pytest.fixture(scope="module")
def folder() -> Path:
    """The authors' data, which are not part of the repository; tests that need them are skipped by name."""
    folder = Path(os.environ.get("PEERS", ROOT.parent / "shared" / "data" / "peers"))
    if not (folder / "cora.npz").exists():
        pytest.skip("the data of the baselines' authors are not here (set PEERS to their folder)")
    return folder


def reported(part: str) -> list[dict]:
    return read_json(REPORT)[part]["rows"]


def test_the_report_has_every_part_with_five_seeds():
    found = read_json(REPORT)
    assert set(found) == set(PARTS)
    for row in (row for part in found.values() for row in part["rows"]):
        assert len(row["ours"]) == len(row["seeds"]) == 5, row["measure"]
        assert row["source"] and row["note"]


def test_memstream_on_its_authors_stream(folder):
    theirs, ours = memstream.run(folder, [0])
    assert theirs["ours"][0] == pytest.approx(theirs["published"], abs=0.005)
    assert [row["ours"][0] for row in (theirs, ours)] == pytest.approx([r["ours"][0] for r in reported("memstream")])


def test_the_fit_finds_the_kappa_that_directions_were_drawn_with():
    fresh, kept = vmf.run(Path(), [0]), reported("vmf")
    for row, stored in zip(fresh, kept, strict=True):
        assert row["ours"][0] == pytest.approx(row["published"], rel=0.05)
        assert row["ours"][0] == pytest.approx(stored["ours"][0], rel=1e-6)


def test_the_rule_of_thumb_on_cora(folder):
    """Degree and norm give the injected outliers away, as the data's PROVENANCE measured on another draw."""
    graph = cora.inject(*cora.load(folder), seed=0)
    found = cora.auc(cora.rule_of_thumb(graph), graph)
    assert found == pytest.approx(0.834, abs=0.04)
    assert found == pytest.approx(reported("cora")[0]["ours"][0])


CLAIMED = {  # the published figures of the README of DGLD, of the papers and of the authors' code, typed here anew
    ("dominant", "epoch 40"): (0.883, 0.883),
    ("dominant", "epoch 100"): (0.827, 0.8555),
    ("cola", "epoch 100"): (0.88, 0.8823),
    ("anomaly_dae", "shares before the injection, epoch 20"): (0.9679, 0.9679),
    ("anomaly_dae", "shares before the injection, epoch 50"): (0.9679, 0.9679),
    ("gcn_ae", "shares before the injection, epoch 100"): (0.7707, 0.7707),
    ("tranad", "F1, adjusted"): (0.8915, 0.8915),
    ("tranad", "AUC, adjusted"): (0.9921, 0.9921),
    ("memstream", "start without labels"): (0.955, 0.955),
}
SHORT = {("anomaly_dae", "shares before the injection, epoch 50"), ("gcn_ae", "shares before the injection, epoch 100")}


@pytest.mark.parametrize("claim", CLAIMED, ids=" ".join)
def test_the_published_range_is_reached_or_missed_as_said(claim):
    """Two per cent below the range at most, but for the two rows that are known to fall short; those do so clearly."""
    rows, (detector, ending) = [row for part in PARTS for row in reported(part)], claim
    (row,) = [r for r in rows if r["detector"] == detector and r["published"] and r["measure"].endswith(ending)]
    low, high = CLAIMED[claim]
    assert (min(np.atleast_1d(row["published"])), max(np.atleast_1d(row["published"]))) == (low, high)
    median = sorted(row["ours"])[2]
    assert (median < 0.98 * low) == (claim in SHORT)
    assert median > 0.93 * low and median < 1.05 * high


def test_the_form_of_the_panel_is_the_registrys():
    """The same layers, weight and dropout as the network that `dominant` builds, at both epochs of the proven form."""
    panel = toy_market("off_factor").panel
    (peer,) = [p for p in cora.PEERS if "on the panel" in p.variant]
    theirs, ours = peer.network(len(panel.tickers), len(panel.features), 0), create("dominant").network(panel)
    assert str(theirs) == str(ours)
    assert (theirs.weight, theirs.binary, theirs.sigmoid) == (ours.weight, ours.binary, ours.sigmoid)
    (proven,) = [p for p in cora.PEERS if p.detector == "dominant" and p is not peer]
    assert set(peer.published) == set(proven.published) == {40, 100}


def test_the_report_holds_the_rows_that_the_code_would_write():
    expected = [(p.detector, f"AUC, {p.variant}, epoch {e}", v) for p in cora.PEERS for e, v in p.published.items()]
    found = [(row["detector"], row["measure"], row["published"]) for row in reported("cora")[1:]]
    assert found == expected
    assert [row["note"].split("; fitted and scored")[0] for row in reported("cora")[1:]] == [
        p.note for p in cora.PEERS for _ in p.published
    ]


def test_gcn_ae_on_the_published_features_again(folder):
    """One seed of the cheapest learned row, from the injection on."""
    (peer,) = [p for p in cora.PEERS if p.detector == "gcn_ae" and p.shares == "before"]
    x, adjacency = cora.load(folder)
    graph = cora.inject(cora.shares(x), adjacency, seed=0)
    assert graph.x.sum(1) == pytest.approx(1, abs=1e-5)  # also those that took another node's features
    (stored,) = [r for r in reported("cora") if r["detector"] == "gcn_ae" and "shares" in r["measure"]]
    assert cora.auc(cora.fit(peer, graph, 0)[100], graph) == pytest.approx(stored["ours"][0], abs=0.005)


def test_what_the_report_must_show():
    """TranAD's raw score is no better than chance where its adjusted F1 is the published one; learned detectors on
    Cora beat the rule of thumb where their authors' do."""
    tranad = {row["measure"]: row for row in reported("tranad")}
    assert max(tranad["AUC"]["ours"]) < 0.55 and min(tranad["F1, adjusted"]["ours"]) > 0.85
    thumb, *rest = reported("cora")
    for name in ("dominant", "cola", "anomaly_dae"):
        best = max(min(row["ours"]) for row in rest if row["detector"] == name)
        assert best > max(thumb["ours"]), name
