"""Random choices keyed by what they are about, so that order, workers and processes do not matter."""

import hashlib
from collections.abc import Iterable

import numpy as np


def uniform(*key: int | str) -> float:
    """A number in [0, 1), evenly spread over keys: a pure function, the same on every machine.

    >>> uniform(0, "64-17-5") == uniform(0, "64-17-5")
    True
    """
    return (_digest(key, 8) >> 11) / 2**53


def generator(*key: int | str) -> np.random.Generator:
    """A random generator of its own for each key."""
    return np.random.default_rng(_digest(key, 16))


def survivors(names: Iterable[str], rate: float, *key: int | str) -> set[str]:
    """The names that are left where each is dropped with probability ``rate``, but never all of them.

    Each name is drawn under its own key: another name more or less changes no other's fate, unless none would be left.
    """
    draws = {name: uniform(*key, name) for name in sorted(names)}
    return {name for name, draw in draws.items() if draw >= rate} or set(sorted(draws, key=draws.__getitem__)[-1:])


def _digest(key: tuple[int | str, ...], size: int) -> int:
    words = "\0".join(map(str, key)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(words, digest_size=size).digest(), "big")
