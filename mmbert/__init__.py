"""One shared BERT text trunk, encoders for any other modality, many tasks, honest ablations."""

import importlib
from typing import TYPE_CHECKING

from mmbert.version import __version__

if TYPE_CHECKING:
    from mmbert.api import baseline, check, evaluate, load, predict, train

__all__ = ["__version__", "baseline", "check", "evaluate", "load", "predict", "train"]


def __getattr__(name: str) -> object:
    """Import the Python API when one of its functions is first used (PEP 562): ``import mmbert`` imports no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'mmbert' has no attribute '{name}'")
    function = getattr(importlib.import_module("mmbert.api"), name)
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
