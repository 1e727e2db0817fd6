"""What a source says of the columns that a recipe reads: kind, counts, what was done, and what looks like a mistake."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as compute

from mmbert.contracts import Field
from mmbert.data.cells import describe_conversion
from mmbert.data.column_types import BOOLEAN, NUMBER, kind_of, read_done
from mmbert.data.columns import ColumnsByField
from mmbert.types import ColumnSummary, SourceSummary

pc: Any = compute  # its functions are made at run time

MANY_CELLS = 20  # from which on a column in which nearly every cell differs is suspicious
NEARLY = 0.9
SHOWN = 6  # columns or words that a sentence lists
MISSING_WORD = r"^(?i:na|n/a|nan|null|none|<na>|nat|\?)$"
LEADING_ZERO = r"^-?0\d+$"
DECIMAL_COMMA = r"^[+-]?\d*,\d+$"
THOUSANDS = r"^[+-]?\d{1,3}([,.' ]\d{3})+([.,]\d*)?$"
CURRENCY = r"^[+-]?[$€£¥]\s?[\d.,' ]+$|^[+-]?[\d.,' ]+\s?[$€£¥%]$"
DATE = r"^\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?$|^\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}$"
ROLES = {"text": "text", "label": "a class", "category": "a category"}


@dataclass(frozen=True)
class _Column:
    name: str
    fields: tuple[str, ...]
    roles: frozenset[str]  # text, file, label, category
    cells: pa.ChunkedArray
    field: pa.Field

    @property
    def categorical(self) -> bool:
        return bool(self.roles & {"label", "category"}) and "text" not in self.roles


def summarise(
    source: str,
    table: pa.Table,
    inputs: tuple[Mapping[str, Field], ColumnsByField],
    targets: tuple[Mapping[str, Field], ColumnsByField],
    notes: Sequence[str],
) -> SourceSummary:
    """The summary of a table's columns.

    Args:
        source: its name in the recipe.
        table: all rows.
        inputs: the recipe's inputs, and their columns in the table.
        targets: the same of the recipe's targets.
        notes: what reading the files says.
    """
    columns = [*_read_columns(table, inputs, targets)]
    summaries = tuple(_summarise_column(column) for column in columns)
    warnings = [*notes, *_describe_reading(columns)]
    for column, summary in zip(columns, summaries, strict=True):
        warnings += _suspicions(column, summary)
    kinds = {}
    for fields, matched in (inputs, targets):
        for name, place in matched.items():
            origins = {str(fields[name].column): place} if isinstance(place, str) else place
            kinds |= {column: _kind(table.schema.field(origin)) for column, origin in origins.items()}
    warnings = tuple(f"{source}: {sentence}" for sentence in warnings)
    return SourceSummary(tuple(table.column_names), summaries, warnings, {"kinds": kinds})


def _read_columns(
    table: pa.Table,
    inputs: tuple[Mapping[str, Field], ColumnsByField],
    targets: tuple[Mapping[str, Field], ColumnsByField],
) -> Iterator[_Column]:
    readers: dict[str, tuple[list[str], set[str]]] = {}
    for fields, matched in (inputs, targets):
        for name, place in matched.items():
            processor = fields[name].processor
            for column in [place] if isinstance(place, str) else place.values():
                names, roles = readers.setdefault(column, ([], set()))
                names.append(name)
                if processor.reads_text:
                    roles.add("text")
                elif processor.reads_files:
                    roles.add("file")
                elif fields is targets[0]:
                    roles.add("label")
                elif not isinstance(place, str):
                    roles.add("category")
    for name, (names, roles) in readers.items():
        cells, field = table[name], table.schema.field(name)
        if (
            "file" not in roles
            and pa.types.is_struct(field.type)
            and all(kind_of(inner.type) != "other" for inner in field.type)
        ):
            for place, inner in enumerate(field.type):
                part = pc.struct_field(cells, [place])
                part = part if isinstance(part, pa.ChunkedArray) else pa.chunked_array([part], inner.type)
                role = frozenset(roles or {"category"})
                yield _Column(f"{name}.{inner.name}", (*names,), role, part, inner)
        else:
            yield _Column(name, (*names,), frozenset(roles), cells, field)


def _summarise_column(column: _Column) -> ColumnSummary:
    cells, kind = _plain(column.cells), _kind(column.field)
    missing = cells.null_count
    if pa.types.is_floating(cells.type):
        missing += pc.sum(pc.is_nan(cells)).as_py() or 0
    first = cells.slice(0, 1000).drop_null()
    distinct = None
    if kind != "other":
        distinct, first = pc.count_distinct(cells.drop_null()).as_py(), first.unique()
    nested = pa.types.is_nested(cells.type) or pa.types.is_binary(cells.type)
    examples = tuple(str(value)[:24] for value in first[: 1 if nested else 3].to_pylist())
    done = read_done(column.field)
    words = ", ".join(f"'{word}' {count}" for word, count in done.get("missing", {}).items())
    sentences = [
        f"{done['blanks']} cells without their blanks" if done.get("blanks") else "",
        f"missing: {words}" if words else "",
        describe_conversion(column.field.type),
        "text as it is written" if "text" in column.roles and kind == "text" else "",
    ]
    kind = kind if kind != "other" else _name_type(column.field)
    return ColumnSummary(
        column.name, column.fields, kind, len(cells), missing, distinct, examples, "; ".join(filter(None, sentences))
    )


def _kind(field: pa.Field) -> str:
    return "other" if field.metadata and field.metadata.get(b"json") else kind_of(field.type)


def _name_type(field: pa.Field) -> str:
    """The type of a column in one word."""
    if _kind(field) == "other" and pa.types.is_string(field.type):
        return "objects"
    return re.split(r"[<\[(]", str(field.type))[0].replace("struct", "object")


def _plain(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    return cells.cast(cells.type.value_type) if pa.types.is_dictionary(cells.type) else cells


def _describe_reading(columns: Sequence[_Column]) -> Iterator[str]:
    """What was done to cells, a sentence for all columns."""
    done = {column.name: read_done(column.field) for column in columns}
    for key, sentence in (("empty", "empty cells are missing values"), ("blanks", "blanks around cells are removed")):
        if counts := {name: entry[key] for name, entry in done.items() if entry.get(key)}:
            yield f"{sentence}: {_list(counts)}"
    words = {
        f"{name}' '{word}": count for name, entry in done.items() for word, count in entry.get("missing", {}).items()
    }
    if words:
        yield f"words that are missing values (column, word, cells): {_list(words)}"
    conversions = {column.name: text for column in columns if (text := describe_conversion(column.field.type))}
    if conversions:
        yield "; ".join(f"'{name}' is {text}" for name, text in conversions.items())


def _suspicions(column: _Column, summary: ColumnSummary) -> Iterator[str]:
    cells = _plain(column.cells).drop_null()
    if pa.types.is_list(cells.type) and len(cells) and not pc.max(pc.list_value_length(cells)).as_py():
        yield f"the column '{column.name}' holds nothing: every list is empty"
    if _kind(column.field) != "text" or not len(cells):
        return
    if not pc.max(pc.utf8_length(pc.utf8_trim_whitespace(cells))).as_py():
        yield f"the column '{column.name}' holds nothing: every text is empty"
        return
    missing = cells.filter(pc.match_substring_regex(cells, MISSING_WORD))
    numeric = "" if not column.categorical else _number_suspicion(column, cells)
    if len(missing) and not numeric:
        words = {entry["values"]: entry["counts"] for entry in pc.value_counts(missing).to_pylist()}
        role = next(name for role, name in ROLES.items() if role in {*column.roles, "category"})
        yield (
            f"the column '{column.name}' has {_list(words)}, each read as {role}. If they mean missing: "
            f"na_values: [{', '.join(map(repr, words))}] of the source"
        )
    if numeric:
        yield numeric
    elif column.categorical and len(cells) >= MANY_CELLS and (summary.distinct or 0) >= NEARLY * len(cells):
        yield (
            f"the column '{column.name}' has {summary.distinct} different texts in {len(cells)} cells: as "
            f"{'classes' if 'label' in column.roles else 'categories'} they can only be learned by heart"
        )


def _number_suspicion(column: _Column, cells: pa.ChunkedArray) -> str:
    """A sentence where most cells of a column of categories are numbers or dates in some notation; else empty."""
    share = {
        pattern: pc.sum(pc.match_substring_regex(cells, pattern)).as_py()
        for pattern in (NUMBER, DECIMAL_COMMA, THOUSANDS, CURRENCY, DATE, LEADING_ZERO, BOOLEAN)
    }
    read = f"the column '{column.name}' is read as {'classes' if 'label' in column.roles else 'categories'}, though"
    most = max((DECIMAL_COMMA, THOUSANDS, CURRENCY, DATE), key=lambda pattern: share[pattern])
    if share[DATE] * 2 > len(cells):
        return f"{read} {share[DATE]} of {len(cells)} cells look like dates. Dates in text are not read: write numbers"
    if (share[NUMBER] + share[most]) * 2 <= len(cells) or share[NUMBER] + share[LEADING_ZERO] == len(cells):
        return ""
    others = cells.filter(pc.invert(pc.match_substring_regex(cells, NUMBER)))
    words = {entry["values"]: entry["counts"] for entry in pc.value_counts(others).to_pylist()}
    ways = {
        DECIMAL_COMMA: "a decimal comma: the source's option decimal: ','",
        THOUSANDS: "signs between thousands: the source's option 'thousands' (and 'decimal')",
        CURRENCY: "signs of a currency or percent: remove them in the file",
    }
    listed = ", ".join(map(repr, [*words][:SHOWN]))
    way = ways[most] if share[most] else f"words for missing values: the source's option na_values: [{listed}]"
    if not share[NUMBER]:
        return f"{read} its cells are numbers, such as '{next(iter(words))}', with {way}"
    return f"{read} {share[NUMBER]} of {len(cells)} cells are numbers; others are {_list(words)}, perhaps {way}"


def _list(counts: Mapping[str, int]) -> str:
    listed = ", ".join(f"'{name}' {count}" for name, count in [*counts.items()][:SHOWN])
    return listed + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")
