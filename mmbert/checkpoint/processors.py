"""Fitted processors in a checkpoint, and the configuration of its model: JSON and safetensors, no pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mmbert.contracts import Processor
from mmbert.errors import IntegrityError
from mmbert.io import storage


def write_parts(folder: Path, processors: Mapping[str, Processor], config: Mapping[str, Any]) -> None:
    """Write ``processors.safetensors`` and ``parts.json``.

    Args:
        folder: of the checkpoint.
        processors: of inputs and targets, by ``inputs.<name>`` and ``tasks.<name>``.
        config: JSON: what else the model is built from, and how new files are read.

    Raises:
        TypeError: where the state of a processor cannot be stored.
    """
    tensors: dict[str, Tensor] = {}
    states = {name: _to_json(processor.__getstate__(), name, tensors) for name, processor in processors.items()}
    storage.write_tensors(folder / "processors.safetensors", tensors)
    storage.write(folder / "parts.json", json.dumps({"processors": states, **config}).encode())


def read_config(folder: Path) -> dict[str, Any]:
    """The model's configuration that ``write_parts`` stored, and the states of the processors under ``processors``.

    Args:
        folder: of the checkpoint.

    Raises:
        IntegrityError: where it is not a checkpoint.
    """
    path = folder / "parts.json"
    if not path.exists():
        raise IntegrityError(f"'{folder}' is not a checkpoint of mmbert: it has no parts.json")
    return read_json(path)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.

    Raises:
        IntegrityError: where there is no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"'{path}' cannot be read: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, by name.

    Args:
        path: of the file.

    Raises:
        IntegrityError: where there is no such file, or it is not safetensors.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"'{path}' cannot be read: {error}") from error


def restore_processor(folder: Path, name: str, cls: type[Processor]) -> Processor:
    """A fitted processor, as it was saved.

    Args:
        folder: of the checkpoint.
        name: ``inputs.<name>`` or ``tasks.<name>``.
        cls: of the processor.

    Raises:
        IntegrityError: where the checkpoint has no processor of this name.
    """
    states = read_config(folder)["processors"]
    if name not in states:
        raise IntegrityError(f"'{folder}' holds no processor '{name}'; it holds {', '.join(sorted(states))}")
    processor = cls.__new__(cls)
    state = _from_json(states[name], read_tensors(folder / "processors.safetensors"))
    if restore := getattr(processor, "__setstate__", None):
        restore(state)
    else:
        vars(processor).update(state or {})  # an object without attributes has no state
    return processor


def _to_json(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON; tensors and arrays are put into ``tensors`` by their path. Tuples and keys keep their type."""
    if isinstance(value, Tensor | np.ndarray):
        name = f"{path}#{len(tensors)}"  # two paths may be equal as text
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
