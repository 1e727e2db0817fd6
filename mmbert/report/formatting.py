"""Numbers and foreign text as a reader sees them."""

import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any

# what no page may hold: controls but tab and line feed, what turns the direction of the text behind it, halves of a
# character, and code points that are none
UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def clean(text: object) -> str:
    """The text without what a page cannot hold.

    >>> clean("a\\x00b\\ud800")
    'a�b�'
    """
    return UNFIT.sub("�", str(text))


def shorten(text: object, most: int) -> str:
    """At most ``most`` letters; an ellipsis says that there were more.

    >>> shorten("a long name", 6)
    'a lon…'
    """
    letters = clean(text)
    return letters if len(letters) <= most else letters[: most - 1] + "…"


def label(text: object, *, width: int = 24, lines: int = 2) -> str:
    """A name for a figure: in a few lines of at most ``width`` letters, cut where it is longer.

    >>> label("without the photo and without the sound of it", width=12)
    'without the\\nphoto and w…'
    """
    flat = " ".join(clean(text).split()) or "(no name)"
    wrapped = textwrap.wrap(flat[: 4 * width * lines], width)
    if len(wrapped) <= lines:
        return "\n".join(wrapped)
    rest = flat[len(" ".join(wrapped[: lines - 1])) :].strip()
    return "\n".join([*wrapped[: lines - 1], rest[: width - 1].rstrip() + "…"])


def number(value: Any) -> str:
    """Four significant digits; a dash where there is no value.

    >>> number(0.123456), number(12345678), number(None), number(float("nan"))
    ('0.1235', '1.235e+07', '–', '–')
    """
    found = as_number(value)
    return (
        f"{found:.4g}" if math.isfinite(found) else NONE if math.isnan(found) else ("∞" if found > 0 else f"{MINUS}∞")
    )


def signed(value: Any) -> str:
    """The same with its sign.

    >>> signed(0.5), signed(-0.25), signed(0.0)
    ('+0.5', '−0.25', '0')
    """
    found = as_number(value)
    if not math.isfinite(found) or found == 0:
        return number(found + 0.0)
    return ("+" if found > 0 else MINUS) + number(abs(found))


def column(values: Sequence[Any]) -> list[str]:
    """Numbers of one column with the same number of decimals, four digits of the largest.

    >>> column([0.5, 0.12345, None]), column([1234.5, 2.0])
    (['0.5000', '0.1235', '–'], ['1234', '2'])
    >>> column([0.5, -0.25, -1e-9])  # no zero has a sign
    ['0.5000', '−0.2500', '0.0000']
    """
    found = [as_number(value) for value in values]
    largest = max((abs(value) for value in found if math.isfinite(value)), default=0.0)
    if not 1e-3 <= largest < 1e6:
        return [number(value) for value in found]
    decimals = max(0, 3 - max(-1, math.floor(math.log10(largest))))
    texts = [f"{value:z.{decimals}f}" if math.isfinite(value) else number(value) for value in found]
    return [text.replace("-", MINUS) for text in texts]


def as_number(value: Any) -> float:
    """A value of a file as a number: nan where it is none.

    >>> as_number("0.5"), as_number(True), as_number(2)
    (nan, nan, 2.0)
    """
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def mean(values: Sequence[float]) -> float:
    """The mean of the finite values; nan where there is none.

    >>> mean([1.0, 3.0, float("nan")])
    2.0
    """
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def spread(values: Sequence[float]) -> float:
    """The standard deviation of the finite values, ddof 1; nan below two.

    >>> spread([1.0, 3.0])
    1.4142135623730951
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return math.nan
    middle = mean(finite)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in finite) / (len(finite) - 1))


def duration(seconds: Any) -> str:
    """A time in the unit that fits.

    >>> duration(48.2), duration(600), duration(20000), duration(None)
    ('48 s', '10.0 min', '5.6 h', '–')
    """
    found = as_number(seconds)
    if not math.isfinite(found):
        return NONE
    return f"{found:.0f} s" if found < 120 else f"{found / 60:.1f} min" if found < 7200 else f"{found / 3600:.1f} h"


def listed(words: Sequence[str], *, most: int = 8) -> str:
    """Words in a row, with what is left out counted.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], most=1), listed(["a"])
    ('a, b and c', 'a and 2 more', 'a')
    """
    shown = list(words[:most]) if len(words) <= most else [*words[:most], f"{len(words) - most} more"]
    return " and ".join([*([", ".join(shown[:-1])] if len(shown) > 1 else []), *shown[-1:]])


def plural(count: int, word: str) -> str:
    """>>> plural(1, "row"), plural(12000, "row")
    ('1 row', '12,000 rows')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"
