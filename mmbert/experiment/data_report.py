"""One pass over all rows before training: what is there and what is bad, equal rows, and the groups of rows."""

from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from mmbert.data.arrow import RESERVED_ATTRIBUTES
from mmbert.data.collate import check_tag_counts, describe_row
from mmbert.data.fingerprint import Fingerprint
from mmbert.errors import DataError, RecipeError, SampleError, nearest
from mmbert.experiment.processors import OnBad, reads_files, tagged_texts
from mmbert.experiment.splits import Splits, count
from mmbert.recipe.schema import Recipe
from mmbert.trunk.vocabulary import checked_text
from mmbert.types import Sample


@dataclass
class Survey:
    """What the rows of a recipe's data are."""

    rows: dict[str, dict[str, int]] = field(default_factory=dict)  # split -> "rows", input or task -> how many
    fingerprint: str = ""  # of all raw values
    groups: np.ndarray | None = None  # [training samples] int64, each sample's group by train.mixing
    names: list[str] = field(default_factory=list)  # of the groups
    warnings: list[str] = field(default_factory=list)  # for people
    total: int = 0  # rows of all splits, those left out besides


def survey(recipe: Recipe, splits: Splits, on_bad: OnBad) -> tuple[Splits, Survey]:
    """The splits without those training rows that have no label, which would teach nothing; and what was found.

    Bad rows are handed to ``on_bad``, which may raise: those that cannot be read, whose text is none, or whose tags are
    not as many as the words. They keep their place. Raises ``DataError`` where two rows have one id, where a task has
    no label and an input that is not optional no value in the training split, and, if ``evaluate.on_leak`` says so,
    where two splits share content; ``RecipeError`` where ``train.mixing`` groups by what is not there.
    """
    seen, found, tagged = Fingerprint(reads_files(recipe)), Survey(), tagged_texts(recipe)
    texts = [name for name, part in recipe.inputs.items() if part.type == "text"]
    groups = _Groups(recipe.train.mixing.by) if recipe.train.mixing else None
    kept: Splits = {}
    for split, sources in splits.items():
        counts = found.rows.setdefault(split, {"rows": 0})
        kept[split] = []
        for samples in sources:
            positions = array("q")
            for position, sample in enumerate(samples.read()):
                if isinstance(sample, SampleError):
                    on_bad(sample)
                    seen.add(split, None)
                    sample = None
                else:
                    seen.add(split, sample)
                    for error in _bad_words(sample, texts, tagged):
                        on_bad(error)
                    if split == "train" and not sample.targets:
                        continue
                positions.append(position)
                for name in ("rows", *sample.inputs, *sample.targets) if sample else ("rows",):
                    counts[name] = counts.get(name, 0) + 1
                if groups and split == "train":
                    groups.add(sample)
            whole = len(positions) == len(samples)
            kept[split].append(samples if whole else samples[np.array(positions, dtype=np.int64)])
    found.fingerprint, found.total = seen.hexdigest(), count(splits)
    _check_ids(splits, seen)
    _check_presence(recipe, found)
    _check_leaks(recipe, splits, seen, found)
    if groups:
        found.groups, found.names = groups.numbered()
    return kept, found


def _bad_words(sample: Sample, texts: Collection[str], tagged: Mapping[str, str]) -> Iterator[SampleError]:
    for name in sample.inputs.keys() & texts:
        try:
            checked_text(sample.inputs[name])
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


def _check_ids(splits: Splits, seen: Fingerprint) -> None:
    if pair := seen.find_duplicate_id():
        (one, sample), (other, again) = (_at(splits, place) for place in pair)
        rows = f"{describe_row(sample)} in {one} and {describe_row(again)} in {other}"
        raise DataError(f"two rows must not have one id, however {rows} both have {sample.id}")


def _check_presence(recipe: Recipe, found: Survey) -> None:
    train = found.rows["train"]
    for name in recipe.tasks:
        if not train.get(name):
            raise DataError(f"tasks.{name}: no row of the training split has a label for it")
    for name, part in recipe.inputs.items():
        others = {split: counts.get(name, 0) for split, counts in found.rows.items() if split != "train"}
        if not train.get(name):
            only = [f"{rows} rows of {split}" for split, rows in others.items() if rows]
            if not part.optional:
                raise DataError(
                    f"inputs.{name}: absent in every row of the training split"
                    + (f", but there in {' and '.join(only)}" if only else "")
                    + "; 'optional: true' allows that"
                )
            if only:
                found.warnings.append(f"inputs.{name} is left out: only {' and '.join(only)} have it, none of training")
    for name in (*recipe.inputs, *recipe.tasks):
        for split, counts in found.rows.items():
            if train.get(name) and counts["rows"] and not counts.get(name):
                what = f"inputs.{name}" if name in recipe.inputs else f"tasks.{name}"
                found.warnings.append(f"{what}: in training only, absent in every row of {split}")


def _check_leaks(recipe: Recipe, splits: Splits, seen: Fingerprint, found: Survey) -> None:
    if not (shared := seen.find_shared_content()):
        return
    (one, sample), (other, again) = (_at(splits, place) for place in shared[0])
    message = (
        f"{len(shared)} rows have the same inputs as a row of another split, such as "
        f"{describe_row(again)} in {other} and {describe_row(sample)} in {one}"
    )
    if recipe.evaluate.on_leak == "fail":
        raise DataError(
            f"{message}; 'evaluate.on_leak: warn' allows that, a source's option 'group' keeps rows together"
        )
    found.warnings.append(message)


def _at(splits: Splits, place: int) -> tuple[str, Sample]:
    """The split and the sample at a place, counted through all splits and sources."""
    for split, sources in splits.items():
        for samples in sources:
            if place < len(samples):
                return split, samples[place]
            place -= len(samples)
    raise IndexError(place)


def present_inputs(recipe: Recipe, rows: Mapping[str, int]) -> Recipe:
    """The recipe without those optional inputs that no training row has; ``rows`` counts those that have one."""
    kept = {name: part for name, part in recipe.inputs.items() if rows.get(name)}
    train = recipe.train
    if isinstance(train.input_dropout, dict):
        rates = {name: rate for name, rate in train.input_dropout.items() if name in kept}
        train = train.model_copy(update={"input_dropout": rates})
    return recipe.model_copy(update={"inputs": kept, "train": train})
