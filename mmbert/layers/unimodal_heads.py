"""Unimodal heads: one per task and stream, on the stream's vector before the fusion."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmbert.contracts import Task
from mmbert.layers.by_name import ModulesByName
from mmbert.layers.masked import zero_with_grad
from mmbert.types import Fused, Present


class UnimodalHeads(nn.Module):
    """A head of the task's type for each row-level task and each stream ("text" and every input).

    A head reads the stream's mean token after a LayerNorm. f_m is its output minus the task's constant output, so that
    a sum over streams counts the constant once.

    Args:
        dim: width of the streams.
        heads: task -> stream -> head. The text has none where the task's joint head reads the text alone.
        streams: the names of the streams.
        adds: whether a task's output is joint + sum p_m f_m, p_m the presence of m (I2M2, Madaan et al. 2024). Of
            logits, the softmax is then the normalised product of the softmaxes of all terms.
        weight: of the unimodal losses: lambda in L_joint + lambda sum L_m, where L_m is over the rows that have m. At
            0 the heads learn from the sum of outputs only; without that sum as well, they learn from detached vectors.
    """

    def __init__(
        self, dim: int, heads: Mapping[str, Mapping[str, Task]], streams: Iterable[str], *, adds: bool, weight: float
    ):
        super().__init__()
        by_task = {task: ModulesByName(dict(sorted(by_stream.items()))) for task, by_stream in sorted(heads.items())}
        self.heads = cast(Mapping[str, Mapping[str, Task]], ModulesByName(by_task))
        read = sorted({stream for by_stream in heads.values() for stream in by_stream})
        self.norms = ModulesByName({stream: nn.LayerNorm(dim) for stream in read})
        self.streams = tuple(sorted(streams))
        self.adds = adds
        self._only_watch = not adds and not weight
        self.weight = 1.0 if self._only_watch else weight

    def loss_terms(self) -> dict[str, tuple[str, str]]:
        """Task and stream of each unimodal loss, by its name ``task/stream``."""
        return {f"{task}/{stream}": (task, stream) for task in self.heads for stream in self.streams}

    def add_streams(self, task: str, output: Tensor, fused: Fused) -> Tensor:
        """A task's ``output`` plus, with ``adds``, the contribution f_m of each stream that is present.

        Args:
            task: name of the task; the output of a task without unimodal heads is returned unchanged.
            output: output of the task's joint head, tensor [batch, outputs] or [batch].
            fused: result of the fusion for the same rows, with the mean token of each stream.
        """
        for stream, head in self.heads[task].items() if self.adds and task in self.heads else ():
            if stream in fused.unimodal:
                read = self._read(stream, fused)
                present = fused.unimodal[stream].mask.view(-1, *[1] * (output.ndim - 1))
                output = output + torch.where(present, head(read) - head.constant(read), 0.0)
        return output

    def losses(
        self, tasks: Mapping[str, Task], fused: Fused, targets: Mapping[str, Present], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The loss of each of ``loss_terms``, summed over the labelled units of the rows that have the stream.

        For tasks with a likelihood, ``task/stream/likelihood`` is the sum of the probabilities of the true labels.

        Args:
            tasks: the tasks of the model by name.
            fused: result of the fusion for the whole batch.
            targets: by task, the targets of its labelled rows; a task without labels may be left out.
            present: by stream, which rows have it: [batch] bool.
        """
        sums, first = {}, fused.summary.new_zeros(1, dtype=torch.int64)
        for name, (task, stream) in self.loss_terms().items():
            if stream not in fused.unimodal:  # no row has it, and it has no stand-in
                sums[name] = fused.summary.new_zeros(())
                continue
            target = targets[task].within(present[stream]) if task in targets else None
            if target is None or not len(target.rows):  # every parameter takes part in every step (DDP)
                sums[name] = zero_with_grad(self._output(tasks, task, stream, fused.at(first)))
                continue
            output = self._output(tasks, task, stream, fused.at(target.rows))
            sums[name] = tasks[task].loss(output, target.tensors)
            likelihood = tasks[task].likelihood(output.detach(), target.tensors)
            if likelihood is not None:
                sums[f"{name}/likelihood"] = likelihood
        return sums

    def _output(self, tasks: Mapping[str, Task], task: str, stream: str, fused: Fused) -> Tensor:
        by_stream = self.heads[task]
        return by_stream[stream](self._read(stream, fused)) if stream in by_stream else tasks[task](fused)

    def _read(self, stream: str, fused: Fused) -> Fused:
        vectors = fused.unimodal[stream].values[:, 0]
        return Fused(self.norms[stream](vectors.detach() if self._only_watch else vectors), {})
