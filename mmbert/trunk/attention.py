"""The attention that the trunk's layers call in place of the library's: packed tokens, cheap dropout on CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mmbert.layers.dropout import draw_mask
from mmbert.trunk.packing import Group, Packing

NAME = "mmbert"


def use_packed_attention(model: Any) -> None:
    """Let a library model attend by ``attend``; it gives what the model gave before, but for dropout's masks.

    Args:
        model: a model of the transformers library; it is changed in place.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation(NAME)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    reach: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as the library's layers call it, over a padded batch or over packed tokens.

    With ``packing`` the batch is one row of packed tokens, each of which reads its own sequence only, and of that what
    is at most ``reach`` places away.

    Args:
        module: the layer that calls; it is not read.
        query: what asks.
        key: what it is compared with.
        value: what is read.
        attention_mask: bool, True where a key may be read; None where all may. It is not read with ``packing``.
        dropout: the probability that a weight of the attention is dropped.
        scaling: the factor of the scores; None for one over the root of ``size``.
        packing: where each packed token belongs; None for a padded batch.
        reach: how many places away a token may read, only with ``packing``; None for any number.

    Shape:
        ``query``, ``key`` and ``value`` [batch, heads, length, size]; the result [batch, length, heads, size].
    """
    if packing is None:
        return _read(query, key, value, attention_mask, dropout, scaling).transpose(1, 2).contiguous(), None
    flat = [part.transpose(1, 2).flatten(0, 1) for part in (query, key, value)]
    if reach is None and not dropout and scaling == query.shape[-1] ** -0.5 and _has_variable_length(query):
        return _read_variable_length(flat, packing)[None], None
    # split, since the backward of slices would fill a whole tensor with zeros for each
    parts = zip(*(part.split([group.tokens for group in packing.groups]) for part in flat), strict=True)
    read = []
    for group, own in zip(packing.groups, parts, strict=True):
        padded = [group.pad(part).transpose(1, 2) for part in own]
        values = _read(padded[0], padded[1], padded[2], _readable(group, reach), dropout, scaling)
        read.append(group.unpad(values.transpose(1, 2)))
    return torch.cat(read)[None], None


def _read(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scaling: float | None
) -> Tensor:
    """Scaled-dot-product attention; ``mask`` is bool, True where a key may be read: one at least for each query."""
    if not dropout or query.device.type != "cpu":
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    scores = query @ (key * (scaling or query.shape[-1] ** -0.5)).mT
    if mask is not None:
        scores += torch.where(mask, 0.0, -torch.inf).to(scores.dtype)
    weights = scores.softmax(-1)
    kept, scale = draw_mask(weights.shape, dropout)
    return (weights * kept) @ (value * scale)


def _readable(group: Group, reach: int | None) -> Tensor | None:
    """[rows, 1, 1 or width, width] bool: which keys a query reads; a masked place that would read none reads itself."""
    keys = None if group.mask is None else group.mask[:, None, None, :]
    if reach is None or reach >= group.shape[1]:
        return keys
    place = torch.arange(group.shape[1], device=None if keys is None else keys.device)
    apart = (place[:, None] - place).abs()
    return apart <= reach if keys is None else (apart <= reach) & keys | (apart == 0)


def _has_variable_length(query: Tensor) -> bool:
    """Whether torch's kernel for sequences of any lengths can run: half precision on a GPU that has flash attention."""
    if not query.is_cuda or query.dtype not in (torch.float16, torch.bfloat16):
        return False
    return torch.cuda.get_device_capability(query.device)[0] >= 8


def _read_variable_length(flat: list[Tensor], packing: Packing) -> Tensor:
    """[tokens, heads, size] thrice -> the same, without any padding. The kernel knows no dropout.

    The project's machines have no GPU: tests put another kernel in its place and see what it is given, no more.
    """
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = flat
    read = varlen_attn(query, key, value, packing.ends, packing.ends, packing.longest, packing.longest)
    return read if isinstance(read, Tensor) else read[0]
