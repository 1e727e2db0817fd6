"""Arms with as many learning parameters as the reference, by one whole-number option each."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from mmbert.ablation.study import Arm, Study
from mmbert.errors import MMBertError, RecipeError
from mmbert.experiment.build import build
from mmbert.recipe.schema import Recipe

TOLERANCE = 0.05  # of the reference's parameters
LARGEST = 2**16  # value of an option
GAP = 64  # values of an option in a row that may not be valid, such as widths that the heads do not divide


def match_parameters(study: Study) -> Study:
    """The study with the options of its ``match`` set so that each arm comes nearest the reference's parameters.

    An arm is built for a dozen values: what learns depends on the data, which processors are fitted on. Raises
    ``RecipeError`` where no value comes within 5 %.
    """
    if not study.match:
        return study
    goal = learning(study.arms[0].recipe)
    return replace(study, arms=tuple(_matched(arm, study.match.get(arm.name), goal) for arm in study.arms))


def learning(recipe: Recipe) -> int:
    """How many parameters of a recipe's model learn."""
    return sum(one.numel() for one in build(recipe).model.parameters() if one.requires_grad)


def _matched(arm: Arm, key: str | None, goal: int) -> Arm:
    if key is None:
        return arm

    @cache
    def parameters(value: int) -> int | None:
        try:
            return learning(arm.varied([f"{key}={value}"]).recipe)
        except RecipeError:
            return None  # not every value may be given

    try:
        value, found = nearest_value(parameters, goal)
    except MMBertError as error:
        raise RecipeError(f"match_parameters: arm '{arm.name}', {key}: {error}") from None
    if abs(found - goal) > TOLERANCE * goal:
        raise RecipeError(
            f"match_parameters: arm '{arm.name}': of all values of {key}, {value} comes nearest: {found:,} learn, "
            f"in the reference {goal:,}; {TOLERANCE:.0%} more or less would do"
        )
    varied = arm.varied([f"{key}={value}"])
    return replace(varied, changes=(*varied.changes, f"{found:,} parameters learn, {goal:,} in the reference"))


def nearest_value(parameters: Callable[[int], int | None], goal: int) -> tuple[int, int]:
    """The value from 1 on whose number of parameters is nearest the goal, and that number.

    ``parameters`` rises with the value; it is None where a value may not be given. Raises ``RecipeError`` where no
    value may be given, or where the number is the same for all.

    >>> nearest_value(lambda width: 10 * width if width % 4 == 0 else None, 170)
    (16, 160)
    """

    def valid(value: int) -> tuple[int, int]:
        for near in range(value, value + GAP):
            if (found := parameters(near)) is not None:
                return near, found
        raise RecipeError(f"none of the values from {value} to {value + GAP - 1} may be given")

    if valid(1)[1] == valid(1 + GAP)[1]:
        raise RecipeError("it changes no number of parameters")
    low, high = 0, 1  # the number is too small at the first, or there is none; large enough at the second
    while valid(high)[1] < goal and high < LARGEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if valid(middle)[1] < goal else (low, middle)
    value, found = valid(high)
    lower = ((near, parameters(near)) for near in range(value - 1, max(0, value - GAP), -1))
    below = next(((near, number) for near, number in lower if number is not None), (value, found))
    return min(below, (value, found), key=lambda one: abs(one[1] - goal))
