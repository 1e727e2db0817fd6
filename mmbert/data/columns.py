"""The columns of a source that fill the inputs and tasks of a recipe."""

from collections.abc import Collection, Mapping

from mmbert.contracts import Field
from mmbert.errors import DataError, nearest

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


def find_column(column: str, names: Collection[str]) -> str:
    """The column of a name; reading a CSV file removes the blanks around names, which a recipe may still write.

    Args:
        column: as the recipe has it.
        names: the columns that exist.
    """
    return column.strip() if column not in names and column.strip() in names else column


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
    columns = {find_column(column, names): name for column, name in columns.items()}
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
        missing = [column for column in _columns_of(field) if find_column(column, origin) not in origin]
        if not missing:
            origins = {column: origin[find_column(column, origin)] for column in _columns_of(field)}
            matched[field_name] = origins.popitem()[1] if isinstance(field.column, str) else origins
        elif len(missing) < len(field.column) and not isinstance(field.column, str):
            raise DataError(
                f"{source}: '{field_name}' reads {len(field.column)} columns, but there is no '{missing[0]}'. "
                f"{nearest(missing[0], origin)}"
            )
    return matched


def _columns_of(field: Field) -> tuple[str, ...]:
    return (field.column,) if isinstance(field.column, str) else field.column
