"""Every switch of the model, named, with the two presets: `literal` (printed equations), `intended` (printed prose).

One key chooses wherever the paper's equation and its own explanation of it part ways, or where the explanation leaves
a choice, as with `mpi_c3` (SPEC, table of presets). Every key can be flipped alone:
`make_config("intended", tau_rule="rising")`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

# allowed values; the other keys are sizes, integers from 1 up, and the two weights of the loss
CHOICES: dict[str, tuple[Any, ...]] = {
    "psi_rule": ("free", "positive", "rank"),
    "psi_norm": ("train", "full_sample"),
    "source_w": ("sigmoid", "stress"),
    "topk_rule": ("soft", "hard"),
    "fusion_scale": ("raw", "row"),
    "gcn_loops": (False, True),
    "tau_rule": ("rising", "falling"),
    "div_sign": (1, -1),
    "score_stats": ("block", "train"),
    "mpi_c3": ("std", "double_std"),
    "mpi_c4": ("std", "agreement"),
    "bilstm_projection": (False, True),
    "cross_attention": ("learned", "uniform"),
    "use_prior": (True, False),
    "sources": ("three", "temporal"),
    "alpha_rule": ("stress", "learned", "fixed"),
    "mechanisms": ("four", "one", "two", "six"),
    "contagion_sees": ("spatial", "refined"),
    "expert_task": ("rebuild", "predict"),
    "routing_rule": ("soft", "uniform", "top2", "hard"),
    "rec_rule": ("all", "routed"),
    "gate_prior": ("none", "surprise"),
    "cut_source": ("val", "train", "expanding"),
}
WEIGHTS = ("gamma1", "gamma2", "alpha_fixed", "balance", "teach")  # numbers that are not negative
PRESETS: dict[str, dict[str, Any]] = {
    "literal": {
        "psi_rule": "free",
        "source_w": "sigmoid",
        "topk_rule": "soft",
        "fusion_scale": "raw",
        "gcn_loops": False,
        "tau_rule": "rising",
        "div_sign": 1,
        "score_stats": "block",
        "mpi_c3": "std",
        "mpi_c4": "std",
    },
    "intended": {
        "psi_rule": "positive",
        "source_w": "stress",
        "topk_rule": "hard",
        "fusion_scale": "row",
        "gcn_loops": True,
        "tau_rule": "falling",
        "div_sign": -1,
        "score_stats": "train",
        "mpi_c3": "double_std",
        "mpi_c4": "agreement",
    },
}
HORIZONS = (1, 3, 5)  # sessions that the three decoders rebuild (SPEC 7.1)


def is_number(value: object) -> bool:
    """A finite number; True and False are none, though Python counts with them."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: object) -> bool:
    """An integer from 1 up."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True)
class ModelConfig:
    """What the network is; the comment names the audit entry that asks for the switch.

    The first ten keys differ between the presets (`PRESETS`); the defaults here are those of `intended`.
    """

    psi_rule: str = "positive"  # A44: free betas | positive betas and a bias | mean percentile rank, nothing learned
    source_w: str = "stress"  # A45: softmax of a sigmoid, constant in time | softmax that moves with stress
    topk_rule: str = "hard"  # A47: every edge kept, softmax | only the k strongest, divided by the row sum
    fusion_scale: str = "row"  # A48: the prior as 0 and 1 | its rows divided by their sum
    gcn_loops: bool = True  # A40: self-loops in the spatial graph convolution
    tau_rule: str = "falling"  # A53: temperature rises or falls with stress
    div_sign: int = -1  # A58: sign of the routing entropy in the loss
    score_stats: str = "train"  # A64: mean and SD of the error from blocks of 32 sessions | from training, frozen
    mpi_c3: str = "double_std"  # A66: the prose's standard deviation as it is | doubled, our rescaling to [0, 1]
    mpi_c4: str = "agreement"  # A66
    psi_norm: str = "train"  # A44: span whose minimum and maximum scale the stress indicators
    window: int = 20
    lstm_hidden: int = 128
    bilstm_projection: bool = False  # A73: features through a linear map first, the paper's 270K
    attention_heads: int = 4
    gcn_layers: int = 2
    top_k: int = 20
    latent: int = 64
    expert_hidden: int = 128
    decoder_hidden: int = 128
    gamma1: float = 0.01
    gamma2: float = 0.001
    # the paper's ablations and the designs that it leaves open (SPEC 10); the defaults are the full model
    cross_attention: str = "learned"  # 1/n_t for every active stock: no_xmodal
    use_prior: bool = True  # False: the prior graph enters nowhere, alpha0_strict
    sources: str = "three"  # temporal similarity alone, without edge network: no_multisource
    alpha_rule: str = "stress"  # clamp(sigmoid(a)) without stress: Table 6 | alpha_fixed, unclamped
    alpha_fixed: float = 0.5
    mechanisms: str = "four"  # the members of one, two or six experts: no_moe, Table 7 (A96)
    contagion_sees: str = "spatial"  # A55: what the adaptive graph has refined
    expert_task: str = "rebuild"  # A56: predict each feature from the others of its category
    routing_rule: str = "soft"  # Table 7: 1/K without a gate | the two largest | the largest, no gradient to the gate
    rec_rule: str = "all"  # A57: the experts' errors in L_rec weighted by the routing
    gate_prior: str = "none"  # A57, ours: weights times exp(each expert's error against its usual one)
    balance: float = 0.0  # A57, ours: weight of the load balance in the loss
    teach: float = 0.0  # A57, ours: weight of the lessons in the loss, mechanisms that the gate is told
    cut_source: str = "val"  # A11, SPEC 7.5: the sessions whose MPI fixes the alert levels

    def identity(self) -> dict[str, Any]:
        """What tells two models apart: all keys, of the designs only those that are not the full model's.

        So that a new design renames no stored run.
        """
        return {key: value for key, value in asdict(self).items() if key not in DESIGN or value != DESIGN[key]}

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            allowed = CHOICES.get(key)
            if allowed and not any(value == choice and type(value) is type(choice) for choice in allowed):
                raise ValueError(f"{key} is {value!r}; it can be {', '.join(map(repr, allowed))}")
            if not allowed and key in WEIGHTS and not (is_number(value) and value >= 0):
                raise ValueError(f"{key} is {value!r}; it must be a number that is not negative")
            if not allowed and key not in WEIGHTS and not is_count(value):
                raise ValueError(f"{key} is {value!r}; it must be an integer from 1 up")
        if self.window < max(HORIZONS):
            raise ValueError(f"window is {self.window}; the longest decoder rebuilds {max(HORIZONS)} sessions")
        if (2 * self.lstm_hidden) % self.attention_heads:
            raise ValueError(f"attention_heads {self.attention_heads} does not divide 2 x lstm_hidden")
        if self.alpha_fixed > 1:
            raise ValueError(f"alpha_fixed is {self.alpha_fixed}; a share is between 0 and 1")
        if self.gate_prior == "surprise" and self.routing_rule != "soft":
            raise ValueError(f"gate_prior 'surprise' needs routing_rule 'soft', not {self.routing_rule!r}")
        if self.teach and self.mechanisms != "four":
            raise ValueError(
                f"teach needs an expert for each of the four mechanisms; mechanisms is {self.mechanisms!r}"
            )
        if self.mechanisms == "one" and self.routing_rule != "soft":
            raise ValueError(f"routing_rule {self.routing_rule!r} has nothing to choose from with mechanisms 'one'")


_AS_CONFIGURED = ModelConfig()
DESIGN = {
    key: getattr(_AS_CONFIGURED, key)
    for key in (
        *("cross_attention", "use_prior", "sources", "alpha_rule", "alpha_fixed", "mechanisms", "contagion_sees"),
        *("expert_task", "routing_rule", "rec_rule", "gate_prior", "balance", "teach", "cut_source"),
    )
}


def make_config(preset: str = "intended", **overrides: Any) -> ModelConfig:
    """A preset with some keys changed.

    Raises ValueError for an unknown preset, key or value; the message lists what exists.
    """
    if preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
    known = [f.name for f in fields(ModelConfig)]
    if unknown := sorted(set(overrides) - set(known)):
        raise ValueError(f"the model has no key {', '.join(unknown)}; it has: {', '.join(known)}")
    return ModelConfig(**(PRESETS[preset] | overrides))
