"""The list of features: each is one function, registered with what a reader must know about it.

A feature function takes the prepared inputs (`Inputs`) and returns float64 [session, stock].
To add one, write it in the module of its group and decorate it; order of registration is order of columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

GROUPS = ("price_shock", "liquidity", "contagion", "momentum")  # paper, section 2: d = 6, 8, 7, 8


@dataclass(frozen=True)
class Feature:
    """One column. `sign`: "+" when larger is more stressed, "two-sided" when both ends are."""

    name: str
    group: str
    compute: Callable[..., np.ndarray]
    unit: str
    sign: str
    source: str
    binary: bool = False

    @property
    def formula(self) -> str:
        """First line of the function's docstring."""
        return (self.compute.__doc__ or "").strip().splitlines()[0]


_FEATURES: dict[str, Feature] = {}


def feature(group: str, *, unit: str, sign: str, source: str, binary: bool = False) -> Callable:
    """Register the decorated function as a column of `group`, under its own name."""
    if group not in GROUPS:
        raise ValueError(f"unknown feature group {group!r}; one of {', '.join(GROUPS)}")

    def register(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        name = function.__name__
        if name in _FEATURES:
            raise ValueError(f"a feature named {name!r} exists already")
        _FEATURES[name] = Feature(name, group, function, unit, sign, source, binary)
        return function

    return register


def features() -> list[Feature]:
    """All features, group by group, in the order of SPEC 2."""
    from anomaly_routing.features import contagion, liquidity, momentum, price_shock  # noqa: F401  (they register)

    return sorted(_FEATURES.values(), key=lambda f: GROUPS.index(f.group))


def feature_names() -> list[str]:
    """The column names in order."""
    return [f.name for f in features()]


def catalogue() -> pd.DataFrame:
    """One row a feature: number, name, group, formula, unit, sign, source."""
    rows = [(i, f.name, f.group, f.formula, f.unit, f.sign, f.source) for i, f in enumerate(features(), start=1)]
    return pd.DataFrame(rows, columns=["number", "name", "group", "formula", "unit", "sign", "source"])
