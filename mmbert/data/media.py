"""Paths in data files, which must stay inside the media root."""

from pathlib import Path

from mmbert.errors import SampleError


def media_path(value: str, root: Path | None) -> str:
    """The absolute path of a media file named relative to ``root`` (or absolutely, inside it).

    Raises ``SampleError`` where the file is missing or lies outside, be it by ``..`` or by a symbolic link.
    """
    if root is None:
        raise SampleError(f"expected no path, as the source has no media root, however: {value!r}. Set 'media'")
    try:
        root = root.resolve(strict=True)
        path = (root / value).resolve(strict=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, FileNotFoundError) and ".." not in Path(value).parts:
            raise SampleError(f"there is no file {value!r} in '{root}'") from error
        raise SampleError(f"{value!r} is not the path of a file in '{root}'") from error
    if not path.is_relative_to(root):
        raise SampleError(f"{value!r} leads out of '{root}': media must lie inside it. Set 'media' to their folder")
    if not path.is_file():
        raise SampleError(f"{value!r} is not a file")
    return str(path)
