"""Recipes and studies that are installed with mmbert are found by name."""

from pathlib import Path

import pytest

from mmbert.errors import RecipeError
from mmbert.recipe import shipped
from mmbert.recipe.shipped import find_shipped, shipped_folder, shipped_names


def test_recipes_and_studies_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_shipped("quickstart") == str(shipped_folder() / "quickstart.yaml")
    study = str(shipped_folder() / "ablations" / "fusion.yaml")
    assert find_shipped("fusion", "study") == find_shipped("ablations/fusion", "study") == study
    assert {"debug", "quickstart"} <= {*shipped_names()}
    assert "fusion" in shipped_names("study")


def test_a_file_hides_a_shipped_recipe_but_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("quickstart").mkdir()
    assert find_shipped("quickstart") == str(shipped_folder() / "quickstart.yaml")
    Path("debug").write_text("name: mine")
    assert find_shipped("debug") == "debug"


@pytest.mark.parametrize("path", ["quickstart.yaml", "recipes/quickstart", "../quickstart", "", ".", "/quickstart"])
def test_a_path_with_a_folder_or_a_suffix_is_not_searched(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_shipped(path) == path


@pytest.mark.parametrize(
    ("name", "kind", "near"), [("quikstart", "recipe", "quickstart"), ("fuson", "study", "fusion")]
)
def test_an_unknown_recipe_is_reported_with_the_nearest_name(name, kind, near):
    with pytest.raises(RecipeError, match=f"name of a {kind} .* found '{name}'. Did you mean '{near}'\\?"):
        find_shipped(name, kind)


def test_a_wheel_holds_its_recipes_inside_the_package(tmp_path, monkeypatch):
    (tmp_path / "mmbert" / "recipes" / "ablations").mkdir(parents=True)
    (tmp_path / "mmbert" / "recipes" / "mine.yaml").touch()
    monkeypatch.setattr(shipped, "files", lambda _: tmp_path / "mmbert")
    assert shipped_names() == ["mine"]
    assert find_shipped("mine") == str(tmp_path / "mmbert" / "recipes" / "mine.yaml")
