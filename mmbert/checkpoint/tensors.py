"""Weights, moments and average by the name of the parameter: gathered for a checkpoint, compared, put back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from mmbert.checkpoint.manifest import verify
from mmbert.checkpoint.processors import read_json, read_tensors
from mmbert.errors import IntegrityError
from mmbert.io import storage
from mmbert.layers.ema import WeightAverage

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # what AdamW keeps of a parameter
OPTIONS = ("base_lr", "betas", "eps", "weight_decay")  # of a group; lr is set before each step


def write_training(
    folder: Path, model: nn.Module, optimizer: Optimizer | AcceleratedOptimizer, average: WeightAverage
) -> None:
    """Write the weights that are evaluated, the trained ones where those are their average, and the optimizer's state.

    ``model.safetensors`` is named like the model's state, ``raw.safetensors`` like its parameters,
    ``optimizer.safetensors`` likewise with ``.exp_avg``, ``.exp_avg_sq`` and ``.step``.
    """
    storage.write_tensors(folder / "model.safetensors", {**model.state_dict(), **average.state()})
    if average.decay:
        storage.write_tensors(folder / "raw.safetensors", average.raw())
    inner, named = _inner(optimizer), _named(model, optimizer)
    moments = {
        f"{name}.{key}": inner.state[parameter][key]
        for name, parameter in named.items()
        if parameter in inner.state
        for key in MOMENTS
    }
    storage.write_tensors(folder / "optimizer.safetensors", moments)
    untouched = [name for name, parameter in named.items() if parameter not in inner.state]
    content = {"kind": type(inner).__name__, "groups": _groups(model, optimizer), "untouched": untouched}
    storage.write(folder / "optimizer.json", json.dumps(content, indent=1).encode())


def load_weights(folder: Path, model: nn.Module) -> None:
    """Load the weights that were evaluated, strict by name and shape; the model is touched last.

    Raises ``IntegrityError`` naming what does not fit. What it reads is not verified: see ``best`` and ``verify``.
    """
    weights = read_tensors(folder / "model.safetensors")
    _compare(folder / "model.safetensors", weights, model.state_dict())
    model.load_state_dict(weights)


def load_training(
    path: Path, model: nn.Module, optimizer: Optimizer | AcceleratedOptimizer, average: WeightAverage
) -> dict[str, Any]:
    """Go on as if training had never stopped: weights, moments and average are bit for bit as they were saved.

    Args:
        path: a checkpoint; it is verified here once more, so that no caller can forget to.
        model: built from the same recipe, not wrapped.
        optimizer: of ``make_optimizer``, whether Accelerate has wrapped it or not.

    Returns the manifest. Raises ``IntegrityError`` naming the tensors that are missing, unknown or of another shape or
    number format; nothing has been touched then.
    """
    content = verify(path)
    weights = read_tensors(path / "model.safetensors")
    moments = read_tensors(path / "optimizer.safetensors")
    told = read_json(path / "optimizer.json")
    updates = read_json(path / "trainer.json")["average_steps"]
    if ("raw.safetensors" in content["files"]) != bool(average.decay):
        saved = "an average" if not average.decay else "no average"
        raise IntegrityError(f"'{path}' was saved with {saved} of the weights, this run has train.ema={average.decay}")
    raw = read_tensors(path / "raw.safetensors") if average.decay else {}
    inner, named = _inner(optimizer), _named(model, optimizer)
    mine = {"kind": type(inner).__name__, "groups": _groups(model, optimizer)}
    for key, value in mine.items():
        if told[key] != value:
            raise IntegrityError(
                f"'{path / 'optimizer.json'}' is of another optimizer: {_difference(told[key], value)}"
            )
    learned = {name: parameter for name, parameter in named.items() if name not in told["untouched"]}
    _compare(path / "model.safetensors", weights, model.state_dict(), formats=True)
    _compare(path / "raw.safetensors", raw, average.raw(), formats=True)
    number = torch.zeros(())
    expected = {f"{name}.{key}": number if key == "step" else parameter
                for name, parameter in learned.items() for key in MOMENTS}  # fmt: skip
    _compare(path / "optimizer.safetensors", moments, expected, formats=True)
    model.load_state_dict(weights)
    average.restore(weights, updates)
    with torch.no_grad():
        for name, tensor in average.raw().items():
            tensor.copy_(raw[name])
    state = {  # copies: what is read is a view of the file
        index: {key: moments[f"{name}.{key}"].clone() for key in MOMENTS}
        for index, name in enumerate(named)
        if name in learned
    }
    inner.load_state_dict({**inner.state_dict(), "state": state})
    return content


def _inner(optimizer: Optimizer | AcceleratedOptimizer) -> Optimizer:
    return optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer


def _named(model: nn.Module, optimizer: Optimizer | AcceleratedOptimizer) -> dict[str, nn.Parameter]:
    """The optimizer's parameters by name, in its own order."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter]: parameter for group in _inner(optimizer).param_groups for parameter in group["params"]}


def _groups(model: nn.Module, optimizer: Optimizer | AcceleratedOptimizer) -> list[dict[str, Any]]:
    """The optimizer's groups as JSON: the names of their parameters, and their options."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [
        {"parameters": [names[parameter] for parameter in group["params"]]}
        | {key: list(value) if isinstance(value := group[key], tuple) else value for key in OPTIONS if key in group}
        for group in _inner(optimizer).param_groups
    ]


def _difference(saved: Any, own: Any) -> str:
    """The first difference of two optimizers."""
    if isinstance(saved, list) and len(saved) == len(own):
        for number, (one, other) in enumerate(zip(saved, own, strict=True)):
            for key in one.keys() | other.keys():
                if (first := one.get(key)) != (second := other.get(key)):
                    if key == "parameters":
                        first, second = sorted({*first} - {*second})[:5], sorted({*second} - {*first})[:5]
                    return f"group {number} has {key} {first}, this run {second}"
    count = f"{len(saved)} groups" if isinstance(saved, list) else saved
    return f"{count}, this run has {f'{len(own)} groups' if isinstance(own, list) else own}"


def _compare(file: Path, found: Mapping[str, Tensor], own: Mapping[str, Tensor], *, formats: bool = False) -> None:
    """Raise ``IntegrityError`` where tensors are not those of the run in name, shape and, with ``formats``, dtype."""
    missing, extra = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    both = sorted(own.keys() & found.keys())
    shapes = [name for name in both if own[name].shape != found[name].shape]
    dtypes = [name for name in both if formats and own[name].dtype != found[name].dtype]
    if missing or extra or shapes or dtypes:
        raise IntegrityError(
            f"'{file}' does not fit the recipe beside it: missing {missing[:5]}, unknown {extra[:5]}, other shape "
            f"{shapes[:5]}" + (f", other number format {dtypes[:5]}" if dtypes else "")
        )
