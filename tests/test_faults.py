"""docs/faults.md: each test that it names exists, and each row names a test or is marked as open."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from mmbert import errors

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = {
    int(cells[0]): cells
    for line in TEXT.splitlines()
    if len(cells := line.strip("| ").split(" | ")) == 5 and cells[0].isdecimal()
}


@cache
def named_in(file: str) -> frozenset[str]:
    """The names of the tests in a file, without importing it."""
    path = ROOT / file
    if not path.exists():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_the_rows_are_numbered():
    assert [*ROWS] == [*range(1, len(ROWS) + 1)]
    assert len(ROWS) > 30


@pytest.mark.parametrize(("file", "name"), sorted({*NAMED.findall(TEXT)}), ids="::".join)
def test_a_test_that_is_named_exists(file, name):
    assert name in named_in(file)


@pytest.mark.parametrize("number", ROWS)
def test_a_row_names_a_test_or_says_that_it_is_open(number):
    *_, codes, shown = ROWS[number]
    assert shown == "open" or NAMED.findall(shown), shown
    assert NAMED.sub("", shown).strip() in ("", "open"), "something else than tests is named"
    assert re.fullmatch(r"\d+(, \d+)*", codes)


def test_the_exit_codes_are_those_of_the_errors():
    listed = {int(code) for code in re.findall(r"^\| (\d+) \| [^|]+ \|$", TEXT, re.MULTILINE)}
    codes = {
        error.exit_code for error in vars(errors).values() if isinstance(error, type) and hasattr(error, "exit_code")
    }
    assert codes <= listed
    assert {int(code) for row in ROWS.values() for code in row[3].split(", ")} <= listed


def test_a_test_that_does_not_exist_is_detected():
    assert "test_the_rows_are_numbered" in named_in("tests/test_faults.py")
    assert "test_no_such_test" not in named_in("tests/test_faults.py")
    assert named_in("tests/no_such_file.py") == frozenset()
