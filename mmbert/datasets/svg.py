"""Filled outlines: SVG path data as polygons, and polygons as a grey image."""

import re
from collections.abc import Iterable
from functools import cache
from math import comb
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

PIECES = 8  # straight pieces in place of a curve
FINER = 4  # times as many pixels a side are drawn, and then averaged
POINTS = {"M": 1, "L": 1, "Q": 2, "C": 3, "Z": 0}  # that a command takes


def polygons(path: str) -> list[np.ndarray]:
    """The closed outlines [points, 2] of SVG path data whose commands are absolute M, L, Q, C and Z.

    A Bézier curve becomes 8 straight pieces. Raises ``ValueError`` on other commands and on missing numbers.

    >>> polygons("M 0 0 L 2 0 L 2 2 Z")[0].tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]
    """
    outlines: list[list[np.ndarray]] = []
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        points = np.array(numbers.replace(",", " ").split(), dtype=float).reshape(-1, 2)
        size = POINTS.get(command)
        started = outlines or command == "M"
        if not started or size is None or (len(points) % size if size else len(points)) or (size and not len(points)):
            raise ValueError(f"expected absolute M, L, Q, C and Z with their points, found '{command}{numbers}'")
        if command == "M":
            outlines.append([points[:1]])
            points, size = points[1:], 1  # further points of M are lines
        for start in range(0, len(points), size or 1):
            ends = np.concatenate([outlines[-1][-1][-1:], points[start : start + size]])
            outlines[-1].append(_curve(len(ends)) @ ends)
    return [np.concatenate(parts) for parts in outlines]


def drawn(outlines: Iterable[np.ndarray], side: int) -> "Image.Image":
    """Filled outlines in the unit square, x to the right and y downwards, black on white: [side, side] grey.

    Edges are smooth: each pixel is the mean of 4 x 4.
    """
    from PIL import Image, ImageDraw

    image = Image.new("L", (side * FINER, side * FINER), 255)
    draw = ImageDraw.Draw(image)
    for outline in outlines:
        if len(outline) > 1:
            draw.polygon([(float(x), float(y)) for x, y in outline * (side * FINER)], fill=0)
    return image.reduce(FINER)


@cache
def _curve(points: int) -> np.ndarray:
    """Weights [pieces, points] of a Bézier curve's points at the ends of its pieces (Bernstein polynomials)."""
    degree = points - 1
    place = np.linspace(0, 1, (PIECES if degree > 1 else 1) + 1)[1:, None]
    order = np.arange(points)
    return np.array([comb(degree, one) for one in order]) * place**order * (1 - place) ** (degree - order)
