"""The architecture: a file imports only from packages on lower floors, and names are unique."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mmbert", "encoders", "tasks")
FLOORS = [  # from the ground up; packages on one floor do not import each other
    ["mmbert.types", "mmbert.errors", "mmbert.version"],
    ["mmbert.contracts", "mmbert.registry", "mmbert.distributed", "mmbert.io", "mmbert.preprocessing"],
    ["mmbert.layers", "mmbert.data", "mmbert.datasets"],
    ["mmbert.trunk", "mmbert.fusion", "encoders", "tasks"],
    ["mmbert.model"],
    ["mmbert.recipe"],
    ["mmbert.evaluation"],
    ["mmbert.tracking"],
    ["mmbert.checkpoint"],
    ["mmbert.experiment"],
    ["mmbert.training", "mmbert.inference"],
    ["mmbert.analysis"],
    ["mmbert.api"],
    ["mmbert.report"],
    ["mmbert.ablation"],
    ["mmbert.cli"],
    ["mmbert.__main__"],
]
FLOOR = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
AT_THE_ROOT = {
    "__init__",
    "__main__",
    "types",
    "contracts",
    "errors",
    "registry",
    "version",
    "distributed",
    "model",
    "api",
}
PARTS = {"mmbert.trunk", "mmbert.fusion", "mmbert.data", "mmbert.datasets", "encoders", "tasks"}
LONGEST = 300  # lines


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in FILES.items()}


def package_of(module: str) -> str:
    """The package of a module as listed in ``FLOOR``, or the module itself."""
    depth = 1 if module.partition(".")[0] in ("encoders", "tasks") else 2
    return ".".join(module.split(".")[:depth])


def imported_modules(module: str) -> set[str]:
    """Every module that a file imports, also under ``TYPE_CHECKING`` and inside functions."""
    modules = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= names & FILES.keys() or {str(node.module)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            modules |= {part.value for part in node.args if isinstance(part, ast.Constant)} & FILES.keys()
    return modules


def complaint(importer: str, imported: str) -> str | None:
    """The reason why one module may not import another; None if it may."""
    root = imported.partition(".")[0]
    if root in ("tests", "benchmarks"):
        return "the product imports its tests or benchmarks"
    if root not in PACKAGES or importer == "mmbert":  # mmbert/__init__ imports the API lazily
        return None
    source, target = package_of(importer), package_of(imported)
    if unlisted := {source, target} - FLOOR.keys() - {"mmbert"}:
        return f"{unlisted} stands on no floor"
    if source == target:
        return None
    if source == "mmbert.recipe" and target in PARTS and imported != target:
        return "the recipe imports a part, not its table"
    if target == "mmbert":
        return "import what the package's __init__ hands on from where it is defined"
    if FLOOR[source] <= FLOOR[target]:
        return f"floor {FLOOR[source]} imports floor {FLOOR[target]}"
    return None


@pytest.mark.parametrize("module", FILES)
def test_a_file_imports_from_floors_below_it(module):
    refused = {name: reason for name in imported_modules(module) if (reason := complaint(module, name))}
    assert not refused


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("mmbert.model", "mmbert.experiment.build"),
        ("encoders.image", "mmbert.trunk.text"),
        ("mmbert.training.trainer", "mmbert.api"),
        ("mmbert.training.trainer", "mmbert.report.page"),
        ("mmbert.training.trainer", "mmbert.inference.predict"),
        ("mmbert.recipe.schema", "encoders.image"),
        ("mmbert.contracts", "mmbert.model"),
        ("mmbert.api", "mmbert.unlisted.file"),
        ("mmbert.model", "tests.support"),
    ],
)
def test_imports_against_the_floors_are_refused(importer, imported):
    assert complaint(importer, imported)


def test_no_two_files_import_each_other():
    edges = {module: imported_modules(module) & FILES.keys() - {module} for module in FILES if module != "mmbert"}
    waiting = dict(edges)
    while free := [module for module, needed in waiting.items() if not needed & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert not waiting, "these files import each other in a circle"


def test_few_files_stand_at_the_root():
    assert {path.stem for path in (ROOT / "mmbert").glob("*.py")} == AT_THE_ROOT


def test_names_are_unique():
    files = Counter((package_of(module), path.stem) for module, path in FILES.items() if path.stem != "__init__")
    classes = Counter(
        node.name
        for tree in TREES.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    tests = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for counts in (files, classes, tests) for name, count in counts.items() if count > 1]


@pytest.mark.parametrize("module", FILES)
def test_every_module_is_importable_by_its_dotted_path(module):
    if module != "mmbert.__main__":  # importing it would run the command line
        scope: dict[str, object] = {}
        exec(f"import {module} as imported", scope)  # fails if a name of the package hides a module
        assert scope["imported"].__name__ == module


def test_the_core_imports_no_modality_library():
    libraries = {"timm", "torch_geometric", "torchaudio", "rdkit", "torchvision", "soundfile"}
    for module in FILES:
        if package_of(module) not in ("encoders", "mmbert.datasets", "mmbert.preprocessing"):
            assert not libraries & {name.partition(".")[0] for name in imported_modules(module)}, module


def test_files_have_one_subject():
    for module, path in FILES.items():
        assert path.stem not in ("utils", "helpers", "common", "misc"), path
        assert ast.get_docstring(TREES[module]), f"{path} does not say its subject"
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= LONGEST, f"{path} has {lines} lines"
