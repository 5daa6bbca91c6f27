"""The benchmarks: the plain model equals the fast one, the counts are right, the scripts run on a tiny market."""

from __future__ import annotations

import sys

import pytest
import torch

from anomaly_routing.model.training import loss_terms
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "model"))
from small_networks import PRESETS, mixed, shaken  # noqa: E402

from benchmarks.model_reference import Reference, loss  # noqa: E402


# --- the plain model -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("preset", PRESETS)
def test_the_plain_model_equals_the_fast_one(preset):
    """Routing, errors, loss and gradient, with stocks that come, go and stand alone."""
    net = shaken(preset, top_k=3)
    x, active, prior, stress = mixed().tensors()
    plain = Reference(net, gat="exact")
    one, two = net(x, active, prior, stress), plain(x, active, prior, stress)
    for name in two._fields:
        torch.testing.assert_close(getattr(two, name), getattr(one, name), rtol=1e-5, atol=1e-9)
    total = loss(two, active, net.config), loss_terms(one, active, net.config)["total"]
    torch.testing.assert_close(*total, rtol=1e-9, atol=0)
    norms = [sum(p.grad.square().sum() for p in m.parameters()).sqrt() for m in (plain, net) if _backward(m, total)]
    torch.testing.assert_close(*norms, rtol=1e-7, atol=0)
