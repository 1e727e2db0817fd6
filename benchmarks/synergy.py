"""Every fusion on an exclusive or whose best accuracies are known, trained and then asked with an input missing.

    python -m benchmarks.synergy --ledger results/synergy.csv

The recipe is recipes/synergy.yaml, whose head is linear. ``cross_attention`` starts with open gates, as hardly anything
pulls at closed ones; what finds it later has more steps or other options (OWN). First its text and image, for three
rates of flips, and either of them alone. Then with ``numbers``, a table that shows the text's bit once more, so that
either can be missing; inputs are dropped in training, and one at a time is taken away at test, which takes longer to
learn (LATER). Accuracies are of the test split; beside them stands what is best of all, and best of what only adds up
(``benchmarks.bayes_optimal``). What the ledger has is not run again.
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
OWN = {
    "cross_attention": ["fusion.gate=0.5"],
    "bottleneck": ["train.steps=1500"],
    "joint": ["train.steps=600"],
    "perceiver": ["train.steps=1500", "fusion.latents=4", "fusion.dropout=0.0"],
    "concat and logit_sum": ["fusion.logit_sum=true", "train.steps=1000"],
}
LATER = {  # with inputs dropped
    "mag": ["train.steps=1200"],
    "cross_attention": ["train.steps=800"],
    "perceiver": ["train.steps=2500"],
}
CASES = ((PAIR, 0.1), (PAIR, 0.0), (PAIR, 0.05), (SPARE, 0.1))  # what inputs carry, the rate of flips
TEST = 2489  # rows


def questions(carries: Mapping[str, str], flip: float) -> dict[str, tuple[str, ...]]:
    """What is asked -> the inputs that are there."""
    names = sorted(carries)
    if carries == PAIR:
        return {f"flips_{flip:.2f}": (*names,)}
    return {"all": (*names,), **{f"without_{one}": (*(name for name in names if name != one),) for one in names}}


def runs() -> Iterator[tuple[str, Mapping[str, str], float, list[str]]]:
    """The runs: arm, what the inputs carry, the rate of flips, the settings of the recipe."""
    for carries, flip in CASES:
        kinds = {**{name: name for name in FUSIONS.names()}, "concat and logit_sum": "concat"}
        arms = {name: [f"fusion={{type: {kind}}}", *OWN.get(name, ())] for name, kind in kinds.items()}
        if carries == PAIR:
            arms |= {name: ["fusion={type: concat}", left] for name, left in ALONE.items()}
        else:
            arms = {name: [*own, *LATER.get(name, ())] for name, own in arms.items()}
        shared = [
            f"data.weather.carries={json.dumps(carries)}",
            f"data.weather.flip={flip}",
            "evaluate={every: 1000, baselines: false}",
        ]
        for arm, own in arms.items():
            yield arm, carries, flip, [*shared, *(DROPPED if carries == SPARE else ()), *own]


def accuracy(result: Mapping[str, Any], question: str) -> float:
    hidden = question.startswith("without")
    scores = result["hidden"][f"mmbert {question.replace('_', ' ')}"] if hidden else result["test"]
    return scores["label"]["accuracy"]


def known(carries: Mapping[str, str], flip: float) -> dict[str, dict[str, dict[str, float]]]:
    """What can be reached: expected, and by the best predictor on these very rows."""
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
        arm: {question: {"accuracy": float(one[inputs])} for question, inputs in asked} for arm, one in lines.items()
    }


def draw_once() -> None:
    """Let all runs of this process share what inputs show: drawing it takes a third of a run."""
    draw, drawn = OracleSource._shown, {}

    def shown(source: OracleSource, row: int, name: str, bit: int) -> Any:
        if (row, name, bit) not in drawn:
            drawn[row, name, bit] = draw(source, row, name, bit)
        return drawn[row, name, bit]

    OracleSource._shown = shown


def main() -> int:
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
        best, ceiling, asked = (
            bayes_accuracies(carries, flip),
            additive_accuracies(carries, flip),
            questions(carries, flip),
        )
        with tempfile.TemporaryDirectory() as folder:
            result = api.train(RECIPE, overrides=settings, out=Path(folder) / "run")
        lines = {arm: {question: {"accuracy": accuracy(result, question)} for question in asked}}
        for question, inputs in asked.items():
            seen = tuple(name for name in inputs if arm not in ALONE or arm == f"{name} alone")
            reached, top = lines[arm][question]["accuracy"], best[seen]
            sigma = math.sqrt(top * (1 - top) / TEST) or 1 / TEST
            print(f"{question:<16} {arm:<16} {reached:.4f}  best {top:.4f} ({(reached - top) / sigma:+.1f} sigma), "
                  f"ceiling of sums {ceiling[seen]:.4f}", flush=True)  # fmt: skip
        if arguments.ledger:
            append_results(arguments.ledger, lines, Measured("synergy", arguments.seed, "test", identity))
    for carries, flip in CASES if arguments.ledger else ():
        append_results(arguments.ledger, known(carries, flip), Measured("synergy", arguments.seed, "test"), once=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
