"""Filled outlines: SVG path data as polygons, and polygons as a grey image."""

import re
from collections.abc import Iterable
from functools import cache
from math import comb
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

PIECES = 8  # straight pieces that replace a curve
OVERSAMPLING = 4  # times as many pixels a side are drawn and then averaged
POINTS = {"M": 1, "L": 1, "Q": 2, "C": 3, "Z": 0}  # points of each command


def parse_outlines(path: str) -> list[np.ndarray]:
    """The closed outlines of SVG path data. A Bézier curve becomes 8 straight pieces.

    Args:
        path: absolute commands M, L, Q, C and Z.

    Returns:
        A list of arrays [points, 2].

    Raises:
        ValueError: on another command, or a wrong number of coordinates.

    Example:
        >>> parse_outlines("M 0 0 L 2 0 L 2 2 Z")[0].tolist()
        [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]
    """
    outlines: list[list[np.ndarray]] = []
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        points = np.array(numbers.replace(",", " ").split(), dtype=float).reshape(-1, 2)
        size = POINTS.get(command)
        has_started = outlines or command == "M"
        if (
            not has_started
            or size is None
            or (len(points) % size if size else len(points))
            or (size and not len(points))
        ):
            raise ValueError(f"expected absolute M, L, Q, C and Z with their points, found '{command}{numbers}'")
        if command == "M":
            outlines.append([points[:1]])
            points, size = points[1:], 1  # further points of M are lines
        for start in range(0, len(points), size or 1):
            ends = np.concatenate([outlines[-1][-1][-1:], points[start : start + size]])
            outlines[-1].append(_bezier_weights(len(ends)) @ ends)
    return [np.concatenate(parts) for parts in outlines]


def draw_outlines(outlines: Iterable[np.ndarray], side: int) -> "Image.Image":
    """Draw filled outlines, black on white, with smooth edges.

    Args:
        outlines: arrays [points, 2] in the unit square, x to the right and y downwards.
        side: pixels of the image, a side.

    Returns:
        A grey image of [side, side] pixels, each the mean of 4 x 4.
    """
    from PIL import Image, ImageDraw

    image = Image.new("L", (side * OVERSAMPLING, side * OVERSAMPLING), 255)
    draw = ImageDraw.Draw(image)
    for outline in outlines:
        if len(outline) > 1:
            draw.polygon([(float(x), float(y)) for x, y in outline * (side * OVERSAMPLING)], fill=0)
    return image.reduce(OVERSAMPLING)


@cache
def _bezier_weights(points: int) -> np.ndarray:
    """[pieces, points]: the weights of a Bézier curve's points at the ends of its pieces (Bernstein polynomials)."""
    degree = points - 1
    place = np.linspace(0, 1, (PIECES if degree > 1 else 1) + 1)[1:, None]
    order = np.arange(points)
    return np.array([comb(degree, index) for index in range(points)]) * place**order * (1 - place) ** (degree - order)
