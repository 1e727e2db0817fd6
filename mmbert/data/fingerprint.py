"""One pass over raw values: a hash of them all, rows with one id, rows with the same content in two splits."""

import hashlib
import json
from array import array
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from mmbert.types import Sample

NOTHING = bytes(16)


class Fingerprint:
    """Sees samples one after another and keeps 25 bytes of each.

    ``files`` are the inputs whose strings are paths. In the hash of all values a file counts by its name and size, so
    that a folder may move; two rows have the same content where all their inputs are equal, files by their paths.

    >>> seen = Fingerprint()
    >>> for split, row in (("train", 1), ("train", 2), ("test", 3)):
    ...     seen.add(split, Sample(row, "shop", {"title": "a" if row == 3 else "abc"[row - 1]}, {}))
    >>> seen.find_shared_content()
    [(0, 2)]
    """

    def __init__(self, files: Collection[str] = ()):
        self.files = files
        self._whole = hashlib.blake2b(digest_size=12)
        self._ids, self._splits, self._contents = array("q"), array("b"), bytearray()
        self._names: list[str] = []

    def add(self, split: str, sample: Sample | None) -> None:
        """The next sample; None is one that cannot be read."""
        if split not in self._names:
            self._names.append(split)
        self._splits.append(self._names.index(split))
        self._ids.append(-1 if sample is None else sample.id)
        self._contents += NOTHING if sample is None else self._seen(split, sample)

    def hexdigest(self) -> str:
        """The hash of all raw values of all splits."""
        return self._whole.hexdigest()

    def find_duplicate_id(self) -> tuple[int, int] | None:
        """The places, counted from 0 in the order of ``add``, of two samples that have one id."""
        ids = np.array(self._ids)
        order = np.argsort(ids, kind="stable")
        again = np.flatnonzero((ids[order[1:]] == ids[order[:-1]]) & (ids[order[1:]] >= 0))
        return (int(order[again[0]]), int(order[again[0] + 1])) if len(again) else None

    def find_shared_content(self) -> list[tuple[int, int]]:
        """For each sample whose inputs a sample of an earlier split has as well: the places of that one and its own."""
        words, splits = np.frombuffer(bytes(self._contents), np.uint64).reshape(-1, 2), np.array(self._splits)
        order = np.lexsort((splits, words[:, 1], words[:, 0]))
        words, splits = words[order], splits[order]
        same = np.r_[False, (words[1:] == words[:-1]).all(1) & words[1:].any(1)]
        first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))  # of those with the same content
        return [(int(order[first[at]]), int(order[at])) for at in np.flatnonzero(same & (splits != splits[first]))]

    def _seen(self, split: str, sample: Sample) -> bytes:
        content = hashlib.blake2b(digest_size=16)
        for inputs, values in ((True, sample.inputs), (False, sample.targets)):
            for name in sorted(values):
                value = values[name]
                text = json.dumps([name, value], default=_described).encode()
                if inputs:
                    content.update(text)
                if name in self.files and isinstance(value, str):
                    text = json.dumps([name, Path(value)], default=_described).encode()
                self._whole.update(json.dumps([split, sample.id]).encode() + text)
        return content.digest() if sample.inputs else NOTHING


def _described(value: Any) -> Any:
    """What JSON cannot say of a raw value; ``repr`` would shorten a long array."""
    if isinstance(value, Path):
        return f"{value.name} {value.stat().st_size}"
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype} {value.shape} {hashlib.blake2b(value.tobytes()).hexdigest()}"
    return value.tolist() if isinstance(value, np.ndarray) else repr(value)
