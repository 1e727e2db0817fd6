"""Folders that belong to mmbert: a marker file says so, which is written before any other file."""

import json
from pathlib import Path

from mmbert.errors import IntegrityError
from mmbert.io.atomic import write_atomically

MARKER = ".mmbert"


def is_marked(folder: Path, kind: str) -> bool:
    """Whether a folder carries the marker of its kind.

    Args:
        folder: that may not exist.
        kind: what the folder holds, such as ``run``.
    """
    path = folder / MARKER
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == kind


def mark(folder: Path, kind: str) -> None:
    """Write the marker, and make the folder where it is missing.

    Args:
        folder: that belongs to mmbert from now on.
        kind: what it holds.
    """
    write_atomically(folder / MARKER, json.dumps({"kind": kind}) + "\n")


def claim(folder: Path, kind: str) -> None:
    """Claim a folder: one that carries the marker, or a missing or empty one, which is then marked.

    Args:
        folder: that files will be written into.
        kind: what it will hold.

    Raises:
        IntegrityError: where it is no folder, or holds files without the marker; nothing is written then.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     claim(Path(folder), "run")
        ...     is_marked(Path(folder), "run"), is_marked(Path(folder), "study")
        (True, False)
    """
    if folder.exists() and not folder.is_dir():
        raise IntegrityError(f"--out '{folder}' must be a folder; it is a file")
    if is_marked(folder, kind):
        return
    if folder.exists() and (names := sorted(path.name for path in folder.iterdir())):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise IntegrityError(
            f"--out '{folder}' must be missing, empty, or a {kind} of mmbert; it holds {shown}, but no marker file "
            f"{MARKER} of a {kind}. Give another folder; --adopt takes over a {kind} that an earlier version wrote"
        )
    mark(folder, kind)
