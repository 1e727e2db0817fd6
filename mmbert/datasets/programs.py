"""Programs of Debian: what they do, what they depend on, how large they are; for multi-label and for one label."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from mmbert.contracts import Builder
from mmbert.errors import DataError, IntegrityError
from mmbert.io.download import Package, fetch

# main/binary-amd64/Packages as the signed list of Debian 12 has it since July 2026
BOOKWORM = "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f"
PROGRAM = "role::program"
TAGS = 85  # the commonest; rarer ones are no labels
SECTION_ROWS = 100  # programs that a section needs to be a class
FEWEST = 5  # sources whose programs need a package, for it to have a name of its own
MOST = 128  # nodes; the nearest
RELATIONS = {"Pre-Depends": "depends", "Depends": "depends", "Recommends": "recommends", "Suggests": "suggests"}
FIRM = ("Pre-Depends", "Depends")  # followed for a second step
Record = Mapping[str, str]  # field -> value
Needs = list[tuple[str, str]]  # (package, how it is needed), each package once


class Programs(Builder):
    """8,335 programs of Debian 12: their debtags (85 labels, several a program) and their section (19 classes).

    Neither is read from the text: people gave them. A program that has no tag besides its role has no label; tags are
    incomplete, and what is not tagged counts as false. Programs built from one source stay in one split. Kept out: the
    sections and tags of other packages, which are those of the program where both come from one source, and who
    maintains it; the graph calls packages of the program's own source "sibling".

    The archive moves, so a copy is frozen: the release's list of packages, as apt has it, is kept in the cache. Its
    ``sha256`` is checked, so that all have the same rows. Where Debian has changed the list, or for another
    ``release``, null takes what apt has now: rows and labels are then others. Security updates, which have lost
    the tags, are not read.

    Source: Debian's archive, the tags by its debtags project. Do not redistribute.
    Raises ``DataError`` where apt has no such list or another one.
    """

    version: ClassVar[str] = "1"
    group: ClassVar[str | None] = "source"
    columns: ClassVar[Mapping[str, str]] = {
        "id": "name of the package",
        "text": "its name and what it is, in one line",
        "description": "what it is, in one line",
        "dependencies": "graph: what it depends on, recommends and suggests, and what that depends on",
        "numbers": "sizes, counts of dependencies and of packages that need it; priority, architecture",
        "tags": "list of those of 85 debtags that it has, such as 'interface::x11'",
        "section": "one of 19, such as 'games'",
        "source": "the source package, which never straddles two splits",
    }

    def __init__(self, *, release: str = "bookworm", sha256: str | None = BOOKWORM):
        self.release = release
        self.sha256 = sha256

    @property
    def package(self) -> Package:
        """The frozen copy."""
        digest = self.sha256 or ""
        return Package("index", self.release, digest[:12] or "any", digest, "LicenseRef-as-the-packages")

    def build(self, folder: Path, progress: Callable[[float], None]) -> pd.DataFrame:
        try:
            archive = fetch(self.package)
        except DataError as error:
            raise DataError(f"{error}\nWith 'sha256: null' the list is taken as apt has it, frozen then") from error
        return read_programs(archive, progress)


def read_programs(archive: Path, progress: Callable[[float], None]) -> pd.DataFrame:
    """The programs in a list of packages, in the order of their names."""
    packages = read_packages(archive)
    progress(0.2)
    tags = {name: _tags(record) for name, record in packages.items()}
    programs = sorted(name for name in packages if PROGRAM in tags[name])
    if not programs:
        raise IntegrityError(f"{archive}: no package has the tag {PROGRAM}")
    said = {name: [tag for tag in tags[name] if not re.match("role::|special::|.*::TODO", tag)] for name in programs}
    counted = Counter(tag for some in said.values() for tag in some)
    kept = {*sorted(counted, key=lambda tag: (-counted[tag], tag))[:TAGS]}
    sections = Counter(packages[name]["Section"] for name in programs)
    needs = {name: _needs(record, RELATIONS) for name, record in packages.items()}
    firm = {name: _needs(record, FIRM) for name, record in packages.items()}
    sources = {name: record.get("Source", name).split(" ")[0] for name, record in packages.items()}
    wanted = Counter(other for some in needs.values() for other, _ in some)
    siblings = Counter(sources.values())
    graphs = dependencies(programs, needs, firm, sources)
    progress(0.9)
    rows = []
    for name in programs:
        record, section = packages[name], packages[name]["Section"]
        counts = Counter(relation for _, relation in needs[name])
        numbers = {
            "installed_size": _number(record.get("Installed-Size")),  # kB
            "size": _number(record.get("Size")),  # bytes, compressed
            **{relation: counts[relation] for relation in ("depends", "recommends", "suggests")},
            "provides": len(_needs(record, ("Provides",))),
            "needed_by": wanted[name],
            "siblings": siblings[sources[name]] - 1,
            "priority": record.get("Priority"),
            "architecture": "all" if record.get("Architecture") == "all" else "machine",
            "multi_arch": record.get("Multi-Arch", "no"),
        }
        about = record["Description"].partition("\n")[0]
        labels = (
            sorted(kept & {*said[name]}) if said[name] else None,
            section if sections[section] >= SECTION_ROWS else None,
        )
        rows.append((name, f"{name}: {about}", about, graphs.get(name), numbers, *labels, sources[name]))
    progress(1.0)
    return pd.DataFrame(rows, columns=list(Programs.columns))


def read_packages(archive: Path) -> dict[str, Record]:
    """The records of a list of packages by name; of several versions the one that stands first."""
    records: dict[str, Record] = {}
    record, field = dict[str, str](), ""
    with archive.open(encoding="utf-8") as file:
        for line in [*file, "\n"]:
            if not line.strip():
                if "Package" in record:
                    records.setdefault(record["Package"], record)
                record = {}
            elif line[0] in " \t":
                record[field] = f"{record.get(field, '')}\n{line.strip()}"
            else:
                field, _, value = line.partition(":")
                record[field] = value.strip()
    return records


def dependencies(
    programs: Iterable[str],
    needs: Mapping[str, Needs],
    firm: Mapping[str, Needs],
    sources: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """The graph of each program that needs a package, over at most 128 nodes [name, stem, steps from the program].

    The program comes first, without a name; then what it needs; then what these depend on. Names, and stems such as
    "libqt" of "libqt5gui5", that the programs of fewer than 5 sources reach are "rare"; a package that is rare in both
    is left out at the second step. An edge says how its end is needed.
    """
    near = {name: [other for other, _ in needs[name] if other != name] for name in programs}
    reach = {
        name: dict.fromkeys([*direct, *(other for one in direct for other, _ in firm.get(one, ()))])
        for name, direct in near.items()
    }
    by_name, by_stem = defaultdict(set), defaultdict(set)
    for name, reached in reach.items():
        for other in reached:
            by_name[other].add(sources[name])
            by_stem[stem(other)].add(sources[name])
    common = {one for one, having in by_name.items() if len(having) >= FEWEST}
    stems = {one for one, having in by_stem.items() if len(having) >= FEWEST}
    graphs = {}
    for name, reached in reach.items():
        if not reached:
            continue
        direct = {*near[name]}
        told = [one for one in reached if one in direct or one in common or stem(one) in stems]
        members = [name, *(one for one in told if one != name)][:MOST]
        places = {one: place for place, one in enumerate(members)}
        nodes = [["", "", "0"]]
        for one in members[1:]:
            own = sources.get(one) == sources[name]
            names = [one if one in common else "rare", stem(one) if stem(one) in stems else "rare"]
            nodes.append([*(["sibling"] * 2 if own else names), "1" if one in direct else "2"])
        edges, kinds = [], []
        for one in members:
            for other, relation in needs[name] if one == name else firm.get(one, ()):
                if other in places and other not in (one, name):
                    edges.append([places[one], places[other]])
                    kinds.append(relation)
        graphs[name] = {"nodes": nodes, "edges": edges, "edge_features": kinds}
    return graphs


def stem(package: str) -> str:
    """The start of a package's name, up to the first digit or sign.

    >>> [stem(name) for name in ("libqt5gui5", "python3-yaml", "0ad-data")]
    ['libqt', 'python', '0ad']
    """
    return re.split(r"(?<=[a-z])[^a-z]", package)[0]


def _needs(record: Record, fields: Iterable[str]) -> Needs:
    """The packages that fields of relations name, alternatives among them, each once with its firmest relation."""
    found: dict[str, str] = {}
    for field in fields:
        for clause in re.split(r"[,|]", record.get(field, "")):
            if name := re.split(r"[ :(\[]", clause.strip())[0]:
                found.setdefault(name, RELATIONS.get(field, field))
    return list(found.items())


def _tags(record: Record) -> list[str]:
    """The tags of a record; braces, as in ``use::{editing,viewing}``, stand for several."""
    tags = []
    for facet, several, one in re.findall(r"([^\s,{]+::)\{([^}]*)\}|([^\s,{]+)", record.get("Tag", "")):
        tags += [facet + each.strip() for each in several.split(",")] if facet else [one]
    return tags


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
