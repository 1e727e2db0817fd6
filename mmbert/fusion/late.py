"""Late fusion: the trunk reads the text alone, then one vector a stream is mixed into one a row."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmbert.layers.masked import mean_token, rows_with_any_stream, scatter_to_rows
from mmbert.layers.pooling import Pooling, StreamVectors
from mmbert.types import Fused, Tokens

Mix = Callable[[int, Sequence[str]], nn.Module]  # (dim, names of all streams, the text first) -> the module below


class LateFusion(nn.Module):
    """All of a late fusion but how vectors are mixed.

    Streams keep their own tokens. A row without text skips the trunk, unless it has no stream either; a row without a
    stream takes the plain trunk's result.

    Args:
        dim: width of the trunk.
        names: of the streams besides the text.
        mix: makes the module that mixes vectors [batch, names, dim], zero where absent, and which are there
            [batch, names], to [batch, dim]. Without streams there is none.
        pooling: how each stream becomes one vector.
    """

    def __init__(self, dim: int, names: Iterable[str], mix: Mix, *, pooling: Pooling):
        super().__init__()
        names = sorted(names)
        every = ("text", *names) if names else ()
        self.vectors = StreamVectors(dim, every, pooling=pooling)
        self.mix = mix(dim, every) if names else None

    def forward(self, trunk: Callable[[Tokens], Tokens], text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        some = rows_with_any_stream(streams.values(), text)
        read = encode_text(trunk, text, some)
        plain, alone = self.vectors.readout(read), {"text": mean_token(read)}
        if self.mix is None:
            return Fused(plain, {"text": read}, alone)
        mixed = self.mix(*self.vectors({"text": read, **streams}, plain))
        return Fused(torch.where(some[:, None], mixed, plain), {"text": read, **streams}, alone)


def encode_text(trunk: Callable[[Tokens], Tokens], text: Tokens, some: Tensor) -> Tokens:
    """The trunk's tokens of the text, read alone.

    Rows without text but with a stream skip the trunk and are all masked.

    Args:
        trunk: from embedded tokens to read ones.
        text: embedded, [batch, length, dim].
        some: bool [batch], which rows have a stream besides the text.
    """
    reads = (text.unit >= 0).any(1) | ~some
    passed = reads.clone()
    passed[0] |= ~reads.any()  # every parameter takes part in every step
    rows = passed.nonzero().squeeze(1)
    read = scatter_to_rows(trunk(text.at(rows)), rows, len(reads))
    return read._replace(mask=read.mask & reads[:, None])
