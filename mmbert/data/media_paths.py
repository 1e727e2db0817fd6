"""Paths of media files in rows: they stay inside the media folder, alone, in lists and in ``{"path": ...}``."""

import re
from itertools import islice
from pathlib import Path
from typing import Any

from mmbert.errors import SampleError, nearest_word

CLIPPED = 60  # characters of a value that messages show
MANY = 10_000  # files of a folder among which the nearest name is looked for
BASE64 = re.compile(r"(/9j/|iVBORw0KGgo|R0lGOD|UklGR|SUkq|Qk[0-9])|[A-Za-z0-9+/]{60,}={0,2}$")


def resolve_media_value(value: Any, root: Path | None) -> Any:
    """A raw value with absolute paths in place of those that it names, at any depth.

    A string is a path; so is the entry ``path`` of a dict without ``bytes`` and ``array``. Other values stay.

    Args:
        value: of an input that reads files.
        root: see ``resolve_media_path``.

    Raises:
        SampleError: see ``resolve_media_path``.
    """
    if isinstance(value, str):
        return resolve_media_path(value, root)
    if isinstance(value, list | tuple):
        return [resolve_media_value(entry, root) for entry in value] if _has_path(value) else value
    if isinstance(value, dict) and isinstance(path := value.get("path"), str):
        names_file = value.get("bytes") is None and value.get("array") is None
        return {**value, "path": resolve_media_path(path, root)} if names_file else value
    return value


def _has_path(value: Any) -> bool:
    return any(isinstance(entry, str | dict | list | tuple) for entry in value)


def resolve_media_path(value: str, root: Path | None) -> str:
    """The absolute path of a media file.

    Args:
        value: the path in the row: relative to ``root``, or absolute and inside of it.
        root: the media folder; None allows no paths.

    Raises:
        SampleError: where the file does not exist or lies outside of ``root``, by ``..`` or through a symbolic link.
    """
    shown = f"{value[:CLIPPED]!r}{' ...' if len(value) > CLIPPED else ''}"
    if root is None:
        raise SampleError(
            f"expected no path, as the source has no media folder, however: {shown}{_hint(value)}. Set 'media'"
        )
    try:
        root = root.resolve(strict=True)
        path = (root / value).resolve(strict=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        hint = _hint(value) or _near_file(value, root)
        if isinstance(error, FileNotFoundError) and ".." not in Path(value).parts:
            raise SampleError(f"there is no file {shown} in '{root}'{hint}") from error
        raise SampleError(f"{shown} is not the path of a file in '{root}'{hint}") from error
    if not path.is_relative_to(root):
        raise SampleError(f"{shown} leads out of '{root}': media must lie inside it. Set 'media' to their folder")
    if not path.is_file():
        raise SampleError(f"{shown} is not a file")
    return str(path)


def _hint(value: str) -> str:
    """What a value that is no path looks like."""
    if value.lstrip().startswith("data:"):
        return ": a data URI. Write the bytes to files, or into a Parquet column {bytes, path}"
    if re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]+://", value):
        return ": a URL. Files are not downloaded: name local ones"
    if BASE64.match(value):
        return ": this looks like base64. Write the bytes to files, or into a Parquet column {bytes, path}"
    if re.match(r"[A-Za-z]:[\\/]", value):
        return ": a path of Windows. Write it relative to the media folder, with '/'"
    return ""


def _near_file(value: str, root: Path) -> str:
    """The file that is perhaps meant: with '/' for the backslash of Windows, without blanks, in other letter case."""
    reason = ": a path of Windows, write '/'" if "\\" in value else ""
    if value != value.strip():
        reason += ": it has blanks at its ends"
    parts, folder, place = Path(value.strip().replace("\\", "/")).parts, root, []
    if len(value) > 500 or ".." in parts or "\0" in value or value.startswith("/"):
        return reason
    for part in parts:
        try:
            names = [entry.name for entry in islice(folder.iterdir(), MANY)]
        except OSError:
            return reason
        name = part if part in names else nearest_word(part, names)
        if name is None:
            return reason
        folder, place = folder / name, [*place, name]
    return f"{reason}. Did you mean '{'/'.join(place)}'?" if place else reason
