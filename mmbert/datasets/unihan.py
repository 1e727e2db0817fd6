"""The Unicode Han database: definitions, radicals, finals of the readings, and which characters belong together."""

import bz2
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmbert.errors import IntegrityError
from mmbert.io.download import archive_members

FILES = ("Readings", "Variants", "IRGSources", "DictionaryLikeData")
VARIANTS = ("kSimplifiedVariant", "kTraditionalVariant", "kSemanticVariant", "kZVariant")
TONES = dict.fromkeys(map(ord, "\u0300\u0301\u0304\u030c"))
Database = Mapping[str, Mapping[str, str]]  # character -> field -> value


def read_unihan(archive: Path) -> Database:
    """The fields of each character, from Debian's package ``unicode-data``, where each file is compressed by itself."""
    database: dict[str, dict[str, str]] = {}
    wanted = {f"usr/share/unicode/Unihan_{name}.txt.bz2" for name in FILES}
    for name, read in archive_members(archive):
        if name in wanted:
            wanted.remove(name)
            for line in bz2.decompress(read()).decode().splitlines():
                if line.startswith("U+"):
                    code, field, value = line.split("\t")
                    database.setdefault(chr(int(code[2:], 16)), {})[field] = value
    if wanted:
        raise IntegrityError(f"{archive} has no file '{min(wanted)}'")
    return database


def definition(text: str) -> str | None:
    """A definition without what tells the radical's number, and without the other characters that it points to.

    >>> definition("water; radical number 85")
    'water'
    >>> definition("(same as U+9042 遂) to obey")
    '(same as) to obey'
    """
    parts = [part for part in re.split(r"; *", text) if not re.search(r"radical( number)? \d", part, re.IGNORECASE)]
    pointers = r"\s*(U\+[0-9A-F]{4,5}|[\u2e80-\u2fdf\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
    return re.sub(pointers, "", "; ".join(parts)).strip() or None


def radical(number: str) -> str:
    """The character of the radical that a value of ``kRSUnicode`` names, such as "85.5".

    >>> radical("149'.3")
    '言'
    """
    return unicodedata.normalize("NFKC", chr(0x2EFF + int(re.split(r"['.]", number)[0])))


def final(reading: str) -> str:
    """The final of a syllable in pinyin: y and w are spelling, and u after j, q, x and y is ü.

    >>> [final(reading) for reading in ("yán", "wǒ", "xué", "zhuāng", "yòu", "yuè", "ér")]
    ['ian', 'uo', 'üe', 'uang', 'iu', 'üe', 'er']
    """
    syllable = unicodedata.normalize("NFC", unicodedata.normalize("NFD", reading).translate(TONES))
    rest = re.sub("^(zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw])", "", syllable)
    if syllable[0] in "jqxy" and rest.startswith("u"):
        return "ü" + rest[1:]
    if syllable[0] == "y":
        return {"ou": "iu"}.get(rest, rest if rest.startswith("i") else "i" + rest)
    if syllable[0] == "w":
        return {"ei": "ui", "en": "un", "u": "u"}.get(rest, "u" + rest)
    return rest


def families(characters: Sequence[str], database: Database) -> dict[str, str]:
    """The family of each character, named after its first member.

    A family is what is joined by being variants (traditional, simplified, of the same meaning or shape), be it through
    a character that is not among ``characters``, or by having one definition.
    """
    parent: dict[str, str] = {}

    def first(one: str) -> str:
        while parent.setdefault(one, one) != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    def join(one: str, other: str) -> None:
        low, high = sorted((first(one), first(other)))
        parent[high] = low

    for one, fields in database.items():
        for field in VARIANTS:
            for code in re.findall(r"U\+([0-9A-F]+)", fields.get(field, "")):
                join(one, chr(int(code, 16)))
    meanings: dict[str, str] = {}
    for one in characters:
        join(one, meanings.setdefault(database[one]["kDefinition"], one))
    return {one: first(one) for one in characters}
