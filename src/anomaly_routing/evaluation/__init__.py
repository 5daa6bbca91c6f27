"""Scores against events: what was detected, how early, how often in vain, and what chance would have given.

This package sees daily scores and an event list, never a model. The names below are found when they are asked for, so
that `anomaly_routing.evaluation.aggregate` can be used where only numpy and pandas are installed.
"""

from importlib import import_module

_HOME = {
    "daily_statistic": "aggregate",
    "stock_day_cut": "aggregate",
    "load_events": "events",
    "write_events": "events",
    "chance_hit_rate": "placebo",
    "evaluate_daily": "protocols",
    "paired_comparison": "statistics",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
