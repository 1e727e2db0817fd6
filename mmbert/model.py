"""The model: encode what is present, fuse, hand each task its rows."""

from collections.abc import Mapping
from typing import Self, cast

import torch
from torch import Tensor, nn

from mmbert.contracts import Encoder, Fusion, Task, Trunk
from mmbert.layers.join import join
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
    """

    def __init__(
        self,
        trunk: Trunk,
        encoders: Mapping[str, Encoder],
        fusion: Fusion,
        tasks: Mapping[str, Task],
        stand_ins: Mapping[str, dict[str, Tensor]] | None = None,
    ):
        super().__init__()
        self.trunk = trunk
        self.encoders = cast(Mapping[str, Encoder], nn.ModuleDict(dict(sorted(encoders.items()))))
        self.fusion = fusion
        self.tasks = cast(Mapping[str, Task], nn.ModuleDict(dict(sorted(tasks.items()))))
        self.stand_ins = dict(stand_ins or {})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The sum of each task's loss over its labelled units; zero for a task without one."""
        fused = self.fuse(batch)
        sums = {}
        for name, task in self.tasks.items():
            target = batch.targets.get(name)
            if target is None:  # the head takes part all the same
                sums[name] = torch.where(_no(fused.summary), task(fused.at(batch.ids.new_zeros(1))), 0.0).sum()
            else:
                sums[name] = task.loss(task(fused.at(target.rows)), target.tensors)
        return sums

    def fuse(self, batch: Batch) -> Fused:
        """The fused vectors of all rows."""
        texts = {name: present for name, present in batch.inputs.items() if name not in self.encoders}
        streams = {}
        for name, encoder in self.encoders.items():
            if name in batch.inputs:
                present = batch.inputs[name]
                streams[name] = join(encoder(**present.tensors), present.rows, len(batch))
            elif self.training and name in self.stand_ins:
                streams[name] = self._stand_in(name, encoder, batch)
        fused = self.fusion(self.trunk, self.trunk.embed(texts, len(batch)), streams)
        return fused._replace(streams={**fused.streams, **self.trunk.split(fused.streams["text"])})

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for encoder in self.encoders.values():
            part = encoder.pretrained()
            if part is not None and not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Each task's prediction for every row, as ``Task.predict`` gives it."""
        fused = self.fuse(batch)
        return {name: task.predict(task(fused)) for name, task in self.tasks.items()}

    def _stand_in(self, name: str, encoder: Encoder, batch: Batch) -> Tokens:
        rows = batch.ids.new_zeros(1)
        dtype = next(encoder.parameters()).dtype
        stand_in = Batch(rows, {name: Present(rows, self.stand_ins[name])}, {}).to(batch.ids.device, dtype)
        tokens = encoder(**stand_in.inputs[name].tensors)
        return join(tokens._replace(mask=torch.zeros_like(tokens.mask)), rows, len(batch))


def _no(like: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.bool, device=like.device)
