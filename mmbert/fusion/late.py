"""Late fusion: the trunk reads only the text; then one vector per stream is mixed into one per row."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmbert.layers.masked import mean_token, rows_with_any_stream, scatter_to_rows
from mmbert.layers.pooling import Pooling, StreamVectors
from mmbert.types import Fused, Tokens

Mix = Callable[[int, Sequence[str]], nn.Module]  # (dim, names of all streams, the text first) -> the module below


class LateFusion(nn.Module):
    """A late fusion around a given mixing module.

    Streams keep their own tokens. A row without text skips the trunk, unless it has no stream either; a row without a
    stream has the plain trunk's result.

    Args:
        dim: width of the trunk.
        names: names of the streams besides the text.
        mix: builds the module that maps vectors [batch, names, dim], zero where absent, and their presence
            [batch, names] to [batch, dim]. Not called without streams.
        pooling: how each stream is pooled to one vector.
    """

    def __init__(self, dim: int, names: Iterable[str], mix: Mix, *, pooling: Pooling):
        super().__init__()
        names = sorted(names)
        all_names = ("text", *names) if names else ()
        self.vectors = StreamVectors(dim, all_names, pooling=pooling)
        self.mix = mix(dim, all_names) if names else None

    def forward(self, trunk: Callable[[Tokens], Tokens], text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        has_stream = rows_with_any_stream(streams.values(), text)
        read = encode_text(trunk, text, has_stream)
        plain, alone = self.vectors.readout(read), {"text": mean_token(read)}
        if self.mix is None:
            return Fused(plain, {"text": read}, alone)
        mixed = self.mix(*self.vectors({"text": read, **streams}, plain))
        return Fused(torch.where(has_stream[:, None], mixed, plain), {"text": read, **streams}, alone)


def encode_text(trunk: Callable[[Tokens], Tokens], text: Tokens, has_stream: Tensor) -> Tokens:
    """Encode the text with the trunk, without other streams.

    Rows without text but with a stream skip the trunk and are fully masked.

    Args:
        trunk: maps embedded tokens to encoded ones.
        text: embedded tokens, values [batch, length, dim].
        has_stream: bool [batch], which rows have a stream besides the text.
    """
    needed = (text.unit >= 0).any(1) | ~has_stream
    passed = needed.clone()
    passed[0] |= ~needed.any()  # every parameter takes part in every step (DDP)
    rows = passed.nonzero().squeeze(1)
    read = scatter_to_rows(trunk(text.at(rows)), rows, len(needed))
    return read._replace(mask=read.mask & needed[:, None])
