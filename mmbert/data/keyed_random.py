"""Random numbers as pure functions of a key, so that order, workers and processes do not matter."""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np


def uniform(*key: int | str) -> float:
    """A number in [0, 1), uniform over keys and the same on every machine.

    Args:
        key: what the number depends on, such as a seed and a name.

    Example:
        >>> uniform(0, "64-17-5") == uniform(0, "64-17-5")
        True
    """
    return (_digest(key, 8) >> 11) / 2**53


def generator(*key: int | str) -> np.random.Generator:
    """A random generator whose stream depends on the key only."""
    return np.random.default_rng(_digest(key, 16))


Rate = float | Mapping[str, float]  # one for all names, or one for each; a name that is not in it has rate 0


def draw_kept_names(names: Iterable[str], rate: Rate, *key: int | str) -> set[str]:
    """Drop each name at random, but never all of them.

    Each name is drawn under its own key, so another name more or less does not change the draws of the others. Where
    all names would be dropped, the one that came nearest to being kept stays.

    Args:
        names: the names to draw from.
        rate: the probability to drop a name; one for all, or one for each.
        key: what the draw depends on.

    Returns:
        The names that are kept.
    """
    names = sorted(names)
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(names, rate)
    margins = {name: uniform(*key, name) - rates.get(name, 0.0) for name in names}
    return {name for name in names if margins[name] >= 0} or set(sorted(names, key=margins.__getitem__)[-1:])


def _digest(key: tuple[int | str, ...], size: int) -> int:
    words = "\0".join(map(str, key)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(words, digest_size=size).digest(), "big")
