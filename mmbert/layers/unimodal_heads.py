"""Heads that read one stream alone, before the fusion, beside those of the tasks."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmbert.contracts import Task
from mmbert.layers.masked import zero_with_grad
from mmbert.types import Fused, Present


class UnimodalHeads(nn.Module):
    """For each task of whole rows and each stream ("text" and every input) a head of the task's own kind.

    It reads the stream's mean token, normed. Of its output the task's constant is taken away: what is left, f_m, is
    what the stream says beyond the constant, so that a sum over streams has that once.

    Args:
        dim: width of the streams.
        heads: task -> stream -> head. The text has none where the task's own head reads it alone.
        streams: their names.
        adds: whether a task's output is joint + sum p_m f_m, p_m the presence of m (I2M2, Madaan et al. 2024). Of
            logits, the softmax is then the normalised product of the softmaxes of all terms.
        weight: of the heads' own losses: lambda in L_joint + lambda sum L_m, where L_m is over the rows that have m.
            At 0 they learn from the sum alone; where there is none either, from vectors that they do not change.
    """

    def __init__(
        self, dim: int, heads: Mapping[str, Mapping[str, Task]], streams: Iterable[str], *, adds: bool, weight: float
    ):
        super().__init__()
        by_task = {task: nn.ModuleDict(dict(sorted(own.items()))) for task, own in sorted(heads.items())}
        self.heads = cast(Mapping[str, Mapping[str, Task]], nn.ModuleDict(by_task))
        read = sorted({stream for own in heads.values() for stream in own})
        self.norms = nn.ModuleDict({stream: nn.LayerNorm(dim) for stream in read})
        self.streams = tuple(sorted(streams))
        self.adds = adds
        self._only_watch = not adds and not weight
        self.weight = 1.0 if self._only_watch else weight

    def loss_terms(self) -> dict[str, tuple[str, str]]:
        """The names of the heads' losses, ``task/stream``, each with its task and stream."""
        return {f"{task}/{stream}": (task, stream) for task in self.heads for stream in self.streams}

    def add_streams(self, task: str, output: Tensor, fused: Fused) -> Tensor:
        """A task's ``output`` for the rows of ``fused`` and, where this is asked for, what each stream adds to it.

        Args:
            task: name of the task; one without heads of streams keeps its output.
            output: what the task's own head says, tensor [batch, outputs] or [batch].
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
        """For each of ``loss_terms`` the sum of the loss over the labelled units of the rows that have the stream.

        Where the task can tell, ``task/stream/likelihood`` is the sum of the probability given to what is true.

        Args:
            tasks: the tasks of the model by name.
            fused: result of the fusion for the whole batch.
            targets: by task, the targets of its labelled rows; a task without any may be left out.
            present: by stream, which rows have it, as ``Present.within`` takes it.
        """
        sums, first = {}, fused.summary.new_zeros(1, dtype=torch.int64)
        for name, (task, stream) in self.loss_terms().items():
            if stream not in fused.unimodal:  # no row has it, and nothing stands in for it
                sums[name] = fused.summary.new_zeros(())
                continue
            target = targets[task].within(present[stream]) if task in targets else None
            if target is None or not len(target.rows):  # the head takes part all the same
                sums[name] = zero_with_grad(self._output(tasks, task, stream, fused.at(first)))
                continue
            output = self._output(tasks, task, stream, fused.at(target.rows))
            sums[name] = tasks[task].loss(output, target.tensors)
            likelihood = tasks[task].likelihood(output.detach(), target.tensors)
            if likelihood is not None:
                sums[f"{name}/likelihood"] = likelihood
        return sums

    def _output(self, tasks: Mapping[str, Task], task: str, stream: str, fused: Fused) -> Tensor:
        own = self.heads[task]
        return own[stream](self._read(stream, fused)) if stream in own else tasks[task](fused)

    def _read(self, stream: str, fused: Fused) -> Fused:
        vectors = fused.unimodal[stream].values[:, 0]
        return Fused(self.norms[stream](vectors.detach() if self._only_watch else vectors), {})
