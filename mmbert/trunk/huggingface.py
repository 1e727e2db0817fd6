"""The trunk: any Hugging Face text encoder, with its layers exposed and its rows packed where its family is known."""

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

STRIDE = 1 << 20  # between the units of one text of a row and those of the next


class HuggingFaceTrunk(Trunk):
    """Wraps an encoder of the transformers library.

    BERT-like encoders (BERT, RoBERTa, XLM-R, MiniLM) and ModernBERT offer ``layers`` and are packed; any other encoder
    offers ``forward`` only. With text alone the result equals the library model's.

    ``cut`` is how many layers lie below the lowest one that learns (None: the embeddings learn). Where ``store`` is
    set, ``embed`` gives the tokens at the cut, out of it or computed, and ``forward`` runs the layers above the cut.

    Args:
        model: an encoder as ``AutoModel`` makes it.
        vocabulary: gives the ids of the special tokens.
        texts: the names of the text inputs. With two or more, each gets a facet: a zero-initialised embedding.
        tune: what learns: ``full``, ``frozen``, or ``top<k>`` for the last k layers. Frozen parts run in eval mode.
        packing: whether rows are packed; the result is the same.

    Raises:
        RecipeError: where the model shows fewer layers than ``tune`` asks for.
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
        """The trunk of a checkpoint.

        Args:
            checkpoint: ``minilm`` (its weights come in a package), a folder, or a name on the model hub.
            texts: the names of the text inputs.
            tune: what learns, as in the constructor.
            packing: whether rows are packed.

        Raises:
            RecipeError: where the checkpoint cannot be loaded, or has fewer layers than ``tune`` asks for.
        """
        model, vocabulary = load_checkpoint(checkpoint)
        return cls(model, vocabulary, texts, tune=tune, packing=packing)

    @property
    def layers(self) -> Sequence[Layer]:
        return self._family.layers(self.model) if self._family else ()

    @property
    def max_length(self) -> int:
        """The longest sequence that positions exist for."""
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
        """The tokens at the cut [rows, length, dim]; zero where masked.

        Args:
            ids: [rows, length] int64, the sequences with their special tokens.
            mask: [rows, length] bool, True where a token is real.
        """
        with torch.autocast(ids.device.type, enabled=False):  # the store holds full precision
            unit = torch.full_like(ids, -1)
            return self._through(slice(self.cut), Tokens(self._embedded(ids, unit), mask, unit)).values

    def frozen_weights(self) -> dict[str, Tensor]:
        """All that ``run_frozen_layers`` computes with, by name."""
        learning = {id(one) for module in self._learning for one in module.state_dict(keep_vars=True).values()}
        return {name: one for name, one in self.model.state_dict(keep_vars=True).items() if id(one) not in learning}

    def split(self, tokens: Tokens) -> dict[str, Tokens]:
        """The stream of each text out of the joined sequence, with units of its own.

        Args:
            tokens: the joined sequence [batch, length, dim].
        """
        streams = {}
        for index, name in enumerate(self.names):
            own = (tokens.unit // STRIDE == index) & tokens.mask
            streams[name] = Tokens(tokens.values, own, torch.where(own, tokens.unit - index * STRIDE, -1))
        return streams

    def train(self, mode: bool = True) -> "HuggingFaceTrunk":
        """Training or evaluation mode; frozen parts stay in evaluation mode.

        Args:
            mode: True for training, False for evaluation.
        """
        super().train(mode)
        self.model.eval()
        for module in self._learning:
            module.train(mode)
        return self

    @contextmanager
    def tuning(self, mode: str) -> Iterator[None]:
        """Within, what learns is as ``tune: mode`` says; afterwards it is exactly what it was.

        Args:
            mode: ``full``, ``frozen`` or ``top<k>``, as ``tune`` in the constructor.

        Raises:
            RecipeError: where the model shows fewer layers than ``mode`` asks for.
        """
        learned = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        learning, training = self._learning, self.training
        self._tune(mode)
        self.train(training)
        try:
            yield
        finally:
            self._learning = learning
            for parameter, learns in learned:
                parameter.requires_grad_(learns)
            self.train(training)

    @property
    def _calls(self) -> Sequence[Layer]:
        """The layers; of a model that shows none, its ``forward`` as the only one."""
        return self.layers if self._family else [self._whole]

    def _whole(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.model(inputs_embeds=values, attention_mask=mask.long()).last_hidden_state

    def _through(self, part: slice, tokens: Tokens) -> Tokens:
        """A part of the layers over padded tokens; masked places of the result are zero."""
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
        """The tokens at the cut; those of rows that the store has not are computed."""
        values, found = store.read(ids, mask)
        values = values.to(self.model.dtype)
        if not bool(found.all()):
            values[~found] = self.run_frozen_layers(ids[~found], mask[~found]).to(values.dtype)
        return values

    def build_sequences(self, texts: Mapping[str, Present], size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, units and mask [size, length] of [CLS] first [SEP] second [SEP] for each row.

        Args:
            texts: the token ids of each text input, by its name.
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
            own = present.tensors["unit"][mask]
            unit[row, place] = torch.where(own >= 0, own + STRIDE * self.names.index(name), -1)
            end[rows] += mask.sum(1)
            ids[rows, end[rows]] = sep
            end[rows] += 1
        ids[end == 1, 1] = sep
        end = end.clamp(min=2)
        length = int(end.max())
        mask = torch.arange(length, device=device) < end[:, None]
        return ids[:, :length], unit[:, :length], mask

    def _tune(self, mode: str) -> None:
        """Freeze what does not learn; ``_learning`` are the modules that do."""
        self._learning = [self.model]
        self.cut: int | None = None
        if mode == "full":
            return
        stack = list(self._family.stack(self.model)) if self._family else []
        top = int(match[1]) if (match := re.fullmatch(r"top(\d+)", mode)) else 0
        if top > len(stack):
            raise RecipeError(f"trunk.tune: '{mode}' needs {top} layers to tune; this trunk shows {len(stack)}")
        head = self._family.head(self.model) if self._family and top else None
        self._learning = stack[len(stack) - top :] + ([head] if head is not None else [])
        self.cut = len(stack) - top if self._family else 1
        self.model.requires_grad_(False)
        for module in self._learning:
            module.requires_grad_(True)
