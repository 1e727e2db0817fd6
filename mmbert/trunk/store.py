"""The token store: what frozen layers make of each sequence of ids, computed once and memory-mapped."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from mmbert.errors import IntegrityError

LAYOUT = 1  # raise it when what is kept in the cache changes
TOKENS = 8192  # of a batch that is computed at once
INDEX = np.dtype([("digest", "S16"), ("start", np.int64)])

Compute = Callable[[Tensor, Tensor], Tensor]  # ids and mask [rows, length] -> values [rows, length, dim]


class Sequences(NamedTuple):
    """Distinct sequences of ids, in the order of their digests."""

    digests: np.ndarray  # [sequences] of 16 bytes, sorted
    starts: np.ndarray  # [sequences] int64, where each begins in ``ids``
    lengths: np.ndarray  # [sequences] int64
    ids: np.ndarray  # int32, one sequence behind the other: 4 bytes a token, where the store takes 4 x dim

    @classmethod
    def collect(cls, batches: Iterable[tuple[Tensor, Tensor]]) -> Self:
        """The distinct rows of some batches.

        Args:
            batches: ids and mask of each, [rows, length]; the mask is True before the end of each row.
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
        """All of them, the shortest first: which they are [rows], their ids and their mask [rows, length]."""
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
    """What frozen layers made of the sequences of a folder that ``write`` has filled.

    >>> import tempfile
    >>> ids, mask = torch.tensor([[7, 8], [9, 0], [7, 8]]), torch.tensor([[True, True], [True, False], [True, True]])
    >>> folder = Path(tempfile.mkdtemp())
    >>> twice = lambda ids, mask: 2.0 * ids[..., None]
    >>> TokenStore.write(folder, Sequences.collect([(ids, mask)]), twice, 1, np.dtype("float32"), lambda done: None)
    >>> values, found = TokenStore(folder).read(torch.tensor([[9, 0], [8, 7]]), mask[[1, 0]])
    >>> values.squeeze(2).tolist(), found.tolist()
    ([[18.0, 0.0], [0.0, 0.0]], [True, False])

    Args:
        folder: that ``write`` has filled.

    Raises:
        IntegrityError: where a file of it is missing or has not the size that it was written with.
    """

    def __init__(self, folder: Path):
        try:
            facts = json.loads((folder / "store.json").read_text())
            index = np.load(folder / "index.npy")
            found = (len(index), (folder / "values").stat().st_size)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(folder, str(error)) from error
        dtype = np.dtype(facts["dtype"])
        shape = facts["tokens"], facts["dim"]
        if found != (expected := (facts["sequences"], shape[0] * shape[1] * dtype.itemsize)):
            raise _damaged(folder, f"expected {expected[0]} sequences in {expected[1]} bytes, found {found[0]} "
                                   f"in {found[1]}")  # fmt: skip
        self._digests, self._starts = (np.ascontiguousarray(index[name]) for name in ("digest", "start"))
        self._values = np.memmap(folder / "values", dtype, "r", shape=shape).view(np.ndarray)

    @staticmethod
    def write(
        folder: Path, sequences: Sequences, compute: Compute, dim: int, dtype: np.dtype, tell: Callable[[float], None]
    ) -> None:
        """Compute all sequences in batches of like lengths and keep them in a folder.

        Args:
            folder: an empty folder, to be filled.
            sequences: what to compute.
            compute: the frozen layers: from ids and mask [rows, length] to values [rows, length, dim].
            dim: the width of the values.
            dtype: what the values are kept in.
            tell: called after each batch with the fraction done.

        Raises:
            OSError: where the disk is full.
        """
        starts = np.zeros(len(sequences.digests), dtype=np.int64)
        done = 0
        with open(folder / "values", "wb") as file:  # a full disk is an error here; in a memory map it kills
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
        """The values [rows, length, dim] of some sequences, and which of them are there [rows].

        Masked places, and the rows that are not there, hold zeros.

        Args:
            ids: [rows, length] int64, the sequences.
            mask: [rows, length] bool, True before the end of each.
        """
        wanted = _digests(ids, mask)
        at = np.searchsorted(self._digests, wanted).clip(max=len(self._digests) - 1)
        found = self._digests[at] == wanted
        real = mask.cpu().numpy() & found[:, None]
        row, column = real.nonzero()
        values = np.zeros((*real.shape, self._values.shape[1]), self._values.dtype)
        values[real] = self._values[self._starts[at][row] + column]
        return torch.from_numpy(values).to(ids.device), torch.from_numpy(found).to(ids.device)


def _digests(ids: Tensor, mask: Tensor) -> np.ndarray:
    """[rows] of 16 bytes: the digest of each row's real ids."""
    rows = zip(ids.cpu().numpy(), mask.sum(1).tolist(), strict=True)
    return np.array([hashlib.blake2b(row[:end].tobytes(), digest_size=16).digest() for row, end in rows], "S16")


def _damaged(folder: Path, why: str) -> IntegrityError:
    return IntegrityError(f"the cached tokens in '{folder}' are damaged: {why}. Remove that folder: they are made anew")
