"""How each family of encoders embeds, and how one of its layers is called with a mask of ours."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmbert.contracts import Layer
from mmbert.trunk.packing import Packing


class Family(Protocol):
    """What the trunk needs to know of a family whose layers it calls itself."""

    def stack(self, model: Any) -> Sequence[nn.Module]:
        """The layers as modules, the lowest first.

        Args:
            model: a library model of this family.
        """
        ...

    def head(self, model: Any) -> nn.Module | None:
        """The module behind the last layer, which learns with it; None where there is none.

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
        """A part of the layers over packed tokens: [tokens, dim] -> [tokens, dim].

        Args:
            model: a library model of this family.
            values: the packed tokens that the lowest layer of the part reads.
            packing: where each of them belongs.
            part: which of the layers.
        """
        ...

    def embed(self, model: Any, values: Tensor) -> Tensor:
        """From word embeddings [batch, length, dim] to what the lowest layer reads.

        Args:
            model: a library model of this family.
            values: the word embeddings.
        """
        ...

    def first_position(self, model: Any) -> int:
        """The position of the first token.

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
        """The layers of the encoder, the lowest first."""
        return list(model.encoder.layer)

    def head(self, model: Any) -> nn.Module | None:
        """None: the last layer ends with its own norm."""
        return None

    def layers(self, model: Any) -> Sequence[Layer]:
        """The layers as ``(values, mask) -> values``."""

        def call(layer: Any) -> Layer:
            return lambda values, mask: layer(values, attention_mask=_attention_mask(mask))

        return [call(layer) for layer in self.stack(model)]

    def packed(self, model: Any, values: Tensor, packing: Packing, part: slice) -> Tensor:
        """A part of the layers over packed tokens: [tokens, dim] -> [tokens, dim].

        Args:
            model: a library model of this family.
            values: the packed tokens that the lowest layer of the part reads.
            packing: where each of them belongs.
            part: which of the layers.
        """
        values = values[None]
        for layer in self.stack(model)[part]:
            values = layer(values, packing=packing)
        return values[0]

    def embed(self, model: Any, values: Tensor) -> Tensor:
        """Word embeddings [batch, length, dim] with those of positions and of token type 0 added, and normed.

        Args:
            model: a library model of this family.
            values: the word embeddings.
        """
        first = self.first_position(model)
        positions = torch.arange(first, first + values.shape[1], device=values.device)[None]
        types = torch.zeros_like(positions).expand(values.shape[:2])
        return model.embeddings(inputs_embeds=values, position_ids=positions, token_type_ids=types)

    def first_position(self, model: Any) -> int:
        """0, or in the RoBERTa family the position behind the one for padding."""
        # the RoBERTa family keeps position padding_idx for padding and starts behind it
        padding = getattr(model.embeddings.position_embeddings, "padding_idx", None)
        return 0 if padding is None else padding + 1


class ModernBert:
    """ModernBERT: rotary positions, local and global layers.

    Reference:
        Warner et al. 2024, Smarter, Better, Faster, Longer (ModernBERT).
    """

    def stack(self, model: Any) -> Sequence[nn.Module]:
        """The layers, the lowest first."""
        return list(model.layers)

    def head(self, model: Any) -> nn.Module | None:
        """The norm behind the last layer."""
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
        """A part of the layers over packed tokens: [tokens, dim] -> [tokens, dim].

        Args:
            model: a library model of this family.
            values: the packed tokens that the lowest layer of the part reads.
            packing: where each of them belongs.
            part: which of the layers.
        """
        values, positions, stack = values[None], packing.position[None], self.stack(model)
        for layer in stack[part]:
            rotary = model.rotary_emb(values, positions, layer.attention_type)
            reach = model.config.sliding_window if layer.attention_type == "sliding_attention" else None
            values = layer(values, position_embeddings=rotary, packing=packing, reach=reach)
            values = model.final_norm(values) if layer is stack[-1] else values
        return values[0]

    def embed(self, model: Any, values: Tensor) -> Tensor:
        """Word embeddings [batch, length, dim], normed; positions enter in the layers.

        Args:
            model: a library model of this family.
            values: the word embeddings.
        """
        return model.embeddings(inputs_embeds=values)

    def first_position(self, model: Any) -> int:
        """0: rotary positions have none for padding."""
        return 0


def find_family(model: Any) -> Family | None:
    """The family of a library model; None where only its ``forward`` can be called.

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
    """[batch, length] or [batch, length, length] as scaled-dot-product attention takes it; None where all read all."""
    if mask.ndim == 3:
        return mask[:, None]
    if bool(mask.all()):
        return None
    return (mask | ~mask.any(1, keepdim=True))[:, None, None, :]  # a softmax over nothing would give NaN


def _positions(mask: Tensor) -> Tensor:
    """[batch, length] positions that count real tokens only, so that padding in the middle moves nothing."""
    if mask.ndim == 3:  # who reads whom does not say which are real, and only differences of positions matter
        return torch.arange(mask.shape[1], device=mask.device).expand(mask.shape[:2])
    return (mask.cumsum(1) - 1).clamp(min=0)


def _window(mask: Tensor, positions: Tensor, reach: int) -> Tensor:
    """[batch, length, length]: who reads whom within ``reach`` positions; a masked place reads itself."""
    near = (positions[:, :, None] - positions[:, None, :]).abs() <= reach
    reads = mask if mask.ndim == 3 else mask[:, None, :]
    return (near & reads) | torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
