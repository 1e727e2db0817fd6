"""Weights, optimizer moments and weight average in a checkpoint, by the names of the parameters."""

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

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # the state of a parameter in AdamW
OPTIONS = ("base_lr", "betas", "eps", "weight_decay")  # of a group; lr is set before each step


def write_training(
    folder: Path, model: nn.Module, optimizer: Optimizer | AcceleratedOptimizer, average: WeightAverage
) -> None:
    """Write the weights that are evaluated, the raw weights where those are an average, and the optimizer's state.

    ``model.safetensors`` has the keys of the model's state, ``raw.safetensors`` the names of its parameters,
    ``optimizer.safetensors`` these names with ``.exp_avg``, ``.exp_avg_sq`` and ``.step``.

    Args:
        folder: of the checkpoint.
        model: not wrapped.
        optimizer: of the model, whether Accelerate has wrapped it or not.
        average: of the weights.
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
    """Load the weights that were evaluated, strict by name and shape.

    The hashes of the files are not checked here: see ``best`` and ``verify``.

    Args:
        folder: of the checkpoint.
        model: not wrapped; unchanged after an error.

    Raises:
        IntegrityError: naming the tensors that do not fit.
    """
    weights = read_tensors(folder / "model.safetensors")
    _compare(folder / "model.safetensors", weights, model.state_dict())
    model.load_state_dict(weights)


def load_training(
    path: Path, model: nn.Module, optimizer: Optimizer | AcceleratedOptimizer, average: WeightAverage
) -> dict[str, Any]:
    """Restore weights, moments and average bit for bit as they were saved.

    Args:
        path: a checkpoint; it is verified here too, so that no caller can forget it.
        model: built from the same recipe, not wrapped.
        optimizer: of ``make_optimizer``, whether Accelerate has wrapped it or not.
        average: of the weights.

    Returns:
        The manifest.

    Raises:
        IntegrityError: naming the tensors that are missing, unknown or of another shape or number format; nothing has
            been changed then.
    """
    content = verify(path)
    weights = read_tensors(path / "model.safetensors")
    moments = read_tensors(path / "optimizer.safetensors")
    stored = read_json(path / "optimizer.json")
    updates = read_json(path / "trainer.json")["average_steps"]
    if ("raw.safetensors" in content["files"]) != bool(average.decay):
        saved = "an average" if not average.decay else "no average"
        raise IntegrityError(f"'{path}' was saved with {saved} of the weights, this run has train.ema={average.decay}")
    raw = read_tensors(path / "raw.safetensors") if average.decay else {}
    inner, named = _inner(optimizer), _named(model, optimizer)
    current = {"kind": type(inner).__name__, "groups": _groups(model, optimizer)}
    for key, value in current.items():
        if stored[key] != value:
            difference = _optimizer_difference(stored[key], value)
            raise IntegrityError(f"'{path / 'optimizer.json'}' is of another optimizer: {difference}")
    learned = {name: parameter for name, parameter in named.items() if name not in stored["untouched"]}
    _compare(path / "model.safetensors", weights, model.state_dict(), formats=True)
    _compare(path / "raw.safetensors", raw, average.raw(), formats=True)
    number = torch.zeros(())
    expected = {
        f"{name}.{key}": number if key == "step" else parameter
        for name, parameter in learned.items()
        for key in MOMENTS
    }
    _compare(path / "optimizer.safetensors", moments, expected, formats=True)
    model.load_state_dict(weights)
    average.restore(weights, updates)
    with torch.no_grad():
        for name, tensor in average.raw().items():
            tensor.copy_(raw[name])
    state = {  # copies: the tensors are views of the file
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


def _optimizer_difference(saved: Any, current: Any) -> str:
    """The first difference between two optimizers, in words."""
    if isinstance(saved, list) and len(saved) == len(current):
        for number, (saved_group, current_group) in enumerate(zip(saved, current, strict=True)):
            for key in saved_group.keys() | current_group.keys():
                if (before := saved_group.get(key)) != (now := current_group.get(key)):
                    if key == "parameters":
                        before, now = sorted({*before} - {*now})[:5], sorted({*now} - {*before})[:5]
                    return f"group {number} has {key} {before}, this run {now}"
    count = f"{len(saved)} groups" if isinstance(saved, list) else saved
    return f"{count}, this run has {f'{len(current)} groups' if isinstance(current, list) else current}"


def _compare(file: Path, saved: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, formats: bool = False) -> None:
    """Raise ``IntegrityError`` where tensors are not those of the run in name, shape and, with ``formats``, dtype."""
    missing, extra = sorted(expected.keys() - saved.keys()), sorted(saved.keys() - expected.keys())
    shared = sorted(expected.keys() & saved.keys())
    shapes = [name for name in shared if expected[name].shape != saved[name].shape]
    dtypes = [name for name in shared if formats and expected[name].dtype != saved[name].dtype]
    if missing or extra or shapes or dtypes:
        raise IntegrityError(
            f"'{file}' does not fit the recipe of the run: missing {missing[:5]}, unknown {extra[:5]}, other shape "
            f"{shapes[:5]}" + (f", other number format {dtypes[:5]}" if dtypes else "")
        )
