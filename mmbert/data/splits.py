"""Which split a row belongs to: by a stable hash of its group, or by a published column."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from mmbert.data.chance import uniform
from mmbert.errors import DataError, RecipeError, nearest
from mmbert.types import Sample

SPLITS = ("train", "validation", "test")
SPELLINGS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
HELD_OUT = 0.1  # of the training rows, for validation, where no validation split is given


class Split(Sequence[Sample]):
    """Some rows of a source, each read by ``sample(row)`` when it is asked for."""

    def __init__(self, sample: Callable[[int], Sample], rows: np.ndarray):
        self._sample, self._rows = sample, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "Split": ...
    def __getitem__(self, index: int | slice) -> "Sample | Split":
        rows = self._rows[index]
        return Split(self._sample, rows) if isinstance(index, slice) else self._sample(int(rows))


def rows_in(name: str, parts: np.ndarray) -> np.ndarray:
    """The rows, in order, of the split ``name``, or ``all`` rows; ``parts`` is what the functions below return."""
    if name == "all":
        return np.arange(len(parts))
    if name not in SPLITS:
        raise DataError(f"no split is called '{name}'. {nearest(name, (*SPLITS, 'all'))}")
    return np.flatnonzero(parts == SPLITS.index(name))


def by_hash(groups: Sequence[str], fractions: Mapping[str, float], seed: int) -> np.ndarray:
    """The split of each row [rows] as an index into ``SPLITS``: a pure function of (seed, the row's group).

    Rows of one group share a split, in every source and recipe. Without a validation fraction, a tenth of the training
    groups are held out for it. Raises ``RecipeError`` on an unknown name or fractions that do not add up to 1.
    """
    for name, fraction in fractions.items():
        if name not in SPLITS:
            raise RecipeError(f"no split is called '{name}'. {nearest(name, SPLITS)}")
        if fraction < 0:
            raise RecipeError(f"the fraction of the split '{name}' must not be negative, however: {fraction}")
    if not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        raise RecipeError(f"the fractions of the splits must add up to 1, however: {dict(fractions)}")
    edges = np.cumsum([fractions.get(name, 0.0) for name in SPLITS])[:-1]
    places = np.array([uniform(seed, group) for group in groups])
    return _held_out(np.searchsorted(edges, places, side="right"), groups, seed)


def by_column(values: Sequence[Any], groups: Sequence[str], seed: int, where: Callable[[int], str]) -> np.ndarray:
    """The split of each row [rows] from what a column says; ``where`` names a row in errors.

    Accepted in any case: train, training; validation, valid, val, dev, development; test, testing. Without validation
    rows, a tenth of the training groups are held out. Raises ``DataError`` on another value, or on a group in two
    splits.
    """
    first: dict[str, tuple[str, int]] = {}  # group -> its split and the first row that said so
    for row, (value, group) in enumerate(zip(values, groups, strict=True)):
        split = SPELLINGS.get(str(value).strip().lower())
        if split is None:
            raise DataError(f"{where(row)}: no split is called {value!r}. {nearest(str(value), SPELLINGS)}")
        other, earlier = first.setdefault(group, (split, row))
        if other != split:
            raise DataError(f"'{group}' is in {other} ({where(earlier)}) and in {split} ({where(row)}): choose one")
    parts = np.array([SPLITS.index(first[group][0]) for group in groups], dtype=np.int64)
    return _held_out(parts, groups, seed)


def _held_out(parts: np.ndarray, groups: Sequence[str], seed: int) -> np.ndarray:
    if (parts == SPLITS.index("validation")).any() or not len(parts):
        return parts
    # drawn under another key than by_hash's, else the training rows would all lie on one side
    chosen = np.array([uniform(seed, "validation", group) < HELD_OUT for group in groups])
    return np.where(chosen & (parts == SPLITS.index("train")), SPLITS.index("validation"), parts)
