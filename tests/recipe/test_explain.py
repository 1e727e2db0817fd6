"""Explanations of recipes and parts: origins of values, options and the JSON schema."""

import json

import pytest

from encoders import ENCODERS
from mmbert.errors import RecipeError
from mmbert.recipe.explain import recipe_schema, show_part, show_recipe
from mmbert.recipe.load import load_recipe
from mmbert.recipe.options import make_option_model
from mmbert.recipe.yaml_reader import read_yaml
from tasks import TASKS


def test_show_recipe_prints_the_origin_of_each_value(write):
    loaded = load_recipe("recipe.yaml", ["train.seed=3"])
    shown = show_recipe(loaded)
    lines = {line.split("#")[0].strip(): line.split("# ")[-1] for line in shown.splitlines() if "#" in line}
    assert lines["seed: 3"] == "--set"
    assert lines["epochs: 2.0"] == "recipe.yaml:9"
    assert lines["side: 32"] == "recipe.yaml:5"
    assert lines["workers: 0"] == lines["clip: 1.0"] == "default"
    assert len({line.index("#") for line in shown.splitlines() if "#" in line}) == 1  # aligned
    assert read_yaml(shown, "shown").plain() == loaded.resolved


def test_show_part_lists_options_of_the_part_and_its_processor():
    shown = show_part(ENCODERS, "vit")
    assert shown.startswith("encoder vit: A fake image encoder.\n\nIt has a second paragraph.\n")
    rows = [line.split() for line in shown.splitlines() if line.startswith("  ")]
    assert ["side", "int", ">=", "8", "default", "64"] in rows
    assert ["dropout", "float", ">=", "0", "and", "<", "1", "default", "0.1"] in rows
    assert ["bands", "tuple[int,", "...]", "default", "[1,", "2]"] in rows
    assert ["norm", "layer", "or", "group", "or", "null", "default", "null"] in rows
    assert show_part(ENCODERS, "text").startswith("encoder text: ")
    with pytest.raises(RecipeError, match="Did you mean 'regression'"):
        show_part(TASKS, "regresion")


def test_two_classes_cannot_share_an_option():
    class One:
        def __init__(self, *, rows: int = 1): ...

    class Two:
        def __init__(self, *, rows: int = 2): ...

    with pytest.raises(RecipeError, match="Two cannot have the option 'rows'"):
        make_option_model("both", [One, Two])
    with pytest.raises(RecipeError, match="One cannot have the option 'rows'"):
        make_option_model("one", [One], reserved=["rows"])


def test_the_json_schema_knows_the_options_of_each_type():
    schema = json.loads(json.dumps(recipe_schema()))
    assert list(schema["properties"])[:4] == ["extends", "name", "data", "trunk"]
    definition = schema["$defs"]["InputPart"]
    assert definition["properties"]["type"]["enum"] == ["graph", "text", "vit"]
    (vit,) = [case["then"] for case in definition["allOf"] if case["if"]["properties"]["type"]["const"] == "vit"]
    assert vit["additionalProperties"] is False
    assert vit["properties"]["side"] == {"default": 64, "minimum": 8, "title": "Side", "type": "integer"}
    assert {"type", "column", "tune", "optional"} <= set(vit["properties"])
    (dataset,) = [
        case["then"]
        for case in schema["$defs"]["SourcePart"]["allOf"]
        if case["if"]["properties"]["type"]["const"] == "dataset"
    ]
    assert "additionalProperties" not in dataset  # has the options of the data set too


def test_the_json_schema_is_closed_documented_and_complete():
    schema = recipe_schema()

    def nodes(value):
        if isinstance(value, dict):
            yield value
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from nodes(inner)

    references = {node["$ref"] for node in nodes(schema) if "$ref" in node}
    assert references == {f"#/$defs/{name}" for name in schema["$defs"]}
    for name, definition in [("Recipe", schema), *schema["$defs"].items()]:
        assert definition["additionalProperties"] is name.endswith("Part")
        assert "required" not in definition
        for key, entry in definition["properties"].items():
            assert entry.get("description"), f"{name}.{key} is not documented"


def test_the_json_schema_leaves_open_what_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(ENCODERS._table, "far", "a_missing_package.far:Far")
    definition = recipe_schema()["$defs"]["InputPart"]
    assert "far" in definition["properties"]["type"]["enum"]
    assert "far" not in [case["if"]["properties"]["type"]["const"] for case in definition["allOf"]]
