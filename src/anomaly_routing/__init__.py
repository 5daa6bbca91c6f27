"""An honest replication of explainable anomaly detection in financial networks by adaptive expert routing."""

__version__ = "0.1.0"
