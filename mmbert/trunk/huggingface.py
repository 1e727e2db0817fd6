"""The trunk: any Hugging Face text encoder; known families expose their layers and pack rows."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from mmbert.contracts import Layer, Trunk
from mmbert.errors import RecipeError
from mmbert.layers.dropout import replace_dropout
from mmbert.layers.masked import zero_masked
from mmbert.trunk.attention import use_packed_attention
from mmbert.trunk.families import find_family
from mmbert.trunk.packing import plan_packing
from mmbert.trunk.store import TokenStore
from mmbert.trunk.vocabulary import Vocabulary
from mmbert.trunk.weights import load_checkpoint
from mmbert.types import Present, Tokens

STRIDE = 1 << 20  # offset between the unit numbers of consecutive texts of a row


class HuggingFaceTrunk(Trunk):
    """Wraps an encoder of the transformers library.

    BERT-like encoders (BERT, RoBERTa, XLM-R, MiniLM) and ModernBERT expose ``layers`` and are packed; any other encoder
    offers only ``forward``. With text alone the result equals the library model's.

    ``cut`` is the number of layers below the lowest trained one (None: the embeddings are trained). If ``store`` is
    set, ``embed`` returns the tokens at the cut, read from it or computed, and ``forward`` runs the layers above.

    Args:
        model: an encoder built by ``AutoModel``.
        vocabulary: gives the ids of the special tokens.
        texts: the names of the text inputs. With two or more, each has a facet: a zero-initialised embedding.
        tune: trained parameters: ``full``, ``frozen``, or ``top<k>`` for the last k layers. Frozen parts run in eval
            mode.
        packing: whether rows are packed; it does not change the result.

    Raises:
        RecipeError: if the model exposes fewer layers than ``tune`` needs.
    """

    def __init__(
        self,
        model: nn.Module,
        vocabulary: Vocabulary,
        texts: Collection[str],
        *,
        tune: str = "full",
        packing: bool = True,
    ):
        super().__init__()
        self.model: Any = model
        self.dim: int = self.model.config.hidden_size
        self.names = tuple(sorted(texts))
        self.packing = packing
        self.vocabulary = vocabulary
        self.special = (vocabulary.cls, vocabulary.sep, vocabulary.pad)
        self.facet = nn.Embedding(len(self.names), self.dim) if len(self.names) > 1 else None
        if self.facet is not None:
            nn.init.zeros_(self.facet.weight)
        self._family = find_family(model)
        replace_dropout(model)
        if self._family:
            use_packed_attention(model)
        self._tune(tune)
        self.store: TokenStore | None = None

    @classmethod
    def from_pretrained(
        cls, checkpoint: str, texts: Collection[str] = ("text",), *, tune: str = "full", packing: bool = True
    ) -> Self:
        """Load the trunk of a checkpoint.

        Args:
            checkpoint: ``minilm`` (its weights come in a package), a folder, or a name on the model hub.
            texts: the names of the text inputs.
            tune: trained parameters, as in the constructor.
            packing: whether rows are packed.

        Raises:
            RecipeError: if the checkpoint cannot be loaded or has fewer layers than ``tune`` needs.
        """
        model, vocabulary = load_checkpoint(checkpoint)
        return cls(model, vocabulary, texts, tune=tune, packing=packing)

    @property
    def layers(self) -> Sequence[Layer]:
        return self._family.layers(self.model) if self._family else ()

    @property
    def max_length(self) -> int:
        """The maximum sequence length, given by the number of positions."""
        offset = self._family.first_position(self.model) if self._family else 0
        return self.model.config.max_position_embeddings - offset

    def embed(self, texts: Mapping[str, Present], size: int) -> Tokens:
        ids, unit, mask = self.build_sequences(texts, size)
        values = self._embedded(ids, unit) if self.store is None else self._stored(self.store, ids, mask)
        return Tokens(values, mask, unit)

    def forward(self, tokens: Tokens) -> Tokens:
        return self._through(slice(0 if self.store is None else self.cut, None), tokens)

    @torch.no_grad()
    def run_frozen_layers(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Compute the tokens at the cut [rows, length, dim]; zero where masked.

        Args:
            ids: [rows, length] int64, the sequences with their special tokens.
            mask: [rows, length] bool, True where a token is real.
        """
        with torch.autocast(ids.device.type, enabled=False):  # the store holds full precision
            unit = torch.full_like(ids, -1)
            return self._through(slice(self.cut), Tokens(self._embedded(ids, unit), mask, unit)).values

    def frozen_weights(self) -> dict[str, Tensor]:
        """The tensors that ``run_frozen_layers`` depends on, by name."""
        trained = {id(tensor) for module in self._trained for tensor in module.state_dict(keep_vars=True).values()}
        state = self.model.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in state.items() if id(tensor) not in trained}

    def split(self, tokens: Tokens) -> dict[str, Tokens]:
        """Split the joined sequence into one stream per text, with the text's own unit numbers.

        Args:
            tokens: the joined sequence [batch, length, dim].
        """
        streams = {}
        for index, name in enumerate(self.names):
            mask = (tokens.unit // STRIDE == index) & tokens.mask
            streams[name] = Tokens(tokens.values, mask, torch.where(mask, tokens.unit - index * STRIDE, -1))
        return streams

    def train(self, mode: bool = True) -> "HuggingFaceTrunk":
        """Set training or evaluation mode; frozen parts stay in evaluation mode.

        Args:
            mode: True for training, False for evaluation.
        """
        super().train(mode)
        self.model.eval()
        for module in self._trained:
            module.train(mode)
        return self

    @contextmanager
    def tuning(self, mode: str) -> Iterator[None]:
        """Context manager in which ``tune: mode`` is in effect; afterwards the previous state is restored.

        Args:
            mode: ``full``, ``frozen`` or ``top<k>``, as ``tune`` in the constructor.

        Raises:
            RecipeError: if the model exposes fewer layers than ``mode`` needs.
        """
        before = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        trained, training = self._trained, self.training
        self._tune(mode)
        self.train(training)
        try:
            yield
        finally:
            self._trained = trained
            for parameter, requires_grad in before:
                parameter.requires_grad_(requires_grad)
            self.train(training)

    @property
    def _calls(self) -> Sequence[Layer]:
        """The layers; for a model without exposed layers its ``forward`` as the only one."""
        return self.layers if self._family else [self._whole]

    def _whole(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.model(inputs_embeds=values, attention_mask=mask.long()).last_hidden_state

    def _through(self, part: slice, tokens: Tokens) -> Tokens:
        """Apply a slice of the layers to padded tokens; masked positions of the result are zero."""
        mask = tokens.mask
        if self._family and self._calls[part] and self.packing and not bool(mask.all()):
            packing = plan_packing(mask)
            packed = self._family.packed(self.model, packing.pack(tokens.values), packing, part)
            return tokens._replace(values=packing.unpack(packed, tokens.values.shape))
        values = zero_masked(tokens.values, mask)
        for layer in self._calls[part]:
            values = layer(values, mask)
        return tokens._replace(values=zero_masked(values, mask))

    def _embedded(self, ids: Tensor, unit: Tensor) -> Tensor:
        values = self.model.get_input_embeddings()(ids)
        if self.facet is not None:
            facet = self.facet(unit.clamp(min=0) // STRIDE)
            values = values + torch.where(unit[..., None] >= 0, facet, 0.0 * facet)
        return self._family.embed(self.model, values) if self._family else values

    def _stored(self, store: TokenStore, ids: Tensor, mask: Tensor) -> Tensor:
        """The tokens at the cut, read from the store; rows that it lacks are computed."""
        values, stored = store.read(ids, mask)
        values = values.to(self.model.dtype)
        if not bool(stored.all()):
            values[~stored] = self.run_frozen_layers(ids[~stored], mask[~stored]).to(values.dtype)
        return values

    def build_sequences(self, texts: Mapping[str, Present], size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Build [CLS] first [SEP] second [SEP] for each row: ids, units and mask, each [size, length].

        Args:
            texts: the token ids of each text input, by name.
            size: the number of rows of the batch.
        """
        cls, sep, pad = self.special
        device = self.model.get_input_embeddings().weight.device
        texts = {name: texts[name] for name in self.names if name in texts}
        longest = 2 + sum(present.tensors["tokens"].shape[1] + 1 for present in texts.values())
        ids = torch.full((size, longest), pad, device=device)
        unit = torch.full_like(ids, -1)
        ids[:, 0] = cls
        end = torch.ones(size, dtype=torch.int64, device=device)  # where the next token of each row goes
        for name, present in texts.items():
            rows, tokens, mask = present.rows, present.tensors["tokens"], present.tensors["mask"]
            row = rows[:, None].expand_as(mask)[mask]
            place = (end[rows][:, None] + torch.arange(mask.shape[1], device=device))[mask]
            ids[row, place] = tokens[mask]
            text_unit = present.tensors["unit"][mask]
            unit[row, place] = torch.where(text_unit >= 0, text_unit + STRIDE * self.names.index(name), -1)
            end[rows] += mask.sum(1)
            ids[rows, end[rows]] = sep
            end[rows] += 1
        ids[end == 1, 1] = sep
        end = end.clamp(min=2)
        length = int(end.max())
        mask = torch.arange(length, device=device) < end[:, None]
        return ids[:, :length], unit[:, :length], mask

    def _tune(self, mode: str) -> None:
        """Freeze all modules except the trained ones, which are kept in ``_trained``."""
        self._trained = [self.model]
        self.cut: int | None = None
        if mode == "full":
            return
        stack = list(self._family.stack(self.model)) if self._family else []
        top = int(match[1]) if (match := re.fullmatch(r"top(\d+)", mode)) else 0
        if top > len(stack):
            raise RecipeError(f"trunk.tune: '{mode}' needs {top} layers to tune; this trunk shows {len(stack)}")
        head = self._family.head(self.model) if self._family and top else None
        self._trained = stack[len(stack) - top :] + ([head] if head is not None else [])
        self.cut = len(stack) - top if self._family else 1
        self.model.requires_grad_(False)
        for module in self._trained:
            module.requires_grad_(True)
