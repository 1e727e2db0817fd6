"""Where a run goes on from: a checkpoint of the same recipe and data, or the beginning."""

import json
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
from mmbert.version import CODE_EPOCH


@dataclass(frozen=True)
class Identity:
    """What must be the same for a run to go on: the recipe, its length in steps, the data, and the code's epoch."""

    recipe: Recipe
    data: str  # fingerprint

    @cached_property
    def hash(self) -> str:
        return recipe_hash(self.recipe)

    @cached_property
    def text(self) -> str:
        """The recipe as YAML, which takes a tenth of a second and stands in every checkpoint."""
        return dump(self.recipe)

    def stamp(self) -> dict[str, str]:
        """What a checkpoint's manifest says of it."""
        return {"recipe": self.hash, "data": self.data, "epoch": str(CODE_EPOCH)}


def checkpoint_to_resume(folder: Path, mode: str, identity: Identity, tell: Callable[[str], None]) -> Path | None:
    """The checkpoint that a run in ``folder`` goes on from; None to begin anew.

    Args:
        mode: ``auto``: the newest verified checkpoint in the folder, if there is any; ``never``; or the path of a
            checkpoint (``.../checkpoints/step-N``) or of a run folder, whose newest is taken.
        tell: takes a sentence for each checkpoint that is passed over.

    Raises ``IntegrityError`` where the recipe, the data or the code epoch differ, of the folder's run or of the
    checkpoint's, naming the differences; and where there are checkpoints, or a path to one, but none is verified:
    nothing is then removed.
    """
    if mode == "never":
        return None
    _check_recipe(folder / "recipe.yaml", identity)
    _check_data(folder, identity)
    if mode == "auto":
        found = newest(folder / "checkpoints", tell)
        if found is None and steps(folder / "checkpoints"):
            raise IntegrityError(
                f"'{folder}' holds checkpoints, but none that can be used. Restore one, or give --out another folder, "
                "or --resume never to begin anew, which removes them"
            )
        return None if found is None else _of_this_run(found, identity)
    path = Path(mode)
    if (path / "checkpoints").is_dir():
        found = newest(path / "checkpoints", tell)
        if found is None:
            raise IntegrityError(f"--resume '{path}': the run holds no verified checkpoint")
        path = found
    return _of_this_run(path, identity)


def _of_this_run(checkpoint: Path, identity: Identity) -> Path:
    before = verify(checkpoint)["identity"]
    _check_recipe(checkpoint / "recipe.yaml", identity)
    if before["data"] != identity.data:
        raise _other_data(checkpoint, before["data"], identity.data)
    if (epoch := before.get("epoch")) != str(CODE_EPOCH):
        raise IntegrityError(
            f"'{checkpoint}' was trained by code of epoch {epoch or 'unknown'}; this is epoch {CODE_EPOCH}, in which "
            "the same recipe gives other numbers. Give --out another folder, or --resume never to begin anew, which "
            "removes what is there"
        )
    return checkpoint


def finished(folder: Path, identity: Identity) -> dict[str, Any] | None:
    """What ``result.json`` holds where a run of the same recipe, data and code epoch has ended."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = result.get("recipe"), result.get("epoch"), _data_of(folder)
    return result if found == (identity.hash, CODE_EPOCH, identity.data) else None


def _check_recipe(path: Path, identity: Identity) -> None:
    if not path.exists():
        return
    try:
        before = load_recipe(path).recipe
    except RecipeError as error:
        raise IntegrityError(
            f"'{path}' cannot be read by this version of mmbert. Give --out another folder, or --resume never to begin "
            f"anew, which removes what is there\n{error}"
        ) from error
    if recipe_hash(before) != identity.hash:
        differences = "\n".join(
            f"  {key}: {old} then, {new} now" for key, old, new in recipe_changes(before, identity.recipe)
        )
        raise IntegrityError(
            f"'{path}' is of another recipe:\n{differences}\nGive --out another folder, or --resume never to begin "
            "anew, which removes what is there"
        )


def _check_data(folder: Path, identity: Identity) -> None:
    before = _data_of(folder)
    if before is not None and before != identity.data:
        raise _other_data(folder, before, identity.data)


def _data_of(folder: Path) -> str | None:
    """The fingerprint of the data that a run was trained on, if its folder tells."""
    try:
        return json.loads((folder / "data.json").read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError):
        return None


def _other_data(path: Path, before: str, now: str) -> IntegrityError:
    return IntegrityError(
        f"'{path}' was trained on other data: fingerprint {before} then, {now} now. Restore the data, or give --out "
        "another folder, or --resume never to begin anew"
    )
