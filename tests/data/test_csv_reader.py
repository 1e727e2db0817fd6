"""CSV files: one row a record, and errors that name row and line."""

import gzip
import json

import pyarrow as pa
import pytest

from mmbert.data.csv_reader import ROWS, read_csv
from mmbert.data.read_options import ReadOptions
from mmbert.data.readers import read_tables
from mmbert.errors import DataError


def rows(folder, content, options=None, name="a.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return pa.concat_tables([table for _, table in read_tables([path], options or ReadOptions())]).to_pylist()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_an_empty_line_of_a_file_of_one_column_is_a_row(tmp_path, end, last):
    lines = ["title", "a", "", "b", "", ""]
    assert rows(tmp_path, end.join(lines) + (end if last else "")) == [
        {"title": cell or None} for cell in (lines[1:] if last else lines[1:-1])
    ]


@pytest.mark.parametrize("blank", ["", " "])
def test_an_empty_line_between_rows_of_several_columns_is_none(tmp_path, blank):
    text = f"x,y\n\n1,2\n{blank}\n3,4\n\n"
    if blank:
        with pytest.raises(DataError, match=r"row 2 \(line 4\): expected 2 cells, as the header has, found 1"):
            rows(tmp_path, text)
    else:
        assert rows(tmp_path, text) == [{"x": 1, "y": 2}, {"x": 3, "y": 4}]


@pytest.mark.parametrize("count", [1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS])
def test_every_record_is_a_row(tmp_path, count):
    text = "x,y\n" + "".join(f'{row},"a\nb"\n' for row in range(count))
    assert [row["x"] for row in rows(tmp_path, text)] == [*range(count)]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('t,k\na,1\n"open,2\nb,3\n"c,4\nd,5\n', r"row 2 \(lines 3 to 5\)"),
        ('t,k\na,1\nb,"open\nc,3\nd,4\n', r"row 2 \(lines 3 to 5\)"),
        ('t\n"open', r"row 1 \(line 2\)"),
        ('t,k\n"a\nb" c,1\n', r"row 1 \(lines 2 to 3\)"),
    ],
)
def test_an_open_quotation_mark_is_named(tmp_path, text, place):
    with pytest.raises(DataError, match=rf"a.csv {place}: a cell begins with a quotation mark that is not closed"):
        rows(tmp_path, text)


def test_a_quotation_mark_within_a_line_is_read(tmp_path):
    assert rows(tmp_path, 't,k\n5" pipe,1\na "word" here,2\n"a ""b""",3\n') == [
        {"t": '5" pipe', "k": 1},
        {"t": 'a "word" here', "k": 2},
        {"t": 'a "b"', "k": 3},
    ]


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("t,k\n" + '"' + "a\n" * 30 + '",1\n', "row 1 (lines 2 to 32)"),
        ('t,k,m\n1,2,"x\n3,4,y\n5,6,z\n7",8,9\n'.replace('7",8,9', '7"'), "row 1 (lines 2 to 5)"),
        ('t,k\n"a\nb",1\n', None),
    ],
)
def test_a_cell_of_very_many_lines_is_told(tmp_path, text, noted):
    (tmp_path / "a.csv").write_text(text)
    notes = json.loads(read_csv(tmp_path / "a.csv", ",", ReadOptions()).schema.metadata[b"notes"])
    assert [noted in note for note in notes] == ([True] if noted else [])


def test_a_cell_without_an_end_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a.csv row 1 .*Is a quotation mark left open"):
        rows(tmp_path, 'x,y\n"' + "a\n" * (1 << 24))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a;b;c\n1;2;3\n", "separated by ';': set the source's option separator: ';' and, where .* decimal: ','"),
        ("a\tb\n1\t2\n", r'separated by a tab: set the source\'s option separator: "\\t"'),
        ("a|b|c\n1|2|3\n", r"separated by '\|'"),
        ("a;b,c;d\n1;2;3;4\n", r"row 1 \(line 2\): expected 2 cells, as the header has, found 1: .*separated by ';'"),
    ],
)
def test_another_separator_is_recognised(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        rows(tmp_path, text)


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_separator_and_signs_of_numbers(tmp_path, separator):
    text = "\ufeffa;b;c\n1,5;1.234,25;x,y\n-2;17;z\n;NA;\n".replace(";", separator)
    options = ReadOptions(separator=separator, decimal=",", thousands=".")
    assert rows(tmp_path, text, options) == [
        {"a": 1.5, "b": 1234.25, "c": "x,y"},
        {"a": -2.0, "b": 17.0, "c": "z"},
        {"a": None, "b": None, "c": None},
    ]


@pytest.mark.parametrize(
    ("encoding", "name"), [("cp1252", "a.csv"), ("utf-16", "a.csv"), ("latin-1", "b.tsv"), ("utf-16", "c.csv.gz")]
)
def test_another_encoding_is_recognised_and_read(tmp_path, encoding, name):
    content = "word\tnumber\ncafé\t1\n".replace("\t", "\t" if "tsv" in name else ",").encode(encoding)
    content = gzip.compress(content) if name.endswith("gz") else content
    message = "byte-order mark of UTF-16. .*encoding: utf-16" if encoding == "utf-16" else "byte 0xe9 .*cp1252"
    with pytest.raises(DataError, match=rf"{name} row 1: expected .*UTF-8, found the {message}"):
        rows(tmp_path, content, name=name)
    assert rows(tmp_path, content, ReadOptions(encoding=encoding), name) == [{"word": "café", "number": 1}]


@pytest.mark.parametrize(
    "text",
    ["a, b, c\n1, 2, x\n3, 4, y\n", ' a ,b\t,"c"\n 1,2 , x\n3 ,\t4,y \n', 'a, b, c\n1, 2, "x"\n3, 4, "y"\n'],
)
def test_blanks_around_names_and_cells_are_removed(tmp_path, text):
    assert rows(tmp_path, text) == [{"a": 1, "b": 2, "c": "x"}, {"a": 3, "b": 4, "c": "y"}]


def test_a_compressed_file_that_is_cut_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a.csv.gz: cannot be read"):
        rows(tmp_path, gzip.compress(b"x,y\n" + b"1,2\n" * 1000)[:-20], name="a.csv.gz")
