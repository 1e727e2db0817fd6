"""The parser of the command line: commands, arguments and help texts."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from mmbert.version import __version__

TABLES = {
    "encoder": "encoders:ENCODERS",
    "fusion": "mmbert.fusion:FUSIONS",
    "task": "tasks:TASKS",
    "source": "mmbert.data:SOURCES",
    "dataset": "mmbert.datasets:DATASETS",
}

Command = Callable[[argparse.Namespace], int | None]


def make_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser of the command line; parsed arguments hold the chosen function as ``command``.

    Args:
        commands: the function of each command by its name.
    """
    parser = argparse.ArgumentParser(
        prog="mmbert",
        description="Train multimodal, multi-task models around one text trunk.",
        epilog="`mmbert COMMAND --help` describes a command. Start with: mmbert train quickstart",
    )
    parser.add_argument("--version", action="version", version=f"mmbert {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    plugin = argparse.ArgumentParser(add_help=False)
    plugin.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this module first; it registers your own parts (repeatable)",
    )
    change = argparse.ArgumentParser(add_help=False)
    change.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a value of the recipe, as in train.seed=1; VALUE is YAML (repeatable)",
    )

    def add(name: str, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        description = f"{text[0].upper()}{text[1:]}."
        subparser = subparsers.add_parser(
            name, help=text, description=description, parents=[*parents, plugin], allow_abbrev=False
        )
        subparser.set_defaults(command=commands[name])
        return subparser

    def add_recipe(command: argparse.ArgumentParser) -> None:
        text = "a recipe file, or the name of a shipped recipe (`mmbert list recipes`)"
        command.add_argument("recipe", metavar="RECIPE", help=text)

    def add_overwrite(command: argparse.ArgumentParser) -> None:
        command.add_argument("--overwrite", action="store_true", help="replace the output if it exists")

    def add_adopt(command: argparse.ArgumentParser, kind: str) -> None:
        text = f"write into a folder that an earlier version of mmbert made for a {kind}"
        command.add_argument("--adopt", action="store_true", help=text)

    def add_run(command: argparse.ArgumentParser) -> None:
        command.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")

    command = add("train", "train a recipe, evaluate the model and write a run folder", change)
    add_recipe(command)
    command.add_argument("--out", type=Path, metavar="DIR", help="the run folder (default: runs/<name>-<hash>)")
    add_adopt(command, "run")
    command.add_argument("--ledger", type=Path, metavar="CSV", help="append the scores to this file")
    command.add_argument(
        "--arm", default="mmbert", metavar="NAME", help="name of this run in the ledger and in tables (default: mmbert)"
    )
    command.add_argument(
        "--resume",
        default="auto",
        metavar="auto|never|PATH",
        help="auto: continue from the newest checkpoint of the run folder, if any (default); "
        "never: delete it and start again; PATH: start from that checkpoint or run",
    )

    command = add("evaluate", "score a trained model on one split")
    add_run(command)
    splits = ["train", "validation", "test"]
    command.add_argument("--split", default="test", choices=splits, help="the split to score (default: test)")
    command.add_argument(
        "--inputs",
        action="store_true",
        help="measure what each input contributes (Shapley, robustness); writes inputs.json",
    )
    command.add_argument("--rows", type=int, metavar="N", help="with --inputs: use at most N rows (default: 2000)")

    command = add("predict", "write the predictions of a trained model, one line for each row")
    add_run(command)
    rows = command.add_mutually_exclusive_group(required=True)
    rows.add_argument("--input", type=Path, metavar="FILE", help="the rows, as .jsonl, .csv or .parquet")
    rows.add_argument("--split", choices=splits, help="a split of the data that the run was trained with")
    command.add_argument("--output", type=Path, metavar="FILE", required=True, help="the file to write, as .jsonl")
    add_overwrite(command)

    command = add("baseline", "score cheap baselines on the test split of a recipe", change)
    add_recipe(command)
    command.add_argument("--ledger", type=Path, metavar="CSV", help="append the scores to this file")

    command = add("ablate", "run an ablation study and compare its arms", change)
    text = "a study file, or the name of a shipped study (`mmbert list studies`)"
    command.add_argument("study", metavar="STUDY", help=text)
    command.add_argument("--out", type=Path, metavar="DIR", help="the folder of the study (default: runs/<name>)")
    add_adopt(command, "study")
    text = "append the scores to this file; runs whose scores it holds already are not run again"
    command.add_argument("--ledger", type=Path, metavar="CSV", help=text)
    text = "how many runs at the same time (default: one for each GPU, or else for each CPU core)"
    command.add_argument("--slots", type=int, metavar="N", help=text)
    command.add_argument("--only", action="append", default=[], metavar="ARM", help="run only this arm (repeatable)")
    command.add_argument("--retry-failed", action="store_true", help="run failed runs again")
    mode = command.add_mutually_exclusive_group()
    text = "print what the study costs and what it can show; run nothing"
    mode.add_argument("--plan", action="store_true", help=text)
    mode.add_argument("--status", action="store_true", help="print the state of each run; run nothing")

    command = add("report", "write the report of a run as one HTML page with figures")
    add_run(command)
    text = "the page to write (default: report.html in the run folder)"
    command.add_argument("--output", type=Path, metavar="FILE", help=text)
    add_overwrite(command)

    command = add("check", "check a recipe without training", change)
    add_recipe(command)
    command.add_argument("--data", action="store_true", help="also read every row, and list all bad values")
    text = "also time three training steps, and estimate time and memory of the run"
    command.add_argument("--forecast", action="store_true", help=text)

    command = add("show", "print a recipe with the origin of each value, or the options of a part", change)
    command.add_argument("kind", choices=["recipe", *TABLES], help="what to show")
    command.add_argument("name", metavar="NAME", help="a recipe (file or shipped name), or the name of a part")

    add("schema", "print the JSON schema of recipes, for editors")

    command = add("list", "list recipes, studies or parts, one on each line with its description")
    command.add_argument("what", choices=[*(f"{kind}s" for kind in TABLES), "recipes", "studies"], help="what to list")

    command = add("prepare", "download and build a data set", change)
    command.add_argument("dataset", metavar="DATASET", help="its name (`mmbert list datasets`)")
    text = "use this file or folder instead of a download"
    command.add_argument("--from", dest="source", type=Path, metavar="PATH", help=text)

    add("doctor", "show how training was launched, what this machine offers, and whether training can start")
    return parser
