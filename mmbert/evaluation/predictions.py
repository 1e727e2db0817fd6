"""An evaluation kept as a file of safetensors: what was predicted for each row, what is true, and the row's group.

Tensors are kept in the blocks that ``ByRow`` holds, a batch each, as a row may be wider in one than in another:
``<task>/<block>/ids`` [rows], ``<task>/<block>/prediction`` [rows, ...], ``<task>/<block>/target/<name>`` [rows, ...];
and ``groups`` [rows, 2] int64 with the id of each sample that has a group and the group's number.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, tensor

from mmbert.errors import IntegrityError
from mmbert.evaluation.evaluate import ByRow, Evaluation
from mmbert.types import sample_id

PREDICTIONS_FILE = "test.safetensors"  # its name in a run folder
GROUPS = "groups"  # without a slash: no task's


class StoredPredictions(NamedTuple):
    """What was kept of one task, under the ids of its labelled rows."""

    predictions: ByRow  # sample id -> prediction, what Task.decode and Task.score read
    targets: ByRow  # sample id -> target tensors by name


def dump_predictions(found: Evaluation, groups: Mapping[int, Any] | None = None) -> bytes:
    """The file of an evaluation, the same bytes for the same evaluation. ``groups`` are by sample id.

    >>> rows = [(tensor([7, 3]), tensor([0.7, 0.3]))], [(tensor([7, 3]), {"target": tensor([1, 0])})]
    >>> found = Evaluation({}, {}, {}, {"kind": ByRow(rows[0])}, {"kind": ByRow(rows[1])})
    >>> len(dump_predictions(found)) < len(dump_predictions(found, {7: "a", 3: "b"}))
    True
    """
    tensors: dict[str, Tensor] = {}
    for task, predictions in found.predictions.items():
        for block, (made, true) in enumerate(zip(predictions.blocks, found.targets[task].blocks, strict=True)):
            tensors[f"{task}/{block}/ids"], tensors[f"{task}/{block}/prediction"] = made
            tensors |= {f"{task}/{block}/target/{name}": values for name, values in true[1].items()}
    if groups:
        tensors[GROUPS] = tensor([[sample, sample_id("", str(group))] for sample, group in sorted(groups.items())])
    # one file holds no memory twice: what two names share is copied
    return save({name: values.detach().cpu().clone().contiguous() for name, values in tensors.items()})


def load_predictions(path: str | Path) -> dict[str, StoredPredictions]:
    """Task -> what was predicted and what is true, in the order of the tasks' names. Nothing in the file can run.

    Raises ``IntegrityError`` where there is no such file, or it is another.
    """
    blocks: dict[str, dict[int, dict[str, Tensor]]] = {}
    for key, values in _read(path, lambda key: key != GROUPS).items():
        task, block, name = key.split("/", 2)
        blocks.setdefault(task, {}).setdefault(int(block), {})[name] = values
    found = {}
    for task in sorted(blocks):
        own = [blocks[task][block] for block in sorted(blocks[task])]
        targets = [
            {name.removeprefix("target/"): values for name, values in one.items() if name.startswith("target/")}
            for one in own
        ]
        found[task] = StoredPredictions(
            ByRow([(one["ids"], one["prediction"]) for one in own]),
            ByRow([(one["ids"], target) for one, target in zip(own, targets, strict=True)]),
        )
    return found


def load_groups(path: str | Path) -> dict[int, int]:
    """Sample id -> the number of its group, the same in every run; a sample without one is not there.

    Raises ``IntegrityError`` where there is no such file, or it is another.
    """
    found = _read(path, lambda key: key == GROUPS)
    return dict(found[GROUPS].tolist()) if found else {}


def _read(path: str | Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if wanted(key)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"'{path}' cannot be read: {error}") from error
