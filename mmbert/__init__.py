"""One shared BERT text trunk, encoders for any other modality, many tasks, honest ablations."""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmbert.api import baseline, check, evaluate, load, predict, train

__version__ = "0.1.0"
__all__ = ["baseline", "check", "evaluate", "load", "predict", "train"]


def _of_api(name: str) -> property:
    """A function of the API, which is imported when it is first used: ``import mmbert`` does not import torch."""

    def read(package: ModuleType) -> object:
        return getattr(importlib.import_module("mmbert.api"), name)

    def leave(package: ModuleType, folder: ModuleType) -> None:
        """Python names a folder that it imports in its package: here ``train`` and ``evaluate`` stay functions."""

    return property(read, leave)


class _Package(ModuleType):
    """This package."""


for _name in __all__:
    setattr(_Package, _name, _of_api(_name))
sys.modules[__name__].__class__ = _Package
