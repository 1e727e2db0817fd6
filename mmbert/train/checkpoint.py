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

from mmbert.contracts import Processor
from mmbert.errors import IntegrityError
from mmbert.train import disk
from mmbert.train.average import WeightAverage
from mmbert.train.manifest import EARLY, checkpoint_name, newest, seal, steps, verify
from mmbert.train.processor_state import read_json, write_parts
from mmbert.train.training_state import write_training


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
        disk.make_folder(folder)
        disk.sync(folder.parent)
    _tidy(folder)
    if not _is_saved(target, content):
        try:
            _write(temporary, step, content)
            if target.exists():  # damaged, or of another run
                disk.rename(target, folder / f".{name}.old")
            disk.rename(temporary, target)
        except Exception:
            with suppress(OSError):
                disk.remove(temporary)
            raise
    disk.sync(folder)
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
    disk.make_folder(folder)
    write_training(folder, content.model, content.optimizer, content.average)
    write_parts(folder, content.processors, content.facts)
    disk.write(folder / "trainer.json", json.dumps(trainer, indent=1).encode())
    disk.write(folder / "recipe.yaml", content.recipe.encode())
    seal(folder, step, content.identity)
    disk.sync(folder)


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
                disk.rename(path, folder / f".{path.name}.old")
    _tidy(folder)


def _tidy(folder: Path) -> None:
    for path in disk.entries(folder):
        if re.fullmatch(rf"\.step-\d+({EARLY})?\.(tmp|old)", path.name):
            with suppress(OSError):
                disk.remove(path)
