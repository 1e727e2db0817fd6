"""README, CONTRIBUTING and docs/: every path, module, command and option that they name exists."""

import argparse
import importlib.util
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

from encoders import ENCODERS
from mmbert.cli.commands import COMMANDS
from mmbert.cli.parser import make_parser
from mmbert.data import SOURCES
from mmbert.datasets import DATASETS
from mmbert.fusion import FUSIONS
from mmbert.recipe.schema import Recipe
from tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = ["mmbert", "encoders", "tasks", "recipes", "results", "tests", "benchmarks", "docs", "examples", ".ci", ".github"]
ENTRY_POINTS = {table.group for table in (ENCODERS, FUSIONS, TASKS, SOURCES, DATASETS)}
OTHER_OPTIONS = {"--help", "--num_processes", "--multi_gpu", "--dist", "--strict"}  # of accelerate, pytest, mkdocs
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def spans(text):
    """The lines of fenced blocks and the inline code of a Markdown text."""
    parts = re.split(r"^```.*$", text, flags=re.MULTILINE)
    lines = [line for block in parts[1::2] for line in block.splitlines()]
    return lines, [" ".join(span.split()) for prose in parts[::2] for span in re.findall(r"`([^`]+)`", prose)]


def missing_paths(text):
    """Paths below the top folders that match no file of the tree; <name> and * match anything."""
    named = re.findall(rf"(?<![\w./-])((?:{'|'.join(map(re.escape, TOP))})/[\w.*<>/-]*)", text)
    patterns = {path: re.sub(r"<\w+>|NAME", "*", path.rstrip("./")) for path in named}
    return [path for path, pattern in patterns.items() if not any(ROOT.glob(pattern))]


def resolves(name):
    """Whether a dotted name is a module or an attribute in one."""
    module, inner = name, []
    while importlib.util.find_spec(module.partition(".")[0]) and module:
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            spec = None
        if spec:
            value = importlib.import_module(module)
            for attribute in inner:
                if not hasattr(value, attribute):
                    return False
                value = getattr(value, attribute)
            return True
        module, _, last = module.rpartition(".")
        inner.insert(0, last)
    return False


def missing_names(text):
    """Dotted names of the packages that cannot be imported; file names such as benchmarks.csv do not count."""
    text = re.sub(r"[\w./<>*-]*/[\w./<>*-]*|\]\([^)]*\)", " ", text)  # without paths and links
    named = set(re.findall(r"\b((?:mmbert|encoders|tasks|benchmarks)(?:\.[a-zA-Z_]\w*)+)", text))
    return sorted(name for name in named - ENTRY_POINTS if not resolves(name))


def commands(text):
    """The mmbert commands of a text, without the word mmbert."""
    lines, inline = spans(text)
    for line in (*lines, *inline):
        match = re.search(r"(?:^|-m |&& )mmbert (?=[a-z-])(.+)", line)
        if match and "(" not in match[1].split()[0]:
            yield match[1].split(" && ")[0]


def refused(command):
    """The command if the parser refuses it, else None. A command without arguments needs only to exist."""
    words = shlex.split(command, comments=True)
    if len(words) == 1 and words[0] in COMMANDS:
        return None
    try:
        make_parser(COMMANDS).parse_args(words)
    except SystemExit as error:
        return None if not error.code else f"mmbert {command}"
    return None


def parser_options():
    """All options of all commands."""
    parser = make_parser(COMMANDS)
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    parsers = [parser, *commands.choices.values()]
    return {option for command in parsers for action in command._actions for option in action.option_strings}


def without_new_files(text):
    """A text without the files that the reader is asked to write: "Copy ... to `a/b.py`", "Write `a/b.py`"."""
    for path in set(re.findall(r"(?:to|Write) `([\w/]+)\.py`", text)):
        text = text.replace(f"{path}.py", "").replace(path.replace("/", "."), "")
    return text


@every_page
def test_paths_exist(page):
    text = without_new_files(page.read_text(encoding="utf-8"))
    assert not missing_paths(re.sub(r"`tests/[\w/]+\.py::\w+`", "", text))  # tests/test_faults.py looks for those


@every_page
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https:)([^)#\s]+)", text)
    assert not [target for target in targets if not (page.parent / target).exists()]


@every_page
def test_modules_and_functions_can_be_imported(page):
    assert not missing_names(without_new_files(page.read_text(encoding="utf-8")))


@every_page
def test_commands_are_parsed(page, capsys):
    assert not [reason for command in commands(page.read_text(encoding="utf-8")) if (reason := refused(command))]


@every_page
def test_options_exist(page):
    _, inline = spans(page.read_text(encoding="utf-8"))
    named = {option for span in inline for option in re.findall(r"(?<!\S)--[a-z][\w-]*", span)}
    assert not named - parser_options() - OTHER_OPTIONS


def has_key(model, key):
    """Whether a section of the recipe, a pydantic model, has a dotted key; X is the name of any entry."""
    first, _, rest = key.partition(".")
    if first not in model.model_fields:
        return False
    annotation = model.model_fields[first].annotation
    models = [kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields")]
    return not rest or any(has_key(kind, rest.removeprefix("X.")) for kind in models)


@every_page
def test_recipe_keys_exist(page):
    _, inline = spans(page.read_text(encoding="utf-8"))
    sections = "|".join(Recipe.model_fields)
    named = {match[0] for span in inline if (match := re.match(rf"({sections})(\.\w+)+(?=: |=|$)", span))}
    assert not [
        key
        for key in named
        if not has_key(Recipe, key) and not key.startswith(("data.", "tasks.")) and ".json" not in key
    ]


@every_page
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines, inline = spans(page.read_text(encoding="utf-8"))
    named = {match[1] for span in (*lines, *inline) if (match := re.match(r"make ([a-z]+)", span))}
    assert not named - targets


def test_every_page_is_in_the_navigation_and_in_the_readme():
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in pages if f": {name}\n" in navigation} == pages
    assert {name for name in pages if f"(docs/{name})" in readme} == pages - {"index.md"}


def test_names_that_do_not_exist_are_detected(capsys):
    assert missing_paths("see `mmbert/nothing.py`, `recipes/*.yaml` and `results/<name>.csv`") == ["mmbert/nothing.py"]
    assert has_key(Recipe, "inputs.X.missing")
    assert not has_key(Recipe, "train.nothing")
    assert missing_names("`mmbert.train`, `mmbert.nothing`, `mmbert.types.Tokens`") == ["mmbert.nothing"]
    text = "```\nmmbert train a.yaml --out b\nmmbert train a.yaml --outt b\n```\n`mmbert doctor` `mmbert nothing x`"
    assert [reason for command in commands(text) if (reason := refused(command))] == [
        "mmbert train a.yaml --outt b",
        "mmbert nothing x",
    ]
