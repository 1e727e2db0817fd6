"""The command line's commands and their arguments."""

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
    """The parser; what it returns holds, as ``command``, the one of ``commands`` that was asked for."""
    parser = argparse.ArgumentParser(prog="mmbert", description="One text trunk, other modalities, many tasks.")
    parser.add_argument("--version", action="version", version=f"mmbert {__version__}")
    added_to = parser.add_subparsers(metavar="COMMAND", required=True)

    plugin = argparse.ArgumentParser(add_help=False)
    plugin.add_argument("--plugin", action="append", default=[], metavar="MODULE", help="a module that registers parts")
    change = argparse.ArgumentParser(add_help=False)
    change.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change a value, written in YAML")

    def add(name: str, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added = added_to.add_parser(name, help=text, description=text, parents=[*parents, plugin], allow_abbrev=False)
        added.set_defaults(command=commands[name])
        return added

    command = add("train", "train a recipe, evaluate it and write a run folder", change)
    command.add_argument("recipe", metavar="RECIPE")
    command.add_argument("--out", type=Path, metavar="DIR", help="the run folder (default: runs/<name>-<hash>)")
    command.add_argument("--ledger", type=Path, metavar="CSV", help="append the result table to this file")
    command.add_argument("--arm", default="mmbert", metavar="NAME", help="what the run is called there")
    resume = "from the newest checkpoint there (auto, the default), not at all (never), or from this checkpoint"
    command.add_argument("--resume", default="auto", metavar="auto|never|PATH", help=resume)

    command = add("evaluate", "the scores of a trained model")
    command.add_argument("run", type=Path, metavar="RUN")
    command.add_argument("--split", default="test", choices=["train", "validation", "test"])
    command.add_argument("--inputs", action="store_true", help="what each input is worth, instead; kept for reports")
    command.add_argument("--rows", type=int, metavar="N", help="of the split at most, for --inputs (default: 2000)")

    command = add("predict", "predictions of a trained model, one a row")
    command.add_argument("run", type=Path, metavar="RUN")
    rows = command.add_mutually_exclusive_group(required=True)
    rows.add_argument("--input", type=Path, metavar="FILE", help="rows as .jsonl, .csv or .parquet")
    rows.add_argument("--split", choices=["train", "validation", "test"], help="rows of the recipe's own data")
    command.add_argument("--output", type=Path, metavar="FILE", required=True)

    command = add("baseline", "what cheap models reach on a recipe's test split", change)
    command.add_argument("recipe", metavar="RECIPE")
    command.add_argument("--ledger", type=Path, metavar="CSV", help="append the scores to this file")

    command = add("ablate", "run an ablation study and compare its arms", change)
    command.add_argument("study", metavar="STUDY", help="a study file")
    command.add_argument("--out", type=Path, metavar="DIR", help="the folder of its tables (default: runs/<name>)")
    command.add_argument("--ledger", type=Path, metavar="CSV", help="append results to this file, and count its own")
    command.add_argument("--slots", type=int, metavar="N", help="runs at a time (default: one a GPU, or a CPU core)")
    command.add_argument("--only", action="append", default=[], metavar="ARM", help="run this arm; may be given again")
    command.add_argument("--retry-failed", action="store_true", help="run again what has failed")
    instead = command.add_mutually_exclusive_group()
    instead.add_argument("--plan", action="store_true", help="say what it would take and can show; run nothing")
    instead.add_argument("--status", action="store_true", help="say how its runs stand; run nothing")

    command = add("report", "a run as one HTML page with figures")
    command.add_argument("run", type=Path, metavar="RUN")
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="the page (default: report.html in the run folder)"
    )

    command = add("check", "check a recipe", change)
    command.add_argument("recipe", metavar="RECIPE")
    command.add_argument("--data", action="store_true", help="read every row as well, and list the bad ones")
    command.add_argument("--forecast", action="store_true", help="time three steps: how long, how much memory")

    command = add("show", "a recipe with the origin of each value, or a part with its options", change)
    command.add_argument("kind", choices=["recipe", *TABLES])
    command.add_argument("name", metavar="FILE|NAME")

    add("schema", "the JSON schema of recipes, for editors")

    command = add("list", "the names of a kind, one a line with its description")
    command.add_argument("what", choices=[*(f"{kind}s" for kind in TABLES), "recipes"])

    command = add("prepare", "make a data set ready", change)
    command.add_argument("dataset", metavar="DATASET")
    command.add_argument("--from", dest="source", type=Path, metavar="FILE", help="the package, instead of a download")

    add("doctor", "what the launcher asked for, what there is, and whether they fit")
    return parser
