"""Adapters for the supported encoder families: embeddings, and calls of single layers with a mask."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmbert.contracts import Layer
from mmbert.trunk.packing import Packing


class Family(Protocol):
    """Adapter of an encoder family whose layers the trunk calls."""

    def stack(self, model: Any) -> Sequence[nn.Module]:
        """The layers as modules, from the lowest to the highest.

        Args:
            model: a library model of this family.
        """
        ...

    def head(self, model: Any) -> nn.Module | None:
        """The module after the last layer, which is tuned with it; None if there is none.

        Args:
            model: a library model of this family.
        """
        ...

    def layers(self, model: Any) -> Sequence[Layer]:
        """The layers as ``(values, mask) -> values``; the last one includes ``head``.

        Args:
            model: a library model of this family.
        """
        ...

    def packed(self, model: Any, values: Tensor, packing: Packing, part: slice) -> Tensor:
        """Apply some of the layers to packed tokens: [tokens, dim] -> [tokens, dim].

        Args:
            model: a library model of this family.
            values: the packed input of the lowest of these layers.
            packing: the packing of the tokens.
            part: a slice of the layers.
        """
        ...

    def embed(self, model: Any, values: Tensor) -> Tensor:
        """The input of the lowest layer, from word embeddings [batch, length, dim].

        Args:
            model: a library model of this family.
            values: the word embeddings.
        """
        ...

    def first_position(self, model: Any) -> int:
        """The position id of the first token.

        Args:
            model: a library model of this family.
        """
        ...


class BertLike:
    """BERT, RoBERTa, XLM-R, MiniLM: absolute positions in the embeddings, post-norm layers.

    Reference:
        Devlin et al. 2019, BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding.
    """

    def stack(self, model: Any) -> Sequence[nn.Module]:
        """The layers of the encoder, from the lowest to the highest."""
        return list(model.encoder.layer)

    def head(self, model: Any) -> nn.Module | None:
        """None: post-norm layers need no final norm."""
        return None

    def layers(self, model: Any) -> Sequence[Layer]:
        """The layers as ``(values, mask) -> values``."""

        def call(layer: Any) -> Layer:
            return lambda values, mask: layer(values, attention_mask=_attention_mask(mask))

        return [call(layer) for layer in self.stack(model)]

    def packed(self, model: Any, values: Tensor, packing: Packing, part: slice) -> Tensor:
        """Apply some of the layers to packed tokens: [tokens, dim] -> [tokens, dim].

        Args:
            model: a library model of this family.
            values: the packed input of the lowest of these layers.
            packing: the packing of the tokens.
            part: a slice of the layers.
        """
        values = values[None]
        for layer in self.stack(model)[part]:
            values = layer(values, packing=packing)
        return values[0]

    def embed(self, model: Any, values: Tensor) -> Tensor:
        """The sum of word, position and token type 0 embeddings [batch, length, dim], after the LayerNorm.

        Args:
            model: a library model of this family.
            values: the word embeddings.
        """
        first = self.first_position(model)
        positions = torch.arange(first, first + values.shape[1], device=values.device)[None]
        types = torch.zeros_like(positions).expand(values.shape[:2])
        return model.embeddings(inputs_embeds=values, position_ids=positions, token_type_ids=types)

    def first_position(self, model: Any) -> int:
        """0, or for the RoBERTa family the position after the padding position."""
        # the RoBERTa family reserves position padding_idx for padding and starts after it
        padding = getattr(model.embeddings.position_embeddings, "padding_idx", None)
        return 0 if padding is None else padding + 1


class ModernBert:
    """ModernBERT: rotary positions, local and global layers.

    Reference:
        Warner et al. 2024, Smarter, Better, Faster, Longer (ModernBERT).
    """

    def stack(self, model: Any) -> Sequence[nn.Module]:
        """The layers, from the lowest to the highest."""
        return list(model.layers)

    def head(self, model: Any) -> nn.Module | None:
        """The norm after the last layer."""
        return model.final_norm

    def layers(self, model: Any) -> Sequence[Layer]:
        """The layers as ``(values, mask) -> values``; the last one includes the final norm."""
        stack = self.stack(model)

        def call(layer: Any, last: bool) -> Layer:
            def run(values: Tensor, mask: Tensor) -> Tensor:
                positions = _positions(mask)
                rotary = model.rotary_emb(values, positions, layer.attention_type)
                local = layer.attention_type == "sliding_attention" and values.shape[1] > model.config.sliding_window
                reads = _window(mask, positions, model.config.sliding_window) if local else mask
                values = layer(values, attention_mask=_attention_mask(reads), position_embeddings=rotary)
                return model.final_norm(values) if last else values

            return run

        return [call(layer, layer is stack[-1]) for layer in stack]

    def packed(self, model: Any, values: Tensor, packing: Packing, part: slice) -> Tensor:
        """Apply some of the layers to packed tokens: [tokens, dim] -> [tokens, dim].

        Args:
            model: a library model of this family.
            values: the packed input of the lowest of these layers.
            packing: the packing of the tokens.
            part: a slice of the layers.
        """
        values, positions, stack = values[None], packing.position[None], self.stack(model)
        for layer in stack[part]:
            rotary = model.rotary_emb(values, positions, layer.attention_type)
            reach = model.config.sliding_window if layer.attention_type == "sliding_attention" else None
            values = layer(values, position_embeddings=rotary, packing=packing, reach=reach)
            values = model.final_norm(values) if layer is stack[-1] else values
        return values[0]

    def embed(self, model: Any, values: Tensor) -> Tensor:
        """Word embeddings [batch, length, dim] after the norm; the layers add rotary positions.

        Args:
            model: a library model of this family.
            values: the word embeddings.
        """
        return model.embeddings(inputs_embeds=values)

    def first_position(self, model: Any) -> int:
        """0: rotary positions reserve none for padding."""
        return 0


def find_family(model: Any) -> Family | None:
    """The family of a library model; None if only its ``forward`` can be called.

    Args:
        model: a model of the transformers library.
    """
    kind = model.config.model_type
    if kind == "modernbert":
        return ModernBert()
    if kind in ("bert", "roberta", "xlm-roberta", "camembert"):
        return BertLike()
    return None


def _attention_mask(mask: Tensor) -> Tensor | None:
    """The mask for attention from [batch, length] or [batch, length, length]; None if all tokens are real."""
    if mask.ndim == 3:
        return mask[:, None]
    if bool(mask.all()):
        return None
    return (mask | ~mask.any(1, keepdim=True))[:, None, None, :]  # a softmax without a key gives NaN


def _positions(mask: Tensor) -> Tensor:
    """Positions [batch, length] that count only real tokens, so that padding in the middle does not shift them."""
    if mask.ndim == 3:  # it does not say which tokens are real, and only position differences matter
        return torch.arange(mask.shape[1], device=mask.device).expand(mask.shape[:2])
    return (mask.cumsum(1) - 1).clamp(min=0)


def _window(mask: Tensor, positions: Tensor, reach: int) -> Tensor:
    """Attention mask [batch, length, length] within ``reach`` positions; a masked position attends to itself."""
    near = (positions[:, :, None] - positions[:, None, :]).abs() <= reach
    reads = mask if mask.ndim == 3 else mask[:, None, :]
    return (near & reads) | torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
