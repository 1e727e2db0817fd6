"""What a page is made of: sections of words, tables, figures and folds; and how much of each a page may hold."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mmbert.report.formatting import plural


@dataclass(frozen=True)
class Limits:
    """How much is shown before something is cut, which the page then says."""

    rows: int = 200  # of a table
    columns: int = 40
    drawn: int = 30  # rows of a figure
    lines: int = 7  # of a figure of curves
    panels: int = 12  # figures, or tables, of one kind
    points: int = 150  # of a curve
    classes: int = 14  # of a confusion matrix
    examples: int = 3  # of a confusion
    letters: int = 300  # of a cell
    block: int = 30_000  # letters of a recipe or of changes to the code


LADDER = (  # the next is taken where a page is too large
    Limits(),
    Limits(rows=60, columns=20, drawn=16, lines=5, panels=5, points=60, examples=1, letters=120, block=8_000),
    Limits(rows=20, columns=8, drawn=8, lines=3, panels=2, points=20, classes=6, examples=1, letters=60, block=2_000),
)


@dataclass(frozen=True)
class Words:
    lines: Sequence[str]
    listed: bool = False  # a list, not one paragraph
    kind: str = "words"


@dataclass(frozen=True)
class Table:
    """Columns are numbers but for ``words``, of which some are ``wide``; ``strong`` are (row, column) in bold."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    words: Collection[int] = (0,)
    wide: Collection[int] = ()
    strong: Collection[tuple[int, int]] = ()
    note: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    svg: Markup
    caption: str
    kind: str = "picture"


@dataclass(frozen=True)
class Gallery:
    """Figures beside each other where there is room."""

    pictures: Sequence[Picture]
    kind: str = "gallery"


@dataclass(frozen=True)
class Code:
    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Fold:
    """What is shown on demand, and in print."""

    title: str
    blocks: Sequence["Block"]
    open: bool = False
    kind: str = "fold"


Block = Words | Table | Picture | Gallery | Code | Fold


@dataclass(frozen=True)
class Section:
    title: str
    anchor: str
    blocks: Sequence[Block]


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    limits: Limits,
    *,
    caption: str = "",
    words: Collection[int] = (0,),
    wide: Collection[int] = (),
    strong: Collection[tuple[int, int]] = (),
) -> Table:
    """A table within the limits; its note says what is left out."""
    width = limits.columns
    notes = [f"{plural(len(rows) - limits.rows, 'more row')} not shown"] * (len(rows) > limits.rows)
    notes += [f"{plural(len(head) - width, 'more column')} not shown"] * (len(head) > width)
    shown = [row[:width] for row in rows[: limits.rows]]
    return Table(head[:width], shown, caption, words, wide, strong, ". ".join(notes))


def code(text: str, limits: Limits) -> Code:
    """A long text within the limits; its last line says what is left out."""
    if len(text) <= limits.block:
        return Code(text)
    return Code(f"{text[: limits.block]}\n… {plural(len(text) - limits.block, 'more letter')} not shown")


def left_out(found: Sequence[Any], shown: int, word: str) -> list[str]:
    """A sentence about what is not shown; none where all is.

    >>> left_out("abcd", 3, "arm"), left_out("abc", 3, "arm")
    (['1 more arm is not shown here.'], [])
    """
    more = len(found) - shown
    return [f"{plural(more, f'more {word}')} {'is' if more == 1 else 'are'} not shown here."] if more > 0 else []
