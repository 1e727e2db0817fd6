"""The command line. What a command needs is imported when it runs, so that ``list`` and a bad recipe answer at once.

Exit codes: 0 done, 2 usage or recipe, 3 data, 4 numerical, 5 resources, 6 integrity, 70 a fault of mmbert, 75 stopped
by a signal and ready to go on, 130 interrupted twice.
"""

import argparse
import importlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmbert.cli.parser import TABLES, make_parser
from mmbert.errors import SHARED, MMBertError, RecipeError, exit_code

HOME = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = make_parser(COMMANDS).parse_args(argv)
    try:
        check_own_packages()
        import_plugins(arguments.plugin)
        code = arguments.command(arguments)
        sys.stdout.flush()
    except MMBertError as error:
        if not isinstance(error, SHARED) or os.environ.get("RANK", "0") == "0":  # once is enough
            print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        return exit_code(error)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be written
        print(error, file=sys.stderr)
        return exit_code(error)
    except Exception as error:
        traceback.print_exc()
        print("This is a fault of mmbert. Please report it with the lines above and the recipe.", file=sys.stderr)
        return exit_code(error)
    return code or 0


def check_own_packages() -> None:
    """Raise ``RecipeError`` where a file or folder of the user hides the packages ``encoders`` or ``tasks``."""
    for name in ("encoders", "tasks"):
        spec = importlib.util.find_spec(name)
        places = [spec.origin] if spec and spec.origin else list((spec and spec.submodule_search_locations) or ["none"])
        if Path(places[0]).resolve() != HOME / name / "__init__.py":
            raise RecipeError(
                f"expected the package '{name}' of mmbert in {HOME}, found {places[0]}, which hides it: "
                "rename that, or run mmbert in another folder"
            )


def import_plugins(names: Sequence[str]) -> None:
    """Import the modules that register parts; they may lie in the current folder."""
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise RecipeError(f"--plugin {name} cannot be imported: {error}") from error


# --- commands ---


def train(arguments: argparse.Namespace) -> None:
    _check(arguments)
    _api().train(
        arguments.recipe,
        overrides=arguments.set,
        out=arguments.out,
        ledger=arguments.ledger,
        arm=arguments.arm,
        resume=arguments.resume,
    )


def evaluate(arguments: argparse.Namespace) -> None:
    if arguments.inputs:
        importlib.import_module("mmbert.analysis.contribution").worth(
            arguments.run, split=arguments.split, rows=arguments.rows
        )
    elif arguments.rows is not None:
        raise RecipeError("--rows goes with --inputs: the scores of a split are those of all its rows")
    else:
        _api().evaluate(arguments.run, split=arguments.split)


def predict(arguments: argparse.Namespace) -> None:
    count = _api().predict(arguments.run, input=arguments.input, split=arguments.split, output=arguments.output)
    print(f"{count} predictions in {arguments.output}")


def baseline(arguments: argparse.Namespace) -> None:
    _check(arguments)
    _api().baseline(arguments.recipe, overrides=arguments.set, ledger=arguments.ledger)


def ablate(arguments: argparse.Namespace) -> None:
    if arguments.slots is not None and arguments.slots < 1:
        raise RecipeError(f"--slots: expected 1 or more, found {arguments.slots}")
    from mmbert.ablation.study import load_study

    load_study(arguments.study, arguments.set)  # before torch is imported
    module = importlib.import_module("mmbert.ablation.run_study")
    given = {"overrides": arguments.set, "out": arguments.out, "ledger": arguments.ledger}
    if arguments.plan or arguments.status:
        prospect = importlib.import_module("mmbert.ablation.plan")
        prepared = module.prepare(arguments.study, **given)
        if arguments.status:
            prospect.tell_status(prepared)
        else:
            prospect.tell_plan(prepared, slots=arguments.slots or module.default_slots())
        return
    module.ablate(
        arguments.study,
        **given,
        slots=arguments.slots,
        only=arguments.only,
        retry_failed=arguments.retry_failed,
        plugins=arguments.plugin,
    )


def report(arguments: argparse.Namespace) -> None:
    try:
        page = importlib.import_module("mmbert.report.page")
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "markupsafe", "matplotlib"):
            raise
        raise RecipeError(f"a report needs {error.name}, which is missing: pip install 'mmbert[report]'") from None
    output = arguments.output or arguments.run / "report.html"
    text = page.run_report(arguments.run)
    output.write_text(text, encoding="utf-8")
    print(output)


def check(arguments: argparse.Namespace) -> None:
    loaded = _check(arguments)
    print(f"{arguments.recipe}: the recipe {loaded.recipe.name} is valid")
    if arguments.data:
        _api().check(arguments.recipe, overrides=arguments.set)
    if arguments.forecast:
        importlib.import_module("mmbert.training.forecast").tell(arguments.recipe, arguments.set)


def show(arguments: argparse.Namespace) -> None:
    if arguments.kind == "recipe":
        from mmbert.recipe.explain import show_recipe
        from mmbert.recipe.load import load_recipe

        print(show_recipe(load_recipe(arguments.name, arguments.set)), end="")
        return
    if arguments.set:
        raise RecipeError("--set changes a recipe: it goes with `mmbert show recipe FILE`")
    from mmbert.recipe.explain import show_part

    print(show_part(_table(arguments.kind), arguments.name), end="")


def schema(arguments: argparse.Namespace) -> None:
    from mmbert.recipe.explain import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))


def list_names(arguments: argparse.Namespace) -> None:
    if arguments.what == "recipes":
        rows = _recipes()
    else:
        table = _table(arguments.what.removesuffix("s"))
        rows = [(name, table.describe(name)) for name in table.names()]
        if arguments.what == "encoders":
            from mmbert.recipe.schema import TEXT

            rows = sorted([*rows, ("text", TEXT.describe("text"))])
    width = max((len(name) for name, _ in rows), default=0)
    for name, description in rows:
        print(f"{name:<{width}}  {description}".rstrip())


def prepare(arguments: argparse.Namespace) -> None:
    from mmbert.recipe.load import load_builder

    builder = load_builder(arguments.dataset, arguments.set)
    from mmbert.data.sources.dataset import prepare
    from mmbert.io.download import fetch

    if arguments.source is not None:
        for package in getattr(builder, "packages", None) or [builder.package]:
            fetch(package, source=arguments.source)
    print(prepare(builder))


def doctor(arguments: argparse.Namespace) -> int:
    return importlib.import_module("mmbert.cli.doctor").doctor()


def _check(arguments: argparse.Namespace) -> Any:
    """Load the recipe before the API, and with it torch, is imported: most mistakes are told within a second."""
    from mmbert.recipe.load import load_recipe

    return load_recipe(arguments.recipe, arguments.set)


def _api() -> Any:
    return importlib.import_module("mmbert.api")


def _table(kind: str) -> Any:
    module, _, name = TABLES[kind].partition(":")
    return getattr(importlib.import_module(module), name)


def _recipes() -> list[tuple[str, str]]:
    """The recipes in the current folder, or those of the checkout; described by the end of their first line."""
    folder = next((folder for folder in (Path("recipes"), HOME / "recipes") if folder.is_dir()), Path())
    rows = []
    for file in sorted(folder.glob("*.yaml")):
        with file.open(encoding="utf-8") as stream:
            _, _, description = stream.readline().rstrip("\n").partition(" - ")
        rows.append((str(file), description))
    return rows


COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "baseline": baseline,
    "ablate": ablate,
    "report": report,
    "check": check,
    "show": show,
    "schema": schema,
    "list": list_names,
    "prepare": prepare,
    "doctor": doctor,
}
