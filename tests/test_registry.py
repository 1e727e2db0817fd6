"""The registry of parts: lazy imports, no duplicate names, and suggestions for wrong ones."""

import sys
from importlib.metadata import EntryPoint

import pytest

from mmbert import registry
from mmbert.errors import RecipeError
from mmbert.registry import RESERVED, Registry, keyword_only_parameters, recipe_options

MODULE = '''
"""A module of parts."""

class Pear:
    """A sweet fruit.

    With a second paragraph.
    """

    def __init__(self, dim, *, colour="green"): ...

def plum():
    "A small one."

class Bare: ...
'''


@pytest.fixture
def fruits(tmp_path, monkeypatch):
    """A table whose module can be imported, and is not yet."""
    (tmp_path / "orchard.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "orchard", raising=False)
    yield Registry("fruit", {"pear": "orchard:Pear", "plum": "orchard:plum", "bare": "orchard:Bare"})
    sys.modules.pop("orchard", None)


class Apple:
    """Red or green."""

    def __init__(self, dim, *, size: int = 3): ...


def test_a_part_is_imported_when_it_is_first_used(fruits):
    assert fruits.names() == ["bare", "pear", "plum"]
    assert "pear" in fruits
    assert fruits.describe("pear") == "A sweet fruit."
    assert fruits.describe("plum") == "A small one."
    assert fruits.describe("bare") == ""
    assert "orchard" not in sys.modules
    assert fruits.get("pear").__name__ == "Pear"
    assert "orchard" in sys.modules
    assert fruits.get("pear") is sys.modules["orchard"].Pear
    assert fruits.describe("pear") == "A sweet fruit."  # equal after the import


def test_an_unknown_name_is_refused_with_the_nearest_one(fruits):
    with pytest.raises(
        RecipeError, match=r"^no fruit is called 'pera'\. Did you mean 'pear'\? Valid: bare, pear, plum$"
    ):
        fruits.get("pera")
    assert "pera" not in fruits
    assert 3 not in fruits


def test_registering_adds_a_part_once(fruits):
    fruits.register("apple", Apple)
    fruits.register("apple", Apple)  # a module that is imported twice
    assert fruits.get("apple") is Apple
    assert fruits.describe("apple") == "Red or green."
    assert fruits.names() == ["apple", "bare", "pear", "plum"]


@pytest.mark.parametrize("name", ["pear", "apple"])
def test_a_name_that_is_taken_is_refused(fruits, name):
    fruits.register("apple", Apple)
    with pytest.raises(RecipeError, match=f"the fruit name '{name}' is taken by"):
        fruits.register(name, type("Other", (), {}))
    assert fruits.get("apple") is Apple


def test_tables_do_not_share_their_entries():
    table = {}
    first, second = Registry("fruit", table), Registry("fruit", table)
    first.register("apple", Apple)
    assert (first.names(), second.names(), table) == (["apple"], [], {})


def test_an_installed_package_adds_parts_but_replaces_none(fruits, monkeypatch):
    group = "test.installed"
    installed = [EntryPoint("quince", "orchard:Pear", group), EntryPoint("plum", "elsewhere:Plum", group)]
    monkeypatch.setattr(registry, "entry_points", lambda group: installed if group == "test.installed" else [])
    more = Registry("fruit", {"plum": "orchard:plum"}, group)
    assert more.names() == ["plum", "quince"]
    assert more.describe("quince") == "A sweet fruit."
    assert more.get("quince") is fruits.get("pear")
    assert more.get("plum").__name__ == "plum"
    with pytest.raises(RecipeError, match="taken"):
        Registry("fruit", {}, group).register("quince", Apple)
    assert fruits.names() == ["bare", "pear", "plum"]


class Reader:
    def __init__(self, vocabulary, *, length: int = 5, truncation: str = "head"): ...


class Encoder:
    processor = Reader

    def __init__(self, dim, processor, *, layers: int = 2): ...


def test_options_are_the_keyword_only_parameters_of_part_and_processor():
    assert list(recipe_options(Encoder)) == ["length", "truncation", "layers"]
    assert recipe_options(Encoder)["layers"].default == 2
    assert list(keyword_only_parameters(Encoder)) == ["layers"]
    assert recipe_options(type("Bare", (), {})) == {}


@pytest.mark.parametrize("name", sorted(RESERVED))
@pytest.mark.parametrize("where", ["part", "processor"])
def test_reserved_options_are_refused_where_a_part_is_registered(name, where):
    space = {}
    exec(f"class Odd:\n    def __init__(self, *, {name}=1): ...", space)
    odd = space["Odd"] if where == "part" else type("Part", (), {"processor": space["Odd"]})
    table = Registry("part", {})
    with pytest.raises(RecipeError, match=f"cannot have the option '{name}': the name is reserved"):
        table.register("odd", odd)
    assert table.names() == []


def test_an_option_of_both_part_and_processor_is_refused():
    class Twice(Encoder):
        def __init__(self, dim, processor, *, length: int = 2): ...

    with pytest.raises(RecipeError, match="Twice cannot have the option 'length'"):
        Registry("part", {}).register("twice", Twice)
