"""What an additive model would keep of a model: the projection of Hessel and Lee (EMAP, EMNLP 2020).

f(i) becomes sum_m mean_j f(x_m of i, the rest of j) - (M - 1) mean f: a sum of functions of one input each. What is
lost in the score is what the model makes of inputs together, beyond adding up what each says. It is taken of outputs
before the link (logits, standardised values), as only there a sum of inputs is a sum.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

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
