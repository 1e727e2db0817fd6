"""Tux Paint's stamps: drawings and photographs with a caption in 77 languages, some of them spoken."""

import io
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import pandas as pd
from annotated_types import Ge

from mmbert.contracts import Builder
from mmbert.errors import RecipeError, nearest
from mmbert.io.download import Package, archive_members, fetch

# as the captions name them, with _ for @
LANGUAGES = (  # noqa: SIM905, in a list each would take a line
    "ach af ak am an ar ast be bg ca ca_valencia cs cy da de el en_AU en_GB eo es eu fa ff fi fr ga gd gl gu he hi hr "
    "hu hy id is it iu ja ka kab km ko ku lt lv mk ml ms nb nl nn nso oc pl pt pt_BR ro ru shs sk sl son sq sr "
    "sr_latin sv sw ta th tr uk vec vi zh_CN zh_TW zu"
).split()
FOLDER = "usr/share/tuxpaint/stamps/"
FILES_TO_READ = 10_401  # in the pinned package; for the progress shown, nothing else
FEWEST = 20  # stamps with a bitmap that a category needs to be a class


class Stamps(Builder):
    """Images with captions in 77 languages and a human voice: 8 categories, retrieval across languages.

    ``text`` is the English caption, ``text_fr`` ... the others; ``speech`` is the caption read aloud in one language
    (about one speaker a language, so that the voice gives the language away: do not report language identification).
    ``category`` is the outermost folder, where at least 20 of its stamps have a bitmap, and absent elsewhere. Larger
    images are reduced to ``side`` pixels on the longer side. ``vectors`` also takes the stamps drawn as SVG only: they
    have no ``image``. Stamps of one English caption stay in one split.

    Source: Tux Paint (https://tuxpaint.org), from Debian's ``tuxpaint-stamps-default``. GPL-2: do not redistribute.
    Raises ``RecipeError`` on a language in which nobody speaks, with those in which somebody does.
    """

    version: ClassVar[str] = "1"
    package: ClassVar[Package] = Package(
        "deb",
        "tuxpaint-stamps-default",
        "2022.06.04-1",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        "GPL-2.0-or-later",
    )
    group: ClassVar[str | None] = "text"
    columns: ClassVar[Mapping[str, str]] = {
        "id": "path in the collection, without ending",
        "image": "path of a PNG, often with transparency",
        "text": "the caption in English",
        "speech": "path of an Ogg Vorbis clip of 1 to 2 seconds: the caption read aloud",
        "category": "one of 8 classes: animals, symbols, food ...",
        **{f"text_{language}": f"the caption in {language}" for language in LANGUAGES},
    }

    def __init__(self, *, speech: str = "fr", side: Annotated[int, Ge(16)] = 256, vectors: bool = False):
        self.speech = speech
        self.side = side
        self.vectors = vectors

    def build(self, folder: Path, progress: Callable[[float], None]) -> pd.DataFrame:
        archive = fetch(self.package)
        return read_stamps(archive, folder, progress, speech=self.speech, side=self.side, vectors=self.vectors)


def read_stamps(
    archive: Path, folder: Path, progress: Callable[[float], None], *, speech: str, side: int, vectors: bool
) -> pd.DataFrame:
    """The stamps of a Debian package; images and clips are written below ``folder``."""
    captions, images, clips = _collect(archive, progress, speech)
    seen = Counter(_top(stem) for stem in captions if stem in images)
    rows = []
    for stem, caption in sorted(captions.items()):
        if stem not in images and not vectors:
            continue
        row: dict[str, str | None] = {"id": stem, **_texts(caption)}
        if stem in images:
            row["image"] = _write(folder, f"{stem}.png", reduced(images[stem], side))
        if stem in clips:
            row["speech"] = _write(folder, f"{stem}_{speech}.ogg", clips[stem])
        if seen[_top(stem)] >= FEWEST:
            row["category"] = _top(stem)
        rows.append(row)
    progress(1.0)
    return pd.DataFrame(rows, columns=list(Stamps.columns))


def reduced(image: bytes, side: int) -> bytes:
    """A PNG of at most ``side`` pixels a side, as it was where it is no larger; transparency is kept."""
    from PIL import Image

    picture = Image.open(io.BytesIO(image))
    if max(picture.size) <= side:
        return image
    picture = picture.convert("RGBA")
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _collect(
    archive: Path, progress: Callable[[float], None], speech: str
) -> tuple[dict[str, str], dict[str, bytes], dict[str, bytes]]:
    captions, images, clips, spoken = {}, {}, {}, set()
    for number, (name, read) in enumerate(archive_members(archive)):
        progress(min(0.9, 0.9 * number / FILES_TO_READ))
        stem = name.removeprefix(FOLDER).rpartition(".")[0]
        if not name.startswith(FOLDER):
            continue
        if name.endswith(".txt"):
            captions[stem] = read().decode()
        elif name.endswith(".png"):
            images[stem] = read()
        elif voice := re.fullmatch(r"(.+)_desc(?:_([A-Za-z]+))?\.ogg", name.removeprefix(FOLDER)):
            language = voice[2] or "en"
            spoken.add(language)
            if language == speech:
                clips[voice[1]] = read()
    if speech not in spoken:
        raise RecipeError(f"no stamp is spoken in '{speech}'. {nearest(speech, spoken)}")
    return captions, images, clips


def _texts(caption: str) -> dict[str, str | None]:
    """The columns of a caption file: a line in English, then lines such as ``fr.utf8=Une grenouille.``"""
    english, *others = caption.splitlines()
    texts: dict[str, str | None] = {"text": english.strip() or None}
    for line in others:
        language, equals, text = line.partition("=")
        if equals and text.strip():
            texts[f"text_{language.removesuffix('.utf8').replace('@', '_')}"] = text.strip()
    return texts


def _top(stem: str) -> str:
    return stem.partition("/")[0]


def _write(folder: Path, name: str, contents: bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)
    return name
