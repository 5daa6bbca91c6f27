"""Weights on disk, in safetensors: a training after an epoch, and the small checkpoint that is committed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from anomaly_routing.files import plain, replacing
from anomaly_routing.model.config import ModelConfig
from anomaly_routing.model.errors import TrainingError
from anomaly_routing.model.network import Network


@dataclass
class Fitted:
    """A training so far: the best weights by each stop rule, one line of log an epoch, the best epochs."""

    weights: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, dict[str, float]] = field(default_factory=dict)


class TrainingState:
    """A training on disk: weights, optimiser and best weights as tensors, the log in the file's header.

    belongs : what the training was started from (market, data, configuration, seed).
    path : None keeps nothing.
    """

    def __init__(self, net: Network, optimiser: torch.optim.Optimizer, belongs: Any, path: Path | None) -> None:
        self.net, self.optimiser, self.path = net, optimiser, path
        self.belongs = json.dumps(plain(belongs), sort_keys=True)

    def save(self, done: Fitted) -> None:
        """Replace the file; a kill at any moment leaves the old one or the new one."""
        if self.path is None:
            return
        arrays = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        for i, slots in self.optimiser.state_dict()["state"].items():
            arrays |= {f"adam.{i}.{name}": value for name, value in slots.items()}
        arrays |= {f"{rule}.{name}": v for rule, best in done.weights.items() for name, v in best.items()}
        header = {"belongs": self.belongs, "history": json.dumps(done.history), "best": json.dumps(done.best)}
        with replacing(self.path) as partial:
            partial.write_bytes(safetensors.torch.save({k: v.cpu().contiguous() for k, v in arrays.items()}, header))

    def restore(self) -> Fitted:
        """Load network and optimiser from the file, if there is one.

        Raises TrainingError when it is damaged or belongs to another training.
        """
        if self.path is None or not self.path.exists():
            return Fitted()
        header, arrays = _read(self.path)
        if header.get("belongs") != self.belongs:
            raise TrainingError(f"{self.path} is the state of another training: delete it, or name another file")
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in arrays.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        self.net.load_state_dict(parts.pop("net"))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in parts.pop("adam").items():
            i, _, slot = name.partition(".")
            slots.setdefault(int(i), {})[slot] = value
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": slots})
        return Fitted(parts, json.loads(header["history"]), json.loads(header["best"]))


def rounded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as a committed checkpoint holds them: rounded to float16, as float32. Scores are made with these."""
    return {name: value.to(torch.float16).to(torch.float32) for name, value in weights.items()}


def save_checkpoint(path: Path, net: Network, info: dict[str, Any]) -> None:
    """Write the weights as float16 (about 3.4 MB) with the configuration; `info` is free, JSON types."""
    arrays = {name: value.to(torch.float16).cpu().contiguous() for name, value in net.state_dict().items()}
    groups = [next(k for k, own in enumerate(net.experts.columns) if j in own) for j in range(net.n_features)]
    header = {"config": json.dumps(plain(net.config.__dict__), sort_keys=True), "groups": json.dumps(groups),
              "info": json.dumps(plain(info), sort_keys=True)}  # fmt: skip
    with replacing(path) as partial:
        partial.write_bytes(safetensors.torch.save(arrays, header))


def load_checkpoint(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of a committed checkpoint, ready to score, and its `info`.

    Raises FileNotFoundError, or TrainingError for a file that is no checkpoint.
    """
    header, arrays = _read(path)
    if "config" not in header:
        raise TrainingError(f"{path} is no checkpoint of this model: make it again with the stage `model`")
    groups = json.loads(header["groups"])
    net = Network(len(groups), groups, ModelConfig(**json.loads(header["config"])))
    net.load_state_dict({name: value.to(torch.float32) for name, value in arrays.items()})
    return net.eval(), json.loads(header["info"])


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
        return header, safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise TrainingError(f"{path} cannot be read ({error}): delete it") from error
