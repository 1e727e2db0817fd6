"""Token store: memory-mapped cache of the frozen layers' outputs per token sequence."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from mmbert.errors import IntegrityError

LAYOUT = 1  # increase it when the format of the cache changes
TOKENS = 8192  # tokens per computed batch
INDEX = np.dtype([("digest", "S16"), ("start", np.int64)])

Compute = Callable[[Tensor, Tensor], Tensor]  # ids and mask [rows, length] -> values [rows, length, dim]


class Sequences(NamedTuple):
    """Distinct sequences of token ids, sorted by digest."""

    digests: np.ndarray  # [sequences] of 16 bytes each, sorted
    starts: np.ndarray  # [sequences] int64, start of each in ``ids``
    lengths: np.ndarray  # [sequences] int64
    ids: np.ndarray  # [tokens] int32, concatenated: 4 bytes per token, where the store takes 4 x dim

    @classmethod
    def collect(cls, batches: Iterable[tuple[Tensor, Tensor]]) -> Self:
        """Collect the distinct rows of some batches.

        Args:
            batches: ids and mask of each batch, [rows, length]; the mask is True up to the end of each row.
        """
        digests, lengths, ids = [], [], []
        for batch, mask in batches:
            digests.append(_digests(batch, mask))
            lengths.append(mask.sum(1).cpu().numpy())
            ids.append(batch[mask].cpu().numpy().astype(np.int32))
        length = np.concatenate(lengths)
        distinct, first = np.unique(np.concatenate(digests), return_index=True)
        return cls(distinct, (np.cumsum(length) - length)[first], length[first], np.concatenate(ids))

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    def batches(self) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Batches from the shortest to the longest sequences: indices [rows], ids and mask [rows, length]."""
        order = np.argsort(self.lengths, kind="stable")
        ends = np.cumsum(self.lengths[order])
        start = 0
        while start < len(order):
            filled = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, filled + TOKENS, side="right")))
            rows = order[start:stop]
            mask = np.arange(int(self.lengths[rows[-1]])) < self.lengths[rows, None]
            row, column = mask.nonzero()
            ids = np.zeros(mask.shape, dtype=np.int64)
            ids[mask] = self.ids[self.starts[rows][row] + column]
            yield rows, torch.from_numpy(ids), torch.from_numpy(mask)
            start = stop


class TokenStore:
    """Reader of the stored outputs in a folder that ``write`` has filled.

    >>> import tempfile
    >>> ids, mask = torch.tensor([[7, 8], [9, 0], [7, 8]]), torch.tensor([[True, True], [True, False], [True, True]])
    >>> folder = Path(tempfile.mkdtemp())
    >>> twice = lambda ids, mask: 2.0 * ids[..., None]
    >>> TokenStore.write(folder, Sequences.collect([(ids, mask)]), twice, 1, np.dtype("float32"), lambda done: None)
    >>> values, stored = TokenStore(folder).read(torch.tensor([[9, 0], [8, 7]]), mask[[1, 0]])
    >>> values.squeeze(2).tolist(), stored.tolist()
    ([[18.0, 0.0], [0.0, 0.0]], [True, False])

    Args:
        folder: a folder that ``write`` has filled.

    Raises:
        IntegrityError: if a file is missing or has another size than when it was written.
    """

    def __init__(self, folder: Path):
        try:
            facts = json.loads((folder / "store.json").read_text())
            index = np.load(folder / "index.npy")
            actual = (len(index), (folder / "values").stat().st_size)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(folder, str(error)) from error
        dtype = np.dtype(facts["dtype"])
        shape = facts["tokens"], facts["dim"]
        if actual != (expected := (facts["sequences"], shape[0] * shape[1] * dtype.itemsize)):
            reason = f"expected {expected[0]} sequences in {expected[1]} bytes, found {actual[0]} in {actual[1]}"
            raise _damaged(folder, reason)
        self._digests, self._starts = (np.ascontiguousarray(index[name]) for name in ("digest", "start"))
        self._values = np.memmap(folder / "values", dtype, "r", shape=shape).view(np.ndarray)

    @staticmethod
    def write(
        folder: Path, sequences: Sequences, compute: Compute, dim: int, dtype: np.dtype, tell: Callable[[float], None]
    ) -> None:
        """Compute all sequences in batches of similar length and write them to a folder.

        Args:
            folder: an empty folder.
            sequences: the sequences to compute.
            compute: the frozen layers: maps ids and mask [rows, length] to values [rows, length, dim].
            dim: the width of the values.
            dtype: the dtype of the stored values.
            tell: called after each batch with the fraction done.

        Raises:
            OSError: if the disk is full.
        """
        starts = np.zeros(len(sequences.digests), dtype=np.int64)
        done = 0
        with open(folder / "values", "wb") as file:  # a full disk raises here; in a memory map it kills the process
            for rows, ids, mask in sequences.batches():
                lengths = sequences.lengths[rows]
                starts[rows] = done + np.cumsum(lengths) - lengths
                file.write(compute(ids, mask).cpu()[mask].numpy().astype(dtype).tobytes())
                done += int(lengths.sum())
                tell(done / sequences.tokens)
        index = np.empty(len(starts), INDEX)
        index["digest"], index["start"] = sequences.digests, starts
        np.save(folder / "index.npy", index)
        facts = {"sequences": len(starts), "tokens": done, "dim": dim, "dtype": dtype.name}
        (folder / "store.json").write_text(json.dumps(facts))

    def read(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Read the values [rows, length, dim] of some sequences, and which of them are stored [rows] bool.

        Masked positions and rows that are not stored are zero.

        Args:
            ids: [rows, length] int64, the sequences.
            mask: [rows, length] bool, True up to the end of each.
        """
        digests = _digests(ids, mask)
        index = np.searchsorted(self._digests, digests).clip(max=len(self._digests) - 1)
        stored = self._digests[index] == digests
        real = mask.cpu().numpy() & stored[:, None]
        row, column = real.nonzero()
        values = np.zeros((*real.shape, self._values.shape[1]), self._values.dtype)
        values[real] = self._values[self._starts[index][row] + column]
        return torch.from_numpy(values).to(ids.device), torch.from_numpy(stored).to(ids.device)


def _digests(ids: Tensor, mask: Tensor) -> np.ndarray:
    """The digest of each row's real ids: [rows] of 16 bytes each."""
    rows = zip(ids.cpu().numpy(), mask.sum(1).tolist(), strict=True)
    return np.array([hashlib.blake2b(row[:end].tobytes(), digest_size=16).digest() for row, end in rows], "S16")


def _damaged(folder: Path, reason: str) -> IntegrityError:
    return IntegrityError(
        f"the cached tokens in '{folder}' are damaged: {reason}. Remove that folder; the tokens are then recomputed"
    )
