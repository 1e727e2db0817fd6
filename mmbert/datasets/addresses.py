"""Addresses in the United States with hand-tagged words (usaddress)."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar
from xml.etree import ElementTree

import pandas as pd
from annotated_types import Ge

from mmbert.contracts import Builder
from mmbert.errors import IntegrityError
from mmbert.io.download import Package, fetch, open_member


class Addresses(Builder):
    """1,513 addresses in the United States, each word with one of 29 tags such as ``StreetName`` and ``ZipCode``.

    For tagging: the text is the list of words, the label is the list of their tags. Addresses that differ only in case
    and punctuation are in one split. The data are ``training/labeled.xml`` of the usaddress sdist, which is read, not
    installed.

    Args:
        minimum_count: words that a tag needs; words with a rarer tag have no label. (Some tags have one or two words,
            which may all be in the test split.)

    Reference:
        DataMade, usaddress, https://github.com/datamade/usaddress
    """

    version: ClassVar[str] = "1"
    package: ClassVar[Package] = Package(
        "sdist", "usaddress", "0.5.16", "f7e614e2489c159cf85be1b6f86edbfaf329dbeedef4d002a025757afd1ec6c6", "MIT"
    )
    group: ClassVar[str | None] = "group"
    columns: ClassVar[Mapping[str, str]] = {
        "id": "number of the address in the file",
        "text": "the whole address",
        "words": "its words, a list",
        "tags": "the tag of each word, a list; null where its tag is too rare",
        "group": "the address without case and punctuation",
    }

    def __init__(self, *, minimum_count: Annotated[int, Ge(1)] = 1):
        self.minimum_count = minimum_count

    def build(self, folder: Path, progress: Callable[[float], None]) -> pd.DataFrame:
        return read_addresses(fetch(self.package), minimum_count=self.minimum_count)


def read_addresses(archive: Path, *, minimum_count: int = 1) -> pd.DataFrame:
    """Read the tagged addresses.

    Args:
        archive: an sdist with ``training/labeled.xml``.
        minimum_count: words that a tag needs.

    Raises:
        IntegrityError: where the file is missing or not valid XML.
    """
    member = f"{archive.name.removesuffix('.tar.gz')}/training/labeled.xml"
    try:
        collection = ElementTree.parse(open_member(archive, member)).getroot()
    except ElementTree.ParseError as error:
        raise IntegrityError(f"{archive}: {member} is not valid XML ({error})") from error
    rows = []
    for number, address in enumerate(collection.iter("AddressString")):
        # an element may hold several words: each gets its tag
        tagged = [(word, element.tag) for element in address for word in (element.text or "").split()]
        if tagged:
            words, tags = map(list, zip(*tagged, strict=True))
            text = " ".join(words)
            rows.append((str(number), text, words, tags, " ".join(re.findall(r"\w+", text.lower()))))
    frame = pd.DataFrame(rows, columns=list(Addresses.columns))
    counts = Counter(tag for tags in frame["tags"] for tag in tags)
    frame["tags"] = [[tag if counts[tag] >= minimum_count else None for tag in tags] for tags in frame["tags"]]
    return frame
