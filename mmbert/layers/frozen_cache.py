"""What a frozen network makes of an item, computed once on the CPU and remembered by the item's content."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmbert.io.bounded_cache import BoundedCache

MAX_BYTES = 1_000_000_000  # bytes


class FrozenCache:
    """Results of a network by item. The first that have room stay; the others are computed each time.

    Each item goes through the network on its own, so that a result never depends, to the last bit, on the items that
    stood beside it when it was first seen. All is forgotten where the network's weights, or autocast, were changed.

    Args:
        most: bytes that the remembered results may take together.

    >>> memory, network = FrozenCache(), nn.Linear(2, 3).requires_grad_(False)
    >>> memory(network, network, torch.ones(4, 2)).shape  # computed once
    torch.Size([4, 3])
    """

    def __init__(self, most: int = MAX_BYTES):
        self._results = BoundedCache[Tensor](most)  # of which a copy is empty
        self._stamp: object = None

    def __call__(self, network: nn.Module, read: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
        """``read`` of items [any, ...], which runs ``network`` and nothing else that learns: [any, ...].

        Args:
            network: the network, frozen and on the CPU (see ``is_frozen_on_cpu``); a change of its weights forgets all.
            read: makes results [1, any, ...] of one item [1, any, ...].
            items: tensor [items, any, ...] on the CPU, with at least one item.
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
    """Whether a network is on the CPU, frozen and in evaluation mode: it always makes the same of the same item.

    Args:
        network: the network; its buffers are not looked at.
    """
    if any(module.training for module in network.modules()):
        return False
    return not any(part.requires_grad or part.device.type != "cpu" for part in network.parameters())
