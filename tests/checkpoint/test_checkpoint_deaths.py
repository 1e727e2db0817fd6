"""Faults at every file system call of a save: a verified checkpoint is always left, either the old or the new one."""

import ast
import errno
import inspect
import itertools
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkpoint_parts import Run, names
from safetensors.torch import load_file

from mmbert.checkpoint import checkpoint, manifest, processors, tensors
from mmbert.checkpoint.manifest import newest, steps, verify
from mmbert.checkpoint.processors import read_json
from mmbert.io import storage

CALLS = [
    name for name, call in vars(storage).items() if inspect.isfunction(call) and call.__module__ == storage.__name__
]
KINDS = ["dies before", "dies after", "dies torn", "fails once", "fails from here on"]


class Died(BaseException):
    """Simulates a process that ends here: no handler catches it, and no further call is made."""


@contextmanager
def fault(at, kind):
    """Let the file system call of index ``at`` die or fail; yields the names of the calls made so far."""
    seen, dead = [], []

    def wrap(name, real):
        def call(*arguments):
            if dead:
                raise dead[0]
            seen.append(name)
            if len(seen) != at + 1:
                return real(*arguments)
            if kind == "dies after":
                real(*arguments)
            elif kind == "dies torn":
                tear(name, real, *arguments)
            error = OSError(errno.EIO, "made up") if kind.startswith("fails") else Died()
            if kind != "fails once":
                dead.append(error)
            raise error

        return call

    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in CALLS:
            monkeypatch.setattr(storage, name, wrap(name, getattr(storage, name)))
        yield seen


def tear(name, real, path, *rest):
    """Do half of the work of a call."""
    if name == "write":
        real(path, rest[0][: len(rest[0]) // 2])
    elif name == "write_tensors":
        real(path, *rest)
        os.truncate(path, path.stat().st_size // 2)
    elif name == "remove" and path.exists():
        files = sorted(path.iterdir())
        for file in files[: len(files) // 2]:
            file.unlink()


def mark_of(path):
    """The mark of a checkpoint; asserts that all its files have the same one."""
    tensors = [load_file(file) for file in path.glob("*.safetensors")]
    marks = {value for file in tensors for tensor in file.values() for value in tensor.flatten().tolist()}
    marks |= {read_json(path / name)["mark"] for name in ("trainer.json", "parts.json")}
    marks |= {float((path / "recipe.yaml").read_text().removeprefix("mark: "))}
    assert len(tensors) == 4
    assert len(marks) == 1
    return marks.pop()


def damaged(folder, step):
    path = Run().train(1).mark(99).save(folder, keep=(1, 2)).rename(folder / f"step-{step}")
    os.truncate(path / "model.safetensors", 100)


def left_over(folder, step):
    shutil.copytree(folder / "step-1", folder / f".step-{step}.tmp")
    (folder / ".step-1.old").mkdir()


# name -> the steps of earlier checkpoints, the first being the best; a function that adds other folders
BEFORE = {
    "no earlier": ((), lambda folder: None),
    "one earlier": ((1,), lambda folder: None),
    "three earlier, and folders left by interrupted saves": ((1, 2, 3), lambda folder: left_over(folder, 5)),
    "a damaged one of the same step": ((1, 2), lambda folder: damaged(folder, 5)),
}


@pytest.fixture
def memory():
    """A folder in memory, if the system has one: thousands of files are written and removed."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_checkpoint_is_left_wherever_a_save_dies_or_fails(memory, monkeypatch, before, kind):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # tested below; slow
    run, (earlier, more) = Run().train(1), BEFORE[before]
    template, folder = memory / "template", memory / "checkpoints"
    for step in earlier:
        run.mark(step).save(template, best=1, keep=earlier)
    more(template)
    old, marks = max(earlier, default=None), []
    for at in itertools.count():
        shutil.rmtree(folder, ignore_errors=True)
        if template.exists():
            shutil.copytree(template, folder)
        raised = None
        with fault(at, kind) as seen:
            try:
                run.mark(5).save(folder, best=1 if earlier else 5)
            except (Died, OSError) as error:
                raised = error
        whole = newest(folder, lambda message: None)
        marks.append(whole and mark_of(whole))
        assert marks[-1] in (old, 5)
        assert raised or marks[-1] == 5
        for path in steps(folder):  # a folder with a final name is complete
            if "damaged" not in before or path.name != "step-5" or marks[-1] == 5:
                verify(path)
        if earlier:
            verify(folder / "step-1")  # the best
        if kind == "fails once" and "left" not in before:
            assert not (folder / ".step-5.tmp").exists()
        run.mark(6).save(folder, best=1 if earlier else 6)
        assert names(folder) == ({"step-1", "step-6"} if earlier else {"step-6"})  # the next save removes leftovers
        assert mark_of(folder / "step-6") == 6
        if len(seen) <= at:
            break
    assert at > 25
    assert {*marks} == {old, 5}
    if kind.startswith("dies"):
        assert marks == sorted(marks, key=lambda mark: mark == 5)  # from one call on, the new one is there


def test_every_file_system_call_of_a_save_goes_through_storage():
    touching = {"open", "write_text", "write_bytes", "mkdir", "touch", "unlink", "rmdir", "rename", "replace"}
    touching |= {"save_file", "symlink_to", "chmod"}
    for module in (checkpoint, manifest, processors, tensors):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name.startswith("storage.") or name.rpartition(".")[2] not in touching, (module, name)
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not {"os", "shutil", "tempfile"} & {alias.name for alias in node.names}


def test_files_are_synced_before_the_rename_and_the_rename_before_the_old_is_removed(tmp_path, monkeypatch):
    run, synced, calls = Run().train(1), [], []
    run.mark(1).save(tmp_path)
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.readlink(f"/proc/self/fd/{handle}")), real(handle))
    )
    rename = os.rename

    def renaming(source, target):
        calls.append((source.name, target.name, {*synced}))
        rename(source, target)

    monkeypatch.setattr(os, "rename", renaming)
    path = run.mark(2).save(tmp_path)
    (first, second, before), (gone, _, after) = calls
    assert (first, second, gone) == (".step-2.tmp", "step-2", "step-1")
    temporary = tmp_path.resolve() / ".step-2.tmp"
    assert before == {str(temporary), *(str(temporary / name) for name in names(path))}
    assert after - before == {str(tmp_path.resolve())}
    assert synced.index(str(temporary / "manifest.json")) == len(names(path)) - 1  # the last file
