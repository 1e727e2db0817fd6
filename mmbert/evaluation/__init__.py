"""Exact evaluation, metrics, baselines, bootstrap, calibration, attribution."""
