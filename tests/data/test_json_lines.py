"""JSON Lines: blank lines, lists of several types, and what is no JSON Lines."""

import json

import pytest

from mmbert.data.cells import make_converter
from mmbert.data.json_lines import mixes_numbers
from mmbert.data.read_options import ReadOptions
from mmbert.data.readers import read_tables
from mmbert.errors import DataError


def read(folder, *contents, exact=()):
    """The rows of files, as raw values."""
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"{number}.jsonl")
        paths[-1].write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = []
    for _, table in read_tables(paths, ReadOptions(exact=frozenset(exact))):
        converters = {field.name: make_converter(field) or (lambda cell: cell) for field in table.schema}
        rows += [{name: converters[name](cell) for name, cell in row.items()} for row in table.to_pylist()]
    return rows


@pytest.mark.parametrize(
    "text", ['{"x": 1}\n\n{"x": 2}\n', '\n{"x": 1}\n  \n{"x": 2}\n\n\n', '{"x": 1}\r\n\r\n{"x": 2}']
)
def test_blank_lines_are_passed_over(tmp_path, text):
    assert read(tmp_path, text) == [{"x": 1}, {"x": 2}]


def test_a_row_is_named_by_its_number_and_its_line(tmp_path):
    with pytest.raises(DataError, match=r"0.jsonl row 2 \(line 4\): not valid JSON"):
        read(tmp_path, '{"x": 1}\n\n\n{"x": \n')
    with pytest.raises(DataError, match=r"0.jsonl row 2: not valid JSON"):
        read(tmp_path, '{"x": 1}\n{"x": \n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"x": 1}, {"x": 2}]', "found one JSON array. .*jq"),
        ('[\n {"x": 1},\n {"x": 2}\n]\n', "found one JSON array. .*jq"),
        ('[{\n"x": 1}]', "found one JSON array"),
        ('{\n"x": 1\n}\n', "an object must stand on one line"),
        ('{"x": "caf\xe9"}\n'.encode("latin-1"), "line 1: expected text in UTF-8, found the byte 0xe9"),
        ('{"x": 1}\n'.encode("utf-16"), "byte-order mark of UTF-16"),
    ],
)
def test_what_is_no_json_lines_is_explained(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "values",
    [
        [{"nodes": [["C", 0.5], ["N", 1.0]], "edges": [[0, 1]]}, {"nodes": [["C", 2.0]], "edges": []}],
        [{"nodes": [[6, 0.5], [7, 1]]}, {"nodes": [[8, 1.5]]}],
        [{"nodes": [["C", 6, 0.5, True]]}],
        [["red", 1], [2, "round"]],
    ],
)
def test_lists_of_several_types_stay_as_they_are(tmp_path, values):
    lines = [json.dumps({"x": value}) for value in values]
    assert [row["x"] for row in read(tmp_path, "\n".join(lines), exact="x")] == values
    values_read = [row["x"] for row in read(tmp_path, *lines, '{"x": null}', exact="x")]
    assert values_read == [*values, None]
    assert repr(values_read[0]) == repr(values[0])  # 6 is not 6.0


@pytest.mark.parametrize("rows", [1, 3, 36])
@pytest.mark.parametrize("cell", [[[None, None]], [None], [[[None], []]], []])
def test_lists_of_nothing_but_null_are_read(tmp_path, rows, cell):
    text = "".join(json.dumps({"x": cell, "y": row}) + "\n" for row in range(rows))
    assert [row["x"] for row in read(tmp_path, text)] == [cell] * rows
    assert [row["x"] for row in read(tmp_path, text, '{"x": null, "y": 1}')] == [*[cell] * rows, None]
    if cell == [None]:
        assert [row["x"] for row in read(tmp_path, text, '{"x": [2.5], "y": 1}')] == [*[cell] * rows, [2.5]]


@pytest.mark.parametrize(
    ("values", "mixed"),
    [([[[6, 0.5]], [[7, 2.0]]], True), ([[1, 2.5], [2.5, 1]], False), ([[1, 2]], False), ([[1], [2, 0.5]], False)],
)
def test_integers_beside_floats_are_noticed(values, mixed):
    assert mixes_numbers(values) == mixed
