"""Which split a row belongs to: by a stable hash of its group, or by a published column."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np

from mmbert.data.keyed_random import uniform
from mmbert.errors import DataError, RecipeError, SampleError, nearest
from mmbert.types import Sample, sample_id

SPLITS = ("train", "validation", "test")
SPELLINGS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
VALIDATION_FRACTION = 0.1  # of the training rows, for validation, where no validation split is given


ReadSamples = Callable[[np.ndarray, Collection[str] | None], Iterator[Sample | SampleError]]


class Split(Sequence[Sample]):
    """Some rows of a source, each read by ``sample(row)`` when it is asked for, or one after another by ``samples``."""

    def __init__(self, sample: Callable[[int], Sample], rows: np.ndarray, samples: ReadSamples | None = None):
        self._sample, self._rows, self._samples = sample, rows, samples

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray) -> "Split": ...
    def __getitem__(self, index: int | slice | np.ndarray) -> "Sample | Split":
        rows = self._rows[index]
        many = isinstance(index, slice | np.ndarray)
        return Split(self._sample, rows, self._samples) if many else self._sample(int(rows))

    def read(self, names: Collection[str] | None = None) -> Iterator[Sample | SampleError]:
        """Every sample in order, or the error in place of one that cannot be read, in constant memory.

        ``names`` are the inputs and targets that are needed; by default all. Others may be there besides.
        """
        yield from self._one_by_one() if self._samples is None else self._samples(self._rows, names)

    def _one_by_one(self) -> Iterator[Sample | SampleError]:
        for row in self._rows.tolist():
            try:
                sample = self._sample(row)
            except SampleError as error:
                yield error
            else:
                yield sample


def rows_of_split(name: str, parts: np.ndarray) -> np.ndarray:
    """The rows of a split in ascending order.

    Args:
        name: train, validation or test. Raises ``DataError`` on another name.
        parts: [rows] the split of each row as an index into ``SPLITS``.
    """
    if name not in SPLITS:
        raise DataError(f"no split is called '{name}'. {nearest(name, SPLITS)}")
    return np.flatnonzero(parts == SPLITS.index(name))


def split_by_hash(groups: Iterable[str], fractions: Mapping[str, float], seed: int) -> np.ndarray:
    """The split of each row [rows] as an index into ``SPLITS``: a pure function of (seed, the row's group).

    Rows of one group share a split, in every source and recipe. Without a validation fraction, a tenth of the training
    groups are held out for it. ``groups`` are iterated twice. Raises ``RecipeError`` on an unknown name or fractions
    that do not add up to 1.
    """
    for name, fraction in fractions.items():
        if name not in SPLITS:
            raise RecipeError(f"no split is called '{name}'. {nearest(name, SPLITS)}")
        if fraction < 0:
            raise RecipeError(f"the fraction of the split '{name}' must not be negative, however: {fraction}")
    if not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        raise RecipeError(f"the fractions of the splits must add up to 1, however: {dict(fractions)}")
    edges = np.cumsum([fractions.get(name, 0.0) for name in SPLITS])[:-1]
    places = np.fromiter((uniform(seed, group) for group in groups), float)
    return _held_out(np.searchsorted(edges, places, side="right"), groups, seed)


def split_by_column(values: Iterable[Any], groups: Iterable[str], seed: int, where: Callable[[int], str]) -> np.ndarray:
    """The split of each row [rows] from what a column says; ``where`` names a row in errors.

    Accepted in any case: train, training; validation, valid, val, dev, development; test, testing. Without validation
    rows, a tenth of the training groups are held out. ``groups`` are iterated several times. Raises ``DataError`` on
    another value, or on a group in two splits.
    """
    parts = np.fromiter((_part(value, row, where) for row, value in enumerate(values)), np.int64)
    digests = np.fromiter((sample_id("", group) for group in groups), np.int64)
    first, inverse = np.unique(digests, return_index=True, return_inverse=True)[1:]  # the first row of each group
    if (wrong := np.flatnonzero(parts != parts[first[inverse]])).size:
        row, earlier = int(wrong[0]), int(first[inverse[wrong[0]]])
        group = next(islice(groups, row, None))
        one, other = SPLITS[parts[earlier]], SPLITS[parts[row]]
        raise DataError(f"'{group}' is in {one} ({where(earlier)}) and in {other} ({where(row)}): choose one")
    return _held_out(parts, groups, seed)


def _part(value: Any, row: int, where: Callable[[int], str]) -> int:
    split = SPELLINGS.get(str(value).strip().lower())
    if split is None:
        raise DataError(f"{where(row)}: no split is called {value!r}. {nearest(str(value), SPELLINGS)}")
    return SPLITS.index(split)


def _held_out(parts: np.ndarray, groups: Iterable[str], seed: int) -> np.ndarray:
    if (parts == SPLITS.index("validation")).any() or not len(parts):
        return parts
    # drawn under another key than that of split_by_hash, else the training rows would all lie on one side
    chosen = np.fromiter((uniform(seed, "validation", group) < VALIDATION_FRACTION for group in groups), bool)
    return np.where(chosen & (parts == SPLITS.index("train")), SPLITS.index("validation"), parts)
