"""The paper's model: Module 1 `encoder`, Module 2 `dynamic_graph`, Module 3 `experts`, Module 4 `scoring` and
`pressure_index`; `network` puts them together and `training` fits them. `config` names every switch.

`build_model` and `make_config` are found here when they are asked for: listing the detectors does not import torch.
"""

from importlib import import_module

_HOME = {"build_model": "network", "make_config": "config"}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
