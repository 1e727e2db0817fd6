"""Atomic, checksummed checkpoints and resuming from them."""
