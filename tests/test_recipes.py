"""The files in recipes/: each is valid and has a header with its command and the expected result."""

import warnings
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from mmbert.recipe.load import load_recipe

FOLDER = Path(__file__).parents[1] / "recipes"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_has_a_header(path):
    assert load_recipe(path).recipe.name == path.stem
    title, run, expect = path.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith(f"# recipes/{path.name} - ")
    assert run.startswith("# Run:    ")
    assert f"recipes/{path.name}" in run
    assert expect.startswith("# Expect: ")


@pytest.mark.parametrize("path", sorted((FOLDER / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_a_launch_configuration(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of accelerate's own
        config = load_config_from_file(str(path))
    assert config.num_processes >= 1
    assert not config.use_cpu, "use_cpu with several processes starts trainings that know nothing of each other"
