"""The manifest of a checkpoint: what it is, and size and hash of each file; what it says is what counts as saved."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmbert.errors import IntegrityError
from mmbert.io import storage

NAME = "manifest.json"
EARLY = "-not-evaluated"
KIND = "mmbert checkpoint"
FORMAT = 1  # raised when what a checkpoint holds changes its meaning
REQUIRED = frozenset(
    {"model.safetensors", "optimizer.safetensors", "optimizer.json", "processors.safetensors", "parts.json",
     "trainer.json", "recipe.yaml"}
)  # fmt: skip


def seal(folder: Path, step: int, identity: Mapping[str, str]) -> None:
    """Write the manifest of the files in a folder: the last of them."""
    files = {path.name: storage.measure(path) for path in storage.entries(folder)}
    content = {"kind": KIND, "format": FORMAT, "step": step, "identity": dict(identity), "files": files}
    text = json.dumps({**content, "blake2b": _digest(content)}, indent=1)
    storage.write(folder / NAME, text.encode())


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, all of whose files are as they were saved; every byte is read, none is believed.

    Raises ``IntegrityError`` naming the file and the fact where it is no checkpoint, is that of another step than its
    folder says, has a newer format, or where a file is missing or changed.
    """
    content = _read(path)
    for name, fact in content["files"].items():
        file = path / name
        try:
            if not file.is_file():
                raise IntegrityError(f"'{file}' is missing: the manifest lists it")
            if (size := file.stat().st_size) != fact["size"]:  # told without reading it
                raise IntegrityError(f"'{file}' is damaged: it has {size} bytes, {fact['size']} were saved")
            if storage.measure(file) != fact:
                raise IntegrityError(f"'{file}' is damaged: its {size} bytes are not those that were saved")
        except OSError as error:
            raise IntegrityError(f"'{file}' cannot be read: {error}") from error
    return content


def newest(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest verified checkpoint in a folder; ``tell`` hears why a newer one is passed over."""
    found = steps(folder)
    for path in sorted(found, key=lambda path: (found[path], EARLY not in path.name), reverse=True):
        try:
            verify(path)
        except IntegrityError as error:
            tell(f"the checkpoint {path.name} is passed over: {error}")
        else:
            return path
    return None


def checkpoint_name(step: int, *, evaluated: bool) -> str:
    """What the folder of a checkpoint is called; one that came before the step's evaluation says so."""
    return f"step-{step}" if evaluated else f"step-{step}{EARLY}"


def steps(folder: Path) -> dict[Path, int]:
    """The checkpoints in a folder with their steps, verified or not."""
    names = {path: re.fullmatch(rf"step-(0|[1-9]\d*)({EARLY})?", path.name) for path in storage.entries(folder)}
    return {path: int(name[1]) for path, name in names.items() if name}


def _read(path: Path) -> dict[str, Any]:
    """The manifest alone, checked in itself."""
    file = path / NAME
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise IntegrityError(f"'{path}' is not a whole checkpoint of mmbert: it has no {NAME}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"'{file}' cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise IntegrityError(f"'{file}' is not the manifest of a checkpoint of mmbert: it lacks the kind '{KIND}'")
    if isinstance(number := content.get("format"), int) and number > FORMAT:
        raise IntegrityError(f"'{file}' has format {number}; this version of mmbert reads up to {FORMAT}: update it")
    if content.pop("blake2b", None) != _digest(content):
        raise IntegrityError(f"'{file}' is damaged: its content does not match its own hash")
    name = path.resolve().name
    if name not in {checkpoint_name(content["step"], evaluated=known) for known in (True, False)}:
        raise IntegrityError(f"'{file}' is that of step {content['step']}, but its folder is called '{name}'")
    if missing := REQUIRED - content["files"].keys():
        raise IntegrityError(f"'{file}' does not list {', '.join(sorted(missing))}")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=32).hexdigest()
