"""Folders of earlier versions, without a marker: read by every command, written to only after ``--adopt``."""

import shutil
from pathlib import Path

import pytest
from train_parts import DEBUG

from mmbert import api
from mmbert.ablation.tables import LONG, adopt_study
from mmbert.cli.commands import main
from mmbert.errors import IntegrityError
from mmbert.io.ownership import claim, is_marked

SHORT = [
    *("train.steps=2", "evaluate.every=1", "evaluate.baselines=false"),
    *(f"inputs.{name}=null" for name in ("image", "sound", "series", "graph")),
]


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The folder of a finished run, as an earlier version left it."""
    folder = tmp_path_factory.mktemp("old") / "run"
    api.train(DEBUG, overrides=SHORT, out=folder)
    (folder / ".mmbert").unlink()
    return folder


def test_a_run_of_an_earlier_version_is_read_and_trained_only_after_adopting(old, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(old, run)
    output = tmp_path / "predictions.jsonl"
    assert main(["predict", str(run), "--split", "test", "--output", str(output)]) == 0
    assert output.read_text()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    longer = [*SHORT, "train.seed=1"]
    with pytest.raises(IntegrityError, match=r"no marker file .*--adopt takes over a run"):
        api.train(DEBUG, overrides=longer, out=run, resume="never")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert api.train(DEBUG, overrides=longer, out=run, resume="never", adopt=True)["seed"] == 1
    assert is_marked(run, "run")


@pytest.mark.parametrize("damage", ["no checkpoint", "a foreign one", "a damaged one"])
def test_a_folder_without_a_verified_checkpoint_is_not_adopted(old, tmp_path, damage):
    run = tmp_path / "run"
    shutil.copytree(old, run)
    if damage == "a damaged one":
        for path in run.glob("checkpoints/*/model.safetensors"):
            path.write_bytes(path.read_bytes()[:-1])
    else:
        shutil.rmtree(run / "checkpoints")
        if damage == "a foreign one":
            (run / "checkpoints" / "step-5").mkdir(parents=True)
            (run / "checkpoints" / "step-5" / "weights.bin").write_bytes(b"of another project")
    before = sorted(run.rglob("*"))
    with pytest.raises(IntegrityError, match=r"--adopt: .* holds no verified checkpoint"):
        api.train(DEBUG, overrides=SHORT, out=run, resume="never", adopt=True)
    assert sorted(run.rglob("*")) == before


def test_a_project_with_a_recipe_is_no_run(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(Path(DEBUG).read_text())
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "weights.pt").write_bytes(b"precious")
    (tmp_path / "result.json").write_text("{}")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    for resume in ("auto", "never"):
        with pytest.raises(IntegrityError, match="no marker file"):
            api.train(recipe, overrides=SHORT, out=tmp_path, resume=resume)
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_study_of_an_earlier_version_is_taken_over_by_its_table(tmp_path):
    (tmp_path / "table.csv").write_text(",".join(LONG) + "\n")
    with pytest.raises(IntegrityError, match="of a study"):
        claim(tmp_path, "study")
    adopt_study(tmp_path)
    claim(tmp_path, "study")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "table.csv").write_text("name,price\n")
    with pytest.raises(IntegrityError, match=r"holds no table\.csv of a study"):
        adopt_study(tmp_path / "other")
