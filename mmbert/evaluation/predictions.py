"""Predictions, targets and groups of an evaluation as a safetensors file.

Tensors are stored in the blocks of ``RowsById``, one a batch, as a row may be wider in one batch than in another:
``<task>/<block>/ids`` [rows], ``<task>/<block>/prediction`` [rows, ...], ``<task>/<block>/target/<name>`` [rows, ...];
and ``groups`` [rows, 2] int64 with the id of each sample that has a group and the number of its group.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, tensor

from mmbert.errors import IntegrityError
from mmbert.evaluation.evaluate import Evaluation, RowsById
from mmbert.types import sample_id

PREDICTIONS_FILE = "test.safetensors"  # its name in a run folder
GROUPS = "groups"  # without a slash, so that no task's tensors have this name


class StoredPredictions(NamedTuple):
    """The stored rows of one task, by the ids of its labelled samples.

    Attributes:
        predictions: sample id -> prediction, as ``Task.decode`` and ``Task.score`` read it.
        targets: sample id -> target tensors by name.
    """

    predictions: RowsById
    targets: RowsById


def dump_predictions(evaluation: Evaluation, groups: Mapping[int, Any] | None = None) -> bytes:
    """The content of the file; equal evaluations give equal bytes.

    Args:
        evaluation: whose predictions and targets are stored.
        groups: sample id -> group, of the samples that have one.

    Example:
        >>> rows = [(tensor([7, 3]), tensor([0.7, 0.3]))], [(tensor([7, 3]), {"target": tensor([1, 0])})]
        >>> evaluation = Evaluation({}, {}, {}, {"kind": RowsById(rows[0])}, {"kind": RowsById(rows[1])})
        >>> len(dump_predictions(evaluation)) < len(dump_predictions(evaluation, {7: "a", 3: "b"}))
        True
    """
    tensors: dict[str, Tensor] = {}
    for task, predictions in evaluation.predictions.items():
        blocks = zip(predictions.blocks, evaluation.targets[task].blocks, strict=True)
        for block, ((ids, prediction), (_, target)) in enumerate(blocks):
            tensors[f"{task}/{block}/ids"], tensors[f"{task}/{block}/prediction"] = ids, prediction
            tensors |= {f"{task}/{block}/target/{name}": values for name, values in target.items()}
    if groups:
        tensors[GROUPS] = tensor([[sample, sample_id("", str(group))] for sample, group in sorted(groups.items())])
    # safetensors refuses tensors that share memory: each is copied
    return save({name: values.detach().cpu().clone().contiguous() for name, values in tensors.items()})


def load_predictions(path: str | Path) -> dict[str, StoredPredictions]:
    """Task -> stored predictions and targets, in the order of the tasks' names. Nothing in the file is executed.

    Raises:
        IntegrityError: where the file does not exist or is not of this format.
    """
    blocks: dict[str, dict[int, dict[str, Tensor]]] = {}
    for key, values in _read(path, lambda key: key != GROUPS).items():
        task, block, name = key.split("/", 2)
        blocks.setdefault(task, {}).setdefault(int(block), {})[name] = values
    stored = {}
    for task in sorted(blocks):
        ordered = [blocks[task][block] for block in sorted(blocks[task])]
        targets = [
            {name.removeprefix("target/"): values for name, values in block.items() if name.startswith("target/")}
            for block in ordered
        ]
        stored[task] = StoredPredictions(
            RowsById([(block["ids"], block["prediction"]) for block in ordered]),
            RowsById([(block["ids"], target) for block, target in zip(ordered, targets, strict=True)]),
        )
    return stored


def load_groups(path: str | Path) -> dict[int, int]:
    """Sample id -> the number of its group, the same in every run; samples without a group are left out.

    Raises:
        IntegrityError: where the file does not exist or is not of this format.
    """
    tensors = _read(path, lambda key: key == GROUPS)
    return dict(tensors[GROUPS].tolist()) if tensors else {}


def _read(path: str | Path, select: Callable[[str], bool]) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if select(key)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"'{path}' cannot be read: {error}") from error
