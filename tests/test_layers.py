"""The floors of the house: a file imports only from floors below it, and rooms never import each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("encoders", "tasks", "mmbert.trunk", "mmbert.fusion", "mmbert.data", "mmbert.datasets")
FLOORS = {  # the longest matching prefix counts
    "mmbert.errors": 0,
    "mmbert.types": 0,
    "mmbert.contracts": 1,
    "mmbert.registry": 1,
    "mmbert.fetch": 1,
    "mmbert.world": 1,
    "mmbert.layers": 1,
    **dict.fromkeys(ROOMS, 2),
    "mmbert.recipe": 3,
    "mmbert.recipe.load": 4,
    "mmbert.recipe.explain": 4,
    "mmbert.model": 4,
    "mmbert.evaluate": 4,
    "mmbert.train": 5,
    "mmbert.ablation": 6,
    "mmbert.report": 6,
    "mmbert.samples": 6,
    "mmbert.processors": 6,
    "mmbert.survey": 6,
    "mmbert.bad_values": 6,
    "mmbert.features": 6,
    "mmbert.built": 6,
    "mmbert.build": 6,
    "mmbert.predictor": 7,
    "mmbert.comparison": 6,
    "mmbert.examples": 6,
    "mmbert.record": 6,
    "mmbert.run": 7,
    "mmbert.api": 7,
    "mmbert.doctor": 7,
    "mmbert.outlook": 7,
    "mmbert.ablate": 7,
    "mmbert.budget": 7,
    "mmbert.findings": 7,
    "mmbert.prospect": 7,
    "mmbert.worth": 7,
    "mmbert.worth_tables": 7,
    "mmbert.parser": 7,
    "mmbert.cli": 7,
    "mmbert.__main__": 7,
    "mmbert": 0,  # the package itself, which imports the API when it is first used
}
TABLES = {*ROOMS}  # a room's __init__ is its table, which the recipe's schema reads
READERS = ("mmbert.cli", "mmbert.findings")  # who may show a report
LONGEST = 250


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def own_files() -> list[Path]:
    return sorted(path for folder in ("mmbert", "encoders", "tasks") for path in (ROOT / folder).rglob("*.py"))


def prefix(module: str) -> str:
    """The entry of FLOORS that a module falls under."""
    while module not in FLOORS:
        module = module.rpartition(".")[0]
    return module


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it; of the project's own the file, not the name in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            files = {name for name in inner if (ROOT / f"{name.replace('.', '/')}.py").exists()}
            found |= files or {str(node.module)}
    return found


def complaint(importer: str, imported: str) -> str | None:
    """Why one module may not import another; None where it may."""
    if imported.partition(".")[0] in ("tests", "benchmarks"):
        return "the product imports its tests"
    if imported.partition(".")[0] not in ("mmbert", "encoders", "tasks"):
        return None
    one, other = prefix(importer), prefix(imported)
    if one == "mmbert":
        return None
    if one in ROOMS and other in ROOMS and one != other:
        return f"room {one} imports room {other}"
    if one.startswith("mmbert.recipe") and other in ROOMS and imported not in TABLES:
        return "the recipe imports a part, not its table"
    if other == "mmbert.report" and one != other and importer not in READERS:
        return "the report is for who looks at runs, not for what makes them"
    if FLOORS[one] < FLOORS[other]:
        return f"floor {FLOORS[one]} imports floor {FLOORS[other]}"
    return None


@pytest.mark.parametrize("path", own_files(), ids=module_of)
def test_a_file_imports_from_floors_below_it(path):
    module = module_of(path)
    wrong = {name: why for name in imports(path) if (why := complaint(module, name))}
    assert not wrong


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("mmbert.model", "mmbert.build"),
        ("encoders.image", "mmbert.trunk.text"),
        ("mmbert.train.loop", "mmbert.api"),
        ("mmbert.train.loop", "mmbert.report.page"),
        ("mmbert.run", "mmbert.report.reading"),
        ("mmbert.recipe.schema", "encoders.image"),
        ("mmbert.contracts", "mmbert.model"),
    ],
)
def test_the_law_has_teeth(importer, imported):
    assert complaint(importer, imported)


def test_parts_are_known_by_no_name_in_the_core():
    libraries = {"timm", "torch_geometric", "torchaudio", "rdkit", "torchvision", "soundfile"}
    for path in (ROOT / "mmbert").rglob("*.py"):
        if not {"datasets", "layers"} & set(path.parts):  # builders, and small modules that rooms share
            assert not libraries & {name.partition(".")[0] for name in imports(path)}, path


def test_files_have_one_subject():
    for path in own_files():
        text = path.read_text(encoding="utf-8")
        assert path.stem not in ("utils", "helpers", "common", "misc"), path
        assert ast.get_docstring(ast.parse(text)), f"{path} does not say its subject"
        assert text.count("\n") <= LONGEST, f"{path} has {text.count(chr(10))} lines"
