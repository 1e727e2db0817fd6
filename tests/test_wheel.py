"""The wheel: it lists its recipes and trains one from an empty folder, without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
NOT_IN_THE_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", "*.egg-info", "build", "dist", "runs", "site", ".*_cache"
)


def run(command, folder, **environment):
    """Run a command in a folder, without the checkout on the path, and return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        command, cwd=folder, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution, as a release is."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_IN_THE_SOURCE)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), "source"], folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def command(wheel, tmp_path_factory):
    """The command ``mmbert`` of a new environment with the wheel and, through a path file, this one's libraries."""
    environment = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)], environment)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    run(pip, environment)
    packages = run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], environment).strip()
    # a path file adds only the folders and does not run the hooks of editable installs
    libraries = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (Path(packages) / "libraries.pth").write_text("\n".join(libraries) + "\n")
    return str(environment / "bin" / "mmbert")


def test_the_wheel_holds_all_recipes(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("mmbert/recipes/")}
    assert held == {f"mmbert/{path.relative_to(ROOT)}" for path in (ROOT / "recipes").rglob("*.yaml")}


def test_recipes_are_listed_and_trained_from_an_empty_folder(command, tmp_path):
    listed = run([command, "list", "recipes"], tmp_path)
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert path.stem in listed
    words = ["train", "debug", "--set", "train.steps=2", "--set", "evaluate.every=2", "--out", "run"]
    run([command, *words], tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"), OMP_NUM_THREADS="1")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]
