"""Attribution to inputs: Shapley values, the additive projection (EMAP) and performance retained under corruption."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from mmbert.errors import NumericalError

MIN_STANDARD_ERRORS = 2.0  # by which a score must be better than chance

OutputFunction = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]  # view of n rows -> task -> outputs [n, ...]


def subsets(inputs: Collection[str]) -> list[frozenset[str]]:
    """All subsets of the inputs: smaller ones first, in the order of the names.

    Example:
        >>> [sorted(subset) for subset in subsets(["b", "a"])]
        [[], ['a'], ['b'], ['a', 'b']]
    """
    names = sorted(inputs)
    return [frozenset(subset) for size in range(len(names) + 1) for subset in combinations(names, size)]


def shapley_values(value: Mapping[frozenset[str], float], inputs: Collection[str]) -> dict[str, float]:
    """The Shapley value of each input: what it adds to the inputs before it, averaged over all orders of the inputs.

    The values of all inputs add up to the value of the full set minus that of the empty set (efficiency). Inputs that
    add the same to every subset have the same value (symmetry); an input that adds nothing to any subset has 0 (dummy).

    Args:
        value: the value of each subset.
        inputs: the names of all inputs.

    Returns:
        Input -> Shapley value.

    Raises:
        ValueError: where the value of a subset is missing.

    Example:
        >>> both = frozenset(["text", "image"])
        >>> xor = {subset: 0.5 * (subset == both) for subset in subsets(both)}  # neither input helps alone
        >>> shapley_values(xor, both)
        {'image': 0.25, 'text': 0.25}

    Reference:
        Shapley 1953; for the inputs of a model: SHAPE, Hu et al. 2022.
    """
    names = sorted(inputs)
    missing = [sorted(subset) for subset in subsets(names) if subset not in value]
    if missing:
        raise ValueError(f"expected the value of all {2 ** len(names)} subsets, found none of {missing[0]}")
    count = math.factorial(len(names))
    values = {}
    for name in names:
        terms = []
        for before in subsets([key for key in names if key != name]):
            orders = math.factorial(len(before)) * math.factorial(len(names) - len(before) - 1)
            terms.append(orders * (value[before | {name}] - value[before]) / count)
        values[name] = math.fsum(terms)
    return values


def unimodal_means(outputs: OutputFunction, inputs: Sequence[str], size: int, *, batch: int) -> dict[str, Tensor]:
    """The mean output of each row's value of one input, over the values of the other inputs of all rows.

    That is mean_j f(x_m of row i, all other inputs of row j), for input m and row i. With two inputs the model runs on
    each pair of rows once, with M > 2 inputs M times.

    Args:
        outputs: f, for up to ``batch`` rows: gets for each input the row numbers whose values stand in these rows.
        inputs: the names of the inputs.
        size: the number of rows.
        batch: the most rows in one call of ``outputs``; the first input varies slowest over calls.

    Returns:
        Task -> means [inputs, rows, ...] in float64, inputs in the order of ``inputs``.
    """
    rows = torch.arange(size)
    first, second = rows.repeat_interleave(size), rows.repeat(size)
    sums: dict[str, Tensor] = {}
    # with two inputs, (x_1 of i, x_2 of j) gives both the mean for x_1 of i and the mean for x_2 of j
    for position, name in enumerate(inputs[:1] if len(inputs) == 2 else inputs):
        for i, j in zip(first.split(batch), second.split(batch), strict=True):
            for task, values in outputs({key: i if key == name else j for key in inputs}).items():
                shape = (len(inputs), size, *values.shape[1:])
                total = sums.setdefault(task, torch.zeros(shape, dtype=torch.float64))
                total[position].index_add_(0, i, values.double())
                if len(inputs) == 2:
                    total[1].index_add_(0, j, values.double())
    return {task: total / size for task, total in sums.items()}


def project_to_additive(means: Tensor) -> Tensor:
    """EMAP: the projection of a model onto sums of functions of one input each.

    Args:
        means: [inputs, rows, ...], the ``unimodal_means`` of one task.

    Returns:
        The outputs [rows, ...] of the projection on the same rows.

    Example:
        >>> text, image = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 4.0])
        >>> def outputs(view): return {"sum": text[view["text"]] + image[view["image"]]}
        >>> project_to_additive(unimodal_means(outputs, ["image", "text"], 2, batch=4)["sum"])
        tensor([1., 7.], dtype=torch.float64)

    Reference:
        Hessel and Lee 2020, "Does my multimodal model learn cross-modal interactions?".
    """
    return means.sum(0) - (len(means) - 1) * means.mean((0, 1))


def retained_performance(
    scores: Sequence[float], chance: float, *, error: float, lower_is_better: bool = False
) -> float:
    """The mean fraction of above-chance performance retained under corruption.

    The mean over the rates r above 0 of (P(r) - chance) / (P(0) - chance): 1 where nothing is lost, 0 where the model
    falls to chance.

    Args:
        scores: P at rising rates of corruption, the first at rate 0.
        chance: the score of the constant predictor.
        error: the standard error of P(0) - chance.
        lower_is_better: whether the score is an error.

    Raises:
        NumericalError: where P(0) is not better than chance by more than two standard errors, so that the ratio
            would be one of noise.
        ValueError: where there is no score at a rate above 0.

    Example:
        >>> retained_performance([0.9, 0.8, 0.6], 0.5, error=0.01)
        0.5
    """
    start, *rest = scores
    if not rest:
        raise ValueError("expected a score at a rate above 0, found none")
    gain = chance - start if lower_is_better else start - chance
    if not gain > MIN_STANDARD_ERRORS * error:
        raise NumericalError(
            f"{start:.4g} without any change is not better than chance, {chance:.4g}, by more than "
            f"{MIN_STANDARD_ERRORS:g} standard errors of {error:.2g}: an area would be one of noise"
        )
    return sum((score - chance) / (start - chance) for score in rest) / len(rest)
