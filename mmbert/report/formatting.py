"""Numbers and text from run folders, in the form in which the page shows them."""

import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any

# characters that no page may hold: control characters except tab and line feed, those that change the direction of
# text, halves of surrogate pairs, and code points that are no characters
UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def clean(text: object) -> str:
    r"""Return the text with a replacement character for each character that a page may not hold.

    Args:
        text: any object; its ``str`` is used.

    Example:
        >>> clean("a\x00b\ud800")
        'a�b�'
    """
    return UNFIT.sub("�", str(text))


def shorten(text: object, max_letters: int) -> str:
    """Return at most ``max_letters`` letters of the cleaned text; an ellipsis shows that more were cut.

    Args:
        text: any object; its ``str`` is used.
        max_letters: the length of the result, with the ellipsis.

    Example:
        >>> shorten("a long name", 6)
        'a lon…'
    """
    letters = clean(text)
    return letters if len(letters) <= max_letters else letters[: max_letters - 1] + "…"


def label(text: object, *, width: int = 24, lines: int = 2) -> str:
    r"""Return a name for a figure, wrapped into lines and cut if it is too long.

    Args:
        text: any object; its ``str`` is used.
        width: letters of a line.
        lines: how many lines at most.

    Example:
        >>> label("without the photo and without the sound of it", width=12)
        'without the\nphoto and w…'
    """
    flat = " ".join(clean(text).split()) or "(no name)"
    wrapped = textwrap.wrap(flat[: 4 * width * lines], width)
    if len(wrapped) <= lines:
        return "\n".join(wrapped)
    rest = flat[len(" ".join(wrapped[: lines - 1])) :].strip()
    return "\n".join([*wrapped[: lines - 1], rest[: width - 1].rstrip() + "…"])


def number(value: Any) -> str:
    """Return a number with four significant digits; a dash if the value is no number.

    Args:
        value: a value of a file.

    Example:
        >>> number(0.123456), number(12345678), number(None), number(float("nan"))
        ('0.1235', '1.235e+07', '–', '–')
    """
    numeric = as_number(value)
    if math.isnan(numeric):
        return NONE
    if math.isinf(numeric):
        return "∞" if numeric > 0 else f"{MINUS}∞"
    return f"{numeric:.4g}"


def signed(value: Any) -> str:
    """Return a number with its sign; see ``number``.

    Args:
        value: a value of a file.

    Example:
        >>> signed(0.5), signed(-0.25), signed(0.0)
        ('+0.5', '−0.25', '0')
    """
    numeric = as_number(value)
    if not math.isfinite(numeric) or numeric == 0:
        return number(numeric + 0.0)
    return ("+" if numeric > 0 else MINUS) + number(abs(numeric))


def column(values: Sequence[Any]) -> list[str]:
    """Return the numbers of one column with equal decimals, so that the largest has four digits.

    Args:
        values: of a file.

    Example:
        >>> column([0.5, 0.12345, None]), column([1234.5, 2.0])
        (['0.5000', '0.1235', '–'], ['1234', '2'])
        >>> column([0.5, -0.25, -1e-9])  # zero has no sign
        ['0.5000', '−0.2500', '0.0000']
    """
    numbers = [as_number(value) for value in values]
    largest = max((abs(value) for value in numbers if math.isfinite(value)), default=0.0)
    if not 1e-3 <= largest < 1e6:
        return [number(value) for value in numbers]
    decimals = max(0, 3 - max(-1, math.floor(math.log10(largest))))
    texts = [f"{value:z.{decimals}f}" if math.isfinite(value) else number(value) for value in numbers]
    return [text.replace("-", MINUS) for text in texts]


def as_number(value: Any) -> float:
    """Return a value of a file as a number; nan if it is none.

    Args:
        value: as the JSON parser returns it.

    Example:
        >>> as_number("0.5"), as_number(True), as_number(2)
        (nan, nan, 2.0)
    """
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def mean(values: Sequence[float]) -> float:
    """Return the mean of the finite values; nan if there are none.

    Args:
        values: numbers, nan and infinity among them.

    Example:
        >>> mean([1.0, 3.0, float("nan")])
        2.0
    """
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def standard_deviation(values: Sequence[float]) -> float:
    """Return the standard deviation (ddof 1) of the finite values; nan if there are fewer than two.

    Args:
        values: numbers, nan and infinity among them.

    Example:
        >>> standard_deviation([1.0, 3.0])
        1.4142135623730951
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return math.nan
    middle = mean(finite)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in finite) / (len(finite) - 1))


def duration(seconds: Any) -> str:
    """Return a time in seconds, minutes or hours.

    Args:
        seconds: a value of a file.

    Example:
        >>> duration(48.2), duration(600), duration(20000), duration(None)
        ('48 s', '10.0 min', '5.6 h', '–')
    """
    total = as_number(seconds)
    if not math.isfinite(total):
        return NONE
    return f"{total:.0f} s" if total < 120 else f"{total / 60:.1f} min" if total < 7200 else f"{total / 3600:.1f} h"


def enumerate_words(words: Sequence[str], *, max_words: int = 8) -> str:
    """Return words as a list in a sentence; words beyond ``max_words`` are only counted.

    Args:
        words: such as names.
        max_words: how many of them are written.

    Example:
        >>> enumerate_words(["a", "b", "c"]), enumerate_words(["a", "b", "c"], max_words=1), enumerate_words(["a"])
        ('a, b and c', 'a and 2 more', 'a')
    """
    shown = list(words) if len(words) <= max_words else [*words[:max_words], f"{len(words) - max_words} more"]
    return " and ".join([*([", ".join(shown[:-1])] if len(shown) > 1 else []), *shown[-1:]])


def plural(count: int, word: str) -> str:
    """Return a count with its word, which gets an "s" unless the count is 1.

    Args:
        count: how many.
        word: what one of them is called.

    Example:
        >>> plural(1, "row"), plural(12000, "row")
        ('1 row', '12,000 rows')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"
