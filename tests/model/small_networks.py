"""Small inputs and full-width networks that the tests of the model share.

Networks are float64: an eps in the wrong place or a missing small term is then far above the rounding, and no k-th edge
changes hands between two ways of adding up.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import torch

from anomaly_routing.model.network import build_model

PRESETS = ["literal", "intended"]
WINDOW = 20
LEAVER, ISOLATED, FLAT, CUT_OFF, JOINER, ABSENT = 0, 2, 3, 4, 5, 8  # the stocks of `mixed`


@dataclass(frozen=True)
class Chunk:
    """Arguments of the network as float64 arrays (active: bool)."""

    x: np.ndarray
    active: np.ndarray
    prior: np.ndarray
    stress: np.ndarray

    def tensors(self, dtype=torch.float64) -> tuple[torch.Tensor, ...]:
        x, prior, stress = (torch.tensor(v, dtype=dtype) for v in (self.x, self.prior, self.stress))
        return x, torch.tensor(self.active), prior, stress

    def of(self, stocks) -> Chunk:
        """These stocks alone, in this order."""
        return replace(
            self, x=self.x[:, stocks], active=self.active[:, stocks], prior=self.prior[np.ix_(stocks, stocks)]
        )

    def first(self, sessions: int) -> Chunk:
        """Without the later sessions."""
        return replace(
            self,
            x=self.x[: WINDOW - 1 + sessions],
            active=self.active[:sessions],
            stress=self.stress[:sessions],
        )


def mixed(stocks: int = 9, sessions: int = 3, seed: int = 0, features: int = 29) -> Chunk:
    """Random features; one stock leaves, one joins, one is never active, one has no prior edge, one only an edge to the
    absent stock, one has the same value in all features and sessions."""
    rng = np.random.default_rng(seed)
    x = np.clip(1.5 * rng.normal(size=(WINDOW - 1 + sessions, stocks, features)), -8, 8)
    x[:, FLAT] = 0.5
    prior = np.triu(rng.random((stocks, stocks)) < 0.4, 1).astype(float)
    prior[1, 6] = 1
    prior += prior.T
    prior[[ISOLATED, CUT_OFF]] = prior[:, [ISOLATED, CUT_OFF]] = 0
    active = np.ones((sessions, stocks), bool)
    active[-1, LEAVER] = active[0, JOINER] = False
    if stocks > ABSENT:
        active[:, ABSENT] = False
        prior[CUT_OFF, ABSENT] = prior[ABSENT, CUT_OFF] = 1
    return Chunk(x, active, prior, rng.random((sessions, 4)))


def one_stock() -> Chunk:
    """The second of three sessions has a single active stock."""
    chunk = mixed()
    active = chunk.active.copy()
    active[1] = np.arange(active.shape[1]) == 1
    return replace(chunk, active=active)


@cache
def network(preset: str = "intended", **overrides):
    """As initialised."""
    torch.manual_seed(0)
    return build_model(preset, **overrides).double()


@cache
def shaken(preset: str = "intended", **overrides):
    """Every parameter away from its initial value, far enough for attention and gates to be uneven."""
    model = deepcopy(network(preset, **overrides))
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() > 1:
                value.mul_(2)
            else:
                value.add_(0.2 * torch.randn(value.shape, generator=noise, dtype=value.dtype))
            if name.endswith("tau_b"):
                value.fill_(-0.7)  # its absolute value counts
    return model


def parameters(model) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in model.state_dict().items()}


def arrays(output) -> dict[str, np.ndarray]:
    named = {f.name: getattr(output, f.name) for f in fields(output)}
    return {name: value.detach().double().numpy() for name, value in named.items()}
