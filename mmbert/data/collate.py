"""From samples to batches: processors encode one sample, and their results are joined."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor

from mmbert.contracts import Processor, Processors
from mmbert.data.keyed_random import Rate, draw_kept_names, generator
from mmbert.errors import SampleError
from mmbert.types import Batch, Present, Sample

EpochKey = tuple[int, int] | None  # (seed, epoch) in training, None in evaluation


class Item(NamedTuple):
    """A sample's tensors, by input or task, then by the processor's names. What is absent is an absent key."""

    id: int
    inputs: dict[str, dict[str, Tensor]]
    targets: dict[str, dict[str, Tensor]]


def encode_sample(
    sample: Sample,
    processors: Processors,
    key: EpochKey = None,
    *,
    input_dropout: Rate = 0.0,
) -> Item:
    """Encode the inputs and targets of a sample.

    Each input draws at random under a key of its own, so that no other input and no order of the recipe changes it.
    A value in which a processor finds nothing is absent.

    Args:
        sample: raw values.
        processors: of the inputs and targets.
        key: (seed, epoch) in training; None in evaluation, where nothing is random.
        input_dropout: see ``drop_inputs``.

    Raises:
        SampleError: on a bad value, with the source, the row and the field.
    """
    return drop_inputs(encode_all_inputs(sample, processors, key)[0], key, input_dropout)


def encode_all_inputs(sample: Sample, processors: Processors, key: EpochKey) -> tuple[Item, bool]:
    """Encode a sample without dropping inputs.

    Args:
        sample: raw values.
        processors: of the inputs and targets.
        key: (seed, epoch), or None in evaluation.

    Returns:
        The item, and whether a processor drew at random; if none did, the item is the same in every epoch.
    """
    inputs, random_inputs = _encode(sample, "input", sample.inputs, processors.inputs, key)
    targets, random_targets = _encode(sample, "task", sample.targets, processors.targets, key)
    return Item(sample.id, inputs, targets), random_inputs or random_targets


def drop_inputs(item: Item, key: EpochKey, rate: Rate) -> Item:
    """Input dropout: remove inputs of an item at random in training, but never all of them.

    Args:
        item: the whole item.
        key: (seed, epoch) in training; None in evaluation, where nothing is dropped.
        rate: the probability to drop an input; one for all, or one for each by name.
    """
    if key is None or not rate:
        return item
    names = draw_kept_names(item.inputs, rate, *key, item.id, "dropout")
    return item._replace(inputs={name: tensors for name, tensors in item.inputs.items() if name in names})


def collate(items: Sequence[Item], processors: Processors) -> Batch:
    """Join items into a batch, in their order.

    Args:
        items: at least one.
        processors: of the inputs and targets.

    Shape:
        ``ids`` [batch]; for each input or target that an item has, ``rows`` [present] and what the processor's
        ``collate`` returns, [present, ...].
    """
    return Batch(
        ids=torch.tensor([item.id for item in items], dtype=torch.int64),
        inputs=_join([item.inputs for item in items], processors.inputs),
        targets=_join([item.targets for item in items], processors.targets),
    )


def check_tag_counts(sample: Sample, tagged: Mapping[str, str]) -> None:
    """Check that a list of tags is as long as the list of words that it labels.

    Args:
        sample: raw values.
        tagged: task -> the text input whose words it labels.

    Raises:
        SampleError: where the lengths differ.
    """
    for task, text in tagged.items():
        words, tags = sample.inputs.get(text), sample.targets.get(task)
        if _is_list(words) and _is_list(tags) and len(words) != len(tags):
            message = f"expected a tag for each of the {len(words)} words of '{text}', found {len(tags)} tags"
            raise SampleError(message).at(describe_row(sample), f"task '{task}'")


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple | np.ndarray)


def describe_row(sample: Sample) -> str:
    """The source and the row of a sample, for messages."""
    return f"{sample.source} ({sample.attributes.get('where', f'id {sample.id}')})"


def _encode(
    sample: Sample, kind: str, values: Mapping[str, Any], processors: Mapping[str, Processor], key: EpochKey
) -> tuple[dict[str, dict[str, Tensor]], bool]:
    """The tensors by name, and whether a processor drew at random."""
    encoded, is_random = {}, False
    for name in sorted(values.keys() & processors.keys()):
        rng = None if key is None else generator(*key, sample.id, kind, name)
        state = rng and rng.bit_generator.state
        place = describe_row(sample), f"{kind} '{name}'"
        try:
            tensors = processors[name](values[name], rng)
        except SampleError as error:
            raise error.at(*place) from error
        except OSError as error:  # a file that existed when the row was read
            raise SampleError(f"cannot be read: {error}").at(*place) from error
        except Exception as error:
            error.add_note(f"while reading {', '.join(place)}")
            raise
        is_random |= rng is not None and rng.bit_generator.state != state
        if tensors:
            encoded[name] = tensors
    return encoded, is_random


def _join(items: Sequence[dict[str, dict[str, Tensor]]], processors: Mapping[str, Processor]) -> dict[str, Present]:
    joined = {}
    for name in sorted(processors):
        rows = [row for row, item in enumerate(items) if name in item]
        if rows:
            tensors = processors[name].collate([items[row][name] for row in rows])
            joined[name] = Present(torch.tensor(rows, dtype=torch.int64), tensors)
    return joined
