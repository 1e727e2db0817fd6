"""The models behind the cheap baselines: a constant, a linear model, gradient boosting.

Their outputs have the form of a task head's outputs, so ``Task.loss`` and ``Task.score`` judge both by the same
numbers. The class attribute ``baseline`` of a task says which models suit it and what the tensors of its labels hold:

==================  =========================================================  ==================================
``baseline``        ``targets``                                                output
==================  =========================================================  ==================================
``regression``      ``target`` [rows]                                          [rows], in the scale of ``target``
``classification``  ``target`` [rows] int64                                    [rows, classes] logits
``multilabel``      ``target`` [rows, labels] 0 or 1, ``known`` the same bool  [rows, labels] logits
none                any                                                        any: only the constant is computed
==================  =========================================================  ==================================
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbert.contracts import Task
from mmbert.errors import DataError
from mmbert.evaluation.baseline_features import Features
from mmbert.types import Fused, Tokens

PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # of the linear model, strongest first
Targets = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """The rows of one split that have a label of one task.

    Attributes:
        rows: their positions in the split.
        ids: their sample ids.
        items: the target tensors of each row.
        targets: the target tensors of all rows, collated.
    """

    rows: np.ndarray
    ids: list[int]
    items: list[Targets]
    targets: Targets


def constant_outputs(task: Task, labelled: Mapping[str, LabelledRows], streams: Collection[str]) -> dict[str, Tensor]:
    """The outputs of the best predictor that ignores the input.

    Args:
        task: whose constant predictor it is.
        labelled: split -> labelled rows; where labels are of units, they also give the number of units of a row.
        streams: the streams that the task may read.

    Returns:
        Split -> outputs [rows, ...].
    """
    outputs = {}
    for split, part in labelled.items():
        units = [max([len(tensor) for tensor in item.values() if tensor.ndim], default=1) for item in part.items]
        mask = torch.arange(max(units)) < torch.tensor(units)[:, None]
        tokens = Tokens(torch.zeros(*mask.shape, 1), mask, torch.arange(max(units)).expand(mask.shape))
        outputs[split] = task.constant(Fused(torch.zeros(len(units), 1), dict.fromkeys(streams, tokens)))
    return outputs


def fit_linear(task: Task, labelled: Mapping[str, LabelledRows], features: Sequence[Features]) -> dict[str, Tensor]:
    """Fit a linear model that minimises the task's own loss + penalty / 2 * squared weights.

    That is ridge regression for squares and logistic regression for (binary or multinomial) cross-entropy. The penalty
    goes from strong to weak, each fit starting from the last one, until the validation loss rises.

    Args:
        task: whose loss is minimised.
        labelled: split -> labelled rows; "train" is fitted, "validation" chooses the penalty.
        features: of each input that the model reads.

    Returns:
        Split -> outputs [rows, ...].
    """
    from scipy.optimize import minimize  # slow to import

    blocks: dict[str, list[Any]] = {
        split: [block[part.rows] for feature_set in features for block in feature_set.linear[split]]
        for split, part in labelled.items()
    }
    start = task.constant(Fused(torch.zeros(1, 1), {}))[0].double()
    shape, outputs = start.shape, start.numel()
    ends = np.cumsum([block.shape[1] for block in blocks["train"]])
    train = labelled["train"].targets

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
        scale = 1 / len(slope)  # the tolerances of the optimiser are for numbers about 1
        return scale * (loss.item() + penalty / 2 * float(weights @ weights)), scale * gradient

    solution = np.concatenate([np.zeros(int(ends[-1]) * outputs), start.reshape(-1).numpy()])
    best_solution, best_loss = solution, np.inf
    for penalty in PENALTIES:
        options = {"maxiter": 100, "maxcor": 5, "ftol": 1e-6, "gtol": 1e-6}
        solution = minimize(objective, solution, (penalty,), method="L-BFGS-B", jac=True, options=options).x
        loss = task.loss(output("validation", solution), labelled["validation"].targets).item()
        if loss >= best_loss:
            break
        best_solution, best_loss = solution, loss
    return {split: output(split, best_solution) for split in labelled}


def fit_boosting(task: Task, labelled: Mapping[str, LabelledRows], features: Sequence[Features]) -> dict[str, Tensor]:
    """Fit histogram gradient boosting, one model per label.

    Args:
        task: whose ``baseline`` says which model fits it.
        labelled: split -> labelled rows; "train" is fitted, "validation" stops early.
        features: of each input that the model reads.

    Returns:
        Split -> outputs [rows, ...].
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor  # slow to import

    table = {
        split: np.hstack([feature_set.trees[split][part.rows] for feature_set in features])
        for split, part in labelled.items()
    }
    target = {split: part.targets["target"].numpy() for split, part in labelled.items()}
    kind = task.baseline
    if kind == "multilabel":
        start = constant_outputs(task, labelled, ())
        labels = []
        for label in range(target["train"].shape[1]):
            mask = {split: part.targets["known"][:, label].numpy() for split, part in labelled.items()}
            true = {split: target[split][mask[split], label] for split in ("train", "validation")}
            if len(np.unique(true["train"])) < 2 or len(true["validation"]) == 0:  # nothing to learn, or to stop by
                labels.append({split: output[:, label].double() for split, output in start.items()})
                continue
            model = _fit(HistGradientBoostingClassifier, {split: table[split][mask[split]] for split in true}, true)
            labels.append({split: torch.from_numpy(model.decision_function(rows)) for split, rows in table.items()})
        return {split: torch.stack([label[split] for label in labels], 1) for split in labelled}
    if kind == "regression":
        model = _fit(HistGradientBoostingRegressor, table, target)
        return {split: torch.from_numpy(model.predict(rows)) for split, rows in table.items()}
    seen = {split: np.isin(true, target["train"]) for split, true in target.items()}  # only those can stop it early
    if not seen["validation"].any():
        raise DataError("no label of the validation split occurs in training")
    known = {split: (table[split][seen[split]], target[split][seen[split]]) for split in ("train", "validation")}
    model = _fit(HistGradientBoostingClassifier, *({split: pair[k] for split, pair in known.items()} for k in (0, 1)))
    outputs = {}
    for split, constant in constant_outputs(task, labelled, ()).items():
        outputs[split] = constant.double().clone()  # a class without training rows has its constant
        probabilities = np.clip(model.predict_proba(table[split]), 1e-12, None)
        outputs[split][:, model.classes_] = torch.from_numpy(np.log(probabilities))
    return outputs


MODELS = {"linear": fit_linear, "boosting": fit_boosting}


def _fit(model: type, table: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray]) -> Any:
    boosted = model(max_iter=300, early_stopping=True, n_iter_no_change=10, random_state=0)
    validation = {"X_val": table["validation"], "y_val": target["validation"]}
    return boosted.fit(table["train"], target["train"], **validation)
