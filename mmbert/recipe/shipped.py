"""The recipes and studies that are installed with mmbert, found by their bare names."""

import os
import re
from importlib.resources import files
from pathlib import Path

from mmbert.errors import RecipeError, nearest

STUDIES = "ablations"  # the folder of study files within the folder of recipes


def shipped_folder() -> Path:
    """Return the folder of the recipes that are installed with mmbert.

    A wheel holds them as ``mmbert/recipes``; in a checkout they are the folder ``recipes`` beside the package.
    """
    package = Path(str(files("mmbert")))
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def shipped_names(kind: str = "recipe") -> list[str]:
    """Return the sorted names of the shipped recipes, or of the shipped studies.

    Args:
        kind: ``"recipe"`` or ``"study"``.
    """
    return sorted(file.stem for file in _folder(kind).glob("*.yaml"))


def find_shipped(path: str | os.PathLike[str], kind: str = "recipe") -> str:
    """Return the path of a recipe or study that is given as a path, or as the bare name of a shipped one.

    A file at ``path`` comes first. A path with a folder or a suffix is returned as it is, whether it exists or not.

    Args:
        path: a path, or a bare name such as ``quickstart``.
        kind: ``"recipe"`` or ``"study"``.

    Raises:
        RecipeError: if ``path`` is a bare name of neither a file nor a shipped recipe or study.

    Example:
        >>> Path(find_shipped("quickstart")).name, find_shipped("lab/quickstart.yaml")
        ('quickstart.yaml', 'lab/quickstart.yaml')
    """
    text = os.fspath(path)
    name = text.removeprefix(f"{STUDIES}/") if kind == "study" else text
    if not re.fullmatch(r"[\w-]+", name) or (os.path.exists(text) and not os.path.isdir(text)):
        return text
    file = _folder(kind) / f"{name}.yaml"
    if file.is_file():
        return str(file)
    raise RecipeError(
        f"expected a file or the name of a {kind} that is installed with mmbert, found '{text}'. "
        f"{nearest(name, shipped_names(kind))}"
    )


def described_files(kind: str = "recipe") -> list[tuple[str, str]]:
    """List the recipes or studies below the folder ``recipes`` of the current folder, then the shipped ones.

    Args:
        kind: ``"recipe"`` or ``"study"``.

    Returns:
        Pairs of a path (of a shipped file its bare name) and its description, the end of the file's first line.
    """
    local, shipped = _folder(kind, Path("recipes")), _folder(kind)
    paths = {str(path): path for path in sorted(local.glob("*.yaml"))}
    if local.resolve() != shipped.resolve():
        paths |= {path.stem: path for path in sorted(shipped.glob("*.yaml"))}
    return [(name, _first_line(path).partition(" - ")[2]) for name, path in paths.items()]


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as stream:
        return stream.readline().rstrip("\n")


def _folder(kind: str, recipes: Path | None = None) -> Path:
    recipes = recipes or shipped_folder()
    return recipes / STUDIES if kind == "study" else recipes
