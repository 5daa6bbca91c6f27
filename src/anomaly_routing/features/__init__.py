"""From prices to the 29 features of the paper and their scaling."""

from anomaly_routing.features.panel import Scaler, build_panel, compute_features, fit_scaler

__all__ = ["Scaler", "build_panel", "compute_features", "fit_scaler"]
