"""A training run of four small tensors, which saves checkpoints in milliseconds."""

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from mmbert.checkpoint.checkpoint import Content, save
from mmbert.contracts import Processor
from mmbert.layers.ema import WeightAverage
from mmbert.version import CODE_EPOCH

IDENTITY = {"recipe": "0123", "data": "4567", "epoch": str(CODE_EPOCH)}


class Net(nn.Module):
    """A model with a weight, one without a gradient, a frozen one, a buffer and dropout."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3))
        self.idle = nn.Parameter(torch.zeros(2))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, values):
        self.seen += len(values)
        return nn.functional.dropout(values @ self.weight, 0.3) * self.frozen


class Learned(Processor):
    """A processor whose state a test sets."""

    def __call__(self, value, rng=None):
        return {}

    @classmethod
    def example(cls, rng):
        return None


class Run:
    """Model, optimizer, average and step number: all that a checkpoint must restore."""

    def __init__(self, ema: float = 0.5, seed: int = 0, dtype: torch.dtype = torch.float32):
        torch.manual_seed(seed)
        self.model, self.step = Net().to(dtype), 0
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups = [{"params": [parameter], "base_lr": 0.1, "weight_decay": 0.01} for parameter in learning]
        self.optimizer = torch.optim.AdamW(groups, lr=0.1, fused=True)
        self.average = WeightAverage(self.model, ema)

    def train(self, steps: int) -> "Run":
        for _ in range(steps):
            self.step += 1
            torch.manual_seed(self.step)  # the only source of randomness
            for group in self.optimizer.param_groups:
                group["lr"] = group["base_lr"] / self.step
            self.model(torch.randn(4, 5, dtype=self.model.weight.dtype)).square().sum().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.average.update()
        return self

    def mark(self, step: int) -> "Run":
        """Fill every tensor with the step number, so that a mix of two checkpoints is detected."""
        self.step = step
        moments = [tensor for state in self.optimizer.state.values() for tensor in state.values()]
        with torch.no_grad():
            for tensor in (*self.model.state_dict().values(), *self.average.state().values(), *moments):
                tensor.fill_(step)
        return self

    def content(self, best: int = 0) -> Content:
        processor = Learned()
        processor.mark = torch.tensor(float(self.step))
        trainer = {"best_step": best, "mark": self.step}
        return Content(
            self.model,
            self.optimizer,
            self.average,
            {"inputs.x": processor},
            {"mark": self.step},
            trainer,
            f"mark: {self.step}\n",
            IDENTITY,
        )

    def save(self, folder: Path, *, best: int = 0, keep: Collection[int] = ()) -> Path:
        return save(folder, self.step, self.content(best), keep=keep)

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of every tensor of the run."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        moments = {
            f"{names[parameter]}.{key}": tensor
            for parameter, state in self.optimizer.state.items()
            for key, tensor in state.items()
        }
        average = {f"average.{name}": tensor for name, tensor in self.average.state().items()}
        steps = torch.tensor(self.average.steps)
        whole = {**self.model.state_dict(), **moments, **average, "average.steps": steps}
        return {name: tensor.detach().clone() for name, tensor in whole.items()}


def same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    """Whether two states are equal bit for bit."""
    return actual.keys() == expected.keys() and all(torch.equal(actual[name], expected[name]) for name in actual)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
