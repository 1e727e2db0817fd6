"""Exact evaluation, metrics, baselines, permutation tests, calibration, attribution."""
