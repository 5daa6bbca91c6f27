"""The neural detectors on their authors' data: the smallest parts run again at one seed, and the report holds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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


def test_what_the_report_must_show():
    """TranAD's raw score is no better than chance where its adjusted F1 is the published one; learned detectors on
    Cora beat the rule of thumb where their authors' do."""
    tranad = {row["measure"]: row for row in reported("tranad")}
    assert max(tranad["AUC"]["ours"]) < 0.55 and min(tranad["F1, adjusted"]["ours"]) > 0.85
    thumb, *rest = reported("cora")
    for name in ("dominant", "cola", "anomaly_dae"):
        best = max(min(row["ours"]) for row in rest if row["detector"] == name)
        assert best > max(thumb["ours"]), name
