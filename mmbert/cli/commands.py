"""The command line. A command imports what it needs when it runs: ``list`` and a wrong recipe answer at once.

Exit codes: 0 success, 2 usage or recipe, 3 data, 4 numerical, 5 resources, 6 integrity, 70 a bug in mmbert, 75 stopped
by a signal (the same command continues), 130 interrupted twice.
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
from mmbert.errors import RAISED_ON_ALL_PROCESSES, MMBertError, RecipeError, exit_code
from mmbert.registry import own_traceback

HOME = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after ``mmbert``; by default those of this process.
    """
    arguments = make_parser(COMMANDS).parse_args(argv)
    try:
        check_package_origins()
        import_plugins(arguments.plugin)
        code = arguments.command(arguments)
        sys.stdout.flush()
    except MMBertError as error:
        if not isinstance(error, RAISED_ON_ALL_PROCESSES) or _is_main_process():  # print it once
            print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        return exit_code(error)
    except BrokenPipeError:  # the reader of our output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder without write permission
        print(error, file=sys.stderr)
        return exit_code(error)
    except Exception as error:
        traceback.print_exc()
        print("This is a bug in mmbert. Please report it with the lines above and the recipe.", file=sys.stderr)
        return exit_code(error)
    return code or 0


def check_package_origins() -> None:
    """Check that ``encoders`` and ``tasks`` are the packages of mmbert.

    Raises:
        RecipeError: if a file or folder of the user hides one of them.
    """
    for name in ("encoders", "tasks"):
        spec = importlib.util.find_spec(name)
        paths = [spec.origin] if spec and spec.origin else list((spec and spec.submodule_search_locations) or ["none"])
        if Path(paths[0]).resolve() != HOME / name / "__init__.py":
            raise RecipeError(
                f"expected mmbert's package '{name}' in {HOME}, found {paths[0]}, which hides it: "
                "rename that file or folder, or run mmbert in another folder"
            )


def import_plugins(names: Sequence[str]) -> None:
    """Import the modules that register parts; they may be in the current folder.

    Args:
        names: the dotted names of the modules.

    Raises:
        RecipeError: if a module cannot be imported, with the module's own traceback where it raises.
    """
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise RecipeError(f"--plugin {name} cannot be imported: {error}") from error
        except RecipeError as error:  # of what it registers
            raise RecipeError(f"--plugin {name}: {error}") from error
        except (Exception, SystemExit) as error:
            raise RecipeError(f"--plugin {name} cannot be imported:\n{own_traceback(error)}") from error


# --- commands ---


def train(arguments: argparse.Namespace) -> None:
    """Train a recipe."""
    _announce(_load(arguments).recipe.name)
    _api().train(
        arguments.recipe,
        overrides=arguments.set,
        out=arguments.out,
        ledger=arguments.ledger,
        arm=arguments.arm,
        resume=arguments.resume,
        adopt=arguments.adopt,
    )


def evaluate(arguments: argparse.Namespace) -> None:
    """Score a trained model, or measure what its inputs contribute."""
    if arguments.inputs:
        importlib.import_module("mmbert.analysis.contribution").measure_contributions(
            arguments.run, split=arguments.split, rows=arguments.rows
        )
    elif arguments.rows is not None:
        raise RecipeError("--rows needs --inputs: without it, the scores are always those of all rows")
    else:
        _api().evaluate(arguments.run, split=arguments.split)


def predict(arguments: argparse.Namespace) -> None:
    """Write the predictions of a trained model."""
    count = _api().predict(
        arguments.run,
        input=arguments.input,
        split=arguments.split,
        output=arguments.output,
        overwrite=arguments.overwrite,
    )
    if _is_main_process():
        print(f"{count} prediction{'' if count == 1 else 's'} written to {arguments.output}")


def baseline(arguments: argparse.Namespace) -> None:
    """Score the cheap baselines of a recipe."""
    _announce(_load(arguments).recipe.name)
    _api().baseline(arguments.recipe, overrides=arguments.set, ledger=arguments.ledger)


def ablate(arguments: argparse.Namespace) -> None:
    """Run a study, or print its plan or its status."""
    if arguments.slots is not None and arguments.slots < 1:
        raise RecipeError(f"--slots: expected 1 or more, found {arguments.slots}")
    from mmbert.ablation.study import load_study

    _announce(load_study(arguments.study, arguments.set).name)  # before torch is imported
    run_study = importlib.import_module("mmbert.ablation.run_study")
    prepared = run_study.prepare_study(
        arguments.study, overrides=arguments.set, out=arguments.out, ledger=arguments.ledger
    )
    if arguments.status:
        importlib.import_module("mmbert.ablation.plan").print_status(prepared)
    elif arguments.plan:
        slots = arguments.slots or run_study.default_slots()
        importlib.import_module("mmbert.ablation.plan").print_plan(prepared, slots=slots)
    else:
        run_study.run_study(
            prepared,
            slots=arguments.slots,
            only=arguments.only,
            retry_failed=arguments.retry_failed,
            plugins=arguments.plugin,
            adopt=arguments.adopt,
        )


def report(arguments: argparse.Namespace) -> None:
    """Write the report of a run."""
    try:
        page = importlib.import_module("mmbert.report.page")
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "markupsafe", "matplotlib"):
            raise
        raise RecipeError(
            f"a report needs {error.name}, which is not installed: pip install 'mmbert[report]'"
        ) from None
    print(page.write_report(arguments.run, arguments.output, overwrite=arguments.overwrite))


def check(arguments: argparse.Namespace) -> None:
    """Check a recipe, on request its data too, and forecast the run; the verdict comes last."""
    name = _load(arguments).recipe.name
    if arguments.data or arguments.forecast:
        _announce(name)
    if arguments.data:
        _api().check(arguments.recipe, overrides=arguments.set)
    if arguments.forecast:
        importlib.import_module("mmbert.training.forecast").print_forecast(arguments.recipe, arguments.set)
    print(f"{arguments.recipe}: the recipe {name} is valid")


def show(arguments: argparse.Namespace) -> None:
    """Print a recipe with the origin of each value, or the options of a part."""
    if arguments.kind == "recipe":
        from mmbert.recipe.explain import show_recipe
        from mmbert.recipe.load import load_recipe

        print(show_recipe(load_recipe(arguments.name, arguments.set)), end="")
        return
    if arguments.set:
        raise RecipeError("--set changes a recipe; use it with `mmbert show recipe FILE`")
    from mmbert.recipe.explain import show_part

    print(show_part(_table(arguments.kind), arguments.name), end="")


def schema(arguments: argparse.Namespace) -> None:
    """Print the JSON schema of recipes."""
    from mmbert.recipe.explain import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))


def list_names(arguments: argparse.Namespace) -> None:
    """Print the names of one kind with their descriptions."""
    if arguments.what in ("recipes", "studies"):
        from mmbert.recipe.shipped import described_files

        rows = described_files("recipe" if arguments.what == "recipes" else "study")
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
    """Download and build a data set, and print its folder."""
    from mmbert.recipe.load import load_builder

    builder = load_builder(arguments.dataset, arguments.set)
    from mmbert.data.sources.dataset import prepare
    from mmbert.io.download import fetch

    if arguments.source is not None:
        for package in getattr(builder, "packages", None) or [builder.package]:
            fetch(package, source=arguments.source)
    print(prepare(builder))


def doctor(arguments: argparse.Namespace) -> int:
    """Print the diagnosis of this machine and launch."""
    return importlib.import_module("mmbert.cli.doctor").doctor()


def _load(arguments: argparse.Namespace) -> Any:
    """Load the recipe before the API, and with it torch, is imported: most mistakes are reported within a second."""
    from mmbert.recipe.load import load_recipe

    return load_recipe(arguments.recipe, arguments.set)


def _announce(name: str) -> None:
    """Print a first line before torch is imported, which takes seconds."""
    if _is_main_process():
        print(f"{name}: loading PyTorch ...", flush=True)


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _api() -> Any:
    return importlib.import_module("mmbert.api")


def _table(kind: str) -> Any:
    module, _, name = TABLES[kind].partition(":")
    return getattr(importlib.import_module(module), name)


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
