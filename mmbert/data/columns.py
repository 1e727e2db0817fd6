"""Which columns of a source fill which inputs and tasks of the recipe."""

from collections.abc import Collection, Mapping
from pathlib import Path

from mmbert.contracts import Field
from mmbert.errors import DataError, SampleError, nearest

ColumnsByField = dict[
    str, str | dict[str, str]
]  # input or task -> the source's column, or several under the recipe's names


def check_column_exists(source: str, column: str, names: Collection[str], option: str) -> str:
    """``column``, which ``option`` names. Raises ``DataError`` where it is not one of ``names``."""
    if column not in names:
        raise DataError(f"{source}: there is no column '{column}', as '{option}' says. {nearest(column, names)}")
    return column


def match_columns(
    source: str, fields: Mapping[str, Field], columns: Mapping[str, str], names: Collection[str]
) -> ColumnsByField:
    """The fields that the columns ``names`` fill; ``columns`` renames some: the source's column -> the recipe's name.

    A field of which no column is there is left out. Raises ``DataError`` where ``columns`` names a column that is not
    there, or a name that no field reads or that two columns claim, and where a field would be filled in part.
    """
    wanted = {column for field in fields.values() for column in _read_by(field)}
    origin = {name: name for name in names if name not in columns}  # the recipe's name -> the source's column
    claimed: dict[str, str] = {}
    for column, name in columns.items():
        check_column_exists(source, column, names, "columns")
        if name not in wanted:
            raise DataError(f"{source}: no input or task reads '{name}', as 'columns' says. {nearest(name, wanted)}")
        if claimed.setdefault(name, column) != column:
            raise DataError(f"{source}: 'columns' gives '{claimed[name]}' and '{column}' the same name, '{name}'")
    origin.update(claimed)

    result: ColumnsByField = {}
    for field_name, field in fields.items():
        missing = [column for column in _read_by(field) if column not in origin]
        if not missing:
            columns_of = {column: origin[column] for column in _read_by(field)}
            result[field_name] = columns_of.popitem()[1] if isinstance(field.column, str) else columns_of
        elif len(missing) < len(field.column) and not isinstance(field.column, str):
            raise DataError(
                f"{source}: '{field_name}' reads {len(field.column)} columns, but there is no '{missing[0]}'. "
                f"{nearest(missing[0], origin)}"
            )
    return result


def _read_by(field: Field) -> tuple[str, ...]:
    return (field.column,) if isinstance(field.column, str) else field.column


def resolve_media_path(value: str, root: Path | None) -> str:
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
