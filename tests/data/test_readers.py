"""Readers of tables: CSV, JSON lines, Arrow and Parquet."""

import gzip
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmbert.data.readers import read_tables
from mmbert.errors import DataError


def rows(*paths):
    return pa.concat_tables([table for _, table in read_tables(paths)]).to_pylist()


def written(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_types_of_csv_columns(tmp_path):
    text = (
        "\ufeffwhole,real,truth,zip,words,big,none\n"
        "-1,1e300,True,007,NA,12345678901234567890,\n"
        '2,nan,false,12,"a ""b"",\nc",1,\n'
    )
    first, second = rows(written(tmp_path / "a.csv", text))
    assert first == {
        "whole": -1,
        "real": 1e300,
        "truth": True,
        "zip": "007",
        "words": "NA",
        "big": "12345678901234567890",
        "none": None,
    }
    assert math.isnan(second.pop("real"))
    assert second == {"whole": 2, "truth": False, "zip": "12", "words": 'a "b",\nc', "big": "1", "none": None}


@pytest.mark.parametrize("cell", ["1 2", "+3", "1,0", "0x1", "--1", "1e", ".", "00.5", "e5", "tru"])
def test_values_that_only_resemble_numbers_are_text(tmp_path, cell):
    assert rows(written(tmp_path / "a.csv", f'x\n1\n"{cell}"\n'))[1] == {"x": cell}


@pytest.mark.parametrize(
    ("cell", "value"), [("1.", 1.0), ("-.5", -0.5), ("2E-3", 0.002), ("-inf", -math.inf), ("0", 0)]
)
def test_number_formats(tmp_path, cell, value):
    assert rows(written(tmp_path / "a.csv", f"x\n{cell}\n0.5\n"))[0] == {"x": value}


def test_a_type_is_decided_by_the_whole_column(tmp_path):
    """A reader that infers types from the first megabyte would fail here."""
    text = "x\n" + "1\n" * 600_000 + "many\n"
    assert rows(written(tmp_path / "a.csv", text))[-2:] == [{"x": "1"}, {"x": "many"}]


def test_types_are_decided_over_all_files(tmp_path):
    first, second = written(tmp_path / "a.csv", "x,y\n1,2\n"), written(tmp_path / "b.csv", "z,x\n3,0.5\n")
    assert rows(first, second) == [{"x": 1.0, "y": 2, "z": None}, {"x": 0.5, "y": None, "z": 3}]


def test_json_lines_keep_types(tmp_path):
    values = [
        {"day": "2024-01-01", "tree": {"a": [1, None], "b": "x"}, "n": 1},
        {"n": 2.5, "tree": {"c": True}, "e": None},
    ]
    table = rows(written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, values))))
    assert table == [
        {"day": "2024-01-01", "tree": {"a": [1, None], "b": "x", "c": None}, "n": 1.0, "e": None},
        {"day": None, "tree": {"a": None, "b": None, "c": True}, "n": 2.5, "e": None},
    ]


def test_compressed_and_tab_separated_files_are_read(tmp_path):
    assert rows(written(tmp_path / "a.tsv", "x\ty\n1\ta,b\n")) == [{"x": 1, "y": "a,b"}]
    assert rows(written(tmp_path / "a.csv.gz", gzip.compress(b"x\n1\n"))) == [{"x": 1}]
    assert rows(written(tmp_path / "a.jsonl.gz", gzip.compress(b'{"x": 1}\n'))) == [{"x": 1}]


def test_arrow_streams_and_files_are_read(tmp_path):
    table = pa.table({"x": [1, 2, 3]})
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_file(str(tmp_path / "b.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert rows(tmp_path / "a.arrow", tmp_path / "b.arrow") == table.to_pylist() * 2


def test_parquet_is_read_in_pieces(tmp_path):
    table = pa.table({"x": range(100_000)})
    pq.write_table(table, tmp_path / "a.parquet")
    pieces = [*read_tables([tmp_path / "a.parquet"])]
    assert len(pieces) > 1
    assert pa.concat_tables([piece for _, piece in pieces]) == table


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x,y\n1,2\n1,2,3\n", r"a.csv row 2 \(line 3\): expected 2 cells, as the header has, found 3"),
        ("a.csv", "", "a.csv: cannot be read: expected the names of the columns in line 1"),
        ("a.csv", b"x\n\xff\n", "a.csv row 1: expected text in UTF-8, found the byte 0xff"),
        ("a.jsonl", '{"x": 1}\n{"x": \n', "a.jsonl row 2: not valid JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl row 1: must be an object"),
        (
            "a.jsonl",
            '{"x": "a"}\n{"x": null}\n{"x": 3}\n',
            "row 3: 'x' must be text, as in the rows before, .* a number",
        ),
        ("a.jsonl", '{"x": "\\ud800"}\n', "a.jsonl: the column 'x' cannot be stored: .*surrogates"),
        ("a.parquet", "no", "a.parquet: cannot be read"),
        ("a.arrow", "no", "a.arrow: cannot be read"),
        ("a.jsonl.gz", "no", "a.jsonl.gz: cannot be read"),
        ("a.xlsx", "", r"the format '.xlsx' is not known. .*Valid: .*\.csv"),
    ],
)
def test_unreadable_files_are_reported(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        rows(written(tmp_path / name, content))


def test_files_with_different_columns_are_refused(tmp_path):
    first, second = written(tmp_path / "a.jsonl", '{"x": 1}'), written(tmp_path / "b.jsonl", '{"x": "1"}')
    with pytest.raises(DataError, match=r"the columns of .*a\.jsonl, .*b\.jsonl do not agree: .*x"):
        rows(first, second)
    with pytest.raises(DataError, match="must be of one format, however: csv, jsonl"):
        rows(first, tmp_path / "b.csv")
