"""In-memory cache of a frozen network's outputs on CPU, keyed by the content of the item."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmbert.io.bounded_cache import BoundedCache

MAX_BYTES = 1_000_000_000  # bytes


class FrozenCache:
    """Caches a network's output per item. No eviction: items that do not fit are computed each time.

    Items pass through the network one at a time, so that a cached output does not depend, to the last bit, on the batch
    in which its item was first seen. A change of the network's weights, or of autocast, clears the cache.

    Args:
        most: maximum size of the cached outputs in bytes.

    >>> memory, network = FrozenCache(), nn.Linear(2, 3).requires_grad_(False)
    >>> memory(network, network, torch.ones(4, 2)).shape  # computed once
    torch.Size([4, 3])
    """

    def __init__(self, most: int = MAX_BYTES):
        self._results = BoundedCache[Tensor](most)  # a copy of it is empty
        self._stamp: object = None

    def __call__(self, network: nn.Module, read: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
        """The outputs of ``read`` for items [items, ...], cached: [items, ...].

        Args:
            network: the network, frozen and on the CPU (see ``is_frozen_on_cpu``).
            read: maps one item [1, ...] to its output [1, ...]; runs ``network`` and no other module with parameters.
            items: tensor [items, ...] on the CPU, with at least one item.
        """
        weights = [(part.data_ptr(), part._version) for part in (*network.parameters(), *network.buffers())]
        stamp = weights, torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")
        if stamp != self._stamp:
            self._results.clear()
            self._stamp = stamp
        results = []
        for item in items:
            facts = f"{item.dtype} {[*item.shape]}".encode()
            key = hashlib.blake2b(facts + item.contiguous().numpy().tobytes(), digest_size=16).digest()
            result = self._results.get(key)
            if result is None:
                with torch.no_grad():
                    result = read(item[None])[0]
                self._results.add(key, result, size=result.nbytes)
            results.append(result)
        return torch.stack(results)


def is_frozen_on_cpu(network: nn.Module) -> bool:
    """Whether a network is on the CPU, frozen and in evaluation mode, so that equal items give equal outputs.

    Args:
        network: the network; its buffers are not checked.
    """
    if any(module.training for module in network.modules()):
        return False
    return not any(part.requires_grad or part.device.type != "cpu" for part in network.parameters())
