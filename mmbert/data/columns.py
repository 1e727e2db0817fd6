"""The columns of a source that fill the inputs and tasks of a recipe, and the paths of media files."""

from collections.abc import Collection, Mapping
from pathlib import Path

from mmbert.contracts import Field
from mmbert.errors import DataError, SampleError, nearest

# input or task -> the source's column, or several columns by their names in the recipe
ColumnsByField = dict[str, str | dict[str, str]]


def check_column_exists(source: str, column: str, names: Collection[str], option: str) -> None:
    """Check that a column exists.

    Args:
        source: the source's name, for the message.
        column: the column to look for.
        names: the columns that exist.
        option: the option that names the column, for the message.

    Raises:
        DataError: where the column does not exist, with the nearest name.
    """
    if column not in names:
        raise DataError(f"{source}: there is no column '{column}', as '{option}' says. {nearest(column, names)}")


def match_columns(
    source: str, fields: Mapping[str, Field], columns: Mapping[str, str], names: Collection[str]
) -> ColumnsByField:
    """Find the columns of each field. A field without any of its columns is left out.

    Args:
        source: the source's name, for messages.
        fields: the recipe's inputs and targets by name.
        columns: the source's column -> its name in the recipe, where they differ.
        names: the columns that exist.

    Raises:
        DataError: where ``columns`` names a column that does not exist, or a name that no field reads or that two
            columns claim; where only some of the columns of a field exist.
    """
    readable = {column for field in fields.values() for column in _columns_of(field)}
    origin = {name: name for name in names if name not in columns}  # the recipe's name -> the source's column
    claimed: dict[str, str] = {}
    for column, name in columns.items():
        check_column_exists(source, column, names, "columns")
        if name not in readable:
            raise DataError(f"{source}: no input or task reads '{name}', as 'columns' says. {nearest(name, readable)}")
        if claimed.setdefault(name, column) != column:
            raise DataError(f"{source}: 'columns' gives '{claimed[name]}' and '{column}' the same name, '{name}'")
    origin.update(claimed)

    matched: ColumnsByField = {}
    for field_name, field in fields.items():
        missing = [column for column in _columns_of(field) if column not in origin]
        if not missing:
            origins = {column: origin[column] for column in _columns_of(field)}
            matched[field_name] = origins.popitem()[1] if isinstance(field.column, str) else origins
        elif len(missing) < len(field.column) and not isinstance(field.column, str):
            raise DataError(
                f"{source}: '{field_name}' reads {len(field.column)} columns, but there is no '{missing[0]}'. "
                f"{nearest(missing[0], origin)}"
            )
    return matched


def _columns_of(field: Field) -> tuple[str, ...]:
    return (field.column,) if isinstance(field.column, str) else field.column


def resolve_media_path(value: str, root: Path | None) -> str:
    """The absolute path of a media file.

    Args:
        value: the path in the row: relative to ``root``, or absolute and inside of it.
        root: the media folder; None allows no paths.

    Raises:
        SampleError: where the file does not exist or lies outside of ``root``, by ``..`` or through a symbolic link.
    """
    if root is None:
        raise SampleError(f"expected no path, as the source has no media folder, however: {value!r}. Set 'media'")
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
