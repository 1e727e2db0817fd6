"""Security: recipes, model folders, data and packages cannot run code, escape their folders or fill the memory."""

import ast
import csv
import io
import json
import pickle
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch

from mmbert.errors import IntegrityError, RecipeError
from mmbert.recipe.load import load_recipe
from mmbert.tracking import ledger
from mmbert.trunk.weights import build_from_config, load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(
    path for folder in ("mmbert", "encoders", "tasks", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
UNSAFE_METHODS = {"extract", "extractall", "unpack_archive", "unsafe_load", "full_load", "popen"}
UNSAFE_WORDS = {"allow_pickle": False, "shell": False, "trust_remote_code": False, "weights_only": True}


def unsafe(source: str) -> list[str]:
    """Calls and imports in a file that could execute data as code, or extract an archive to arbitrary paths."""
    problems = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            problems += [f"import {name}" for name in names if name.partition(".")[0] in UNSAFE_MODULES]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        last = called.rpartition(".")[2]
        words = {word.arg: word.value for word in node.keywords}
        if called in UNSAFE_CALLS or called == "os.system" or ("." in called and last in UNSAFE_METHODS):
            problems.append(called)
        for name, only in UNSAFE_WORDS.items():
            if name in words and not (isinstance(words[name], ast.Constant) and words[name].value is only):
                problems.append(f"{called}({name})")
        if called == "torch.load" and "weights_only" not in words:
            problems.append("torch.load without weights_only")
        if (
            "." in called
            and last in ("from_pretrained", "from_config")
            and not {"trust_remote_code", None} & set(words)
        ):
            problems.append(f"{called} without trust_remote_code")
        if called in ("yaml.load", "YAML") and not ({"typ", "pure"} & set(words)):
            problems.append(f"{called} that may construct objects")
    return problems


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_executes_data_as_code(path):
    assert unsafe(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.externals",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(path)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "archive.extractall(folder)",
        "shutil.unpack_archive(path)",
        "yaml.load(text)",
        "YAML().load(text)",
    ],
)
def test_unsafe_code_is_detected(source):
    assert unsafe(source)


class Evil:
    """Pickles as a command that touches a file."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return Path.touch, (self.place,)


@pytest.fixture
def executed(tmp_path):
    """The file that foreign code would touch."""
    place = tmp_path / "executed"
    yield place
    assert not place.exists()


CONFIG = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
AUTO = {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.EvilModel", "AutoTokenizer": ["evil.EvilTokenizer", None]}


def model_folder(tmp_path: Path, executed: Path, kind: str) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(executed)!r}).touch()\nclass EvilConfig: ...\nclass EvilModel: ...\n"
    (folder / "evil.py").write_text(code)
    config = {"model_type": kind, "vocab_size": 30, **CONFIG, "auto_map": AUTO}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("answer", ["", "y\n"])
def test_a_model_folder_with_code_is_refused_without_asking(tmp_path, executed, monkeypatch, answer):
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer * 5))
    with pytest.raises(RecipeError, match=r"trunk\.checkpoint .* is neither packaged"):
        load_checkpoint(str(model_folder(tmp_path, executed, "evil")))
    assert sys.stdin.read() == answer * 5  # no question was asked


def test_pickled_weights_are_refused(tmp_path, executed):
    folder = model_folder(tmp_path, executed, "bert")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"embeddings": Evil(executed)}))
    with pytest.raises(RecipeError, match=r"trunk\.checkpoint"):
        load_checkpoint(str(folder))


def test_the_configuration_of_a_checkpoint_cannot_select_code(tmp_path, executed):
    folder = model_folder(tmp_path, executed, "bert")
    model = build_from_config({**json.loads((folder / "config.json").read_text()), "_name_or_path": str(folder)})
    assert type(model).__name__ == "BertModel"


def test_a_pickle_in_place_of_packaged_weights_is_not_executed(tmp_path, executed, monkeypatch):
    import encoders.image

    content = io.BytesIO()
    torch.save({"weight": Evil(executed)}, content)
    content.seek(0)
    monkeypatch.setattr(encoders.image, "fetch", lambda package: package)
    monkeypatch.setattr(encoders.image, "open_member", lambda archive, member: content)
    with pytest.raises(pickle.UnpicklingError):
        encoders.image._packaged(encoders.image.PACKAGED["tf_efficientnet_lite0"], {})


def test_a_run_folder_whose_checkpoint_is_a_pickle_is_refused(tmp_path, executed):
    from mmbert.checkpoint.processors import read_config

    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "parts.json").write_bytes(pickle.dumps(Evil(executed)))
    with pytest.raises(IntegrityError):
        read_config(tmp_path / "best")


def peak(call) -> int:
    """Peak of the memory that Python allocated, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_huge_recipe_and_a_bomb_of_aliases_take_little_memory(tmp_path):
    with open(tmp_path / "huge.yaml", "wb") as file:
        file.writelines(b"# a comment of fifty bytes, again and again and ...\n" for _ in range(1_000_000))
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n} '] * 9)}]" for n in range(9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    assert (tmp_path / "huge.yaml").stat().st_size > 50_000_000
    for name, message in (("huge", "at most 1000 kB"), ("bomb", "expected at most 10000 values")):

        def refused(name=name, message=message):
            with pytest.raises(RecipeError, match=message):
                load_recipe(tmp_path / f"{name}.yaml")

        assert peak(refused) < 20_000_000


FORMULAS = ["=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1\n"]


@pytest.mark.parametrize("name", FORMULAS)
def test_spreadsheet_formulas_are_escaped_in_the_ledger(tmp_path, monkeypatch, name):
    monkeypatch.setattr(ledger, "commit", lambda: "")
    lines = {name: {name: {name: -0.5}}}
    ledger.append_results(tmp_path / "ledger.csv", lines, ledger.Measured(name, 0, name, name, name))
    with open(tmp_path / "ledger.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert all(row[column] == f"'{name.strip()}" for column in ("study", "arm", "task", "metric", "split", "recipe"))
    assert row["data"] == f"'{name.strip()}"
    assert row["value"] == "-0.5"  # a number stays a number


def test_a_name_with_line_breaks_stays_on_one_line_of_the_ledger(tmp_path):
    lines = {"image +\rtext,\n=all": {"price": {"rmse": 1.0}}}
    ledger.append_results(tmp_path / "ledger.csv", lines, ledger.Measured("s", 0, "test"))
    assert ',"image + text, =all",0,price,rmse,1.0,test,' in (tmp_path / "ledger.csv").read_text()
