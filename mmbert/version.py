"""The release, and the epoch of the numerics."""

__version__ = "0.1.0"
CODE_EPOCH = 3  # raise it when the same recipe no longer gives the same numbers, as where a default changes
