"""What heads say before the link (logits, standardised values), for tasks that say one thing a row."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mmbert.contracts import Task
from mmbert.model import MMBert
from mmbert.types import Batch


class Said(NamedTuple):
    """The outputs of one task for its labelled rows, and what is true of these."""

    outputs: Tensor  # [rows, ...] float64
    targets: dict[str, Tensor]  # [rows, ...] each


def row_level(task: Task) -> bool:
    """Whether an output is one row's and has the same shape for all: the baselines need to know it too."""
    return getattr(task, "baseline", None) is not None


@torch.no_grad()
def of_rows(model: MMBert, batch: Batch, tasks: Collection[str]) -> dict[str, Tensor]:
    """Task -> the output [rows, ...] for every row of a batch, float64 on the CPU. The model is in evaluation mode."""
    assert not model.training
    fused = model.fuse(batch)
    return {name: model.output(name, fused).double().cpu() for name in tasks}


def of_labelled(
    model: MMBert, batches: Iterable[Batch], tasks: Collection[str], *, device: torch.device | str = "cpu"
) -> dict[str, Said]:
    """Task -> the outputs for the labelled rows of all batches; a task without any is not there."""
    dtype = next(model.parameters()).dtype
    parts: dict[str, list[Said]] = {}
    for batch in batches:
        wanted = [name for name in tasks if name in batch.targets]
        found = of_rows(model, batch.to(device, dtype), wanted)
        for name in wanted:
            target = batch.targets[name]
            parts.setdefault(name, []).append(Said(found[name][target.rows], target.tensors))
    return {name: _joined(parts[name]) for name in tasks if name in parts}


def _joined(parts: list[Said]) -> Said:
    keys = parts[0].targets
    return Said(torch.cat([one.outputs for one in parts]), {key: torch.cat([one.targets[key] for one in parts])
                                                            for key in keys})  # fmt: skip
