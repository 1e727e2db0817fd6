"""Every fusion on XOR, where the best accuracies are known: trained, then scored with an input missing.

    python -m benchmarks.synergy --ledger results/synergy.csv

The recipe is recipes/synergy.yaml, whose head is linear. ``cross_attention`` starts with open gates, as closed ones get
hardly any gradient; fusions that learn slowly have more steps or other options (SETTINGS). First come text and image,
for three rates of flips, and each of them alone. Then ``numbers`` is added, a table that shows the bit of the text once
more, so that either can be missing: inputs are dropped in training, which takes longer to learn
(SETTINGS_WITH_DROPOUT), and hidden one at a time in the test. Accuracies are of the test split; next to them stand the
Bayes-optimal accuracy and that of the best additive predictor (``benchmarks.bayes_optimal``). Runs that the ledger has
are not repeated.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bayes_optimal import additive_accuracies, bayes_accuracies, joint_probabilities
from mmbert import api
from mmbert.data.sources.oracle import OracleSource
from mmbert.fusion import FUSIONS
from mmbert.recipe.load import load_recipe
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking.ledger import Measured, append_results, read_results

RECIPE = Path(__file__).parents[1] / "recipes" / "synergy.yaml"
PAIR = {"image": "b", "text": "a"}
SPARE = {**PAIR, "numbers": "a"}
DROPPED = ("inputs.numbers={type: table, layers: 1}", "train.input_dropout=0.3")
ALONE = {"text alone": "inputs.image=null", "image alone": "inputs.text=null"}
SETTINGS = {
    "cross_attention": ["fusion.gate=0.5"],
    "bottleneck": ["train.steps=1500"],
    "joint": ["train.steps=600"],
    "perceiver": ["train.steps=1500", "fusion.latents=4", "fusion.dropout=0.0"],
    "concat and logit_sum": ["fusion.logit_sum=true", "train.steps=1000"],
}
SETTINGS_WITH_DROPOUT = {
    "mag": ["train.steps=1200"],
    "cross_attention": ["train.steps=800"],
    "perceiver": ["train.steps=2500"],
}
CASES = ((PAIR, 0.1), (PAIR, 0.0), (PAIR, 0.05), (SPARE, 0.1))  # the hidden bit of each input, the rate of flips
TEST = 2489  # rows


def questions(carries: Mapping[str, str], flip: float) -> dict[str, tuple[str, ...]]:
    """The accuracies to measure, each with the inputs that are present.

    Args:
        carries: the hidden bit of each input.
        flip: the rate of flips.
    """
    names = sorted(carries)
    if carries == PAIR:
        return {f"flips_{flip:.2f}": (*names,)}
    return {
        "all": (*names,),
        **{f"without_{hidden}": (*(name for name in names if name != hidden),) for hidden in names},
    }


def runs() -> Iterator[tuple[str, Mapping[str, str], float, list[str]]]:
    """The runs: arm, hidden bit of each input, rate of flips, settings of the recipe."""
    for carries, flip in CASES:
        kinds = {**{name: name for name in FUSIONS.names()}, "concat and logit_sum": "concat"}
        arms = {name: [f"fusion={{type: {kind}}}", *SETTINGS.get(name, ())] for name, kind in kinds.items()}
        if carries == PAIR:
            arms |= {name: ["fusion={type: concat}", setting] for name, setting in ALONE.items()}
        else:
            arms = {name: [*settings, *SETTINGS_WITH_DROPOUT.get(name, ())] for name, settings in arms.items()}
        shared = [
            f"data.weather.carries={json.dumps(carries)}",
            f"data.weather.flip={flip}",
            "evaluate={every: 1000, baselines: false}",
        ]
        for arm, settings in arms.items():
            yield arm, carries, flip, [*shared, *(DROPPED if carries == SPARE else ()), *settings]


def accuracy(result: Mapping[str, Any], question: str) -> float:
    """The measured accuracy of one question.

    Args:
        result: of the run.
        question: one of ``questions``.
    """
    hidden = question.startswith("without")
    scores = result["hidden"][f"mmbert {question.replace('_', ' ')}"] if hidden else result["test"]
    return scores["label"]["accuracy"]


def reachable_accuracies(carries: Mapping[str, str], flip: float) -> dict[str, dict[str, dict[str, float]]]:
    """The best accuracies: of any predictor, expected and on the rows of the test split, and of any sum.

    Args:
        carries: the hidden bit of each input.
        flip: the rate of flips.
    """
    options = load_recipe(RECIPE).recipe.data["weather"].options
    source = OracleSource("weather", {}, {}, **{**options, "carries": carries, "flip": flip})
    rows = [source.bits(sample.attributes["row"] - 1) for sample in source.split("test").read(())]
    assert len(rows) == TEST
    hits, joint, names = {}, joint_probabilities(carries, flip), sorted(carries)
    for inputs in bayes_accuracies(carries, flip):
        chosen = joint.sum(tuple(1 + place for place, name in enumerate(names) if name not in inputs)).argmax(0)
        hits[inputs] = sum(label == chosen[tuple(shown[name] for name in inputs)] for label, shown in rows) / TEST
    lines = {
        "best of all": bayes_accuracies(carries, flip),
        "best of all here": hits,
        "best of sums": additive_accuracies(carries, flip),
    }
    asked = questions(carries, flip).items()
    return {
        arm: {question: {"accuracy": float(accuracies[inputs])} for question, inputs in asked}
        for arm, accuracies in lines.items()
    }


def draw_once() -> None:
    """Share the drawn inputs between all runs of this process: drawing them takes a third of a run."""
    draw, cache = OracleSource._example_with_bit, {}

    def shown(source: OracleSource, row: int, name: str, bit: int) -> Any:
        if (row, name, bit) not in cache:
            cache[row, name, bit] = draw(source, row, name, bit)
        return cache[row, name, bit]

    OracleSource._example_with_bit = shown


def main() -> int:
    """Train all runs that the ledger lacks; print and append their accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--arms", nargs="+", default=[])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw_once()
    done = read_results(arguments.ledger, "synergy") if arguments.ledger else {}
    for arm, carries, flip, settings in runs():
        settings = [*settings, f"train.seed={arguments.seed}"]
        identity = recipe_hash(load_recipe(RECIPE, settings).recipe)
        if (arguments.arms and arm not in arguments.arms) or (arguments.seed, identity, "") in done:
            continue
        best, ceiling = bayes_accuracies(carries, flip), additive_accuracies(carries, flip)
        asked = questions(carries, flip)
        with tempfile.TemporaryDirectory() as folder:
            result = api.train(RECIPE, overrides=settings, out=Path(folder) / "run")
        lines = {arm: {question: {"accuracy": accuracy(result, question)} for question in asked}}
        for question, inputs in asked.items():
            visible = tuple(name for name in inputs if arm not in ALONE or arm == f"{name} alone")
            reached, top = lines[arm][question]["accuracy"], best[visible]
            sigma = math.sqrt(top * (1 - top) / TEST) or 1 / TEST
            print(
                f"{question:<16} {arm:<16} {reached:.4f}  best {top:.4f} ({(reached - top) / sigma:+.1f} sigma), "
                f"best sum {ceiling[visible]:.4f}",
                flush=True,
            )
        if arguments.ledger:
            append_results(arguments.ledger, lines, Measured("synergy", arguments.seed, "test", identity))
    for carries, flip in CASES if arguments.ledger else ():
        append_results(
            arguments.ledger,
            reachable_accuracies(carries, flip),
            Measured("synergy", arguments.seed, "test"),
            once=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
