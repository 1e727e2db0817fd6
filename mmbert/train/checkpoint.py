"""A checkpoint: weights and processors as safetensors and JSON; no pickle."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmbert.contracts import Processor
from mmbert.errors import IntegrityError
from mmbert.model import MMBert


def save_checkpoint(folder: Path, model: MMBert, processors: Mapping[str, Processor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint as a whole: into a folder beside it, then renamed.

    Wherever a save dies, ``find_checkpoint`` finds the old checkpoint or the new one, whole.

    Args:
        folder: replaced if it exists.
        processors: of inputs and labels, by a name of their own each.
        facts: what else of JSON is needed to build the model again.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    states = {name: _to_json(processor.__getstate__(), name, tensors) for name, processor in processors.items()}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, temporary / "model.safetensors")
    save_file(tensors, temporary / "processors.safetensors")
    content = {"processors": states, **facts}
    (temporary / "parts.json").write_text(json.dumps(content), encoding="utf-8")
    before = _before(folder)
    if folder.exists():
        shutil.rmtree(before, ignore_errors=True)
        os.replace(folder, before)
    os.replace(temporary, folder)
    shutil.rmtree(before, ignore_errors=True)


def find_checkpoint(folder: Path) -> Path:
    """Where the checkpoint of that name is. Raises ``IntegrityError`` where there is none."""
    for place in (folder, _before(folder)):  # a save may have died between its two renames
        if place.exists():
            return place
    raise IntegrityError(f"'{folder}' holds no checkpoint yet: no evaluation was reached")


def _before(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.before")


def read_facts(folder: Path) -> dict[str, Any]:
    """What ``save_checkpoint`` was told besides weights and processors."""
    path = folder / "parts.json"
    if not path.exists():
        raise IntegrityError(f"'{folder}' is not a checkpoint of mmbert: it has no parts.json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IntegrityError(f"'{path}' cannot be read: {error}") from error


def restore_processor(folder: Path, name: str, cls: type[Processor]) -> Processor:
    """A fitted processor, as it was saved."""
    states = read_facts(folder)["processors"]
    if name not in states:
        raise IntegrityError(f"'{folder}' holds no processor '{name}'; it holds {', '.join(sorted(states))}")
    processor = cls.__new__(cls)
    state = _from_json(states[name], _tensors(folder / "processors.safetensors"))
    if restore := getattr(processor, "__setstate__", None):
        restore(state)
    else:
        vars(processor).update(state or {})  # what has no attributes has no state
    return processor


def load_weights(folder: Path, model: MMBert) -> None:
    """Load a checkpoint's weights, strict by name and shape. Raises ``IntegrityError`` naming what does not fit."""
    weights = _tensors(folder / "model.safetensors")
    own = model.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    if missing or extra or shapes:
        raise IntegrityError(
            f"'{folder}' does not fit the recipe beside it: missing {missing[:5]}, unknown {extra[:5]}, other shape "
            f"{sorted(shapes)[:5]}"
        )
    model.load_state_dict(weights)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"'{path}' cannot be read: {error}") from error


def _to_json(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON; tensors and arrays go to ``tensors`` under their path. Tuples and keys keep their type."""
    if isinstance(value, Tensor | np.ndarray):
        name = f"{path}#{len(tensors)}"  # two paths may read the same
        tensors[name] = torch.as_tensor(value).clone().contiguous()
        return {"": "array" if isinstance(value, np.ndarray) else "tensor", "at": name}
    if isinstance(value, dict):
        pairs = [
            [_to_json(key, path, tensors), _to_json(item, f"{path}.{key}", tensors)] for key, item in value.items()
        ]
        return {"": "dict", "items": pairs}
    if isinstance(value, list | tuple):
        items = [_to_json(item, f"{path}.{index}", tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"": "tuple", "items": items}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{path}: a processor may learn numbers, strings, lists, dicts and tensors, not {type(value)}")


def _from_json(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_from_json(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    match value[""]:
        case "tensor":
            return tensors[value["at"]]
        case "array":
            return tensors[value["at"]].numpy()
        case "dict":
            return {_from_json(key, tensors): _from_json(item, tensors) for key, item in value["items"]}
        case "tuple":
            return tuple(_from_json(item, tensors) for item in value["items"])
    raise IntegrityError(f"unknown kind of value {value['']!r} in parts.json")
