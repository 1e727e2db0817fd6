"""SVG outlines: points of curves in closed form, areas of rasters, and refused commands."""

import numpy as np
import pytest

from mmbert.datasets.svg import PIECES, draw_outlines, parse_outlines


def test_straight_lines_keep_their_points():
    first, second = parse_outlines("M 0 0 L 4 0 4 4 Z M 10,10 L 12 10 L 11 -1.5 Z")
    assert first.tolist() == [[0, 0], [4, 0], [4, 4]]
    assert second.tolist() == [[10, 10], [12, 10], [11, -1.5]]


def test_a_quadratic_curve_runs_through_its_bernstein_points():
    (outline,) = parse_outlines("M 0 0 Q 1 2 2 0 Z")
    place = np.linspace(0, 1, PIECES + 1)
    assert outline == pytest.approx(np.stack([2 * place, 4 * place * (1 - place)], 1))


def test_a_cubic_curve_with_even_points_on_a_line_is_that_line():
    (outline,) = parse_outlines("M 0 3 C 1 3 2 3 3 3")
    assert outline == pytest.approx(np.stack([np.linspace(0, 3, PIECES + 1), np.full(PIECES + 1, 3.0)], 1))


def test_several_curves_of_one_command():
    (together,), (apart,) = parse_outlines("M 0 0 Q 1 1 2 0 3 -1 4 0"), parse_outlines("M 0 0 Q 1 1 2 0 Q 3 -1 4 0")
    assert (together == apart).all()


@pytest.mark.parametrize("path", ["M 0 0 l 1 1", "M 0 0 A 1 1 0 0 0 2 2", "M 0 0 Q 1 1", "M 0 0 L 1", "L 1 1", "Z 1 1"])
def test_other_commands_and_missing_numbers_are_refused(path):
    with pytest.raises(ValueError):
        parse_outlines(path)


def test_ink_is_the_area_and_lies_where_it_was_drawn():
    square = np.array([[0.0, 0.0], [0.5, 0.0], [0.5, 0.5], [0.0, 0.5]])
    pixels = np.asarray(draw_outlines([square], 32))
    assert pixels.shape == (32, 32)
    assert pixels[:15, :15].max() == 0
    assert pixels[17:].min() == pixels[:, 17:].min() == 255  # y points down
    assert 1 - pixels.mean() / 255 == pytest.approx(0.25, abs=0.02)
    both = np.asarray(draw_outlines([square, square + np.array([0.1, 0.0])], 32))
    assert 1 - both.mean() / 255 == pytest.approx(0.3, abs=0.02)  # overlaps are filled too


def test_an_edge_within_a_pixel_is_grey():
    half = np.array([[0.0, 0.0], [0.5 / 8, 0.0], [0.5 / 8, 1.0], [0.0, 1.0]])
    column = np.asarray(draw_outlines([half], 8))[2:6, 0]
    assert ((column > 60) & (column < 195)).all()
