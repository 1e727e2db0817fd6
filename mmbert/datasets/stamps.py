"""The stamps of Tux Paint: drawings and photographs with captions in 77 languages, some of them read aloud."""

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
FILES_TO_READ = 10_401  # in the pinned package; used for the progress bar only
MIN_STAMPS = 20  # stamps with an image that a category needs to be a class


class Stamps(Builder):
    """Images with captions in 77 languages and a human voice: 8 categories, or retrieval across languages.

    ``text`` is the English caption, ``text_fr`` and others are translations, ``speech`` is the caption read aloud.
    There is about one speaker a language, so do not report language identification. ``category`` is the outermost
    folder; it is absent where fewer than 20 stamps of the folder have an image. Stamps with the same English caption
    are in one split. The data come from Debian's ``tuxpaint-stamps-default``. GPL-2: do not redistribute. ``build``
    raises ``RecipeError`` on a language without recordings.

    Args:
        speech: the language of the recordings.
        side: larger images are shrunk to so many pixels on the longer side.
        vectors: whether to include stamps that exist as SVG only, without ``image``.

    Reference:
        Tux Paint, https://tuxpaint.org
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
    """Read the stamps, and write images and recordings.

    Args:
        archive: the Debian package.
        folder: images and recordings are written into it.
        progress: called with the fraction that is done.
        speech: the language of the recordings.
        side: the longest side of an image in pixels.
        vectors: whether to include stamps without an image.

    Raises:
        RecipeError: on a language without recordings, with the nearest one.
    """
    captions, images, clips = _collect(archive, progress, speech)
    counts = Counter(_top_folder(stem) for stem in captions if stem in images)
    rows = []
    for stem, caption in sorted(captions.items()):
        if stem not in images and not vectors:
            continue
        row: dict[str, str | None] = {"id": stem, **_parse_caption(caption)}
        if stem in images:
            row["image"] = _write(folder, f"{stem}.png", shrink_png(images[stem], side))
        if stem in clips:
            row["speech"] = _write(folder, f"{stem}_{speech}.ogg", clips[stem])
        if counts[_top_folder(stem)] >= MIN_STAMPS:
            row["category"] = _top_folder(stem)
        rows.append(row)
    progress(1.0)
    return pd.DataFrame(rows, columns=list(Stamps.columns))


def shrink_png(image: bytes, side: int) -> bytes:
    """Shrink a PNG image; transparency is kept.

    Args:
        image: the bytes of the file.
        side: the longest side of the result in pixels; a smaller image is not changed.
    """
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
    captions, images, clips, languages = {}, {}, {}, set()
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
            languages.add(language)
            if language == speech:
                clips[voice[1]] = read()
    if speech not in languages:
        raise RecipeError(f"no stamp is read aloud in '{speech}'. {nearest(speech, languages)}")
    return captions, images, clips


def _parse_caption(caption: str) -> dict[str, str | None]:
    """The columns of a caption file, which has a line in English and then lines such as ``fr.utf8=Une grenouille``."""
    english, *translations = caption.splitlines()
    texts: dict[str, str | None] = {"text": english.strip() or None}
    for line in translations:
        language, equals, text = line.partition("=")
        if equals and text.strip():
            texts[f"text_{language.removesuffix('.utf8').replace('@', '_')}"] = text.strip()
    return texts


def _top_folder(stem: str) -> str:
    return stem.partition("/")[0]


def _write(folder: Path, name: str, contents: bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)
    return name
