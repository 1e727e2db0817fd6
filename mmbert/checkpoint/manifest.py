"""The manifest of a checkpoint, with size and hash of each file.

Written last; its presence marks a checkpoint complete.
"""

import hashlib
import json
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmbert.errors import IntegrityError
from mmbert.io import storage

MANIFEST = "manifest.json"
EARLY = "-not-evaluated"
KIND = "mmbert checkpoint"
MAX_BYTES = 1_000_000  # of a manifest
FORMAT = 1  # increased when the content of a checkpoint changes its meaning
REQUIRED = frozenset(
    {
        "model.safetensors",
        "optimizer.safetensors",
        "optimizer.json",
        "processors.safetensors",
        "parts.json",
        "trainer.json",
        "recipe.yaml",
    }
)
FILES = REQUIRED | {MANIFEST, "raw.safetensors"}  # all that a checkpoint may hold


def seal(folder: Path, step: int, identity: Mapping[str, str]) -> None:
    """Write the manifest of the files in a folder, as the last file.

    Args:
        folder: of the checkpoint.
        step: the number of optimiser steps done.
        identity: of the run: the recipe's hash and the fingerprint of the data.
    """
    files = {path.name: storage.measure(path) for path in storage.entries(folder)}
    content = {"kind": KIND, "format": FORMAT, "step": step, "identity": dict(identity), "files": files}
    text = json.dumps({**content, "blake2b": _digest(content)}, indent=1)
    storage.write(folder / MANIFEST, text.encode())


def verify(path: Path) -> dict[str, Any]:
    """Check every byte of a checkpoint against its manifest.

    Args:
        path: of the checkpoint.

    Returns:
        The manifest.

    Raises:
        IntegrityError: naming the file and what is wrong with it: it is not a checkpoint, belongs to another step than
            its folder says, has a newer format, or a file is missing or changed.
    """
    content = _read(path)
    for name, fact in content["files"].items():
        file = path / name
        try:
            if not file.exists():
                raise IntegrityError(f"'{file}' is missing: the manifest lists it")
            if not _is_plain_file(file):
                raise IntegrityError(f"'{file}' must be a regular file: a link or a device may lead anywhere")
            if (size := file.stat().st_size) != fact["size"]:  # known without reading the file
                raise IntegrityError(f"'{file}' is damaged: it has {size} bytes, {fact['size']} were saved")
            if storage.measure(file) != fact:
                raise IntegrityError(f"'{file}' is damaged: its {size} bytes are not those that were saved")
        except OSError as error:
            raise IntegrityError(f"'{file}' cannot be read: {error}") from error
    return content


def newest(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest verified checkpoint in a folder, if there is one.

    Args:
        folder: of the checkpoints.
        warn: called with the reason for each newer checkpoint that is skipped.
    """
    step_of = steps(folder)
    for path in sorted(step_of, key=lambda path: (step_of[path], EARLY not in path.name), reverse=True):
        try:
            verify(path)
        except IntegrityError as error:
            warn(f"the checkpoint {path.name} is skipped: {error}")
        else:
            return path
    return None


def checkpoint_name(step: int, *, evaluated: bool) -> str:
    """The name of a checkpoint's folder.

    Args:
        step: the number of optimiser steps done.
        evaluated: whether the evaluation of that step came before the save.
    """
    return f"step-{step}" if evaluated else f"step-{step}{EARLY}"


def steps(folder: Path) -> dict[Path, int]:
    """The checkpoints in a folder, verified or not: path -> step."""
    names = {path: re.fullmatch(rf"step-(0|[1-9]\d*)({EARLY})?", path.name) for path in storage.entries(folder)}
    return {path: int(name[1]) for path, name in names.items() if name}


def _read(path: Path) -> dict[str, Any]:
    """The manifest, checked without reading the files that it lists."""
    file = path / MANIFEST
    try:
        if not _is_plain_file(file) or file.stat().st_size > MAX_BYTES:
            raise IntegrityError(f"'{file}' must be a file of at most {MAX_BYTES // 1000} kB, and no link")
        content = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise IntegrityError(f"'{path}' is not a complete checkpoint of mmbert: it has no {MANIFEST}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"'{file}' cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise IntegrityError(f"'{file}' is not the manifest of a checkpoint of mmbert: it lacks the kind '{KIND}'")
    if isinstance(number := content.get("format"), int) and number > FORMAT:
        raise IntegrityError(f"'{file}' has format {number}; this version of mmbert reads up to {FORMAT}: update it")
    if content.pop("blake2b", None) != _digest(content):
        raise IntegrityError(f"'{file}' is damaged: its content does not match its own hash")
    if problem := _problem(content):
        raise IntegrityError(f"'{file}': {problem}")
    name = path.resolve().name
    if name not in {checkpoint_name(content["step"], evaluated=evaluated) for evaluated in (True, False)}:
        raise IntegrityError(f"'{file}' is the manifest of step {content['step']}, but its folder is called '{name}'")
    if missing := REQUIRED - content["files"].keys():
        raise IntegrityError(f"'{file}' does not list {', '.join(sorted(missing))}")
    return content


def _problem(content: Mapping[str, Any]) -> str:
    """What is wrong with the structure of a manifest; empty if nothing is."""
    step, identity, files = content.get("step"), content.get("identity"), content.get("files")
    if type(step) is not int or not 0 <= step < 1 << 63:
        return f"expected 'step' as a whole number from 0 on, found {str(step)[:40]}"
    if not isinstance(identity, dict) or not all(isinstance(value, str) for value in identity.values()):
        return "expected 'identity' as an object of texts"
    if not isinstance(files, dict):
        return "expected 'files' as an object"
    for name, fact in files.items():
        if name not in FILES:
            return f"a checkpoint has no file {name[:80]!r}"
        if not isinstance(fact, dict) or fact.keys() != {"size", "blake2b"} or type(fact["size"]) is not int:
            return f"expected size and blake2b of {name!r}, found {str(fact)[:80]}"
    return ""


def _is_plain_file(path: Path) -> bool:
    """Whether a path is a regular file itself, not a link, a pipe or a device. Raises OSError if there is none."""
    return stat.S_ISREG(path.lstat().st_mode)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=32).hexdigest()
