"""A fingerprint of a data set: a hash of all raw values, repeated ids, and content shared between splits."""

import hashlib
import json
from array import array
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from mmbert.types import Sample

NO_CONTENT = bytes(16)


class Fingerprint:
    """One pass over raw samples, which keeps 25 bytes of each.

    In the hash of all values a file counts by its name and size, so that its folder may move. Two samples have the same
    content where all their inputs are equal; files are compared by path.

    Args:
        files: the inputs whose strings are paths.

    Example:
        >>> fingerprint = Fingerprint()
        >>> for split, row, title in (("train", 1, "a"), ("train", 2, "b"), ("test", 3, "a")):
        ...     fingerprint.add(split, Sample(row, "shop", {"title": title}, {}))
        >>> fingerprint.find_shared_content()
        [(0, 2)]
    """

    def __init__(self, files: Collection[str] = ()):
        self.files = files
        self._hash = hashlib.blake2b(digest_size=12)
        self._ids, self._splits, self._contents = array("q"), array("b"), bytearray()
        self._names: list[str] = []

    def add(self, split: str, sample: Sample | None) -> None:
        """Add the next sample.

        Args:
            split: the name of its split.
            sample: raw values; None for a sample that cannot be read.
        """
        if split not in self._names:
            self._names.append(split)
        self._splits.append(self._names.index(split))
        self._ids.append(-1 if sample is None else sample.id)
        self._contents += NO_CONTENT if sample is None else self._digest(split, sample)

    def hexdigest(self) -> str:
        """The hash of all raw values of all splits."""
        return self._hash.hexdigest()

    def find_duplicate_id(self) -> tuple[int, int] | None:
        """Two samples with the same id, as numbers in the order of ``add``, from 0; None where all ids differ."""
        ids = np.array(self._ids)
        order = np.argsort(ids, kind="stable")
        repeated = np.flatnonzero((ids[order[1:]] == ids[order[:-1]]) & (ids[order[1:]] >= 0))
        return (int(order[repeated[0]]), int(order[repeated[0] + 1])) if len(repeated) else None

    def find_shared_content(self) -> list[tuple[int, int]]:
        """Pairs of numbers of samples with the same inputs, the first in an earlier split than the second."""
        words, splits = np.frombuffer(bytes(self._contents), np.uint64).reshape(-1, 2), np.array(self._splits)
        order = np.lexsort((splits, words[:, 1], words[:, 0]))
        words, splits = words[order], splits[order]
        same = np.r_[False, (words[1:] == words[:-1]).all(1) & words[1:].any(1)]
        first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))  # of those with the same content
        return [(int(order[first[at]]), int(order[at])) for at in np.flatnonzero(same & (splits != splits[first]))]

    def _digest(self, split: str, sample: Sample) -> bytes:
        content = hashlib.blake2b(digest_size=16)
        for inputs, values in ((True, sample.inputs), (False, sample.targets)):
            for name in sorted(values):
                value = values[name]
                text = json.dumps([name, value], default=_describe).encode()
                if inputs:
                    content.update(text)
                if name in self.files and (named := _name_files(value)) is not value:
                    text = json.dumps([name, named], default=_describe).encode()
                self._hash.update(json.dumps([split, sample.id]).encode() + text)
        return content.digest() if sample.inputs else NO_CONTENT


def _name_files(value: Any) -> Any:
    """The value with its paths as ``Path``; the same object where it names none."""
    if isinstance(value, str):
        return Path(value)
    if isinstance(value, list) and any(isinstance(entry, str | dict) for entry in value):
        return [_name_files(entry) for entry in value]
    if isinstance(value, dict) and isinstance(path := value.get("path"), str) and value.get("bytes") is None:
        return {**value, "path": Path(path)} if value.get("array") is None else value
    return value


def _describe(value: Any) -> Any:
    """A JSON value for a raw value that JSON has no type for; ``repr`` would shorten a long array."""
    if isinstance(value, Path):
        return f"{value.name} {value.stat().st_size}"
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype} {value.shape} {hashlib.blake2b(value.tobytes()).hexdigest()}"
    return value.tolist() if isinstance(value, np.ndarray) else repr(value)
