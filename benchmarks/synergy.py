"""Every fusion on an exclusive or whose best accuracies are known, trained and then asked with an input missing.

    python -m benchmarks.synergy --seeds 3 --ledger results/synergy.csv

Three tables of recipes/synergy.yaml on a small trunk with random weights and linear heads. ``pair``: the recipe's text
and image, for three rates of flips, and either of them alone. ``spare``: a table of numbers shows the text's bit once
more, so that either can be missing; inputs are dropped in training. A row is the accuracy on the test split; "without
image" means taken away at test.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from mmbert import api
from mmbert.data.bayes import additive, bayes
from mmbert.fusion import FUSIONS

RECIPE = Path(__file__).parents[1] / "recipes" / "synergy.yaml"
FLIPS = (0.0, 0.05, 0.1)
SMALL = (
    "trunk={checkpoint: null, layers: 2, hidden_size: 64, heads: 2, vocabulary: 200, initializer_range: 0.07}",
    "inputs.image={type: vit, size: 16, patch: 8, layers: 1, width: 32, heads: 2}",
    "optim.lr={trunk: 1.0e-3, new: 1.0e-3}",
    "train={steps: 400, batch_size: 256, workers: 0}",
    "evaluate={every: 100, baselines: false, batch_size: 512}",
)
PAIR = {"image": "b", "text": "a"}
SPARE = {**PAIR, "numbers": "a"}
DROPPED = ("inputs.numbers={type: table, layers: 1}", "train.input_dropout=0.3", "train.steps=800")


def settings(carries: dict[str, str], flip: float, seed: int) -> list[str]:
    source = {"carries": json.dumps(carries), "flip": flip, "rows": 24000}
    own = [f"train.seed={seed}", *(f"data.weather.{key}={value}" for key, value in source.items())]
    return [*SMALL, *(DROPPED if carries == SPARE else ()), *own]


def arms(carries: dict[str, str]) -> dict[str, list[str]]:
    """Arm -> its settings."""
    made = {name: [f"fusion={{type: {name}}}"] for name in FUSIONS.names()}
    if carries == PAIR:
        made |= {f"{name} alone": [f"inputs.{other}=null", "fusion={type: concat}"] for name, other in
                 (("text", "image"), ("image", "text"))}  # fmt: skip
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--fusions", nargs="+", default=[])
    arguments = parser.parse_args()
    for carries, flips in ((PAIR, FLIPS), (SPARE, FLIPS[-1:])):
        for flip in flips:
            for name, known in (("best", bayes(carries, flip)), ("additive at best", additive(carries, flip))):
                print(f"flips {flip:g}, {name}:", {", ".join(one): round(value, 4) for one, value in known.items()})
            for seed in arguments.seeds:
                for arm, own in arms(carries).items():
                    if arguments.fusions and arm not in arguments.fusions:
                        continue
                    name = f"synergy-{'spare' if carries == SPARE else 'pair'}-{flip * 100:g}"
                    with tempfile.TemporaryDirectory() as folder:
                        result = api.train(
                            RECIPE, overrides=[*settings(carries, flip, seed), *own, f"name={name}"],
                            out=Path(folder) / "run", ledger=arguments.ledger, arm=arm,
                        )  # fmt: skip
                    print(f"{name}, seed {seed}, {arm}: {result['test']['label']['accuracy']:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
