"""A checkpoint as a transaction: ``step-N`` is there whole and verified, or not at all.

No random state is kept: every random choice has a key of its own, (seed, step, micro-step, rank) for dropout and
(seed, epoch, id of the sample) for what is done to a sample, so that the number of the step is all of it. Nothing is
pickled, so nothing that is read can run.
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

from mmbert.checkpoint.manifest import EARLY, checkpoint_name, newest, seal, steps, verify
from mmbert.checkpoint.processors import read_json, write_parts
from mmbert.checkpoint.tensors import write_training
from mmbert.contracts import Processor
from mmbert.errors import IntegrityError, ResourceError
from mmbert.io import storage
from mmbert.layers.ema import WeightAverage


@dataclass(frozen=True)
class Content:
    """What a checkpoint is made of. Tensors are read while it is written, not before, and not copied."""

    model: nn.Module  # not wrapped
    optimizer: Optimizer | AcceleratedOptimizer
    average: WeightAverage  # applied or not: both the average and the trained weights are kept
    processors: Mapping[str, Processor]  # inputs.<name> and tasks.<name>
    facts: Mapping[str, Any]  # what else of JSON the model is built from
    trainer: Mapping[str, Any]  # JSON: best_step (0: none yet), its score, evaluations waited, ...
    recipe: str  # resolved, as YAML
    identity: Mapping[str, str]  # recipe: its hash, data: their fingerprint


def save(folder: Path, step: int, content: Content, *, keep: Collection[int]) -> Path:
    """Save ``folder/step-N``, then remove every other checkpoint but those of the steps in ``keep`` and the best.

    One that comes before the evaluation of its step is called so, and makes room for the one that comes after.

    Written into a folder beside it, on the disk, the manifest last, then renamed: wherever this dies, the checkpoints
    before are as they were, or the new one is there and verified. What cannot be removed is left to the next save, as
    is what a dead save left. A verified checkpoint of the same step and identity is left as it is, its ``trainer.json``
    too: save once a step, after its evaluation.

    Returns the checkpoint. Raises ``OSError`` where the disk fails; the checkpoints before are then intact.

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
    with suppress(OSError):  # this checkpoint is saved all the same
        best_ones = {folder / checkpoint_name(one, evaluated=True) for one in {content.trainer["best_step"], *keep}}
        _prune(folder, {target, *best_ones})
    return target


def read_trainer(path: Path) -> dict[str, Any]:
    """What the training loop told of itself, with its ``step`` and the ``average_steps``."""
    return read_json(path / "trainer.json")


def best(run: Path, tell: Callable[[str], None]) -> Path:
    """The checkpoint that a run predicts with: the best, as its newest verified checkpoint says.

    ``tell`` hears why a newer one is passed over. Raises ``IntegrityError`` where there is none yet, and where the best
    is damaged: another one is not taken in its place.
    """
    folder, reasons = run / "checkpoints", []
    last = newest(folder, reasons.append)
    if last is None:
        raise IntegrityError("; ".join([f"'{run}' holds no checkpoint yet that can be used", *reasons]))
    for reason in reasons:
        tell(reason)
    step = read_trainer(last)["best_step"]
    if not step:
        raise IntegrityError(f"'{run}' holds no checkpoint yet to predict with: no evaluation was reached")
    verify(folder / f"step-{step}")
    return folder / f"step-{step}"


def _write(folder: Path, step: int, content: Content) -> None:
    trainer = {**content.trainer, "step": step, "average_steps": content.average.steps}
    storage.make_folder(folder)
    write_training(folder, content.model, content.optimizer, content.average)
    write_parts(folder, content.processors, content.facts)
    storage.write(folder / "trainer.json", json.dumps(trainer, indent=1).encode())
    storage.write(folder / "recipe.yaml", content.recipe.encode())
    seal(folder, step, content.identity)
    storage.sync(folder)


def _is_saved(path: Path, content: Content) -> bool:
    try:
        return verify(path)["identity"] == dict(content.identity)
    except IntegrityError:
        return False


def _prune(folder: Path, kept: Collection[Path]) -> None:
    """Remove all other checkpoints; each loses its name first, so that none is ever there in part."""
    for path in steps(folder):
        if path not in kept:
            with suppress(OSError):
                storage.rename(path, folder / f".{path.name}.old")
    _tidy(folder)


def _tidy(folder: Path) -> None:
    for path in storage.entries(folder):
        if re.fullmatch(rf"\.step-\d+({EARLY})?\.(tmp|old)", path.name):
            with suppress(OSError):
                storage.remove(path)


LIMIT = 3


def attempt(save: Callable[[], object]) -> str | None:
    """Why the disk failed a save; None where it is done. Other errors are not the disk's, and are raised.

    Call it on the process that saves, give its answer to all processes, and on each ``FailedSaves.note`` it.
    """
    try:
        save()
    except OSError as error:
        return str(error)
    return None


class FailedSaves:
    """Counts failed saves in a row.

    >>> failed = FailedSaves(print)
    >>> failed.note("[Errno 28] No space left on device")
    the checkpoint could not be saved: [Errno 28] No space left on device. Training goes on; earlier ones are intact
    False
    >>> failed.note(None)
    True
    """

    def __init__(self, tell: Callable[[str], None]):
        self.tell = tell
        self.in_a_row = 0

    def note(self, reason: str | None) -> bool:
        """Whether the save is done: only then may its step be remembered as saved, or as the best.

        ``reason`` is what ``attempt`` gave. Raises ``ResourceError`` at the third failure in a row.
        """
        self.in_a_row = 0 if reason is None else self.in_a_row + 1
        if self.in_a_row == LIMIT:
            raise ResourceError(
                f"{LIMIT} checkpoints in a row could not be saved, the last because of: {reason}. Earlier ones are "
                "intact: make room, or make the run folder writable, and start again"
            )
        if reason is not None:
            self.tell(f"the checkpoint could not be saved: {reason}. Training goes on; earlier ones are intact")
        return reason is None
