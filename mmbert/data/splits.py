"""The split of each row: by a stable hash of its group, or by a published column."""

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
SEEDS_TRIED, MOST_GROUPS_TRIED = 100, 1000  # to suggest a seed that leaves no split empty
VALIDATION_FRACTION = 0.1  # of the training groups, where no validation split is given


ReadSamples = Callable[[np.ndarray, Collection[str] | None], Iterator[Sample | SampleError]]


class Split(Sequence[Sample]):
    """Some rows of a source, read when they are needed.

    Args:
        sample: reads the sample of a row.
        rows: [rows] int64, ascending.
        samples: reads many samples in order, faster than ``sample`` does one by one.
    """

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
        if isinstance(index, slice | np.ndarray):
            return Split(self._sample, rows, self._samples)
        return self._sample(int(rows))

    def read(self, names: Collection[str] | None = None) -> Iterator[Sample | SampleError]:
        """Read all samples in order, in constant memory; a sample that cannot be read is replaced by its error.

        Args:
            names: the inputs and targets that are needed, by default all. A sample may have others too.
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
    """Split rows at random: a pure function of the seed and the row's group.

    Rows of one group are in one split, in every source and recipe. Without a validation fraction, a tenth of the
    training groups becomes the validation split.

    Args:
        groups: the group of each row; iterated twice.
        fractions: split -> its part of the groups; they add up to 1.
        seed: another seed gives another split.

    Returns:
        [rows] the split of each row as an index into ``SPLITS``.

    Raises:
        RecipeError: on an unknown split, a negative fraction, or fractions that do not add up to 1.
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
    return _hold_out_validation(np.searchsorted(edges, places, side="right"), groups, seed)


def explain_empty_hash(
    name: str, groups: Sequence[str], fractions: Mapping[str, float], seed: int, unit: str = "rows"
) -> str:
    """Why ``split_by_hash`` left a split without rows, and the way out.

    Args:
        name: of the split.
        groups: each group once.
        fractions: as for ``split_by_hash``.
        seed: that was used.
        unit: what a group is, in words.
    """
    if name != "validation" and not fractions.get(name):
        return f"the fractions {dict(fractions)} put no row into {name}."
    ways = [f"larger fractions (split: {{train: ..., {name}: ...}})", "a split column"]
    wanted = {SPLITS.index(split) for split in SPLITS if fractions.get(split) or split == "validation"}
    for other_seed in range(SEEDS_TRIED if len(groups) <= MOST_GROUPS_TRIED else 0):
        if other_seed != seed and wanted <= set(split_by_hash(groups, fractions, other_seed).tolist()):
            ways.insert(0, f"split_seed: {other_seed}, with which every split has rows")
            break
    return f"the hash puts none of the {len(groups)} {unit} into {name}. Ways out: {', '.join(ways)}."


def split_by_column(values: Iterable[Any], groups: Iterable[str], seed: int, where: Callable[[int], str]) -> np.ndarray:
    """Split rows by a published column.

    Without validation rows, a tenth of the training groups becomes the validation split.

    Args:
        values: the cells of the column: a key of ``SPELLINGS``, in upper or lower case.
        groups: the group of each row; iterated several times.
        seed: of the validation split, where there is none.
        where: describes a row in messages.

    Returns:
        [rows] the split of each row as an index into ``SPLITS``.

    Raises:
        DataError: on an unknown value, or a group in two splits.
    """
    parts = np.fromiter((_parse_split(value, row, where) for row, value in enumerate(values)), np.int64)
    digests = np.fromiter((sample_id("", group) for group in groups), np.int64)
    first, inverse = np.unique(digests, return_index=True, return_inverse=True)[1:]  # the first row of each group
    if (wrong := np.flatnonzero(parts != parts[first[inverse]])).size:
        row, earlier = int(wrong[0]), int(first[inverse[wrong[0]]])
        group = next(islice(groups, row, None))
        raise DataError(
            f"'{group}' is in {SPLITS[parts[earlier]]} ({where(earlier)}) and in {SPLITS[parts[row]]} ({where(row)}): "
            "choose one"
        )
    return _hold_out_validation(parts, groups, seed)


def _parse_split(value: Any, row: int, where: Callable[[int], str]) -> int:
    split = SPELLINGS.get(str(value).strip().lower())
    if split is None:
        raise DataError(f"{where(row)}: no split is called {value!r}. {nearest(str(value), SPELLINGS)}")
    return SPLITS.index(split)


def _hold_out_validation(parts: np.ndarray, groups: Iterable[str], seed: int) -> np.ndarray:
    if (parts == SPLITS.index("validation")).any() or not len(parts):
        return parts
    # the key differs from that of split_by_hash: with the same key all training rows would be drawn alike
    chosen = np.fromiter((uniform(seed, "validation", group) < VALIDATION_FRACTION for group in groups), bool)
    return np.where(chosen & (parts == SPLITS.index("train")), SPLITS.index("validation"), parts)
