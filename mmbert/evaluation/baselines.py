"""The cheap models that a neural one has to beat: constant, linear, gradient boosting; on crude features.

They give outputs as a task's head does, so ``Task.loss`` and ``Task.score`` judge both by the same numbers. Which
models suit a task is said by its class attribute ``baseline``, which also says what its label's tensors hold:

==================  =========================================================  ==================================
``baseline``        ``targets``                                                output
==================  =========================================================  ==================================
``regression``      ``target`` [rows]                                          [rows], in the scale of ``target``
``classification``  ``target`` [rows] int64                                    [rows, classes] logits
``multilabel``      ``target`` [rows, labels] 0 or 1, ``known`` the same bool  [rows, labels] logits
none                any                                                        any: only the constant is computed
==================  =========================================================  ==================================
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from torch import Tensor

from mmbert.contracts import Processor, Task
from mmbert.errors import DataError
from mmbert.evaluation.baseline_features import Features, of_inputs
from mmbert.types import Fused, Sample, Tokens

PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # of the linear model, strongest first
Targets = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """What one baseline reached in one task on one split."""

    task: str
    baseline: str  # constant, linear or boosting
    inputs: tuple[str, ...]  # that it read
    split: str
    metrics: dict[str, float]  # Task.score
    predictions: dict[int, Tensor]  # sample id -> a row of Task.predict, as paired_bootstrap needs them


@dataclass(frozen=True, slots=True)
class Labelled:
    """The rows of one split that have a label of one task."""

    rows: np.ndarray  # their places in the split
    ids: list[int]
    items: list[Targets]  # one a row
    targets: Targets  # all together


def run_baselines(
    splits: Mapping[str, Sequence[Sample]],
    processors: Mapping[str, Processor],
    texts: Collection[str],
    tasks: Mapping[str, Task],
    labels: Mapping[str, Processor],
    models: Collection[str] = ("linear", "boosting"),
) -> Iterator[BaselineResult]:
    """Each baseline of each task, for all inputs together and for each alone; a row as soon as it is ready.

    ``splits`` has "train", "validation" (which chooses the penalty and stops boosting) and those to evaluate besides.
    ``processors`` maps inputs, ``labels`` tasks to fitted processors; ``texts`` names the inputs that are text; tasks
    are on the CPU. Raises ``DataError`` where a task has no label in one of the splits.
    """
    samples = {split: list(rows) for split, rows in splits.items()}
    names = {name for rows in samples.values() for sample in rows for name in sample.inputs}
    names = [name for name in sorted(names) if name in texts or name in processors]
    values = {
        name: {split: [sample.inputs.get(name) for sample in rows] for split, rows in samples.items()} for name in names
    }
    features = of_inputs(values, processors, texts)
    groups = [tuple(features)] if features else []
    if len(features) > 1:
        groups += [(name,) for name in features]
    for name, task in tasks.items():
        known = {split: _labelled(name, rows, split, labels[name]) for split, rows in samples.items()}
        yield from _rows(name, task, "constant", (), known, constant(task, known, {*names, "text"}))
        if getattr(task, "baseline", None) is None:
            continue
        for group in groups:
            parts = [features[one] for one in group]
            for baseline in models:
                yield from _rows(name, task, baseline, group, known, MODELS[baseline](task, known, parts))


def constant(task: Task, known: Mapping[str, Labelled], streams: Collection[str]) -> dict[str, Tensor]:
    """Each split's output of the best predictor that ignores the input; labels of units say how many of these are."""
    outputs = {}
    for split, part in known.items():
        units = [max([len(tensor) for tensor in item.values() if tensor.ndim], default=1) for item in part.items]
        mask = torch.arange(max(units)) < torch.tensor(units)[:, None]
        tokens = Tokens(torch.zeros(*mask.shape, 1), mask, torch.arange(max(units)).expand(mask.shape))
        outputs[split] = task.constant(Fused(torch.zeros(len(units), 1), dict.fromkeys(streams, tokens)))
    return outputs


def linear(task: Task, known: Mapping[str, Labelled], features: Sequence[Features]) -> dict[str, Tensor]:
    """Each split's output of a linear model that minimises the task's own loss + penalty / 2 * squared weights.

    That is ridge regression for squares and logistic regression for (binary or multinomial) cross-entropy. The penalty
    goes from strong to weak, each fit starting from the last, until the validation loss rises.
    """
    blocks: dict[str, list[Any]] = {
        split: [block[part.rows] for one in features for block in one.linear[split]] for split, part in known.items()
    }
    start = task.constant(Fused(torch.zeros(1, 1), {}))[0].double()
    shape, outputs = start.shape, start.numel()
    ends = np.cumsum([block.shape[1] for block in blocks["train"]])
    train = known["train"].targets

    def output(split: str, solution: np.ndarray) -> Tensor:
        table = solution.reshape(-1, outputs)
        weights = np.split(table[:-1].astype(np.float32), ends[:-1])
        total = sum((block @ part for block, part in zip(blocks[split], weights, strict=True)), np.float64(0))
        return torch.from_numpy(np.asarray(total + table[-1], np.float64)).reshape(-1, *shape)

    def objective(solution: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        values = output("train", solution).requires_grad_()
        loss = task.loss(values, train)
        slope = torch.autograd.grad(loss, values)[0].reshape(-1, outputs).numpy()
        parts = [block.T @ slope.astype(np.float32) for block in blocks["train"]]
        gradient = np.concatenate([*parts, slope.sum(0, keepdims=True)]).ravel().astype(np.float64)
        weights = solution[: -outputs or None]
        gradient[: len(weights)] += penalty * weights
        scale = 1 / len(slope)  # the optimiser's tolerance is for numbers about 1
        return scale * (loss.item() + penalty / 2 * float(weights @ weights)), scale * gradient

    solution = np.concatenate([np.zeros(int(ends[-1]) * outputs), start.reshape(-1).numpy()])
    best, least = solution, np.inf
    for penalty in PENALTIES:
        options = {"maxiter": 100, "maxcor": 5, "ftol": 1e-6, "gtol": 1e-6}
        solution = minimize(objective, solution, (penalty,), method="L-BFGS-B", jac=True, options=options).x
        loss = task.loss(output("validation", solution), known["validation"].targets).item()
        if loss >= least:
            break
        best, least = solution, loss
    return {split: output(split, best) for split in known}


def boosting(task: Task, known: Mapping[str, Labelled], features: Sequence[Features]) -> dict[str, Tensor]:
    """Each split's output of histogram gradient boosting, stopped early by the validation split; one model a label."""
    table = {split: np.hstack([one.trees[split][part.rows] for one in features]) for split, part in known.items()}
    target = {split: part.targets["target"].numpy() for split, part in known.items()}
    kind = getattr(task, "baseline", None)
    if kind == "multilabel":
        start = constant(task, known, ())
        labels = []
        for label in range(target["train"].shape[1]):
            mask = {split: part.targets["known"][:, label].numpy() for split, part in known.items()}
            true = {split: target[split][mask[split], label] for split in ("train", "validation")}
            if len(np.unique(true["train"])) < 2 or len(true["validation"]) == 0:  # nothing to learn, or to stop by
                labels.append({split: output[:, label].double() for split, output in start.items()})
                continue
            model = _fit(HistGradientBoostingClassifier, {split: table[split][mask[split]] for split in true}, true)
            labels.append({split: torch.from_numpy(model.decision_function(part)) for split, part in table.items()})
        return {split: torch.stack([label[split] for label in labels], 1) for split in known}
    if kind == "regression":
        model = _fit(HistGradientBoostingRegressor, table, target)
        return {split: torch.from_numpy(model.predict(part)) for split, part in table.items()}
    model = _fit(HistGradientBoostingClassifier, table, target)
    outputs = {}
    for split, part in constant(task, known, ()).items():
        outputs[split] = part.double().clone()  # a class of no training row keeps its constant
        probabilities = np.clip(model.predict_proba(table[split]), 1e-12, None)
        outputs[split][:, model.classes_] = torch.from_numpy(np.log(probabilities))
    return outputs


MODELS = {"linear": linear, "boosting": boosting}


def _fit(model: type, table: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray]) -> Any:
    boosted = model(max_iter=300, early_stopping=True, n_iter_no_change=10, random_state=0)
    held = {"X_val": table["validation"], "y_val": target["validation"]}
    return boosted.fit(table["train"], target["train"], **held)


def _labelled(task: str, samples: Sequence[Sample], split: str, label: Processor) -> Labelled:
    places, items = [], []
    for place, sample in enumerate(samples):
        item = label(sample.targets[task]) if task in sample.targets else {}
        if item:
            places.append(place)
            items.append(item)
    if not items:
        raise DataError(f"expected labels of the task '{task}' in the split '{split}', found none")
    return Labelled(np.array(places), [samples[place].id for place in places], items, label.collate(items))


def _rows(
    name: str,
    task: Task,
    baseline: str,
    inputs: tuple[str, ...],
    known: Mapping[str, Labelled],
    outputs: Mapping[str, Tensor],
) -> Iterator[BaselineResult]:
    for split, part in known.items():
        if split != "train":
            predictions = list(task.predict(outputs[split]))
            metrics = task.score(predictions, part.items)
            kept = dict(zip(part.ids, predictions, strict=True))
            yield BaselineResult(name, baseline, inputs, split, metrics, kept)
