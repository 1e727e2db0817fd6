"""Keyed random numbers: stable, uniform, and independent between keys."""

import numpy as np
import pytest

from mmbert.data.keyed_random import draw_kept_names, generator, uniform


def test_uniform_is_stable():
    """Golden values: a change moves samples between splits in every published result."""
    assert uniform(0, "64-17-5") == 0.9181810365849791
    assert uniform(1, "64-17-5") == 0.39724067635728844
    assert uniform(0, "水\ud800") == 0.10905897000073361


def test_uniform_is_even():
    draws = np.array([uniform(3, row) for row in range(4000)])
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    assert 0 <= draws.min() < draws.max() < 1
    assert abs(counts - 400).max() < 80  # four standard deviations


def test_generators_differ_by_key_alone():
    assert generator(0, 1, "a").random() == generator(0, 1, "a").random()
    assert len({generator(*key).random() for key in [(0, 1, "a"), (0, 1, "b"), (1, 0, "a"), (0, 11, "a")]}) == 4


def test_at_least_one_input_survives():
    drawn = [draw_kept_names(["text", "photo", "table"], 0.7, row) for row in range(2000)]
    assert all(drawn)
    share = np.mean(["photo" in names for names in drawn])
    # kept by its own draw, or because all three would have been dropped
    assert abs(share - (0.3 + 0.7**3 / 3)) < 0.04


def test_survivors_at_rates_0_and_1():
    assert draw_kept_names("ab", 0.0, 5) == {"a", "b"}
    assert len(draw_kept_names("ab", 1.0, 5)) == 1
    assert draw_kept_names([], 0.5, 5) == set()


def test_each_input_has_its_own_rate_of_survival():
    drawn = [draw_kept_names("abc", {"a": 0.9, "b": 0.2}, row) for row in range(2000)]
    share = {name: sum(name in left for left in drawn) / len(drawn) for name in "abc"}
    assert share["a"] == pytest.approx(0.1, abs=0.03)
    assert share["b"] == pytest.approx(0.8, abs=0.03)
    assert share["c"] == 1


def test_another_input_does_not_change_which_others_survive():
    for row in range(200):
        few, many = draw_kept_names(["a", "b"], 0.5, row), draw_kept_names(["c", "b", "a"], 0.5, row)
        if many != {"c"} and len(few) == 2:
            assert few <= many
        if len(many & {"a", "b"}):
            assert many & {"a", "b"} == few
