"""What each input contributes to a score: Shapley values over all subsets of inputs."""

import math
from collections.abc import Collection, Mapping
from itertools import combinations


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
