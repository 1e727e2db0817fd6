"""The Unicode Han database: definitions, radicals, finals of readings, and variants of characters."""

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
    """Read the fields of each character.

    Args:
        archive: Debian's package ``unicode-data``, in which each file is compressed on its own.

    Raises:
        IntegrityError: where a file is missing.
    """
    database: dict[str, dict[str, str]] = {}
    missing = {f"usr/share/unicode/Unihan_{name}.txt.bz2" for name in FILES}
    for name, read in archive_members(archive):
        if name in missing:
            missing.remove(name)
            for line in bz2.decompress(read()).decode().splitlines():
                if line.startswith("U+"):
                    code, field, value = line.split("\t")
                    database.setdefault(chr(int(code[2:], 16)), {})[field] = value
    if missing:
        raise IntegrityError(f"{archive} has no file '{min(missing)}'")
    return database


def clean_definition(text: str) -> str | None:
    """A definition without the number of the radical and without references to other characters.

    Example:
        >>> clean_definition("water; radical number 85")
        'water'
        >>> clean_definition("(same as U+9042 遂) to obey")
        '(same as) to obey'
    """
    parts = [part for part in re.split(r"; *", text) if not re.search(r"radical( number)? \d", part, re.IGNORECASE)]
    pointers = r"\s*(U\+[0-9A-F]{4,5}|[\u2e80-\u2fdf\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
    return re.sub(pointers, "", "; ".join(parts)).strip() or None


def radical_of(number: str) -> str:
    """The radical, as a character, that a value of ``kRSUnicode`` names, such as "85.5".

    Example:
        >>> radical_of("149'.3")
        '言'
    """
    return unicodedata.normalize("NFKC", chr(0x2EFF + int(re.split(r"['.]", number)[0])))


def final_of(reading: str) -> str:
    """The final of a syllable in pinyin: y and w are only spelling, and u after j, q, x and y is ü.

    Example:
        >>> [final_of(reading) for reading in ("yán", "wǒ", "xué", "zhuāng", "yòu", "yuè", "ér")]
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


def group_variants(characters: Sequence[str], database: Database) -> dict[str, str]:
    """Group characters that are variants of each other or have the same definition (union-find).

    Variants are traditional or simplified forms, or have the same meaning or shape. Two characters are also in one
    group if they are connected through others, which need not be among ``characters``.

    Args:
        characters: the characters to group.
        database: the fields of all characters.

    Returns:
        Character -> the first character of its group.
    """
    parent: dict[str, str] = {}

    def find_root(character: str) -> str:
        while parent.setdefault(character, character) != character:
            parent[character] = parent[parent[character]]
            character = parent[character]
        return character

    def union(first: str, second: str) -> None:
        low, high = sorted((find_root(first), find_root(second)))
        parent[high] = low

    for character, fields in database.items():
        for field in VARIANTS:
            for code in re.findall(r"U\+([0-9A-F]+)", fields.get(field, "")):
                union(character, chr(int(code, 16)))
    by_definition: dict[str, str] = {}
    for character in characters:
        union(character, by_definition.setdefault(database[character]["kDefinition"], character))
    return {character: find_root(character) for character in characters}
