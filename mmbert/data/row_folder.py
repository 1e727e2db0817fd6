"""The folder in the cache that holds the rows of a source: one Arrow file, and the files that its rows come from."""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

ROWS_FILE = "rows.arrow"


def write_rows(folder: Path, tables: Iterable[tuple[str, pa.Table]]) -> None:
    """Write tables of one schema into a folder that ``ArrowRows`` can open.

    Args:
        folder: an existing folder.
        tables: pairs (name of the file that the rows come from, table). Pieces of one file follow each other.
    """
    tables = iter(tables)
    name, table = next(tables)
    sizes, notes = {name: len(table)}, _notes(table)
    with pa.ipc.new_file(str(folder / ROWS_FILE), table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None), max_chunksize=1 << 16)
        for name, table in tables:
            writer.write_table(table.replace_schema_metadata(None), max_chunksize=1 << 16)
            sizes[name] = sizes.get(name, 0) + len(table)
            notes += _notes(table)
    (folder / "parts.json").write_text(json.dumps(list(sizes.items())))
    (folder / "notes.json").write_text(json.dumps(notes))


def _notes(table: pa.Table) -> list[str]:
    return json.loads((table.schema.metadata or {}).get(b"notes", b"[]"))


def read_parts(folder: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """The files that the rows come from, each with the number of its rows, and the sentences about them.

    Args:
        folder: that ``write_rows`` filled.
    """
    notes = folder / "notes.json"
    return json.loads((folder / "parts.json").read_text()), json.loads(notes.read_text()) if notes.exists() else []
