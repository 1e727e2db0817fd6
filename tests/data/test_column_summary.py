"""What a source says of its columns: counts, what was done, and what looks like a mistake."""

import json
from datetime import date, datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest
from data_parts import Anything, all_samples

from mmbert.contracts import Field
from mmbert.data.sources.files import FilesSource


class Words(Anything):
    """Text as it is written."""

    reads_text = True


TABLE = {"cells": Field(("x", "y"), Anything)}
LABEL = {"kind": Field("x", Anything)}
TEXT = {"title": Field("x", Words)}


def summary(folder, cells, inputs=TABLE, targets=None, name="rows.csv", **options):
    frame = pd.DataFrame({"x": cells, "y": range(len(cells))})
    path = folder / name
    frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_json(path, orient="records", lines=True)
    return FilesSource("shop", inputs, targets or {}, path=str(path), **options).summary


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            [*map(str, range(30)), "much", "much"],
            "30 of 32 cells are numbers; others are 'much' 2, .*na_values: .*much",
        ),
        ([f"{number},5" for number in range(30)], "its cells are numbers, such as '0,5', .* decimal: ','"),
        ([f"{number},500.25" for number in range(1, 30)], "'1,500.25', with signs between thousands"),
        ([f"${number}" for number in range(30)], "signs of a currency"),
        ([f"2024-01-{day:02}" for day in range(1, 31)], "30 of 30 cells look like dates"),
        ([f"{day}.1.2024" for day in range(1, 31)], "30 of 30 cells look like dates"),
        ([f"item {number}" for number in range(30)], "30 different texts in 30 cells: as .* learned by heart"),
        (["nan", "a", "b", "None"] * 3, "'nan' 3, 'None' 3, each read as a .* na_values: .*nan.*None"),
        (["a", " ", "b"] * 3, "empty cells are missing values: 'x' 3"),
        ([" a", "b"] * 3, "blanks around cells are removed: 'x' 3"),
        (["1", "?", "3"], "words that are missing values .*'x' '\\?' 1"),
    ],
)
@pytest.mark.parametrize("role", ["category", "label"])
def test_what_is_done_or_suspicious_is_told(tmp_path, cells, said, role):
    inputs, targets = (TABLE, {}) if role == "category" else ({"y": Field("y", Anything)}, LABEL)
    warnings = "\n".join(summary(tmp_path, cells, inputs, targets).warnings)
    assert pd.Series([warnings]).str.contains(rf"shop: .*{said}").all(), warnings


@pytest.mark.parametrize(
    ("cells", "inputs"),
    [
        (["001", "002", "104"] * 10, TABLE),
        (["red", "green"] * 20, TABLE),
        ([f"a title of its own {number}" for number in range(30)], TEXT),
        ([*map(str, range(30))], TEXT),
        ([1, 2, 3] * 10, TABLE),
    ],
)
def test_what_is_right_is_not_told(tmp_path, cells, inputs):
    assert summary(tmp_path, cells, inputs).warnings == ()


@pytest.mark.parametrize("cells", [["", "", ""], ["  ", "\t", ""], [[], [], []]])
def test_an_input_that_holds_nothing_is_told(tmp_path, cells):
    (warning,) = summary(tmp_path, cells, TEXT, name="rows.jsonl").warnings
    assert "the column 'x' holds nothing" in warning


def test_categories_within_objects_are_looked_at(tmp_path):
    cells = [{"zone": f"{number},5", "age": number} for number in range(30)]
    summarised = summary(tmp_path, cells, {"cells": Field("x", Anything)}, name="rows.jsonl")
    assert [column.name for column in summarised.columns] == ["x.age", "x.zone"] or {
        c.name for c in summarised.columns
    } == {
        "x.age",
        "x.zone",
    }
    assert "decimal" in "".join(summarised.warnings)


def test_counts_and_examples(tmp_path):
    first, second = summary(tmp_path, ["a", "b", "", "a"]).columns
    assert (first.name, first.fields, first.kind) == ("x", ("cells",), "text")
    assert (first.rows, first.missing, first.distinct, first.examples) == (4, 1, 2, ("a", "b"))
    assert (second.name, second.kind, second.missing, second.distinct) == ("y", "integer", 0, 4)


def test_the_mapping_is_kept(tmp_path):
    read = summary(
        tmp_path, ["a", "b"], {"cells": Field(("z", "y"), Anything)}, columns={"x": "z"}, na_values=["-"], decimal=","
    ).reading
    assert json.loads(json.dumps(read)) == read
    assert read["columns"] == {"x": "z"}
    assert read["kinds"] == {"z": "text", "y": "integer"}
    assert read["options"]["na_values"] == ["-"]
    assert read["options"]["decimal"] == ","


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([Decimal("1.50"), None, Decimal("2.00")], [1.5, None, 2.0]),
        ([Decimal(3), Decimal(4)], [3, 4]),
        ([datetime(1970, 1, 2, 12), datetime(1970, 1, 1)], [1.5, 0.0]),
        ([pd.Timestamp("1970-01-02", tz="Europe/Paris")], [23 / 24]),
        ([date(1970, 1, 11), None], [10, None]),
        ([timedelta(minutes=2)], [120.0]),
        ([[Decimal("0.5")], [Decimal("2.5")]], [[0.5], [2.5]]),
        ([{"a": Decimal("0.5")}, {"a": None}], [{"a": 0.5}, None]),
    ],
)
def test_parquet_types_are_numbers(tmp_path, values, read):
    pd.DataFrame({"x": pd.Series(values, dtype=object if not isinstance(values[0], datetime) else None)}).to_parquet(
        tmp_path / "rows.parquet"
    )
    data = FilesSource("shop", {"cell": Field("x", Anything)}, {}, path=str(tmp_path / "rows.parquet"))
    cells_read = [sample.inputs.get("cell") for sample in all_samples(data)]
    assert cells_read == read
    assert [type(value) for value in cells_read] == [type(value) for value in read]
