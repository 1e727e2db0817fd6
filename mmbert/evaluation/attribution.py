"""What each input contributes to a score: Shapley values over all subsets of inputs."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from mmbert.errors import NumericalError


def subsets(inputs: Collection[str]) -> list[frozenset[str]]:
    """All subsets, the empty one first, smaller before larger, in the order of the names.

    >>> [sorted(one) for one in subsets(["b", "a"])]
    [[], ['a'], ['b'], ['a', 'b']]
    """
    names = sorted(inputs)
    return [frozenset(one) for size in range(len(names) + 1) for one in combinations(names, size)]


def shapley(value: Mapping[frozenset[str], float], inputs: Collection[str]) -> dict[str, float]:
    """The mean of what an input adds to those before it, over all orders of the inputs.

    ``value`` gives the worth of each subset. The contributions add up to that of all inputs minus that of none
    (efficiency); inputs that add the same to every subset have the same (symmetry), one that adds nothing to any has 0
    (dummy). Shapley 1953; of the inputs of a model: SHAPE, Hu et al. 2022. Raises ``ValueError`` where a subset is
    missing.

    >>> both = frozenset(["text", "image"])
    >>> shapley({one: 0.5 * (one == both) for one in subsets(both)}, both)  # XOR: neither is worth anything alone
    {'image': 0.25, 'text': 0.25}
    """
    names = sorted(inputs)
    missing = [sorted(one) for one in subsets(names) if one not in value]
    if missing:
        raise ValueError(f"expected the value of all {2 ** len(names)} subsets, found none of {missing[0]}")
    count = math.factorial(len(names))
    found = {}
    for name in names:
        terms = []
        for before in subsets([one for one in names if one != name]):
            orders = math.factorial(len(before)) * math.factorial(len(names) - len(before) - 1)
            terms.append(orders * (value[before | {name}] - value[before]) / count)
        found[name] = math.fsum(terms)
    return found


Outputs = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]  # view of n rows -> task -> outputs [n, ...]


def effects(outputs: Outputs, inputs: Sequence[str], size: int, *, batch: int) -> dict[str, Tensor]:
    """For each task mean_j f(x_m of i, the rest of j): [inputs, rows, ...] in float64, m in the order of ``inputs``.

    ``outputs`` gives f for up to ``batch`` rows put together: for each input, whose value (one of ``size`` rows) stands
    in each of them. It is asked for all pairs of rows once with two inputs, M times with M; i and j take turns so that
    the first input varies slowest.
    """
    rows = torch.arange(size)
    first, second = rows.repeat_interleave(size), rows.repeat(size)
    sums: dict[str, Tensor] = {}
    # with two inputs, x_1 of i beside x_2 of j is also x_2 of j beside the rest of i
    for place, name in enumerate(inputs[:1] if len(inputs) == 2 else inputs):
        for i, j in zip(first.split(batch), second.split(batch), strict=True):
            found = outputs({one: i if one == name else j for one in inputs})
            for task, values in found.items():
                shape = (len(inputs), size, *values.shape[1:])
                total = sums.setdefault(task, torch.zeros(shape, dtype=torch.float64))
                total[place].index_add_(0, i, values.double())
                if len(inputs) == 2:
                    total[1].index_add_(0, j, values.double())
    return {task: total / size for task, total in sums.items()}


def project(means: Tensor) -> Tensor:
    """The outputs [rows, ...] of the additive projection, from the ``effects`` [inputs, rows, ...] of one task.

    >>> text, image = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 4.0])
    >>> def outputs(view): return {"sum": text[view["text"]] + image[view["image"]]}
    >>> project(effects(outputs, ["image", "text"], 2, batch=4)["sum"])
    tensor([1., 7.], dtype=torch.float64)
    """
    return means.sum(0) - (len(means) - 1) * means.mean((0, 1))


CERTAIN = 2.0  # standard errors by which a score must be better than chance


def area(scores: Sequence[float], chance: float, *, error: float, lower_is_better: bool = False) -> float:
    """The mean over the rates above 0 of (P(r) - chance) / (P(0) - chance).

    1 where nothing is lost, 0 where all is. ``scores`` are P at rising rates, the first at rate 0; ``chance`` is the
    constant predictor's; ``error`` the standard error of P(0) - chance. Raises ``NumericalError`` where P(0) is not
    better than chance by more than two standard errors: the ratio would be one of noise.

    >>> area([0.9, 0.8, 0.6], 0.5, error=0.01)
    0.5
    """
    start, *rest = scores
    if not rest:
        raise ValueError("expected a score at a rate above 0, found none")
    gain = chance - start if lower_is_better else start - chance
    if not gain > CERTAIN * error:
        raise NumericalError(
            f"{start:.4g} without any change is not better than chance, {chance:.4g}, by more than {CERTAIN:g} "
            f"standard errors of {error:.2g}: an area would be one of noise"
        )
    return sum((one - chance) / (start - chance) for one in rest) / len(rest)
