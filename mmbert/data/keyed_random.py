"""Random choices keyed by what they are about, so that order, workers and processes do not matter."""

import hashlib
from collections.abc import Iterable, Mapping

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


Rate = float | Mapping[str, float]  # of all names, or of each; a name that is not there has rate 0


def draw_kept_names(names: Iterable[str], rate: Rate, *key: int | str) -> set[str]:
    """The names that are left where each is dropped with probability ``rate``, but never all of them.

    Each name is drawn under its own key: another name more or less changes no other's fate, unless none would be left.
    """
    names = sorted(names)
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(names, rate)
    margins = {name: uniform(*key, name) - rates.get(name, 0.0) for name in names}
    return {name for name in names if margins[name] >= 0} or set(sorted(names, key=margins.__getitem__)[-1:])


def _digest(key: tuple[int | str, ...], size: int) -> int:
    words = "\0".join(map(str, key)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(words, digest_size=size).digest(), "big")
