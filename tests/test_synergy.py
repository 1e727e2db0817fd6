"""recipes/synergy.yaml: a small version beats every sum of unimodal scores; the full one reaches the Bayes optimum."""

import math
from pathlib import Path

import pytest

from benchmarks.bayes_optimal import additive_accuracies, bayes_accuracies
from mmbert import api
from mmbert.data.sources.oracle import OracleSource
from mmbert.recipe.load import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "synergy.yaml"
EASY = ("data.weather.rows=8000", "data.weather.flip=0", "train.steps=200", "evaluate={every: 200, baselines: false}")


def trained(tmp_path, *settings):
    """The accuracy on the test split, that of the best predictor, the ceiling of sums of scores, and two sigma."""
    result = api.train(RECIPE, overrides=settings, out=tmp_path / "run", resume="never")
    options = load_recipe(RECIPE, settings).recipe.data["weather"].options
    carries, flip = options["carries"], options["flip"]
    best, ceiling = (
        accuracies(carries, flip)["image", "text"] for accuracies in (bayes_accuracies, additive_accuracies)
    )
    rows = len(OracleSource("weather", {}, {}, **options).split("test"))
    return result["test"]["label"]["accuracy"], best, ceiling, 2 * math.sqrt(best * (1 - best) / rows)


@pytest.mark.slow
def test_a_small_fusion_is_better_than_any_sum_of_scores(tmp_path):
    accuracy, _, ceiling, _ = trained(tmp_path, *EASY)
    assert ceiling == pytest.approx(0.75)
    assert accuracy > 0.95


@pytest.mark.slow
def test_the_recipe_reaches_the_best_accuracy(tmp_path):
    accuracy, best, ceiling, margin = trained(tmp_path)
    assert (best, ceiling) == pytest.approx((0.82, 0.66))
    assert abs(accuracy - best) < margin
