"""Resuming: the checkpoint of the same recipe and data from which a run continues, if there is one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmbert.checkpoint.manifest import newest, steps, verify
from mmbert.errors import IntegrityError, RecipeError
from mmbert.recipe.changes import recipe_changes
from mmbert.recipe.load import load_recipe
from mmbert.recipe.schema import Recipe
from mmbert.recipe.serialize import dump, recipe_hash
from mmbert.tracking.run_folder import read_json
from mmbert.version import CODE_EPOCH


@dataclass(frozen=True)
class Identity:
    """What must be equal for a run to resume: the recipe, its length in steps, the data, and the code's epoch."""

    recipe: Recipe
    data: str  # fingerprint

    @cached_property
    def hash(self) -> str:
        """The hash of the recipe."""
        return recipe_hash(self.recipe)

    @cached_property
    def text(self) -> str:
        """The recipe as YAML, cached: every checkpoint stores it, and writing it takes a tenth of a second."""
        return dump(self.recipe)

    def stamp(self) -> dict[str, str]:
        """The identity as a checkpoint's manifest stores it."""
        return {"recipe": self.hash, "data": self.data, "epoch": str(CODE_EPOCH)}


def checkpoint_to_resume(folder: Path, mode: str, identity: Identity, warn: Callable[[str], None]) -> Path | None:
    """The checkpoint that a run resumes from; None to start from the beginning.

    Args:
        folder: of the run.
        mode: ``auto``: the newest verified checkpoint in the folder, if there is any; ``never``; or the path of a
            checkpoint (``.../checkpoints/step-N``) or of a run folder, whose newest is taken.
        identity: of the run.
        warn: called with the reason for each checkpoint that is skipped.

    Raises:
        IntegrityError: where the recipe, the data or the code epoch of the folder's run, or of the checkpoint's, differ
            (the message names the differences), and where checkpoints exist, or the path of one is given, but none is
            intact. Nothing is removed then.
    """
    if mode == "never":
        return None
    _check_recipe(folder / "recipe.yaml", identity)
    _check_data(folder, identity)
    if mode == "auto":
        checkpoint = newest(folder / "checkpoints", warn)
        if checkpoint is None and steps(folder / "checkpoints"):
            raise IntegrityError(
                f"'{folder}' holds checkpoints, but none is usable. Restore one, or give --out another folder, "
                "or --resume never to start again, which removes them"
            )
        return None if checkpoint is None else _check_checkpoint(checkpoint, identity)
    path = Path(mode)
    if (path / "checkpoints").is_dir():
        checkpoint = newest(path / "checkpoints", warn)
        if checkpoint is None:
            raise IntegrityError(f"--resume '{path}': the run holds no verified checkpoint")
        path = checkpoint
    return _check_checkpoint(path, identity)


def _check_checkpoint(checkpoint: Path, identity: Identity) -> Path:
    """The checkpoint, if it is intact and of this run."""
    before = verify(checkpoint)["identity"]
    _check_recipe(checkpoint / "recipe.yaml", identity)
    if before["data"] != identity.data:
        raise _other_data(checkpoint, before["data"], identity.data)
    if (epoch := before.get("epoch")) != str(CODE_EPOCH):
        raise IntegrityError(
            f"'{checkpoint}' was trained by an incompatible version of mmbert (code epoch {epoch or 'unknown'}; this "
            f"one has {CODE_EPOCH}): the same recipe gives other numbers. Give --out another folder, or --resume never "
            "to start again, which removes the old files"
        )
    return checkpoint


def finished(folder: Path, identity: Identity) -> dict[str, Any] | None:
    """The content of ``result.json`` where a run of the same recipe, data and code epoch has finished, else None.

    Args:
        folder: of the run.
        identity: that the finished run must have.
    """
    result = read_json(folder / "result.json")
    stored = result.get("recipe"), result.get("epoch"), _read_fingerprint(folder)
    return result if stored == (identity.hash, CODE_EPOCH, identity.data) else None


def _check_recipe(path: Path, identity: Identity) -> None:
    if not path.exists():
        return
    try:
        before = load_recipe(path).recipe
    except RecipeError as error:
        raise IntegrityError(
            f"'{path}' cannot be read by this version of mmbert. Give --out another folder, or --resume never to start "
            f"again, which removes the old files\n{error}"
        ) from error
    if recipe_hash(before) != identity.hash:
        differences = "\n".join(
            f"  {key}: {old} then, {new} now" for key, old, new in recipe_changes(before, identity.recipe)
        )
        raise IntegrityError(
            f"'{path}' is of another recipe:\n{differences}\nGive --out another folder, or --resume never to start "
            "again, which removes the old files"
        )


def _check_data(folder: Path, identity: Identity) -> None:
    before = _read_fingerprint(folder)
    if before is not None and before != identity.data:
        raise _other_data(folder, before, identity.data)


def _read_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the data that a run was trained on, if its folder has it."""
    fingerprint = read_json(folder / "data.json").get("fingerprint")
    return fingerprint if isinstance(fingerprint, str) else None


def _other_data(path: Path, before: str, now: str) -> IntegrityError:
    return IntegrityError(
        f"'{path}' was trained on other data: fingerprint {before} then, {now} now. Restore the data, or give --out "
        "another folder, or --resume never to start again"
    )
