"""Anomaly detection: the scenario, where its images come from, its presets, how it is scored."""
