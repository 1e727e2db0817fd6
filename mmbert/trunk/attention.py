"""Attention for the trunk's layers, over padded or packed tokens, with fast dropout on CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mmbert.layers.dropout import draw_mask
from mmbert.trunk.packing import Group, Packing

NAME = "mmbert"


def use_packed_attention(model: Any) -> None:
    """Make a library model use ``attend``. Results do not change, except for the dropout masks.

    Args:
        model: a model of the transformers library, changed in place.
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
    """Multi-head attention with the library's interface, over a padded batch or packed tokens.

    With ``packing`` the batch is one row of packed tokens. Each attends to its own sequence, at most ``reach``
    positions away.

    Args:
        module: the calling layer; unused.
        query: the queries [batch, heads, length, head_dim].
        key: the keys, of the same shape.
        value: the values, of the same shape.
        attention_mask: bool, True where a key may be attended to; None for all keys. Unused with ``packing``.
        dropout: the dropout rate of the attention weights.
        scaling: the factor of the scores; None for 1 / sqrt(head_dim).
        packing: the packing of the tokens; None for a padded batch.
        reach: maximum distance between query and key, only with ``packing``; None for no limit.

    Returns:
        The result [batch, length, heads, head_dim], and None in place of the attention weights.
    """
    if packing is None:
        return _read(query, key, value, attention_mask, dropout, scaling).transpose(1, 2).contiguous(), None
    flat = [part.transpose(1, 2).flatten(0, 1) for part in (query, key, value)]
    if reach is None and not dropout and scaling == query.shape[-1] ** -0.5 and _has_variable_length(query):
        return _read_variable_length(flat, packing)[None], None
    # split, since the backward of each slice would fill a whole tensor with zeros
    parts = zip(*(part.split([group.tokens for group in packing.groups]) for part in flat), strict=True)
    read = []
    for group, group_parts in zip(packing.groups, parts, strict=True):
        padded = [group.pad(part).transpose(1, 2) for part in group_parts]
        values = _read(padded[0], padded[1], padded[2], _readable(group, reach), dropout, scaling)
        read.append(group.unpad(values.transpose(1, 2)))
    return torch.cat(read)[None], None


def _read(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scaling: float | None
) -> Tensor:
    """Scaled-dot-product attention. ``mask`` is bool, True where a key may be attended to, at least one per query."""
    if not dropout or query.device.type != "cpu":
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    scores = query @ (key * (scaling or query.shape[-1] ** -0.5)).mT
    if mask is not None:
        scores += torch.where(mask, 0.0, -torch.inf).to(scores.dtype)
    weights = scores.softmax(-1)
    dropout_mask, scale = draw_mask(weights.shape, dropout)
    return (weights * dropout_mask) @ (value * scale)


def _readable(group: Group, reach: int | None) -> Tensor | None:
    """Key mask [rows, 1, 1 or width, width] per query; a masked position without a key attends to itself."""
    keys = None if group.mask is None else group.mask[:, None, None, :]
    if reach is None or reach >= group.shape[1]:
        return keys
    position = torch.arange(group.shape[1], device=None if keys is None else keys.device)
    distance = (position[:, None] - position).abs()
    return distance <= reach if keys is None else (distance <= reach) & keys | (distance == 0)


def _has_variable_length(query: Tensor) -> bool:
    """Whether torch's variable-length kernel can run: half precision on a GPU with flash attention."""
    if not query.is_cuda or query.dtype not in (torch.float16, torch.bfloat16):
        return False
    return torch.cuda.get_device_capability(query.device)[0] >= 8


def _read_variable_length(flat: list[Tensor], packing: Packing) -> Tensor:
    """Variable-length attention without padding; query, key, value and result are each [tokens, heads, head_dim].

    The kernel supports no dropout. It needs a GPU: on CPU the tests replace it and check only its arguments.
    """
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = flat
    read = varlen_attn(query, key, value, packing.ends, packing.ends, packing.longest, packing.longest)
    return read if isinstance(read, Tensor) else read[0]
