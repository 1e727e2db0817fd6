"""Splits by hash and by a column."""

import numpy as np
import pytest

from mmbert.data.splits import FRACTIONS, SPLITS, Split, rows_of_split, split_by_column, split_by_hash
from mmbert.errors import DataError, RecipeError

GROUPS = [f"group {number}" for number in range(4000)]


def place(row):
    return f"a.csv row {row + 1}"


def names(parts):
    return [SPLITS[part] for part in parts]


def test_hash_split_is_stable():
    """Golden: the split of a group never changes."""
    assert names(split_by_hash(["1", "5", "14", "64-17-5", "水"], FRACTIONS, 0)) == [
        "train",
        "validation",
        "test",
        "test",
        "train",
    ]


def test_hash_split_has_the_fractions():
    shares = np.bincount(split_by_hash(GROUPS, FRACTIONS, 0), minlength=3) / len(GROUPS)
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.02)


def test_hash_split_depends_only_on_seed_and_group():
    parts = split_by_hash(GROUPS, FRACTIONS, 0)
    np.testing.assert_array_equal(split_by_hash(GROUPS[::-1], FRACTIONS, 0), parts[::-1])
    reordered = {name: FRACTIONS[name] for name in reversed(FRACTIONS)}
    np.testing.assert_array_equal(split_by_hash(GROUPS, reordered, 0), parts)
    assert (split_by_hash(GROUPS, FRACTIONS, 1) != parts).any()


@pytest.mark.parametrize("fractions", [{"train": 0.8, "test": 0.2}, {"train": 0.8, "validation": 0.0, "test": 0.2}])
def test_there_is_always_a_validation_split(fractions):
    shares = np.bincount(split_by_hash(GROUPS, fractions, 0), minlength=3) / len(GROUPS)
    np.testing.assert_allclose(shares, [0.72, 0.08, 0.2], atol=0.02)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.5, "test": 0.4}, "must add up to 1"),
        ({"train": 0.8, "tset": 0.2}, "no split is called 'tset'. Did you mean 'test'"),
        ({"train": 1.5, "test": -0.5}, "must not be negative"),
    ],
)
def test_wrong_fractions_are_refused(fractions, message):
    with pytest.raises(RecipeError, match=message):
        split_by_hash(GROUPS, fractions, 0)


def test_spellings_of_split_names_are_accepted():
    values = ["train", "Training", " VAL ", "valid", "dev", "development", "validation", "test", "testing"]
    keys = [str(row) for row in range(len(values))]
    assert names(split_by_column(values, keys, 0, place)) == ["train"] * 2 + ["validation"] * 5 + ["test"] * 2


def test_column_without_validation_holds_out_training_groups():
    values = ["train"] * 3000 + ["test"] * 1000
    parts = split_by_column(values, GROUPS, 0, place)
    assert (parts[3000:] == 2).all()
    np.testing.assert_allclose(np.bincount(parts[:3000], minlength=2) / 3000, [0.9, 0.1], atol=0.02)
    held = split_by_column(["train"] * 100, [str(row % 10) for row in range(100)], 2, place)
    assert all(len({*held[group::10]}) == 1 for group in range(10))


def test_unknown_split_names_the_row():
    with pytest.raises(DataError, match=r"a.csv row 2: no split is called 'tarin'. Did you mean 'train'"):
        split_by_column(["train", "tarin"], ["a", "b"], 0, place)
    with pytest.raises(DataError, match=r"a.csv row 1: no split is called None"):
        split_by_column([None], ["a"], 0, place)


def test_group_in_two_splits_names_both_rows():
    with pytest.raises(DataError, match=r"'x' is in train \(a.csv row 1\) and in test \(a.csv row 3\)"):
        split_by_column(["train", "test", "test"], ["x", "y", "x"], 0, place)


def test_rows_of_a_split_by_its_name():
    parts = np.array([0, 2, 0, 1])
    assert rows_of_split("train", parts).tolist() == [0, 2]
    with pytest.raises(DataError, match=r"no split is called 'valid'. Did you mean 'validation'"):
        rows_of_split("valid", parts)


def test_split_is_a_sequence():
    split = Split(lambda row: 10 * row, np.array([3, 5, 8]))  # pyright: ignore[reportArgumentType]
    assert [*split] == [30, 50, 80]
    assert split[-1] == 80
    assert [*split[1:]] == [50, 80]
    with pytest.raises(IndexError):
        split[3]
