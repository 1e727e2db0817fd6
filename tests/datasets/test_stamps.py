"""Stamps: captions, images, voices and categories of a tiny Debian package of the same layout."""

import io
import lzma
import tarfile

import pytest
from PIL import Image

from mmbert.datasets.stamps import LANGUAGES, MIN_STAMPS, Stamps, read_stamps, shrink_png
from mmbert.errors import RecipeError

ROOT = "./usr/share/tuxpaint/stamps/"


def png(width, height, mode="RGBA", color=(10, 200, 30, 128)):
    buffer = io.BytesIO()
    Image.new(mode, (width, height), color).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def package(tmp_path):
    files = {
        "animals/frog.png": png(400, 100),
        "animals/frog.txt": b"A frog.\nfr.utf8=Une grenouille.\nca@valencia.utf8=Una granota.\nde.utf8= \n",
        "animals/frog_desc.ogg": b"english",
        "animals/frog_desc_fr.ogg": b"french",
        "animals/frog.ogg": b"a croak",
        "animals/frog_mirror.png": png(4, 4),
        "space/moon.png": png(4, 4),
        "space/moon.txt": b"The moon.",
        "space/sun.svg": b"<svg/>",
        "space/sun.txt": b"The sun.",
    }
    for number in range(MIN_STAMPS - 1):
        files |= {f"animals/a{number}.png": png(4, 4), f"animals/a{number}.txt": b"A cat."}
    for number in range(MIN_STAMPS):
        files |= {f"people/p{number}.svg": b"<svg/>", f"people/p{number}.txt": b"A man."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, contents in files.items():
            info = tarfile.TarInfo(ROOT + name)
            info.size = len(contents)
            file.addfile(info, io.BytesIO(contents))
    data = lzma.compress(buffer.getvalue())
    path = tmp_path / "tuxpaint-stamps-default_1_all.deb"
    path.write_bytes(b"!<arch>\n" + f"{'data.tar.xz':<16}{0:<32}{len(data):<10}`\n".encode() + data)
    return path


def stamps(package, folder, *, speech="fr", side=256, vectors=False, progress=lambda done: None):
    frame = read_stamps(package, folder, progress, speech=speech, side=side, vectors=vectors)
    assert list(frame.columns) == list(Stamps.columns)
    return frame.set_index("id")


def test_captions_in_every_language_and_none_where_empty(package, tmp_path):
    frog = stamps(package, tmp_path / "out").loc["animals/frog"]
    assert frog["text"] == "A frog."
    assert frog["text_fr"] == "Une grenouille."
    assert frog["text_ca_valencia"] == "Una granota."
    assert frog[[f"text_{language}" for language in LANGUAGES]].notna().sum() == 2
    assert len(set(LANGUAGES)) == 77


def test_images_are_reduced_and_lie_below_the_folder(package, tmp_path):
    folder = tmp_path / "out"
    frame = stamps(package, folder, side=64)
    for stem, size in {"animals/frog": (64, 16), "space/moon": (4, 4)}.items():
        with Image.open(folder / frame["image"][stem]) as image:
            assert image.size == size
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == set(frame["image"]) | set(frame["speech"].dropna())  # no unused files


def test_reducing_keeps_small_images_as_they_are_and_transparency():
    small = png(16, 8)
    assert shrink_png(small, 16) is small
    clear = Image.open(io.BytesIO(shrink_png(png(64, 64, color=(10, 200, 30, 0)), 16)))
    assert clear.mode == "RGBA"
    assert clear.getextrema()[3] == (0, 0)
    palette = Image.open(io.BytesIO(shrink_png(png(64, 32, "P", 3), 16)))
    assert palette.size == (16, 8)


@pytest.mark.parametrize(("speech", "contents"), [("fr", b"french"), ("en", b"english")])
def test_speech_in_one_language(package, tmp_path, speech, contents):
    frame = stamps(package, tmp_path, speech=speech)
    assert (tmp_path / frame["speech"]["animals/frog"]).read_bytes() == contents
    assert frame["speech"].notna().sum() == 1


def test_a_language_that_nobody_speaks_is_refused(package, tmp_path):
    with pytest.raises(RecipeError, match=r"'de'\. Valid: en, fr"):
        stamps(package, tmp_path, speech="de")


def test_only_categories_with_enough_bitmaps_are_classes(package, tmp_path):
    for vectors in (False, True):
        frame = stamps(package, tmp_path, vectors=vectors)
        labelled = frame["category"].dropna()
        assert set(labelled) == {"animals"}
        assert len(labelled) == MIN_STAMPS


def test_vectors_adds_stamps_without_an_image(package, tmp_path):
    few, many = (stamps(package, tmp_path, vectors=vectors) for vectors in (False, True))
    assert few["image"].notna().all()
    added = many.drop(index=few.index)
    assert len(added) == MIN_STAMPS + 1
    assert added["image"].isna().all()
    assert added["text"].notna().all()


def test_progress_ends_at_one(package, tmp_path):
    done = []
    stamps(package, tmp_path, progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 1.0
