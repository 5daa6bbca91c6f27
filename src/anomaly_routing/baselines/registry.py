"""One interface for every detector, and the list of them.

A detector has `fit(panel, train_mask) -> self` and `decision_function(panel) -> float32 [S, N]`: NaN where
`panel.active` is False, higher = more anomalous. A detector that keeps something of each stock scores the fitted stocks
in their order alone (`universe.check_universe`); every other may score any universe. To add one, put a single file into
a folder of this package:

    @register("my_detector", family="trivial", title="My detector", reference="where it comes from")
    @dataclass
    class MyDetector:
        window: int = 20                       # parameters are the dataclass's fields
        def fit(self, panel, train_mask): ...
        def decision_function(self, panel): ...

A field `seed` marks it as stochastic, a field `mode` receives the mode. Nothing else needs to know of the file.
Every file is imported when the list is made, so a library of its own (pyod, statsmodels) is imported inside `fit`.
A neural detector inherits `baselines.deep.DeepDetector` and brings a network.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import numpy as np

from anomaly_routing.panel import Panel

SHARES = ("outliers", "quantile", "contamination", "max_anomalies", "nu", "pruned", "alpha")  # parameters


class Detector(Protocol):
    """What every detector offers; see the module's docstring."""

    def fit(self, panel: Panel, train_mask: np.ndarray) -> Detector: ...

    def decision_function(self, panel: Panel) -> np.ndarray: ...


@dataclass(frozen=True)
class Entry:
    """A registered detector.

    stage : of dvc.yaml, whose notebook runs it.
    lookahead : for each mode, whether a score at t may depend on sessions after t.
    numerics : raised by hand when the arithmetic changes, so that stored runs of another meaning are not reused.
    reveals : whose rows could be read back from the scores, "" (nobody's), "stocks" or "market": such scores are not
        stored stock by stock, nor such daily series as they are, since the price panel stays out of the repository.
    requires : "benchmark:<ticker>", "feature:<name>", "features" (any feature at all), "graph" (the prior graph),
        "stress" (the stress indicators) or "groups" (the features' categories).
    """

    name: str
    family: str
    stage: str
    title: str
    reference: str
    modes: tuple[str, ...]
    lookahead: dict[str, bool]
    numerics: int
    reveals: str
    requires: tuple[str, ...]
    factory: Callable[..., Detector]

    @property
    def parameters(self) -> dict[str, Any]:
        """Constructor parameters and their defaults, without `mode` and `seed`."""
        accepted = inspect.signature(self.factory).parameters
        return {key: p.default for key, p in accepted.items() if key not in ("mode", "seed")}

    @property
    def stochastic(self) -> bool:
        """Whether the seed matters."""
        return "seed" in inspect.signature(self.factory).parameters

    def missing(self, panel: Panel) -> str | None:
        """Why this detector cannot run on this panel, or None if it can."""
        lacks = [text for requirement in self.requires if (text := _lack(requirement, panel))]
        return "; ".join(lacks) or None


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    *,
    family: str,
    title: str,
    reference: str,
    stage: str = "baselines",
    modes: Iterable[str] = ("causal",),
    lookahead: Iterable[str] = ("chapter",),
    numerics: int = 1,
    reveals: str = "",
    requires: Iterable[str] = (),
) -> Callable[[type], type]:
    """Class decorator that adds a detector to the registry; `lookahead` names the modes that use the future.

    Raises
    ------
    ValueError : the name is taken by another class.
    """

    def add(factory: type) -> type:
        known = _ENTRIES.get(name)
        if known and _origin(known.factory) != _origin(factory):
            raise ValueError(f"two detectors are called {name!r}: {_origin(known.factory)} and {_origin(factory)}")
        looks = {mode: mode in tuple(lookahead) for mode in modes}
        _ENTRIES[name] = Entry(
            name, family, stage, title, reference, tuple(modes), looks, numerics, reveals, tuple(requires), factory
        )
        return factory

    return add


def detectors(below: tuple[str, ...] = ("",)) -> dict[str, Entry]:
    """Every detector found in the modules under `anomaly_routing.baselines`, and the model; by family, then by name.

    below : import the modules whose name begins so and no others, as in ("temporal", "streaming.memstream"): what else
        is installed then does not matter.
    """
    package = importlib.import_module(__package__)
    for module in pkgutil.walk_packages(package.__path__, prefix=package.__name__ + "."):
        if module.name.removeprefix(package.__name__ + ".").startswith(below):
            importlib.import_module(module.name)
    importlib.import_module("anomaly_routing.model.detector")
    return {entry.name: entry for entry in sorted(_ENTRIES.values(), key=lambda entry: (entry.family, entry.name))}


def create(name: str, mode: str | None = None, seed: int = 0, **params: Any) -> Detector:
    """A new, unfitted detector.

    mode : one of the entry's modes; default "causal". seed is ignored by deterministic detectors.

    Raises
    ------
    ValueError : unknown name, mode or parameter, the message lists what exists; a number that the parameter cannot be.
    """
    entries = detectors()
    if name not in entries:
        raise ValueError(f"no detector {name!r}; there are: {', '.join(entries)}")
    entry = entries[name]
    mode = mode or ("causal" if "causal" in entry.modes else entry.modes[0])
    if mode not in entry.modes:
        raise ValueError(f"{name} has no mode {mode!r}; it has: {', '.join(entry.modes)}")
    unknown = sorted(set(params) - set(entry.parameters))
    if unknown:
        known = ", ".join(entry.parameters) or "none"
        raise ValueError(f"{name} has no parameter {', '.join(map(repr, unknown))}; it has: {known}")
    for key, value in params.items():
        _check_number(name, key, value, entry.parameters[key])
    accepted = inspect.signature(entry.factory).parameters
    given = {key: value for key, value in (("mode", mode), ("seed", seed)) if key in accepted}
    return entry.factory(**given, **params)


def _check_number(name: str, key: str, value: Any, default: Any) -> None:
    """Whether the value is of the default's kind: a count, one of `SHARES`, another number; a threshold may be any."""
    if isinstance(default, bool) or not isinstance(default, int | float):
        return
    low = min(default, 1 if isinstance(default, int) and key != "epochs" else 0)  # no epochs: as it was drawn
    low = -math.inf if key.endswith("threshold") else low
    real = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if key == "share":  # of what there is: none of it leaves nothing to fit on
        right, wanted = real and 0 < value <= 1, "a share above 0 and up to 1"
    elif isinstance(default, int):
        right, wanted = real and value == int(value) and value >= low, f"an integer from {low} up"
    elif key in SHARES:
        right, wanted = real and low <= value <= 1, "a share from 0 to 1"
    else:
        right, wanted = real and value >= low, "a finite number" if low == -math.inf else f"a number from {low:g} up"
    if not right:
        raise ValueError(f"{name}: {key} is {value!r}; it must be {wanted}")


def _origin(factory: Callable) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"


def _lack(requirement: str, panel: Panel) -> str | None:
    kind, _, name = requirement.partition(":")
    if kind == "benchmark":
        present = name in panel.benchmarks and bool(panel.benchmarks[name].notna().any())
        return None if present else f"the panel has no benchmark {name}"
    if kind == "feature":
        return None if name in panel.features else f"the panel has no feature {name}"
    if kind == "graph":
        return None if panel.prior is not None else "the panel has no prior graph"
    if kind == "stress":
        return None if panel.stress is not None else "the panel has no stress indicators"
    if kind == "groups":
        return None if panel.group else "the panel has no feature groups"
    if kind == "features":
        return None if panel.features else "the panel has no features"
    known = "benchmark:<ticker>, feature:<name>, features, graph, stress or groups"
    raise ValueError(f"unknown requirement {requirement!r}; use {known}")
