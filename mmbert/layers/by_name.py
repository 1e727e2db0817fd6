"""Modules and parameters by names that users choose, such as ``keys``, ``type`` or ``to``."""

from typing import Any

from torch import nn


class ModulesByName(nn.ModuleDict):
    """``nn.ModuleDict`` that takes the names of its own methods too; the keys of its state are the same.

    Example:
        >>> modules = ModulesByName({"keys": nn.Linear(1, 1), "type": nn.Identity()})
        >>> sorted(modules), sorted(modules.state_dict())
        (['keys', 'type'], ['keys.bias', 'keys.weight'])
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a module.

        Args:
            name: any text without a dot, by which keys of the state are joined.
            module: to add.
        """
        if "." in name or not name:
            raise KeyError(f"a name must not be empty or contain a dot, found {name!r}")
        self._modules[name] = module  # pyright: ignore[reportArgumentType]: the declaration in torch is narrower


class ParametersByName(nn.ParameterDict):
    """``nn.ParameterDict`` that takes the names of its own methods too; the keys of its state are the same.

    Example:
        >>> import torch
        >>> parameters = ParametersByName({"values": nn.Parameter(torch.ones(2))})
        >>> parameters["values"].shape, sorted(parameters.state_dict())
        (torch.Size([2]), ['values'])
    """

    def __getitem__(self, key: str) -> Any:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._keys[key] = None
        self._parameters[key] = value
