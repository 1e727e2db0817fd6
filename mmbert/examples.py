"""``examples.jsonl``: the labelled rows of the test split as a person reads them, beside what was predicted."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from mmbert.built import Built
from mmbert.data.collate import row_of
from mmbert.errors import SampleError
from mmbert.evaluate.evaluator import Evaluation
from mmbert.types import Sample

MOST = 20_000  # rows
LETTERS = 200  # of a text


def examples(built: Built, found: Evaluation) -> str:
    """A line of JSON for each test row that has a label, in the order of the ids; ``found`` is the test split's.

    ``id``; ``row``, as errors name it; ``text``, the first letters of the first text input that it has, else empty;
    ``group``, or null; ``true`` and ``predicted``, by task: the raw label, and what ``Task.decode`` makes of the
    prediction. A number that is not finite is null. Of more rows than ``MOST`` those with the lowest ids are there: as
    ids are hashes, a random choice, the same in every run. ``test.safetensors`` holds all.
    """
    labelled = sorted({sample for rows in found.targets.values() for sample in rows})[:MOST]
    lines = dict.fromkeys(labelled, "")
    for source in built.splits["test"]:
        for sample in source.read({*built.texts, *found.targets}):
            if not isinstance(sample, SampleError) and sample.id in lines:
                lines[sample.id] = json.dumps(_example(built, found, sample), allow_nan=False) + "\n"
    return "".join(lines.values())


def _example(built: Built, found: Evaluation, sample: Sample) -> dict[str, Any]:
    tasks = [name for name, rows in found.predictions.items() if sample.id in rows]
    decoded = {name: built.model.tasks[name].decode(found.predictions[name][sample.id]) for name in tasks}
    text = next((sample.inputs[name] for name in built.texts if name in sample.inputs), "")
    return {
        "id": sample.id,
        "row": row_of(sample),
        "text": (text if isinstance(text, str) else " ".join(text))[:LETTERS],
        "group": plain(sample.attributes.get("group")),
        "true": {name: plain(sample.targets[name]) for name in tasks},
        "predicted": {name: plain(value) for name, value in decoded.items()},
    }


def plain(value: Any) -> Any:
    """A raw value as one of JSON; what JSON has no word for (a date) as it reads.

    >>> plain({"size": np.float32(0.5), "tags": ("a", None), "far": float("inf")})
    {'size': 0.5, 'tags': ['a', None], 'far': None}
    """
    if isinstance(value, np.ndarray | np.generic | Tensor):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return str(value)
