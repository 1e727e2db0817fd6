"""Gives arms as many trainable parameters as the reference, by one integer option each."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from mmbert.ablation.study import Arm, Study
from mmbert.errors import MMBertError, RecipeError
from mmbert.experiment.build import build
from mmbert.recipe.schema import Recipe

TOLERANCE = 0.05  # relative to the reference's parameters
MAX_VALUE = 2**16  # of an option
GAP = 64  # consecutive values that may be invalid, such as widths that the number of heads does not divide


def match_parameters(study: Study) -> Study:
    """Return the study with each option of ``match`` set so that its arm is nearest to the reference's parameters.

    An arm is built for a dozen values, since the number of parameters depends on the data that processors are fitted
    on.

    Args:
        study: with a valid ``match``.

    Raises:
        RecipeError: if no value of an option comes within 5 %.
    """
    if not study.match:
        return study
    goal = count_trainable(study.arms[0].recipe)
    return replace(study, arms=tuple(_matched(arm, study.match.get(arm.name), goal) for arm in study.arms))


def count_trainable(recipe: Recipe) -> int:
    """Return how many parameters of a recipe's model are trained.

    Args:
        recipe: whose data are at hand.
    """
    return sum(parameter.numel() for parameter in build(recipe).model.parameters() if parameter.requires_grad)


def _matched(arm: Arm, key: str | None, goal: int) -> Arm:
    if key is None:
        return arm

    @cache
    def parameters(value: int) -> int | None:
        try:
            return count_trainable(arm.varied([f"{key}={value}"]).recipe)
        except RecipeError:
            return None  # the value is invalid

    try:
        value, count = nearest_value(parameters, goal)
    except MMBertError as error:
        raise RecipeError(f"match_parameters: arm '{arm.name}', {key}: {error}") from None
    if abs(count - goal) > TOLERANCE * goal:
        raise RecipeError(
            f"match_parameters: arm '{arm.name}': no value of {key} comes within {TOLERANCE:.0%} of the {goal:,} "
            f"trainable parameters of the reference; the nearest, {value}, gives {count:,}"
        )
    varied = arm.varied([f"{key}={value}"])
    return replace(varied, changes=(*varied.changes, f"{count:,} trainable parameters, {goal:,} in the reference"))


def nearest_value(parameters: Callable[[int], int | None], goal: int) -> tuple[int, int]:
    """Return the value whose number of parameters is nearest to the goal, and that number.

    Args:
        parameters: the number of parameters of a value, which must increase with it; None for an invalid value.
        goal: number of parameters.

    Raises:
        RecipeError: if no value is valid, or all values have the same number of parameters.

    Example:
        >>> nearest_value(lambda width: 10 * width if width % 4 == 0 else None, 170)
        (16, 160)
    """

    def next_valid(value: int) -> tuple[int, int]:
        for candidate in range(value, value + GAP):
            if (count := parameters(candidate)) is not None:
                return candidate, count
        raise RecipeError(f"no value from {value} to {value + GAP - 1} is valid")

    if next_valid(1)[1] == next_valid(1 + GAP)[1]:
        raise RecipeError("the option does not change the number of parameters")
    low, high = 0, 1  # ``low`` has too few parameters or is 0, ``high`` has enough
    while next_valid(high)[1] < goal and high < MAX_VALUE:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if next_valid(middle)[1] < goal else (low, middle)
    above = next_valid(high)
    lower = ((value, parameters(value)) for value in range(above[0] - 1, max(0, above[0] - GAP), -1))
    below = next(((value, count) for value, count in lower if count is not None), above)
    return min(below, above, key=lambda candidate: abs(candidate[1] - goal))
