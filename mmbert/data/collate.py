"""From samples to batches: the processors' work on one sample, and joining what they return."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor

from mmbert.contracts import Processor
from mmbert.data.keyed_random import Rate, draw_kept_names, generator
from mmbert.errors import SampleError
from mmbert.types import Batch, Present, Sample

ProcessorsByName = Mapping[str, Processor]  # by the name of the input or task


class Item(NamedTuple):
    """A sample's tensors, by input or task, then by the processor's names. What is absent is an absent key."""

    id: int
    inputs: dict[str, dict[str, Tensor]]
    targets: dict[str, dict[str, Tensor]]


def encode_sample(
    sample: Sample,
    processors: ProcessorsByName,
    labels: ProcessorsByName,
    key: tuple[int, int] | None = None,
    *,
    input_dropout: Rate = 0.0,
) -> Item:
    """One sample through the processors of its inputs (``processors``) and targets (``labels``).

    ``key`` is (seed, epoch) in training and None in evaluation, where nothing is random. Each input draws under a key
    of its own, so that neither another input nor the order of the recipe changes it. ``input_dropout`` is told at
    ``drop_inputs``. A value in which a processor finds nothing is absent. Raises ``SampleError``, naming the source,
    the row and the field.
    """
    return drop_inputs(encode_all_inputs(sample, processors, labels, key)[0], key, input_dropout)


def encode_all_inputs(
    sample: Sample, processors: ProcessorsByName, labels: ProcessorsByName, key: tuple[int, int] | None
) -> tuple[Item, bool]:
    """The item before any input is dropped, and whether a processor drew at random: if none did, it is always this."""
    inputs, one = _encoded(sample, "input", sample.inputs, processors, key)
    targets, other = _encoded(sample, "task", sample.targets, labels, key)
    return Item(sample.id, inputs, targets), one or other


def drop_inputs(item: Item, key: tuple[int, int] | None, rate: Rate) -> Item:
    """In training, an item without the inputs that are dropped with probability ``rate``; never all of them are."""
    if key is None or not rate:
        return item
    kept = draw_kept_names(item.inputs, rate, *key, item.id, "dropout")
    return item._replace(inputs={name: tensors for name, tensors in item.inputs.items() if name in kept})


def collate(items: Sequence[Item], processors: ProcessorsByName, labels: ProcessorsByName) -> Batch:
    """Join items, in their order, into a batch.

    **Shapes**: ``ids`` [batch]; for each input or target that any item has, ``rows`` [present] and whatever the
    processor's ``collate`` returns, [present, ...].
    """
    return Batch(
        ids=torch.tensor([item.id for item in items], dtype=torch.int64),
        inputs=_joined([item.inputs for item in items], processors),
        targets=_joined([item.targets for item in items], labels),
    )


def check_tag_counts(sample: Sample, tagged: Mapping[str, str]) -> None:
    """Raise ``SampleError`` where a list of tags is not as long as the list of words that it labels.

    ``tagged`` maps tasks to the text inputs whose words they label.
    """
    for task, text in tagged.items():
        words, tags = sample.inputs.get(text), sample.targets.get(task)
        if _is_list(words) and _is_list(tags) and len(words) != len(tags):
            message = f"expected a tag for each of the {len(words)} words of '{text}', found {len(tags)} tags"
            raise SampleError(message).at(describe_row(sample), f"task '{task}'")


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple | np.ndarray)


def describe_row(sample: Sample) -> str:
    """The source and the row of a sample, as errors name it."""
    return f"{sample.source} ({sample.attributes.get('where', f'id {sample.id}')})"


def _encoded(
    sample: Sample, kind: str, values: Mapping[str, Any], processors: ProcessorsByName, key: tuple[int, int] | None
) -> tuple[dict[str, dict[str, Tensor]], bool]:
    found, drawn = {}, False
    for name in sorted(values.keys() & processors.keys()):
        rng = None if key is None else generator(*key, sample.id, kind, name)
        before = rng and rng.bit_generator.state
        place = describe_row(sample), f"{kind} '{name}'"
        try:
            tensors = processors[name](values[name], rng)
        except SampleError as error:
            raise error.at(*place) from error
        except OSError as error:  # a file that was there when the row was read
            raise SampleError(f"cannot be read: {error}").at(*place) from error
        except Exception as error:
            error.add_note(f"while reading {', '.join(place)}")
            raise
        drawn |= rng is not None and rng.bit_generator.state != before
        if tensors:
            found[name] = tensors
    return found, drawn


def _joined(items: Sequence[dict[str, dict[str, Tensor]]], processors: ProcessorsByName) -> dict[str, Present]:
    joined = {}
    for name in sorted(processors):
        rows = [row for row, item in enumerate(items) if name in item]
        if rows:
            tensors = processors[name].collate([items[row][name] for row in rows])
            joined[name] = Present(torch.tensor(rows, dtype=torch.int64), tensors)
    return joined
