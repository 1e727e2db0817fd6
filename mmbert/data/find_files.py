"""The files that a source's ``path`` names: files, folders and patterns such as ``parts/*.csv``."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from mmbert.data.readers import FORMATS
from mmbert.errors import DataError, nearest


def find_files(source: str, paths: Sequence[str]) -> dict[Path, str]:
    """The files in the order in which they are read, each with the name that messages give it.

    The files of a folder or a pattern come sorted by name. A folder's hidden files, and those that begin with ``_``,
    are passed over, and so are files of no known format.

    Args:
        source: its name in the recipe, for messages.
        paths: each a file, a folder, or a pattern with ``*``, ``?``, ``[...]`` or ``**``.

    Raises:
        DataError: where there is no such file, with the folder that was searched and the nearest name.
    """
    files: dict[Path, str] = {}
    for path in paths:
        file = Path(path).expanduser()
        if file.is_file():
            files[file] = path
        elif file.is_dir():
            files |= {inner: str(inner) for inner in _files_of_folder(source, file)}
        elif glob.has_magic(path):
            matches = sorted(match for match in glob.glob(str(file), recursive=True) if os.path.isfile(match))
            if not matches:
                raise DataError(f"{source}: no file matches '{path}' in '{Path.cwd()}'")
            files |= {Path(match): match for match in matches}
        else:
            raise DataError(_explain_missing(source, path, file))
    return files


def _files_of_folder(source: str, folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith((".", "_")))
    if readable := [file for file in files if file.name.lower().endswith((*FORMATS,))]:
        return readable
    has_folders = any(file.is_dir() for file in folder.iterdir())
    inner = " Folders in it are not searched: 'path: FOLDER/**/*.parquet' does" if has_folders else ""
    raise DataError(f"{source}: the folder '{folder}' has no file that ends in {', '.join(FORMATS)}.{inner}")


def _explain_missing(source: str, path: str, file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"{source}: there is no file '{path}': there is no folder '{folder.absolute()}'"
    neighbours = [neighbour.name for neighbour in folder.glob("*") if neighbour.name.lower().endswith((*FORMATS,))]
    return f"{source}: there is no file '{path}' in '{folder.absolute()}'. {nearest(file.name, neighbours)}"
