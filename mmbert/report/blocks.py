"""The parts of a page (text, tables, figures, folds, sections), and the limits on how much of each it shows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mmbert.report.formatting import plural


@dataclass(frozen=True)
class Limits:
    """How much is shown before something is cut; the page says what was cut."""

    rows: int = 200  # of a table
    columns: int = 40
    drawn: int = 30  # rows of a figure
    lines: int = 7  # of a figure of curves
    panels: int = 12  # figures, or tables, of one kind
    points: int = 150  # of a curve
    classes: int = 14  # of a confusion matrix
    examples: int = 3  # of a confusion
    letters: int = 300  # of a cell
    block: int = 30_000  # letters of a recipe or of a code diff


LADDER = (  # a page that is too large is made again with the next limits
    Limits(),
    Limits(rows=60, columns=20, drawn=16, lines=5, panels=5, points=60, examples=1, letters=120, block=8_000),
    Limits(rows=20, columns=8, drawn=8, lines=3, panels=2, points=20, classes=6, examples=1, letters=60, block=2_000),
)


@dataclass(frozen=True)
class Words:
    """A paragraph of sentences, or a list of them."""

    lines: Sequence[str]
    listed: bool = False  # a list instead of one paragraph
    kind: str = "words"


@dataclass(frozen=True)
class Table:
    """A table. All columns hold numbers, except those in ``words``, some of which are ``wide``.

    ``strong`` are the (row, column) of the cells in bold.
    """

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
    """A figure with its caption."""

    svg: Markup
    caption: str
    kind: str = "picture"


@dataclass(frozen=True)
class Gallery:
    """Figures side by side, as far as the page is wide enough."""

    pictures: Sequence[Picture]
    kind: str = "gallery"


@dataclass(frozen=True)
class Code:
    """Text in a fixed-width font."""

    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Fold:
    """Blocks that a reader can open and close; in print they are open."""

    title: str
    blocks: Sequence["Block"]
    open: bool = False
    kind: str = "fold"


Block = Words | Table | Picture | Gallery | Code | Fold


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; ``anchor`` is its id, to which the page's navigation links."""

    title: str
    anchor: str
    blocks: Sequence[Block]


def limited_table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    limits: Limits,
    *,
    caption: str = "",
    words: Collection[int] = (0,),
    wide: Collection[int] = (),
    strong: Collection[tuple[int, int]] = (),
) -> Table:
    """Return a table within the limits; its note says what was cut.

    Args:
        head: the names of the columns.
        rows: the cells of each row.
        limits: how many rows and columns are shown.
        caption: the text above the table.
        words: the columns that hold text, not numbers.
        wide: those of them that hold long text.
        strong: (row, column) of the cells in bold.
    """
    width = limits.columns
    notes = [f"{plural(len(rows) - limits.rows, 'more row')} not shown"] * (len(rows) > limits.rows)
    notes += [f"{plural(len(head) - width, 'more column')} not shown"] * (len(head) > width)
    shown = [row[:width] for row in rows[: limits.rows]]
    return Table(head[:width], shown, caption, words, wide, strong, ". ".join(notes))


def limited_code(text: str, limits: Limits) -> Code:
    """Return a long text within the limits; its last line says how much was cut.

    Args:
        text: such as a recipe.
        limits: how many letters are shown.
    """
    if len(text) <= limits.block:
        return Code(text)
    return Code(f"{text[: limits.block]}\n… {plural(len(text) - limits.block, 'more letter')} not shown")


def omission_note(items: Sequence[Any], shown: int, word: str) -> list[str]:
    """Return a sentence about the items that are not shown; an empty list if all are.

    Args:
        items: all of them.
        shown: how many of them the page shows.
        word: what one item is called.

    Example:
        >>> omission_note("abcd", 3, "arm"), omission_note("abc", 3, "arm")
        (['1 more arm is not shown here.'], [])
    """
    more = len(items) - shown
    return [f"{plural(more, f'more {word}')} {'is' if more == 1 else 'are'} not shown here."] if more > 0 else []
