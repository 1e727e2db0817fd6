"""Programs of Debian with description, dependencies and sizes, for multi-label and single-label classification."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from mmbert.contracts import Builder
from mmbert.errors import DataError, IntegrityError
from mmbert.io.download import Package, fetch

# of main/binary-amd64/Packages of Debian 12, in the signed list since July 2026
BOOKWORM = "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f"
PROGRAM = "role::program"
TAGS = 85  # the most frequent tags are labels
SECTION_ROWS = 100  # programs that a section needs to be a class
MIN_SOURCES = 5  # sources whose programs reach a package; the name of a rarer package is "rare"
MAX_NODES = 128  # of a graph, the nearest first
RELATIONS = {"Pre-Depends": "depends", "Depends": "depends", "Recommends": "recommends", "Suggests": "suggests"}
HARD = ("Pre-Depends", "Depends")  # followed for a second step
Record = Mapping[str, str]  # field -> value
Needs = list[tuple[str, str]]  # (package, relation), each package once


class Programs(Builder):
    """8,335 programs of Debian 12: their debtags (85 labels, several a program) and their section (19 classes).

    People gave tags and sections; they do not follow from the text. A program with no tag but its role has no label.
    Tags are incomplete; a missing tag counts as false. Programs built from one source are in one split. Left out are
    the maintainer and the sections and tags of other packages, since packages of one source have the same; in the graph
    a package of the program's own source is named "sibling".

    Debian's archive changes, so the list of packages, as apt has it, is kept in the cache and checked by its hash.
    Security updates, which have no tags, are not read. ``build`` raises ``DataError`` where apt has no such list, or
    another one. Do not redistribute.

    Args:
        release: the Debian release.
        sha256: the hash of the list of packages; None takes the list that apt has now, which may give other rows and
            labels.

    Reference:
        Debian archive, https://www.debian.org; the tags are by its debtags project.
    """

    version: ClassVar[str] = "1"
    group: ClassVar[str | None] = "source"
    columns: ClassVar[Mapping[str, str]] = {
        "id": "name of the package",
        "text": "its name and what it is, in one line",
        "description": "what it is, in one line",
        "dependencies": "graph: packages that it depends on, recommends and suggests, and their dependencies",
        "numbers": "sizes, counts of dependencies and of packages that need it; priority, architecture",
        "tags": "list of its debtags, of 85 in all, such as 'interface::x11'",
        "section": "one of 19, such as 'games'",
        "source": "the source package; all programs of a source are in one split",
    }

    def __init__(self, *, release: str = "bookworm", sha256: str | None = BOOKWORM):
        self.release = release
        self.sha256 = sha256

    @property
    def package(self) -> Package:
        """The list of packages of the release."""
        digest = self.sha256 or ""
        return Package("index", self.release, digest[:12] or "any", digest, "LicenseRef-as-the-packages")

    def build(self, folder: Path, progress: Callable[[float], None]) -> pd.DataFrame:
        try:
            archive = fetch(self.package)
        except DataError as error:
            raise DataError(f"{error}\n'sha256: null' takes the list that apt has now, and keeps it") from error
        return read_programs(archive, progress)


def read_programs(archive: Path, progress: Callable[[float], None]) -> pd.DataFrame:
    """Read the programs in a list of packages, sorted by name.

    Args:
        archive: the list.
        progress: called with the fraction that is done.

    Raises:
        IntegrityError: where no package is a program.
    """
    packages = read_packages(archive)
    progress(0.2)
    tags = {name: _tags(record) for name, record in packages.items()}
    programs = sorted(name for name in packages if PROGRAM in tags[name])
    if not programs:
        raise IntegrityError(f"{archive}: no package has the tag {PROGRAM}")
    topics = {name: [tag for tag in tags[name] if not re.match("role::|special::|.*::TODO", tag)] for name in programs}
    tag_counts = Counter(tag for program_tags in topics.values() for tag in program_tags)
    labels = {*sorted(tag_counts, key=lambda tag: (-tag_counts[tag], tag))[:TAGS]}
    sections = Counter(packages[name]["Section"] for name in programs)
    needs = {name: _needs(record, RELATIONS) for name, record in packages.items()}
    hard_needs = {name: _needs(record, HARD) for name, record in packages.items()}
    sources = {name: record.get("Source", name).split(" ")[0] for name, record in packages.items()}
    dependents = Counter(package for package_needs in needs.values() for package, _ in package_needs)
    siblings = Counter(sources.values())
    graphs = build_graphs(programs, needs, hard_needs, sources)
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
            "needed_by": dependents[name],
            "siblings": siblings[sources[name]] - 1,
            "priority": record.get("Priority"),
            "architecture": "all" if record.get("Architecture") == "all" else "machine",
            "multi_arch": record.get("Multi-Arch", "no"),
        }
        about = record["Description"].partition("\n")[0]
        program_tags = sorted(labels & {*topics[name]}) if topics[name] else None
        section = section if sections[section] >= SECTION_ROWS else None
        text, graph = f"{name}: {about}", graphs.get(name)
        rows.append((name, text, about, graph, numbers, program_tags, section, sources[name]))
    progress(1.0)
    return pd.DataFrame(rows, columns=list(Programs.columns))


def read_packages(archive: Path) -> dict[str, Record]:
    """Read the records of a list of packages, by name; of several versions the first one."""
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


def build_graphs(
    programs: Iterable[str],
    needs: Mapping[str, Needs],
    hard_needs: Mapping[str, Needs],
    sources: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """The dependency graph of each program that needs a package, with at most 128 nodes.

    A node is [name, stem of the name, steps from the program]: first the program, without a name, then the packages
    that it needs, then their hard dependencies. A name, or a stem such as "libqt" of "libqt5gui5", that the programs of
    fewer than 5 sources reach is "rare"; at the second step a package whose name and stem are rare is left out. The
    feature of an edge is the relation.

    Args:
        programs: the names of the programs.
        needs: package -> all packages that it needs.
        hard_needs: package -> packages without which it cannot be installed.
        sources: package -> its source.

    Returns:
        Program -> a graph with ``nodes``, ``edges`` and ``edge_features``.
    """
    near = {name: [package for package, _ in needs[name] if package != name] for name in programs}
    reach = {
        name: dict.fromkeys([*direct, *(second for first in direct for second, _ in hard_needs.get(first, ()))])
        for name, direct in near.items()
    }
    by_name, by_stem = defaultdict(set), defaultdict(set)
    for name, reached in reach.items():
        for package in reached:
            by_name[package].add(sources[name])
            by_stem[name_stem(package)].add(sources[name])
    common_names = {name for name, origins in by_name.items() if len(origins) >= MIN_SOURCES}
    common_stems = {stem for stem, origins in by_stem.items() if len(origins) >= MIN_SOURCES}
    graphs = {}
    for program, reached in reach.items():
        if not reached:
            continue
        direct = {*near[program]}
        neighbours = [
            package
            for package in reached
            if package in direct or package in common_names or name_stem(package) in common_stems
        ]
        members = [program, *(package for package in neighbours if package != program)][:MAX_NODES]
        places = {package: place for place, package in enumerate(members)}
        nodes = [["", "", "0"]]
        for package in members[1:]:
            stem, is_sibling = name_stem(package), sources.get(package) == sources[program]
            names = [package if package in common_names else "rare", stem if stem in common_stems else "rare"]
            nodes.append([*(["sibling"] * 2 if is_sibling else names), "1" if package in direct else "2"])
        edges, kinds = [], []
        for package in members:
            for target, relation in needs[program] if package == program else hard_needs.get(package, ()):
                if target in places and target not in (package, program):
                    edges.append([places[package], places[target]])
                    kinds.append(relation)
        graphs[program] = {"nodes": nodes, "edges": edges, "edge_features": kinds}
    return graphs


def name_stem(package: str) -> str:
    """The start of a package's name, up to the first character after a letter that is not a letter.

    Example:
        >>> [name_stem(name) for name in ("libqt5gui5", "python3-yaml", "0ad-data")]
        ['libqt', 'python', '0ad']
    """
    return re.split(r"(?<=[a-z])[^a-z]", package)[0]


def _needs(record: Record, fields: Iterable[str]) -> Needs:
    """The packages that fields of a record name, alternatives included; each once, with its strongest relation."""
    relations: dict[str, str] = {}
    for field in fields:
        for clause in re.split(r"[,|]", record.get(field, "")):
            if name := re.split(r"[ :(\[]", clause.strip())[0]:
                relations.setdefault(name, RELATIONS.get(field, field))
    return list(relations.items())


def _tags(record: Record) -> list[str]:
    """The tags of a record; braces, as in ``use::{editing,viewing}``, hold several."""
    tags = []
    for facet, values, tag in re.findall(r"([^\s,{]+::)\{([^}]*)\}|([^\s,{]+)", record.get("Tag", "")):
        tags += [facet + value.strip() for value in values.split(",")] if facet else [tag]
    return tags


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
