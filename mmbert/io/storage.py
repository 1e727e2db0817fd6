"""The file-system calls of a checkpoint save, in one module so that tests can inject a failure at every call.

Each function raises ``OSError``, and nothing else, where the disk is full, read-only or broken.
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
    """Make a new folder and the folders above it."""
    path.mkdir(parents=True)


def entries(path: Path) -> list[Path]:
    """The paths in a folder, sorted by name; none where the folder does not exist."""
    return sorted(path.iterdir()) if path.exists() else []


def write(path: Path, content: bytes) -> None:
    """Write a file that is on the disk when this returns.

    Args:
        path: the file.
        content: all of its bytes.
    """
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file that is on the disk when this returns.

    Args:
        path: the file.
        tensors: by name; those in main memory are not copied.
    """
    path.touch()
    mode = path.stat().st_mode  # the library replaces it by a file that only its owner may read
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error
    with suppress(PermissionError):  # some network disks have no modes
        path.chmod(mode)
    sync(path)


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (
            path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)
        ):  # some network disks can sync files only
            raise
    finally:
        os.close(handle)


def measure(path: Path) -> dict[str, int | str]:
    """The size and the hash of a file, read back from the disk."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
        return {"size": file.tell(), "blake2b": digest}


def rename(path: Path, target: Path) -> None:
    """Rename a file or folder.

    Args:
        path: the present name.
        target: the new name, in the same file system.
    """
    os.rename(path, target)


def remove(path: Path) -> None:
    """Remove a folder with its content, a file or a link, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
