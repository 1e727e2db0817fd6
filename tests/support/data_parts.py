"""Small processors and fields for the tests of mmbert.data."""

import numpy as np
import torch

from mmbert.contracts import Field, Processor
from mmbert.data.splits import SPLITS, Split
from mmbert.errors import SampleError
from mmbert.layers.masked import pad_and_stack


class Number(Processor):
    """A number, shifted by noise in training."""

    def __call__(self, value, rng=None):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SampleError(f"expected a number, found {value!r}")
        return {"values": torch.tensor([value + (0 if rng is None else rng.random())], dtype=torch.float64)}

    @classmethod
    def example(cls, rng):
        return float(rng.random())


class Letters(Processor):
    """The code points of a text; nothing for an empty one."""

    def __call__(self, value, rng=None):
        if not isinstance(value, str):
            raise SampleError(f"expected text, found {value!r}")
        return {"codes": torch.tensor([ord(letter) for letter in value])} if value else {}

    def collate(self, items):
        return {"codes": pad_and_stack([item["codes"] for item in items])}

    @classmethod
    def example(cls, rng):
        return "".join(rng.choice(list("abc"), size=3))


class Photo(Letters):
    """The path of a file."""

    reads_files = True


class Anything(Processor):
    """Any raw value; never called in these tests."""

    def __call__(self, value, rng=None):
        raise NotImplementedError

    @classmethod
    def example(cls, rng):
        return np.nan


def fields(processor, *names):
    """A field of each name that reads the column of that name."""
    return {name: Field(name, processor) for name in names}


def all_samples(source):
    """The samples of all splits of a source, in the order of its rows."""
    splits = [source.split(name) for name in SPLITS]
    rows = np.sort(np.concatenate([split._rows for split in splits]))
    return Split(splits[0]._sample, rows, splits[0]._samples)
