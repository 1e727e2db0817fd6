"""A random part of an image."""

import numpy as np


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A part of the image (left, top, right, bottom): half to all of its area, 3:4 to 4:3 of its shape."""
    area, ratio = rng.uniform(0.5, 1.0), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    wide, high = min(1.0, (area * ratio) ** 0.5) * width, min(1.0, (area / ratio) ** 0.5) * height
    left, top = rng.random() * (width - wide), rng.random() * (height - high)
    return left, top, min(left + wide, width), min(top + high, height)
