"""The model: a text trunk, encoders, a fusion and task heads."""

from collections.abc import Mapping
from typing import Self, cast

import torch
from torch import Tensor, nn

from mmbert.contracts import Encoder, Fusion, Task, Trunk
from mmbert.layers.by_name import ModulesByName
from mmbert.layers.masked import mean_token, scatter_to_rows, zero_with_grad
from mmbert.layers.resampler import MissingToken
from mmbert.layers.unimodal_heads import UnimodalHeads
from mmbert.types import Batch, Fused, Present, Tokens


class MMBert(nn.Module):
    """One text trunk, an encoder for each other input, a fusion and a head for each task.

    Args:
        trunk: the text transformer; text inputs go to it directly.
        encoders: encoders by input name.
        fusion: joins the streams of trunk and encoders.
        tasks: tasks by name.
        stand_ins: one example item per encoder. If no row of a training batch has the input, the item is encoded but
            masked, so that every parameter gets a gradient, which DDP needs.
        missing: learned tokens by input name; they replace the input in rows that do not have it.
        unimodal: unimodal heads, or None.
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
        self.encoders = cast(Mapping[str, Encoder], ModulesByName(dict(sorted(encoders.items()))))
        self.fusion = fusion
        self.tasks = cast(Mapping[str, Task], ModulesByName(dict(sorted(tasks.items()))))
        self.stand_ins = dict(stand_ins or {})
        self.missing = cast(Mapping[str, MissingToken], ModulesByName(dict(sorted((missing or {}).items()))))
        self.unimodal = unimodal

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of each task, summed over its labelled units; zero for a task without labels.

        A labelled unit is what has one label: usually a row, in multi-label tasks a class of a row, in tagging a word
        or node. The losses of ``UnimodalHeads.losses`` are included.

        Args:
            batch: inputs and targets.
        """
        fused = self.fuse(batch)
        sums = {}
        for name, task in self.tasks.items():
            target = batch.targets.get(name)
            if target is None:  # every parameter takes part in every step (DDP)
                sums[name] = zero_with_grad(self.output(name, fused.at(batch.ids.new_zeros(1))))
            else:
                sums[name] = task.loss(self.output(name, fused.at(target.rows)), target.tensors)
        if self.unimodal is not None:
            sums |= self.unimodal.losses(self.tasks, fused, batch.targets, self.present(batch))
        return sums

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weights of the losses of ``forward``: of the tasks by name, then of the unimodal heads."""
        weights = {name: task.weight for name, task in self.tasks.items()}
        if self.unimodal is not None:
            task_and_stream, factor = self.unimodal.loss_terms(), self.unimodal.weight
            weights |= {name: factor * weights[task] for name, (task, _) in task_and_stream.items()}
        return weights

    def count_labelled(self, batch: Batch) -> dict[str, int]:
        """Count the labelled units of each loss of ``forward``.

        Args:
            batch: the batch passed to ``forward``.
        """
        task_and_stream = {name: (name, None) for name in self.tasks}
        task_and_stream |= self.unimodal.loss_terms() if self.unimodal else {}
        present, counts = self.present(batch), {}
        for name, (task, stream) in task_and_stream.items():
            target = batch.targets.get(task)
            if target is not None and stream is not None:
                target = target.within(present[stream])
            counts[name] = 0 if target is None else int(self.tasks[task].count(target.tensors))
        return counts

    def fuse(self, batch: Batch) -> Fused:
        """Encode and fuse the inputs of all rows.

        Args:
            batch: the inputs; targets are not read.
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
        unimodal = self._unimodal_tokens(text, streams, fused, self.present(batch))
        return Fused(fused.summary, {**fused.streams, **self.trunk.split(fused.streams["text"])}, unimodal)

    def output(self, name: str, fused: Fused) -> Tensor:
        """The output of a task for the rows of ``fused``.

        Args:
            name: name of the task.
            fused: the result of ``fuse``, or some rows of it.
        """
        output = self.tasks[name](fused)
        return output if self.unimodal is None else self.unimodal.add_streams(name, output, fused)

    def present(self, batch: Batch) -> dict[str, Tensor]:
        """Which rows have each stream, including the text: [batch] bool. A text without a token is absent.

        Args:
            batch: the inputs; targets are not read.
        """
        has = {name: torch.zeros_like(batch.ids, dtype=torch.bool) for name in ("text", *self.encoders)}
        for name, items in batch.inputs.items():
            rows = items.rows if name in self.encoders else items.rows[items.tensors["mask"].any(1)]
            has[name if name in self.encoders else "text"][rows] = True
        return has

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; frozen parts stay in evaluation mode.

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
        """Predict every task for every row, see ``Task.predict``.

        Args:
            batch: the inputs; targets are not read.
        """
        fused = self.fuse(batch)
        return {name: task.predict(self.output(name, fused)) for name, task in self.tasks.items()}

    def _stand_in(self, name: str, encoder: Encoder, batch: Batch) -> Tokens:
        rows = batch.ids.new_zeros(1)
        dtype = next(encoder.parameters()).dtype
        stand_in = Batch(rows, {name: Present(rows, self.stand_ins[name])}, {}).to(batch.ids.device, dtype)
        tokens = encoder(**stand_in.inputs[name].tensors)
        return scatter_to_rows(tokens._replace(mask=torch.zeros_like(tokens.mask)), rows, len(batch))

    def _unimodal_tokens(
        self, text: Tokens, streams: Mapping[str, Tokens], fused: Fused, present: Mapping[str, Tensor]
    ) -> dict[str, Tokens]:
        """The mean token of each stream before the fusion, masked in rows without the stream.

        The text token is included if the fusion returns it, or if unimodal heads need it: the trunk then runs again.
        """
        unimodal = {name: mean_token(stream) for name, stream in streams.items()} | dict(fused.unimodal)
        if self.unimodal is not None and "text" in self.unimodal.streams and "text" not in unimodal:
            rows = present["text"].nonzero().squeeze(1)
            text_tokens = self.trunk(text.at(rows)) if len(rows) else text.at(rows)
            unimodal["text"] = mean_token(scatter_to_rows(text_tokens, rows, len(text.mask)))
        return {name: token._replace(mask=token.mask & present[name][:, None]) for name, token in unimodal.items()}
