"""The file-system calls of a save: the one place where it meets the disk, so that a test may let it die at each.

Each raises ``OSError`` where the disk is full, read-only or broken, and nothing else.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def make_folder(path: Path) -> None:
    path.mkdir(parents=True)


def entries(path: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where there is no folder."""
    return sorted(path.iterdir()) if path.exists() else []


def write(path: Path, content: bytes) -> None:
    """A file of these bytes, on the disk when this returns."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, on the disk when this returns. Tensors in main memory are written without a copy."""
    path.touch()
    mode = path.stat().st_mode  # the library puts a file in its place that only its owner may read
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error
    with suppress(PermissionError):  # some network disks know no modes
        path.chmod(mode)
    sync(path)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):  # some network disks sync files only
            raise
    finally:
        os.close(handle)


def measure(path: Path) -> dict[str, int | str]:
    """Size and hash of a file, read back in one pass."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
        return {"size": file.tell(), "blake2b": digest}


def rename(path: Path, target: Path) -> None:
    os.rename(path, target)


def remove(path: Path) -> None:
    """Remove a folder with all in it, a file or a link; one that is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
