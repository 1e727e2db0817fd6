"""YAML 1.2 text as a tree of values that know where they were written; safe and limited in size.

Plain scalars follow the YAML 1.2 core schema: ``1e-3`` is a number; ``no`` and ``2024-01-01`` are text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from mmbert.errors import RecipeError
from mmbert.recipe.problems import Path, Problem, dotted_path, recipe_error, show_value

MAX_BYTES = 1_000_000
MAX_VALUES = 10_000  # counted with aliases expanded, against alias bombs
MAX_DEPTH = 30

SURROGATE = re.compile("[\ud800-\udfff]")
NULL = re.compile(r"(?:~|null|Null|NULL)?")
BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
INT = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it was written: ``file:line`` or ``--set``."""

    value: Any  # a scalar, dict[str, Node] or list[Node]
    origin: str
    size: int = 1  # the number of values in it

    def plain(self) -> Any:
        """The value without origins."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def origins(self, path: Path = ()) -> Iterator[tuple[str, str]]:
        """Pairs (dotted path, origin) of this value and all values in it."""
        yield dotted_path(path), self.origin
        children = self.value.items() if isinstance(self.value, dict) else ()
        for key, node in enumerate(self.value) if isinstance(self.value, list) else children:
            yield from node.origins((*path, key))


def read_yaml(text: str, file: str, line_numbers: bool = True) -> Node:
    """Parse one YAML document.

    Args:
        text: YAML 1.2.
        file: the name of the file in origins.
        line_numbers: whether origins have line numbers.

    Raises:
        RecipeError: on bad syntax, a tag, a key that is not text, repeated keys (all of them at once), and where a
            limit is exceeded.

    Example:
        >>> read_yaml("lr: 1e-3", "a.yaml").plain()
        {'lr': 0.001}
    """
    reader = _Reader(text, file, line_numbers)
    try:
        node = reader.document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        origin = f"{file}:{mark.line + 1}" if line_numbers and mark else file
        raise recipe_error([Problem("", origin, f"not valid YAML: {error.problem or error.context}")]) from None
    except YAMLError as error:
        raise recipe_error([Problem("", file, f"not valid YAML: {' '.join(str(error).split())}")]) from None
    if reader.problems:
        raise recipe_error(reader.problems)
    return node


class _Reader:
    """Builds the tree from the parser's events, one by one, so that a limit also stops the parser."""

    def __init__(self, text: str, file: str, line_numbers: bool):
        self.events: Iterator[Event] = iter(YAML(typ="safe", pure=True).parse(text))
        self.file, self.line_numbers = file, line_numbers
        self.anchors: dict[str, Node] = {}
        self.count = 0
        self.problems: list[Problem] = []

    def document(self) -> Node:
        next(self.events)  # start of the stream
        if isinstance(event := next(self.events), StreamEndEvent):
            return Node(None, self.origin(event))
        node = self.node(next(self.events), ())
        next(self.events)  # end of the document
        if not isinstance(event := next(self.events), StreamEndEvent):
            self.problem(event, (), "expected one YAML document, found a second")
        return node

    def node(self, event: Any, path: Path) -> Node:
        if isinstance(event, AliasEvent):
            if event.anchor not in self.anchors:
                raise self.stop(event, path, f"no anchor is called '{event.anchor}' before this line")
            node = self.anchors[event.anchor]
            self.grow(event, path, node.size)
            return node
        self.grow(event, path, 1)
        if len(path) > MAX_DEPTH:
            raise self.stop(event, path[:1], f"expected at most {MAX_DEPTH} levels, found more")
        if event.tag is not None:
            raise self.stop(
                event,
                path,
                f"the tag {event.tag.replace('tag:yaml.org,2002:', '!!')} is not allowed: a recipe is plain data",
            )
        if isinstance(event, ScalarEvent):
            node = Node(self.scalar(event, path), self.origin(event))
        elif isinstance(event, MappingStartEvent):
            node = self.mapping(event, path)
        else:
            node = self.sequence(event, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def scalar(self, event: ScalarEvent, path: Path) -> Any:
        text = event.value
        if SURROGATE.search(text):
            self.problem(event, path, "expected Unicode text, found half of a surrogate pair")
        if not event.implicit[0]:  # quoted
            return text
        if NULL.fullmatch(text):
            return None
        if BOOL.fullmatch(text):
            return text.lower() == "true"
        if INT.fullmatch(text):
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if FLOAT.fullmatch(text):
            return float(text)
        if match := NOT_FINITE.fullmatch(text):
            return float(match[1] + match[2])
        return text

    def mapping(self, start: Event, path: Path) -> Node:
        entries: dict[str, Node] = {}
        lines: dict[str, Event] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self.node(event, path).value if isinstance(event, ScalarEvent) else None
            if not isinstance(key, str):
                raise self.stop(event, path, f"expected text as a key, found {show_value(key)}: put a number in quotes")
            if key == "<<" and cast(ScalarEvent, event).implicit[0]:  # not in quotes
                raise self.stop(event, path, "merge keys (<<) are not part of YAML 1.2: use extends")
            value = self.node(next(self.events), (*path, key))
            if key in entries:
                self.problem(event, (*path, key), f"this key is given twice, first at {self.origin(lines[key])}")
                continue
            lines[key], entries[key] = event, replace(value, origin=self.origin(event))
        return Node(entries, self.origin(start), 1 + sum(node.size for node in entries.values()))

    def sequence(self, start: Event, path: Path) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            items.append(self.node(event, (*path, len(items))))
        return Node(items, self.origin(start), 1 + sum(node.size for node in items))

    def grow(self, event: Event, path: Path, size: int) -> None:
        self.count += size
        if self.count > MAX_VALUES:
            raise self.stop(event, path[:1], f"expected at most {MAX_VALUES} values, found more (aliases written out)")

    def origin(self, event: Event) -> str:
        return f"{self.file}:{event.start_mark.line + 1}" if self.line_numbers else self.file

    def problem(self, event: Event, path: Path, message: str) -> None:
        self.problems.append(Problem(dotted_path(path), self.origin(event), message))

    def stop(self, event: Event, path: Path, message: str) -> RecipeError:
        """An error that ends reading, since what follows would make no sense."""
        self.problem(event, path, message)
        return recipe_error(self.problems)
