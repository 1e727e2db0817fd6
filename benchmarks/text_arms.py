"""Arms of the text benchmark: the same fine-tuning by mmbert and by transformers.Trainer in three kinds of batches."""

import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from mmbert.contracts import Processors
from mmbert.data.loader import batches
from mmbert.data.sample_dataset import SampleDataset
from mmbert.data.sampler import StepPlan
from mmbert.distributed import all_reduce_or_raise
from mmbert.fusion.concat import Concat
from mmbert.layers.dropout import set_dropout
from mmbert.layers.head import build_head
from mmbert.layers.masked import masked_mean
from mmbert.model import MMBert
from mmbert.recipe.training import Optim
from mmbert.training.optimizer import make_optimizer
from mmbert.training.step import accumulate_gradients, count_units
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.text import TextProcessor
from mmbert.trunk.weights import load_checkpoint
from mmbert.types import Sample
from tasks.regression import Regression, RegressionLabel

BATCH = 32
LONGEST = 128  # with the two special tokens
SEED = 0
OPTIM = Optim(schedule="constant")
MEGABATCH = 50  # batches that the library sorts by length at once


class Counts:
    """The measurements of one turn of an arm.

    Attributes:
        seconds: of all steps.
        lengths: tokens of each example, special tokens included.
        computed: tokens that went through the layers, padding included.
        losses: of each step.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.lengths: list[int] = []
        self.computed = 0
        self.losses: list[float] = []


class TextArm(Protocol):
    """One way to train."""

    def run(self, repeat: int, steps: int) -> Counts:
        """Train for some more steps.

        Args:
            repeat: number of the turn, which chooses the batches.
            steps: of this turn.
        """
        ...


class MMBertArm:
    """mmbert as ``mmbert train`` runs it: plan, loader, model, gradients, optimiser. Texts are tokenised in the loop.

    Args:
        rows: that batches are drawn from.
        dropout: rate in the whole model; by default that of the checkpoint.
    """

    def __init__(self, rows: Sequence[Sample], dropout: float | None = None):
        torch.manual_seed(SEED)
        model, vocabulary = load_checkpoint("minilm")
        label = RegressionLabel()
        label.fit([sample.targets["target"] for sample in rows])
        trunk = HuggingFaceTrunk(model, vocabulary, ["text"])
        task = Regression(trunk.dim, label)
        self.model = MMBert(trunk, {}, Concat(trunk.dim, {}), {"target": task}).train()
        if dropout is not None:
            set_dropout(self.model, dropout)
        self.plan = StepPlan(SEED, len(rows), BATCH)
        processors = {"text": TextProcessor(vocabulary, max_length=LONGEST - 2)}
        self.dataset = SampleDataset([rows], Processors(processors, {"target": label}), seed=SEED)
        self.accelerator = Accelerator()
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, make_optimizer(self.model, OPTIM))

    def run(self, repeat: int, steps: int) -> Counts:
        counts, first = Counts(), repeat * steps
        weights = {"target": 1.0}
        start = time.perf_counter()
        drawn = batches(self.plan, self.dataset, start=first, steps=first + steps)
        for step, micro in enumerate(drawn, first):
            units = all_reduce_or_raise(count_units(self.model, micro, self.accelerator.device)).sums
            sums = accumulate_gradients(self.wrapped, micro, units, weights, self.accelerator, seed=(SEED, step))
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), OPTIM.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            counts.losses.append(sums.losses["target"])
            counts.lengths += (micro[0].inputs["text"].tensors["mask"].sum(1) + 2).tolist()
        counts.seconds = time.perf_counter() - start
        counts.computed = sum(counts.lengths)  # packed: only real tokens go through the layers
        return counts


class TrainerArm:
    """transformers.Trainer on the stock model with the same head, optimiser and data; texts are tokenised in advance.

    Args:
        rows: that batches are drawn from.
        padding: ``padded`` (all to ``LONGEST``), ``dynamic`` (to the longest of the batch) or ``grouped``: batches of
            the library's ``train_sampling_strategy="group_by_length"``. Each repeat takes batches at equal distances
            from one stretch that the library sorts at once, so that it has short and long ones as a whole epoch has.
        dropout: rate in the whole model; by default that of the checkpoint.
    """

    def __init__(self, rows: Sequence[Sample], padding: str, dropout: float | None = None):
        torch.manual_seed(SEED)
        encoder, vocabulary = load_checkpoint("minilm")
        read, self.pad = TextProcessor(vocabulary, max_length=LONGEST - 2), vocabulary.pad
        label = RegressionLabel()
        label.fit([sample.targets["target"] for sample in rows])
        self.rows = [
            {
                "ids": [vocabulary.cls, *read(sample.inputs["text"])["tokens"].tolist(), vocabulary.sep],
                "target": label(sample.targets["target"])["target"],
            }
            for sample in rows
        ]
        self.model = MeanRegressor(encoder)
        if dropout is not None:
            set_dropout(self.model, dropout)
        self.padding, self.counts = padding, Counts()
        parameters = list(self.model.named_parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": [parameter for name, parameter in parameters if belongs(name, parameter)],
                    "lr": OPTIM.lr.new if belongs is _is_of_head else OPTIM.lr.trunk,
                    "weight_decay": OPTIM.weight_decay if belongs is _is_matrix else 0.0,
                }
                for belongs in (_is_matrix, _is_vector, _is_of_head)
            ],
            betas=OPTIM.betas,
            fused=True,
        )

    def run(self, repeat: int, steps: int) -> Counts:
        self.counts, clock = Counts(), Clock()
        order = list(itertools.chain(*self.order(repeat, steps)))
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=BATCH,
                max_steps=steps,
                max_grad_norm=OPTIM.clip or 0.0,
                train_sampling_strategy="sequential",
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                remove_unused_columns=False,
                seed=SEED + repeat,
                use_cpu=not torch.cuda.is_available(),
            )
            constant = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0)
            trainer = Trainer(
                self.model,
                arguments,
                data_collator=self.collate,
                train_dataset=_RowList([self.rows[row] for row in order]),
                optimizers=(self.optimizer, constant),
                callbacks=[clock],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        self.counts.seconds = clock.seconds
        self.counts.losses = torch.stack(self.model.losses).tolist()
        self.model.losses.clear()
        return self.counts

    def order(self, repeat: int, steps: int) -> Iterable[Sequence[int]]:
        """The rows of each step.

        Args:
            repeat: number of the turn.
            steps: of this turn.
        """
        if self.padding != "grouped":
            plan = StepPlan(SEED, len(self.rows), BATCH)
            return [[row for row, _ in plan.batch(step)] for step in range(repeat * steps, (repeat + 1) * steps)]
        lengths = [len(row["ids"]) for row in self.rows]
        generator = torch.Generator().manual_seed(SEED + repeat)
        sampled = list(LengthGroupedSampler(BATCH, lengths=lengths, generator=generator))
        stretch = min(MEGABATCH, len(sampled) // BATCH)
        spaced = [(2 * step + 1) * stretch // (2 * steps) for step in range(steps)]  # at equal distances
        return [sampled[batch * BATCH : (batch + 1) * BATCH] for batch in spaced]

    def collate(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """A padded batch; counts its tokens."""
        lengths = torch.tensor([len(row["ids"]) for row in rows])
        width = LONGEST if self.padding == "padded" else int(lengths.max())
        self.counts.lengths += lengths.tolist()
        self.counts.computed += len(rows) * width
        ids = torch.tensor([row["ids"] + [self.pad] * (width - len(row["ids"])) for row in rows])
        mask = (torch.arange(width) < lengths[:, None]).long()
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.stack([row["target"] for row in rows])}


class MeanRegressor(nn.Module):
    """The stock model with mmbert's head of a regression: mean of the tokens, dropout, linear."""

    def __init__(self, encoder: Any):
        super().__init__()
        self.encoder = encoder
        self.head = build_head(encoder.config.hidden_size, torch.zeros(1), hidden=0, dropout=0.1)
        self.losses: list[Tensor] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        values = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        output = self.head(masked_mean(values, attention_mask.bool())).squeeze(-1)
        loss = nn.functional.mse_loss(output, labels)
        self.losses.append(loss.detach())
        return {"loss": loss}


class Clock(TrainerCallback):
    """Measures the seconds from the start of the first step to the end of the last."""

    seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self.start


class _RowList(torch.utils.data.Dataset):
    def __init__(self, rows: list[Any]):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


def _is_of_head(name: str, parameter: Tensor) -> bool:
    return name.startswith("head.")


def _is_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.ndim > 1 and not _is_of_head(name, parameter)


def _is_vector(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 1 and not _is_of_head(name, parameter)


ARMS = {
    "padded": lambda rows: TrainerArm(rows, "padded"),
    "dynamic": lambda rows: TrainerArm(rows, "dynamic"),
    "grouped": lambda rows: TrainerArm(rows, "grouped"),
    "mmbert": lambda rows: MMBertArm(rows),
    "grouped, no dropout": lambda rows: TrainerArm(rows, "grouped", 0.0),
    "mmbert, no dropout": lambda rows: MMBertArm(rows, 0.0),
}
