"""CSV and TSV files as tables of text: one row a record, with errors that name the row and the line."""

import csv
import gzip
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

import pyarrow as pa

from mmbert.data.read_options import ReadOptions
from mmbert.errors import DataError

ROWS = 8192  # that become Arrow arrays at once
LONGEST_CELL = 1 << 24  # characters; what is longer is an open quotation mark
MANY_LINES = 20  # of one record, from which on a quotation mark was perhaps left open
SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, or what a ``.gz`` file holds, to read bytes from its start."""
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb") as file:
        yield file  # pyright: ignore[reportReturnType]


def check_byte_order_mark(path: Path, head: bytes, encoding: str) -> None:
    """Refuse UTF-16 where UTF-8 is expected.

    Args:
        path: of the file, for the message.
        head: its first bytes.
        encoding: that is expected.

    Raises:
        DataError: where the file begins as UTF-16 does.
    """
    if encoding.lower().startswith("utf-8") and head[:2] in UTF_16:
        raise DataError(
            f"{path} row 1: expected UTF-8, found the byte-order mark of UTF-16. Set the source's option "
            "'encoding: utf-16', or save the file as UTF-8"
        )


def explain_encoding(place: str, byte: int, text: str, encoding: str) -> DataError:
    """The error for a byte that the encoding does not have.

    Args:
        place: file and row.
        byte: the first wrong one.
        text: around it.
        encoding: that is expected.
    """
    clean = text.encode("ascii", "replace").decode()
    return DataError(
        f"{place}: expected text in {encoding.upper()}, found the byte {byte:#04x} in {clean[:40]!r}. Set the source's "
        "option 'encoding' (cp1252: files of Windows and of Excel in Western Europe), or save the file as UTF-8"
    )


def read_csv(path: Path, separator: str, options: ReadOptions) -> pa.Table:
    """A file as a table of strings, null where a cell is empty, of which nothing is interpreted.

    A line without any character is a row in a file of one column, and nothing in others. Blanks around names of columns
    are removed. Of columns with one name the first stays; its metadata say that its name is repeated.

    Args:
        path: of the file; ``.gz`` is unpacked.
        separator: between the cells.
        options: of the source.

    Returns:
        The table. Its schema's metadata hold ``notes``, a JSON list of sentences about suspicious rows.

    Raises:
        DataError: naming row and line, on a row of another length, a quotation mark that is not closed, and bytes that
            are not of the encoding.
    """
    with open_bytes(path) as file:
        head = file.read(4)
        check_byte_order_mark(path, head, options.encoding)
        file.seek(0)
        encoding = "utf-8-sig" if options.encoding.lower() in ("utf-8", "utf8") else options.encoding
        stream = io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape", newline="")
        limit = csv.field_size_limit(LONGEST_CELL)
        try:
            return _Records(path, stream, separator, options).read()
        except UnicodeError as error:  # of an encoding whose bytes do not stand alone
            raise DataError(f"{path}: cannot be read as {options.encoding}: {error}") from error
        finally:
            csv.field_size_limit(limit)


class _Records:
    """The records of a file, of which the lines are remembered for messages."""

    def __init__(self, path: Path, stream: TextIO, separator: str, options: ReadOptions):
        self.path, self.options, self.separator = path, options, separator
        self.row = self.line = 0  # the last record, and the last of its lines, both counted from 1
        self.notes: list[str] = []
        self._stream: Iterator[str] = stream
        self._lines: list[str] = []

    def read(self) -> pa.Table:
        header = next(self._stream, "")
        if not header.strip():
            raise DataError(f"{self.path}: cannot be read: expected the names of the columns in line 1, found nothing")
        if self.separator not in header and (hint := self._other_separator(header)):
            raise DataError(f"{self.path}: expected {SEPARATORS[self.separator]} between the cells, found one{hint}")
        self._stream = itertools.chain([header], self._stream)
        initial = all(name.startswith(" ") for name in header.split(self.separator)[1:]) and self.separator in header
        reader = csv.reader(self._remembered(), delimiter=self.separator, skipinitialspace=initial)
        names = [name.strip() for name in next(reader)]
        self._check_encoding([names], first=0)
        self._close_record(names, len(names), initial)
        self.row = 0
        blocks: list[list[pa.Array]] = []
        for rows in iter(lambda: self._next_rows(reader, len(names), initial), []):
            blocks.append(self._as_arrays(rows, len(names)))
        return self._as_table(names, blocks)

    def _remembered(self) -> Iterator[str]:
        for line in self._stream:
            self._lines.append(line)
            self.line += 1
            yield line

    def _next_rows(self, reader: Iterator[list[str]], width: int, initial: bool) -> list[list[str]]:
        rows = []
        try:
            for cells in reader:
                if not cells:
                    if width > 1:  # a blank line
                        self._lines.clear()
                        continue
                    cells = [""]
                self.row += 1
                if len(cells) != width or len(self._lines) > 1:
                    self._close_record(cells, width, initial)
                elif self._lines[0].endswith(("\n", "\r")):
                    self._lines.clear()
                else:
                    self._close_record(cells, width, initial)  # the last one, perhaps with an open quotation mark
                rows.append(cells)
                if len(rows) == ROWS:
                    break
        except csv.Error as error:
            self.row += 1
            raise DataError(f"{self._place()}: cannot be read: {error}. Is a quotation mark left open?") from error
        return rows

    def _close_record(self, cells: Sequence[str], width: int, initial: bool) -> None:
        """Check a record that spans several lines, is the last one or has a wrong number of cells."""
        try:
            for _ in csv.reader(self._lines, delimiter=self.separator, skipinitialspace=initial, strict=True):
                pass
        except csv.Error as error:
            if len(self._lines) > 1 or "end of data" in str(error):
                raise DataError(
                    f"{self._place()}: a cell begins with a quotation mark that is not closed where the cell ends: "
                    f"{self._lines[0].strip()[:60]!r}. Write a quotation mark in a cell twice, and one around the cell"
                ) from error
        if len(cells) != width:
            raise DataError(
                f"{self._place()}: expected {width} cell{'s' if width > 1 else ''}, as the header has, found "
                f"{len(cells)}: {self._lines[0].strip()[:60]!r}{self._other_separator(self._lines[0])}"
            )
        lines, alike = len(self._lines), [line.count(self.separator) for line in self._lines[1:-1]]
        swallowed = width > 2 and alike and all(count == width - 1 for count in alike)
        if lines > MANY_LINES or swallowed:
            reason = f"{'as many cells as a row stand in each of them' if swallowed else 'very many'}"
            self.notes.append(f"{self._place()}: one quoted cell, {reason}: is its quotation mark left open?")
        self._lines.clear()

    def _place(self) -> str:
        first = self.line - len(self._lines) + 1
        lines = f"line {first}" if first >= self.line else f"lines {first} to {self.line}"
        return f"{self.path} row {self.row} ({lines})"

    def _other_separator(self, line: str) -> str:
        others = {mark: line.count(mark) for mark in SEPARATORS if mark != self.separator}
        mark = max(others, key=lambda mark: others[mark])
        if self.options.separator or others[mark] <= line.count(self.separator):
            return ""
        text = {"\t": '"\\t"'}.get(mark, f"'{mark}'")
        more = " and, where numbers have a decimal comma, decimal: ','" if mark == ";" else ""
        return (
            f". The file seems to be separated by {SEPARATORS[mark]}: set the source's option separator: {text}{more}"
        )

    def _as_arrays(self, rows: list[list[str]], width: int) -> list[pa.Array]:
        try:
            return [pa.array([row[place] or None for row in rows], pa.string()) for place in range(width)]
        except UnicodeEncodeError:
            self._check_encoding(rows, first=self.row - len(rows) + 1)
            raise

    def _check_encoding(self, rows: list[list[str]], first: int) -> None:
        for number, row in enumerate(rows, first):
            for cell in row:
                wrong = next((place for place, mark in enumerate(cell) if "\udc80" <= mark <= "\udcff"), None)
                if wrong is not None:
                    text, byte = cell[max(0, wrong - 20) : wrong + 20], ord(cell[wrong]) - 0xDC00
                    raise explain_encoding(f"{self.path} row {number}", byte, text, self.options.encoding)

    def _as_table(self, names: list[str], blocks: list[list[pa.Array]]) -> pa.Table:
        fields, columns = [], []
        for place, name in enumerate(names):
            if name not in names[:place]:
                repeated = names.count(name)
                metadata = {"repeated": str(repeated)} if repeated > 1 else None
                fields.append(pa.field(name, pa.string(), metadata=metadata))
                columns.append(pa.chunked_array([block[place] for block in blocks], pa.string()))
        schema = pa.schema(fields, metadata={"notes": json.dumps(self.notes)})
        return pa.Table.from_arrays(columns, schema=schema)
