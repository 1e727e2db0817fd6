"""Programs: labels, graphs and counts from a tiny list of packages, without leaks of labels."""

import pytest

from mmbert.datasets import programs
from mmbert.datasets.programs import Programs, build_graphs, read_packages, read_programs
from mmbert.errors import DataError, IntegrityError
from mmbert.io.download import Package

PACKAGES = """\
Package: lamp
Source: light (1.2)
Version: 3
Installed-Size: 40
Architecture: amd64
Depends: libqt5gui5 (>= 5), libc6:any | musl [amd64], lamp-data (= 3)
Pre-Depends: dpkg
Recommends: libc6, bulb
Description: shines
 Long text that is no input.
Tag: role::program, use::{viewing,editing}, works-with::TODO,
 interface::x11
Section: graphics
Priority: optional
Size: 1000

Package: lamp
Version: 4
Description: a second version
Section: games

Package: lamp-data
Source: light
Architecture: all
Depends: fonts
Description: data
Tag: role::app-data
Section: graphics

Package: libqt5gui5
Depends: libc6, fonts
Description: library
Section: libs

Package: bulb
Architecture: all
Multi-Arch: foreign
Provides: bulb-abi (= 1), glow
Suggests: lamp
Description: glows
Tag: role::program, interface::x11
Section: games
Priority: extra

Package: bare
Description: has no tag besides its role
Tag: role::program, role::plugin
Section: games
"""


@pytest.fixture
def archive(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "MIN_SOURCES", 1)
    monkeypatch.setattr(programs, "SECTION_ROWS", 2)
    path = tmp_path / "bookworm-1.packages"
    path.write_text(PACKAGES)
    return path


def rows(archive, progress=lambda done: None):
    frame = read_programs(archive, progress)
    assert list(frame.columns) == list(Programs.columns)
    return frame.set_index("id")


def test_rows_are_the_programs_and_the_first_version_counts(archive):
    frame = rows(archive)
    assert list(frame.index) == ["bare", "bulb", "lamp"]
    assert frame["text"]["lamp"] == "lamp: shines"
    assert frame["description"]["lamp"] == "shines"
    assert frame["source"].to_dict() == {"bare": "bare", "bulb": "bulb", "lamp": "light"}


def test_tags_with_braces_over_lines_without_roles(archive):
    tags = rows(archive)["tags"]
    assert tags["lamp"] == ["interface::x11", "use::editing", "use::viewing"]
    assert tags["bulb"] == ["interface::x11"]
    assert tags["bare"] is None


def test_only_the_commonest_tags_and_sections_are_labels(archive, monkeypatch):
    assert rows(archive)["section"].dropna().to_dict() == {"bare": "games", "bulb": "games"}
    monkeypatch.setattr(programs, "TAGS", 2)
    tags = rows(archive)["tags"]
    assert tags["lamp"] == ["interface::x11", "use::editing"]  # of equally common tags, the first in order
    monkeypatch.setattr(programs, "TAGS", 1)
    assert rows(archive)["tags"]["lamp"] == ["interface::x11"]


def test_the_graph_has_two_steps_without_the_program_and_its_siblings(archive):
    graph = rows(archive)["dependencies"]["lamp"]
    assert graph["nodes"] == [
        ["", "", "0"],
        ["dpkg", "dpkg", "1"],
        ["libqt5gui5", "libqt", "1"],
        ["libc6", "libc", "1"],
        ["musl", "musl", "1"],
        ["sibling", "sibling", "1"],
        ["bulb", "bulb", "1"],
        ["fonts", "fonts", "2"],
    ]
    edges = {tuple(edge): kind for edge, kind in zip(graph["edges"], graph["edge_features"], strict=True)}
    assert edges == {
        **{(0, end): "depends" for end in range(1, 6)},
        (0, 6): "recommends",
        (2, 3): "depends",
        (2, 7): "depends",
        (5, 7): "depends",
    }
    assert rows(archive)["dependencies"]["bare"] is None
    assert [node[0] for node in rows(archive)["dependencies"]["bulb"]["nodes"]][:2] == ["", "lamp"]


def test_sections_and_tags_of_packages_are_in_no_input(archive):
    frame = rows(archive)
    text = str(frame[["text", "description", "dependencies", "numbers"]].to_dict())
    for label in ("graphics", "games", "interface::", "use::", "role::"):
        assert label not in text


def test_names_that_few_sources_need_are_rare(monkeypatch):
    monkeypatch.setattr(programs, "MIN_SOURCES", 2)
    needs = {"a": [("libx1", "depends"), ("only-a", "depends")], "b": [("libx1", "depends"), ("libx2", "suggests")]}
    firm = {"libx1": [("libx2", "depends"), ("deep", "depends")]}
    sources = {"a": "a", "b": "b"}
    graphs = build_graphs(["a", "b"], needs, firm, sources)
    assert graphs["a"]["nodes"] == [
        ["", "", "0"],
        ["libx1", "libx", "1"],
        ["rare", "rare", "1"],
        ["libx2", "libx", "2"],
        ["deep", "deep", "2"],
    ]
    one_source = build_graphs(["a", "b"], needs, firm, {"a": "s", "b": "s"})
    assert one_source["a"]["nodes"] == [["", "", "0"], ["rare", "rare", "1"], ["rare", "rare", "1"]]


def test_a_graph_keeps_the_nearest_nodes(monkeypatch):
    monkeypatch.setattr(programs, "MAX_NODES", 3)
    monkeypatch.setattr(programs, "MIN_SOURCES", 1)
    needs = {"a": [(name, "depends") for name in ("one", "two", "three")]}
    graph = build_graphs(["a"], needs, {"one": [("two", "depends")]}, {"a": "a"})["a"]
    assert [node[0] for node in graph["nodes"]] == ["", "one", "two"]
    assert graph["edges"] == [[0, 1], [0, 2], [1, 2]]


def test_numbers_of_a_package(archive):
    numbers = rows(archive)["numbers"]
    assert numbers["lamp"] == {
        "installed_size": 40,
        "size": 1000,
        "depends": 5,
        "recommends": 1,
        "suggests": 0,
        "provides": 0,
        "needed_by": 1,
        "siblings": 1,
        "priority": "optional",
        "architecture": "machine",
        "multi_arch": "no",
    }
    bulb = numbers["bulb"]
    assert (bulb["provides"], bulb["suggests"], bulb["architecture"], bulb["multi_arch"]) == (2, 1, "all", "foreign")
    assert bulb["installed_size"] is None


def test_records_fold_lines_and_the_last_needs_no_empty_line(tmp_path):
    path = tmp_path / "list"
    path.write_text("Package: a\nTag: x::y,\n z::w\n\n\nPackage: b\nSize: 3")
    assert read_packages(path) == {"a": {"Package": "a", "Tag": "x::y,\nz::w"}, "b": {"Package": "b", "Size": "3"}}


def test_a_list_without_debtags_is_refused(tmp_path):
    path = tmp_path / "list"
    path.write_text("Package: a\nDescription: b\nSection: games\n")
    with pytest.raises(IntegrityError, match="role::program"):
        read_programs(path, lambda done: None)


def test_copies_of_a_release_do_not_share_a_file():
    pinned, unpinned = Programs().package, Programs(release="trixie", sha256=None).package
    assert pinned.pattern == "bookworm-515e692f2c41.packages"
    assert unpinned.pattern == "trixie-any.packages"
    assert isinstance(pinned, Package)
    assert "trixie" in unpinned.command


def test_an_archive_that_has_moved_is_reported_with_a_remedy(monkeypatch, tmp_path):
    def moved(package):
        raise DataError("expected sha256 1, found 2")

    monkeypatch.setattr(programs, "fetch", moved)
    with pytest.raises(DataError, match=r"found 2\n'sha256: null' takes"):
        Programs().build(tmp_path, lambda done: None)


def test_progress_ends_at_one(archive):
    done = []
    rows(archive, done.append)
    assert done == sorted(done)
    assert done[-1] == 1.0
