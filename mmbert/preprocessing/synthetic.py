"""Synthetic raw values of each modality that encode one bit; the source ``oracle`` uses them.

Each function takes the bit, 0 or 1, and a generator. Everything else it draws is independent of the bit, and the bit
can always be recovered from the value.
"""

from typing import Any

import numpy as np

WORDS = (("cold", "dark", "grey", "wet"), ("bright", "dry", "sunny", "warm"))
TIMES = ("yesterday", "today", "last night", "this morning", "on Monday", "on Friday", "in March", "in June")
PLACES = ("in the harbour", "at the station", "on the hill", "by the river", "at school", "in town", "at home", "here")


def sentence(bit: int, rng: np.random.Generator) -> str:
    """A sentence about bad (0) or good (1) weather.

    Args:
        bit: 0 for bad weather, 1 for good.
        rng: draws time, weather word and place.

    Example:
        >>> sentence(1, np.random.default_rng(0))
        'in March it was sunny at school'
    """
    when, what, where = (str(rng.choice(words)) for words in (TIMES, WORDS[bit], PLACES))
    return f"{when} it was {what} {where}"


def bar(bit: int, rng: np.random.Generator) -> np.ndarray:
    """An image [32, 32, 3] uint8 of a blue (0) or red (1) bar, horizontal or vertical, on a dark noisy background.

    Args:
        bit: 0 for a blue bar, 1 for a red one.
        rng: draws colours, position, width, direction and noise.
    """
    image = np.empty((32, 32, 3), dtype=int)
    image[:] = rng.integers(0, 80, 3)
    first, width = rng.integers(4, 16), rng.integers(6, 12)
    weak, green, strong = rng.integers(0, 80), rng.integers(0, 160), rng.integers(150, 236)
    image[first : first + width] = (strong, green, weak) if bit else (weak, green, strong)
    noisy = (image + rng.integers(0, 20, image.shape)).astype(np.uint8)
    return np.ascontiguousarray(noisy.swapaxes(0, 1)) if rng.random() < 0.5 else noisy


def tone(bit: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A low (0: 200 to 400 Hz) or high (1: 800 to 1600 Hz) tone of 0.2 to 0.4 s with noise, and its sample rate in Hz.

    Args:
        bit: 0 for a low tone, 1 for a high one.
        rng: draws length, pitch, phase, loudness and noise.
    """
    rate = 8_000
    seconds = np.arange(int(rng.integers(1_600, 3_200))) / rate
    pitch, phase, loudness = rng.uniform(200, 400) * 4**bit, rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5)
    noise = rng.uniform(-0.02, 0.02, len(seconds))
    return (loudness * np.sin(2 * np.pi * pitch * seconds + phase) + noise).astype(np.float32), rate


def slope(bit: int, rng: np.random.Generator) -> list[float]:
    """A series of 16 to 40 steps that falls (0) or rises (1) by 2 to 6, at a random level, with noise.

    Args:
        bit: 0 for a falling series, 1 for a rising one.
        rng: draws length, level, slope and noise.
    """
    steps = int(rng.integers(16, 41))
    curve = (2 * bit - 1) * rng.uniform(1, 3) * np.linspace(-1, 1, steps)
    return (rng.normal(0, 1) + curve + rng.uniform(-0.5, 0.5, steps)).tolist()


def tree(bit: int, rng: np.random.Generator) -> dict[str, Any]:
    """A graph of 4 to 8 labelled nodes in random order: a chain (0) or a star (1).

    Args:
        bit: 0 for a chain, 1 for a star.
        rng: draws number, order and labels of the nodes.
    """
    size = int(rng.integers(4, 9))
    order = rng.permutation(size).tolist()
    edges = [[order[0 if bit else node - 1], order[node]] for node in range(1, size)]
    return {"nodes": rng.choice(["a", "b", "c"], size).tolist(), "edges": edges}


def record(bit: int, rng: np.random.Generator) -> dict[str, Any]:
    """A table row whose ``balance`` is below (0) or above (1) zero by 0.5 to 2.

    Args:
        bit: 0 for a negative balance, 1 for a positive one.
        rng: draws the absolute balance and the remaining cells.
    """
    balance = (2 * bit - 1) * rng.uniform(0.5, 2)
    return {"balance": float(balance), "age": float(rng.normal()), "kind": str(rng.choice(["a", "b", "c"]))}
