"""Public docstrings: every public name has one, and those with parameters explain them under ``Args``."""

import ast

import pytest
from test_architecture import FILES, TREES

from mmbert import contracts

Definition = ast.FunctionDef | ast.ClassDef
MOST_WITH_ARGS = 0.5  # required share of docstrings with an Args section, among those of names with parameters
CONTRACTS = {  # methods whose parameters are explained in mmbert.contracts
    name for value in vars(contracts).values() if isinstance(value, type) for name in vars(value)
}


def parameters(function: ast.FunctionDef) -> list[str]:
    """The names of a function's parameters without ``self`` and ``cls``."""
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def explained(node: Definition) -> list[str]:
    """The parameters that the docstring of a function or class must explain; of a class, those of ``__init__``."""
    if isinstance(node, ast.FunctionDef):
        return parameters(node)
    constructors = [method for method in node.body if isinstance(method, ast.FunctionDef) and method.name == "__init__"]
    return parameters(constructors[0]) if constructors else []


def public(module: str) -> list[tuple[str, Definition]]:
    """The public functions, classes and methods of a module, by their dotted names."""
    definitions: list[tuple[str, Definition]] = []
    for node in TREES[module].body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            definitions.append((f"{module}.{node.name}", node))
            if isinstance(node, ast.ClassDef):
                methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
                definitions += [
                    (f"{module}.{node.name}.{method.name}", method)
                    for method in methods
                    if not method.name.startswith("_") and method.name not in {"forward", *CONTRACTS}
                ]
    return definitions


def is_trivial(node: Definition) -> bool:
    """Whether a method needs no docstring: a property, an overload, or one that only implements a contract."""
    return any(ast.unparse(decorator) in ("property", "overload") for decorator in node.decorator_list)


@pytest.mark.parametrize("module", FILES)
def test_public_names_have_docstrings_that_explain_their_parameters(module):
    without = []
    for name, node in public(module):
        text = ast.get_docstring(node) or ""
        if not text and isinstance(node, ast.ClassDef | ast.FunctionDef) and not is_trivial(node):
            without.append(f"{name}: no docstring")
        elif len(explained(node)) >= 2 and "Args:" not in text:
            without.append(f"{name}: no Args")
    assert not without


def test_most_docstrings_of_names_with_parameters_have_args():
    texts = [ast.get_docstring(node) or "" for module in FILES for _, node in public(module) if explained(node)]
    assert sum("Args:" in text for text in texts) > MOST_WITH_ARGS * len(texts)
