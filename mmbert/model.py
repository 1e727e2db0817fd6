"""The model: encode what is present, fuse, hand each task its rows."""

from collections.abc import Mapping
from typing import Self, cast

import torch
from torch import Tensor, nn

from mmbert.contracts import Encoder, Fusion, Task, Trunk
from mmbert.layers.masked import mean_token, scatter_to_rows, zero_with_grad
from mmbert.layers.resampler import MissingToken
from mmbert.layers.unimodal_heads import UnimodalHeads
from mmbert.types import Batch, Fused, Present, Tokens


class MMBert(nn.Module):
    """One text trunk, an encoder for each other input, a fusion and a head for each task.

    Args:
        trunk: reads all inputs that have no encoder.
        encoders: by input name.
        fusion: joins their streams.
        tasks: by task name.
        stand_ins: one item of each encoder's input. In training it takes the place of an input that no row of a batch
            has, all masked, so that every parameter takes part in every step (distributed training needs that).
        missing: the inputs in whose place a learned token enters the fusion where a row does not have them.
        unimodal: heads that read one stream alone, if there are any.
    """

    def __init__(
        self,
        trunk: Trunk,
        encoders: Mapping[str, Encoder],
        fusion: Fusion,
        tasks: Mapping[str, Task],
        stand_ins: Mapping[str, dict[str, Tensor]] | None = None,
        missing: Mapping[str, MissingToken] | None = None,
        unimodal: UnimodalHeads | None = None,
    ):
        super().__init__()
        self.trunk = trunk
        self.encoders = cast(Mapping[str, Encoder], nn.ModuleDict(dict(sorted(encoders.items()))))
        self.fusion = fusion
        self.tasks = cast(Mapping[str, Task], nn.ModuleDict(dict(sorted(tasks.items()))))
        self.stand_ins = dict(stand_ins or {})
        self.missing = cast(Mapping[str, MissingToken], nn.ModuleDict(dict(sorted((missing or {}).items()))))
        self.unimodal = unimodal

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The sum of each task's loss over its labelled units; zero for a task without one.

        The sums that ``Unimodal.losses`` gives stand beside them.

        Args:
            batch: the inputs and the targets of some rows.
        """
        fused = self.fuse(batch)
        sums = {}
        for name, task in self.tasks.items():
            target = batch.targets.get(name)
            if target is None:  # the head takes part all the same
                sums[name] = zero_with_grad(self.output(name, fused.at(batch.ids.new_zeros(1))))
            else:
                sums[name] = task.loss(self.output(name, fused.at(target.rows)), target.tensors)
        if self.unimodal is not None:
            sums |= self.unimodal.losses(self.tasks, fused, batch.targets, self.present(batch))
        return sums

    @property
    def loss_weights(self) -> dict[str, float]:
        """The factors of the losses that ``forward`` sums: of the tasks by name, then of the ``unimodal`` ones."""
        weights = {name: task.weight for name, task in self.tasks.items()}
        if self.unimodal is not None:
            own = self.unimodal
            weights |= {name: own.weight * weights[task] for name, (task, _) in own.loss_terms().items()}
        return weights

    def count_labelled(self, batch: Batch) -> dict[str, int]:
        """The number of labelled units that each of these losses is summed over.

        Args:
            batch: the batch that ``forward`` was called with.
        """
        terms = {name: (name, None) for name in self.tasks} | (self.unimodal.loss_terms() if self.unimodal else {})
        present, counts = self.present(batch), {}
        for name, (task, stream) in terms.items():
            target = batch.targets.get(task)
            if target is not None and stream is not None:
                target = target.within(present[stream])
            counts[name] = 0 if target is None else int(self.tasks[task].count(target.tensors))
        return counts

    def fuse(self, batch: Batch) -> Fused:
        """The fused vectors of all rows.

        Args:
            batch: the inputs of some rows; its targets are not read.
        """
        texts = {name: present for name, present in batch.inputs.items() if name not in self.encoders}
        streams = {}
        for name, encoder in self.encoders.items():
            if name in batch.inputs:
                present = batch.inputs[name]
                streams[name] = scatter_to_rows(encoder(**present.tensors), present.rows, len(batch))
            elif self.training and name in self.stand_ins:
                streams[name] = self._stand_in(name, encoder, batch)
        filled = {name: missing(streams.get(name), len(batch)) for name, missing in self.missing.items()}
        text = self.trunk.embed(texts, len(batch))
        fused = self.fusion(self.trunk, text, streams | filled)
        alone = self._alone(text, streams, fused, self.present(batch))
        return Fused(fused.summary, {**fused.streams, **self.trunk.split(fused.streams["text"])}, alone)

    def output(self, name: str, fused: Fused) -> Tensor:
        """A task's output for the rows of ``fused``.

        Args:
            name: of the task.
            fused: what ``fuse`` gives, or some rows of it.
        """
        output = self.tasks[name](fused)
        return output if self.unimodal is None else self.unimodal.add_streams(name, output, fused)

    def present(self, batch: Batch) -> dict[str, Tensor]:
        """Which rows have each stream, the text being one: [batch] bool. A text without a token is absent.

        Args:
            batch: the inputs of some rows; its targets are not read.
        """
        found = {name: torch.zeros_like(batch.ids, dtype=torch.bool) for name in ("text", *self.encoders)}
        for name, one in batch.inputs.items():
            rows = one.rows if name in self.encoders else one.rows[one.tensors["mask"].any(1)]
            found[name if name in self.encoders else "text"][rows] = True
        return found

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; what is frozen stays in evaluation mode.

        Args:
            mode: True for training, False for evaluation.
        """
        super().train(mode)
        for encoder in self.encoders.values():
            part = encoder.pretrained()
            if part is not None and not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Each task's prediction for every row, as ``Task.predict`` gives it.

        Args:
            batch: the inputs of some rows; its targets are not read.
        """
        fused = self.fuse(batch)
        return {name: task.predict(self.output(name, fused)) for name, task in self.tasks.items()}

    def _stand_in(self, name: str, encoder: Encoder, batch: Batch) -> Tokens:
        rows = batch.ids.new_zeros(1)
        dtype = next(encoder.parameters()).dtype
        stand_in = Batch(rows, {name: Present(rows, self.stand_ins[name])}, {}).to(batch.ids.device, dtype)
        tokens = encoder(**stand_in.inputs[name].tensors)
        return scatter_to_rows(tokens._replace(mask=torch.zeros_like(tokens.mask)), rows, len(batch))

    def _alone(
        self, text: Tokens, streams: Mapping[str, Tokens], fused: Fused, present: Mapping[str, Tensor]
    ) -> dict[str, Tokens]:
        """The mean token of each stream before the fusion, masked where a row has not the stream.

        The text's is there where the fusion gives it, or where heads need it: the trunk then runs a second time.
        """
        alone = {name: mean_token(stream) for name, stream in streams.items()} | dict(fused.unimodal)
        if self.unimodal is not None and "text" in self.unimodal.streams and "text" not in alone:
            rows = present["text"].nonzero().squeeze(1)
            read = self.trunk(text.at(rows)) if len(rows) else text.at(rows)
            alone["text"] = mean_token(scatter_to_rows(read, rows, len(text.mask)))
        return {name: token._replace(mask=token.mask & present[name][:, None]) for name, token in alone.items()}
