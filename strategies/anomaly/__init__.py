"""Anomaly detection: INP-Former, patch banks and the baselines below them."""
