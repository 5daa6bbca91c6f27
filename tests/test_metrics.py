"""metrics.json: what is written comes back, a method a line, and a failed write leaves the old file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anomaly_routing.metrics import events_once, write_metrics

CONTENT = {
    "market": "m",
    "test_sessions": np.int64(500),
    "methods": {
        "zeta": {"auc": 1 / 3, "p": 1.23456789e-9, "hits": 7, "per_event": {"E01": {"lead": np.nan}}},
        "alpha — 2": {"auc": float("inf"), "family": "trivial", "lookahead": False},
    },
    "attribution": None,
}


def test_six_digits_and_a_method_a_line(tmp_path):
    path = tmp_path / "metrics.json"
    returned = write_metrics(path, CONTENT)
    text = path.read_text(encoding="utf-8")
    read = json.loads(text)
    assert read == returned  # the notebook goes on with what a reader of the file gets
    assert read["market"] == "m" and read["test_sessions"] == 500 and read["attribution"] is None
    zeta = read["methods"]["zeta"]
    assert zeta == {"auc": 0.333333, "p": 1.23457e-9, "hits": 7, "per_event": {"E01": {"lead": None}}}
    assert read["methods"]["alpha — 2"] == {"auc": None, "family": "trivial", "lookahead": False}
    for name in CONTENT["methods"]:
        assert sum(line.startswith(f'"{name}": {{') for line in text.splitlines()) == 1
    assert len(text.splitlines()) == 3 + len(CONTENT["methods"]) + len(CONTENT)


def test_the_same_content_in_another_order_is_the_same_file(tmp_path):
    write_metrics(tmp_path / "a.json", CONTENT)
    turned = dict(reversed(CONTENT.items())) | {"methods": dict(reversed(CONTENT["methods"].items()))}
    write_metrics(tmp_path / "b.json", turned)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, CONTENT)
    before = path.read_bytes()
    with pytest.raises(KeyError, match="methods"):
        write_metrics(path, {"market": "m"})
    with pytest.raises(TypeError):
        write_metrics(path, CONTENT | {"market": object()})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_dates_and_splits_stand_once():
    facts = {"a": {"date": "2023-03-10", "split": "test"}, "b": {"date": "2022-02-24", "split": "val"}}

    def line(hits: dict[str, bool]) -> dict:
        return {
            "hits": sum(hits.values()),
            "per_event": {e: {"hit": hit, "lead": None} | facts[e] for e, hit in hits.items()},
        }

    methods = {
        "one": {"tier": "cpu", "paper": line({"a": True, "b": False}), "matched": line({"a": False})},
        "two": {"tier": "cpu", "paper": line({"b": True}), "matched": line({})},
    }
    events, lean = events_once(methods)
    assert events == facts
    for name, entry in methods.items():
        for protocol in ("paper", "matched"):
            for event, verdict in entry[protocol]["per_event"].items():
                assert verdict == lean[name][protocol]["per_event"][event] | events[event]
                assert len(verdict) == 4  # what was given is left as it was
            assert lean[name][protocol]["hits"] == entry[protocol]["hits"]
        assert lean[name]["tier"] == "cpu"
    methods["two"]["paper"]["per_event"]["b"]["date"] = "2022-02-23"
    with pytest.raises(ValueError, match=r"event b is .*2022-02-23.* and .*2022-02-24"):
        events_once(methods)
