"""YAML 1.2 text -> a tree of values that know where they were written. Within limits; nothing is executed.

Plain scalars follow the YAML 1.2 core schema: ``1e-3`` is a number; ``no`` and ``2024-01-01`` are text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, Event, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent

from mmbert.recipe.problems import Path, Problem, dotted, invalid

MAX_BYTES = 1_000_000
MAX_VALUES = 10_000  # counted with aliases written out, so that a bomb of aliases stops here
MAX_DEPTH = 30

NULL = re.compile(r"(?:~|null|Null|NULL)?")
BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
INT = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it was written: ``file:line``, or ``--set``."""

    value: Any  # a scalar, dict[str, Node] or list[Node]
    origin: str
    size: int = 1  # the number of values in it

    def plain(self) -> Any:
        """The value without origins."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def origins(self, path: Path = ()) -> Iterator[tuple[str, str]]:
        """Pairs (dotted path, origin) of this value and all in it."""
        yield dotted(path), self.origin
        children = self.value.items() if isinstance(self.value, dict) else ()
        for key, node in enumerate(self.value) if isinstance(self.value, list) else children:
            yield from node.origins((*path, key))


def read(text: str, file: str, line_numbers: bool = True) -> Node:
    """The tree of one YAML document; ``file`` is how its origins name it.

    Raises ``RecipeError`` on bad syntax, tags, keys that are no text, a key given twice (all of them at once), and
    where a limit is passed.

    >>> read("lr: 1e-3", "a.yaml").plain()
    {'lr': 0.001}
    """
    reader = _Reader(text, file, line_numbers)
    try:
        node = reader.document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        origin = f"{file}:{mark.line + 1}" if line_numbers and mark else file
        raise invalid([Problem("", origin, f"not valid YAML: {error.problem or error.context}")]) from None
    except (YAMLError, RecursionError) as error:
        raise invalid([Problem("", file, f"not valid YAML: {' '.join(str(error).split())}")]) from None
    if reader.problems:
        raise invalid(reader.problems)
    return node


class _Reader:
    """Builds the tree from parser events, which come one by one: a limit stops the parser too."""

    def __init__(self, text: str, file: str, line_numbers: bool):
        self.events = iter(YAML(typ="safe", pure=True).parse(text))
        self.file, self.line_numbers = file, line_numbers
        self.anchors: dict[str, Node] = {}
        self.count = 0
        self.problems: list[Problem] = []

    def document(self) -> Node:
        next(self.events)  # start of the stream
        if not isinstance(event := next(self.events), Event) or not hasattr(event, "explicit") or _is_end(event):
            return Node(None, self.origin(event))
        node = self.node(next(self.events), ())
        next(self.events)  # end of the document
        if not _is_end(event := next(self.events)):
            self.problems.append(Problem("", self.origin(event), "expected one YAML document, found a second"))
        return node

    def origin(self, event: Event) -> str:
        return f"{self.file}:{event.start_mark.line + 1}" if self.line_numbers else self.file

    def problem(self, event: Event, path: Path, message: str) -> Problem:
        self.problems.append(problem := Problem(dotted(path), self.origin(event), message))
        return problem
