"""Atomic, checksummed checkpoints.

No state of a random generator is saved: every random draw is keyed, by (seed, step, micro-step, rank) for dropout and
by (seed, epoch, sample id) for augmentation, so the step number is enough. Nothing is pickled, so that reading a
checkpoint cannot run code.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.optimizer import AcceleratedOptimizer
from torch import nn
from torch.optim import Optimizer

from mmbert.checkpoint.manifest import EARLY, FILES, MANIFEST, checkpoint_name, newest, seal, steps, verify
from mmbert.checkpoint.processors import read_json, write_parts
from mmbert.checkpoint.tensors import write_training
from mmbert.contracts import Processor
from mmbert.errors import IntegrityError, ResourceError
from mmbert.io import storage
from mmbert.layers.ema import WeightAverage


@dataclass(frozen=True)
class Content:
    """The content of a checkpoint. Tensors are read while it is written, and not copied before."""

    model: nn.Module  # not wrapped
    optimizer: Optimizer | AcceleratedOptimizer
    average: WeightAverage  # applied or not: both the average and the trained weights are saved
    processors: Mapping[str, Processor]  # inputs.<name> and tasks.<name>
    config: Mapping[str, Any]  # JSON: what else the model is built from, and how new files are read
    trainer: Mapping[str, Any]  # JSON: best_step (0: none yet), its score, evaluations waited, ...
    recipe: str  # resolved, as YAML
    identity: Mapping[str, str]  # recipe: its hash, data: their fingerprint


def save(folder: Path, step: int, content: Content, *, keep: Collection[int]) -> Path:
    """Save ``folder/step-N``, then remove all other checkpoints except the best and those of the steps in ``keep``.

    A checkpoint saved before the evaluation of its step has that in its name; the one saved after it replaces it.

    The files are written into a temporary folder and synced to the disk, the manifest last, and the folder is renamed:
    if the process dies at any point, either the earlier checkpoints are intact or the new one is complete. What cannot
    be removed, and what a killed save left, is removed by the next save. A verified checkpoint of the same step and
    identity is left as it is, including its ``trainer.json``: save once a step, after its evaluation.

    Args:
        folder: of all checkpoints of the run.
        step: the number of optimiser steps done.
        content: what is saved.
        keep: steps whose checkpoints are not removed.

    Returns:
        The path of the checkpoint.

    Raises:
        OSError: where the disk fails; earlier checkpoints are then intact.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> parts = (model, torch.optim.AdamW(model.parameters()), WeightAverage(model, 0), {}, {})
        >>> content = Content(*parts, trainer={"best_step": 20}, recipe="name: debug", identity={"recipe": "4f"})
        >>> with TemporaryDirectory() as run:
        ...     path = save(Path(run, "checkpoints"), 20, content, keep=())
        ...     path.name, verify(path)["identity"], best(Path(run), print) == path
        ('step-20', {'recipe': '4f'}, True)
    """
    name = checkpoint_name(step, evaluated=content.trainer.get("evaluated", True))
    target, temporary = folder / name, folder / f".{name}.tmp"
    if not folder.exists():
        storage.make_folder(folder)
        storage.sync(folder.parent)
    _tidy(folder)
    if not _is_saved(target, content):
        try:
            _write(temporary, step, content)
            if target.exists():  # damaged, or of another run
                storage.rename(target, folder / f".{name}.old")
            storage.rename(temporary, target)
        except Exception:
            with suppress(OSError):
                storage.remove(temporary)
            raise
    storage.sync(folder)
    with suppress(OSError):  # the new checkpoint is saved, whether or not old ones can be removed
        steps_to_keep = {content.trainer["best_step"], *keep}
        _prune(folder, {target, *(folder / checkpoint_name(number, evaluated=True) for number in steps_to_keep)})
    return target


def read_trainer(path: Path) -> dict[str, Any]:
    """The state of the training loop, with its ``step`` and the ``average_steps``.

    Args:
        path: of a checkpoint.
    """
    return read_json(path / "trainer.json")


def best(run: Path, warn: Callable[[str], None]) -> Path:
    """The checkpoint that a run predicts with: the best one, by the record in the newest verified checkpoint.

    Args:
        run: a run folder.
        warn: called with the reason for each newer checkpoint that is skipped.

    Raises:
        IntegrityError: where no evaluated checkpoint exists yet, or where the best one is damaged; no other one is
            used instead.
    """
    folder, reasons = run / "checkpoints", []
    last = newest(folder, reasons.append)
    if last is None:
        raise IntegrityError("; ".join([f"'{run}' holds no usable checkpoint yet", *reasons]))
    for reason in reasons:
        warn(reason)
    step = read_trainer(last)["best_step"]
    if not step:
        raise IntegrityError(f"'{run}' holds no checkpoint yet to predict with: training has not reached an evaluation")
    verify(folder / f"step-{step}")
    return folder / f"step-{step}"


def _write(folder: Path, step: int, content: Content) -> None:
    trainer = {**content.trainer, "step": step, "average_steps": content.average.steps}
    storage.make_folder(folder)
    write_training(folder, content.model, content.optimizer, content.average)
    write_parts(folder, content.processors, content.config)
    storage.write(folder / "trainer.json", json.dumps(trainer, indent=1).encode())
    storage.write(folder / "recipe.yaml", content.recipe.encode())
    seal(folder, step, content.identity)
    storage.sync(folder)


def _is_saved(path: Path, content: Content) -> bool:
    try:
        return verify(path)["identity"] == dict(content.identity)
    except IntegrityError:
        return False


def remove_all(folder: Path) -> None:
    """Remove all checkpoints of a run, verified or not, and what killed saves left.

    Args:
        folder: of the checkpoints; that may not exist.

    Raises:
        IntegrityError: where a checkpoint holds a file that is none of its own; nothing is removed then.
    """
    for path in steps(folder):
        if foreign := _foreign_files(path):
            raise IntegrityError(f"'{foreign[0]}' is not a file of the checkpoint: move it out of '{folder}' first")
    _prune(folder, ())


def import_checkpoints(checkpoints: Collection[Path], folder: Path) -> None:
    """Replace the checkpoints in a folder by copies of those of another run.

    Args:
        checkpoints: verified ones.
        folder: of this run's checkpoints; it is made where it is missing.

    Raises:
        IntegrityError: where a checkpoint in the folder holds a file that is none of its own.
        OSError: where the disk fails.
    """
    copies = {path.name: folder / f".{path.name}.import" for path in checkpoints}
    for path in checkpoints:
        storage.remove(copies[path.name])  # of a copy that was killed
        storage.make_folder(copies[path.name])
        for name in {*verify(path)["files"], MANIFEST}:
            storage.write(copies[path.name] / name, (path / name).read_bytes())
    remove_all(folder)
    for name, copy in copies.items():
        storage.rename(copy, folder / name)
    storage.sync(folder)


def _prune(folder: Path, keep: Collection[Path]) -> None:
    """Remove all other checkpoints; each is renamed first, so that no partial checkpoint has the name of one.

    A checkpoint into which somebody put a file stays.
    """
    for path in steps(folder):
        if path not in keep and not _foreign_files(path):
            with suppress(OSError):
                storage.rename(path, folder / f".{path.name}.old")
    _tidy(folder)


def _foreign_files(checkpoint: Path) -> list[Path]:
    """The files in a checkpoint that no save wrote; of a file that has the name of a checkpoint, the file."""
    if not checkpoint.is_dir():
        return [checkpoint]
    return [path for path in storage.entries(checkpoint) if path.name not in FILES]


def _tidy(folder: Path) -> None:
    for path in storage.entries(folder):
        match = re.fullmatch(rf"\.step-\d+({EARLY})?\.(tmp|old)", path.name)
        if match and (match[2] == "tmp" or not _foreign_files(path)):
            with suppress(OSError):
                storage.remove(path)


LIMIT = 3  # failed saves in a row


def attempt(save: Callable[[], object]) -> str | None:
    """Save, and return the reason where the disk fails, else None; all other errors are raised.

    Call it on the process that saves, broadcast the result, and pass it to ``FailedSaves.record`` on each process.

    Args:
        save: saves a checkpoint.
    """
    try:
        save()
    except OSError as error:
        return str(error)
    return None


class FailedSaves:
    """Counts failed saves in a row.

    Args:
        warn: called with a sentence for each failed save.

    Example:
        >>> failed = FailedSaves(print)
        >>> failed.record("[Errno 28] No space left")
        the checkpoint could not be saved: [Errno 28] No space left. Training continues; earlier ones are intact
        False
        >>> failed.record(None)
        True
    """

    def __init__(self, warn: Callable[[str], None]):
        self.warn = warn
        self.in_a_row = 0

    def record(self, reason: str | None) -> bool:
        """Record whether a save succeeded, and return it: only then may its step count as saved, or as the best.

        Args:
            reason: the result of ``attempt``.

        Raises:
            ResourceError: at the third failure in a row.
        """
        self.in_a_row = 0 if reason is None else self.in_a_row + 1
        if self.in_a_row == LIMIT:
            raise ResourceError(
                f"{LIMIT} checkpoints in a row could not be saved, the last because of: {reason}. Earlier ones are "
                "intact: make room, or make the run folder writable, and start again"
            )
        if reason is not None:
            self.warn(f"the checkpoint could not be saved: {reason}. Training continues; earlier ones are intact")
        return reason is None
