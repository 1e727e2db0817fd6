"""The recipe sections of training: balance, optimizer, training loop, evaluation."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from mmbert.recipe.section import Conflicts, RecipeSection

T = TypeVar("T")


LONGEST_NAME = 100  # letters: it is a part of names of folders and files


def _name(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise ValueError(f"expected a name of at most {LONGEST_NAME} letters, found {len(name)}: {name[:20]}...")
    if name.replace("-", "_").isidentifier():
        return name
    raise ValueError(f"expected a name of letters, digits, _ and -, that begins with a letter, found {name!r}")


Name = Annotated[str, AfterValidator(_name)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Alpha = Annotated[float, Field(ge=0)]
Pair = Annotated[tuple[T, T], Field(strict=False)]  # written as a list, which a strict tuple would refuse


class OgmGe(RecipeSection):
    """OGM-GE: slows the encoder of an input whose head is ahead of the heads of the others (Peng et al. 2022)."""

    alpha: Rate = 0.5
    """strength: the factor is 1 - tanh(alpha * ratio) where the ratio of scores, its own to the others', is above 1"""
    mode: Literal["learning_rate", "gradient"] = "learning_rate"
    """what is scaled; gradient: as published, with noise, but AdamW undoes a constant factor"""


class Balance(RecipeSection):
    """Auxiliary heads on each input alone, and what they are used for. All off by default."""

    unimodal_aux: Annotated[float, Field(ge=0)] = 0.0
    """the weight of their losses; the losses of the tasks have weight 1"""
    ogm_ge: OgmGe | None = None
    """slows the encoder of an input that is ahead of the others; null: off"""


class LearningRates(RecipeSection):
    """Peak learning rates."""

    trunk: Rate = 2e-5
    """the trunk"""
    pretrained: Rate = 1e-4
    """encoders that start from trained weights"""
    new: Rate = 5e-4
    """everything that starts from random weights"""


class Optim(RecipeSection):
    """The optimizer, AdamW, and its schedule."""

    lr: LearningRates = LearningRates()
    """peak learning rates"""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """decoupled weight decay, of matrices only"""
    betas: Pair[Fraction] = (0.9, 0.999)
    """decay rates of the two moments"""
    warmup: Fraction = 0.1
    """the fraction of all steps over which the rate rises"""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """the learning rate after the warmup"""
    clip: Rate | None = 1.0
    """the largest norm of the gradient; null: no limit"""


class Mixing(RecipeSection):
    """The proportions in which groups of samples are drawn. Exactly one of weights and alpha is given."""

    by: str = "source"
    """what groups the samples: source, task (the set of a row's labels), or an attribute that a source keeps"""
    weights: Annotated[dict[str, Rate], Field(min_length=1)] | None = None
    """the proportion of each group; all groups are named"""
    alpha: Alpha | Pair[Alpha] | None = None
    """proportions of size ** alpha: 1 as the sizes, 0 all equal; [start, end]: linear over the epochs"""

    @classmethod
    def conflicts(cls, values: Mapping[str, Any]) -> Conflicts:
        """Exactly one of ``weights`` and ``alpha``."""
        keys = [key for key in ("weights", "alpha") if values.get(key) is not None]
        if not keys:
            yield ("weights",), "missing: give train.mixing.weights or train.mixing.alpha"
        elif len(keys) == 2:
            yield ("alpha",), "train.mixing.weights is given too: remove one"


class Train(RecipeSection):
    """The training loop. Exactly one of epochs and steps is given."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """the key of every random choice"""
    epochs: Rate | None = None
    """passes over the data; fractions are fine"""
    steps: Count | None = None
    """optimiser steps, instead of epochs"""
    batch_size: Count = 32
    """rows a step, over all processes"""
    mixing: Mixing | None = None
    """groups of samples with proportions of their own; null: one pass over all samples an epoch"""
    accumulate: Count = 1
    """micro-batches a step; changes memory, and results only through the masks of dropout"""
    workers: Annotated[int, Field(ge=0)] = 0
    """data worker processes; changes speed, not results"""
    precision: Literal["auto", "fp32", "bf16", "fp64"] = "auto"
    """number format; auto: the launcher's setting"""
    dropout: Fraction | None = None
    """the rate of all dropout layers; null: the rate of each part"""
    input_dropout: Fraction | dict[Name, Fraction] = 0.0
    """the probability to hide an input of a row in training; one for all, or one for each by name"""
    ema: Fraction = 0.0
    """decay of the moving average of the weights, which is evaluated and saved instead of the raw weights; 0: off"""
    save_every: Count | None = None
    """steps between checkpoints; null: one at each evaluation. The best checkpoint is always kept"""
    max_bad_steps: Annotated[int, Field(ge=0)] = 0
    """steps with a loss or gradient that is not finite that are skipped before training stops"""
    max_bad_fraction: Fraction = 0.0
    """the fraction of all rows that may be bad, which are left out and listed; 0: the first bad value stops"""
    patience: Count | None = None
    """evaluations without a better score before training stops; null: train to the end"""
    select: str = "skill"
    """the score by which the best checkpoint is chosen: skill (the mean over tasks), or task/metric"""
    trackers: list[Literal["mlflow", "tensorboard", "trackio", "wandb"]] | None = None
    """trackers that also get the metrics; null: TensorBoard where it is installed; changes no result"""

    @classmethod
    def conflicts(cls, values: Mapping[str, Any]) -> Conflicts:
        """Exactly one of ``epochs`` and ``steps``, and micro-batches of equal size."""
        keys = [key for key in ("epochs", "steps") if values.get(key) is not None]
        if not keys:
            yield ("epochs",), "missing: give train.epochs or train.steps"
        elif len(keys) == 2:
            yield ("steps",), "train.epochs is given too: remove one"
        chosen = cls.with_defaults(values)
        size, parts = chosen["batch_size"], chosen["accumulate"]
        if isinstance(size, int) and isinstance(parts, int) and parts > 0 and size % parts:
            yield ("accumulate",), f"expected a divisor of train.batch_size ({size}), found {parts}"


class Evaluate(RecipeSection):
    """Evaluation on the validation split during training."""

    every: Rate = 1.0
    """epochs between evaluations; fractions are fine"""
    batch_size: Count = 64
    """rows of a batch; changes speed, and results only by rounding"""
    baselines: bool = True
    """whether the result table has cheap baselines on the same split"""
    on_leak: Literal["warn", "fail"] = "warn"
    """what happens where two splits have rows with the same inputs"""
