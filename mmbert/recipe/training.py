"""The recipe's sections about training, whose keys are all fixed: balance, optimiser, training loop, evaluation."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from mmbert.recipe.section import Conflicts, RecipeSection

T = TypeVar("T")


def _name(name: str) -> str:
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
    """Slows the encoder of an input whose own head is ahead of the others' (Peng et al. 2022)."""

    alpha: Rate = 0.5
    """how much: the factor is 1 - tanh(alpha * ratio) where the ratio of its score to the others' is above 1"""
    mode: Literal["learning_rate", "gradient"] = "learning_rate"
    """what is scaled; gradient: as published, with noise, though AdamW undoes a factor that stays the same"""


class Balance(RecipeSection):
    """Heads that read one input alone, and what is done with them. All off by default."""

    unimodal_aux: Annotated[float, Field(ge=0)] = 0.0
    """the weight of their losses beside that of the tasks"""
    ogm_ge: OgmGe | None = None
    """modulation of the encoders by their scores; null: none"""


class LearningRates(RecipeSection):
    """Peak learning rates."""

    trunk: Rate = 2e-5
    """the trunk"""
    pretrained: Rate = 1e-4
    """encoders that start from trained weights"""
    new: Rate = 5e-4
    """everything that starts from random weights"""


class Optim(RecipeSection):
    """The optimiser, AdamW, and its schedule."""

    lr: LearningRates = LearningRates()
    """peak learning rates"""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """decay of matrices, decoupled from the gradient"""
    betas: Pair[Fraction] = (0.9, 0.999)
    """decay rates of the two moments"""
    warmup: Fraction = 0.1
    """the fraction of all steps over which the rate rises"""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """how the rate goes on after the warmup"""
    clip: Rate | None = 1.0
    """the largest norm of the gradient; null: no limit"""


class Mixing(RecipeSection):
    """In which shares groups of samples are drawn. Exactly one of weights and alpha is given."""

    by: str = "source"
    """what groups the samples: source, task (the set of a row's labels), or an attribute that a source keeps"""
    weights: Annotated[dict[str, Rate], Field(min_length=1)] | None = None
    """the share of each group; all are named"""
    alpha: Alpha | Pair[Alpha] | None = None
    """shares proportional to size ** alpha: 1 proportional, 0 all equal; [start, end]: linear over the epochs"""

    @classmethod
    def conflicts(cls, values: Mapping[str, Any]) -> Conflicts:
        """Exactly one of ``weights`` and ``alpha``."""
        given = [key for key in ("weights", "alpha") if values.get(key) is not None]
        if not given:
            yield ("weights",), "missing: give train.mixing.weights or train.mixing.alpha"
        elif len(given) == 2:
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
    """groups of samples drawn in shares of their own; null: every sample once an epoch"""
    accumulate: Count = 1
    """micro-batches a step; changes memory, and no result but by the masks of dropout"""
    workers: Annotated[int, Field(ge=0)] = 0
    """processes that load data, besides the main one; changes speed, not results"""
    precision: Literal["auto", "fp32", "bf16", "fp64"] = "auto"
    """number format; auto: as the launcher says"""
    dropout: Fraction | None = None
    """the rate of every dropout; null: each part's own"""
    input_dropout: Fraction | dict[Name, Fraction] = 0.0
    """the rate at which an input of a row is hidden in training; one for all, or for each by its name"""
    ema: Fraction = 0.0
    """the decay of the moving average of the weights, which is then what is evaluated and kept; 0: the weights"""
    save_every: Count | None = None
    """steps between checkpoints; null: one at each evaluation. The best is kept in any case"""
    max_bad_steps: Annotated[int, Field(ge=0)] = 0
    """steps with a loss or gradient that is not finite to pass over before training stops"""
    max_bad_fraction: Fraction = 0.0
    """the fraction of all rows that may be bad, which are left out and listed; 0: the first bad value stops"""
    patience: Count | None = None
    """evaluations without a better score before training stops; null: train to the end"""
    select: str = "skill"
    """the score by which the best checkpoint is chosen: skill (the mean over tasks), or task/metric"""
    trackers: list[Literal["mlflow", "tensorboard", "trackio", "wandb"]] | None = None
    """where the metrics are shown besides; null: TensorBoard where it is installed; changes no result"""

    @classmethod
    def conflicts(cls, values: Mapping[str, Any]) -> Conflicts:
        """Exactly one of ``epochs`` and ``steps``, and micro-batches of equal size."""
        given = [key for key in ("epochs", "steps") if values.get(key) is not None]
        if not given:
            yield ("epochs",), "missing: give train.epochs or train.steps"
        elif len(given) == 2:
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
    """rows of a batch; changes speed, and results by rounding alone"""
    baselines: bool = True
    """whether the cheap baselines of the same split stand in the result table"""
    on_leak: Literal["warn", "fail"] = "warn"
    """what is done where two splits have rows with the same inputs"""
