"""Files that a user asks for by ``--output``: nothing that exists is replaced without being asked to."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmbert.errors import RecipeError
from mmbert.io.atomic import atomic_path


def check_output(path: str | Path, *, overwrite: bool, inputs: Iterable[str | Path] = ()) -> Path:
    """Check that an output may be written, before the work that leads to it begins.

    Args:
        path: the file to write; a symbolic link is followed.
        overwrite: whether an existing file may be replaced.
        inputs: files that are read, which are never replaced.

    Returns:
        The path with links resolved.

    Raises:
        RecipeError: where the path is a folder, a device or anything else than a file, where it is an input, and where
            it exists and may not be replaced.

    Example:
        >>> check_output("/dev/null", overwrite=True)
        Traceback (most recent call last):
        mmbert.errors.RecipeError: --output '/dev/null' must be a file; it is a device
    """
    target = Path(path).expanduser().resolve()
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "a device" if _is_device(target) else "neither a file nor a folder"
        raise RecipeError(f"--output '{path}' must be a file; it is {kind}")
    for read in inputs:
        if Path(read).expanduser().resolve() == target or (target.exists() and _same_file(target, Path(read))):
            raise RecipeError(f"--output '{path}' is the input: choose another file, so that the input stays")
    if target.exists() and not overwrite:
        raise RecipeError(f"--output '{path}' exists: --overwrite replaces it")
    return target


@contextmanager
def output_path(path: str | Path, *, overwrite: bool, inputs: Iterable[str | Path] = ()) -> Iterator[Path]:
    """A temporary path that becomes the output at the end; after an error the output is as it was.

    Args:
        path: the file to write; a symbolic link is followed.
        overwrite: whether an existing file may be replaced.
        inputs: files that are read, which are never replaced.

    Raises:
        RecipeError: as ``check_output``, at the start and again at the end.
    """
    inputs = list(inputs)
    target = check_output(path, overwrite=overwrite, inputs=inputs)
    with atomic_path(target) as temporary:
        yield temporary
        check_output(path, overwrite=overwrite, inputs=inputs)  # another program may have written it meanwhile


def _is_device(path: Path) -> bool:
    return path.is_char_device() or path.is_block_device()


def _same_file(path: Path, read: Path) -> bool:
    """Whether two names are of one file (hard links)."""
    try:
        return path.samefile(read.expanduser())
    except OSError:
        return False
