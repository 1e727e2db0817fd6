"""Reading YAML: plain scalars, line numbers of values, and refused files."""

import time

import pytest

from mmbert.errors import RecipeError
from mmbert.recipe.serialize import to_yaml
from mmbert.recipe.yaml_reader import MAX_VALUES, read_yaml


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("-1", -1),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        (".5", 0.5),
        ("true", True),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("'3'", "3"),
        ("null ", None),
        (".inf", float("inf")),
        ("[a, {b: 1}]", ["a", {"b": 1}]),
    ],
)
def test_plain_scalars_follow_the_core_schema(written, value):
    parsed = read_yaml(f"key: {written}", "a.yaml").plain()["key"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_every_value_knows_its_line():
    tree = read_yaml("a: 1\nb:\n  c: {d: 2}\n  e:\n    - 3\n    - 4\n", "x.yaml")
    assert dict(tree.origins()) == {
        "": "x.yaml:1",
        "a": "x.yaml:1",
        "b": "x.yaml:2",
        "b.c": "x.yaml:3",
        "b.c.d": "x.yaml:3",
        "b.e": "x.yaml:4",
        "b.e.0": "x.yaml:5",
        "b.e.1": "x.yaml:6",
    }


def test_an_alias_is_replaced_by_its_value():
    assert read_yaml("a: &x {k: [1, 2]}\nb: *x\n", "x").plain() == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}}


def bomb(levels: int = 9) -> str:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n} '] * 9)}]" for n in range(levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\nb: 4", "a (x.yaml:3): this key is given twice, first at x.yaml:1\n  - b (x.yaml:4)"),
        ("a: {b: 1, b: 2}", "a.b (x.yaml:1): this key is given twice"),
        (
            "a: !!python/object/apply:os.system ['touch executed']",
            "a (x.yaml:1): the tag !!python/object/apply:os.system",
        ),
        ("a: !!str 3", "the tag !!str"),
        ("ok: 1\n1: 2", "x.yaml:2: expected text as a key, found 1"),
        ("? [a]\n: 1", "expected text as a key"),
        ("<<: {a: 1}", "use extends"),
        ("a: *b", "no anchor is called 'b'"),
        ("a: &a [*a ]", "no anchor is called 'a'"),
        ("a: 1\n--- \nb: 2", "x.yaml:2: expected one YAML document"),
        ("a: 1\nb: c: d", "x.yaml:2: not valid YAML"),
        ("a: [1", "not valid YAML"),
        ("a: \0", "not valid YAML"),
        ('a: "\\ud800"', "a (x.yaml:1): expected Unicode text"),
        (bomb(), f"expected at most {MAX_VALUES} values"),
        ("[" * 100_000, "levels"),
        ("{" * 100_000, "expected text as a key"),
        ("- " * 100_000, "levels"),
        ("[" + "1," * 400_000 + "]", f"expected at most {MAX_VALUES} values"),
    ],
)
def test_invalid_yaml_is_refused_with_line_and_reason(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    with pytest.raises(RecipeError) as caught:
        read_yaml(text, "x.yaml")
    assert time.process_time() - start < 3
    assert message in str(caught.value)
    assert str(caught.value).startswith("the recipe is not valid:\n  - ")
    assert not list(tmp_path.iterdir())


def test_a_written_recipe_is_read_back():
    words = ["no", "1e-3", "x: y", "# c", "", " ", "null", "~", "true", "2024-01-01", "0x1", ".5", "a\nb", "é\u2028"]
    words += [
        "\x07",
        "\x85",
        "😀",
        "-",
        "[",
        "it's",
        "<<",
        "=",
        "long " * 100,
        "&a",
        "*a",
        "!x",
        "@",
        "%",
        "\ufeff",
        "\r\n",
    ]
    content = {"words": words, **{word: 1 for word in words if len(word) < 100}}
    content |= {
        "numbers": [1, -2, 2e-5, 1e20, 1e-300, 2**80, None, True],
        "empty": [[], {}],
        "nested": {"a": {"b": {}}},
    }
    assert read_yaml(to_yaml(content), "x").plain() == content
