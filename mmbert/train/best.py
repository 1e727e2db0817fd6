"""The best checkpoint under a fixed name, weights and processors only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mmbert.contracts import Processor
from mmbert.errors import IntegrityError
from mmbert.train import disk
from mmbert.train.processor_state import write_parts


def save_checkpoint(
    folder: Path, model: nn.Module, processors: Mapping[str, Processor], facts: Mapping[str, Any]
) -> None:
    """Write a checkpoint as a whole: into a folder beside it, then renamed.

    Wherever a save dies, ``find_checkpoint`` finds the old checkpoint or the new one, whole.

    Args:
        folder: replaced if it exists.
        processors: of inputs and labels, by a name of their own each.
        facts: what else of JSON is needed to build the model again.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    disk.remove(temporary)
    disk.make_folder(temporary)
    disk.write_tensors(temporary / "model.safetensors", model.state_dict())
    write_parts(temporary, processors, facts)
    before = _before(folder)
    if folder.exists():
        disk.remove(before)
        disk.rename(folder, before)
    disk.rename(temporary, folder)
    disk.remove(before)


def find_checkpoint(folder: Path) -> Path:
    """Where the checkpoint of that name is. Raises ``IntegrityError`` where there is none."""
    for place in (folder, _before(folder)):  # a save may have died between its two renames
        if place.exists():
            return place
    raise IntegrityError(f"'{folder}' holds no checkpoint yet: no evaluation was reached")


def _before(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.before")
