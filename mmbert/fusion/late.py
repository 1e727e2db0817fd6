"""Late fusion: each stream is pooled to one vector, and these are combined into one vector per row."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmbert.layers.masked import mean_token, rows_with_any_stream, scatter_to_rows
from mmbert.layers.pooling import Pooling, StreamVectors
from mmbert.types import Fused, Tokens

# (dim, names of all streams, the text first) -> the module used as ``LateFusion.mix``
Mix = Callable[[int, Sequence[str]], nn.Module]


class LateFusion(nn.Module):
    """Late fusion with a given module that combines the vectors of the streams.

    The trunk reads only the text, and the tokens of each stream are returned as they came. The trunk runs for rows with
    text, and for rows with no input at all. The result of a row with no stream besides the text is the pooled output of
    the trunk.

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
        text_tokens = encode_text(trunk, text, has_stream)
        trunk_only, unimodal = self.vectors.readout(text_tokens), {"text": mean_token(text_tokens)}
        if self.mix is None:
            return Fused(trunk_only, {"text": text_tokens}, unimodal)
        mixed = self.mix(*self.vectors({"text": text_tokens, **streams}, trunk_only))
        summary = torch.where(has_stream[:, None], mixed, trunk_only)
        return Fused(summary, {"text": text_tokens, **streams}, unimodal)


def encode_text(trunk: Callable[[Tokens], Tokens], text: Tokens, has_stream: Tensor) -> Tokens:
    """Encode the text with the trunk, without other streams.

    The trunk runs for rows with text, and for rows with no input at all; all other rows are fully masked.

    Args:
        trunk: maps embedded tokens to encoded ones.
        text: embedded tokens, values [batch, length, dim].
        has_stream: bool [batch], which rows have a stream besides the text.
    """
    needs_trunk = (text.unit >= 0).any(1) | ~has_stream
    goes_through_trunk = needs_trunk.clone()
    goes_through_trunk[0] |= ~needs_trunk.any()  # one row at least, so that every parameter gets a gradient (DDP)
    rows = goes_through_trunk.nonzero().squeeze(1)
    text_tokens = scatter_to_rows(trunk(text.at(rows)), rows, len(needs_trunk))
    return text_tokens._replace(mask=text_tokens.mask & needs_trunk[:, None])
