"""Metric learning with directional statistics of axes: the check of the sign rule of `metric_vmf`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from anomaly_routing.baselines.metric_learning.directional import Watson
from anomaly_routing.baselines.metric_learning.metric_vmf import MetricVMF
from anomaly_routing.baselines.registry import register


@register(
    "metric_watson",
    family="metric learning",
    stage="deep_baselines",
    title="Metric learning + Watson",
    reference="as metric_vmf; AUDIT B04",
)
@dataclass
class MetricWatson(MetricVMF):
    """`metric_vmf` with a Watson distribution of axes, for which v and -v are the same: the check of the sign rule.

    Score: 1 - (mu.v)^2, mu the cluster's axis. Everything else, the trained metric included, is the same.
    """

    law: ClassVar[type] = Watson

    def _agreement(self, v: Tensor, axis: Tensor, mean: Tensor) -> Tensor:
        return (v * mean).sum(1).square()
