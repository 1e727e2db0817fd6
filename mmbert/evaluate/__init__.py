"""Exact evaluation, baselines."""
