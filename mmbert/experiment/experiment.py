"""Experiment: a recipe's live objects, and the datasets, plan and samples that they give together."""

import math
from dataclasses import dataclass, field
from typing import Any

from mmbert.contracts import Processors
from mmbert.data.collate import check_tag_counts, encode_sample
from mmbert.data.sample_dataset import SampleDataset
from mmbert.data.sampler import Mixture, StepPlan
from mmbert.errors import SampleError
from mmbert.experiment.data_report import DataReport
from mmbert.experiment.processors import tagged_texts
from mmbert.experiment.splits import Splits, chained
from mmbert.model import MMBert
from mmbert.recipe.schema import Recipe, evaluation_interval
from mmbert.tracking.bad_samples import BadSamples
from mmbert.types import Sample


@dataclass(frozen=True)
class Experiment:
    """A recipe's live objects.

    Attributes:
        recipe: the resolved one, see ``prepare_data``; everything reads this.
        model: ready to train, or as it was loaded.
        processors: fitted on the training split.
        splits: the samples of each split by source; empty where a trained model was loaded without data.
        bad_samples: the bad rows found so far.
        data_report: what the rows are; where a trained model was loaded, only how its files were read.
    """

    recipe: Recipe
    model: MMBert
    processors: Processors
    splits: Splits
    bad_samples: BadSamples
    data_report: DataReport = field(default_factory=DataReport)

    @property
    def text_inputs(self) -> list[str]:
        """The names of the inputs that the trunk reads."""
        return text_names(self.recipe)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of a whole run."""
        return self.recipe.train.steps or 0

    @property
    def evaluation_interval(self) -> int:
        """Optimiser steps between two evaluations."""
        return evaluation_interval(self.recipe, self.data_report.rows["train"]["rows"])

    @property
    def scored_split(self) -> str:
        """The split whose scores are the result: test, or validation where no test row has a label."""
        return "test" if any(self.data_report.labelled.get("test", {}).values()) else "validation"

    def dataset(self, split: str) -> SampleDataset:
        """The samples of a split as tensors.

        Args:
            split: ``train``, ``validation`` or ``test``.
        """
        train = self.recipe.train
        options = {"seed": train.seed, "input_dropout": train.input_dropout, "tagged": tagged_texts(self.recipe)}
        return SampleDataset(self.splits[split], self.processors, **options)

    def plan(self) -> StepPlan:
        """Which samples each step of a run reads."""
        train, report = self.recipe.train, self.data_report
        rows = report.rows["train"]["rows"]
        mixture = None
        if train.mixing is not None and report.groups is not None:
            alpha = 1.0 if train.mixing.alpha is None else train.mixing.alpha
            epochs = math.ceil(self.total_steps * train.batch_size / rows)
            shares = {"weights": train.mixing.weights, "alpha": alpha}
            mixture = Mixture(train.seed, report.groups, report.group_names, **shares, epochs=epochs)
        return StepPlan(train.seed, rows, train.batch_size, mixture)

    def good_samples(self, split: str) -> list[Sample]:
        """All samples of a split but the bad ones, in memory: for the baselines.

        Args:
            split: ``train``, ``validation`` or ``test``.
        """
        samples = []
        for source in self.splits[split]:
            for sample in source.read():
                try:
                    if isinstance(sample, SampleError):
                        raise sample
                    if self.bad_samples.fraction:  # whether it is good shows when it is encoded
                        check_tag_counts(sample, tagged_texts(self.recipe))
                        encode_sample(sample, self.processors)
                    samples.append(sample)
                except SampleError as error:
                    self.bad_samples.add(error)
        return samples

    def groups(self, split: str) -> dict[int, Any]:
        """Sample id -> the group of each sample of a split that has one.

        Args:
            split: ``train``, ``validation`` or ``test``.
        """
        samples = chained(self.splits, split, ())
        return {sample.id: sample.attributes["group"] for sample in samples if "group" in sample.attributes}


def text_names(recipe: Recipe) -> list[str]:
    """The names of the inputs that the trunk reads, in the order of the recipe.

    Args:
        recipe: any.
    """
    return [name for name, part in recipe.inputs.items() if part.type == "text"]
