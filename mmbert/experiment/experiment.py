"""A recipe's live objects, and what they offer together: items, the step plan, samples for the baselines."""

import math
from dataclasses import dataclass, field
from typing import Any

from mmbert.contracts import Processor
from mmbert.data.collate import check_tag_counts, encode_sample
from mmbert.data.sample_dataset import SampleDataset
from mmbert.data.sampler import Mixture, StepPlan
from mmbert.errors import SampleError
from mmbert.experiment.data_report import Survey
from mmbert.experiment.processors import tagged_texts
from mmbert.experiment.splits import Splits, chained
from mmbert.model import MMBert
from mmbert.recipe.schema import Recipe
from mmbert.tracking.bad_samples import BadSamples
from mmbert.types import Sample


@dataclass(frozen=True)
class Built:
    """A recipe's live objects."""

    recipe: Recipe
    model: MMBert
    processors: dict[str, Processor]  # by input
    labels: dict[str, Processor]  # by task
    splits: Splits  # empty where a trained model was loaded without data
    bad: BadSamples  # found up to now
    survey: Survey = field(default_factory=Survey)  # of the rows; empty where a trained model was loaded

    def items(self, split: str) -> SampleDataset:
        """The samples of a split as tensors."""
        train = self.recipe.train
        options = {"seed": train.seed, "input_dropout": train.input_dropout, "tagged": tagged_texts(self.recipe)}
        return SampleDataset(self.splits[split], self.processors, self.labels, **options)

    def plan(self, steps: int) -> StepPlan:
        """Which samples the steps of a run of so many read."""
        train, size = self.recipe.train, self.survey.rows["train"]["rows"]
        mixture = None
        if train.mixing is not None and self.survey.groups is not None:
            shares = {
                "weights": train.mixing.weights,
                "alpha": 1.0 if train.mixing.alpha is None else train.mixing.alpha,
            }
            epochs = math.ceil(steps * train.batch_size / size)
            mixture = Mixture(train.seed, self.survey.groups, self.survey.names, **shares, epochs=epochs)
        return StepPlan(train.seed, size, train.batch_size, mixture)

    def good_samples(self, split: str) -> list[Sample]:
        """The samples of a split but for bad ones, all at once: for the baselines."""
        samples = []
        for found in (one for sources in self.splits[split] for one in sources.read()):
            try:
                if isinstance(found, SampleError):
                    raise found
                if self.bad.fraction:  # whether it is good shows when it is encoded
                    check_tag_counts(found, tagged_texts(self.recipe))
                    encode_sample(found, self.processors, self.labels)
                samples.append(found)
            except SampleError as error:
                self.bad.add(error)
        return samples

    def groups(self, split: str) -> dict[int, Any]:
        """Sample id -> the group of each sample of a split that has one."""
        samples = chained(self.splits, split, ())
        return {sample.id: sample.attributes["group"] for sample in samples if "group" in sample.attributes}

    @property
    def texts(self) -> list[str]:
        """The names of the text inputs."""
        return text_names(self.recipe)


def text_names(recipe: Recipe) -> list[str]:
    return [name for name, part in recipe.inputs.items() if part.type == "text"]
