"""Outputs do not move unless `numerics` is raised.

After a wanted change, raise `numerics` of the detector and run

    python tests/baselines/test_golden.py

After a change of `QUICK`, which alters what is run here and not the detector, take its entries out of the file first.
A fingerprint has to hold on any processor; before the file is committed, try other instruction sets on it:

    ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 pytest tests/baselines/test_golden.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from planted_panel import EVERY_MODE, planted_panel, scored

from anomaly_routing.baselines.registry import detectors

GOLDEN = Path(__file__).parents[1] / "golden" / "detectors.json"
RTOL = 1e-4


def summary(scores: np.ndarray) -> dict[str, float]:
    """A fingerprint that sees the level, the spread and the place of the scores."""
    finite = np.isfinite(scores)
    values = scores[finite].astype(float)
    weights = np.cos(np.arange(scores.size).reshape(scores.shape)[finite])
    figures = {
        "finite": finite.mean(),
        "mean": values.mean(),
        "sd": values.std(),
        "place": np.abs(values) @ np.abs(weights) / len(values),
        **{f"q{q:02d}": np.quantile(values, q / 100) for q in (5, 50, 95, 99)},
    }
    return {key: float(f"{value:.6g}") for key, value in figures.items()}


def current(name: str, mode: str) -> dict:
    return {"numerics": detectors()[name].numerics, "summary": summary(scored(name, mode))}


def same(one: dict, other: dict) -> bool:
    scale = max(abs(value) for value in other.values())
    return one.keys() == other.keys() and all(
        np.isclose(one[key], other[key], rtol=RTOL, atol=RTOL * 1e-2 * scale) for key in other
    )


@pytest.mark.parametrize(("name", "mode"), EVERY_MODE)
def test_outputs_move_only_with_numerics(name, mode):
    stored, now = json.loads(GOLDEN.read_text()).get(f"{name}/{mode}"), current(name, mode)
    assert stored is not None, f"{name}/{mode} is new: run python tests/baselines/test_golden.py"
    if now["numerics"] == stored["numerics"]:
        assert same(now["summary"], stored["summary"]), (
            f"the outputs of {name} ({mode}) moved: raise numerics in its @register, then run "
            f"python tests/baselines/test_golden.py\nstored {stored['summary']}\nnow    {now['summary']}"
        )
    else:
        pytest.fail(f"numerics of {name} is {now['numerics']}, stored is {stored['numerics']}: regenerate the file")


def test_the_comparison_sees_a_small_move():
    stored = current("zscore", "causal")["summary"]
    moved = scored("zscore", "causal") * np.float32(1 + 3 * RTOL)
    assert same(summary(scored("zscore", "causal") * np.float32(1 + 1e-6)), stored)
    assert not same(summary(moved), stored)
    swapped = np.roll(scored("zscore", "causal"), 1, axis=0)
    assert not same(summary(swapped), stored)


def regenerate() -> None:
    """Write the file; refuse where outputs moved under the same `numerics`."""
    stored = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    fresh = {f"{name}/{mode}": current(name, mode) for name, mode in EVERY_MODE}
    for key, now in fresh.items():
        old = stored.get(key)
        if old and old["numerics"] == now["numerics"]:
            if not same(now["summary"], old["summary"]):
                raise SystemExit(f"the outputs of {key} moved: raise numerics in its @register first")
            fresh[key] = old
    partial = GOLDEN.with_suffix(".part")
    partial.write_text(json.dumps(dict(sorted(fresh.items())), indent=1) + "\n")
    os.replace(partial, GOLDEN)


if __name__ == "__main__":
    planted_panel()
    regenerate()
