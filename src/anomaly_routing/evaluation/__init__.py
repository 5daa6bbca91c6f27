"""Scores against events: what was detected, how early, how often in vain, and what chance would have given.

This package sees daily scores and an event list, never a model.
"""

from anomaly_routing.evaluation.aggregate import daily_statistic, stock_day_cut
from anomaly_routing.evaluation.events import load_events, write_events
from anomaly_routing.evaluation.placebo import chance_hit_rate
from anomaly_routing.evaluation.protocols import evaluate_daily
from anomaly_routing.evaluation.statistics import paired_comparison

__all__ = [
    "chance_hit_rate",
    "daily_statistic",
    "evaluate_daily",
    "load_events",
    "paired_comparison",
    "stock_day_cut",
    "write_events",
]
