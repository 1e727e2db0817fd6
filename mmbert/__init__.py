"""One shared BERT text trunk, encoders for any other modality, many tasks, honest ablations."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmbert.api import evaluate, load, predict, train

__version__ = "0.1.0"
__all__ = ["evaluate", "load", "predict", "train"]


def __getattr__(name: str) -> Any:
    """Import the API when it is first used, so that ``import mmbert`` does not import torch."""
    if name in __all__:
        import mmbert.api

        return getattr(mmbert.api, name)
    raise AttributeError(f"module 'mmbert' has no attribute '{name}'")
