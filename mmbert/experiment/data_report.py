"""One pass over all rows before training: counts, bad rows, duplicates, leaks between splits, and groups of rows."""

from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmbert.data.arrow import RESERVED_ATTRIBUTES
from mmbert.data.collate import check_tag_counts, describe_row
from mmbert.data.fingerprint import Fingerprint
from mmbert.errors import DataError, RecipeError, SampleError, nearest
from mmbert.experiment.processors import OnBad, inputs_that_read_files, tagged_texts
from mmbert.experiment.splits import Splits, count
from mmbert.recipe.schema import Recipe
from mmbert.trunk.vocabulary import check_text
from mmbert.types import Sample


@dataclass
class DataReport:
    """Counts, fingerprint, groups and warnings of a recipe's data.

    Attributes:
        rows: split -> ``rows``, or an input or task -> the number of rows that have it.
        labelled: split -> task -> the number of rows with a label that its processor can read; filled by ``build``.
        fingerprint: of all raw values.
        groups: [training samples] int64, the group of each sample by ``train.mixing``; None without mixing.
        group_names: of the groups.
        warnings: sentences for the console.
        total: rows of all splits, including those left out.
        reading: source -> how its files were read, as JSON: ``columns`` (column of the file -> name in the recipe),
            ``options``, and ``kinds`` (name in the recipe -> kind). A checkpoint keeps it for new files.
    """

    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    labelled: dict[str, dict[str, int]] = field(default_factory=dict)
    fingerprint: str = ""
    groups: np.ndarray | None = None
    group_names: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    total: int = 0
    reading: dict[str, dict[str, Any]] = field(default_factory=dict)


def scan_rows(recipe: Recipe, splits: Splits, on_bad: OnBad) -> tuple[Splits, DataReport]:
    """Read every row once; training rows without a label, which would teach nothing, are left out.

    Args:
        recipe: as it was loaded.
        splits: as ``open_splits`` gives them.
        on_bad: takes the error of each bad row (it cannot be read, its text is no text, or its tags are not as many as
            the words) and may raise. A bad row keeps its place.

    Returns:
        The splits without the rows left out, and the report.

    Raises:
        DataError: where two rows have the same id; where the training split has no label of a task, or no value of an
            input that is not optional; and, if ``evaluate.on_leak`` says so, where two splits share content.
        RecipeError: where ``train.mixing`` groups by an attribute that no row has.
    """
    fingerprint, report = Fingerprint(inputs_that_read_files(recipe)), DataReport()
    tagged = tagged_texts(recipe)
    texts = [name for name, part in recipe.inputs.items() if part.type == "text"]
    groups = _Groups(recipe.train.mixing.by) if recipe.train.mixing else None
    labelled_splits: Splits = {}
    for split, sources in splits.items():
        counts = report.rows.setdefault(split, {"rows": 0})
        labelled_splits[split] = []
        for samples in sources:
            positions = array("q")
            for position, sample in enumerate(samples.read()):
                if isinstance(sample, SampleError):
                    on_bad(sample)
                    fingerprint.add(split, None)
                    sample = None
                else:
                    fingerprint.add(split, sample)
                    for error in _text_and_tag_errors(sample, texts, tagged):
                        on_bad(error)
                    if split == "train" and not sample.targets:
                        continue
                positions.append(position)
                for name in ("rows", *sample.inputs, *sample.targets) if sample else ("rows",):
                    counts[name] = counts.get(name, 0) + 1
                if groups and split == "train":
                    groups.add(sample)
            complete = len(positions) == len(samples)
            labelled_splits[split].append(samples if complete else samples[np.array(positions, dtype=np.int64)])
    report.fingerprint, report.total = fingerprint.hexdigest(), count(splits)
    _check_ids(splits, fingerprint)
    _check_presence(recipe, report)
    _check_leaks(recipe, splits, fingerprint, report)
    if groups:
        report.groups, report.group_names = groups.numbered()
    return labelled_splits, report


def _text_and_tag_errors(sample: Sample, texts: Collection[str], tagged: Mapping[str, str]) -> Iterator[SampleError]:
    for name in sample.inputs.keys() & texts:
        try:
            check_text(sample.inputs[name])
        except SampleError as error:
            yield error.at(describe_row(sample), f"input '{name}'")
    try:
        check_tag_counts(sample, tagged)
    except SampleError as error:
        yield error


class _Groups:
    """The group of each training sample by one of its attributes."""

    def __init__(self, by: str):
        self.by = by
        self._numbers: dict[str, int] = {}
        self._groups = array("q")
        self._keys: set[str] = set()
        self._known = by in ("source", "task")

    def add(self, sample: Sample | None) -> None:
        self._groups.append(self._numbers.setdefault(self._name(sample), len(self._numbers)))

    def numbered(self) -> tuple[np.ndarray, list[str]]:
        """The group of each sample as an index into the names. Raises ``RecipeError`` on a key that no sample has."""
        if not self._known:
            valid = {"source", "task", *self._keys} - {*RESERVED_ATTRIBUTES} | {"group"}
            keeps = "the option 'attributes' of a source keeps columns"
            raise RecipeError(
                f"train.mixing.by: no row has the attribute '{self.by}'; {keeps}. {nearest(self.by, valid)}"
            )
        return np.array(self._groups), list(self._numbers)

    def _name(self, sample: Sample | None) -> str:
        if sample is None:
            return "none"
        if self.by == "source":
            return sample.source
        if self.by == "task":
            return "+".join(sorted(sample.targets))
        self._keys |= sample.attributes.keys()
        self._known |= self.by in sample.attributes
        return str(sample.attributes.get(self.by, "none"))


def _check_ids(splits: Splits, fingerprint: Fingerprint) -> None:
    if pair := fingerprint.find_duplicate_id():
        (split, sample), (second_split, second) = (_sample_at(splits, position) for position in pair)
        rows = f"{describe_row(sample)} in {split} and {describe_row(second)} in {second_split}"
        raise DataError(f"the ids of rows must be unique; {rows} both have the id {sample.id}")


def _check_presence(recipe: Recipe, report: DataReport) -> None:
    train = report.rows["train"]
    for name in recipe.tasks:
        if not train.get(name):
            raise DataError(f"tasks.{name}: no row of the training split has a label for it")
    for name, part in recipe.inputs.items():
        held_out = {split: counts.get(name, 0) for split, counts in report.rows.items() if split != "train"}
        if not train.get(name):
            present = " and ".join(f"{rows} rows of {split}" for split, rows in held_out.items() if rows)
            if not part.optional:
                raise DataError(
                    f"inputs.{name}: absent in every row of the training split"
                    + (f", but present in {present}" if present else "")
                    + "; 'optional: true' allows that"
                )
            if present:
                report.warnings.append(f"inputs.{name} is left out: only {present} have it, none of training")
    for name in (*recipe.inputs, *recipe.tasks):
        for split, counts in report.rows.items():
            if train.get(name) and counts["rows"] and not counts.get(name):
                field_name = f"inputs.{name}" if name in recipe.inputs else f"tasks.{name}"
                report.warnings.append(f"{field_name}: in training only, absent in every row of {split}")


def _check_leaks(recipe: Recipe, splits: Splits, fingerprint: Fingerprint, report: DataReport) -> None:
    if not (shared := fingerprint.find_shared_content()):
        return
    (split, sample), (second_split, second) = (_sample_at(splits, position) for position in shared[0])
    message = (
        f"{len(shared)} rows have the same inputs as a row of another split, such as "
        f"{describe_row(second)} in {second_split} and {describe_row(sample)} in {split}"
    )
    if recipe.evaluate.on_leak == "fail":
        raise DataError(
            f"{message}; 'evaluate.on_leak: warn' allows that, a source's option 'group' keeps rows together"
        )
    report.warnings.append(message)


def _sample_at(splits: Splits, position: int) -> tuple[str, Sample]:
    """The split and the sample at a position, counted through all splits and sources."""
    for split, sources in splits.items():
        for samples in sources:
            if position < len(samples):
                return split, samples[position]
            position -= len(samples)
    raise IndexError(position)
