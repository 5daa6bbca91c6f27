"""Small inputs and networks that the tests of the model share.

Full-width networks are float64: an eps in the wrong place or a missing small term is then far above the rounding, and
no k-th edge changes hands between two ways of adding up. `small_tensors` and `small_network` are for whole trainings.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import pandas as pd
import torch

from anomaly_routing.model.config import make_config
from anomaly_routing.model.network import Network, build_model
from anomaly_routing.panel import BURN_IN, Splits
from anomaly_routing.tensors import Tensors

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


# --- a market to train on ---------------------------------------------------------------------------------------------
SMALL = {
    "window": 5, "lstm_hidden": 4, "attention_heads": 2, "gcn_layers": 1, "top_k": 2, "latent": 4, "expert_hidden": 8,
    "decoder_hidden": 8,
}  # fmt: skip
TRAINED, VALIDATED, TESTED = 70, 34, 40  # samples; 34 is a block of 32 sessions and a short one


def small_tensors(seed: int = 0, stocks: int = 7) -> Tensors:
    """Eight features of four categories with a common factor that lives on; the second and third stock are banks.

    Stock 0 leaves in the test span, stock 1 joins in training, stock 2 pauses; before the first sample nobody trades.
    """
    sessions, rng = BURN_IN + TRAINED + VALIDATED + TESTED, np.random.default_rng(seed)
    factor, noise = rng.normal(size=(2, sessions, stocks, 8))
    for t in range(1, sessions):
        factor[t] = 0.8 * factor[t - 1] + 0.6 * factor[t].mean(-1, keepdims=True)
    active = np.ones((sessions, stocks), bool)
    active[:20] = active[-20:, 0] = active[: BURN_IN + 30, 1] = active[BURN_IN + 50 : BURN_IN + 54, 2] = False
    x = np.where(active[..., None], np.clip(2 * factor + 0.5 * noise, -8, 8), 0).astype(np.float32)
    prior = np.triu(rng.random((stocks, stocks)) < 0.4, 1).astype(np.float32)
    stress = rng.gamma(2.0, size=(sessions, 4))
    stress[:10] = np.nan
    traded = np.where(active, 1.0, np.nan)[..., None] * rng.normal(size=(sessions, stocks, 2))
    days = pd.bdate_range("2020-01-01", periods=sessions)
    ends = np.cumsum([BURN_IN, TRAINED, VALIDATED, TESTED]) - 1
    return Tensors(
        market="m",
        sessions=days,
        tickers=[f"S{i}" for i in range(stocks)],
        features=[f"f{j}" for j in range(8)],
        group=["shock"] * 2 + ["liquidity"] * 2 + ["contagion"] * 2 + ["momentum"] * 2,
        x=x,
        active=active,
        returns=traded[..., 0].astype(np.float32),
        log_volume=traded[..., 1].astype(np.float32),
        prior=prior + prior.T,
        stress=stress,
        is_bank=np.isin(np.arange(stocks), [1, 2]),
        splits=Splits(f"{days[0]:%Y-%m-%d}", *(f"{days[end]:%Y-%m-%d}" for end in ends[1:])),
        data_hash="hash",
        features_numerics=1,
    )


def small_network(tensors: Tensors, preset: str = "intended", seed: int = 0, **overrides) -> Network:
    """A network for `small_tensors`, as initialised; float32."""
    torch.manual_seed(seed)
    return Network(len(tensors.features), tensors.categories, make_config(preset, **SMALL | overrides))


def altered(tensors: Tensors, after: int) -> Tensors:
    """Features, stress and activity of the sessions from position `after` on made different."""
    x, stress, active = tensors.x.copy(), tensors.stress.copy(), tensors.active.copy()
    rng = np.random.default_rng(5)
    x[after:] = rng.uniform(-8, 8, x[after:].shape)
    stress[after:] = 10 * stress[after:] + 3
    active[after:, 4] = False
    return replace(tensors, x=np.where(active[..., None], x, 0).astype(np.float32), stress=stress, active=active)
