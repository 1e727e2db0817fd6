"""Outputs of tasks for single rows, gathered over batches."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mmbert.contracts import Task
from mmbert.model import MMBert
from mmbert.types import Batch


class TaskOutputs(NamedTuple):
    """The outputs of one task for its labelled rows, with their targets.

    Attributes:
        outputs: [rows, ...] float64.
        targets: target tensors by name, [rows, ...] each.
    """

    outputs: Tensor
    targets: dict[str, Tensor]


def is_row_level(task: Task) -> bool:
    """Whether a task has one output of the same shape for every row, as the baselines need it too."""
    return task.baseline is not None


@torch.no_grad()
def row_outputs(model: MMBert, batch: Batch, tasks: Collection[str]) -> dict[str, Tensor]:
    """The outputs for every row of a batch.

    Args:
        model: in evaluation mode.
        batch: the rows.
        tasks: names of row-level tasks.

    Returns:
        Task -> outputs [rows, ...], float64 on the CPU.
    """
    assert not model.training
    fused = model.fuse(batch)
    return {name: model.output(name, fused).double().cpu() for name in tasks}


def labelled_outputs(
    model: MMBert, batches: Iterable[Batch], tasks: Collection[str], *, device: torch.device | str = "cpu"
) -> dict[str, TaskOutputs]:
    """The outputs for the labelled rows of all batches; a task without labels has no entry.

    Args:
        model: in evaluation mode.
        batches: the rows.
        tasks: names of row-level tasks.
        device: of the model.
    """
    dtype = next(model.parameters()).dtype
    parts: dict[str, list[TaskOutputs]] = {}
    for batch in batches:
        names = [name for name in tasks if name in batch.targets]
        outputs = row_outputs(model, batch.to(device, dtype), names)
        for name in names:
            target = batch.targets[name]
            parts.setdefault(name, []).append(TaskOutputs(outputs[name][target.rows], target.tensors))
    return {name: _concatenate(parts[name]) for name in tasks if name in parts}


def _concatenate(parts: list[TaskOutputs]) -> TaskOutputs:
    targets = {key: torch.cat([part.targets[key] for part in parts]) for key in parts[0].targets}
    return TaskOutputs(torch.cat([part.outputs for part in parts]), targets)
